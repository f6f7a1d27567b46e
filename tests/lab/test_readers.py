"""Every mail program that reads mail x {STARTTLS off, may, must} x {v4, v6}.

The run gives a table; tests/READERS.md is that table, and a difference is a
failure: what was found is then in $BUILD/READERS.md, to be looked at and
copied. Nothing that names a password may leave the gateway in clear meanwhile.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

import clients
import daemon
import mailers
import net
import proc
import scenes
from clients import words
from dovecot import LOG as DOVECOT_LOG
from dovecot import PASSWORD
from mailers import MODES
from readers import PORTS, PROGRAMS, Cell

TABLE = daemon.BUILD.parent / "tests/READERS.md"
NAME = "mail.isp.example"
V4, V6 = "198.19.0.{}", "2001:db8:2:{:x}00::{}"
ROWS = tuple(PROGRAMS)
FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))


# What does not work, and why it cannot.
EXPLAINED = {
    ("POP3", "s-nail", "must"):
    "s-nail uses APOP whenever the greeting has a stamp, inside TLS too. The "
    "greeting is the one of port 995, where APOP in clear is carried; behind "
    "STLS is another connection, to port 110, with another stamp: of the two "
    "one can be shown. s-nail's own advice, *pop3-no-apop*, helps.",
}


def raise_row(world, number):
    """A line for each row, and a mailbox for each family on it."""
    net.add_line(f"m{number}", V4.format(150 + number),
                 V6.format(0x40 + number, 1 + number))
    for family in (4, 6):
        world.dovecot.add_account(f"m{number}v{family}")


def ways(running, line, since):
    """The kinds of this line's sessions since then, once there is one."""
    def look():
        return sorted({event.kind for event in map(daemon.parse,
                                                   running.lines(since))
                       if event and event.get("line") == line})
    try:
        return proc.wait_until(look, f"a session of {line}", 15)
    except TimeoutError:
        return ["no session"]


HOW = {"wrap": "wrapped", "tunnel": "tunnelled"}


def attempt(world, running, number, mode, family):
    protocol, program = ROWS[number]
    user = f"m{number}v{family}"
    token, since = f"{user}-{mode}-token", running.here()
    world.empty(user)
    world.put(user, clients.message(token, "mei@alpha.example",
                                    f"{user}@isp.example"))
    code, out, mail = PROGRAMS[protocol, program][0](Cell(
        f"m{number}", net.address("isp", family), NAME, protocol, mode,
        f"{user}@isp.example"))
    how = ways(running, scenes.line_text(f"m{number}", family), since)
    if token not in mail:
        return words(out)
    text = "read, " + " and ".join(HOW.get(kind, kind) for kind in how)
    return text if code == 0 else f"{text}, but: {words(out)}"


def row(world, running, number, family):
    modes = PROGRAMS[ROWS[number]][1]
    return {mode: attempt(world, running, number, mode, family)
            if mode in modes else "no such mode" for mode in MODES}


@pytest.fixture(scope="module")
def matrix(world, running):
    """{(number of the row, family): {mode: outcome}}, the wire, the logins."""
    if not (mailers.FETCHED / "node/node_modules/imapflow").exists():
        pytest.fail(f"tests/fetch-clients {mailers.FETCHED} was not run")
    assert running.alive()
    for number in range(len(ROWS)):
        raise_row(world, number)
    jobs = [(number, family) for number in range(len(ROWS))
            for family in (4, 6)]
    before = len(proc.tail(DOVECOT_LOG, 10 ** 6).splitlines())
    plain = f"m{ROWS.index(('POP3', 'Python poplib'))}"
    with net.Capture("gw", "up0", "tcp") as up, \
            net.Capture("gw", plain, "tcp") as down, \
            ThreadPoolExecutor(6) as pool:
        found = dict(zip(jobs, pool.map(
            lambda job: row(world, running, *job), jobs)))
        wire = up.bytes(), down.bytes()
    return found, wire, proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]


HEAD = """\
# Mail programs on ports 110 and 143

Written by `tests/lab/test_readers.py`, which runs each program on a line of its
own, over IPv4 and IPv6, and compares what happened with this table. STARTTLS
(POP3: STLS) is off, used when it is offered ("may"), or required ("must"). The
server is Dovecot, which takes no password without TLS; every program dials it
by name and checks its certificate.

"wrapped": the program speaks in clear, we carry it to 995 or 993; "tunnelled":
its STARTTLS goes to the server's own 110 or 143, end to end. Ports 995 and 993
are not captured: TLS from the beginning passes us by. mpop without TLS gives no
password away unless told to (`auth user`), as it is here; getmail6 knows TLS
from the beginning only; OfflineIMAP cannot require STARTTLS.
"""


def cell_text(matrix, number, mode):
    v4, v6 = (matrix[number, family][mode] for family in (4, 6))
    return v4 if v4 == v6 else f"IPv4: {v4}; IPv6: {v6}"


def render(matrix):
    out = [HEAD]
    for protocol, port in PORTS.items():
        out += [f"## {protocol}, port {port}\n",
                "| program | " + " | ".join(MODES) + " |", "|---|---|---|---|"]
        out += [f"| {program} | " + " | ".join(
            cell_text(matrix, number, mode) for mode in MODES) + " |"
            for number, (spoken, program) in enumerate(ROWS)
            if spoken == protocol]
        out += [f"\n{program}, {mode}: {why}"
                for (spoken, program, mode), why in EXPLAINED.items()
                if spoken == protocol]
        out.append("")
    return "\n".join(out)


def test_every_program_reads(matrix):
    """In clear it is wrapped; who requires STARTTLS gets the server's own."""
    allowed = {"off": {"read, wrapped"}, "must": {"read, tunnelled"},
               "may": {"read, wrapped", "read, tunnelled"}}
    wrong = {(*ROWS[number], family, mode): text
             for (number, family), results in matrix[0].items()
             for mode, text in results.items()
             if text not in allowed[mode] | {"no such mode"}}
    assert {(*key[:2], key[3]) for key in wrong} == set(EXPLAINED), wrong


def test_no_password_leaves_in_clear(matrix):
    """Whatever the program, the mode and the mechanism."""
    up, down = matrix[1]
    needles = scenes.needles(PASSWORD)
    assert any(needle in down for needle in needles), \
        "poplib's own leg is in clear: the capture must show it"
    assert not any(needle in up for needle in needles)


def test_the_server_saw_tls_and_the_line(matrix):
    logins = [line for line in matrix[2] if " Login: user=<m" in line]
    for number in range(len(ROWS)):
        for family in (4, 6):
            mine = [line for line in logins
                    if f"user=<m{number}v{family}@" in line]
            rip = f"rip={net.address(f'm{number}', family)},"
            assert mine and all(", TLS," in line and rip in line
                                for line in mine), (ROWS[number], mine)


def test_the_table_is_what_happened(matrix):
    text = render(matrix[0])
    if not TABLE.exists() or TABLE.read_text() != text:
        (daemon.BUILD / "READERS.md").write_text(text)
        pytest.fail("tests/READERS.md is not what the programs did; "
                    f"{daemon.BUILD}/READERS.md is:\n{text}")


@FAMILIES
@pytest.mark.parametrize("scheme", ("pop3s", "imaps"))
def test_tls_from_the_beginning_passes_us_by(world, gate, scheme, family):
    """No session of ours, the server's own certificate, the line's address."""
    token, since = f"{scheme}-{family}-mail", gate.here()
    world.empty("yuki")
    world.put("yuki", clients.message(token, "mei@alpha.example",
                                      "yuki@isp.example"))
    port, path = (995, "1") if scheme == "pop3s" else (993, "INBOX;MAILINDEX=1")
    got = proc.run("legacy", [
        "curl", "-sS", "-m", "30", "--resolve",
        f"{NAME}:{port}:{net.address('isp', family)}", "-u",
        f"yuki@isp.example:{PASSWORD}", f"{scheme}://{NAME}/{path}"])
    assert token in got.out, got.out
    assert not [line for line in gate.lines(since) if daemon.parse(line)]
