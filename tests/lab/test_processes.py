"""Privileges as /proc shows them, and secrets as the wire shows them."""

import json
import os
import time

import pytest

import clients
import daemon
import net
import scenes
from dovecot import PASSWORD
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))


def test_relay_has_no_capability_and_its_own_user(gate):
    relay, = gate.relays()
    status = daemon.status(relay)
    for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 0, f"{name} {status[name]}"
    user = str(daemon.user_id("sallyport-relay"))
    assert set(status["Uid"].split()) == {user}
    assert "0" not in status["Gid"].split()
    assert status.get("Groups", "").split() in ([], [status["Gid"].split()[0]])
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_relay_sees_an_empty_root(gate):
    if daemon.sanitized():
        pytest.skip("a sanitizer build keeps /proc in sight: its leak check "
                    "reads it")
    relay, = gate.relays()
    assert os.listdir(f"/proc/{relay}/root/") == []


def test_control_has_no_capability_and_its_own_user(gate):
    control = gate.only("sallyport:ctl")
    status = daemon.status(control)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == 0, f"{name} {status[name]}"
    assert set(status["Uid"].split()) == {str(daemon.user_id("sallyport"))}
    assert status["NoNewPrivs"] == "1"


def test_nfq_keeps_the_one_capability_of_its_verdicts(gate):
    nfq, = gate.named("sallyport:nfq")
    status = daemon.status(nfq)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) & ~(1 << 12) == 0, f"{name} {status[name]}"
    assert set(status["Uid"].split()) == {str(daemon.user_id("sallyport"))}
    assert status["NoNewPrivs"] == "1"


# linux/capability.h: KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
# NET_ADMIN, NET_RAW, SYS_CHROOT.
PARENT = sum(1 << n for n in (5, 6, 7, 8, 10, 12, 13, 18))


def test_parent_keeps_only_what_it_needs(gate):
    status = daemon.status(gate.process.pid)
    extra = int(status["CapEff"], 16) & ~PARENT
    assert extra == 0, f"CapEff {status['CapEff']}, too much: {extra:#x}"


def test_status_answers(gate):
    result = gate.cli("status")
    assert result.ok, result.out
    result = gate.cli("status", "--json")
    assert result.ok, result.out
    assert json.loads(result.out), result.out


@FAMILIES
@pytest.mark.parametrize("mechanism", ("PLAIN", "LOGIN"))
def test_no_password_in_clear_upstream(world, gate, family, mechanism):
    """Of good sessions and of refused ones; POP3 too."""
    isp = net.address("isp", family)
    with net.Capture("gw", "up0", "tcp") as up, \
            net.Capture("gw", "legacy", "tcp") as down:
        result = clients.swaks_auth("legacy", isp, "hana@isp.example",
                                    "wire", mechanism=mechanism)
        assert result.ok, result.out
        result = clients.mpop("legacy", isp, "user", user="hana")
        assert result.ok, result.out
        sent, heard = up.bytes(), down.bytes()
    needles = scenes.needles(PASSWORD)
    assert any(needle in heard for needle in needles), \
        "the client's own leg is in clear: the capture must show it"
    assert not any(needle in sent for needle in needles)


@FAMILIES
def test_submission_by_starttls(world, running, family):
    """The other way in: the same scenes when the server's port is 587."""
    if 'submission = "starttls:587"' not in daemon.CONF.read_text():
        running.restart(daemon.quick(submission="starttls:587"))
    try:
        for function in (scenes.old_program_submits, scenes.no_auth_gets_530,
                         scenes.wrong_password_gets_535):
            play = scenes.Play(function, world, running, family).run()
            assert play.ok, play.report()
    finally:
        if family == 6:
            running.restart(daemon.quick())


def test_block_greets_late_and_notes_who_cannot_wait(running):
    """The delay is there, and talking into it is written down."""
    running.restart(daemon.quick(delay=2))
    try:
        target, since = net.address("mxa", 4), running.here()
        began = time.monotonic()
        with Peer("second", target, 25) as peer:
            assert peer.line().startswith("220"), peer
            assert 1.9 <= time.monotonic() - began < 4
            peer.ask("MAIL FROM:<a@b.example>")
            peer.ask("QUIT")
        event = running.wait_event(since, "block")
        assert "early" not in event, event
        since = running.here()
        with Peer("second", target, 25) as peer:
            peer.send("EHLO hasty")
            assert peer.line().startswith("220"), peer
            peer.reply()
            peer.ask("MAIL FROM:<a@b.example>")
            peer.ask("QUIT")
        event = running.wait_event(since, "block", early="1")
        assert event["helo"] == "hasty", event
    finally:
        running.restart(daemon.quick())
