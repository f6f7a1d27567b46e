"""Servers that misbehave: a script per connection, at odd.isp.example.

Scripts get a connected socket (inside TLS, if asked for) and may do anything.
"""

import socket
import ssl
import threading

import ca
import net


def tls_context(name):
    """A server's, with a certificate of ca.py."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.DIR / f"{name}.pem")
    return context


class OddServer:
    def __init__(self, port, script, tls=True, ns="dns", which=1,
                 certificate="odd", context=None):
        """context: of its own, with its certificate and its tickets."""
        self.script, self.tls, self.context = script, tls, context
        self.certificate = certificate
        self.seen = b""         # everything clients said
        self.errors = []
        self.sockets = []
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            server = net.inside(ns, socket.socket, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((net.address(ns, family, which), port))
            server.listen(64)
            self.sockets.append(server)
            threading.Thread(target=self.accept, args=(server,),
                             daemon=True).start()

    def accept(self, server):
        while True:
            try:
                conn, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,),
                             daemon=True).start()

    def serve(self, conn):
        conn.settimeout(30)
        try:
            if self.tls:
                conn = (self.context or tls_context(self.certificate)
                        ).wrap_socket(conn, server_side=True)
            self.script(self, conn)
        except OSError as error:
            self.errors.append(repr(error))
        finally:
            try:
                conn.close()
            except OSError:
                pass

    def read(self, conn):
        data = conn.recv(65536)
        self.seen += data
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.sockets:
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    b"\x01\0\0\0\0\0\0\0")
    conn.close()


def smtp(answers):
    """A script of an SMTP server: verb → reply bytes; None: close, "reset":
    reset.  "" is the greeting; "." what follows the message, "LAST" the last
    chunk; "half" is what is done in the middle of either."""
    def script(server, conn):
        if not say(conn, answers.get("", b"220 odd.isp.example ESMTP\r\n")):
            return
        data, pending = False, b""
        while True:
            chunk = server.read(conn)
            if not chunk:
                return
            pending += chunk
            while b"\r\n" in pending:
                line, pending = pending.split(b"\r\n", 1)
                if "half" in answers and (data or line[:4] == b"BDAT"):
                    say(conn, answers["half"])
                    return
                if data and line != b".":
                    continue
                verb = "." if data else line.split(b" ")[0].decode(
                    "latin-1").upper()
                data = False
                if verb == "BDAT":
                    words = line.split()
                    while len(pending) < int(words[1]):
                        pending += server.read(conn)
                    pending = pending[int(words[1]):]
                    verb = "LAST" if len(words) > 2 else "BDAT"
                answer = answers.get(verb, GOOD.get(verb,
                                                    b"500 5.5.1 What?\r\n"))
                if not say(conn, answer):
                    return
                data = answer.startswith(b"354")
    return script


class Last(bytes):
    """An answer after which the server closes."""


def say(conn, answer):
    if answer is None:
        return False
    if answer == "reset":
        reset(conn)
        return False
    if answer:
        conn.sendall(answer)
    return not isinstance(answer, Last)


GOOD = {
    "EHLO": b"250-odd.isp.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n"
            b"250-AUTH PLAIN LOGIN\r\n250-CHUNKING\r\n250 8BITMIME\r\n",
    "AUTH": b"235 2.7.0 In\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "DATA": b"354 Go\r\n",
    ".": b"250 2.0.0 Queued\r\n",
    "BDAT": b"250 2.0.0 Ok\r\n",
    "LAST": b"250 2.0.0 Queued\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "NOOP": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}
