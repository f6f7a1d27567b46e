"""Play every scene in front of people."""

import argparse
import sys
import textwrap

import daemon
import scenes
import world


def main(args):
    parser = argparse.ArgumentParser(
        prog="lab demo", description="the main job between real mail programs "
        "and real mail servers, with the shipped sample configuration")
    parser.add_argument("-4", dest="families", action="store_const",
                        const=(4,), default=(4, 6), help="IPv4 only")
    parser.add_argument("-6", dest="families", action="store_const",
                        const=(6,), help="IPv6 only")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="scenes: " + ", ".join(
                            s.__name__.replace("_", "-")
                            for s in scenes.SCENES))
    options = parser.parse_args(args)
    print("Raising the lab: five lines, a gateway, an internet, two MXs, a "
          "provider, DNS, a CA ...", flush=True)
    lab = world.World()
    print(f"  raised in {lab.seconds:.1f} s: real Postfix, Dovecot, dnsmasq",
          flush=True)
    gate = daemon.Daemon().start()
    print(f"  sallyportd runs with {daemon.SAMPLE.name}, unchanged; "
          "`sallyport rules apply` done\n", flush=True)
    plays = [scenes.Play(function, lab, gate, family)
             for family in options.families for function in scenes.SCENES
             if chosen(function, options.names)]
    good = 0
    for number, play in enumerate(plays, 1):
        play.since = gate.here()
        tell(number, len(plays), play.run())
        good += play.ok
    code = gate.stop()
    if code:
        print(f"sallyportd ended with status {code}", file=sys.stderr)
    bad = len(plays) - good
    print(f"demo: {len(plays)} scenes, {good} as expected")
    return 1 if bad or code or not plays else 0


def chosen(function, names):
    return not names or function.__name__.replace("_", "-") in names


def tell(number, total, play):
    bar = "─" * 78
    print(f"{bar}\n[{number}/{total}] IPv{play.family}: {play.title}"
          f"  ({play.seconds:.1f} s)")
    block("who", play.did)
    block("said", play.words)
    block("arrived", play.arrivals)
    block("log", play.log_lines)
    for want, good, got in play.checks:
        if not good:
            block("EXPECTED", [want])
            block("GOT", got.splitlines()[-30:])
    if not play.ok:
        block("log tail", play.daemon.lines(play.since)[-20:])
    count = len(play.checks)
    verdict = ("as expected" if play.ok else "NOT AS EXPECTED")
    print(f"  => {verdict} ({sum(c[1] for c in play.checks)} of {count} "
          "checks)\n", flush=True)


def block(label, lines):
    for line in lines:
        wrapped = textwrap.wrap(line, 150, subsequent_indent="    ") or [""]
        for part in wrapped:
            print(f"  {label:9} {part}")
            label = ""
