"""Every mail program that reads mail x {STARTTLS off, may, must} x {v4, v6}, at
a server that has STARTTLS (Dovecot) and at one that has not (Courier).

The run gives a table; tests/READERS.md is that table, and a difference is a
failure: what was found is then in $BUILD/READERS.md, to be looked at and
copied. Nothing that names a password may leave the gateway in clear meanwhile.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

import clients
import courier
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
# Whether its plain ports have STARTTLS: the host, which address, its name.
SERVERS = {True: ("isp", 0, NAME), False: ("dns", 1, "odd.isp.example")}
FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))


# What does not work, and why it cannot.
EXPLAINED = {
    (True, "POP3", "s-nail", "must"):
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


def ways(running, number, family, since):
    """The kinds of this line's sessions since then, once they have ended."""
    line = scenes.line_text(f"m{number}", family)
    at = net.address(f"m{number}", family)
    at = f"[{at}]" if family == 6 else at

    def look():
        return sorted({event.kind for event in map(daemon.parse,
                                                   running.lines(since))
                       if event and event.get("line") == line})
    proc.wait_until(lambda: not proc.need("gw", [
        "ss", "-tnH", "exclude", "time-wait", f"( src {at} or dst {at} )"]),
        f"the sessions of {line} to end", 40)
    return proc.wait_until(look, f"a session of {line}", 15)


HOW = {"wrap": "wrapped", "tunnel": "tunnelled"}


def put(world, other, has, user, token):
    text = clients.message(token, "mei@alpha.example", f"{user}@isp.example")
    if has:
        world.empty(user)
        world.put(user, text)
    else:
        other.put(user, token, text)


def attempt(world, running, other, job, mode):
    number, family, has = job
    (protocol, program), user = ROWS[number], f"m{number}v{family}"
    host, which, name = SERVERS[has]
    token, since = f"{user}-{mode}-token", running.here()
    put(world, other, has, user, token)
    code, out, mail = PROGRAMS[protocol, program][0](Cell(
        f"m{number}", net.address(host, family, which), name, protocol, mode,
        f"{user}@isp.example"))
    how = ways(running, number, family, since)
    if token not in mail:
        return words(out)
    text = "read, " + " and ".join(HOW.get(kind, kind) for kind in how)
    return text if code == 0 else f"{text}, but: {words(out)}"


def row(world, running, other, job):
    modes = PROGRAMS[ROWS[job[0]]][1]
    return {mode: attempt(world, running, other, job, mode)
            if mode in modes else "no such mode" for mode in MODES}


@pytest.fixture(scope="module")
def other(running):
    """Courier with 995 and 993 and nothing else, which nobody has asked yet."""
    raised = courier.Courier([f"m{number}v{family}" for family in (4, 6)
                              for number in range(len(ROWS))])
    raised.prepare()
    raised.start((995, 993))
    running.restart(daemon.quick())
    yield raised
    raised.stop()
    running.restart(daemon.quick())


@pytest.fixture(scope="module")
def matrix(world, running, other):
    """{(number of the row, family, has the server STARTTLS): {mode: outcome}},
    the wire, the logins."""
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
            ThreadPoolExecutor(8) as pool:
        found = {}      # one server after the other: a line's events are told
                        # apart by time
        for has in SERVERS:
            found.update(zip([(*job, has) for job in jobs], pool.map(
                lambda job, has=has: row(world, running, other, (*job, has)),
                jobs)))
        wire = up.bytes(), down.bytes()
    return found, wire, proc.tail(DOVECOT_LOG, 10 ** 6).splitlines()[before:]


HEAD = """\
# Mail programs on ports 110 and 143

Written by `tests/lab/test_readers.py`, which runs each program on a line of its
own, over IPv4 and IPv6, and compares what happened with this table. STARTTLS
(POP3: STLS) is off, used when it is offered ("may"), or required ("must"). A
server with STARTTLS is Dovecot, which takes no password without TLS; the one
without is Courier with 995 and 993 and no other port. Every program dials the
server by name and checks its certificate.

"wrapped": the program speaks in clear, we carry it to 995 or 993; "tunnelled":
its STARTTLS goes to the server's own 110 or 143, end to end. Ports 995 and 993
are not captured: TLS from the beginning passes us by. mpop without TLS gives no
password away unless told to (`auth user`), as it is here; getmail6 knows TLS
from the beginning only; OfflineIMAP cannot require STARTTLS; fetchmail, once it
checks certificates, cannot do without, and does not check them in "may".
"""


def cell_text(matrix, number, has, mode):
    v4, v6 = (matrix[number, family, has][mode] for family in (4, 6))
    return v4 if v4 == v6 else f"IPv4: {v4}; IPv6: {v6}"


def table(matrix, protocol, has):
    out = ["| program | " + " | ".join(MODES) + " |", "|---|---|---|---|"]
    out += [f"| {program} | " + " | ".join(
        cell_text(matrix, number, has, mode) for mode in MODES) + " |"
        for number, (spoken, program) in enumerate(ROWS) if spoken == protocol]
    out += [f"\n{program}, {mode}: {why}"
            for (where, spoken, program, mode), why in EXPLAINED.items()
            if (where, spoken) == (has, protocol)]
    return [*out, ""]


def render(matrix):
    out = [HEAD]
    for protocol, port in PORTS.items():
        word = "STLS" if protocol == "POP3" else "STARTTLS"
        for has in SERVERS:
            out += [f"## {protocol}, port {port}, server with"
                    f"{'' if has else 'out'} {word}\n",
                    *table(matrix, protocol, has)]
    return "\n".join(out)


ALLOWED = {True: {"off": {"read, wrapped"}, "must": {"read, tunnelled"},
                  "may": {"read, wrapped", "read, tunnelled"}},
           False: {"off": {"read, wrapped"}, "may": {"read, wrapped"}}}


def test_every_program_reads(matrix):
    """In clear it is wrapped; who requires STARTTLS gets the server's own, or
    says that there is none."""
    wrong = {(has, *ROWS[number], mode): text
             for (number, _, has), results in matrix[0].items()
             for mode, text in results.items() if text != "no such mode"
             and text not in ALLOWED[has].get(mode, {text})}
    assert set(wrong) == set(EXPLAINED), wrong
    assert not [results for (_, _, has), results in matrix[0].items()
                if not has and results["must"].startswith("read")]


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
