"""The proxies of the bench: ours, and the peers with configurations made here.

Every one has one worker and stands in a gateway between the same line and the
same servers, the same number of hops away.  Ours captures (TPROXY, from the
line's own address) in `gw`; the peers are dialled in a gateway of their own,
`peer`, so that they pay for none of our kernel rules.

No peer is handicapped: logs off, verification and session reuse on, limits
above what the bench needs.
"""

import os
import subprocess
import time

import ca
import daemon
import net
import proc

LINE = "fixed"
WARM, COLD, MX = (net.address("isp", 4), net.address("isp", 4, 1),
                  net.address("mxa", 4))
NAMES = {WARM: "mail.isp.example", COLD: "mx.isp.example"}
PEER_DOWN, PEER_UP, INET_UP = "198.19.255.1", "203.0.113.250", "203.0.113.249"
DIR = proc.LOG.parent / "bench"

# What the load generator wants to reach, and where it dials at a peer.
WORKS = {"pop3": (WARM, 110), "cold": (COLD, 110), "smtp": (MX, 25)}
PEER_PORTS = {"pop3": 0, "cold": 1, "smtp": 2}    # from the peer's first port

SALLYPORT = f"""\
gateway = {{ name = "gw1.isp.example"; workers = 1; grace = 0; }};
subscribers = (
  {{ class = "fixed"; prefixes = ( "198.18.0.0/15" ); port25 = "relay"; }}
);
pass_destinations = ();
servers = (
  {{ name = "{NAMES[WARM]}"; pop3 = "tls:995"; }},
  {{ name = "{NAMES[COLD]}"; pop3 = "tls:995"; }}
);
smtp = {{ max_per_line = 10000; }};
pop3 = {{ wrap = "listed"; }};
"""

NGINX = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {files};
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections {files}; multi_accept on; }}
stream {{
  access_log off;
  tcp_nodelay on;
  proxy_timeout 3600s;
  proxy_ssl on;
  proxy_ssl_verify on;
  proxy_ssl_verify_depth 2;
  proxy_ssl_trusted_certificate {ca};
  proxy_ssl_server_name on;
  proxy_ssl_session_reuse on;
  proxy_ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen {here}:{pop3} backlog=4096; proxy_pass {warm}:995;
    proxy_ssl_name {warm_name}; }}
  server {{ listen {here}:{cold} backlog=4096; proxy_pass {cold_at}:995;
    proxy_ssl_name {cold_name}; }}
}}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 9000
  ssl-server-verify required
defaults
  mode tcp
  maxconn 9000
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen pop3
  bind {here}:{pop3} backlog 4096
  server s {warm}:995 ssl ca-file {ca} verifyhost {warm_name} sni str({warm_name})
listen cold
  bind {here}:{cold} backlog 4096
  server s {cold_at}:995 ssl ca-file {ca} verifyhost {cold_name} sni str({cold_name})
listen smtp
  bind {here}:{smtp} backlog 4096
  server s {mx}:25
"""

STUNNEL = """\
foreground = yes
pid =
debug = 3
syslog = no
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[pop3]
client = yes
accept = {here}:{pop3}
connect = {warm}:995
CAfile = {ca}
verifyChain = yes
checkHost = {warm_name}
sni = {warm_name}
TIMEOUTidle = 3600
[cold]
client = yes
accept = {here}:{cold}
connect = {cold_at}:995
CAfile = {ca}
verifyChain = yes
checkHost = {cold_name}
sni = {cold_name}
TIMEOUTidle = 3600
"""


def raise_peer_gateway():
    """A second way from the line to the servers: line - peer - inet."""
    subprocess.run(["ip", "netns", "add", "peer"], check=True)
    net.batch("peer", ["link set lo up"])
    net.sysctl("peer", net__ipv4__ip_forward=1)
    line = net.address(LINE, 4)
    net.batch("peer", [
        f"link add name line0 type veth peer name eth1 netns {LINE}",
        "link add name up0 type veth peer name peer0 netns inet",
        "link set dev line0 up", "link set dev up0 up",
        f"addr add {PEER_DOWN}/32 dev line0",
        f"addr add {PEER_UP}/30 dev up0",
        f"route add {line}/32 dev line0 src {PEER_DOWN}",
        f"route add default via {INET_UP}"])
    net.batch(LINE, ["link set dev eth1 up",
                     f"route add {PEER_DOWN}/32 dev eth1 src {line}"])
    net.batch("inet", ["link set dev peer0 up",
                       f"addr add {INET_UP}/30 dev peer0"])
    # A client that dials one address thirty thousand times.
    net.sysctl(LINE, net__ipv4__ip_local_port_range="1024 65000")
    for ns in (LINE, "gw", "peer", "isp", "mxa"):
        net.sysctl(ns, net__core__somaxconn=4096,
                   net__ipv4__tcp_max_syn_backlog=8192)


def family(pid):
    """A process and all that descend from it."""
    children = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat") as stream:
                    fields = stream.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, front = [], [pid]
    while front:
        pid = front.pop()
        found.append(pid)
        front += children.get(pid, [])
    return sorted(found)


def by_comm(pids):
    """Processes by what they call themselves: {comm: [pid, ...]}."""
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/comm") as stream:
                found.setdefault(stream.read().strip(), []).append(pid)
        except OSError:
            continue
    return found


class Proxy:
    """Start, stop, processes; what is common to ours and the peers."""

    name, version, works = "", "", ("pop3", "cold")

    def pids(self):
        return family(self.process.pid)

    def cpu(self):
        """Nanoseconds of all its processes until now, dead threads included."""
        return {pid: time.clock_gettime_ns((~pid << 3) | 2)
                for pid in self.pids()}

    def lasting(self, pids):
        """Those that are there to stay: a second old and more."""
        def age(pid):
            try:
                with open(f"/proc/{pid}/stat") as stream:
                    fields = stream.read().rsplit(")", 1)[1].split()
            except OSError:
                return 0
            return time.clock_gettime(time.CLOCK_BOOTTIME) - int(
                fields[19]) / os.sysconf("SC_CLK_TCK")
        return {pid for pid in pids if age(pid) > 1}

    def split(self):
        """(user, system) seconds, in clock ticks."""
        user = system = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat") as stream:
                fields = stream.read().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        tick = os.sysconf("SC_CLK_TCK")
        return user / tick, system / tick

    def pss(self):
        return sum(daemon.pss(pid) for pid in self.pids())

    def log_tail(self):
        return proc.tail(self.log)


class Sallyport(Proxy):
    name, works = "Sallyport", ("pop3", "cold", "smtp")

    def __init__(self):
        text = subprocess.run([daemon.BUILD / "sallyportd", "-V"], check=False,
                              capture_output=True, text=True)
        self.version = (text.stdout.split() or ["?"])[-1]

    def start(self):
        self.daemon = daemon.Daemon(SALLYPORT)
        self.log = self.daemon.log
        self.daemon.start()
        self.process = self.daemon.process
        self.daemon.wait_all()

    def stop(self):
        self.daemon.stop()

    def endpoint(self, work):
        return WORKS[work]


class Peer(Proxy):
    def __init__(self, name, config, argv, version, works, first_port):
        self.name, self.works = name, works
        self.ports = {work: first_port + PEER_PORTS[work] for work in works}
        path = DIR / f"{name.lower()}.conf"
        self.log = proc.LOG / f"{name.lower()}.log"
        self.argv = [word.format(config=path, dir=DIR) for word in argv]
        path.write_text(config.format(
            ca=ca.DIR / "ca.pem", dir=DIR, here=PEER_DOWN, warm=WARM,
            cold_at=COLD, mx=MX, warm_name=NAMES[WARM], cold_name=NAMES[COLD],
            files=os.sysconf("SC_OPEN_MAX"), **self.ports))
        said = subprocess.run(version, check=False, capture_output=True,
                              text=True)
        self.version = first_version(said.stdout + said.stderr)

    def start(self):
        self.process = proc.spawn("peer", self.argv, self.log)
        try:
            proc.wait_ports(self.process, self.ports.values(), self.name)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log_tail()}") from None

    def stop(self):
        proc.stop(self.process)

    def endpoint(self, work):
        return PEER_DOWN, self.ports[work]


def first_version(text):
    for word in text.replace("/", " ").split():
        if word[0].isdigit() and "." in word:
            return word
    return "?"


def peers():
    return [
        Peer("nginx", NGINX,
             ["nginx", "-p", "{dir}", "-c", "{config}", "-e", "stderr"],
             ["nginx", "-v"], ("pop3", "cold"), 1100),
        Peer("HAProxy", HAPROXY, ["haproxy", "-db", "-f", "{config}"],
             ["haproxy", "-v"], ("pop3", "cold", "smtp"), 1200),
        Peer("stunnel", STUNNEL, ["stunnel4", "{config}"],
             ["stunnel4", "-version"], ("pop3", "cold"), 1300),
    ]
