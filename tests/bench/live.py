"""Rows of `make bench' about what operators change while the daemon runs.

lease  50,000 leases of one file, as after the restart of a BRAS: bound for the
       first time, all to other customers, and released; beside one transaction
       of as many rows in a bare SQLite file, on the same disk.
edit   one `sallyport allow add' and one `del', with 500,000 entries in the
       list: until the command has returned, which is when kernel and relays
       know it; beside `sallyport --version', which is a process that starts.
"""

import sqlite3
import statistics
import time

import daemon

LEASES, ENTRIES, EDITS = 50000, 500000, 100
SECONDS = 120


def need(gate, *args):
    result = gate.cli(*args, timeout=SECONDS)
    if not result.ok:
        raise RuntimeError(f"{' '.join(args[:2])}: {result.out}")
    return result


def timed(gate, *args):
    began = time.monotonic()
    need(gate, *args)
    return time.monotonic() - began


def address(base, n):
    return f"{base}.{n // 65536}.{n // 256 % 256}.{n % 256}"


def line(n):
    return f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"


def bare(rows):
    """Seconds of one durable transaction, and nothing else."""
    path = daemon.ETC / "bare.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE lease (line TEXT PRIMARY KEY, customer TEXT, "
               "since INTEGER) WITHOUT ROWID")
    began = time.monotonic()
    with db:
        db.executemany("INSERT INTO lease VALUES (?, ?, 1)", rows)
    took = time.monotonic() - began
    db.close()
    path.unlink()
    return took


def leases(gate, rounds, say):
    """[{bind, move, release, bare}] in seconds."""
    path, found = daemon.ETC / "storm", []
    for number in range(rounds):
        run = {}
        for verb, who in (("bind", "a"), ("move", "b"), ("release", None)):
            path.write_text("".join(
                f"{line(n)} {who}{n}\n" if who else f"{line(n)}\n"
                for n in range(LEASES)))
            run[verb] = timed(gate, "lease", "release" if who is None
                              else "bind", "--file", str(path))
        run["bare"] = bare([(line(n), f"a{n}") for n in range(LEASES)])
        found.append(run)
        say(f"  lease {number + 1}/{rounds}: " + ", ".join(
            f"{verb} {took:.2f} s" for verb, took in run.items()))
    path.unlink()
    return found


def edits(gate, rounds, say):
    """[{add, del, start}] in milliseconds: medians and worst of EDITS."""
    path, found = daemon.ETC / "many", []
    path.write_text("".join(f"{address(11, n)} # n\n" for n in range(ENTRIES)))
    need(gate, "allow", "import", str(path))
    path.unlink()
    for number in range(rounds):
        taken = {"add": [], "del": [], "start": []}
        for n in range(EDITS):
            one = line(70000 + n)
            taken["add"].append(timed(gate, "allow", "add", one))
            taken["del"].append(timed(gate, "allow", "del", one))
            taken["start"].append(timed(gate, "--version"))
        found.append({f"{what}_{word}": function(values) * 1e3
                      for what, values in taken.items()
                      for word, function in (("median", statistics.median),
                                             ("worst", max))})
        say(f"  edit {number + 1}/{rounds}: " + ", ".join(
            f"{what} {took:.1f}" for what, took in found[-1].items()) + " ms")
    return found


def lines_of(results):
    """What the rows say, one line each."""
    def median(row, key):
        return statistics.median(run[key] for run in results[row])
    told = []
    if "lease" in results:
        ratio = statistics.median(run["bind"] / run["bare"]
                                  for run in results["lease"])
        told.append(
            f"{LEASES} leases: bind {median('lease', 'bind'):.2f} s, to other "
            f"customers {median('lease', 'move'):.2f} s, release "
            f"{median('lease', 'release'):.2f} s; a bare SQLite transaction "
            f"{median('lease', 'bare'):.2f} s, ratio {ratio:.2f}; wanted: "
            "50,000 in 60 s")
    if "edit" in results:
        told.append(
            f"allow add among {ENTRIES} entries: median "
            f"{median('edit', 'add_median'):.1f} ms, worst of {EDITS} "
            f"{median('edit', 'add_worst'):.1f} ms; del "
            f"{median('edit', 'del_median'):.1f} ms; starting a process "
            f"{median('edit', 'start_median'):.1f} ms; wanted: 50 ms")
    return "\n".join(told)
