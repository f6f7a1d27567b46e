"""Leases: which customer has which line, and what follows him."""

import json
import os
import re
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import clients
import daemon
import net
import proc

STORM = 5000


def lease(gate, *args, want=0):
    result = gate.cli("lease", *args)
    assert result.code == want, f"{result.code}: {result.out}"
    return result.out


def answer(gate, *args):
    return json.loads(gate.cli("--json", "lease", *args).out)


def plan_lines(gate):
    """Lines of the class dynamic that have tried, and their attempts."""
    told = json.loads(gate.cli("--json", "plan", "dynamic").out)
    seen = next(c for c in told["classes"] if c["class"] == "dynamic")
    return sum(seen["lines"].values()), sum(seen["attempts"].values())


def test_bind_and_release_twice_is_no_error(gate):
    assert "bound to c-1" in lease(gate, "bind", "198.18.40.1", "c-1")
    assert "already" in lease(gate, "bind", "198.18.40.1", "c-1")
    assert "(was c-1)" in lease(gate, "bind", "198.18.40.1", "c-2")
    assert answer(gate, "release", "198.18.40.1", "c-1")["changed"] == 0
    assert "released" in lease(gate, "release", "198.18.40.1", "c-2")
    assert "was not bound" in lease(gate, "release", "198.18.40.1")
    assert "bound" in lease(gate, "bind", "2001:db8:1:7700::/56", "c-1")
    assert "released" in lease(gate, "release", "2001:db8:1:7700::/56")


def test_bad_words_are_refused_and_change_nothing(gate):
    for args, code, words in (
            (("bind", "198.18.40.1"), 2, "CUSTOMER"),
            (("bind", "198.18.40.0/24", "c"), 1, "is a /32"),
            (("bind", "192.0.2.1", "c"), 1, "no class"),
            (("bind", "2001:db8:1:7701::/64", "c"), 1, "is a /56"),
            (("bind", "198.18.40.1:1024-2047", "c"), 1, "port_block"),
            (("bind", "not-a-line", "c"), 1, "not-a-line"),
            (("bind", "198.18.40.1", "x" * 64), 1, "63"),
            (("release", "--file", "/nowhere"), 1, "No such file")):
        assert words in lease(gate, *args, want=code), args
    bad = daemon.ETC / "leases"
    bad.write_text("198.18.40.3 c-3\n198.18.40.4\n# fine\n10.0.0.1 c-4\n")
    out = lease(gate, "bind", "--file", str(bad), want=1)
    assert f"{bad}:2: " in out and f"{bad}:4: " in out, out
    assert "nothing was changed" in out
    assert "was not bound" in lease(gate, "release", "198.18.40.3")


def test_history_follows_the_customer(gate):
    """`second' is a bot's line; its owner then gets another address, and who
    gets his starts with nothing."""
    old, new = net.address("second", 4), "198.18.40.9"
    lease(gate, "bind", old, "bot")
    before = plan_lines(gate)
    clients.swaks("second", net.address("mxa", 4), "info@alpha.example", "l")
    proc.wait_until(lambda: plan_lines(gate)[1] > before[1], "an attempt", 5)
    lines, attempts = plan_lines(gate)
    # another line of the same customer: both are his, nothing moves yet
    lease(gate, "bind", new, "bot")
    assert plan_lines(gate) == (lines, attempts)
    # his first one goes to somebody else: what was counted goes to `new'
    assert "(was bot)" in lease(gate, "bind", old, "anna")
    assert plan_lines(gate) == (lines, attempts)
    assert answer(gate, "release", old)["was"] == "anna"
    # without a line it is kept in the ledger, over a killed control
    lease(gate, "release", new, "bot")
    kept = plan_lines(gate)
    assert kept[0] == lines - 1 and kept[1] < attempts
    control = gate.only("sallyport:ctl")
    since = gate.here()
    os.kill(control, signal.SIGKILL)
    gate.wait_text(since, r"alarm what=process-died")
    gate.expected = ["control"]
    proc.wait_until(lambda: gate.cli("lease", "bind", "198.18.40.11",
                                     "bot").code == 0, "control", 10, pause=.2)
    assert plan_lines(gate) == (lines, attempts)
    assert "bot" in lease(gate, "release", "198.18.40.11")


def ledger():
    path = next(Path("/var/lib/sallyport").glob("*.db"))
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True))


def unsettled(db):
    """Are leases written that the table has not followed yet?"""
    return db.execute("SELECT EXISTS (SELECT 1 FROM lease "
                      "WHERE was IS NOT NULL)").fetchone()[0]


def test_control_killed_between_ledger_and_table(gate):
    """Nobody gets a history that is another's, and none is counted twice: in
    the middle of a file whose last line is the one with a history."""
    line, file = net.address("second", 4), daemon.ETC / "storm"
    others = [f"198.18.{100 + i // 250}.{1 + i % 250}" for i in range(36000)]

    def attempts():
        told = json.loads(gate.cli("--json", "zombie", "show", line).out)
        return (told["line"] or {"attempts": 0})["attempts"]

    lease(gate, "bind", line, "robot")
    clients.swaks("second", net.address("mxa", 4), "info@alpha.example", "k")
    known = proc.wait_until(attempts, "an attempt to be counted", 5)
    gate.expected = ["control"]
    for turn in range(4):
        who = ("anna", "robot")[turn % 2]
        file.write_text("".join(f"{other} {who}-{i}\n"
                                for i, other in enumerate(others))
                        + f"{line} {who}\n")
        asked = threading.Thread(target=gate.cli, args=(
            "lease", "bind", "--file", str(file)))
        # in the milliseconds in which the table follows
        control, late = gate.only("sallyport:ctl"), time.monotonic() + 20
        asked.start()
        with ledger() as db:
            while not unsettled(db) and time.monotonic() < late:
                pass
            os.kill(control, signal.SIGKILL)
            asked.join()
            assert unsettled(db), "it was settled before it was killed"
        proc.wait_until(lambda: gate.cli("lease", "bind", line, who).code == 0,
                        "control", 20, pause=.2)
        with ledger() as db:
            proc.wait_until(lambda: not unsettled(db), "the table to follow", 10)
        told = attempts()
        assert told == 0 if who == "anna" else told <= known, (turn, told)
    file.write_text("".join(f"{other}\n" for other in others) + f"{line}\n")
    lease(gate, "release", "--file", str(file))
    gate.wait_all()


def test_leases_survive_a_restart(gate):
    lease(gate, "bind", "198.18.40.20", "kept")
    gate.restart(daemon.CONF.read_text())
    assert "already" in lease(gate, "bind", "198.18.40.20", "kept")
    lease(gate, "release", "198.18.40.20")


def test_a_storm_while_traffic_flows(gate):
    """A BRAS has restarted: thousands of binds, and sessions go on."""
    names = [f"198.18.{100 + i // 250}.{1 + i % 250}" for i in range(STORM)]
    storm = daemon.ETC / "storm"
    refused, over = [], threading.Event()

    def dial():
        while not over.is_set() or not refused:
            result = clients.swaks("second", net.address("mxa", 4),
                                   "info@alpha.example", "storm")
            refused.append("550" in result.out)
    talk = threading.Thread(target=dial)
    talk.start()
    try:
        for turn in ("a", "b"):
            storm.write_text("".join(f"{name} {turn}{i}\n"
                                     for i, name in enumerate(names)))
            began = time.monotonic()
            out = lease(gate, "bind", "--file", str(storm))
            print(f"{STORM / (time.monotonic() - began):.0f} binds/s")
            assert f"{STORM} bound, 0 were" in out, out
        assert f"0 bound, {STORM} were" in lease(gate, "bind", "--file",
                                                 str(storm))
        storm.write_text("".join(f"{name}\n" for name in names))
        assert f"{STORM} released" in lease(gate, "release", "--file",
                                            str(storm))
    finally:
        over.set()
        talk.join()
    assert all(refused), refused
    assert re.search(r"lease op=bind changed=5000 same=0 who=",
                     "\n".join(gate.lines()))
