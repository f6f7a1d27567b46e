"""Much mail, and every octet of it: volume and content through the relay.

Far ends: Postfix's smtp-sink for volume; a scripted server that keeps a hash of
each message, since a real one adds, folds and rewraps lines.
"""

import base64
import hashlib
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import daemon
import net
import odd
import proc
from content import MEGABYTE, stuffed, text_line
from peer import Peer

MESSAGES = 10000
BODIES = 1000
PLAIN = base64.b64encode(b"\0load@isp.example\0secret").decode()


@pytest.fixture(scope="module", name="wide")
def fixture_wide(world, running):
    """Room for fifty sessions of one line."""
    del world
    running.restart(daemon.quick(per_line=200))
    yield running
    running.restart(daemon.quick())


# Volume --------------------------------------------------------------------

def test_ten_thousand_messages_are_all_accounted_for(wide, tmp_path):
    """smtp-source, fifty sessions at once, half over each family. It numbers its
    recipients (-N) and was told that all were taken: each number has arrived
    once, in a message of its own, and the log has counted as many."""
    count = MESSAGES // (10 if daemon.sanitized() else 2)
    since, ids, numbers = wide.here(), [], []
    for family in (4, 6):
        host = net.address("dns", family, 1)
        at = f"[{host}]:25" if family == 6 else f"{host}:25"
        dump = tmp_path / f"dump{family}"
        sink = proc.spawn("dns", ["smtp-sink", "-u", "root", "-D", dump, at,
                                  "512"], proc.LOG / "smtp-sink.log")
        proc.wait_until(lambda at=at: listens(at), "smtp-sink", 5)
        began = time.monotonic()
        sent = proc.run("fixed", ["smtp-source", "-N", "-s", "50", "-m", count,
                                  "-l", "4096", "-f", "kenji@isp.example",
                                  "-t", "info@odd.isp.example", f"inet:{at}"],
                        timeout=300)
        print(f"IPv{family}: {count / (time.monotonic() - began):.0f} "
              "messages/s")
        assert sent.ok, sent.out
        proc.stop(sink)
        text = dump.read_text()
        ids.append(re.findall(r"^Message-Id: <(\S+)>", text, re.M))
        numbers.append(re.findall(r"^X-Rcpt-Args: <(\d+)info@odd", text, re.M))
        dump.unlink()
    for told, counted in zip(ids, numbers):
        assert len(told) == len(set(told)) == count
        assert sorted(map(int, counted)) == list(range(1, count + 1))

    def logged():
        events = [daemon.parse(line) for line in wide.lines(since)]
        return sum(int(event["msgs"]) for event in events
                   if event and event.kind == "relay") == 2 * count
    proc.wait_until(logged, "every message in the log", 20)


def listens(at):
    out = proc.run("dns", ["ss", "-tlnH"]).out
    return at in out


# Content -------------------------------------------------------------------

class Keeper:
    """An SMTP server's script: MAIL FROM's local part → hash of the body."""

    GREETING = b"220 odd.isp.example ESMTP\r\n"
    EHLO = (b"250-odd.isp.example\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n"
            b"250-AUTH PLAIN\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
            b"250-CHUNKING\r\n250 BINARYMIME\r\n")

    def __init__(self):
        self.kept, self.twice = {}, []
        self.lock = threading.Lock()

    def keep(self, name, body):
        with self.lock:
            if name in self.kept:
                self.twice.append(name)
            self.kept[name] = hashlib.sha256(body).digest()

    def __call__(self, server, conn):
        del server
        stream = conn.makefile("rwb", buffering=1 << 16)

        def say(answer):
            stream.write(answer)
            stream.flush()
        say(self.GREETING)
        name, chunks = "", bytearray()
        while line := stream.readline():
            verb, _, rest = line.strip().partition(b" ")
            verb = verb.upper()
            if verb == b"EHLO":
                say(self.EHLO)
            elif verb == b"AUTH":
                say(b"235 2.7.0 In\r\n")
            elif verb == b"MAIL":
                name, chunks = re.search(rb"<(.+?)@", rest).group(1), \
                    bytearray()
                say(b"250 2.1.0 Ok\r\n")
            elif verb == b"DATA":
                say(b"354 Go\r\n")
                self.keep(name, self.data(stream))
                say(b"250 2.0.0 Kept\r\n")
            elif verb == b"BDAT":
                size, _, last = rest.partition(b" ")
                chunks += stream.read(int(size))
                if last:
                    self.keep(name, bytes(chunks))
                say(b"250 2.0.0 Kept\r\n")
            elif verb == b"QUIT":
                say(b"221 2.0.0 Bye\r\n")
                return
            else:
                say(b"250 2.0.0 Ok\r\n")

    @staticmethod
    def data(stream):
        """RFC 5321 4.5.2, written apart from what is tested: lines end with
        CRLF and with nothing else."""
        body, tail = bytearray(), b"\r\n"
        while True:
            line = stream.readline()
            if not line:
                raise OSError("ended in the middle of a message")
            fresh = tail.endswith(b"\r\n")
            if fresh and line == b".\r\n":
                return bytes(body)
            body += line[1:] if fresh and line[:1] == b"." else line
            tail = (tail + line)[-2:]


def wild(chance):
    """Bare CR, bare LF, dots and NUL around each other."""
    return b"".join(chance.choice((b"\r", b"\n", b".", b"\r\n", b"a", b"\0"))
                    for _ in range(chance.randrange(400)))


def body(number, free):
    """One message.  free: anything may be in it, not only lines."""
    chance = random.Random(number)
    if number % 100 == 0:
        return b""
    if number in (17, 518):
        size = 30 * MEGABYTE
    else:
        size = 2 * MEGABYTE if number % 125 == 7 else chance.randrange(20000)
    if size > MEGABYTE:
        block = b"\r\n".join(text_line(chance) for _ in range(400)) + b"\r\n"
        whole = block * (size // len(block) + 1)
    else:
        lines, length = [], 0
        while length < size:
            lines.append(text_line(chance))
            length += len(lines[-1]) + 2
        whole = b"\r\n".join(lines) + b"\r\n"
    if free and number % 3 == 0:
        whole += wild(chance)
    return whole


def pieces(peer, data, chance):
    """Sent in pieces that have nothing to do with lines."""
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 3, 7, 1400, 4096, 65536, 1 << 20))
        peer.sock.sendall(data[at:at + size])
        at += size


def said_yes(peer, want):
    reply = peer.reply()
    assert reply[-1].startswith(want), peer.said[-20:]


def send_one(peer, number, free, sent):
    """By DATA, or by BDAT in odd chunks."""
    chance = random.Random(~number)
    content = body(number, free)
    chunked = number % 2 == 1
    if not chunked:
        content = content if content.endswith(b"\r\n") or not content \
            else content + b"\r\n"
    sent[f"m{number}".encode()] = hashlib.sha256(content).digest()
    peer.send(f"MAIL FROM:<m{number}@isp.example> SMTPUTF8 BODY="
              + ("BINARYMIME" if chunked else "8BITMIME"))
    said_yes(peer, "250")
    peer.send("RCPT TO:<info@odd.isp.example>")
    said_yes(peer, "250")
    if not chunked:
        peer.send("DATA")
        said_yes(peer, "354")
        pieces(peer, stuffed(content), chance)
        said_yes(peer, "250")
        return
    at = 0
    while True:
        size = min(chance.choice((0, 1, 3, 4095, 65537, 3333333)),
                   len(content) - at)
        last = chance.random() < .5 if at + size == len(content) else False
        peer.send(f"BDAT {size}" + (" LAST" if last else ""))
        pieces(peer, content[at:at + size], chance)
        said_yes(peer, "250")
        at += size
        if last:
            return


def send_some(line, numbers, family, free, auth):
    sent = {}
    with Peer(line, net.address("dns", family, 1), 25, timeout=60) as peer:
        said_yes(peer, "220")
        peer.send("EHLO pc.isp.example")
        said_yes(peer, "250")
        if auth:
            peer.send(f"AUTH PLAIN {PLAIN}")
            said_yes(peer, "235")
        for number in numbers:
            send_one(peer, number, free, sent)
        peer.send("QUIT")
        said_yes(peer, "221")
    return sent


@pytest.mark.parametrize("action", ("submit", "relay"))
def test_a_thousand_bodies_arrive_as_they_were_sent(wide, action):
    """0 to 30 MB; dots, long lines, 8 bit, UTF-8; DATA and odd BDAT chunks.
    Through relay also what is no line at all."""
    del wide
    keeper, sent = Keeper(), {}
    count = BODIES // 5 if daemon.sanitized() else BODIES
    submit = action == "submit"
    line = "legacy" if submit else "fixed"
    with odd.OddServer(465 if submit else 25, keeper, tls=submit) as server:
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(send_some, line, range(at, at + 5),
                                4 if at % 10 else 6, not submit, submit)
                    for at in range(0, count, 5)]
            for job in jobs:
                sent.update(job.result())
        assert not server.errors, server.errors[:5]
    assert not keeper.twice, keeper.twice[:5]
    assert len(sent) == count
    wrong = [name for name, digest in sent.items()
             if keeper.kept.get(name) != digest]
    assert not wrong, wrong[:10]
