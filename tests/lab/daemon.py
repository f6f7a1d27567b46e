"""sallyportd in the gateway: start, stop, what it logs, what it holds."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import proc

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SALLYPORT_BUILD") or REPO / "build").resolve()
ETC = Path("/etc/sallyport")
CONF = ETC / "sallyport.conf"
SAMPLE = REPO / "conf" / "sallyport.conf.sample"

ALLOW = """\
198.18.3.99 port25=pass         # own mail server, ticket 4711
2001:db8:1:9900::/56 port25=pass  # the same line
"""
FIXED = "198.19.1.0/24\n2001:db8:3::/48\n"

# The sample with the waiting taken out: what the tests run.
QUICK = """\
gateway = {{
  name = "gw1.isp.example";
  workers = {workers};
  grace = {grace};
  {gateway}
}};
subscribers = (
  {{ class = "dynamic"; prefixes = ( "198.18.0.0/16", "2001:db8:1::/48" );
    port25 = "block"; enforce = "all"; }},
  {{ class = "legacy"; prefixes = ( "198.19.0.0/24", "2001:db8:2::/48" );
    port25 = "submit"; enforce = "all"; }},
  {{ class = "fixed"; prefixes_file = "fixed.txt"; port25 = "relay"; }}
);
allow = {{ file = "/etc/sallyport/allow.list"; }};
pass_destinations = ( "own" );
servers = (
  {{ name = "mail.isp.example"; submission = "{submission}"; starttls = 587;
    pop3 = "tls:995"; imap = "tls:993"; own = true; }},
  {{ name = "mx.isp.example"; own = true; }},
  {{ name = "odd.isp.example"; submission = "tls:465"; pop3 = "tls:995";
    imap = "tls:993"; }}
);
smtp = {{
  max_per_line = {per_line};
  block = {{ stage = "adaptive"; code = "550 5.7.1"; delay = {delay};
    text = ( "Outbound port 25 is closed on this line (OP25B).",
      "Set your mail program to your provider's submission server, port 587." );
    url = "https://isp.example/op25b"; }};
}};
pop3 = {{ wrap = "listed"; }};
imap = {{ wrap = "listed"; }};
nfq = {{ lines = 20000; }};
log = {{ wraps = true; per_minute = 0; {log} }};
"""

# The daemon's own, where captured connections come out.
LISTENER = 2525

EVENT = re.compile(r"(?:^|\s)(relay|block|submit|wrap|tunnel|publish|reset|"
                   r"alarm) "
                   r"(?=[a-z]+=)")
PAIR = re.compile(r'([a-z0-9_]+)=("(?:[^"\\]|\\.)*"|\S*)')
LEVEL = re.compile(r"^(?:<(?=[0-7]>))?([a-z]+|[0-7])[> ]")
BAD = {"0", "1", "2", "3", "4", "emerg", "alert", "crit", "critical", "err",
       "error", "warning", "warn", "panic"}
# What no log may say, at whatever level it comes.
UGLY = re.compile(r"AddressSanitizer|runtime error:|Assertion|SIGSEGV|"
                  r"LeakSanitizer|core dumped|double free")


def quick(workers=1, grace=2, delay=0, submission="tls:465", gateway="",
          per_line=20, log=""):
    return QUICK.format(workers=workers, grace=grace, delay=delay,
                        submission=submission, gateway=gateway,
                        per_line=per_line, log=log)


class Event(dict):
    """One session's line, as a dictionary of its fields, with its kind."""

    def __init__(self, kind, text):
        super().__init__((key, value.strip('"'))
                         for key, value in PAIR.findall(text))
        self.kind, self.text = kind, text

    def __str__(self):
        return self.text


def parse(line):
    found = EVENT.search(line)
    if not found:
        return None
    return Event(found.group(1), line[found.start(1):])


def is_bad(line):
    level = LEVEL.match(line)
    return bool(UGLY.search(line)) or bool(level and level.group(1) in BAD)


def sanitized():
    """Is this a sanitizer build? Its time and memory say nothing of ours."""
    return b"__asan_init" in (BUILD / "sallyportd").read_bytes()


def built():
    return (BUILD / "sallyportd").exists() and (BUILD / "sallyport").exists()


class Daemon:
    """One daemon of the lab, its rules, its log."""

    PORTS = (25, 110, 143)

    def __init__(self, config=None, ns="gw"):
        """config: text; None: the shipped sample, unchanged.  ns: where."""
        if not built():
            raise RuntimeError(f"no sallyportd and sallyport in {BUILD}; make")
        self.log = proc.LOG / "sallyportd.log"
        self.log.touch()
        self.process, self.ns = None, ns
        self.read = 0       # lines of the log that a test has answered for
        (ETC / "allow.list").write_text(ALLOW)
        (ETC / "fixed.txt").write_text(FIXED)
        if config is None:
            shutil.copyfile(SAMPLE, CONF)
        else:
            CONF.write_text(config)

    # Life ------------------------------------------------------------------

    def cli(self, *args, timeout=40, text=None):
        """text: what stands on standard input."""
        return proc.run(self.ns, [BUILD / "sallyport", "-c", CONF, *args],
                        timeout=timeout, text=text)

    def rules(self, verb, *args):
        return self.cli("rules", verb, *args)

    def start(self, rules=True):
        self.process = proc.spawn(
            self.ns, [BUILD / "sallyportd", "-d", "-c", CONF], self.log,
            start_new_session=True)
        proc.wait_ports(self.process, (LISTENER,), "sallyportd")
        if rules:
            self.apply()
        return self

    def apply(self):
        result = self.rules("apply")
        if not result.ok:
            raise RuntimeError(f"rules apply: {result.code}\n{result.out}")
        self.wait_gate(True)

    def is_open(self, port=25, which="sallyport_live"):
        return proc.run(self.ns, ["ipset", "test", which, str(port)]).ok

    def wait_gate(self, want, timeout=15, ports=PORTS):
        def settled():
            if want and self.process.poll() is not None:
                raise RuntimeError("sallyportd ended with "
                                   f"{self.process.returncode}\n"
                                   + proc.tail(self.log))
            return all(self.is_open(port) == want for port in ports)
        proc.wait_until(settled, "the gate to " + ("open" if want else "shut"),
                        timeout, pause=0.1)

    def wait_all(self, timeout=20):
        """Until the grace time is over and every packet is captured."""
        proc.wait_until(lambda: self.is_open(25, "sallyport_all"),
                        "the grace time to end", timeout, pause=0.1)

    def restart(self, config):
        """Stop it, and start it with another configuration."""
        code = self.stop()
        assert code == 0, f"sallyportd ended with {code}"
        CONF.write_text(config)
        self.start()
        self.wait_all()

    def reconfigure(self, config):
        """Reload another configuration, until only new relays are there."""
        old = set(self.relays())
        CONF.write_text(config)
        result = self.cli("reload")
        assert result.ok, result
        proc.wait_until(lambda: self.relays() and
                        not old & set(self.relays()), "old relays to leave")

    def stop(self, number=signal.SIGTERM):
        return proc.stop(self.process, number, 20) if self.process else None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    # Processes -------------------------------------------------------------

    def pids(self):
        """The daemon and all that descend from it."""
        if not self.alive():
            return []
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            fields = stat.rsplit(")", 1)[1].split()
            # what looks after the rules lives for a moment, and so its tools
            if fields[0] != "Z" and stat.split("(", 1)[1].rsplit(")", 1)[0] \
                    != "sallyport:rules":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found, front = [], [self.process.pid]
        while front:
            pid = front.pop(0)
            found.append(pid)
            front += sorted(parents.get(pid, []))
        return found

    def children(self):
        return self.pids()[1:]

    def relays(self):
        return [pid for pid in self.children()
                if status(pid).get("Uid", "").split()[:1]
                == [str(user_id("sallyport-relay"))]]

    def only(self, title):
        """The one process of this title: a predecessor may yet be leaving."""
        return proc.wait_until(
            lambda: (lambda pids: pids[0] if len(pids) == 1 else None)(
                self.named(title)), f"exactly one {title}", 10)

    def named(self, comm):
        return [pid for pid in self.children()
                if status(pid).get("Name", "").strip() == comm]

    def status(self):
        return json.loads(self.cli("--json", "status").out)

    def signal_all(self, number):
        for pid in self.pids():
            os.kill(pid, number)

    def kill_all(self):
        """kill -9 of everything at once: the parent, stopped first, sees no
        child die and starts none again."""
        pids = self.pids()
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        proc.wait_until(lambda: not any(map(status, pids)),
                        "the last of them to be gone")

    def holdings(self):
        """Descriptors of every process, sorted, without the spare sockets.

        A relay keeps up to two batches of unused upstream sockets ready, so
        their number moves; what is in no kernel table is such a spare, or the
        leak of a dead connection: more than the batches allow counts.
        """
        counts = []
        for pid in self.pids():
            kept, spare = descriptors(pid)
            counts.append(kept + max(0, spare - 256))
        return sorted(counts)

    def at_rest(self):
        """holdings(), once two looks in a row agree."""
        seen = []

        def settled():
            seen.append(self.holdings())
            return len(seen) > 1 and seen[-1] == seen[-2]
        proc.wait_until(settled, "descriptors to settle", pause=0.1)
        return seen[-1]

    def wait_holdings(self, want, timeout=20):
        try:
            proc.wait_until(lambda: self.holdings() == want,
                            f"descriptors back to {want}", timeout, pause=0.1)
        except TimeoutError as error:
            raise AssertionError(f"{error}; now {self.holdings()}\n"
                                 + self.describe()) from None

    def describe(self):
        lines = []
        for pid in self.pids():
            names = Counter(re.sub(r"\d+", "N", name)
                            for name in links(pid).values())
            lines.append(f"{pid}: {dict(names)}")
        return "\n".join(lines)

    # Log -------------------------------------------------------------------

    def lines(self, since=0):
        """Whole lines only: a write over the end of a page is seen by halves."""
        text = self.log.read_text(errors="backslashreplace")
        return text[:text.rfind("\n") + 1].splitlines()[since:]

    def here(self):
        return len(self.lines())

    def wait_event(self, since, *kinds, timeout=15, **fields):
        """The first event since a place in the log with these fields."""
        def look():
            for line in self.lines(since):
                event = parse(line)
                if event and (not kinds or event.kind in kinds) and all(
                        event.get(key) == value
                        for key, value in fields.items()):
                    return event
            return None
        try:
            return proc.wait_until(look, f"{'|'.join(kinds)} {fields}", timeout)
        except TimeoutError as error:
            raise AssertionError(
                f"{error}; the log since then:\n"
                + "\n".join(self.lines(since))) from None

    def wait_text(self, since, pattern, timeout=15):
        """A log line that matches; it counts as read, whatever its level."""
        def look():
            return next((line for line in self.lines(since)
                         if re.search(pattern, line)), None)
        try:
            return proc.wait_until(look, f"/{pattern}/ in the log", timeout)
        except TimeoutError as error:
            raise AssertionError(
                f"{error}; the log since then:\n"
                + "\n".join(self.lines(since))) from None

    def bad_lines(self, since):
        return [line for line in self.lines(since) if is_bad(line)]


def status(pid):
    """/proc/PID/status as a dictionary."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines()
                if ":\t" in line)


def user_id(name):
    for line in Path("/etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2])
    raise KeyError(name)


def links(pid):
    found = {}
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                found[entry.name] = os.readlink(entry.path)
            except OSError:
                continue
    except OSError:
        pass
    return found


def probes(pid):
    """Sockets of the parent's self-test: connections to its own listener, closed
    and opened anew each second, so that there is now and then one less."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()
        except OSError:
            continue
        for field in map(str.split, lines[1:]):
            if len(field) > 9 and field[2].endswith(f":{LISTENER:04X}"):
                found.add(field[9])
    return found


def descriptors(pid):
    """(descriptors of a process, sockets among them that no table knows)."""
    known, ours = set(), probes(pid)
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        known |= table_inodes(f"/proc/{pid}/net/{table}", 9)
    known |= table_inodes(f"/proc/{pid}/net/unix", 6)
    known |= table_inodes(f"/proc/{pid}/net/netlink", 9)
    known |= table_inodes(f"/proc/{pid}/net/packet", 8)
    kept = spare = 0
    for name in links(pid).values():
        if name.startswith("socket:[") and name[8:-1] in ours:
            continue
        if name.startswith("socket:[") and name[8:-1] not in known:
            spare += 1
        else:
            kept += 1
    return kept, spare


def table_inodes(path, column):
    try:
        lines = Path(path).read_text().splitlines()[1:]
    except OSError:
        return set()
    return {fields[column] for fields in map(str.split, lines)
            if len(fields) > column}


def pss(pid):
    """Proportional set size in kB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))


@contextlib.contextmanager
def rules_locked():
    """Nobody looks after the rules, or applies them, meanwhile."""
    with contextlib.ExitStack() as stack:
        for path in Path("/run").glob("sallyport-rules.*"):
            stream = stack.enter_context(open(path, "rb"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def kernel_state(ns="gw"):
    """Everything `rules` may touch in the gateway, comparable."""
    parts = []
    for argv in (["iptables-save"], ["ip6tables-save"], ["ipset", "list"],
                 ["ip", "-4", "rule"], ["ip", "-6", "rule"],
                 ["ip", "-4", "route", "show", "table", "all"],
                 ["ip", "-6", "route", "show", "table", "all"]):
        text = proc.need(ns, argv)
        lines = [re.sub(r"\[\d+:\d+\]", "[0:0]", line).rstrip()
                 for line in text.splitlines() if not line.startswith("#")]
        lines = [re.sub(r" expires \d+sec", "", line) for line in lines]
        parts.append((" ".join(argv), lines))
    return parts


def plain_tables(state):
    """Without tables in which nothing is but empty built-in chains."""
    out = []
    for name, lines in state:
        if "tables-save" in name:
            text = "\n".join(lines)
            kept = []
            for table in re.findall(r"^\*(?:.*?)^COMMIT$", text, re.M | re.S):
                body = table.splitlines()
                if any(not re.match(r"^(\*|COMMIT|:[A-Z]+ ACCEPT )", row)
                       for row in body):
                    kept += body
            lines = kept
        out.append((name, lines))
    return out

