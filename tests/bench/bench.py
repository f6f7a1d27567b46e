"""`make bench`: speed and memory, side by side with nginx, HAProxy, stunnel.

Every figure is taken in alternating runs in one go: round after round, each
proxy does the same work once; what is told is the median of the rounds, and of
the ratios within a round.  CPU time is that of all processes of a proxy, user
and system; "machine" is what the whole machine was busy meanwhile, clients and
servers and packets included.  Sessions and octets are counted at both ends: a
run that lost one is told as such.  A bench reports; it fails only when
something could not be run.
"""

import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ca
import daemon
import enter
import live
import names
import net
import proc
import proxies
from tool import Tool

ROUNDS = 9          # of the rows of CPU time: short runs, many of them
STEPS = 5           # of memory, and of growth: each takes longer
AT_ONCE = 50
RETR = 256 * 1024
MAIL = 4096
ALL = ("pop3", "retr", "idle", "smtp", "growth", "lease", "edit")
# Sessions of a run: about half a second of one worker's CPU.
SESSIONS = {"pop3": 1000, "retr": 400, "smtp": 1500}
WARM_UP = 400
# Held sessions take two descriptors each in a proxy.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
FILES = 20000 if FILES == resource.RLIM_INFINITY else min(20000, FILES)
FEW, MANY = 100, min(5000, (FILES - 1000) // 2)
HELD = min(1000, MANY // STEPS)     # of one step of `idle`


def busy():
    """Seconds that all cores together were not idle, since the start."""
    with open("/proc/stat") as stream:
        fields = [int(word) for word in stream.readline().split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, rows):
        self.rows, self.row = rows, None
        self.results, self.lost, self.failed = {}, [], []
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        proxies.DIR.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            certificates = pool.submit(ca.make)
            pool.submit(net.raise_network).result()
            enter.trust(certificates.result())
        proxies.raise_peer_gateway()
        dns = names.start()
        bin_dir = daemon.BUILD / "tests" / "bench"
        self.loadgen = bin_dir / "loadgen"
        server = bin_dir / "server"
        pem = ca.DIR / "isp.pem"
        chain = proxies.DIR / "chain.pem"
        chain.write_text(pem.read_text())
        self.servers = [
            Tool("isp", [server, chain, RETR, f"pop3s:{proxies.WARM}:995",
                         f"pop3s-cold:{proxies.COLD}:995"]),
            Tool("mxa", [server, chain, RETR, f"smtp:{proxies.MX}:25"])]
        for tool in self.servers:
            tool.hear()
        proc.wait_ports(dns, (53,), "dnsmasq")
        self.ours = proxies.Sallyport()
        self.all = [self.ours, *proxies.peers()]
        for proxy in self.all:
            proxy.start()

    # One run ---------------------------------------------------------------

    def counts(self):
        found = {}
        for tool in self.servers:
            found.update(tool.ask())
        return found

    def load(self, proxy, kind, work, sessions, octets=RETR, at_once=AT_ONCE):
        host, port = proxy.endpoint(work)
        return Tool(proxies.LINE, [self.loadgen, kind, host, port, sessions,
                                   at_once, octets])

    def arrived(self, service, before, sessions):
        """The service's counters since before, once all sessions ended."""
        def settled():
            now = self.counts()[service]
            ended = now["done"] + now["broken"] - before["done"] \
                - before["broken"]
            return now if ended >= sessions else None
        try:
            now = proc.wait_until(settled, "the server to see the ends", 5)
        except TimeoutError:
            now = self.counts()[service]
        return {key: now[key] - before[key] for key in now}

    def complain(self, text):
        self.lost.append((self.row, text))
        say("  ! " + text)

    def verify(self, what, told, seen, sessions):
        """Everything that was sent arrived, by both ends' count."""
        wrong = []
        if told["lost"] or told["done"] != sessions:
            wrong.append(f"{told['lost']} of {sessions} sessions lost: "
                         f"{told['complaint']}")
        if seen["done"] != sessions:
            wrong.append(f"the server saw {seen['done']} of {sessions}")
        for mine, yours in (("received", "sent"), ("sent", "received")):
            if told[mine] != seen[yours]:
                wrong.append(f"client {mine} {told[mine]} octets, server "
                             f"{yours} {seen[yours]}")
        if wrong:
            self.complain(f"{what}: " + "; ".join(wrong))

    def run(self, proxy, kind, sessions):
        """One run of one proxy: what a session cost."""
        work = "smtp" if kind == "smtp" else "pop3"
        service = "smtp" if kind == "smtp" else "pop3s"
        octets = MAIL if kind == "smtp" else RETR
        before, split, machine = proxy.cpu(), proxy.split(), busy()
        lasting = proxy.lasting(before)
        seen_before = self.counts()[service]
        tool = self.load(proxy, kind, work, sessions, octets)
        told = tool.hear()
        tool.end()
        seen = self.arrived(service, seen_before, sessions)
        machine = busy() - machine
        after, split_after = proxy.cpu(), proxy.split()
        self.verify(f"{proxy.name} {kind}", told, seen, sessions)
        # A child that looks after the rules comes and goes.
        if not lasting <= set(after):
            self.complain(f"{proxy.name} {kind}: a process has ended")
        spent = sum(after[pid] - before.get(pid, 0) for pid in after)
        return {
            "cpu_ms": spent / 1e6 / sessions,
            "parts_ms": {comm: sum(after[pid] - before.get(pid, 0)
                                   for pid in pids) / 1e6 / sessions
                         for comm, pids in proxies.by_comm(after).items()},
            "user_ms": (split_after[0] - split[0]) * 1e3 / sessions,
            "system_ms": (split_after[1] - split[1]) * 1e3 / sessions,
            "machine_ms": machine * 1e3 / sessions,
            "resumed": seen["resumed"] / sessions,
            "seconds": told["seconds"], "p50_ms": told["p50_ms"],
            "p99_ms": told["p99_ms"], "lost": told["lost"]}

    def alternate(self, kind, chosen):
        """Rounds over proxies: {name: [run, ...]}; one run each to warm up."""
        found = {proxy.name: [] for proxy in chosen}
        for proxy in chosen:
            self.run(proxy, kind, WARM_UP)
        for number in range(ROUNDS):
            # Not always the same neighbour before and after.
            turn = chosen[number % len(chosen):] + chosen[
                :number % len(chosen)]
            for proxy in turn:
                found[proxy.name].append(
                    self.run(proxy, kind, SESSIONS[kind]))
            say(f"  {kind} {number + 1}/{ROUNDS}: " + ", ".join(
                f"{proxy.name} {found[proxy.name][-1]['cpu_ms']:.3f}"
                for proxy in chosen) + " ms")
        return found

    # Rows ------------------------------------------------------------------

    def cpu_row(self, kind, chosen):
        self.results[kind] = self.alternate(kind, chosen)

    def hold(self, proxy, work, count):
        """count logged-in sessions, held until end() of the tool."""
        tool = self.load(proxy, "hold", work, count)
        told = tool.hear()
        if told["held"] != count:
            self.complain(f"{proxy.name}: {count - told['held']} of {count} "
                          "sessions to be held were lost")
        return tool

    def release(self, proxy, tools):
        for tool in tools:
            tool.process.stdin.close()
        for tool in tools:
            told = tool.hear()
            tool.process.wait()
            if told["lost"]:
                self.complain(f"{proxy.name}: {told['lost']} held sessions "
                              f"lost: {told['complaint']}")

    def growth_of_memory(self, proxy, work):
        """kB a session, in steps of HELD sessions, in a fresh process."""
        service = "pop3s" if work == "pop3" else "pop3s-cold"
        proxy.stop()
        proxy.start()
        tool = self.load(proxy, "pop3", work, WARM_UP)
        told = tool.hear()
        tool.end()
        if told["lost"]:
            self.complain(f"{proxy.name} idle: {told['complaint']}")
        before, steps, tools = self.counts()[service], [], []
        last = proxy.pss()
        for _ in range(STEPS):
            tools.append(self.hold(proxy, work, HELD))
            now = proxy.pss()
            steps.append((now - last) / HELD)
            last = now
        seen = self.counts()[service]
        handshakes = seen["full"] + seen["resumed"] - before["full"] \
            - before["resumed"]
        resumed = (seen["resumed"] - before["resumed"]) / max(1, handshakes)
        self.release(proxy, tools)
        return [{"kb": step, "resumed": resumed} for step in steps]

    def idle_rows(self, chosen):
        for row, work in (("idle", "pop3"), ("idle-cold", "cold")):
            found = {}
            for proxy in chosen:
                steps = self.growth_of_memory(proxy, work)
                found[proxy.name] = steps
                say(f"  {row} {proxy.name}: " + " ".join(
                    f"{step['kb']:.1f}" for step in steps)
                    + f" kB, {steps[0]['resumed']:.0%} resumed")
            self.results[row] = found

    def growth_row(self, chosen):
        """CPU a session with few and with many idle sessions held."""
        found = {proxy.name: [] for proxy in chosen}
        for proxy in chosen:
            self.run(proxy, "pop3", WARM_UP)
        for number in range(STEPS):
            for proxy in chosen:
                tools = [self.hold(proxy, "pop3", FEW)]
                few = self.run(proxy, "pop3", SESSIONS["pop3"])
                tools.append(self.hold(proxy, "pop3", MANY - FEW))
                many = self.run(proxy, "pop3", SESSIONS["pop3"])
                self.release(proxy, tools)
                found[proxy.name].append(
                    {"few_ms": few["cpu_ms"], "many_ms": many["cpu_ms"],
                     "ratio": many["cpu_ms"] / few["cpu_ms"]})
            say(f"  growth {number + 1}/{STEPS}: " + ", ".join(
                f"{name} {runs[-1]['few_ms']:.3f} -> "
                f"{runs[-1]['many_ms']:.3f}"
                for name, runs in found.items()) + " ms")
        self.results["growth"] = found

    def go(self):
        tls = [proxy for proxy in self.all if "pop3" in proxy.works]
        plain = [proxy for proxy in self.all if "smtp" in proxy.works]
        for self.row in self.rows:
            began = time.monotonic()
            say(f"{self.row} ...")
            try:
                self.do_row(tls, plain)
            except (RuntimeError, TimeoutError, OSError) as error:
                self.failed.append(f"{self.row}: {error}")
                say(f"  ! could not be run: {error}")
            say(f"{self.row}: {time.monotonic() - began:.0f} s")

    def do_row(self, tls, plain):
        if self.row in ("pop3", "retr"):
            self.cpu_row(self.row, tls)
        elif self.row == "smtp":
            self.cpu_row(self.row, plain)
        elif self.row == "idle":
            self.idle_rows(tls)
        elif self.row == "lease":
            self.results["lease"] = live.leases(self.ours.daemon, STEPS, say)
        elif self.row == "edit":
            self.results["edit"] = live.edits(self.ours.daemon, STEPS, say)
        else:
            self.growth_row([proxy for proxy in tls
                             if proxy.name in ("Sallyport", "nginx")])

    def end(self):
        for proxy in self.all:
            proxy.stop()
        for tool in self.servers:
            tool.end()


# The table -----------------------------------------------------------------

TITLES = {
    "pop3": ("POP3 session, plain to TLS, CPU", "ms", "cpu_ms"),
    "retr": ("same with RETR of 256 KiB, CPU", "ms", "cpu_ms"),
    "idle": ("idle logged-in session, PSS, resumed", "kB", "kb"),
    "idle-cold": ("idle logged-in session, PSS, cold", "kB", "kb"),
    "smtp": ("SMTP session, 4 KB mail, plain, CPU", "ms", "cpu_ms"),
    "growth": (f"POP3 CPU, {MANY:,} idle / {FEW} idle", "x", "ratio"),
}
# What PERFORMANCE.md asks for: against whom, bound, words.
TARGETS = {
    "pop3": ("nginx", 0.90, "<= 0.90 x nginx"),
    "retr": ("nginx", 0.90, "<= 0.90 x nginx"),
    "idle": (None, 17.0, "<= 17 kB"),
    "smtp": ("HAProxy", 1.30, "<= 1.3 x HAProxy"),
    "growth": (None, 1.10, "0.90 to 1.10"),
}


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def mean(runs, key):
    """Of figures that come in clock ticks."""
    return statistics.fmean(run[key] for run in runs)


def paired(ours, theirs, key):
    """Median of the ratios within a round."""
    return statistics.median(a[key] / b[key] for a, b in zip(ours, theirs))


def row_of(name, found):
    title, unit, key = TITLES[name]
    figures = {proxy: median(runs, key) for proxy, runs in found.items()}
    ours = found["Sallyport"]
    peers = {p: v for p, v in figures.items() if p != "Sallyport"}
    best = min(peers, key=peers.get)
    row = {"row": name, "title": title, "unit": unit, "figures": figures,
           "best_peer": best, "target": "stated", "met": None,
           "ratio_to_best": paired(ours, found[best], key)}
    if name == "growth":
        row["ratio_to_best"] = None
    if name in TARGETS:
        against, bound, row["target"] = TARGETS[name]
        value = paired(ours, found[against], key) if against \
            else figures["Sallyport"]
        row["measured"] = value
        row["met"] = value <= bound and (name != "growth" or value >= 0.90)
    return row


def table(rows, order):
    head = ["work", "unit", *order, "/best peer", "target", "measured", ""]
    lines = [head]
    for row in rows:
        digits = 3 if row["unit"] == "ms" else 1 if row["unit"] == "kB" else 2
        lines.append([row["title"], row["unit"]] + [
            f"{row['figures'][name]:.{digits}f}" if name in row["figures"]
            else "-" for name in order] + [
            "-" if row["ratio_to_best"] is None
            else f"{row['ratio_to_best']:.2f} {row['best_peer']}",
            row["target"],
            f"{row['measured']:.2f}" if "measured" in row else "-",
            {True: "met", False: "NOT MET", None: ""}[row["met"]]
            + (" (with losses)" if row["losses"] else "")])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(
        cell.ljust(width) if i in (0, 1) or i > len(order) + 1
        else cell.rjust(width) for i, (cell, width)
        in enumerate(zip(line, widths))).rstrip() for line in lines)


def details(results):
    """What stands beside the CPU figures: split, machine, latency, resumed."""
    lines = []
    for name in ("pop3", "retr", "smtp"):
        for proxy, runs in results.get(name, {}).items():
            lines.append(
                f"{name:5} {proxy:10} best "
                f"{min(run['cpu_ms'] for run in runs):.3f}  "
                f"user {mean(runs, 'user_ms'):.3f}  "
                f"system {mean(runs, 'system_ms'):.3f}  machine "
                f"{median(runs, 'machine_ms'):.3f} ms  "
                f"p50 {median(runs, 'p50_ms'):.1f}  "
                f"p99 {median(runs, 'p99_ms'):.1f} ms"
                + ("" if name == "smtp" else
                   f"  resumed {median(runs, 'resumed'):.1%}"))
            lines += parts(runs)
    return "\n".join(lines)


def parts(runs):
    """What each process of a proxy took of it, when it has several."""
    comms = {comm for run in runs for comm in run["parts_ms"]}
    if len(comms) < 2:
        return []
    each = {comm: statistics.median(run["parts_ms"].get(comm, 0)
                                    for run in runs) for comm in comms}
    return ["      of which " + ", ".join(
        f"{comm} {value:.3f}" for comm, value in sorted(
            each.items(), key=lambda pair: -pair[1]) if value >= 0.001)]


def machine():
    model = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(),
            "kernel": platform.release()}


def commit():
    """The commit, with a + when the tree differs from it."""
    said = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", daemon.REPO, "describe",
         "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
        check=False, capture_output=True, text=True)
    return said.stdout.strip() or "?"


def versions(bench):
    openssl = subprocess.run(["openssl", "version"], check=False,
                             capture_output=True, text=True).stdout.split()
    found = {proxy.name: proxy.version for proxy in bench.all}
    found["OpenSSL"] = openssl[1] if len(openssl) > 1 else "?"
    return found


def say(text):
    print(text, flush=True)


def main(args):
    rows = args or list(ALL)
    for row in rows:
        if row not in ALL:
            print(f"bench: no row {row!r}; there are {' '.join(ALL)}",
                  file=sys.stderr)
            return 2
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    began = time.monotonic()
    bench = Bench(rows)
    about = {"machine": machine(), "versions": versions(bench),
             "commit": commit(), "rounds": ROUNDS, "steps": STEPS,
             "at_once": AT_ONCE, "load_before": os.getloadavg()[0]}
    say(f"bench: {about['machine']['cpu']}, {about['machine']['cores']} cores, "
        f"Linux {about['machine']['kernel']}; commit {about['commit']}; "
        + ", ".join(f"{k} {v}" for k, v in about["versions"].items()))
    if about["load_before"] > 1:
        say(f"the machine is not idle (load {about['load_before']:.1f}): "
            "trust the ratios, not the figures")
    bench.go()
    bench.end()
    found = [row_of(name, bench.results[name])
             for name in TITLES if name in bench.results]
    order = [proxy.name for proxy in bench.all]
    for row in found:
        row["losses"] = [text for which, text in bench.lost
                         if which == row["row"].split("-")[0]]
    if found:
        say("\n" + table(found, order) + "\n\n" + details(bench.results))
    if live.lines_of(bench.results):
        say("\n" + live.lines_of(bench.results))
    say(f"\nmedians of {ROUNDS} rounds (memory, growth: {STEPS}), {AT_ONCE} "
        "sessions at once, one worker each; "
        f"{time.monotonic() - began:.0f} s")
    if bench.lost:
        say(f"{len(bench.lost)} times something was lost:")
        for row, text in bench.lost:
            say(f"  {row}: {text}")
    else:
        say("no session and no octet lost")
    out = daemon.BUILD / "bench.json"
    out.write_text(json.dumps({**about, "rows": found, "runs": bench.results,
                               "failed": bench.failed}, indent=1) + "\n")
    say(f"figures of every run: {out}")
    for text in bench.failed:
        print(f"bench: could not be run: {text}", file=sys.stderr)
    return 1 if bench.failed else 0
