"""Idle sessions, as many as two relays can hold: who is lost, what each costs.

SESSIONS wrapped sessions of two lines are opened through two relays and logged
in, half of them POP3, half IMAP in IDLE; held for SECONDS; then every one is used
again and ended. Longer than POP3's ten minutes (RFC 1939) all are IMAP: that is
how IDLE of half an hour is held by the clock on the wall. Server and load
generator are those of the bench, each a process with descriptors of its own; a
relay has two for each session. A lost session is a failure, and so is a
descriptor that stays.
"""

import argparse
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ca
import daemon
import enter
import names
import net
import proc
from tool import Tool

RELAYS, AT_ONCE = 2, 25
LINES, PER_LINE = ("legacy", "fixed"), 10000
POP3_SECONDS = 600
ADDRESS = net.address("isp", 4)
BIN = daemon.BUILD / "tests/bench"


def raise_servers():
    """The network, names, and one process that is all of the provider."""
    with ThreadPoolExecutor() as pool:
        certificates = pool.submit(ca.make)
        pool.submit(net.raise_network).result()
        enter.trust(certificates.result())
    dns = names.start()
    proc.wait_ports(dns, (53,), "dnsmasq")
    return serve("isp", ADDRESS)


def serve(host, address, certificate="isp"):
    """995 and 993 of an address."""
    server = Tool(host, [BIN / "server", ca.DIR / f"{certificate}.pem", 1024,
                         f"pop3s:{address}:995", f"imaps:{address}:993"])
    server.hear()
    return server


def shares(sessions, seconds):
    """[(line, kind of the load generator, port, sessions)]"""
    kinds = [("idle", 143)] if seconds >= POP3_SECONDS \
        else [("idle", 143), ("hold", 110)]
    jobs = [(line, *kind) for line in LINES for kind in kinds]
    return [(*job, sessions // len(jobs) + (at < sessions % len(jobs)))
            for at, job in enumerate(jobs)]


def round_of(gate, sessions, seconds, address=ADDRESS, tell=print):
    """Opened, held, used again; returns a list of complaints."""
    complaints, at_rest = [], gate.at_rest()
    before = {pid: daemon.pss(pid) for pid in gate.pids()}
    began = time.monotonic()
    tools = [Tool(line, [BIN / "loadgen", kind, address, port, count, AT_ONCE,
                         1024])
             for line, kind, port, count in shares(sessions, seconds)]
    said = [tool.hear(600) for tool in tools]
    held = sum(told.get("held", 0) for told in said)
    if any("held" not in told for told in said):
        for tool in tools:
            tool.end()
        return [f"could not be held: {said}"]
    tell(f"{held} of {sessions} sessions held after "
         f"{time.monotonic() - began:.0f} s; descriptors {gate.holdings()}",
         flush=True)
    after = {pid: daemon.pss(pid) for pid in gate.pids()}
    grown = sum(after.values()) - sum(before[pid] for pid in after)
    tell(f"memory: {grown / 1024:.0f} MB more in all processes, "
         f"{grown / max(1, held):.1f} kB a session", flush=True)
    time.sleep(seconds)     # what is tested is this time
    began, lost = time.monotonic(), 0
    for tool in tools:
        tool.say()
    for tool in tools:
        told = tool.hear(600)
        tool.end()
        lost += told["lost"]
        if told["lost"]:
            complaints.append(f"{told['lost']} lost: {told['complaint']}")
    tell(f"held for {seconds} s, used again in {time.monotonic() - began:.0f} s, "
         f"{lost} lost", flush=True)
    if held != sessions:
        complaints.append(f"only {held} of {sessions} could be held")
    try:
        gate.wait_holdings(at_rest, 60)
    except AssertionError as error:
        complaints.append(str(error))
    if set(gate.pids()) != set(before):
        complaints.append("a process of the daemon was replaced")
    return complaints


def config():
    return daemon.quick(workers=RELAYS, per_line=PER_LINE)


def main(args):
    parser = argparse.ArgumentParser(prog="lab idle", description=__doc__)
    parser.add_argument("--sessions", type=int, default=15000)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args(args)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = raise_servers()
    gate = daemon.Daemon(config()).start()
    gate.wait_all()
    complaints = round_of(gate, options.sessions, options.seconds)
    code = gate.stop()
    server.end()
    if code:
        complaints.append(f"sallyportd ended with {code}")
    for text in complaints:
        print(text, file=sys.stderr)
    print(f"idle: {options.sessions} sessions, {len(complaints)} complaints")
    return 1 if complaints else 0
