"""What messages are made of when every octet of them is compared."""

import re

MEGABYTE = 1 << 20


def text_line(chance):
    """A line without its end: dots, long ones, 8 bit, UTF-8, blanks."""
    kind = chance.randrange(8)
    if kind == 0:
        return b"." * chance.randrange(5)
    if kind == 1:
        return b"." + bytes(chance.choices(range(33, 127), k=40))
    if kind == 2:
        return bytes(chance.choices(range(32, 127), k=chance.randrange(
            900, 20000)))
    if kind == 3:
        return bytes(chance.choices(range(128, 256), k=60))
    if kind == 4:
        return "件名: メールの試験 ÄÖÜ €".encode()
    if kind == 5:
        return b"\t \t "
    return bytes(chance.choices(range(32, 127), k=chance.randrange(78)))


def stuffed(content):
    """As RFC 5321 4.5.2 and RFC 1939 want it, the end included."""
    out = re.sub(rb"(^|\r\n)\.", rb"\1..", content)
    if out and not out.endswith(b"\r\n"):
        out += b"\r\n"
    return out + b".\r\n"
