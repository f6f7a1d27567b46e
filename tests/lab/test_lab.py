"""The lab itself, before any daemon: mail really flows, both families, and
the scenes' instruments show what they are meant to show."""

import glob
import os
import re
import ssl
import subprocess
import sys

import pytest

import ca
import clients
import net
import proc
import scenes
from dovecot import PASSWORD
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))
pytestmark = pytest.mark.usefixtures("direct")


@FAMILIES
@pytest.mark.parametrize("line", sorted(net.LINES))
def test_every_line_reaches_both_mxs(world, family, line):
    for host, domain in (("mxa", "alpha"), ("mxb", "beta")):
        token = f"direct-{line}-{host}-{family}"
        result = clients.swaks(line, net.address(host, family),
                               f"info@{domain}.example", token)
        assert result.ok, result.out
        mail = world.wait_arrival(host, "info", token)
        assert net.address(line, family) + "]" in mail["Received"]


@FAMILIES
def test_submission_with_auth_goes_out_to_the_world(world, family):
    token = f"submission-{family}"
    result = clients.msmtp("legacy", net.address("isp", family),
                           "mail.isp.example", "info@beta.example", token,
                           auth="plain", port=587)
    assert result.ok, result.out
    mail = world.wait_arrival("mxb", "info", token)
    assert any("ESMTPSA" in line for line in mail.get_all("Received"))


@FAMILIES
def test_provider_takes_no_password_in_clear(world, family):
    isp = net.address("isp", family)
    result = clients.swaks_auth("legacy", isp, "info@beta.example", "clear")
    assert "did not advertise authentication" in result.out
    result = clients.mpop("legacy", isp, "user")
    assert "Plaintext authentication disallowed" in result.out


@FAMILIES
def test_apop_works_without_us(world, family):
    world.empty("yuki")
    world.put("yuki", clients.message("apop-direct", "a@alpha.example",
                                      "yuki@isp.example"))
    result = clients.fetchmail("legacy", net.address("isp", family),
                               user="yuki")
    assert "apop-direct" in result.mail, result.out


@FAMILIES
def test_mx_without_authentication_relays_nothing(world, family):
    result = clients.swaks("legacy", net.address("isp", family, 1),
                           "info@alpha.example", "no-relay")
    assert re.search(r"554 5\.7\.1 .*Relay access denied", result.out)


def names_seen(port, family):
    def look():
        context = ssl.create_default_context()
        context.check_hostname = False
        with net.socket.create_connection(
                (net.address("isp", family), port), 5) as raw:
            with context.wrap_socket(raw) as tls:
                return [name for _, name in
                        tls.getpeercert()["subjectAltName"]]
    return net.inside("legacy", look)


def test_certificate_can_be_swapped_and_put_back(world):
    good = list(ca.CERTIFICATES["isp"])
    for port in (465, 995, 993):
        assert names_seen(port, 4) == good
    world.show_certificate("wrong")
    try:
        for port in (465, 995, 993):
            assert names_seen(port, 6) == ["www.elsewhere.example"]
    finally:
        world.show_certificate("isp")
    for port in (465, 995, 993):
        assert names_seen(port, 4) == good


@FAMILIES
@pytest.mark.parametrize("mechanism", ("PLAIN", "LOGIN"))
def test_capture_would_show_a_password_in_clear(world, family, mechanism):
    """The instrument of the wrong-name scene, shown something to find."""
    with net.Capture("gw", "up0", "tcp") as capture:
        with Peer("legacy", net.address("mxa", family), 25) as peer:
            peer.reply()
            text = (f"\0kenji@isp.example\0{PASSWORD}"
                    if mechanism == "PLAIN" else PASSWORD)
            peer.ask("AUTH PLAIN "
                     + scenes.base64.b64encode(text.encode()).decode())
        seen = capture.bytes()
    assert any(needle in seen for needle in scenes.needles(PASSWORD))


@FAMILIES
def test_narrow_path_needs_icmp(world, family):
    """Over 1,300 bytes the router speaks, and the upload still arrives."""
    net.narrow("mxa", 1300)
    try:
        with net.Capture("gw", "up0", "icmp or icmp6") as capture:
            token = f"narrow-direct-{family}"
            body = "".join(f"{n:060d}\n" for n in range(3400))
            result = clients.curl_smtp("allowed", net.address("mxa", family),
                                       "info@alpha.example", token, body=body,
                                       auth=False)
            assert result.ok, result.out
            world.wait_arrival("mxa", "info", token)
            seen = capture.bytes()
    finally:
        net.narrow("mxa", 0)
    where = 20 if family == 4 else 40
    kind = b"\x03\x04" if family == 4 else b"\x02\x00"
    packets = re.split(rb"(?=\x08\x00\x45|\x86\xdd\x60)", seen)
    assert any(packet[2 + where:4 + where] == kind for packet in packets), \
        "no ICMP error of the router was seen"


PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")


def outside():
    """The environment in which another lab begins."""
    return {key: value for key, value in os.environ.items()
            if key != "SALLYPORT_LAB_INSIDE"}


def test_two_labs_at_once_do_not_collide(world):
    """A lab inside this one sees nothing of it, and leaves nothing."""
    before = proc.run("gw", ["ip", "netns"]).out
    result = subprocess.run(
        [sys.executable, PROGRAM, "shell", "dynamic", "sh", "-c",
         "swaks -4 --server 203.0.113.25 --to info@alpha.example "
         "--from a@b.example --header 'Subject: inner' >/dev/null"],
        env=outside(), capture_output=True, text=True, timeout=60,
        check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert world.arrived("mxa", "info", "inner") is None
    assert proc.run("gw", ["ip", "netns"]).out == before


def test_killed_lab_is_gone_completely(world):
    """kill -9 of the outer process: every server ends with it."""
    def alive():
        found = 0
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as stream:
                    found += b"postfix/sbin/master" in stream.read()
            except OSError:
                continue
        return found
    before = alive()
    assert before == 3
    inner = subprocess.Popen(
        [sys.executable, PROGRAM, "shell", "gw", "sleep", "1000"],
        env=outside(), stdout=subprocess.PIPE, text=True)
    try:
        assert inner.stdout.readline().startswith("lab raised")
        assert alive() == 2 * before
    finally:
        inner.kill()
        inner.wait()
    proc.wait_until(lambda: alive() == before, "the other lab's end")
