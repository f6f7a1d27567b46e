"""Another family of servers: Courier's POP3 and IMAP, through us.

Five of the programs of readers.py, in clear (carried to 995 or 993) and with
STARTTLS required (carried to 110 or 143). What Dovecot's answers have in
common by accident, these have not.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import clients
import courier
import daemon
import net
import readers
import scenes
from dovecot import PASSWORD

PROGRAMS = [key for key in readers.PROGRAMS if key[1] in (
    "curl", "fetchmail", "mbsync", "Python poplib", "Python imaplib")]
CASES = [(*key, mode, family) for key in PROGRAMS for mode in ("off", "must")
         for family in (4, 6)]
USERS = [f"c{number}" for number in range(len(CASES))]


@pytest.fixture(scope="module")
def server(running):
    """Courier, and a daemon that knows nothing of odd.isp.example yet."""
    raised = courier.Courier(USERS)
    raised.prepare()
    raised.start()
    running.restart(daemon.quick())
    yield raised
    raised.stop()
    running.restart(daemon.quick())


def attempt(server, number):
    protocol, program, mode, family = CASES[number]
    user = USERS[number]
    server.put(user, "one", clients.message(f"{user}-token", "mei@alpha.example",
                                            f"{user}@isp.example"))
    return readers.PROGRAMS[protocol, program][0](readers.Cell(
        "legacy", net.address("dns", family, 1), "odd.isp.example", protocol,
        mode, f"{user}@isp.example"))


@pytest.fixture(scope="module")
def found(server, running):
    """What each case gave, our log meanwhile, the wire upstream. Courier waits
    a second a session for a file monitor that is not there: all at once."""
    since = running.here()
    with net.Capture("gw", "up0", "tcp") as up, ThreadPoolExecutor(10) as pool:
        got = list(pool.map(lambda number: attempt(server, number),
                            range(len(CASES))))
        wire = up.bytes()
    return got, [event for event in map(daemon.parse, running.lines(since))
                 if event and event.get("server") == "odd.isp.example"], wire


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: "-".join(
    map(str, CASES[number])).replace(" ", "-"))
def test_programs(found, number):
    code, out, mail = found[0][number]
    assert code == 0, out
    assert f"{USERS[number]}-token" in mail, out
    family = CASES[number][3]
    address = net.address("legacy", family)
    seen = f"ip=[{'::ffff:' if family == 4 else ''}{address}]"
    assert any(f"LOGIN, user={USERS[number]}@" in line and seen in line
               for line in courier.LOG.read_text().splitlines())


def test_carried_where_they_should_be(found):
    kinds = Counter(event.kind for event in found[1]
                    if event["reason"] != "client-eof")
    half = len(CASES) // 2
    assert kinds["wrap"] >= half and kinds["tunnel"] >= half, kinds


def test_no_password_leaves_in_clear(found):
    assert len(found[2]) > 100000
    assert not any(needle in found[2] for needle in scenes.needles(PASSWORD))
