/*
 * check.c - can the rules work on this machine at all?
 *
 * Does: looks for the known reasons why captured traffic would die here, and
 * says each with the setting that cures it: no privilege, a tool missing, no
 * forwarding, src_valid_mark, a bridge. Reads /proc/sys and asks ip(8).
 * Does not: change a setting. What else depends on it is not ours to know.
 *
 * Called by apply.c before anything is changed, by verify.c and by remove.c
 * (privilege and tools only).
 */
#include "rules/check.h"

#include <cap-ng.h>
#include <dirent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

static bool
is_named(const struct conf *c, const char *name)
{
	for (size_t i = 0; i < c->ninterfaces; i++) {
		const char *pattern = c->interfaces[i];
		size_t len = strlen(pattern);

		if (pattern[len - 1] == '+' ?
			strncmp(name, pattern, len - 1) == 0 :
			strcmp(name, pattern) == 0)
			return true;
	}
	return false;
}

static void
check_port(const struct conf *c, const json_t *link, struct report *r)
{
	const json_t *info = json_object_get(link, "linkinfo");
	const char *name = json_string_value(json_object_get(link, "ifname"));
	const char *master = json_string_value(json_object_get(link, "master"));
	const char *kind = json_string_value(json_object_get(info,
		"info_slave_kind"));

	if (name == NULL || master == NULL || kind == NULL ||
	    strcmp(kind, "bridge") != 0 || !is_named(c, name))
		return;
	report_add(r, "error", "%s is a port of the bridge %s: what a bridge "
		"forwards is not routed and cannot be captured; if this machine "
		"routes for the lines behind it, name %s in gateway.interfaces",
		name, master, master);
}

/* A bridge between the lines and their router never shows us a connection. */
static void
check_bridges(const struct conf *c, struct report *r)
{
	const char *const argv[] = { "ip", "-d", "-j", "link", "show", NULL };
	json_error_t error;
	json_t *links;
	struct run tool;

	if (c->ninterfaces == 0) {
		if (sysctl("bridge/bridge-nf-call-iptables") == 1)
			report_add(r, "note", "a bridge of this machine hands "
				"its frames to the rules "
				"(net.bridge.bridge-nf-call-iptables), but "
				"what is bridged cannot be captured: name the "
				"lines' interfaces in gateway.interfaces");
		return;
	}
	if (run(&tool, argv, NULL, 0) < 0 || tool.status != 0) {
		report_add(r, "error", "ip link: %s", run_why(&tool));
		run_free(&tool);
		return;
	}
	links = json_loads(tool.out, 0, &error);
	for (size_t i = 0; i < json_array_size(links); i++)
		check_port(c, json_array_get(links, i), r);
	json_decref(links);
	run_free(&tool);
}

/* Of the pool: with VRRP an address may be at the other gateway just now. */
static void
check_addresses(const struct conf *c, struct report *r)
{
	for (size_t i = 0; i < c->naddresses; i++) {
		struct sockaddr_storage ss;
		socklen_t len = addr_to_sockaddr(&c->addresses[i], &ss);
		int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		char text[ADDR_STRLEN];

		if (fd < 0)
			continue;
		if (bind(fd, (struct sockaddr *)&ss, len) < 0)
			report_add(r, "note", "gateway.addresses: %s is not an "
				"address of this machine now: connections "
				"from it fail", addr_format(&c->addresses[i],
				text));
		close(fd);
	}
}

int
check_machine(const struct conf *c, int families, struct report *r)
{
	const int before = r->errors;
	char ports[128];

	/* a single machine forwards for nobody */
	if (!c->local && has_family(c, AF_INET) &&
	    sysctl("ipv4/ip_forward") == 0)
		report_add(r, "error", "net.ipv4.ip_forward is 0: this machine "
			"forwards nothing, so there is nothing to capture; set "
			"it to 1");
	if (has_family(c, AF_INET6) && families == 1)
		report_add(r, "note", "no IPv6 in this kernel: the IPv6 "
			"prefixes of the configuration are skipped");
	else if (!c->local && has_family(c, AF_INET6) &&
	    sysctl("ipv6/conf/all/forwarding") == 0)
		report_add(r, "error", "net.ipv6.conf.all.forwarding is 0, but "
			"there are IPv6 subscribers; set it to 1");
	if (render_ports(c, ports, sizeof(ports)) > PORTS_MAX)
		report_add(r, "error", "the servers use more than %d different "
			"ports together with the usual mail ports", PORTS_MAX);
	if (c->capture == CAPTURE_TPROXY)
		check_source_filter(r);
	check_bridges(c, r);
	check_addresses(c, r);
	return r->errors == before ? 0 : -1;
}
