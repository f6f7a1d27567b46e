"""What every lab test stands on: one raised lab, one daemon, and the question
after each test whether the daemon is as it was before."""

import pytest

import daemon as daemon_module
import enter
import proc
import world as world_module


def pytest_configure(config):
    if not enter.inside() and not config.getoption("tx", None):
        raise pytest.UsageError("these tests run inside the lab: "
                                "tests/lab/lab test")


shared = None   # the daemon of `running`, once there is one


@pytest.fixture(scope="session")
def world():
    return world_module.World()


@pytest.fixture(scope="session")
def running(world):
    """The daemon that the tests share, past its grace time."""
    global shared
    gate = shared = daemon_module.Daemon(daemon_module.quick()).start()
    gate.wait_all()
    yield gate
    end(gate)


def end(gate):
    code = gate.stop()
    assert code == 0, f"sallyportd ended with {code}\n{proc.tail(gate.log)}"


@pytest.fixture(scope="module")
def direct(world):
    """The lab as it is without us, whatever module ran in it before."""
    if shared and shared.alive():
        end(shared)
        shared.rules("remove")
    yield world
    if shared and not shared.alive():
        shared.start()
        shared.wait_all()


@pytest.fixture
def gate(running, request):
    """The shared daemon, checked after the test: alive, no descriptor more
    than before, nothing at warning or worse that the test did not ask for."""
    if not running.alive():
        running.start()
        running.wait_all()
    running.wait_gate(True)
    before, since = running.at_rest(), running.here()
    running.expected = []
    yield running
    assert running.alive(), "the daemon died\n" + proc.tail(running.log, 40)
    running.wait_holdings(before)
    bad = [line for line in running.bad_lines(since)
           if not any(text in line for text in running.expected)]
    assert not bad, "unexpected log lines:\n" + "\n".join(bad)
    leaked = [line for line in running.lines(since)
              if world_module.dovecot.PASSWORD in line]
    assert not leaked, "a password in the log:\n" + "\n".join(leaked)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the ends of all logs."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when in ("setup", "call", "teardown"):
        for path in sorted(proc.LOG.glob("*.log")):
            report.sections.append((str(path), proc.tail(path, 15)))


ORDER = ("test_lab", "test_kernel", "test_nfq_kernel", "test_scenes", "test_processes", "test_hook",
         "test_certificates", "test_first", "test_plan", "test_allow",
         "test_rules", "test_scenarios", "test_peers", "test_review", "test_topologies",
         "test_probe", "test_failures", "test_repair", "test_flood",
         "test_lease", "test_volume", "test_mailbox", "test_imap", "test_limits", "test_submit",
         "test_accounts", "test_pop", "test_origin", "test_host", "test_opportune", "test_publish",
         "test_clients", "test_readers", "test_courier",
         "test_evidence", "test_log",
         "test_zombies", "test_why", "test_complaint", "test_replay", "test_events", "test_syslog",
         "test_load")


def pytest_collection_modifyitems(items):
    """Long modules first, so that no lab has to wait for another."""
    items.sort(key=lambda item: ORDER.index(item.module.__name__))
