"""Private namespaces for one lab.

The outer process becomes unshare(1); everything else happens in network,
mount and PID namespaces of its own.  So two labs at once cannot collide, the
host's network is never touched, and when the outer process dies the kernel
kills what is left: there is no clean-up code that could be forgotten.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

MARK = "SALLYPORT_LAB_INSIDE"
ROOT = Path("/run/lab")

# Users that a fresh Debian does not have: our own, Exim's, Courier's, the owner of
# the mailboxes.
USERS = {"sallyport": 4990, "sallyport-relay": 4991,
         "sallyport-keeper": 4993, "vmail": 5000,
         "Debian-exim": 4992, "courier": 4994}


def inside():
    return os.environ.get(MARK) == "1"


def enter(program, args):
    """Become `unshare ... program args`; does not return."""
    if subprocess.run(["sh", "-c", "command -v unshare nsenter ip >/dev/null"],
                      check=False).returncode:
        sys.exit("lab: util-linux and iproute2 are needed")
    command = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork",
               "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command += ["--map-auto", "--map-root-user"]
    os.environ[MARK] = "1"
    os.environ["PATH"] = "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ.get(
        "PATH", "/usr/bin:/bin")
    os.execvp(command[0], command + ["/usr/bin/python3", program] + args)


def as_init(work):
    """PID 1 of the lab: run work() in a child, bury every orphan."""
    if os.getpid() != 1:
        return work()
    private_files()
    child = os.fork()
    if child == 0:
        os.setsid()
        claim_terminal()
        code = 1
        try:
            code = work()
        except SystemExit as leave:
            code = leave.code
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(bool(code)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(130))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xff


def claim_terminal():
    """Make the terminal ours, so that Ctrl-C and a shell's job control work."""
    import fcntl
    import termios
    if sys.stdin and sys.stdin.isatty():
        try:
            fcntl.ioctl(0, termios.TIOCSCTTY, 1)
        except OSError:
            pass


def mount(*args):
    subprocess.run(["mount", *args], check=True)


def private_files():
    """A /run, an /etc and a /var/lib of our own; the rest shows through."""
    socket.sethostname("lab.example")
    mount("-t", "tmpfs", "-o", "mode=755", "lab", "/run")
    for sub in ("log", "mail", "tmp", "spool"):
        (ROOT / sub).mkdir(parents=True)
    (ROOT / "tmp").chmod(0o1777)
    os.environ["TMPDIR"] = str(ROOT / "tmp")
    os.environ["HOME"] = str(ROOT / "tmp")
    # A copy, not an overlay: works in every kernel, container and user
    # namespace.  What an ordinary user may not read (shadow) stays behind.
    copy = Path("/run/etc")
    copy.mkdir()
    subprocess.run(["cp", "-dR", "--preserve=mode,links", "/etc/.", copy],
                   check=False, stderr=subprocess.DEVNULL)
    mount("--bind", str(copy), "/etc")
    # The daemon makes /var/lib/sallyport: in a /var/lib that is not the host's,
    # through which the rest of it shows.
    state = Path("/run/var-lib")
    state.mkdir()
    for entry in Path("/var/lib").iterdir():
        if entry.is_dir() and not entry.is_symlink() \
                and entry.name != "sallyport":
            (state / entry.name).mkdir()
            mount("--rbind", str(entry), str(state / entry.name))
    mount("--rbind", str(state), "/var/lib")
    etc = Path("/etc")
    accounts(etc)
    replace(etc / "resolv.conf", "nameserver 203.0.113.53\n"
            "nameserver 2001:db8:53::53\noptions timeout:2 attempts:2\n")
    replace(etc / "hosts", "127.0.0.1 localhost\n::1 localhost\n")
    replace(etc / "nsswitch.conf", "passwd: files\ngroup: files\n"
            "shadow: files\nhosts: files dns\nservices: files\n"
            "protocols: files\n")
    replace(etc / "mailname", "lab.example\n")
    (etc / "msmtprc").unlink(missing_ok=True)
    shutil.rmtree(etc / "sallyport", ignore_errors=True)
    (etc / "sallyport").mkdir()


def replace(path, text):
    path.unlink(missing_ok=True)
    path.write_text(text)


def accounts(etc):
    passwd = (etc / "passwd").read_text()
    group = (etc / "group").read_text()
    for name, number in USERS.items():
        if f"\n{name}:" not in "\n" + passwd:
            passwd += f"{name}:x:{number}:{number}:lab:/:/usr/sbin/nologin\n"
        if f"\n{name}:" not in "\n" + group:
            group += f"{name}:x:{number}:\n"
    replace(etc / "passwd", passwd)
    replace(etc / "group", group)


def trust(ca_pem):
    """Let every program in the lab trust the lab's CA and no other."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    replace(bundle, ca_pem)
