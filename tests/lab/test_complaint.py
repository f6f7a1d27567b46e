"""`sallyport complaint < mail': whose it is, what is known, what to answer."""

import base64
import email
import email.policy
import email.utils
import hashlib
import json
import re
import time
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.utils import formatdate

import pytest

import daemon
import net
import proc
from peer import Peer
from test_why import CGN, bot, cgn_config, cli, show, wait_level

FROM = "Abuse reports <fbl@mx.example>"
DRAFT = "\n---- draft of the reply, for the complainant ----\n"


@pytest.fixture(scope="module", name="desk")
def fixture_desk(world, running):
    del world
    running.restart(cgn_config())
    yield running
    running.restart(daemon.quick())


def complain(gate, mail, *options, code=0):
    result = gate.cli(*options, "complaint", text=mail)
    assert result.code == code, (result.code, result.out)
    return result.out


def fixed(text):
    """Without what the moment decides."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "[time]", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[instant]", text)


def arf(address, port, at):
    """RFC 5965, as a mail provider's feedback loop sends it."""
    mail = MIMEMultipart("report", report_type="feedback-report")
    mail["From"], mail["Subject"] = FROM, "Email Feedback Report"
    mail.attach(MIMEText("This is an email abuse report.\n"))
    report = MIMENonMultipart("message", "feedback-report")
    report.set_payload(
        "Feedback-Type: abuse\nUser-Agent: SomeGenerator/1.0\nVersion: 1\n"
        f"Source-IP: {address}\nSource-Port: {port}\n"
        f"Arrival-Date: {formatdate(at)}\n"
        "Original-Mail-From: <victim@alpha.example>\n")
    mail.attach(report)
    mail.attach(MIMEText("Received: from pc\n", "rfc822-headers"))
    return mail.as_string()


def prose(text, subject="spam from your network"):
    mail = EmailMessage()
    mail["From"], mail["Subject"] = FROM, subject
    mail.set_content(text)
    return mail.as_string()


def xarf(**fields):
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["X-XARF"] = FROM, "report", "PLAIN"
    mail.set_content("A report, see the attachment.\n")
    mail.add_attachment(json.dumps({
        "xarf_version": "4.2.0", "category": "messaging", "type": "spam",
        **fields}).encode(), maintype="application", subtype="json",
        filename="xarf.json")
    return mail.as_string()


def test_arf_word_for_word(desk):
    line = "198.18.42.1"
    cli(desk, "lease", "bind", line, "customer-4711")
    at = int(time.time())
    cli(desk, "zombie", "add", line, "--why", "secret reason")
    # the level is in the ledger, and a second old
    proc.wait_until(lambda: "secret" in cli(desk, "why", line).out
                    and time.time() > at + 2, "a row", 8)
    text = complain(desk, arf(line, 40112, at + 1.5))
    assert fixed(text) == f"""\
Complaint (ARF) from {FROM}: Email Feedback Report

{line}, port 40112, [instant]
At [time]: {line} is line {line} of class dynamic; customer customer-4711 has had it since [time]
Allowlist: what is written about it until then:
  nothing
Level then: zombie
  [time]: zombie, was clean, pinned, by root: secret reason (customer customer-4711)
Evidence at that change (thresholds of today):
  suspect from 6.9, probable from 9.2, zombie from 11.5 with a second voice
0 destinations in this hour, 0 attempts an hour; 0 attempts and 0 sessions in all
seen from [time] to [time]
Log: look for src={line}:40112 around [instant]
{DRAFT}
To: {FROM}
Subject: Re: Email Feedback Report

Thank you for your report. It is about our network:

  {line}, port 40112, [instant]
    We had noticed mail of the kind that infected computers send there ourselves.
    Its connections to port 25 are refused now.

[What was done about it.]
""", text
    cli(desk, "zombie", "clear", line)
    cli(desk, "lease", "release", line)


def test_the_draft_tells_no_secret(desk):
    """Whatever is known of the line: none of it is for the complainant."""
    line = "198.18.42.2"
    cli(desk, "lease", "bind", line, "customer-4712")
    cli(desk, "allow", "add", "line:customer-4712", "port25=relay", "--why",
        "has a contract")
    text = complain(desk, prose(f"{line}:40112 to victim@alpha.example\n"))
    words, draft = text.split(DRAFT)
    assert "customer-4712" in words
    for secret in ("customer-4712", "contract", "alpha.example", "dynamic",
                   "victim"):
        assert secret not in draft, draft
    cli(desk, "allow", "del", "line:customer-4712")
    cli(desk, "lease", "release", line)


def test_port_of_the_proxy_leads_to_its_line_of_the_log(desk):
    """A relayed session: what the server saw is the proxy's port."""
    line, since = net.address("fixed", 4), desk.here()
    desk.reconfigure(cgn_config().replace(
        'port25 = "relay"; }', 'port25 = "relay"; enforce = "all"; }'))
    with Peer("fixed", net.address("mxa", 4), 25) as peer:
        peer.reply()
        peer.ask("EHLO pc")
        peer.ask("QUIT")
    event = desk.wait_event(since, "relay")
    seen = event["out"]
    text = complain(desk, prose(
        f"spam from {seen} at {formatdate(time.time() - 1)}\n"))
    assert f"Log: look for out={seen} around " in text, text
    assert "The port is of those that the proxy uses" in text, text
    # and there is exactly one such line
    wanted = re.search(r"look for (\S+) around", text).group(1)
    found = [one for one in desk.lines(since) if f" {wanted} " in one]
    assert len(found) == 1 and f"line={line} " in found[0], found
    desk.reconfigure(cgn_config())


def test_behind_cgn_the_port_says_who(desk):
    cli(desk, "lease", "bind", f"{CGN}:40960-41983", "roam-1")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = complain(desk, xarf(source_identifier=CGN, source_port=41000,
                               timestamp=at))
    assert "Complaint (X-ARF)" in text
    assert f"{CGN} is line {CGN}:40960-41983 of class mobile" in text
    assert "customer roam-1" in text.split(DRAFT)[0]
    # without a port it is nobody, and said so
    text = complain(desk, xarf(source_identifier=CGN, timestamp=at))
    assert "an address with many lines behind it" in text
    assert "Many customers share this address" in text.split(DRAFT)[1]
    assert "the source port of each connection" in text.split(DRAFT)[1]
    # a port that may be the proxy's own names no block
    text = complain(desk, xarf(source_identifier=CGN, source_port=20000,
                               timestamp=at))
    assert "an address with many lines behind it" in text
    assert f"look for out={CGN}:20000" in text
    assert "Which of the lines behind the address it was, only that line" \
        in text
    cli(desk, "lease", "release", f"{CGN}:40960-41983")


def test_prose_without_certainty(desk):
    """Two ports, and a log without year and zone: each said, none guessed."""
    text = complain(desk, prose(
        "Nov  1 10:00:00 mx smtpd: connect from [198.18.42.4]\n"
        "It was port 41001 or port 41002.\n"))
    for port in (41001, 41002):
        assert f"198.18.42.4, port {port}, " in text, text
    assert text.count("names more than one port") == 2
    assert text.count("The time has no year") == 2
    assert text.count("The time has no zone") == 2
    draft = text.split(DRAFT)[1]
    assert "the source port of each" in draft
    assert "times with year and time zone" in draft
    told = json.loads(complain(desk, prose("198.18.42.4 did it\n"), "--json"))
    assert told["form"] == "prose" and told["from"] == FROM
    finding, = told["findings"]
    assert finding["port"] == 0 and finding["at"] == 0
    assert finding["why"]["class"] == "dynamic"
    assert "Re: spam from your network" in told["reply"]


def test_a_zombie_in_words(desk):
    infected = net.fresh_line(6)
    bot(infected, 30)
    wait_level(desk, infected, "zombie")
    text = complain(desk, prose(f"[{infected}]:40500 sends spam\n"))
    assert "Level: zombie since" in text and "second voice" in text, text
    assert "Without a time this is what holds now" in text
    assert "infected computers" in text.split(DRAFT)[1]
    assert show(desk, infected)["level"] == "zombie"
    cli(desk, "zombie", "clear", infected)


def test_time_to_come(desk):
    text = complain(desk, prose("198.18.42.5:41000 2099-01-01T00:00:00Z\n"))
    assert "The time is in the future; this is what holds now." in text
    assert "198.18.42.5 is line 198.18.42.5 of class dynamic" in text


def test_nothing_of_ours(desk):
    text = complain(desk, prose("203.0.113.9 is bad\n"), code=1)
    assert text == "Nothing of ours is in it; it names 203.0.113.9, for one.\n"
    assert complain(desk, prose("You are bad.\n"), code=1) == \
        "No address is in it.\n"
    told = json.loads(complain(desk, prose("203.0.113.9\n"), "--json", code=1))
    assert told["findings"] == [] and told["reply"] == ""


def test_what_is_no_mail(desk):
    assert "nothing on standard input" in complain(desk, "", code=2)
    assert "more than 1 MiB" in complain(desk, "a" * (1 << 20) + "b", code=2)
    result = desk.cli("complaint", "mail.txt")
    assert result.code == 2 and "standard input" in result.out
    result = desk.cli("complaint", "--help")
    assert result.ok and "sends nothing" in result.out


def test_hostile_mail(desk):
    """Nested, without end, binary; what is shown cannot steer a terminal."""
    deep = "Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 20
    text = complain(desk, deep + "198.18.42.6\n")
    assert "nested too deeply" in text and "198.18.42.6, no port" in text
    mail = ("From: \"\x1b[2J\x1b]0;x\x07\" <a@b.example>\n"
            "Subject: =?utf-8?q?=0D=0ABcc:_all=40isp.example?=\n\n"
            "198.18.42.6\n")
    text = complain(desk, mail)
    assert not re.search(r"[^\n -~]", text), text
    assert not re.search(r"^Bcc:", text, re.M), text


def test_gateway_address(desk, tmp_path):
    """Many lines share it: the log alone says whose the connection was."""
    pool = "198.51.100.7"
    path = tmp_path / "pool.conf"
    path.write_text(daemon.CONF.read_text().replace(
        'name = "gw1.isp.example";',
        f'name = "gw1.isp.example"; source = "gateway"; '
        f'addresses = ( "{pool}" );').replace(
            '"fixed.txt"', '"/etc/sallyport/fixed.txt"'))
    result = proc.run(desk.ns, [daemon.BUILD / "sallyport", "-c", path,
                                "complaint"],
                      text=prose(f"{pool}:51000 2026-11-01T10:00:00Z\n"))
    assert result.ok, result.out
    assert "an address of the gateway, which many lines use" in result.out
    assert f"look for out={pool}:51000 around" in result.out


def test_without_the_daemon(desk):
    """What was read is said all the same."""
    path = daemon.ETC / "nobody.conf"
    path.write_text(daemon.CONF.read_text() +
                    'control = { socket = "/run/nobody.socket"; };\n')
    result = proc.run(desk.ns, [daemon.BUILD / "sallyport", "-c", path,
                                "complaint"], text=prose("198.18.42.7\n"))
    asked = proc.run(desk.ns, [daemon.BUILD / "sallyport", "-c", path,
                               "--json", "complaint"],
                     text=prose("198.18.42.7\n"))
    path.unlink()
    assert asked.code == 3 and "{" not in asked.out, asked.out
    assert result.code == 3, result.out
    assert "Found: 198.18.42.7, no port, no time" in result.out


# `sallyport report --xarf': reports of our own ---------------------------------

# xarf-core.json and types/connection-infected-host.json of xarf/xarf-spec:
# required, then what else is in ours; anything else is a mistake.
REQUIRED = {"xarf_version", "report_id", "timestamp", "reporter", "sender",
            "source_identifier", "category", "type", "protocol", "bot_type",
            "first_seen"}
MORE = {"source_port", "evidence_source", "evidence", "description",
        "last_seen", "destination_ip", "destination_port", "total_requests"}
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def reporting_config():
    return cgn_config().replace(
        '{ class = "dynamic";',
        '{ class = "dynamic"; abuse_contact = "desk@branch.example";', 1) + \
        'report = { org = "ISP \\"Example\\""; contact = ' \
        '"abuse@isp.example"; };\n'


def check_xarf(report):
    """Against the published lists of fields."""
    names = set(report)
    assert REQUIRED <= names and names <= REQUIRED | MORE, names
    assert re.fullmatch(r"4\.\d+\.\d+", report["xarf_version"])
    assert re.fullmatch(UUID4, report["report_id"])
    for key in ("timestamp", "first_seen", "last_seen"):
        assert re.fullmatch(INSTANT, report[key]), report
    for key in ("reporter", "sender"):
        assert report[key] == {
            "org": 'ISP "Example"', "contact": "abuse@isp.example",
            "domain": "isp.example"}, report
    assert report["category"] == "connection"
    assert report["type"] == "infected_host"
    assert report["protocol"] == "tcp" and report["bot_type"] == "malicious"
    assert 1 <= report.get("source_port", 1) <= 65535
    assert len(report["description"]) <= 1000
    item, = report["evidence"]
    assert set(item) <= {"content_type", "description", "payload", "hash",
                         "size"}
    payload = base64.b64decode(item["payload"], validate=True)
    assert len(payload) == item["size"]
    assert item["hash"] == "sha256:" + hashlib.sha256(payload).hexdigest()
    return json.loads(payload)


@pytest.fixture(name="reporting")
def fixture_reporting(desk):
    desk.reconfigure(reporting_config())
    yield desk
    desk.reconfigure(cgn_config())


def listings(gate, began, *more):
    return [json.loads(line) for line in cli(
        gate, "report", "--since", began, "--xarf", *more).out.splitlines()]


def fresh_second(gate):
    """One in which no line became a zombie yet."""
    def now():
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return not listings(gate, text) and text
    return proc.wait_until(now, "a fresh second", 5)


def test_xarf_has_the_published_fields(reporting, tmp_path):
    began = fresh_second(reporting)
    infected, pinned = net.fresh_line(6), "198.18.42.20"
    cli(reporting, "lease", "bind", pinned, "customer-4720")
    since = reporting.here()
    bot(infected, 30)
    wait_level(reporting, infected, "zombie")
    cli(reporting, "zombie", "add", pinned, "--why", "secret ticket")
    cli(reporting, "zombie", "pin", infected)       # no second listing
    proc.wait_until(lambda: len(listings(reporting, began)) == 2, "two", 6)
    seen, said = listings(reporting, began)
    counted = check_xarf(seen)
    # address and port of a session that the log has too
    source = f"[{seen['source_identifier']}]:{seen['source_port']}"
    assert any(f" src={source} " in line for line in reporting.lines(since))
    assert seen["source_identifier"] == infected
    assert counted["example"]["src"] == source
    assert counted["evidence"]["helo"]["bad"] > 0
    assert seen["destination_port"] == 25 and "destination_ip" in seen
    assert seen["total_requests"] > 0
    # one that an operator named, of whom nothing was seen
    check_xarf(said)
    assert said["source_identifier"] == pinned and "source_port" not in said
    everything = json.dumps([seen, said]) + str(counted)
    for secret in ("4720", "secret", "cheap.example", "alpha.example"):
        assert secret not in everything
    # the same listing has the same name
    assert [one["report_id"] for one in listings(reporting, began)] == \
        [seen["report_id"], said["report_id"]]
    check_mails(reporting, began, tmp_path, (seen, said))
    for line in (infected, pinned):
        cli(reporting, "zombie", "clear", line)
    cli(reporting, "lease", "release", pinned)


def check_mails(gate, began, folder, reports):
    """Each mail, by Python's parser, is a report of RFC 5965 around the object;
    and our own reader of complaints understands it."""
    words = ("report", "--since", began, "--xarf", "--output", folder)
    assert cli(gate, *words).out == "2 reports written, 0 were there\n"
    assert cli(gate, *words).out == "0 reports written, 2 were there\n"
    assert {one.name for one in folder.iterdir()} == \
        {f"{one['report_id']}.eml" for one in reports}
    for report in reports:
        raw = (folder / f"{report['report_id']}.eml").read_bytes()
        assert b"\n" not in raw.replace(b"\r\n", b"") and max(
            map(len, raw.split(b"\r\n"))) <= 998
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        assert not mail.defects and mail["To"] == "desk@branch.example"
        assert mail["From"].addresses[0].display_name == 'ISP "Example"'
        assert mail.get_content_type() == "multipart/report"
        assert mail.get_param("report-type") == "feedback-report"
        human, fields, attached = mail.iter_parts()
        assert human.get_content_type() == "text/plain"
        assert report["source_identifier"] in human.get_content()
        assert fields.get_content_type() == "message/feedback-report"
        told = email.message_from_string(str(fields.get_payload(0)))
        assert told["Feedback-Type"] == "xarf" and told["Version"] == "1"
        assert told["User-Agent"].startswith("Sallyport/")
        assert told["Source-IP"] == report["source_identifier"]
        assert told["Source-Port"] == (str(report["source_port"]) if
                                       "source_port" in report else None)
        at = email.utils.parsedate_to_datetime(told["Arrival-Date"])
        assert at.strftime("%Y-%m-%dT%H:%M:%SZ") == report["timestamp"]
        assert json.loads(attached.get_payload(decode=True)) == report
        read = json.loads(complain(gate, raw.decode(), "--json"))
        finding, = read["findings"]
        assert finding["address"] == report["source_identifier"]
        assert finding["port"] == report.get("source_port", 0)
        assert finding["at"] == int(at.timestamp()) and not finding["doubts"]


def test_reports_that_cannot_be(desk, tmp_path):
    for words, why in (
            (("--xarf",), "report.org and report.contact are not set"),
            (("--arf",), "contains the message or its header"),
            (("--csv", "--xarf"), "not understood"),
            (("--output", tmp_path), "--output is for mails")):
        result = desk.cli("report", *words)
        assert result.code == 2 and why in result.out, result.out
    desk.reconfigure(reporting_config())
    result = desk.cli("report", "--xarf", "--output", tmp_path / "none")
    assert result.code == 1 and "No such file" in result.out
    assert not list(tmp_path.iterdir())
    desk.reconfigure(cgn_config())
