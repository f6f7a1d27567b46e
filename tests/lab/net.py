"""The network: five lines, a gateway, an internet router, five hosts.

    dynamic ─┐
    second  ─┤                    ┌─ mxa   mx.alpha.example
    legacy  ─┼─ gw ──── inet ─────┼─ mxb   mx.beta.example
    allowed ─┤                    ├─ isp   mail.isp.example, mx.isp.example
    fixed   ─┘                    └─ dns   ns.lab.example

Every host hangs on a link of its own and knows nothing but a default route;
gw and inet really route.  Addresses are those set aside for tests and
documentation; the namespaces have no way out of the machine.
"""

import ctypes
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass

import proc


@dataclass(frozen=True)
class Host:
    name: str
    v4: tuple
    v6: tuple
    prefix6: str        # what the router sends this way
    router: str

    def address(self, family, which=0):
        return (self.v4 if family == 4 else self.v6)[which]


LINES = {line.name: line for line in (
    Host("dynamic", ("198.18.3.7",), ("2001:db8:1:700::7",),
         "2001:db8:1:700::/56", "gw"),
    Host("second", ("198.18.4.8",), ("2001:db8:1:800::8",),
         "2001:db8:1:800::/56", "gw"),
    Host("legacy", ("198.19.0.20",), ("2001:db8:2:2000::20",),
         "2001:db8:2:2000::/56", "gw"),
    Host("allowed", ("198.18.3.99",), ("2001:db8:1:9900::99",),
         "2001:db8:1:9900::/56", "gw"),
    Host("fixed", ("198.19.1.40",), ("2001:db8:3:4000::40",),
         "2001:db8:3:4000::/56", "gw"),
)}
HOSTS = {host.name: host for host in (
    Host("mxa", ("203.0.113.25",), ("2001:db8:25:a::25",),
         "2001:db8:25:a::/64", "inet"),
    Host("mxb", ("198.51.100.25",), ("2001:db8:25:b::25",),
         "2001:db8:25:b::/64", "inet"),
    Host("isp", ("203.0.113.80", "203.0.113.81"),
         ("2001:db8:80::80", "2001:db8:80::81"), "2001:db8:80::/64", "inet"),
    Host("dns", ("203.0.113.53", "203.0.113.54"),
         ("2001:db8:53::53", "2001:db8:53::54"),
         "2001:db8:53::/64", "inet"),
)}
ROUTERS = {"gw": "198.18.0.1", "inet": "198.51.100.1"}
GW_UP = {4: "203.0.113.254", 6: "2001:db8:ffff::2"}
INET_DOWN = {4: "203.0.113.253", 6: "2001:db8:ffff::1"}
SUBSCRIBERS = {4: ("198.18.0.0/15",), 6: ("2001:db8:1::/48",
               "2001:db8:2::/48", "2001:db8:3::/48")}


def address(name, family, which=0):
    return (LINES.get(name) or HOSTS[name]).address(family, which)


def batch(ns, commands):
    """Many `ip` commands in one process."""
    proc.need(ns, ["ip", "-batch", "-"], text="\n".join(commands) + "\n")


def sysctl(ns, **settings):
    pairs = [f"{key.replace('__', '/')}={value}"
             for key, value in settings.items()]
    proc.need(ns, ["sysctl", "-q", "-w"] + pairs)


def read_sysctl(ns, name):
    return proc.need(ns, ["sysctl", "-n", name]).strip()


def raise_network():
    names = list(LINES) + list(ROUTERS) + list(HOSTS)
    subprocess.run(["ip", "-batch", "-"], check=True, text=True,
                   input="".join(f"netns add {name}\n" for name in names))
    for name in names:
        # No waiting for duplicate address detection on links of two.
        sysctl(name, net__ipv6__conf__default__accept_dad=0,
               net__ipv6__conf__all__accept_dad=0,
               net__ipv6__conf__default__accept_ra=0)
        batch(name, ["link set lo up"])
    for name, self4 in ROUTERS.items():
        sysctl(name, net__ipv4__ip_forward=1,
               net__ipv6__conf__all__forwarding=1,
               net__ipv4__conf__all__rp_filter=1,
               net__ipv4__conf__default__rp_filter=1)
    for host in list(LINES.values()) + list(HOSTS.values()):
        attach(host)
    pool()
    uplink()


def attach(host):
    """One link: eth0 at the host, a device named like the host at the router."""
    router4 = ROUTERS[host.router]
    batch(host.router, [
        f"link add name {host.name} type veth peer name eth0 netns {host.name}",
        f"link set dev {host.name} up",
        f"addr add {router4}/32 dev {host.name}",
        f"addr add fe80::1/64 dev {host.name} nodad"]
        + [f"route add {a}/32 dev {host.name} src {router4}" for a in host.v4])
    batch(host.name, ["link set dev eth0 up"]
          + [f"addr add {a}/32 dev eth0" for a in host.v4]
          + [f"addr add {a}/128 dev eth0 nodad" for a in host.v6]
          + ["addr add fe80::2/64 dev eth0 nodad",
             f"route add default via {router4} dev eth0 onlink "
             f"src {host.v4[0]}",
             f"route add default via fe80::1 dev eth0 src {host.v6[0]}"])
    batch(host.router, [f"route add {host.prefix6} via fe80::2 "
                        f"dev {host.name}"])


def add_line(name, v4, v6):
    """One line more, with a namespace of its own; its /56 is v6's."""
    host = LINES[name] = Host(name, (v4,), (v6,),
                              v6.rsplit("::", 1)[0] + "::/56", "gw")
    batch("gw", [f"netns add {name}"])
    sysctl(name, net__ipv6__conf__default__accept_dad=0,
           net__ipv6__conf__all__accept_dad=0)
    batch(name, ["link set lo up"])
    attach(host)


# Many lines more, all of class dynamic, behind the host of `second`: for tests
# that leave a mark on their line.
POOL = {4: "198.18.64.0/18", 6: "2001:db8:1:c000::/50"}
_fresh = {4: 0, 6: 0}


def fresh_line(family):
    """The address of a line that nobody has used yet; bind to it in `second`."""
    _fresh[family] += 1
    number = _fresh[family]
    if family == 4:
        return f"198.18.{64 + number // 250}.{1 + number % 250}"
    assert number < 64, "the pool of IPv6 lines is used up"
    return f"2001:db8:1:{0xc0 + number:x}00::1"


def pool():
    sysctl("second", net__ipv6__ip_nonlocal_bind=1)
    batch("second", [f"route add local {POOL[4]} dev lo",
                     f"route add local {POOL[6]} dev lo"])
    batch("gw", [f"route add {POOL[4]} via 198.18.4.8 dev second onlink",
                 f"route add {POOL[6]} via fe80::2 dev second"])


def uplink():
    batch("gw", ["link add name up0 type veth peer name down0 netns inet",
                 "link set dev up0 up",
                 f"addr add {GW_UP[4]}/30 dev up0",
                 f"addr add {GW_UP[6]}/64 dev up0 nodad"])
    batch("inet", ["link set dev down0 up",
                   f"addr add {INET_DOWN[4]}/30 dev down0",
                   f"addr add {INET_DOWN[6]}/64 dev down0 nodad"]
          + [f"route add {p} via {GW_UP[4]}" for p in SUBSCRIBERS[4]]
          + [f"route add {p} via {GW_UP[6]}" for p in SUBSCRIBERS[6]])
    batch("gw", [f"route add default via {INET_DOWN[4]}",
                 f"route add default via {INET_DOWN[6]}"])


def narrow(name, mtu):
    """Let inet forward at most mtu bytes towards a host; 0 takes it back.

    A route's MTU, not the link's: the host itself still believes in 1,500, so
    only the router's ICMP errors can tell a sender.
    """
    host = HOSTS[name]
    tail = f" mtu lock {mtu}" if mtu else ""
    tail6 = f" mtu {mtu}" if mtu else ""
    batch("inet", [f"route replace {a}/32 dev {name} "
                   f"src {ROUTERS['inet']}{tail}" for a in host.v4]
          + [f"route replace {host.prefix6} via fe80::2 dev {name}{tail6}"])
    for ns in ("gw", "inet", *LINES):
        for family in ("-4", "-6"):
            proc.run(ns, ["ip", family, "route", "flush", "cache"])


LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def inside(ns, work, *args, **more):
    """Call work() on a thread that lives in ns; sockets it makes stay there."""
    box = {}

    def body():
        try:
            handle = os.open(f"/run/netns/{ns}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if LIBC.setns(handle, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {ns}")
            finally:
                os.close(handle)
            box["value"] = work(*args, **more)
        except BaseException as error:
            box["error"] = error

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


def connect(ns, host, port, timeout=10, **more):
    """A TCP connection from namespace ns."""
    return inside(ns, socket.create_connection, (host, port), timeout, **more)


class Capture:
    """tcpdump at one device, complete: a marker shows that all was written."""

    MARKER = b"sallyport-lab-end-of-capture"

    def __init__(self, ns, device, expression=""):
        self.ns, self.device = ns, device
        self.path = f"/run/lab/tmp/capture-{ns}-{id(self):x}.pcap"
        self.log = self.path + ".log"
        self.process = proc.spawn(
            ns, ["tcpdump", "-i", device, "-n", "-U", "-s", "0", "-Z", "root",
                 "--immediate-mode", "-w", self.path]
            + ([f"({expression}) or udp port 9"] if expression else []),
            self.log)
        proc.wait_until(lambda: "listening on" in proc.tail(self.log),
                        "tcpdump to listen")

    def bytes(self):
        """Everything captured until now."""
        if self.process.poll() is None:
            known = {"up0": INET_DOWN[4], "down0": GW_UP[4]}
            target = known.get(self.device) or address(self.device, 4)
            script = ("import socket,sys;s=socket.socket(socket.AF_INET,"
                      "socket.SOCK_DGRAM);s.sendto(sys.argv[2].encode(),"
                      "(sys.argv[1],9))")
            proc.need(self.ns, ["/usr/bin/python3", "-c", script, target,
                                self.MARKER.decode()])
            proc.wait_until(lambda: self.MARKER in self.raw(),
                            "the end of the capture")
        return self.raw()

    def raw(self):
        with open(self.path, "rb") as stream:
            return stream.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        proc.stop(self.process, signal.SIGTERM)
