"""An interactive shell inside a raised lab."""

import os
import subprocess

import proc
import world


def main(args):
    ns = args[0] if args else "gw"
    lab = world.World()
    print(f"lab raised in {lab.seconds:.1f} s; you are in {ns}; "
          "nsenter --net=/run/netns/NAME for another (ls /run/netns)",
          flush=True)
    command = args[1:] or [os.environ.get("SHELL", "/bin/sh")]
    return subprocess.run(proc.enter_argv(ns, command), check=False,
                          env={**os.environ, "PS1": f"lab:{ns}# "}).returncode
