"""The load of `make soak`, one short round of it in every check."""

import daemon
import load


def test_thousands_of_sessions_leave_nothing(running):
    """`make soak` does five rounds of 2,000; here three short ones."""
    running.restart(load.config())
    try:
        complaints = load.soak(running, runs=3, count=400, at_once=50)
        assert not complaints, "\n".join(complaints)
    finally:
        running.restart(daemon.quick())
