"""The load generator and the servers of tests/bench, as processes of the lab."""

import json
import subprocess
import threading
from pathlib import Path

import proc


class Tool:
    """One of them: JSON lines out, a line in."""

    def __init__(self, ns, argv, **more):
        self.process = subprocess.Popen(
            proc.enter_argv(ns, argv), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, **more)
        self.name = Path(argv[0]).name

    def hear(self, timeout=120):
        clock = threading.Timer(timeout, self.process.kill)
        clock.start()
        line = self.process.stdout.readline()
        clock.cancel()
        if not line:
            raise RuntimeError(f"{self.name} ended: {self.process.wait()}")
        return json.loads(line)

    def say(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ask(self):
        self.say()
        return self.hear()

    def end(self):
        self.process.stdin.close()
        self.process.wait()
