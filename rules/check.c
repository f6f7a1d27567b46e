/*
 * check.c - can the rules work on this machine at all?
 *
 * Does: looks for the known reasons why captured traffic would die here, and
 * says each with the setting that cures it: no privilege, a tool missing, no
 * forwarding, src_valid_mark. Reads /proc/sys only.
 * Does not: change a setting. What else depends on it is not ours to know.
 *
 * Called by apply.c before anything is changed, by verify.c and by remove.c
 * (privilege and tools only).
 */
#include "rules/check.h"

#include <cap-ng.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "rules/render.h"
#include "rules/run.h"

int
check_tools(struct report *r)
{
	static const char *const tools[] = { "iptables-restore",
		"iptables-save", "ip6tables-restore", "ip6tables-save",
		"ipset", "ip" };
	const int before = r->errors;

	if (capng_get_caps_process() < 0 ||
	    !capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN))
		report_add(r, "error", "the kernel's rules can only be read and "
			"changed by root (CAP_NET_ADMIN)");
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (!run_exists(tools[i]))
			report_add(r, "error", "%s is not installed (Debian: "
				"apt install iptables ipset iproute2)",
				tools[i]);
	return r->errors == before ? 0 : -1;
}

/* A number from /proc/sys/net, or -1 when it is not there. */
static long
sysctl(const char *key)
{
	char path[320], text[32] = "";
	FILE *f;
	long value = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/%s", key);
	f = fopen(path, "re");
	if (f == NULL)
		return -1;
	if (fgets(text, sizeof(text), f) != NULL)
		value = strtol(text, NULL, 10);
	fclose(f);
	return value;
}

static bool
has_family(const struct conf *c, uint8_t family)
{
	for (size_t i = 0; i < c->nclasses; i++)
		for (size_t j = 0; j < c->classes[i].nprefixes; j++)
			if (c->classes[i].prefixes[j].family == family)
				return true;
	return false;
}

static void
check_source_filter(struct report *r)
{
	DIR *d = opendir("/proc/sys/net/ipv4/conf");
	char key[300];
	struct dirent *e;

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		/* "all" is one of the entries; "default" is about none */
		if (e->d_name[0] == '.' || strcmp(e->d_name, "default") == 0)
			continue;
		snprintf(key, sizeof(key), "ipv4/conf/%s/src_valid_mark",
			e->d_name);
		if (sysctl(key) == 1)
			report_add(r, "error", "net.ipv4.conf.%s."
				"src_valid_mark is 1: the source of captured "
				"packets would be judged by our own policy "
				"route and the packets dropped; set it to 0",
				e->d_name);
	}
	closedir(d);
}

int
check_machine(const struct conf *c, int families, struct report *r)
{
	const int before = r->errors;
	char ports[128];

	if (has_family(c, AF_INET) && sysctl("ipv4/ip_forward") == 0)
		report_add(r, "error", "net.ipv4.ip_forward is 0: this machine "
			"forwards nothing, so there is nothing to capture; set "
			"it to 1");
	if (has_family(c, AF_INET6) && families == 1)
		report_add(r, "note", "no IPv6 in this kernel: the IPv6 "
			"prefixes of the configuration are skipped");
	else if (has_family(c, AF_INET6) && sysctl("ipv6/conf/all/forwarding") == 0)
		report_add(r, "error", "net.ipv6.conf.all.forwarding is 0, but "
			"there are IPv6 subscribers; set it to 1");
	if (render_ports(c, ports, sizeof(ports)) > PORTS_MAX)
		report_add(r, "error", "the servers use more than %d different "
			"ports together with the usual mail ports", PORTS_MAX);
	check_source_filter(r);
	return r->errors == before ? 0 : -1;
}
