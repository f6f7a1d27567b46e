"""The raised lab: network, names, certificates, servers, mailboxes."""

import email
import email.policy
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ca
import daemon
import dovecot
import enter
import names
import net
import postfix
import proc


class World:
    """Raised once a process; torn down by the end of its namespaces."""

    def __init__(self):
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            certificates = pool.submit(ca.make)
            network = pool.submit(net.raise_network)
            enter.trust(certificates.result())
            network.result()
        self.dns = names.start()
        self.mta = postfix.instances()
        self.dovecot = dovecot.Dovecot()
        for server in self.servers():
            server.prepare()
            server.start()
        for server in self.servers():
            server.ready()
        proc.wait_ports(self.dns, (53,), "dnsmasq")
        # What the gateway's kernel holds before any rule of ours.
        self.pristine = daemon.kernel_state()
        self.seconds = time.monotonic() - began

    def servers(self):
        return [*self.mta.values(), self.dovecot]

    def show_certificate(self, name):
        """Let mail.isp.example present another certificate, everywhere."""
        ca.show(name)
        self.mta["isp"].restart()
        self.dovecot.restart()

    # Mailboxes -----------------------------------------------------------

    def maildir(self, host, user):
        return postfix.MAIL / host / user / "Maildir"

    def mailbox(self, host, user):
        """Messages delivered to a user of a host, parsed."""
        found = []
        for sub in ("new", "cur"):
            for path in sorted((self.maildir(host, user) / sub).glob("*")):
                try:
                    found.append(email.message_from_bytes(
                        path.read_bytes(), policy=email.policy.compat32))
                except OSError:
                    continue    # moved by a mail program meanwhile
        return found

    def arrived(self, host, user, token):
        """The message that carries token, or None."""
        for message in self.mailbox(host, user):
            if token in (message["Subject"] or ""):
                return message
        return None

    def wait_arrival(self, host, user, token, timeout=10):
        return proc.wait_until(lambda: self.arrived(host, user, token),
                               f"mail {token} at {user} on {host}", timeout)

    def put(self, user, text):
        """A message straight into a mailbox of the provider."""
        self.put_octets(user, text.replace("\n", "\r\n").encode())

    def put_octets(self, user, content, sizes=""):
        """sizes: ",S=n,W=n", if Dovecot is to know them without reading."""
        path = self.maildir("isp", user)
        name = f"{time.time_ns()}.lab.isp{sizes}"
        fresh = path / "tmp" / name
        fresh.write_bytes(content)
        shutil.chown(fresh, 5000, 5000)
        fresh.rename(path / "new" / name)

    def empty(self, user):
        for sub in ("new", "cur"):
            for path in (self.maildir("isp", user) / sub).glob("*"):
                path.unlink()

    def logs(self):
        return sorted(Path(proc.LOG).glob("*.log"))
