"""`sallyport events': the log, as it happens."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

import clients
import daemon
import net
import proc


def talk(token):
    clients.swaks("second", net.address("mxa", 4), "info@alpha.example", token,
                  helo=token)


class Follower:
    """The command itself, its lines read as they come."""

    def __init__(self, gate, *words):
        self.process = subprocess.Popen(
            proc.enter_argv(gate.ns, [daemon.BUILD / "sallyport", "-c",
                                      daemon.CONF, "events", "--follow",
                                      *words]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

    def read(self):
        data = self.process.stdout.read()
        self.text += data.decode() if data else ""
        return self.text

    def wait(self, pattern, timeout=10):
        return proc.wait_until(lambda: re.search(pattern, self.read()),
                               pattern, timeout)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(name="follow")
def fixture_follow(gate):
    made = []

    def begin(*words):
        made.append(Follower(gate, *words))
        return made[-1]
    yield begin
    for one in made:
        one.end()


def test_the_last_ones_and_each_new_one(gate, follow):
    talk("before")
    gate.wait_text(0, r'helo="before"')
    told = gate.cli("events").out
    assert 'helo="before"' in told.splitlines()[-1], told
    follower = follow()
    follower.wait('helo="before"')
    talk("after")
    follower.wait('block id=.*helo="after"')
    # as the log has it, to the letter
    line = next(x for x in gate.lines() if 'helo="after"' in x)
    assert line.split("block", 1)[1] in follower.text


def test_only_those_asked_for(gate, follow):
    follower = follow("allow", "lease")
    talk("silent")
    assert gate.cli("allow", "add", "198.18.42.1", "--why", "heard").ok
    follower.wait('allow op=add prefix="?198.18.42.1/32.*why="heard"')
    assert "block " not in follower.read()
    assert gate.cli("allow", "del", "198.18.42.1").ok
    assert "allow op=del" in gate.cli("events", "allow").out
    assert "block id" not in gate.cli("events", "allow").out


def test_it_goes_on_over_a_reload(gate, follow):
    follower = follow()
    follower.wait(".")
    assert gate.cli("reload").ok
    time.sleep(1.5)
    talk("reloaded")
    follower.wait('helo="reloaded"', 15)
    assert follower.process.poll() is None
    assert len(gate.named("sallyport:ctl")) == 1, "held by a follower"


def test_who_does_not_read_loses_lines_and_nobody_waits(gate, follow):
    """A follower that sleeps: told how many it missed; the log has all."""
    sleeper, reader = follow(), follow()
    reader.wait(".")
    sleeper.process.send_signal(signal.SIGSTOP)
    big = daemon.ETC / "storm"
    since = gate.here()
    for turn in range(12):
        big.write_text("".join(f"198.18.{100 + i // 250}.{1 + i % 250} {turn}\n"
                               for i in range(5000)))
        assert gate.cli("lease", "bind", "--file", str(big)).ok
    for n in range(30):
        assert gate.cli("allow", "add", f"198.18.43.{n + 1}", "--why",
                        "w" * 250).ok
    reader.wait(r"198.18.43.30/32")
    assert len([x for x in gate.lines(since) if "198.18.43." in x]) == 30
    sleeper.process.send_signal(signal.SIGCONT)
    sleeper.wait(r"198.18.43.30/32|events were lost")
    for n in range(30):
        assert gate.cli("allow", "del", f"198.18.43.{n + 1}").ok
    big.write_text("".join(f"198.18.{100 + i // 250}.{1 + i % 250}\n"
                           for i in range(5000)))
    assert gate.cli("lease", "release", "--file", str(big)).ok


def test_json_lines_are_json(gate):
    before = daemon.CONF.read_text()
    gate.reconfigure(daemon.quick(log='format = "json";'))
    try:
        assert gate.cli("allow", "add", "198.18.42.2").ok
        lines = gate.cli("events", "allow").out.splitlines()
        last = json.loads(lines[-1])
        assert last["event.action"] == "allow" and "@timestamp" in last, lines
        assert gate.cli("allow", "del", "198.18.42.2").ok
    finally:
        gate.reconfigure(before)


def test_bad_words(gate):
    for words in (("--all",), ("--follow", "Block"), ("x=1",)):
        assert gate.cli("events", *words).code == 2, words
