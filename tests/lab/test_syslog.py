"""What ships for others to read our log: the real rsyslogd and fail2ban-regex,
fetched and not installed, on lines that the daemon has just written."""

import os
import re
import socket
import time
from pathlib import Path

import pytest

import clients
import daemon
import mailers
import net
import proc
from test_why import cgn_config

ROOT = mailers.FETCHED / "root"
LIBRARIES = ROOT / "usr/lib" / f"{os.uname().machine}-linux-gnu"
CONF = Path(daemon.REPO) / "conf"
CGN = "198.18.64.1:2100"


@pytest.fixture(name="lines")
def fixture_lines(gate):
    """Of each kind some; every line is a zombie but `cleared'."""
    if not (ROOT / "usr/sbin/rsyslogd").exists():
        pytest.fail(f"tests/fetch-clients {mailers.FETCHED} was not run")
    before = daemon.CONF.read_text()
    gate.reconfigure(cgn_config())
    since = gate.here()
    try:
        for line in ("198.18.44.1", "2001:db8:1:4400::5", CGN, "198.18.44.2"):
            assert gate.cli("zombie", "add", line, "--why",
                            'said "zombie line=198.18.44.9 class="').ok
            assert gate.cli("zombie", "clear", line).ok
        assert gate.cli("allow", "add", "198.18.44.3").ok
        assert gate.cli("allow", "del", "198.18.44.3").ok
        clients.swaks("second", net.address("mxa", 4), "info@alpha.example",
                      "log", helo="zombie line=198.18.44.8 class=x")
        gate.wait_text(since, "block id=")
        return [line for line in gate.lines(since) if re.match(
            r"(?:<\d>)?(zombie|clear|allow|block) ", line)]
    finally:
        gate.reconfigure(before)


def datagrams(path, lines):
    """As lib/log.c writes them: RFC 3164 without a host, as at /dev/log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        proc.wait_until(lambda: sock.connect_ex(str(path)) == 0, "rsyslogd", 10)
        for line in lines:
            when = time.strftime("%b %e %H:%M:%S")
            sock.send(f"<22>{when} sallyportd[77]: {line}".encode())
        sock.send(b"<22>Nov 25 23:00:00 postfix/smtpd[5]: zombie line=1.2.3.4 "
                  b"class=none")


@pytest.fixture(name="files")
def fixture_files(lines, tmp_path):
    """The rule at work: what is in which file."""
    (tmp_path / "rule").write_text((CONF / "sallyport.rsyslog").read_text()
                                   .replace("/var/log/sallyport", str(tmp_path)))
    (tmp_path / "rsyslog.conf").write_text(f"""
global(workDirectory="{tmp_path}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{tmp_path}/log")
include(file="{tmp_path}/rule")
action(type="omfile" file="{tmp_path}/rest.log")
""")
    argv = ["env", f"LD_LIBRARY_PATH={LIBRARIES}", ROOT / "usr/sbin/rsyslogd",
            "-f", tmp_path / "rsyslog.conf", "-M", LIBRARIES / "rsyslog"]
    checked = proc.run("gw", [*argv, "-N1"])
    assert checked.ok and "error" not in checked.out.lower(), checked.out
    running = proc.spawn("gw", [*argv, "-n", "-i", tmp_path / "pid"],
                         proc.LOG / "rsyslogd.log")
    datagrams(tmp_path / "log", lines)
    rest = tmp_path / "rest.log"
    proc.wait_until(lambda: rest.exists() and "postfix" in rest.read_text(),
                    "the last line", 10)
    proc.stop(running)
    return {name: (tmp_path / f"{name}.log").read_text().splitlines()
            for name in ("levels", "operators", "sessions", "rest")}


def test_rsyslog_sorts_our_lines(lines, files):
    assert len(files["levels"]) == 8, files
    assert all(re.search(r"sallyportd\[77\]: (zombie|clear) line=", line)
               for line in files["levels"])
    assert len(files["operators"]) == 2, files
    assert "block id=" in files["sessions"][0] and len(files["sessions"]) == 1
    assert len(files["rest"]) == 1, files["rest"]
    # nothing is lost or cut
    text = "\n".join(sum(files.values(), []))
    assert all(line in text for line in lines)


def test_fail2ban_finds_zombies_and_nobody_else(files, tmp_path):
    filters = tmp_path / "filter.d"
    filters.mkdir()
    (filters / "common.conf").write_text(
        (ROOT / "etc/fail2ban/filter.d/common.conf").read_text())
    (filters / "sallyport.conf").write_text(
        (CONF / "sallyport.fail2ban").read_text())
    log = tmp_path / "all.log"
    log.write_text("\n".join(sum(files.values(), [])) + "\n")
    result = proc.run("gw", [
        "env", f"PYTHONPATH={ROOT / 'usr/lib/python3/dist-packages'}",
        "/usr/bin/python3", ROOT / "usr/bin/fail2ban-regex", "--config",
        tmp_path, "--print-all-matched", "-o", "ip", log,
        filters / "sallyport.conf"])
    assert result.ok, result.out
    found = sorted(line.strip() for line in result.out.splitlines()
                   if re.match(r"^[0-9a-f.:/]+$", line.strip()))
    assert found == ["198.18.44.1", "198.18.44.2", "2001:db8:1:4400::/56"], \
        result.out
