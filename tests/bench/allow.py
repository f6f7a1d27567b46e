#!/usr/bin/python3
"""An allowlist of half a million prefixes: from the file into the kernel.

  allow.py [--runs N] [--json FILE]

Beside one bare `ipset restore' of the same entries, in turns: `sallyport rules
apply' with an allow file that has just got them, everything else being there.
It reads and checks the file, computes the sets, restores into a second set and
swaps.  Seconds of wall time, medians, and the ratio of each pair.

SALLYPORT_BUILD names the directory with the programs (default: build/).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SALLYPORT_BUILD",
                            HERE.parent.parent / "build")).resolve()
INSIDE = "SALLYPORT_BENCH_ALLOW"
COUNT = 500000
WORK = Path("/run/bench")
CONFIG = """
gateway = { name = "gw"; };
subscribers = ( { class = "lines"; prefixes = ( "198.18.0.0/15" );
  port25 = "block"; enforce = "all"; } );
allow = { file = "/run/bench/allow.list"; };
"""


def sh(text, **more):
    subprocess.run(["sh", "-ec", text], check=True, **more)


def seconds(argv, **more):
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **more)
    return time.monotonic() - began


def entries():
    """Single addresses, as exempt lines are, in no order."""
    chosen = random.Random(25).sample(range(1 << 24), COUNT)
    return [f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in chosen]


def bare(text):
    subprocess.run(["ipset", "destroy", "bare"], check=False,
                   stderr=subprocess.DEVNULL)
    return seconds(["ipset", "restore"], input=text)


def ours(addresses):
    """From an empty list to the full one."""
    apply = [BUILD / "sallyport", "-c", WORK / "conf", "rules", "apply"]
    (WORK / "allow.list").write_text("")
    seconds(apply)
    (WORK / "allow.list").write_text("\n".join(addresses) + "\n")
    took = seconds(apply)
    head = subprocess.run(["ipset", "list", "-t", "sallyport_allow4"],
                          check=True, capture_output=True, text=True).stdout
    assert f"Number of entries: {COUNT}" in head, head
    return took


def run(options):
    sh(f"mount -t tmpfs tmpfs /run; mkdir -p {WORK}; ip link set lo up; "
       "sysctl -qw net.ipv4.ip_forward=1")
    (WORK / "conf").write_text(CONFIG)
    addresses = entries()
    # as `rules apply' makes its own: no resizing on either side
    text = ("create bare hash:net hashsize 524288 maxelem 2097152 timeout 0\n"
            + "".join(f"add bare {a}\n" for a in addresses)).encode()
    taken = {"bare": [], "ours": []}
    for _ in range(options.runs):
        taken["bare"].append(bare(text))
        taken["ours"].append(ours(addresses))
    ratio = statistics.median(o / b for o, b in zip(taken["ours"],
                                                    taken["bare"]))
    print(f"{COUNT} allowlist entries, file to kernel, median of "
          f"{options.runs}: ipset restore {statistics.median(taken['bare']):.2f}"
          f" s, rules apply {statistics.median(taken['ours']):.2f} s, "
          f"ratio {ratio:.2f}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(
            {"entries": COUNT, "seconds": taken, "ratio": ratio}, indent=1)
            + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
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
