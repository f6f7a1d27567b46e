"""zombie.hook: the operator's program hears of each change of a level."""

import json
import os
import pwd
import shutil
import stat
import time
from pathlib import Path

import pytest

import daemon
import net
import proc
from test_zombies import bot, show, wait_level

HOME = Path("/run/lab/hook")
TOLD = HOME / "told"        # one file a run, in order of their names

# What a run is and gets; `before' and `after' are a test's.
PROGRAM = """#!/usr/bin/python3 -I
import json, os, sys, time
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
began = time.monotonic()
{before}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
seen = dict(input=sys.stdin.read(), argv=sys.argv, cwd=os.getcwd(), fds=fds,
            out=[os.readlink(f"/proc/self/fd/{{n}}") for n in (1, 2)],
            environment=open("/proc/self/environ").read(), uid=os.getuid(),
            groups=os.getgroups(), leader=os.getsid(0) == os.getpid(),
            caps=[status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd",
                                                  "CapAmb")],
            new=status["NoNewPrivs"].strip(), pid=os.getpid(), began=began,
            ended=time.monotonic())
name = f"{{time.monotonic_ns():020}}"
with open("%s/." + name, "w") as f:
    json.dump(seen, f)
os.rename("%s/." + name, "%s/" + name)
{after}
""" % (TOLD, TOLD, TOLD)


def program(before="", after="", mode=0o755, name="hook"):
    path = HOME / name
    path.write_text(PROGRAM.format(before=before, after=after))
    path.chmod(mode)
    return path


def config(path, *more):
    return daemon.quick() + f'zombie = {{ hook = "{path}"; ' + \
        " ".join(more) + " };\n"


@pytest.fixture(name="hooked")
def fixture_hooked(gate):
    """A function that has the daemon use a program like that."""
    shutil.rmtree(HOME, ignore_errors=True)
    TOLD.mkdir(parents=True)
    HOME.chmod(0o755)
    TOLD.chmod(0o1777)

    def use(path, *more):
        gate.reconfigure(config(path, *more))
        return gate
    yield use
    gate.reconfigure(daemon.quick())


def told():
    return [json.loads(path.read_text()) for path in sorted(TOLD.iterdir())
            if not path.name.startswith(".")]


def wait_told(n, timeout=10):
    return proc.wait_until(lambda: len(told()) >= n and told(),
                           f"{n} runs", timeout)


def zombie(gate, verb, line, *more):
    result = gate.cli("zombie", verb, line, *more)
    assert result.ok, result.out


def living(pid):
    try:
        return "Z" not in daemon.status(pid).get("State", "Z")
    except OSError:
        return False


def test_what_it_gets_and_what_it_is(hooked):
    gate = hooked(program())
    line, why = "198.18.43.1", 'a "reason" \\ with $(touch /tmp/x); words'
    zombie(gate, "add", line, "--why", why)
    zombie(gate, "clear", line)
    first, second = wait_told(2)
    event = json.loads(first["input"])
    assert event["event"] == event["level"] == "zombie"
    assert event["line"] == line and event["class"] == "dynamic"
    assert event["was"] == "clean" and event["pinned"] is True
    assert event["who"] == "root" and event["why"] == why
    assert abs(event["at"] - time.time()) < 10
    event = json.loads(second["input"])
    assert event["event"] == "clear" and event["was"] == "zombie"
    # started with nothing: no argument, environment, descriptor, right
    assert first["argv"] == [str(HOME / "hook")]
    assert first["environment"] == "" and first["cwd"] == "/"
    assert first["fds"] in ([0, 1, 2, 3], [0, 1, 2])    # 3: the listing itself
    assert first["out"] == ["/dev/null"] * 2
    assert first["uid"] == daemon.user_id("sallyport")
    assert first["groups"] == [] and first["leader"]
    assert set(first["caps"]) == {"0" * 16} and first["new"] == "1"


def test_evidence_of_a_bot(hooked):
    """The words and numbers of the log, with an example to look for."""
    gate = hooked(program())
    since, infected = gate.here(), net.fresh_line(6)
    bot(infected, 30)
    wait_level(gate, infected, "zombie")
    event = json.loads(wait_told(1)[-1]["input"])
    assert event["event"] == "zombie" and event["who"] == "evidence"
    helo = event["evidence"]["helo"]
    logged = gate.wait_text(since, r"^(?:\S+ )?zombie line=")
    assert f"helo={helo['score']:.1f},{helo['bad']}/{helo['all']}" in logged
    for key in ("destinations", "rate", "attempts", "sessions"):
        assert f" {key}={event[key]}" in logged, (key, logged)
    source = event["example"]["src"]
    assert any(f" src={source} " in one for one in gate.lines(since))
    zombie(gate, "clear", infected)
    wait_told(2)


def test_a_user_of_its_own(hooked):
    gate = hooked(program(), 'hook_user = "vmail";')
    zombie(gate, "add", "198.18.43.2")
    run, = wait_told(1)
    assert run["uid"] == pwd.getpwnam("vmail").pw_uid
    zombie(gate, "clear", "198.18.43.2")
    wait_told(2)


def test_one_that_fails_is_said_once(hooked):
    gate = hooked(program(after="sys.exit(3)"))
    gate.expected = ["zombie.hook"]
    since = gate.here()
    for _ in range(3):
        zombie(gate, "add", "198.18.43.3")
        zombie(gate, "clear", "198.18.43.3")
    wait_told(6)
    said = [one for one in gate.lines(since) if "exit status" in one]
    assert len(said) == 1, said
    assert f"zombie.hook: {HOME / 'hook'}: exit status 3" in said[0]


def test_one_that_cannot_be_started(hooked):
    path = program()
    gate = hooked(path)
    # behind the check's back
    path.write_text("#!/nowhere/interpreter\n")
    gate.expected = ["zombie.hook"]
    since = gate.here()
    zombie(gate, "add", "198.18.43.4")
    gate.wait_text(since, "zombie.hook: .*exit status 127, perhaps it cannot")
    zombie(gate, "clear", "198.18.43.4")
    assert not told()


HANGS = """
if json.loads(os.pread(0, 8192, 0))["event"] == "zombie":
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    with open("%s/slow", "w") as f:
        print(os.getpid(), child, file=f)
    time.sleep(1000)
""" % HOME


def test_one_that_hangs_is_ended_with_all_it_started(hooked):
    gate = hooked(program(before=HANGS, name="slow-hook"))
    HOME.chmod(0o1777)
    gate.expected = ["zombie.hook"]
    since = gate.here()
    zombie(gate, "add", "198.18.43.5")
    zombie(gate, "clear", "198.18.43.5")
    slow = HOME / "slow"
    proc.wait_until(lambda: slow.exists() and slow.read_text().endswith("\n"),
                    "the program", 10)
    pids = [int(word) for word in slow.read_text().split()]
    assert all(living(pid) for pid in pids)
    gate.wait_text(since, "zombie.hook: .*: killed after 30 s", timeout=45)
    proc.wait_until(lambda: not any(living(pid) for pid in pids), "the end", 5)
    wait_told(1)        # what came meanwhile is told then


GATED = """
import fcntl
busy = open("%s/busy", "a")
try:
    fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open("%s/two", "w").close()
while not os.path.exists("%s/go"):
    time.sleep(0.02)
""" % (HOME, HOME, HOME)


def test_more_changes_than_wait(hooked):
    """256 wait, in order, never two at once; the others are counted."""
    gate = hooked(program(before=GATED))
    HOME.chmod(0o1777)
    gate.expected = ["what=hook-lost"]
    since, changes = gate.here(), 300
    for i in range(changes // 2):
        line = f"198.18.44.{1 + i}"
        zombie(gate, "add", line)
        zombie(gate, "clear", line)
    gate.wait_text(since, "alarm what=hook-lost file=.* lost=1$")
    (HOME / "go").touch()
    runs = wait_told(256, 120)
    assert not (HOME / "two").exists()
    events = [json.loads(run["input"]) for run in runs]
    assert [(one["line"], one["event"]) for one in events] == \
        [(f"198.18.44.{1 + i // 2}", ("zombie", "clear")[i % 2])
         for i in range(256)]
    for one, after in zip(runs, runs[1:]):
        assert one["ended"] <= after["began"]
    # and it goes on as if nothing had been
    zombie(gate, "add", "198.18.43.6")
    assert json.loads(wait_told(257)[-1]["input"])["line"] == "198.18.43.6"
    zombie(gate, "clear", "198.18.43.6")
    wait_told(258)
    # how many were lost in all is said a minute after the first
    lost = sum(1 for one in gate.lines(since)
               if one.startswith(("zombie ", "clear "))) - 258
    gate.wait_text(since, f"alarm what=hook-lost file=.* lost={lost}$",
                   timeout=70)


def test_ends_with_the_daemon(hooked):
    """A program that runs and one that waits: one is ended, one counted."""
    gate = hooked(program(before=HANGS))
    HOME.chmod(0o1777)
    gate.expected = ["what=hook-lost"]
    since = gate.here()
    zombie(gate, "add", "198.18.43.7")
    zombie(gate, "clear", "198.18.43.7")
    slow = HOME / "slow"
    proc.wait_until(lambda: slow.exists() and slow.read_text().endswith("\n"),
                    "the program", 10)
    pids = [int(word) for word in slow.read_text().split()]
    gate.restart(daemon.quick())
    proc.wait_until(lambda: not any(living(pid) for pid in pids), "the end", 5)
    gate.wait_text(since, "alarm what=hook-lost")


def refusals():
    yield "none", HOME / "none", "No such file or directory"
    yield "a folder", TOLD, "it is no program"
    yield "no right to run it", program(mode=0o644), "it is no program"
    for bit in (stat.S_IWGRP, stat.S_IWOTH):
        yield "writable", program(mode=0o755 | bit), \
            "others than its owner may write to it"


def test_what_is_no_hook(hooked, gate):
    del hooked
    before = daemon.CONF.read_text()
    for name, path, why in refusals():
        daemon.CONF.write_text(config(path))
        result = gate.cli("check")
        assert result.code == 2, name
        assert f"zombie.hook: {path}: {why}; expected a program that only " \
            "its owner can change" in result.out, result.out
    daemon.CONF.write_text(config(program(), 'hook_user = "root";'))
    result = gate.cli("check")
    assert result.code == 2 and "never run as root" in result.out
    daemon.CONF.write_text(config(program()))
    assert f"starts {HOME / 'hook'} as user sallyport." in \
        gate.cli("check").out
    # a reload with one is refused, and what runs stays
    program(mode=0o777)
    gate.expected = ["zombie.hook", "reload refused"]
    assert not gate.cli("reload").ok
    daemon.CONF.write_text(before)
    assert gate.cli("reload").ok
    assert show(gate, "198.18.43.8") is None
    assert os.path.exists(HOME)
