"""Lines that become zombies: named with the evidence, acted upon, cleared."""

import contextlib
import json
import os
import signal
import time

import pytest

import daemon
import net
import proc
from peer import Peer

URL = "https://isp.example/clean"


def config(action):
    return daemon.quick() + f"""
zombie = {{ action = "{action}"; url = "{URL}"; }};
"""


@pytest.fixture
def acting(gate):
    """The shared daemon with another zombie.action; afterwards as it was."""
    before = daemon.CONF.read_text()

    def act(action):
        gate.reconfigure(config(action))
        return gate
    yield act
    gate.reconfigure(before)


def dialogue(line, host, *commands, **more):
    with Peer(line, host, 25, **more) as peer:
        said = [peer.reply()]
        for command in commands:
            said.append(peer.ask(command))
        return said


def foreign(i):
    """Hosts of many networks; block answers for them."""
    return f"2001:db8:{0xe000 + i:x}::25"


def bot(address, sessions, first=0):
    """Many servers, a name that is none, no mail for anybody who exists."""
    for i in range(first, first + sessions):
        dialogue("second", foreign(i), "EHLO localhost",
                 "MAIL FROM:<sales@cheap.example>",
                 "RCPT TO:<nobody@alpha.example>",
                 source_address=(address, 0))


def person(address, sessions):
    """One server, a name, again and again."""
    for _ in range(sessions):
        dialogue("second", net.address("mxa", 6), "EHLO kenjis-pc",
                 "MAIL FROM:<kenji@isp.example>",
                 "RCPT TO:<info@alpha.example>", "QUIT",
                 source_address=(address, 0))


def show(gate, line):
    result = gate.cli("--json", "zombie", "show", line)
    assert result.ok, result
    return json.loads(result.out)["line"]


def wait_level(gate, line, level):
    return proc.wait_until(
        lambda: (show(gate, line) or {}).get("level") == level
        and show(gate, line), f"{line} to be {level}", 10)


def said(gate, since, event, line):
    """The line of the log that tells of this level."""
    return gate.wait_text(since, rf"^(?:\S+ )?{event} line={line} ")


def test_a_bot_is_named_with_evidence_beside_a_person(gate):
    since = gate.here()
    infected, innocent = net.fresh_line(6), net.fresh_line(6)
    person(innocent, 12)
    bot(infected, 30)
    known = wait_level(gate, infected, "zombie")
    line = known["line"]
    told = said(gate, since, "zombie", line)
    assert "class=dynamic" in told and 'who="evidence"' in told, told
    assert "first_contact=" in told and "helo=" in told, told
    assert "destinations=" in told and "rate=" in told, told
    assert known["evidence"]["helo"]["bad"] == 30, known
    # the first three have no pattern to leave yet; of the others a few share
    # a bit of the line's map, which is keyed anew with each daemon
    assert known["evidence"]["first_contact"]["bad"] >= 15, known
    assert known["sessions"] == 30, known
    assert not known["pinned"], known
    # the person
    assert show(gate, innocent)["level"] == "clean"
    # in words, for the telephone
    words = gate.cli("zombie", "show", infected)
    assert words.ok, words
    for text in ("class dynamic: zombie since", "new destinations",
                 "30 of 30 names it introduced itself with were wrong",
                 "zombie.action = \"log\""):
        assert text in words.out, words.out
    everybody = gate.cli("zombies")
    assert everybody.ok and line in everybody.out, everybody
    listed = json.loads(gate.cli("--json", "zombies").out)
    assert line in [one["line"] for one in listed["lines"]]
    assert listed["zombie"] >= 1
    # and it goes on: the action is `log'
    assert dialogue("second", foreign(90), source_address=(infected, 0)) \
        [0][0].startswith("220 ")
    assert gate.cli("zombie", "clear", infected, "--why", "cleaned").ok
    assert 'why="cleaned"' in said(gate, since, "clear", line)
    assert show(gate, infected)["level"] == "clean"
    # clearing twice is no error, and it can be named again
    assert gate.cli("zombie", "clear", infected).ok
    bot(infected, 30, first=100)
    wait_level(gate, infected, "zombie")
    assert gate.cli("zombie", "clear", infected).ok


# Lines of /64 below a /56: one machine may hop among them --------------------

HOME, ANOTHER = "2001:db8:1:ff00::/56", "2001:db8:1:fd00::/56"


def hop_config(text):
    """With a class whose lines are /64."""
    return text.replace("subscribers = (", f"""subscribers = (
  {{ class = "hop"; prefixes = ( "{HOME}", "{ANOTHER}" );
    line_len6 = 64;
    port25 = "block"; enforce = "all"; }},""", 1)


def hop(number, home=HOME):
    """An address in one of the lines of a home."""
    return home.replace("00::/56", f"{number:02x}::1")


def line64(address):
    return address.replace("::1", "::/64")


def hop_once(gate, number, home=HOME):
    """Just enough to be suspect, by one voice, in this /64."""
    for destination in (0, 0, 0, 1, 2, 3, 4, 5):
        bot(hop(number, home), 1, destination)
    return wait_level(gate, hop(number, home), "suspect")


def test_a_bot_that_hops_raises_its_56(acting):
    gate = acting("block")
    gate.reconfigure(hop_config(config("block")))
    since = gate.here()
    for number in (1, 2):
        hop_once(gate, number)
    # two are none; nothing is known of the /56, and its lines are as they were
    assert show(gate, HOME) is None
    refused = ("EHLO pc", "MAIL FROM:<kenji@isp.example>",
               "RCPT TO:<info@alpha.example>", "QUIT")
    stranger = dialogue("second", net.address("mxa", 6), *refused,
                        source_address=(hop(0x77), 0))
    assert URL not in str(stranger), stranger
    hop_once(gate, 3)
    known = wait_level(gate, HOME, "zombie")
    assert known["rolled_up"] and known["lines"] == 3, known
    suspects = [line64(hop(n)) for n in (1, 2, 3)]
    assert known["suspects"] == suspects, known
    assert known["evidence"]["helo"]["bad"] == 24, known
    assert known["sessions"] == 24, known
    told = said(gate, since, "zombie", HOME)
    assert "class=hop was=clean" in told and "lines=3" in told, told
    assert f'suspects="{" ".join(suspects)}"' in told, told
    assert 'why="its lines together"' in told, told
    # each line is what it was, but for what is done about it
    assert show(gate, hop(1))["level"] == "suspect"
    for number in (1, 0x77, 0xf0):      # one of them; quiet; never seen
        since = gate.here()
        answers = dialogue("second", net.address("mxa", 6), *refused,
                           source_address=(hop(number), 0))
        assert URL in str(answers[3]), answers
        assert gate.wait_event(since, "block")["reason"] == "zombie"
    # the neighbour's /56 is another one
    assert URL not in str(dialogue(
        "second", net.address("mxa", 6), *refused,
        source_address=("2001:db8:1:fe01::1", 0)))
    listed = gate.cli("zombies").out
    assert f"{HOME}  " in listed and "its lines together" in listed, listed
    # one line cleared: two are left, and the /56 is clean with it
    assert gate.cli("zombie", "clear", hop(2), "--why", "reinstalled").ok
    told = said(gate, since, "clear", HOME)
    assert 'why="too few of its lines are suspect"' in told, told
    assert URL not in str(dialogue("second", net.address("mxa", 6), *refused,
                                   source_address=(hop(0x77), 0)))
    # raised again, and cleared as a whole: nothing comes back
    hop_once(gate, 4)
    wait_level(gate, HOME, "zombie")
    assert gate.cli("zombie", "clear", HOME, "--why", "all reinstalled").ok
    since = gate.here()
    for number in (1, 3, 4):
        assert show(gate, hop(number))["level"] == "clean"
    assert show(gate, HOME)["level"] == "clean"
    # by hand, for all of a home
    assert gate.cli("zombie", "add", HOME, "--why", "the police").ok
    assert URL in str(dialogue("second", net.address("mxa", 6), *refused,
                               source_address=(hop(0x55), 0)))
    # in a network where each /64 is somebody else, nobody is raised
    gate.reconfigure(hop_config(config("block")).replace(
        "line_len6 = 64;", "line_len6 = 64; roll_up = false;"))
    assert URL not in str(dialogue("second", net.address("mxa", 6), *refused,
                                   source_address=(hop(0x55), 0)))
    words = gate.cli("zombie", "show", HOME)
    assert words.code == 1 and "a line of this class is a /64" in words.out
    gate.reconfigure(hop_config(config("block")))
    assert gate.cli("zombie", "clear", HOME).ok


def test_a_raised_56_outlives_a_restart_and_follows_its_class(acting):
    gate = acting("log")
    gate.reconfigure(hop_config(config("log")))
    for number in (0x11, 0x12, 0x13):
        hop_once(gate, number)
    known = wait_level(gate, HOME, "zombie")
    gate.restart(hop_config(config("log")))
    back = wait_level(gate, HOME, "zombie")
    assert back["lines"] == 3 and back["suspects"] == known["suspects"], back
    # a lease that says two of them are somebody else's: no home any more
    for number, name in ((0x11, "anna"), (0x12, "bert")):
        assert gate.cli("lease", "bind", line64(hop(number)), name).ok
    wait_level(gate, HOME, "clean")
    assert gate.cli("zombie", "clear", hop(0x13)).ok
    for number in (0x11, 0x12):
        assert gate.cli("zombie", "clear", hop(number)).ok
        assert gate.cli("lease", "release", line64(hop(number))).ok


def test_levels_outlive_control_and_a_reload(gate):
    gate.expected += ["control"]
    infected = net.fresh_line(4)
    assert gate.cli("zombie", "add", infected).ok
    assert gate.cli("reload").ok
    known = proc.wait_until(lambda: show(gate, infected), "an answer", 10)
    assert known["level"] == "zombie" and known["pinned"], known
    victim = gate.only("sallyport:ctl")
    os.kill(victim, signal.SIGKILL)
    proc.wait_until(lambda: gate.named("sallyport:ctl") not in ([], [victim])
                    and gate.cli("zombie", "show", infected).ok, "control")
    assert show(gate, infected)["level"] == "zombie"
    assert gate.cli("zombie", "clear", infected).ok


def test_reset_begins_with_the_next_first_packet(acting):
    gate = acting("reset")
    infected = net.fresh_line(6)
    bot(infected, 30)
    wait_level(gate, infected, "zombie")
    with pytest.raises(ConnectionError):
        dialogue("second", foreign(200), "EHLO localhost",
                 source_address=(infected, 0))
    assert gate.cli("zombie", "clear", infected).ok
    assert dialogue("second", foreign(201), source_address=(infected, 0)) \
        [0][0].startswith("220 ")


def test_reset_spares_the_providers_own_hosts(acting):
    """Whether nfq resets (a class that blocks) or the relay (one that relays,
    where the kernel hands us own hosts too)."""
    gate = acting("reset")
    for line in ("dynamic", "fixed"):
        address = net.address(line, 4)
        assert gate.cli("zombie", "add", address).ok
        with pytest.raises(ConnectionError):
            dialogue(line, net.address("mxa", 4))
        own = dialogue(line, net.address("isp", 4))
        assert "mail.isp.example" in own[0][0], own
        assert gate.cli("zombie", "clear", address).ok


def test_who_pins_is_written_down(gate):
    since, infected = gate.here(), net.fresh_line(4)
    assert gate.cli("zombie", "add", infected, "--why", "seen by hand").ok
    assert 'why="seen by hand"' in said(gate, since, "zombie", infected)
    since = gate.here()
    assert gate.cli("zombie", "pin", infected, "--why", "until he calls").ok
    told = said(gate, since, "zombie", infected)
    assert "was=zombie pinned=1" in told, told
    assert 'why="until he calls"' in told, told
    assert gate.cli("zombie", "clear", infected).ok


def test_block_reaches_what_runs_and_what_comes(acting):
    """A line that relays is refused with the text for zombies, its running
    session ends; the provider's own hosts stay reachable; cleared, all is as
    before."""
    gate = acting("block")
    fixed = net.address("fixed", 4)
    since = gate.here()
    with Peer("fixed", net.address("mxa", 4), 25) as running:
        assert "mx.alpha" in running.line()
        assert gate.cli("zombie", "add", fixed, "--why", "a test").ok
        assert running.end()[0] in ("eof", "reset")
    assert gate.wait_event(since, "relay")["reason"] == "zombie"
    answers = dialogue("fixed", net.address("mxa", 4), "EHLO pc.example",
                       "MAIL FROM:<kenji@isp.example>",
                       "RCPT TO:<info@alpha.example>", "QUIT")
    assert answers[3][0].startswith("550"), answers
    assert "infected" in answers[3][0] and URL in "\n".join(answers[3]), answers
    assert gate.wait_event(since, "block")["reason"] == "zombie"
    own = dialogue("fixed", net.address("isp", 4))
    assert "mail.isp.example" in own[0][0], own
    assert gate.cli("zombie", "clear", fixed).ok
    assert "mx.alpha" in dialogue("fixed", net.address("mxa", 4))[0][0]


@pytest.mark.parametrize("words,status,says", (
    (("show", "203.0.113.1"), 1, "no class of subscribers"),
    (("show", "198.18.0.0/16"), 1, "a line of this class is a /32"),
    (("show",), 2, "too few or too many words"),
    (("clear", "198.18.3.7", "because"), 2, "too few or too many words"),
    (("pin", "198.18.77.1"), 1, "no level that could be pinned"),
    (("bless", "198.18.3.7"), 2, "bless"),
))
def test_mistakes_are_named(gate, words, status, says):
    result = gate.cli("zombie", *words)
    assert result.code == status, result
    assert says in result.out, result


def test_a_line_nobody_knows(gate):
    result = gate.cli("zombie", "show", "198.18.77.2")
    assert result.ok and "nothing is known" in result.out, result


def timed(*commands, source):
    """Seconds until the greeting and each answer, and what was said."""
    began, spans = time.monotonic(), []
    with Peer("second", net.address("mxa", 4), 25, timeout=30,
              source_address=(source, 0)) as peer:
        said = [peer.reply()]
        spans.append(time.monotonic() - began)
        for command in commands:
            began = time.monotonic()
            said.append(peer.ask(command))
            spans.append(time.monotonic() - began)
    return spans, said


SLOWLY = ("EHLO pc", "MAIL FROM:<kenji@isp.example>",
          "RCPT TO:<info@alpha.example>")


def test_tarpit_is_slow_and_has_room_for_so_many(acting):
    gate = acting("tarpit")
    gate.reconfigure(config("tarpit").replace(
        "zombie = {", "zombie = { tarpit_delay = 2; tarpit_max = 2;", 1))
    infected, honest = net.fresh_line(4), net.fresh_line(4)
    assert gate.cli("zombie", "add", infected).ok
    since = gate.here()
    spans, said = timed(*SLOWLY, source=infected)
    # the greeting waits; so does each answer behind one that was given
    assert spans[0] > 1.9 and all(1.5 < one < 4 for one in spans[2:]), spans
    assert URL in str(said[3]) and said[3][0].startswith("550"), said
    # its place is free when its last answer's time is over
    gate.wait_text(since, f"block id=.* line={infected} ")
    with contextlib.ExitStack() as held:
        both = [held.enter_context(Peer("second", net.address("mxa", 4), 25,
                                        source_address=(infected, 0)))
                for _ in range(2)]
        assert [peer.reply()[0][:3] for peer in both] == ["220", "220"]
        # it is full: at the usual speed, with the same text
        spans, said = timed(*SLOWLY, source=infected)
        assert max(spans) < 1.5 and URL in str(said[3]), (spans, said)
        # and nobody else has noticed anything
        spans, said = timed(*SLOWLY, source=honest)
        assert max(spans) < 1.5 and URL not in str(said[3]), (spans, said)
    assert gate.cli("zombie", "clear", infected).ok
    spans, said = timed(*SLOWLY, source=infected)
    assert max(spans) < 1.5 and URL not in str(said[3]), (spans, said)


def test_slow_from_a_level_on(acting):
    """Slow, but with the usual text: zombie.action is log."""
    gate = acting("log")
    gate.reconfigure(config("log").replace(
        "zombie = {", 'zombie = { tarpit_delay = 1; slow = "suspect";', 1))
    infected = net.fresh_line(4)
    assert gate.cli("zombie", "add", infected).ok
    spans, said = timed(*SLOWLY, source=infected)
    assert spans[0] > .9 and all(.7 < one < 3 for one in spans[2:]), spans
    assert URL not in str(said[3]) and said[3][0].startswith("550"), said
    assert gate.cli("zombie", "clear", infected).ok
    spans, _ = timed(*SLOWLY, source=infected)
    assert max(spans) < .9, spans
