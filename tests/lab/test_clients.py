"""Every mail program x {block, relay, submit} x {STARTTLS off, may, must}.

The run gives a table; tests/CLIENTS.md is that table, and a difference is a
failure: what was found is then in $BUILD/CLIENTS.md, to be looked at and copied.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

import daemon
import mailers
import net
import proc
from clients import words
from mailers import MODES, PROGRAMS, Cell

TABLE = daemon.BUILD.parent / "tests/CLIENTS.md"
TEXT = "Outbound port 25 is closed on this line"
ACTIONS = {     # of the lines: IPv4, IPv6; the server dialled
    "block": ("198.18.40.{}", "2001:db8:1:{:x}00::{}", 0xa0, "mxa"),
    "relay": ("198.19.1.{}", "2001:db8:3:{:x}00::{}", 0x80, "mxa"),
    "submit": ("198.19.0.{}", "2001:db8:2:{:x}00::{}", 0x80, "isp"),
}
NAMES = {"mxa": "mx.alpha.example", "isp": "mail.isp.example"}
ALL = (*PROGRAMS, "Postfix")


def raise_line(number, action):
    """A line of its own for each program: what adaptive remembers is per line."""
    v4, v6, base, _ = ACTIONS[action]
    net.add_line(f"{action[0]}{number}", v4.format(100 + number),
                 v6.format(base + number, number))


def outcome(code, out, arrived):
    if arrived:
        return "delivered" if code == 0 else f"delivered, but: {words(out)}"
    if code == 0 and TEXT in out:
        return "our text, exit status 0"
    if code == 0:
        return "lost: " + words(out)
    if out.startswith("waits: "):
        return "silent retry" + (", our text in its log" if TEXT in out else
                                 ": " + words(out[7:]))
    if TEXT in out:
        return "our text" + (", in a bounce" if out.startswith("bounced")
                             else "")
    return words(out)


def attempt(world, cell, send):
    code, out = send(cell)
    arrived = False
    if code == 0:
        try:
            arrived = bool(world.wait_arrival("mxa", "info", cell.token, 30))
        except TimeoutError:
            pass
    return outcome(code, out, arrived)


def row(world, number, program, action, family):
    """One program, action and family: the outcome for each mode."""
    host = ACTIONS[action][3]
    line, results = f"{action[0]}{number}", {}
    send, modes = PROGRAMS.get(program, (None, MODES))
    if program == "Postfix":
        send = POSTFIX[action].send
    for mode in MODES:
        if mode not in modes or (action == "submit" and mode == "off"
                                 and program in mailers.TLS_FOR_AUTH):
            results[mode] = "no such mode"
            continue
        cell = Cell(line, net.address(host, family), NAMES[host], mode,
                    "info@alpha.example", f"m-{line}-{mode}-{family}",
                    action == "submit")
        results[mode] = attempt(world, cell, send)
        if action == "block" and mode == "must":
            cell.token += "-again"
            results["again"] = attempt(world, cell, send)
    return results


POSTFIX = {}


@pytest.fixture(scope="module")
def matrix(world, running):
    """{(program, action, family): {mode: outcome}}"""
    if not (mailers.FETCHED / "node/node_modules/nodemailer").exists():
        pytest.fail(f"tests/fetch-clients {mailers.FETCHED} was not run")
    assert running.alive()
    lines = [(number, action) for number in range(len(ALL))
             for action in ACTIONS]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: raise_line(*one), lines))
    with open("/etc/hosts", "a", encoding="ascii") as file:
        file.writelines(f"{net.address(host, family)} v{family}.{name}\n"
                        for host, name in NAMES.items() for family in (4, 6))
    last = ALL.index("Postfix")
    for action in ACTIONS:
        server = POSTFIX[action] = mailers.PostfixClient(
            f"{action[0]}{last}", {family: net.address(ACTIONS[action][3],
                                                       family)
                                   for family in (4, 6)}, action == "submit")
        server.prepare()
        server.start()
        server.ready()
    jobs = [(number, program, action, family)
            for number, program in enumerate(ALL) for action in ACTIONS
            for family in (4, 6)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: row(world, *job), jobs))
    yield {job[1:]: results for job, results in zip(jobs, found)}
    for server in POSTFIX.values():
        proc.stop(server.process)


HEAD = """\
# Mail programs on port 25

Written by `tests/lab/test_clients.py`, which runs each program on a line of
each class, over IPv4 and IPv6, and compares what happened with this table.
STARTTLS is off, used when it is offered ("may"), or required ("must"). Behind
`block` a program that requires STARTTLS leaves after EHLO with words of its own;
the last column is its next attempt, when `stage = "adaptive"` refuses EHLO.

"our text" means that the person at the program reads the operator's text;
"silent retry" that the message stays in a queue and nobody is told for hours.
In `submit` the programs authenticate, in the others they do not.
busybox sendmail is missing: Debian builds busybox without that applet.
"""


def cell_text(matrix, program, action, mode):
    v4 = matrix[program, action, 4][mode]
    v6 = matrix[program, action, 6][mode]
    return v4 if v4 == v6 else f"IPv4: {v4}; IPv6: {v6}"


def render(matrix):
    out = [HEAD]
    for action in ACTIONS:
        modes = MODES + (("again",) if action == "block" else ())
        out += [f"## {action}\n", "| program | " + " | ".join(
            mode if mode != "again" else "must, again" for mode in modes)
            + " |", "|---" * (len(modes) + 1) + "|"]
        out += [f"| {program} | " + " | ".join(
            cell_text(matrix, program, action, mode) for mode in modes) + " |"
            for program in ALL]
        out.append("")
    return "\n".join(out)


@pytest.mark.parametrize("action", ("relay", "submit"))
def test_every_program_delivers(matrix, action):
    wrong = {key: results for key, results in matrix.items()
             if key[1] == action and set(results.values())
             - {"delivered", "no such mode"}}
    assert not wrong, wrong


def test_nothing_passes_block_and_the_text_is_read(matrix):
    """Without TLS of its own every program shows our text or says refused."""
    for (program, action, _), results in matrix.items():
        if action == "block":
            assert not any("delivered" in text or "lost" in text
                           for text in results.values()), (program, results)


def test_the_table_is_what_happened(matrix):
    text = render(matrix)
    if not TABLE.exists() or TABLE.read_text() != text:
        (daemon.BUILD / "CLIENTS.md").write_text(text)
        pytest.fail("tests/CLIENTS.md is not what the programs did; "
                    f"{daemon.BUILD}/CLIENTS.md is:\n{text}")
