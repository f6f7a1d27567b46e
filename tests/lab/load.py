"""Many sessions through one relay: how many are lost, and what stays behind.

A run is SESSIONS POP3 sessions and as many SMTP submissions, AT-ONCE at a time,
from one line; all servers are the real ones.  After each run: descriptors and
PSS of every process of the daemon.  A lost session, a descriptor too many, or
memory that grows from the second to the last run is a failure.
"""

import argparse
import asyncio
import base64
import sys
import time

import daemon
import net
import world
from dovecot import PASSWORD

PLAIN = base64.b64encode(f"\0load@isp.example\0{PASSWORD}".encode())

# What counts as no growth: page granularity and allocator noise.
SLACK_KB = 512


class Unexpected(Exception):
    pass


async def ask(reader, writer, command, want, dotted=False):
    if command is not None:
        writer.write(command + b"\r\n")
    line = await reader.readline()
    first = line
    while line[3:4] == b"-" and want != b"+OK":
        line = await reader.readline()
    while dotted and line.rstrip() != b".":
        line = await reader.readline()
        if not line:
            break
    if not first.startswith(want):
        raise Unexpected(f"{command!r}: {first!r}")
    return first


async def pop3(host):
    reader, writer = await asyncio.open_connection(host, 110)
    try:
        await ask(reader, writer, None, b"+OK")
        await ask(reader, writer, b"CAPA", b"+OK", dotted=True)
        await ask(reader, writer, b"USER load@isp.example", b"+OK")
        await ask(reader, writer, b"PASS " + PASSWORD.encode(), b"+OK")
        await ask(reader, writer, b"STAT", b"+OK")
        await ask(reader, writer, b"QUIT", b"+OK")
    finally:
        writer.close()


async def smtp(host):
    reader, writer = await asyncio.open_connection(host, 25)
    try:
        await ask(reader, writer, None, b"220")
        await ask(reader, writer, b"EHLO load.example", b"250")
        await ask(reader, writer, b"AUTH PLAIN " + PLAIN, b"235")
        await ask(reader, writer, b"MAIL FROM:<load@isp.example>", b"250")
        await ask(reader, writer, b"RCPT TO:<discard@isp.example>", b"250")
        await ask(reader, writer, b"DATA", b"354")
        await ask(reader, writer, b"Subject: load\r\n\r\n" + b"x" * 60
                  + b"\r\n.", b"250")
        await ask(reader, writer, b"QUIT", b"221")
    finally:
        writer.close()


async def many(session, hosts, count, at_once):
    """(lost sessions by complaint, seconds)."""
    lost, numbers = {}, iter(range(count))

    async def worker():
        for number in numbers:
            try:
                await asyncio.wait_for(session(hosts[number % len(hosts)]), 60)
            except (OSError, Unexpected, asyncio.TimeoutError,
                    asyncio.IncompleteReadError) as error:
                text = f"{type(error).__name__}: {error}"
                lost[text] = lost.get(text, 0) + 1

    began = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return lost, time.monotonic() - began


def one_run(count, at_once, line="legacy"):
    """Both protocols, both families; returns (lost, {name: seconds})."""
    hosts = [net.address("isp", 4), net.address("isp", 6)]
    lost, seconds = {}, {}
    for name, session in (("pop3", pop3), ("smtp", smtp)):
        missing, took = net.inside(line, lambda s=session: asyncio.run(
            many(s, hosts, count, at_once)))
        seconds[name] = took
        for text, number in missing.items():
            lost[f"{name}: {text}"] = number
    return lost, seconds


def memory(gate):
    return {pid: daemon.pss(pid) for pid in gate.pids()}


def soak(gate, runs, count, at_once, tell=print):
    """Run after run; returns a list of complaints."""
    complaints, history = [], []
    at_rest = gate.at_rest()
    for number in range(1, runs + 1):
        lost, seconds = one_run(count, at_once)
        try:
            gate.wait_holdings(at_rest, 30)
        except AssertionError as error:
            complaints.append(f"run {number}: {error}")
        history.append(memory(gate))
        tell(f"run {number}: " + ", ".join(
            f"{count} {name} in {took:.1f} s ({count / took:.0f}/s)"
            for name, took in seconds.items())
            + f"; lost {sum(lost.values())}; descriptors {gate.holdings()}; "
            f"PSS kB {list(history[-1].values())}", flush=True)
        for text, times in lost.items():
            complaints.append(f"run {number}: {times} lost: {text}")
    if len(history) > 2:
        for pid, after in history[-1].items():
            before = history[1].get(pid)
            if before is None:
                complaints.append(f"process {pid} is new: something died")
            elif daemon.sanitized():
                continue    # keeps freed memory aside; looks for leaks itself
            elif after > before + SLACK_KB:
                complaints.append(f"process {pid} grew from {before} to "
                                  f"{after} kB between run 2 and {runs}")
    return complaints


def config():
    return daemon.quick(workers=1, per_line=200)


def main(args):
    parser = argparse.ArgumentParser(prog="lab load", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args(args)
    world.World()
    gate = daemon.Daemon(config()).start()
    gate.wait_all()
    complaints = soak(gate, options.runs, options.sessions, options.at_once)
    code = gate.stop()
    if code:
        complaints.append(f"sallyportd ended with {code}")
    for text in complaints:
        print(text, file=sys.stderr)
    print(f"soak: {options.runs} runs of 2 x {options.sessions} sessions, "
          f"{len(complaints)} complaints")
    return 1 if complaints else 0
