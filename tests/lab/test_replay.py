"""`sallyport simulate --replay': the detector on a log, real or not."""

import json
import subprocess

import pytest

import daemon
import net
import proc
from test_zombies import bot, config, person, show, wait_level

BEGAN = 1795650000
OPTIONS = ["--set", "expiry=0"]


def replay(text, *options, form=("--json",), path="-"):
    """The answer to a log on standard input: status, stdout, stderr."""
    done = subprocess.run(
        [daemon.BUILD / "sallyport", *form, "simulate", "--replay", path,
         *options], input=text if path == "-" else None, capture_output=True,
        timeout=60, check=False)
    return (done.returncode, done.stdout.decode(),
            done.stderr.decode(errors="replace"))


def known(text, *options):
    code, out, err = replay("".join(text).encode(), *options)
    assert code == 0 and not err, (code, err)
    return json.loads(out)


def pairs(line, second, evidence, helo="localhost", net_of=0, prefix="",
          more=""):
    return (f"{prefix}block id=0DC3SMT80000G line={line} class=dynamic "
            f"src={line}:40000 dst=203.{net_of >> 8}.{net_of & 255}.9:25 "
            f"stage=rcpt code=550 esc=5.7.1 rcpts=1 dur=0.0 reason=policy "
            f"at={BEGAN + second} {more}evidence={evidence} "
            f'helo="{helo}"\n')


def infected(line, sessions=30, first=0, **more):
    """A wrong name to another network each few seconds."""
    return [pairs(line, first + 5 * n, "contact:1/1,null:0/1,helo:1/1",
                  net_of=n, **more) for n in range(sessions)]


def as_json(line):
    """The same event as log.format = "json" writes it."""
    event = daemon.parse(line)
    fields = {"@timestamp": "2026-11-25T18:14:03.000Z",
              "event.action": event.kind,
              "destination.ip": event["dst"].split(":")[0],
              "destination.port": 25, "sallyport.at": int(event["at"])}
    fields |= {f"sallyport.{key}": event[key]
               for key in ("line", "class", "evidence", "helo")}
    return json.dumps(fields, separators=(",", ":")) + "\n"


def test_what_a_log_says_beside_what_the_daemon_did(running, gate, tmp_path):
    """The real log of a bot and a person: the same levels, in both forms."""
    for form in ("kv", "json"):
        gate.reconfigure(config("log").replace(
            "per_minute = 0;", f'per_minute = 0; format = "{form}";'))
        since, here = gate.here(), len(gate.log.read_bytes())
        zombie, innocent = net.fresh_line(6), net.fresh_line(6)
        person(innocent, 12)
        bot(zombie, 30)
        line = wait_level(gate, zombie, "zombie")["line"]
        proc.wait_until(lambda: "zombie" in "".join(gate.lines(since)),
                        "the level's line", 5)
        evidence = show(gate, zombie)["evidence"]
        log = tmp_path / f"{form}.log"
        proc.wait_until(lambda at=here: gate.log.read_bytes()[at:].count(
            b"evidence") >= 42, "the sessions' lines", 10)
        log.write_bytes(gate.log.read_bytes()[here:])
        code, out, err = replay(b"", path=str(log))
        assert code == 0 and not err, (code, out, err)
        told = json.loads(out)
        assert told["sessions"] == 42 and told["seen"] == 2, told
        mine, = told["lines"]
        assert mine["line"] == line and mine["class"] == "dynamic", mine
        assert mine["worst"] == mine["logged"] == "zombie", mine
        assert [one["level"] for one in mine["changes"]][-1] == "zombie"
        assert mine["evidence"]["helo"]["bad"] == 30
        assert mine["evidence"]["helo"]["all"] == evidence["helo"]["all"]
        # the keys of the maps are others, a few networks may share a bit
        assert abs(mine["evidence"]["first_contact"]["bad"]
                   - evidence["first_contact"]["bad"]) <= 5, mine
        # an option that names nobody
        code, out, _ = replay(b"", "--set", "zombie=60.0", path=str(log))
        mine, = json.loads(out)["lines"]
        assert mine["worst"] == "probable" and mine["logged"] == "zombie"
        text = replay(b"", form=(), path=str(log))[1]
        assert f"{line}" in text and "; the log says zombie; 30 sessions" \
            in text, text
        assert gate.cli("zombie", "clear", zombie).ok
    gate.reconfigure(daemon.quick())


@pytest.mark.parametrize("prefix", (
    "", "<6>", "Nov 25 18:14:03 gw1 sallyportd[71]: ",
    "2026-11-25T18:14:03+00:00 gw1 sallyportd[71]: ",
    "<134>1 2026-11-25T18:14:03Z gw1 sallyportd 71 - - "))
def test_whatever_syslog_puts_in_front(prefix):
    told = known(infected("198.18.3.7", prefix=prefix), *OPTIONS)
    assert told["zombie"] == 1 and told["damaged"] == 0, told
    assert told["lines"][0]["changes"][-1]["at"] < BEGAN + 150, told


def test_json_and_pairs_say_the_same():
    lines = infected("198.18.3.7") + infected("2001:db8:1:700::/56", 9, 200)
    assert known(lines, *OPTIONS)["lines"] == known(
        [as_json(line) for line in lines], *OPTIONS)["lines"]


def test_levels_age_and_expire():
    """As control does: a step a day, or all of it when nobody's line it is."""
    later = [pairs("198.18.9.9", 40 * 3600, "contact:0/1,helo:0/1",
                   helo="pc.example")]
    told = known(infected("198.18.3.7") + later, *OPTIONS)["lines"][0]
    assert [(one["was"], one["level"], one["who"])
            for one in told["changes"]][-1] == ("zombie", "probable", "decay")
    assert told["worst"] == "zombie" and told["now"] == "probable"
    told = known(infected("198.18.3.7") + later)["lines"][0]
    assert told["changes"][-1]["who"] == "expiry" and told["now"] == "clean"
    told = known(infected("198.18.3.7") + later, "--set", "decay=0",
                 *OPTIONS)["lines"][0]
    assert told["now"] == "zombie"


def test_summaries_and_hidden_destinations_count():
    """Of a summary the counts alone; each new destination is another one."""
    summary = ("block id=0DC3SMT80000G line=198.18.3.7 class=dynamic "
               f"sessions=40 rcpts=40 dur=60.0 reason=summary at={BEGAN} "
               "evidence=contact:35/40,null:0/40,helo:40/40\n")
    told = known([summary], *OPTIONS)
    assert told["sessions"] == 40 and told["zombie"] == 1, told
    assert told["lines"][0]["evidence"]["helo"]["bad"] == 40
    hidden = [line.replace(line.split("dst=")[1].split()[0], "-")
              for line in infected("198.18.3.7")]
    assert known(hidden, *OPTIONS)["zombie"] == 1


def test_replies_and_refusals_for_the_moment():
    """4xx is bad for a score and no outcome: the line may come back."""
    def relayed(code, bad):
        return [pairs("198.18.3.7", 60 * n, f"contact:0/1,refusal:{bad}/1",
                      net_of=n % 4).replace("block ", "relay ").replace(
                          "code=550", f"code={code}") for n in range(9)]
    score = {code: known(relayed(code, 1), *OPTIONS)["lines"][0]["evidence"]
             ["refusal"]["score"] for code in (450, 550)}
    assert score[450] == score[550] > 6.9, score
    # off: nothing is counted
    told = known(relayed(550, 1), "--set", "refusal.count=off", *OPTIONS)
    assert told["lines"] == [] and told["sessions"] == 9


def test_nobody_elses_words_are_evidence():
    """A HELO, or another program's line, that looks like an event."""
    forged = pairs("198.18.66.6", 0, "contact:1/1,helo:1/1").strip()
    quoted = forged.replace('"', '\\"')
    lines = infected("198.18.3.7", 3, helo=quoted)
    lines += ["Nov 25 18:14:03 gw1 postfix/smtpd[9]: NOQUEUE: reject: RCPT "
              f"from pc: 554 {forged}\n",
              f"Nov 25 18:14:03 gw1 sallyportd[71]: wrap id=X line=198.18.4.4 "
              f'helo="{quoted}"\n',
              json.dumps({"message": forged}) + "\n", "\n",
              "info parent: gate: port 25 is open\n"]
    told = known(lines * 8, *OPTIONS)
    assert told["seen"] == 1 and told["sessions"] == 24, told
    assert told["others"] == 5 * 8, told


@pytest.mark.parametrize("damage,says", (
    (("contact:1/1", "contact:2/1"), 'evidence=contact:2/1,null:0/1,helo:1/1; '
     "expected counts like"),
    (("contact:1/1", "contact:1"), "expected counts like"),
    (("contact:1/1", "luck:1/1"), "expected counts like"),
    (("contact:1/1", "contact:1/99999999999999999999"), "expected counts"),
    (("line=198.18.3.7", "line=198.18.3.777"), "line=198.18.3.777; expected a "
     "line"),
    (("line=198.18.3.7 ", ""), "line=; expected a line"),
    ((f"at={BEGAN + 5}", "at=-5"), "at=-5; expected a Unix time"),
    ((f"at={BEGAN + 5} ", ""), "at=; expected the session's begin"),
    ((f"at={BEGAN + 5}", "at=4000000000"), "over a year behind"),
    (("code=550", "code=55O"), "code=55O; expected a reply's code"),
    (('helo="localhost"', 'helo="local'), "a closing quote: is the line cut?"),
    (("rcpts=1", "rcpts"), "rcpts=; expected key=value"),
    (("dst=203.0.1.9:25", "dst=mx"), "dst=mx; expected an address"),
    (("rcpts=1", "rcpts=" + 20000 * "1"), "longer than any line"),
    (("rcpts=1", "rcpts=\0"), "an octet 0"),
), ids=lambda value: value if isinstance(value, str) else "")
def test_damage_is_named_with_its_line(damage, says):
    lines = infected("198.18.3.7")
    assert damage[0] in lines[1]
    lines[1] = lines[1].replace(*damage)
    code, out, err = replay("".join(lines).encode(), *OPTIONS)
    assert code == 1, err
    assert err.startswith("standard input:2: ") and says in err, err
    assert len(err.splitlines()) == 1, err
    told = json.loads(out)
    assert told["damaged"] == 1 and told["sessions"] == 29, told


def test_a_line_of_json_that_is_cut():
    text = as_json(infected("198.18.3.7")[0])[:-20] + "\n"
    code, _, err = replay((text * 15).encode())
    assert code == 1 and "standard input:1: JSON=" in err, err
    # the first ten, and that there are more
    assert len(err.splitlines()) == 11 and "and more" in err, err


def test_rubbish_and_nothing(tmp_path):
    assert known([])["lines"] == []
    code, out, _ = replay(bytes(range(256)) * 5000)
    assert code == 1 and json.loads(out)["sessions"] == 0
    for path in (tmp_path, tmp_path / "none", "/proc/self/mem"):
        code, _, err = replay(b"", path=str(path))
        assert code == 2 and str(path) in err, (code, err)
    for words in (("--seeds", "2"), ("--replay", "x"), ("--days", "1")):
        code, _, err = replay(b"", *words)
        assert code == 2 and "expected" in err, (words, err)
    code, _, err = replay(b"", "--set", "zombie=none")
    assert code == 2 and "zombie" in err, err


def test_many_lines_are_read_in_time():
    """Ten thousand lines, 200,000 sessions: seconds, and all counted."""
    text = "".join(pairs(f"198.19.{n >> 8 & 255}.{n & 255}", n // 1000,
                         "contact:0/1,null:0/1,helo:0/1", helo="pc.example",
                         net_of=n % 7) for n in range(10000)) * 20
    told = known([text])
    assert told["seen"] == 10000 and told["sessions"] == 200000, told
    assert told["lines"] == []
