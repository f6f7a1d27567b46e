"""A small real DNS server (dnsmasq): every name of the lab, both families.

Short times to live, so that a test may change an answer and see it taken.
"""

from pathlib import Path

import net
import proc

CONF = Path("/run/lab/dnsmasq.conf")

NAMES = {
    "mx.alpha.example": ("mxa", 0),
    "mx.beta.example": ("mxb", 0),
    "mail.isp.example": ("isp", 0),
    "mx.isp.example": ("isp", 1),
    # A listed server on which tests put servers that misbehave.
    "odd.isp.example": ("dns", 1),
    "ns.lab.example": ("dns", 0),
    # A submission_host on which tests put what they need.
    "submit.isp.example": ("dns", 0),
    "line-dynamic.isp.example": ("dynamic", 0),
    "line-second.isp.example": ("second", 0),
    "line-legacy.isp.example": ("legacy", 0),
    "line-allowed.isp.example": ("allowed", 0),
    "line-fixed.isp.example": ("fixed", 0),
}
MX = {"alpha.example": "mx.alpha.example", "beta.example": "mx.beta.example",
      "isp.example": "mx.isp.example"}


def start():
    lines = ["no-resolv", "no-hosts", "no-daemon", "user=root", "port=53",
             "bind-interfaces", "listen-address=203.0.113.53",
             "listen-address=2001:db8:53::53", "local=/example/",
             "local=/in-addr.arpa/", "local=/ip6.arpa/", "local-ttl=5",
             "no-ping", "dns-forward-max=1", "cache-size=0"]
    for name, (host, which) in NAMES.items():
        lines.append(f"host-record={name},{net.address(host, 4, which)},"
                     f"{net.address(host, 6, which)}")
    # One family only; one of two that takes no submission.
    lines.append(f"host-record=four.isp.example,{net.address('isp', 4, 1)}")
    for host, which in (("mxb", 0), ("isp", 1)):
        lines.append(f"host-record=two.isp.example,"
                     f"{net.address(host, 4, which)},"
                     f"{net.address(host, 6, which)}")
    lines.append(f"host-record=gw1.isp.example,{net.GW_UP[4]},{net.GW_UP[6]}")
    for domain, target in MX.items():
        lines.append(f"mx-host={domain},{target},10")
    CONF.write_text("\n".join(lines) + "\n")
    return proc.spawn("dns", ["dnsmasq", f"--conf-file={CONF}"],
                      proc.LOG / "dnsmasq.log")
