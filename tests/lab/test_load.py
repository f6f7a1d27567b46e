"""The loads of `make soak` and `make idle`, a short round of each in every check."""

import daemon
import idle
import load
import net


def test_thousands_of_sessions_leave_nothing(running):
    """`make soak` does five rounds of 2,000; here three short ones."""
    running.restart(load.config())
    try:
        complaints = load.soak(running, runs=3, count=400, at_once=50)
        assert not complaints, "\n".join(complaints)
    finally:
        running.restart(daemon.quick())


def test_idle_sessions_are_held_and_used_again(running):
    """`make idle` holds 15,000 for a minute, or for half an hour; here a few
    hundred, through two relays, POP3 and IMAP in IDLE."""
    address = net.address("dns", 4, 1)
    server = idle.serve("dns", address, "odd")
    running.restart(idle.config())
    try:
        complaints = idle.round_of(running, 600, 0, address)
        assert not complaints, "\n".join(complaints)
    finally:
        server.end()
        running.restart(daemon.quick())
