"""A whole mailbox, every octet of it: 5,000 messages up to 50 MB through us.

Fetched from a real Dovecot by POP3 and by IMAP, in clear, over both families at
once, and each compared with what was put there. The largest message is larger
than anything that any buffer on the way could hold.
"""

import hashlib
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import daemon
import net
import scenes
from content import MEGABYTE, text_line
from dovecot import PASSWORD
from peer import Peer

MESSAGES = 500 if daemon.sanitized() else 5000
USER, PARTS = "mailbox", 4
NUMBER = re.compile(rb"Subject: (\d+)\r\n")


def size_of(number, chance):
    """Most of them small, as in life; one of 50 MB, three of 5 MB."""
    if number in (17, 130, 244, 371):
        return (50 if number == 17 else 5) * MEGABYTE
    if number % 100 == 3:
        return chance.randrange(MEGABYTE // 2, 3 * MEGABYTE // 2)
    return chance.randrange(65536 if number % 20 == 1 else 8192)


def lines():
    chance = random.Random(1)
    return [text_line(chance) + b"\r\n" for _ in range(4000)]


def message(number, block):
    """A header that names it, and lines from somewhere in the block on."""
    chance = random.Random(number)
    size, at = size_of(number, chance), chance.randrange(len(block))
    taken, length = [], 0
    while length < size:
        taken.append(block[at % len(block)])
        length += len(taken[-1])
        at += 1
    return b"Subject: %d\r\n\r\n" % number + b"".join(taken)


@pytest.fixture(scope="module")
def put(world, running):
    """{number: hash} of what is in the mailbox."""
    world.dovecot.add_account(USER)
    block, told = lines(), {}
    for number in range(MESSAGES):
        content = message(number, block)
        told[number] = hashlib.sha256(content).digest()
        # Its size in the name: Dovecot need not read it all to say it.
        world.put_octets(USER, content,
                         f",S={len(content)},W={len(content)}")
    running.restart(daemon.quick())
    yield told
    world.empty(USER)


def hashed(content):
    return (int(NUMBER.match(content).group(1)),
            hashlib.sha256(content).digest())


def login(family, port, *commands):
    peer = Peer("legacy", net.address("isp", family), port, timeout=60)
    peer.line()
    for command in commands:
        peer.send(command)
        while (line := peer.line()).startswith("* "):
            pass
        assert line.startswith("+OK") or line[1:].startswith(" OK"), peer
    return peer


def receive(peer, held):
    data = peer.sock.recv(1 << 18)
    assert data, "the connection ended"
    held += data


def dotted(peer):
    """Everything up to the line with one dot, as it came."""
    held, at = bytearray(peer.rest), 0
    while (end := held.find(b"\r\n.\r\n", at)) < 0:
        at = max(0, len(held) - 4)
        receive(peer, held)
    peer.rest = bytes(held[end + 5:])
    return bytes(held[:end + 2])


def by_pop3(family, first, last):
    got = []
    with login(family, 110, f"USER {USER}@isp.example",
               f"PASS {PASSWORD}") as peer:
        for number in range(first, last):
            peer.send(f"RETR {number + 1}")
            assert peer.line().startswith("+OK"), peer
            # A dot that was added stands behind another line's end: the first
            # line is the subject.
            got.append(hashed(dotted(peer).replace(b"\r\n..", b"\r\n.")))
            del peer.said[4:]
    return got


def by_imap(family, first, last):
    """One FETCH of them all; every message is a literal."""
    got = []
    with login(family, 143, f"a LOGIN {USER}@isp.example {PASSWORD}",
               "b EXAMINE INBOX") as peer:
        peer.send(f"c FETCH {first + 1}:{last} BODY.PEEK[]")
        while (line := peer.line()).startswith("* "):
            if size := re.search(r"BODY\[\] \{(\d+)\}$", line):
                held = bytearray(peer.rest)
                while len(held) < int(size.group(1)):
                    receive(peer, held)
                got.append(hashed(bytes(held[:int(size.group(1))])))
                peer.rest = bytes(held[int(size.group(1)):])
                assert peer.line() == ")", peer
            del peer.said[4:]
        assert line.startswith("c OK"), peer
    return got


@pytest.mark.parametrize("way", (by_pop3, by_imap), ids=lambda way: way.__name__)
def test_every_message_is_what_was_put_there(put, gate, way):
    since, step = gate.here(), MESSAGES // PARTS
    with ThreadPoolExecutor(PARTS) as pool:
        jobs = [pool.submit(way, 4 if part % 2 else 6, part * step,
                            (part + 1) * step) for part in range(PARTS)]
        got = [one for job in jobs for one in job.result()]
    assert Counter(number for number, _ in got) == Counter(list(put))
    wrong = [number for number, digest in got if put[number] != digest]
    assert not wrong, wrong[:10]
    for family in (4, 6):
        event = gate.wait_event(since, "wrap", line=scenes.line_text(
            "legacy", family))
        assert int(event["down"]) > 100000, event
