// SPDX-License-Identifier: Apache-2.0
/*
 * The gate, the rewriter, sockets and devices, without a daemon: loads wire_gate.bpf.o and does a keeper's part of the
 * work for the tests that are written in Python, which tell it what to do by lines on its standard input.
 *
 *   wire_rig OBJECT CGROUP [option=number]...      port hold_ms closed tail state receive (of the gate)
 *
 *   verdict allow|deny|kill|none DELAY_US NAME     what becomes of statements from now on; none: nobody answers
 *   poke 0|1        destroy 0|1         take 0|1 (a duplicate of the socket)
 *   scan 0|1        stats    slots      drop N      pin PATH PROGRAM     tcx DEVICE on|off
 *   release (of all holds, as before a disarm)    detach   quit
 *
 * Answers are lines; each command's last begins with "ok".
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "core/clock.h"
#include "enforce/socket.h"
#include "enforce/wire_hold.h"
#include "loader/handback.h"
#include "loader/netdev.h"
#include "loader/wire_release.h"

#define NONE DBF_WIRE_HOLD
#define TCX_EGRESS 47

struct held { /* a hold that the rig knows of */
	uint32_t slot, seq;
	int fd, pidfd;
	uint64_t decide_ns, again_ns;
	bool told;
};

static struct bpf_object *obj;
static struct bpf_link *egress, *ingress, *state_link;
static struct dbf_wire_hold *slots;
static struct netdev *nd;
static struct held helds[DBF_WIRE_HOLD_SLOTS];
static size_t held_cnt;
static enum dbf_wire_hold_state verdict = NONE;
static uint64_t delay_ns;
static char name[256];
static bool poke = true, destroy = true, taken = true;

static int map_fd(const char *map)
{
	return bpf_object__find_map_fd_by_name(obj, map);
}

static void fail(const char *what)
{
	fprintf(stderr, "wire_rig: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *variables(const char *section, size_t *size)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj)
		if (strstr(bpf_map__name(map), section))
			return (void *)bpf_map__initial_value(map, size);
	return NULL;
}

/* cfg_port, cfg_hold_ns, cfg_fail_closed, cfg_tail, cfg_state, by their names in the object's types. */
static void set_option(const char *option, uint64_t value)
{
	size_t size = 0;
	char *data = variables(".rodata", &size);
	struct btf *btf = bpf_object__btf(obj);
	const struct btf_type *sec = btf__type_by_id(btf, (uint32_t)btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC));
	const struct btf_var_secinfo *v = btf_var_secinfos(sec);

	for (int i = 0; i < btf_vlen(sec); i++) {
		const char *var = btf__name_by_offset(btf, btf__type_by_id(btf, v[i].type)->name_off);

		if (!strcmp(var, option))
			memcpy(data + v[i].offset, &value, v[i].size);
	}
}

static void options(int argc, char **argv)
{
	set_option("cfg_hold_ns", 60000 * NS_PER_MS);
	set_option("cfg_state", DBF_WIRE_HOLD);
	set_option("cfg_fail_closed", 1);
	set_option("cfg_keep_mark", 0x5eedf00d);
	for (int i = 0; i < argc; i++) {
		char *eq = strchr(argv[i], '='), full[64];
		uint64_t value;

		if (!eq)
			fail(argv[i]);
		*eq = '\0';
		value = strtoull(eq + 1, NULL, 0);
		if (!strcmp(argv[i], "hold_ms"))
			set_option("cfg_hold_ns", value * NS_PER_MS);
		snprintf(full, sizeof(full), "cfg_%s", !strcmp(argv[i], "closed") ? "fail_closed" : argv[i]);
		set_option(full, value);
	}
}

static void load(const char *path, const char *cgroup, int argc, char **argv)
{
	int dir = open(cgroup, O_RDONLY | O_DIRECTORY);
	size_t len = DBF_WIRE_HOLD_SLOTS * sizeof(*slots);
	static const char *const unused[] = { "ring", "backends", "releases", "tcp_clients", "verdicts", "classes",
					      "screens", "holds", "connecting", "servers", "clusters", "stopping" };

	obj = bpf_object__open_file(path, NULL);
	if (!obj || dir < 0)
		fail(path);
	options(argc, argv);
	for (size_t i = 0; i < sizeof(unused) / sizeof(unused[0]); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(obj, unused[i]);

		if (map)
			bpf_map__set_autocreate(map, false);
	}
	if (bpf_object__load(obj))
		fail("load");
	egress = bpf_program__attach_cgroup(bpf_object__find_program_by_name(obj, "egress"), dir);
	ingress = bpf_program__attach_cgroup(bpf_object__find_program_by_name(obj, "ingress"), dir);
	state_link = bpf_program__attach(bpf_object__find_program_by_name(obj, "socket_state"));
	if (!egress || !ingress || !state_link)
		fail("attach");
	len = (len + 4095) & ~4095UL;
	slots = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd("wire_holds"), 0);
	nd = netdev_new(bpf_program__fd(bpf_object__find_program_by_name(obj, "wire_rewriter")), map_fd("wire_devices"));
	if (slots == MAP_FAILED || !nd)
		fail("mmap");
	close(dir);
}

static int on_event(void *ctx, void *data, size_t size)
{
	struct { uint32_t slot, slot_seq, pid, len; uint64_t cookie; } *e = data;
	struct held *h = &helds[held_cnt];
	struct err err = {};

	(void)ctx;
	(void)size;
	if (held_cnt == DBF_WIRE_HOLD_SLOTS)
		return 0;
	*h = (struct held){ .slot = e->slot, .seq = e->slot_seq, .fd = -1, .pidfd = -1,
			    .decide_ns = slots[e->slot].since_ns + delay_ns };
	held_cnt++;
	if (taken && !slots[e->slot].received && socket_take(NULL, (pid_t)e->pid, e->cookie, &h->fd, &h->pidfd, &err))
		printf("no duplicate: %s\n", err.text);
	printf("held slot=%u pid=%u from=%u end=%u packet=%u\n", e->slot, e->pid,
	       slots[e->slot].from - slots[e->slot].start, slots[e->slot].end - slots[e->slot].start, e->len);
	return 0;
}

static void forget(struct held *h)
{
	if (h->fd >= 0)
		close(h->fd);
	if (h->pidfd >= 0)
		close(h->pidfd);
	*h = helds[--held_cnt];
}

static void end_socket(struct held *h)
{
	struct dbf_wire_hold *slot = &slots[h->slot];
	struct err err = {};
	int diag, rc, ns = netdev_namespace(nd, slot->netns);

	if (h->fd >= 0)
		socket_abort(h->fd);
	h->fd = -1;
	if (socket_diag_open(ns, &diag, &err)) {
		printf("error %s\n", err.text);
		return;
	}
	rc = socket_destroy(diag, slot, &err);
	printf("destroyed rc=%d listed=%d\n", rc, socket_is_listed(diag, slot, &err));
	close(diag);
}

static int hand_back(struct held *h, struct err *err)
{
	h->again_ns = clock_mono_ns() + 20 * NS_PER_MS;
	return handback(bpf_program__fd(bpf_object__find_program_by_name(obj, "wire_handback")),
			netdev_namespace(nd, slots[h->slot].netns), h->slot, h->seq, err);
}

/* True when the hold needs no more care. */
static bool care(struct held *h, uint64_t now)
{
	struct dbf_wire_hold *slot = &slots[h->slot];
	uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
	bool gone = h->pidfd >= 0 && !socket_owner_lives(h->pidfd);
	struct err err = {};
	int rc;

	if (DBF_STATE_SEQ(state) != h->seq)
		return true;
	/* If ours was the last descriptor, closing it sends the FIN by which the gate sees that nobody is left. */
	if (gone && h->fd >= 0 && DBF_STATE_OF(state) == DBF_WIRE_HOLD) {
		close(h->fd);
		h->fd = -1;
		return false;
	}
	if (destroy && !h->told && DBF_STATE_OF(state) == DBF_WIRE_ABANDONED) {
		h->told = true;
		end_socket(h);
		return false;
	}
	if (slot->received && poke && DBF_STATE_OF(state) > DBF_WIRE_HOLD && DBF_STATE_OF(state) < DBF_WIRE_ABANDONED &&
	    now > h->again_ns) {
		hand_back(h, &err);
	}
	if (DBF_STATE_OF(state) != DBF_WIRE_HOLD || verdict == NONE || now < h->decide_ns || h->told)
		return false;
	rc = wire_hold_end(slots, h->slot, h->seq, verdict, name, DBF_BY_KEEPER);
	if (!rc && slot->received && poke)
		rc = hand_back(h, &err);
	else if (!rc && poke && h->fd >= 0)
		rc = socket_poke(h->fd);
	if (rc < 0)
		printf("error %s\n", err.text);
	printf("decided rc=%d refusals=%u after_us=%llu\n", rc, slot->refusals,
	       (unsigned long long)((clock_mono_ns() - slot->since_ns) / 1000));
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	return false;
}

static void show_stats(void)
{
	static const enum dbf_count shown[] = { DBF_COUNT_WIRE_HOLDS, DBF_COUNT_WIRE_NO_SLOT, DBF_COUNT_WIRE_OVERDUE,
						DBF_COUNT_WIRE_ABANDONED, DBF_COUNT_WIRE_REWRITES, DBF_COUNT_WIRE_KILLS,
						DBF_COUNT_WIRE_FAILED, DBF_COUNT_WIRE_WRONG_DEVICE, DBF_COUNT_WIRE_LEAKED };
	static const char *const names[] = { "holds", "no_slot", "overdue", "abandoned", "rewrites", "kills", "failed",
					     "wrong_device", "leaked" };
	struct netdev_stats n = netdev_get_stats(nd);
	struct dbf_vitals v = {};
	uint32_t zero = 0;

	bpf_map_lookup_elem(map_fd("vitals"), &zero, &v);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		printf("%s=%llu ", names[i], (unsigned long long)v.counts[shown[i]]);
	printf("open=%u namespaces=%u devices=%u behind=%u dev_failed=%u\n", wire_hold_count(slots, DBF_WIRE_HOLD_SLOTS), n.namespaces, n.devices, n.behind,
	       n.failed);
}

static void show_slots(void)
{
	for (unsigned i = 0; i < DBF_WIRE_HOLD_SLOTS; i++)
		if (DBF_STATE_OF(slots[i].state) != DBF_WIRE_FREE)
			printf("slot %u %s refusals=%u passes=%u rewrites=%u ifindex=%u\n", i,
			       wire_hold_state_name(DBF_STATE_OF(slots[i].state)), slots[i].refusals, slots[i].passes,
			       slots[i].rewrites, slots[i].ifindex);
}

static void set_drops(uint64_t cnt)
{
	struct bpf_map *map;
	uint32_t zero = 0;
	uint64_t value[2] = { cnt, 0 };

	bpf_object__for_each_map(map, obj)
		if (strstr(bpf_map__name(map), ".bss"))
			bpf_map_update_elem(bpf_map__fd(map), &zero, value, BPF_ANY);
}

/* A program of somebody else's on a device's newer hook, which runs before every filter. */
static void set_tcx(const char *device, bool on)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = if_nametoindex(device);
	attr.attach_bpf_fd = (uint32_t)bpf_program__fd(bpf_object__find_program_by_name(obj, "drop_first"));
	attr.attach_type = TCX_EGRESS;
	printf("tcx %ld\n", syscall(SYS_bpf, on ? BPF_PROG_ATTACH : BPF_PROG_DETACH, &attr, sizeof(attr)));
}

static void set_verdict(const char *word, const char *us)
{
	verdict = !strcmp(word, "allow") ? DBF_WIRE_ALLOW :
		  !strcmp(word, "deny")	 ? DBF_WIRE_REWRITE :
		  !strcmp(word, "kill")	 ? DBF_WIRE_KILL :
					   NONE;
	delay_ns = strtoull(us, NULL, 10) * 1000;
}

static bool obey(char *line)
{
	char a[3][256] = {}, word[32] = "";
	struct err err = {};
	int n = sscanf(line, "%31s %255s %255s %255s", word, a[0], a[1], a[2]);
	uint64_t number = strtoull(a[0], NULL, 0);

	if (n < 1 || !strcmp(word, "quit"))
		return false;
	if (!strcmp(word, "verdict")) {
		set_verdict(a[0], a[1]);
		snprintf(name, sizeof(name), "%s", a[2]);
	} else if (!strcmp(word, "poke"))
		poke = number;
	else if (!strcmp(word, "destroy"))
		destroy = number;
	else if (!strcmp(word, "take"))
		taken = number;
	else if (!strcmp(word, "scan")) {
		if (netdev_scan(nd, &err))
			printf("error %s\n", err.text);
		netdev_look(nd, number ? UINT_MAX : 0);
	} else if (!strcmp(word, "stats"))
		show_stats();
	else if (!strcmp(word, "slots"))
		show_slots();
	else if (!strcmp(word, "tcx"))
		set_tcx(a[0], !strcmp(a[1], "on"));
	else if (!strcmp(word, "drop"))
		set_drops(number);
	else if (!strcmp(word, "pin"))
		printf("pinned %d\n", bpf_program__pin(bpf_object__find_program_by_name(obj, a[1]), a[0]));
	else if (!strcmp(word, "release"))
		printf("left %u\n", wire_release_all(slots, bpf_program__fd(bpf_object__find_program_by_name(obj, "wire_handback")), WIRE_RELEASE_MS));
	else if (!strcmp(word, "detach")) {
		bpf_link__destroy(egress);
		bpf_link__destroy(ingress);
		egress = ingress = NULL;
		printf("removed %d\n", netdev_detach_all(&err));
	}
	printf("ok %s\n", word);
	return true;
}

/* Whole lines from standard input. */
static bool read_commands(void)
{
	static char buf[4096];
	static size_t have;
	ssize_t n = read(0, buf + have, sizeof(buf) - 1 - have);
	char *nl;

	if (n <= 0)
		return false;
	have += (size_t)n;
	buf[have] = '\0';
	while ((nl = strchr(buf, '\n'))) {
		*nl = '\0';
		if (!obey(buf))
			return false;
		have -= (size_t)(nl + 1 - buf);
		memmove(buf, nl + 1, have + 1);
	}
	return true;
}

static bool turn(struct ring_buffer *ring)
{
	struct pollfd p[] = { { .fd = 0, .events = POLLIN }, { .fd = ring_buffer__epoll_fd(ring), .events = POLLIN },
			      { .fd = netdev_fd(nd), .events = POLLIN } };
	uint64_t now;

	/* While something waits for its time, the rig is as exact as the tests' delays are short. */
	poll(p, 3, held_cnt ? (verdict != NONE && delay_ns < NS_PER_MS ? 0 : 1) : 100);
	if (p[1].revents)
		ring_buffer__consume(ring);
	now = clock_mono_ns();
	for (size_t i = 0; i < held_cnt;)
		if (care(&helds[i], now))
			forget(&helds[i]);
		else
			i++;
	if (p[2].revents)
		netdev_poll(nd);
	return !p[0].revents || read_commands();
}

int main(int argc, char **argv)
{
	struct ring_buffer *ring;

	if (argc < 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	load(argv[1], argv[2], argc - 3, argv + 3);
	ring = ring_buffer__new(map_fd("events"), on_event, NULL, NULL);
	if (!ring)
		fail("ring");
	printf("ok ready\n");
	while (turn(ring))
		;
	netdev_detach_all(NULL);
	netdev_free(nd);
	bpf_link__destroy(egress);
	bpf_link__destroy(ingress);
	bpf_link__destroy(state_link);
	bpf_object__close(obj);
	return 0;
}
