"""First packets: counted by nfq, refused by it, and never held by it."""

import os
import signal

import pytest

import daemon
import net
import proc
from peer import Peer

FAMILIES = pytest.mark.parametrize("family", (4, 6), ids=("v4", "v6"))

WATCHING = daemon.quick().replace('port25 = "block"; enforce = "all";',
                                  'port25 = "block"; enforce = "watch";')
REFUSING = daemon.quick().replace('port25 = "block"; enforce = "all";',
                                  'port25 = "reset"; enforce = "all"; '
                                  'count = true;')


def counts(gate):
    """nfq's counters, once packets are queued and the sums agree."""
    proc.wait_until(lambda: gate.is_open(25, "sallyport_nfq"),
                    "first packets to be queued", 20)

    def agreed():
        nfq = gate.status()["nfq"]
        return nfq["queued"] == nfq["accepted"] + nfq["reset"] + \
            nfq["dropped"] and nfq
    return proc.wait_until(agreed, "the counters to add up")


def greeting(line, host, family, **more):
    with Peer(line, net.address(host, family), 25, **more) as peer:
        return peer.line()


@pytest.fixture
def watching(running):
    running.restart(WATCHING)
    yield running
    running.restart(daemon.quick())


@pytest.fixture
def refusing(running):
    running.restart(REFUSING)
    yield running
    running.restart(daemon.quick())


@FAMILIES
def test_every_first_packet_is_counted_once(gate, family):
    before, lines = counts(gate), gate.status()["lines"]["known"]
    address = net.fresh_line(family)
    for _ in range(7):
        greeting("second", "mxa", family, source_address=(address, 0))
    after = counts(gate)
    assert after["queued"] - before["queued"] == 7
    assert after["accepted"] - before["accepted"] == 7
    assert gate.status()["lines"]["known"] == lines + 1
    # a provider's own host is a set's decision: nobody hears of it
    greeting("second", "isp", family, source_address=(address, 0))
    assert counts(gate)["queued"] == after["queued"]


@FAMILIES
def test_watch_counts_and_changes_nothing(watching, family):
    before = counts(watching)
    assert "mx.alpha.example ESMTP Postfix" in greeting("dynamic", "mxa",
                                                        family)
    after = counts(watching)
    assert after["queued"] - before["queued"] == 1
    assert after["accepted"] - before["accepted"] == 1


@FAMILIES
def test_reset_reaches_the_client_at_once(refusing, family):
    before = counts(refusing)
    with pytest.raises(ConnectionRefusedError):
        greeting("dynamic", "mxa", family, timeout=5)
    after = counts(refusing)
    assert after["reset"] - before["reset"] == 1
    # and the set's rule behind it, when nobody gives verdicts
    os.kill(refusing.named("sallyport:nfq")[0], signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        greeting("dynamic", "mxa", family, timeout=5)
    proc.wait_until(lambda: refusing.named("sallyport:nfq"), "its successor")


@FAMILIES
@pytest.mark.parametrize("how", ("SIGKILL", "SIGSTOP"))
def test_an_nfq_that_fails_holds_nobody(gate, how, family):
    """Packets wait in the queue for the successor, at most; then the policy
    is as it was, and counting goes on."""
    since = gate.here()
    gate.expected = ["nfq", "process-died"]
    victim, = gate.named("sallyport:nfq")
    os.kill(victim, getattr(signal, how))
    assert greeting("dynamic", "mxa", family, timeout=8).startswith("220 gw1")
    assert "mx.alpha" in greeting("fixed", "mxa", family, timeout=8)
    gate.wait_text(since, "alarm .*process=.?nfq", timeout=20)
    proc.wait_until(lambda: victim not in gate.named("sallyport:nfq")
                    and gate.named("sallyport:nfq"), "its successor")
    before = counts(gate)
    greeting("dynamic", "mxa", family)
    assert counts(gate)["queued"] == before["queued"] + 1


def test_reload_under_traffic_loses_no_first_packet(gate):
    """Two nfq never read one queue; what waits is the successor's. Where its
    start takes so long that its gate shuts, packets go on without it: such a
    round says nothing about the queue."""
    def is_queued():
        return gate.is_open(25, "sallyport_nfq")
    told = 0
    for _ in range(10):
        before = counts(gate)
        result = gate.cli("reload")
        assert result.ok, result.out
        queued = is_queued()
        for _ in range(10):
            assert greeting("dynamic", "mxa", 4).startswith("220 gw1")
        queued = queued and is_queued()
        proc.wait_until(lambda: len(gate.named("sallyport:nfq")) == 1,
                        "one nfq alone")
        after = counts(gate)
        assert after["overruns"] == before["overruns"]
        if queued:
            told += 1
            assert after["queued"] - before["queued"] >= 10
        if told == 3:
            break
    assert told > 0
