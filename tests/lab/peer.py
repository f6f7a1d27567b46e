"""A scripted peer: one side of a dialogue, word by word, with a transcript.

For what real mail programs would never do, and for sessions that must stay
open while a test does something else.
"""

import socket
import ssl

import net


class Peer:
    def __init__(self, ns, host, port, timeout=15, **more):
        self.said = [f"{ns} connects to [{host}]:{port}"]
        self.rest = b""
        self.sock = net.connect(ns, host, port, timeout, **more)
        self.address = self.sock.getsockname()[:2]

    def send(self, data):
        if isinstance(data, str):
            data = data.encode() + b"\r\n"
        self.said.append(f"> {data[:300]!r}")
        self.sock.sendall(data)

    def line(self):
        """The next line without its CRLF; "" at the end of the stream."""
        while b"\n" not in self.rest:
            data = self.sock.recv(65536)
            if not data:
                self.said.append(f"< {self.rest!r} [end]")
                return self.rest.decode("latin-1")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        text = line.rstrip(b"\r").decode("latin-1")
        self.said.append(f"< {text[:300]}")
        return text

    def reply(self):
        """One SMTP reply, all its lines."""
        lines = [self.line()]
        while len(lines[-1]) > 3 and lines[-1][3] == "-":
            lines.append(self.line())
        return lines

    def ask(self, command):
        self.send(command)
        return self.reply()

    def dotted(self):
        """A POP3 answer of several lines, without the final dot."""
        lines = [self.line()]
        while lines[-1] != ".":
            if lines[-1] == "" and self.said[-1].endswith("[end]"):
                break
            lines.append(self.line())
        return lines[:-1]

    def starttls(self, name):
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        self.said.append(f"TLS with {name}: {self.sock.version()}")
        return self.sock.getpeercert()

    def end(self):
        """How the other side ends it: "eof", "reset", with bytes before it."""
        got = self.rest
        self.rest = b""
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    how = "eof"
                    break
                got += data
        except ConnectionResetError:
            how = "reset"
        except socket.timeout:
            how = "timeout"
        self.said.append(f"< {got[:300]!r} [{how}]")
        return how, got

    def reset(self):
        """End it the rude way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             b"\x01\0\0\0\0\0\0\0")
        self.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __str__(self):
        return "\n".join(self.said)
