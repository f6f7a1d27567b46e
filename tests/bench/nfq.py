#!/usr/bin/python3
"""CPU time of a first-packet verdict: ours beside two bare loops.

  nfq.py [--runs N] [--bursts N] [--json FILE]

Ours is the real nfq (sandbox, line table, classes, allowlist of 10^5
prefixes); single is libnetfilter_queue's classic loop; each is recvmmsg and 64
verdicts in one sendmsg; batch is recvmmsg and one verdict for all 64, which a
program with a policy cannot give in general.  All get the same
SYNs from the same number of lines and give the same verdict, in turns.

Two loads.  "full": bursts of 20,000 SYNs as fast as the generator can, each
waited for, so that there is always a backlog, nothing is lost and every packet
is judged.  "25000/s": what a busy gateway looks like; here a bare loop wakes up
for a packet or two.  CPU time is the process's own from the scheduler, kernel
work of the verdict included (an accepted packet is forwarded inside it), and
that of its CPU's ksoftirqd, to which the kernel hands such work now and then: a
reset sent out, mostly.  One CPU generates, another judges.

SALLYPORT_BUILD names the directory with the programs (default: build/).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SALLYPORT_BUILD",
                            HERE.parent.parent / "build")).resolve()
BIN = BUILD / "tests" / "bench"
QUEUE, MARK, MASK, DST = 2525, 0x2700, 0xff00, "203.0.113.9"
BURST = 20000
INSIDE = "SALLYPORT_BENCH_NFQ"
WORK = Path("/run/bench")
VERDICTS = {"accept": ("a", "block", "watch"), "drop": ("d", "drop", "all"),
            "reset": ("r", "reset", "all")}
LINES = (1000, 1000000)
JUDGES = ("ours", "batch", "each", "single")


def sh(text):
    subprocess.run(["sh", "-ec", text], check=True)


def raise_network():
    """src --c1-- here --s0-- sink; the sink's card takes nothing in."""
    sh(f"""
    mount -t tmpfs tmpfs /run; mkdir -p {WORK}
    ip link set lo up
    ip netns add src; ip netns add sink
    # no neighbour discovery among what is counted
    off="sysctl -qw net.ipv6.conf.all.disable_ipv6=1
        net.ipv6.conf.default.disable_ipv6=1"
    $off; ip netns exec src $off; ip netns exec sink $off
    ip link add c1 type veth peer name c0 netns src
    ip link add s0 type veth peer name s1 netns sink
    ip link set c1 up; ip link set s0 up
    ip -n src link set c0 up; ip -n sink link set s1 up
    ip addr add 192.0.2.1/30 dev c1; ip addr add 192.0.2.5/30 dev s0
    ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev c1
    ip neigh add 192.0.2.6 lladdr 02:00:00:00:00:06 dev s0
    ip route add 203.0.113.0/24 via 192.0.2.6
    ip route add 10.0.0.0/12 via 192.0.2.2
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 \
        net.ipv4.conf.c1.rp_filter=0
    iptables -t raw -A PREROUTING -i c1 -p tcp --syn --dport 25 \
        -j NFQUEUE --queue-num {QUEUE} --queue-bypass
    iptables -A FORWARD -m mark --mark {MARK:#x}/{MASK:#x} -p tcp \
        -j REJECT --reject-with tcp-reset
    """)


def card(name, field, ns=None):
    argv = ["ip"] + (["-n", ns] if ns else []) + ["-j", "-s", "link", "show",
                                                   "dev", name]
    link = json.loads(subprocess.run(argv, check=True, capture_output=True)
                      .stdout)[0]
    return link["address"] if field == "mac" else link["stats64"][field][
        "packets"]


def generator(verb, *args):
    return ["taskset", "1", "ip", "netns", "exec", "src", BIN / "syngen", verb,
            *map(str, args)]


def verify_generator():
    """What arrives is what was meant: checksums, sources, flags."""
    check = subprocess.Popen([BIN / "syngen", "check", "c1", DST, "1000000",
                              "20000"], stdout=subprocess.PIPE, text=True)
    check.stdout.readline()
    send(1000000, 25000, 20000)
    said = check.stdout.readline().strip()
    if check.wait() != 0 or not said.startswith("ok"):
        sys.exit(f"syngen: {said}")
    return said


def send(lines, count, rate):
    argv = generator("send", "c0", card("c1", "mac"), DST, lines, count, rate)
    out = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["sent", str(count)], out.stdout


def queue_state():
    """Packets waiting and the newest id, or None when nobody reads."""
    for row in Path("/proc/net/netfilter/nfnetlink_queue").read_text() \
            .splitlines():
        field = row.split()
        if int(field[0]) == QUEUE:
            return int(field[2]), int(field[7])
    return None


def wait_empty():
    limit = time.monotonic() + 20
    while queue_state()[0] != 0:
        if time.monotonic() > limit:
            raise TimeoutError("the queue does not get empty")
        time.sleep(0.002)


def ksoftirqd():
    """The kernel thread of the judge's CPU."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text() == "ksoftirqd/1\n":
            return int(comm.parent.name)
    sys.exit("no ksoftirqd/1 is to be seen in /proc")


def cpu_ns(*pids):
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
               for pid in pids)


class Judge:
    """One of the three programs on the second CPU."""

    def __init__(self, name, verdict, lines):
        letter, action, enforce = VERDICTS[verdict]
        self.name = name
        if name == "ours":
            argv = ["nfq_ours", "-c", config(action, enforce), "-l",
                    lines, "-t", lines * 5 // 4, "-m", f"{MARK:#x}/{MASK:#x}"]
        else:
            argv = [f"nfq_{name}", QUEUE, letter, f"{MARK:#x}", f"{MASK:#x}"]
        program = BIN / f"nfq_{'batch' if name == 'each' else name}"
        self.process = subprocess.Popen(
            [str(a) for a in argv], text=True, executable=program,
            preexec_fn=lambda: os.sched_setaffinity(0, {1}), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        first = self.process.stdout.readline().split()
        if not first:
            sys.exit(f"{name} did not start")
        self.pid = int(first[1]) if name == "ours" else self.process.pid

    def counts(self):
        if self.name != "ours":
            return {}
        self.process.stdin.write("counts\n")
        self.process.stdin.flush()
        return {k: int(v) for k, v in (
            pair.split("=") for pair in self.process.stdout.readline().split())}

    def stop(self):
        if self.name == "ours":
            self.process.stdin.close()
        else:
            self.process.terminate()
        self.process.wait()


def config(action, enforce):
    path = WORK / f"{action}.conf"
    if not path.exists():
        allow = WORK / "allow.list"
        # beside the lines that send: looked up, never found
        allow.write_text("".join(
            f"10.{16 + (i >> 15)}.{i >> 7 & 255}.{i & 127}\n"
            if i % 10 else f"11.{i >> 15}.{i >> 7 & 255}.0/24\n"
            for i in range(100000) if i % 10 or i & 127 < 10))
        path.write_text(f"""
gateway = {{ name = "gw"; }};
subscribers = ( {{ class = "lines"; prefixes = ( "10.0.0.0/12" );
  port25 = "{action}"; enforce = "{enforce}"; }},
  {{ class = "others"; prefixes = ( "10.16.0.0/12", "11.0.0.0/8" );
  port25 = "block"; }} );
allow = {{ file = "{allow}"; }};
""")
    return path


def measure(name, verdict, lines, load, bursts):
    judge = Judge(name, verdict, lines)
    try:
        # Every page of the table once: under shadow paging the first access
        # of a process to a page costs an exit of several us.
        for _ in range(1 + lines * 24 // 100 // BURST):
            send(lines, BURST, 0)
            wait_empty()
        before, count = cpu_ns(judge.pid, ksoftirqd()), 0
        id_before = queue_state()[1]
        passed = card("s1", "rx", "sink")
        was = judge.counts()
        if load == "full":
            for _ in range(bursts):
                send(lines, BURST, 0)
                wait_empty()
            count = bursts * BURST
        else:
            count = bursts * BURST // 4
            send(lines, count, int(load[:-2]))
            wait_empty()
        spent = cpu_ns(judge.pid, ksoftirqd()) - before
        now = judge.counts()
        passed = card("s1", "rx", "sink") - passed
        if queue_state()[1] - id_before != count:
            sys.exit(f"{name}: {queue_state()[1] - id_before} of {count} "
                     "packets were queued")
        want = count if verdict == "accept" else 0
        if passed != want:
            sys.exit(f"{name}: {passed} packets passed, not {want}")
        if now and now["queued"] - was["queued"] != count:
            sys.exit(f"ours judged {now['queued'] - was['queued']} of {count}")
        return spent / count / 1000
    finally:
        judge.stop()


def rows():
    for verdict in ("accept", "drop", "reset"):
        for lines in LINES:
            yield verdict, lines, "full"
    yield "accept", LINES[1], "25000/s"
    yield "drop", LINES[1], "25000/s"


def run(options):
    raise_network()
    print(f"generator: {verify_generator()}")
    print(f"{'verdict':8}{'lines':>9} {'load':9}"
          + "".join(f"{name:>8}" for name in JUDGES)
          + f"   us CPU a verdict, median of {options.runs}; ours to each of the"
          " others")
    result = []
    for verdict, lines, load in rows():
        taken = {name: [] for name in JUDGES}
        for _ in range(options.runs):
            for name, values in taken.items():
                values.append(measure(name, verdict, lines, load,
                                      options.bursts))
        ratio = {other: statistics.median(a / b for a, b in zip(taken["ours"],
                                                                taken[other]))
                 for other in JUDGES[1:]}
        print(f"{verdict:8}{lines:9} {load:9}"
              + "".join(f"{statistics.median(v):8.2f}" for v in taken.values())
              + "   " + " ".join(f"{r:.2f}" for r in ratio.values()),
              flush=True)
        result.append({"verdict": verdict, "lines": lines, "load": load,
                       "us": taken, "ours_to": ratio})
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bursts", type=int, default=10)
    parser.add_argument("--json")
    options = parser.parse_args()
    if os.environ.get(INSIDE) != "1":
        os.environ[INSIDE] = "1"
        os.environ["PATH"] = "/usr/sbin:/sbin:" + os.environ["PATH"]
        os.execvp("unshare", ["unshare", "--net", "--mount", "--",
                              sys.executable, *sys.argv])
    if options.json:
        options.json = os.path.abspath(options.json)
    run(options)


if __name__ == "__main__":
    main()
