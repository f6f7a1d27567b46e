"""`sallyport why': what an abuse desk reads to the person on the phone.

Thirteen situations, each with the whole text: times, counts and scores that depend
on the moment are put in brackets first.
"""

import csv
import io
import ipaddress
import json
import re
import time
from xml.etree import ElementTree

import pytest

import daemon
import net
import proc
from test_zombies import (ANOTHER, bot, config, dialogue, hop, hop_config,
                          hop_once, show, wait_level)

CGN = "198.18.64.1"


def cgn_config():
    """With a class behind CGN, and lines that become suspect early."""
    return config("block").replace("subscribers = (", """subscribers = (
  { class = "mobile"; prefixes = ( "198.18.64.0/24" ); port_block = 1024;
    port25 = "block"; enforce = "all"; },""", 1)


@pytest.fixture(scope="module", name="desk")
def fixture_desk(world, running):
    del world
    running.restart(cgn_config())
    yield running
    running.restart(daemon.quick())


def why(gate, *args):
    """The answer, without what the moment decides."""
    result = gate.cli("why", *args)
    assert result.ok, result.out
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "[time]", result.out)
    text = re.sub(r"score +\d+\.\d", "score [n]", text)
    text = re.sub(r"  \d+ of \d+ ", "  [n] of [n] ", text)
    return re.sub(r"\d+ (destinations|attempts an hour|attempts|sessions)",
                  r"[n] \1", text)


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def cli(gate, *args):
    result = gate.cli(*args)
    assert result.ok, result.out
    return result


REFUSED = ("Its next connection to port 25 is refused with the operator's "
           "text\n")
NEW = "Level: clean; no connection of it has been seen\n"


def test_allowlisted(desk):
    line = "198.18.41.1"
    cli(desk, "allow", "add", line, "--pin", "--why", "ticket 4711")
    assert why(desk, line) == f"""\
{line} is line {line} of class dynamic; no lease says whose it is
Allowlist: {line}/32 says port25=pass, for ever (ledger)
  {line}/32 was added [time] by root: ticket 4711
{NEW}Its next connection to port 25 goes straight to the server; we do not see it
"""
    cli(desk, "allow", "del", line)
    assert "(line 1 of the allow file)" in why(desk, "198.18.3.99")


def test_blocked(desk):
    assert why(desk, "198.18.41.2") == f"""\
198.18.41.2 is line 198.18.41.2 of class dynamic; no lease says whose it is
Allowlist: no entry counts for it
{NEW}{REFUSED}"""
    # towards the provider's own host
    own = net.address("isp", 4)
    assert why(desk, "198.18.41.2", own).endswith(
        f"port 25 of {own} (mail.isp.example) reaches it: "
        "pass_destinations\n")


@pytest.fixture(name="lenient")
def fixture_lenient(desk):
    """Nobody becomes a zombie so soon."""
    desk.reconfigure(cgn_config().replace("zombie = {",
                                          "zombie = { zombie = 60.0;", 1))
    yield desk
    desk.reconfigure(cgn_config())


@pytest.mark.parametrize("level", ("suspect", "probable"))
def test_levels_below_zombie(lenient, level):
    """A wrong name at one server is one voice, at many there are two."""
    infected = net.fresh_line(6)
    for i in range(25):
        bot(infected, 1, i if level == "probable" else 0)
    wait_level(lenient, infected, level)
    proc.wait_until(lambda: f"]: {level}, was " in why(lenient, infected),
                    "the row", 5)
    text = why(lenient, infected)
    line = show(lenient, infected)["line"]
    assert f"is line {line} of class dynamic; no lease" in text, text
    assert f"Level: {level} since [time]\n" in text, text
    assert ", by evidence\n" in text
    assert "HELO names        score [n]  [n] of [n] names it introduced " \
        "itself with were wrong or new each time\n" in text, text
    assert text.endswith(REFUSED), text
    cli(lenient, "zombie", "clear", infected)


def test_zombie_and_what_was_at_a_past_time(desk):
    infected = net.fresh_line(6)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2))
    bot(infected, 30)
    wait_level(desk, infected, "zombie")
    text = why(desk, infected)
    assert "Level: zombie since [time]\n" in text, text
    assert "new destinations" in text and "second voice" in text, text
    assert text.endswith("Its next connection to port 25 is refused with the "
                         "text for zombies: zombie.action\n"), text
    # the ledger has it within two seconds, and then it is history
    line = show(desk, infected)["line"]
    proc.wait_until(lambda: "by evidence" in why(desk, infected), "a row", 5)
    cli(desk, "zombie", "clear", infected, "--why", "cleaned")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    proc.wait_until(lambda: ", by root: cleaned" in why(desk, infected),
                    "the clearing", 5)
    assert "Level: clean\n" in why(desk, infected)
    text = why(desk, infected, "--at", began)
    assert text == f"""\
At [time]: {infected} is line {line} of class dynamic; no lease says whose it was
Allowlist: what is written about it until then:
  nothing
Level then: clean, as far as is written
""", text
    del now


def test_pinned(desk):
    line = "198.18.41.5"
    cli(desk, "zombie", "add", line, "--why", "police report")
    proc.wait_until(lambda: "police" in why(desk, line), "a row", 5)
    assert why(desk, line) == f"""\
{line} is line {line} of class dynamic; no lease says whose it is
Allowlist: no entry counts for it
Level: zombie since [time], pinned by an operator
  [time]: zombie, was clean, pinned, by root: police report
Evidence:
  suspect from 6.9, probable from 9.2, zombie from 11.5 with a second voice
[n] destinations in this hour, [n] attempts an hour; [n] attempts and [n] sessions in all
seen from [time] to [time]
Its next connection to port 25 is refused with the text for zombies: zombie.action
"""
    cli(desk, "zombie", "clear", line)


def test_lease_changed_and_who_had_it(desk):
    line = "198.18.41.6"
    cli(desk, "lease", "bind", line, "anna")
    then = int(time.time()) + 1
    # time(2) may lag a tick behind
    proc.wait_until(lambda: time.time() > then + 1.1, "the second after", 5)
    cli(desk, "lease", "bind", line, "bert")
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
    assert f"; customer bert has had it since [time]\n" in why(desk, line)
    assert why(desk, line, "--at", then).startswith(
        f"At [time]: {line} is line {line} of class dynamic; customer anna has "
        "had it since [time] and until [time]\n")
    cli(desk, "lease", "release", line)
    assert "no lease says whose it is" in why(desk, line)
    assert "customer anna" in why(desk, line, "--at", then)


def test_an_entry_of_the_customer(desk):
    line = "198.18.41.7"
    cli(desk, "lease", "bind", line, "c-7")
    cli(desk, "allow", "add", "line:c-7", "port25=relay", "--why", "contract")
    text = why(desk, line)
    assert f"Allowlist: {line}/32 says port25=relay, for ever (ledger)\n" \
        "  line:c-7 was added [time] by root: contract\n" in text, text
    assert text.endswith("port 25 goes through us unchanged, from its own "
                         "address\n")
    cli(desk, "allow", "del", "line:c-7")
    cli(desk, "lease", "release", line)


def test_unknown_address(desk):
    assert why(desk, "203.0.113.9") == (
        "203.0.113.9 is in no class of subscribers: nothing of it is "
        "captured\n")


def test_ipv6_is_one_line(desk):
    """Any address of the prefix."""
    for host in ("2001:db8:1:7700::1", "2001:db8:1:77ff:a:b:c:d"):
        assert why(desk, host) == f"""\
{host} is line 2001:db8:1:7700::/56 of class dynamic; no lease says whose it is
Allowlist: no entry counts for it
{NEW}{REFUSED}"""


def test_three_suspect_lines_raise_their_56(desk):
    """Its lines are /64, and somebody hops among them."""
    home = ANOTHER
    desk.reconfigure(hop_config(cgn_config()))
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2))
    for number in (0x21, 0x22, 0x23):
        hop_once(desk, number, home)
    wait_level(desk, home, "zombie")
    quiet = hop(0x24, home)
    proc.wait_until(lambda: "its lines together" in why(desk, quiet), "a row",
                    5)
    assert why(desk, quiet) == f"""\
{quiet} is line 2001:db8:1:fd24::/64 of class hop; no lease says whose it is
Allowlist: no entry counts for it
{NEW}Its network {home}: zombie since [time]; 3 of its lines are suspect or more: \
2001:db8:1:fd21::/64, 2001:db8:1:fd22::/64, 2001:db8:1:fd23::/64
  so this line is treated as zombie
  [time]: {home} zombie, was clean, by evidence: its lines together
Its next connection to port 25 is refused with the text for zombies: zombie.action
"""
    # one of the three: its own level first
    text = why(desk, hop(0x21, home))
    assert "Level: suspect since [time]\n" in text, text
    assert "  so this line is treated as zombie\n" in text, text
    now = stamp()
    proc.wait_until(lambda: stamp() > now, "the next second", 3)
    cli(desk, "zombie", "clear", home, "--why", "all clean")
    proc.wait_until(lambda: f"{home} clean, was zombie, by root: all clean"
                    in why(desk, quiet), "the clearing", 5)
    assert why(desk, quiet).endswith(REFUSED)
    # what was then: the row of the ledger has the lines
    text = why(desk, quiet, "--at", now)
    assert f"Its network {home} then: zombie\n" in text, text
    assert "then: zombie" not in why(desk, quiet, "--at", began)
    told = json.loads(cli(desk, "--json", "report", "--since", began).out)
    mine = next(one for one in told["lines"] if one["line"] == home)
    assert mine["evidence"]["lines"] == 3, mine
    assert mine["evidence"]["suspects"][0] == "2001:db8:1:fd21::/64", mine
    assert "3 lines together: 2001:db8:1:fd21::/64" in cli(
        desk, "report", "--since", began).out
    desk.reconfigure(cgn_config())


def test_cgn_wants_a_port(desk):
    assert why(desk, CGN).startswith(
        f"{CGN} is an address with many lines behind it of class mobile; ask "
        "with a port, ADDRESS:PORT\n")
    cli(desk, "lease", "bind", f"{CGN}:2048-3071", "roam-1")
    assert why(desk, f"{CGN}:2100") == f"""\
{CGN} is line {CGN}:2048-3071 of class mobile; customer roam-1 has had it since [time]
Allowlist: no entry counts for it
{NEW}{REFUSED}"""
    assert "no lease says" in why(desk, f"{CGN}:4000")
    cli(desk, "lease", "release", f"{CGN}:2048-3071")


def test_expired_entry(desk):
    line = "198.18.41.8"
    cli(desk, "allow", "add", line, "--for", "1s", "--why", "for a test")
    proc.wait_until(lambda: "ended" in why(desk, line), "the end", 6)
    assert why(desk, line) == f"""\
{line} is line {line} of class dynamic; no lease says whose it is
Allowlist: no entry counts for it
  {line}/32 was ended [time] by sallyportd
{NEW}{REFUSED}"""


def test_submit_class_and_destinations(desk):
    line = net.address("legacy", 4)
    text = why(desk, line, net.address("mxa", 4))
    assert text.endswith("is refused with the operator's text: this server is "
                         "not listed\n"), text
    text = why(desk, line, net.address("isp", 4))
    assert text.endswith("is carried to that server's submission port, after "
                         "its own user name and password\n"), text


@pytest.mark.parametrize("args", (
    (), ("mail.isp.example",), ("198.18.41.1", "here"),
    ("198.18.41.1", "--at", "yesterday"),
    ("198.18.41.1", "--at", "2099-01-01T00:00:00Z"),
    ("198.18.41.1", "203.0.113.9", "203.0.113.8"), ("--why",)), ids=str)
def test_bad_words(desk, args):
    result = desk.cli("why", *args)
    assert result.code == 2 and "expected ADDRESS[:PORT]" in result.out


def show_line(address):
    """The line of an IPv6 address, as it is written."""
    return str(ipaddress.ip_network(f"{address}/56", strict=False))


def test_levels_outlive_a_restart(desk):
    pinned, seen = "198.18.41.9", net.fresh_line(6)
    cli(desk, "zombie", "add", pinned, "--why", "kept")
    bot(seen, 30)
    wait_level(desk, seen, "zombie")
    # at once: what the last second has set is written before the end
    desk.restart(cgn_config())
    for line, is_pinned in ((pinned, True), (seen, False)):
        wait_level(desk, line, "zombie")
        assert show(desk, line)["pinned"] is is_pinned
    # cleared is cleared: it does not come back with those that do
    cli(desk, "zombie", "clear", seen)
    desk.restart(cgn_config())
    wait_level(desk, pinned, "zombie")
    told = {one["line"] for one in
            json.loads(desk.cli("--json", "zombies").out)["lines"]}
    assert show_line(seen) not in told, told
    cli(desk, "zombie", "clear", pinned)


# `sallyport report': the same ledger, all lines -----------------------------

def test_report_in_each_form(desk):
    """A reason that would break out of each form, and none of it does."""
    line, nasty = "198.18.41.20", '=1+1 "x", <script>alert(1)</script> & more'
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    cli(desk, "lease", "bind", line, "<b>c-20</b>")
    cli(desk, "zombie", "add", line, "--why", nasty)
    infected = net.fresh_line(6)
    bot(infected, 30)
    wait_level(desk, infected, "zombie")
    cli(desk, "zombie", "clear", infected)
    cli(desk, "zombie", "clear", line)

    def rows(form):
        return cli(desk, *form, "report", "--since", began).out
    proc.wait_until(lambda: len(json.loads(rows(["--json"]))["lines"]) == 2
                    and "clean" in rows(["--json"]), "both lines", 6)
    told = {one["line"]: one for one in json.loads(rows(["--json"]))["lines"]}
    assert told[line]["why"] == nasty and told[line]["worst"] == "zombie"
    assert told[line]["customer"] == "<b>c-20</b>"
    assert told[show_line(infected)]["evidence"]["evidence"]["helo"]["bad"] > 0
    text = cli(desk, "report", "--since", began).out
    assert "2 zombies, 0 probable, 0 suspect" in text, text
    assert f"now clean, customer <b>c-20</b>; by root: {nasty}" in text, text
    table = list(csv.DictReader(io.StringIO(
        cli(desk, "report", "--since", began, "--csv").out)))
    mine = next(row for row in table if row["line"] == line)
    assert mine["why"] == "'" + nasty, mine     # no formula for a spreadsheet
    assert mine["now"] == "clean" and mine["changes"] == "2", mine
    seen = next(row for row in table if row["line"] == show_line(infected))
    assert "helo " in seen["evidence"] and int(seen["attempts"]) >= 30, seen
    html = cli(desk, "report", "--since", began, "--html").out
    assert "<script>" not in html and "<b>c-20" not in html
    assert "&lt;script&gt;" in html and "&quot;x&quot;" in html
    page = ElementTree.fromstring(html.replace('<!DOCTYPE html>', "").replace(
        '<meta charset="utf-8">', ""))
    assert len(page.findall(".//table/tr")) == 3
    assert len(page.findall(".//svg")) == 3 and page.findall(".//svg/rect")
    cli(desk, "lease", "release", line)


def test_hours_and_lines_that_speak_alike(desk):
    """What one table has counted, written by the control that a reload ends."""
    desk.restart(config("block"))
    began = stamp()
    people = [net.fresh_line(4) for _ in range(22)]
    bots = [net.fresh_line(4) for _ in range(3)]

    def told():
        return json.loads(cli(desk, "--json", "report", "--since", began).out)

    def sums():
        return [sum(one[key] for one in told()["hours"])
                for key in ("attempts", "blocked")]
    # of the daemon before this one, by now
    attempts, blocked = sums()

    def talk(line, *last):
        dialogue("second", net.address("mxa", 4), "EHLO pc",
                 "MAIL FROM:<kenji@isp.example>",
                 "RCPT TO:<info@alpha.example>", *last,
                 source_address=(line, 0))
    for line in people + people[:1]:
        talk(line, "QUIT")
    for line in bots:
        talk(line, "RSET")
    # a level tells the ledger how a line speaks; three like all people, too
    named = people[:3] + bots
    for line in named:
        cli(desk, "zombie", "add", line)
    # nobody has counted yet whose speech is rare
    proc.wait_until(lambda: told()["alike_unknown"] == 6, "the levels", 10)
    assert told()["alike"] == [] and "not known yet: dialects are counted " \
        "once an hour" in cli(desk, "report", "--since", began).out
    desk.reconfigure(config("block"))
    proc.wait_until(lambda: sums() == [attempts + 26, blocked + 26],
                    "the hour", 15)
    hours = [one for one in told()["hours"] if one["class"] == "dynamic"]
    assert sum(one["lines"] for one in hours) >= 25, hours
    assert sum(one["destinations"] for one in hours) >= 25, hours
    assert max(one["zombie"] for one in hours) == 6, hours
    assert told()["alike_unknown"] == 0
    group, = told()["alike"]
    assert sorted(group["lines"]) == sorted(bots), group
    text = cli(desk, "report", "--since", began).out
    assert f"dialect {group['dialect']}, 3 lines: " in text, text
    assert f"Port 25: {attempts + 26} attempts, {blocked + 26} sessions " \
        "blocked; at most " in text, text
    html = cli(desk, "report", "--since", began, "--html").out
    assert f"<li>dialect {group['dialect']}, 3 lines: " in html
    page = ElementTree.fromstring(html.replace("<!DOCTYPE html>", "").replace(
        '<meta charset="utf-8">', ""))
    bars = [re.search(r"(\d+) attempts, (\d+) sessions", title.text).groups()
            for title in page.findall(".//svg/g/title")]
    assert [sum(int(bar[i]) for bar in bars) for i in (0, 1)] == sums(), bars
    table = csv.DictReader(io.StringIO(
        cli(desk, "report", "--since", began, "--csv").out))
    alike = {row["line"]: row["alike"] for row in table}
    assert {alike[line] for line in bots} == {group["dialect"]}, alike
    assert {alike[line] for line in people[:3]} == {""}, alike
    # the next part of the hour is added, by the one that a stop ends
    talk(people[0], "QUIT")
    talk(people[1], "QUIT")
    desk.restart(config("block"))
    proc.wait_until(lambda: sums() == [attempts + 28, blocked + 28],
                    "the sum", 10)
    for line in named:
        cli(desk, "zombie", "clear", line)
    desk.restart(cgn_config())


def test_report_of_the_future_or_of_nothing(desk):
    for words in (("--since", "2099-01-01T00:00:00Z"), ("--xml",),
                  ("--csv", "--html")):
        assert desk.cli("report", *words).code == 2, words
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert "0 zombies" in cli(desk, "report", "--since", now).out
