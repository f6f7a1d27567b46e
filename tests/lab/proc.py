"""Processes in a namespace, and waiting for a state instead of sleeping."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LOG = Path("/run/lab/log")


@dataclass
class Result:
    """What a program said and how it ended; streams are one conversation."""
    argv: list
    code: int
    out: str

    @property
    def ok(self):
        return self.code == 0


def enter_argv(ns, argv):
    return ["nsenter", f"--net=/run/netns/{ns}", "--"] + [str(a) for a in argv]


def run(ns, argv, text=None, timeout=40, env=None, binary=False):
    """Run argv in namespace ns to its end; never raises for its status."""
    started = subprocess.Popen(
        enter_argv(ns, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
        start_new_session=True)
    data = text.encode() if isinstance(text, str) else text
    try:
        out, _ = started.communicate(data, timeout=timeout)
        code = started.returncode
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        out, _ = started.communicate()
        out += f"\n[lab: killed after {timeout} s]\n".encode()
        code = -9
    return Result(argv, code,
                  out if binary else out.decode("utf-8", "backslashreplace"))


def need(ns, argv, **more):
    """run(), for steps of the lab itself: anything but success is fatal."""
    result = run(ns, argv, **more)
    if not result.ok:
        raise RuntimeError(f"{ns}: {' '.join(map(str, argv))}: "
                           f"{result.code}\n{result.out}")
    return result.out


def spawn(ns, argv, log, **more):
    """Start argv in ns; both streams go to the file log."""
    with open(log, "ab") as stream:
        return subprocess.Popen(enter_argv(ns, argv), stdin=subprocess.DEVNULL,
                                stdout=stream, stderr=stream, **more)


def wait_until(condition, what, timeout=10, pause=0.02):
    """Poll condition() until it is true and return its value."""
    limit = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= limit:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(pause)


def listening(pid):
    """TCP ports listened on in the network namespace of process pid."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            field = line.split()
            if field[3] == "0A":
                ports.add((table, int(field[1].rsplit(":", 1)[1], 16)))
    return ports


def wait_ports(process, ports, what, timeout=15):
    """Wait until process's namespace listens on every port."""
    def ready():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode}")
        have = {port for _, port in listening(process.pid)}
        return set(ports) <= have
    wait_until(ready, f"{what} to listen on {sorted(ports)}", timeout)


def stop(process, number=signal.SIGTERM, timeout=10):
    """End a process that we started."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def tail(path, count=20):
    try:
        return "\n".join(Path(path).read_text(
            errors="backslashreplace").splitlines()[-count:])
    except OSError as error:
        return f"({error})"
