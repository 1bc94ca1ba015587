/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the records that the kernel side sends about TCP connections, and feeds them to a connection table or a pipeline.
 * What is said stands in scripts as in pgwire_script.h; each '>' and '<' begins a record.
 */
#ifndef DBFENCE_TESTS_WIRE_RECORDS_H
#define DBFENCE_TESTS_WIRE_RECORDS_H

#include "pgwire_script.h"

struct wiring { /* one connection */
	struct script script; /* first: items come back with it */
	void (*feed)(void *to, const void *record, size_t len);
	void *to;
	uint64_t conn;
	uint64_t ts;
	struct {
		uint32_t seq, lost, lost_execs;
		uint64_t bytes;
	} dirs[2];
	int dir;
	uint64_t record[4096];
	size_t len; /* 0: none is begun */
};

static inline void wiring_flush(struct wiring *w)
{
	struct dbf_wire head = { .abi = DBF_WIRE_ABI, .len = (uint32_t)w->len, .conn = w->conn, .ts = w->ts += 1000,
				 .bytes = w->dirs[w->dir].bytes, .seq = w->dirs[w->dir].seq,
				 .lost_records = w->dirs[w->dir].lost, .lost_execs = w->dirs[w->dir].lost_execs,
				 .dir = (uint8_t)w->dir };
	unsigned char *exact;

	if (!w->len)
		return;
	w->dirs[w->dir].seq++;
	memcpy(w->record, &head, sizeof(head));
	exact = malloc(w->len);
	if (!exact)
		abort();
	memcpy(exact, w->record, w->len);
	w->feed(w->to, exact, w->len);
	free(exact);
	w->len = 0;
}

static inline void wiring_item(struct wiring *w, int dir, const struct dbf_wire_item *item, const void *bytes)
{
	size_t size = (sizeof(*item) + item->captured + 7U) & ~7UL;
	unsigned char *to;

	if (w->len && (w->dir != dir || w->len + size > sizeof(w->record)))
		wiring_flush(w);
	w->dir = dir;
	if (!w->len)
		w->len = sizeof(struct dbf_wire);
	to = (unsigned char *)w->record + w->len;
	memset(to, 0, size);
	memcpy(to, item, sizeof(*item));
	if (bytes)
		memcpy(to + sizeof(*item), bytes, item->captured);
	w->len += size;
	w->dirs[dir].bytes += 5 + item->length;
}

static inline void wiring_script_item(struct script *s, int dir, const struct dbf_wire_item *item, const void *bytes)
{
	wiring_item((struct wiring *)s, dir, item, bytes);
}

static inline void wiring_init(struct wiring *w, uint64_t conn, void (*feed)(void *, const void *, size_t), void *to)
{
	*w = (struct wiring){ .script.item = wiring_script_item, .feed = feed, .to = to, .conn = conn, .ts = 1000000 };
}

/* An end is followed: a client at 10.0.0.1 and a server at 10.0.0.2, as both see it. */
static inline struct dbf_wire_open wiring_end(int end, bool joined)
{
	struct dbf_wire_open o = { .client_port = 40000, .server_port = 5432, .end = (uint8_t)end, .joined = joined,
				   .synced = joined ? 0 : 3 };

	o.client_addr[10] = o.client_addr[11] = o.server_addr[10] = o.server_addr[11] = 0xff;
	o.client_addr[12] = o.server_addr[12] = 10;
	o.client_addr[15] = 1;
	o.server_addr[15] = 2;
	return o;
}

static inline void wiring_open(struct wiring *w, const struct dbf_wire_open *o)
{
	struct dbf_wire_item item = { .type = DBF_WIRE_OPEN, .captured = sizeof(*o) };

	wiring_item(w, o->end, &item, o);
}

static inline void wiring_who(struct wiring *w, int end, uint32_t pid, const char *comm)
{
	struct dbf_wire_item item = { .type = DBF_WIRE_WHO, .captured = sizeof(struct dbf_wire_who) };
	struct dbf_wire_who who = { .pid = pid, .uid = 1000 + pid, .start = pid * 10000000ULL, .cgroup = 7 };

	snprintf(who.comm, sizeof(who.comm), "%s", comm);
	wiring_item(w, end, &item, &who);
}

static inline void wiring_note(struct wiring *w, int dir, uint8_t type, uint32_t length)
{
	struct dbf_wire_item item = { .type = type, .length = length };

	wiring_item(w, dir, &item, NULL);
}

/* About the message before it. */
static inline void wiring_verdict(struct wiring *w, const struct dbf_verdict *v)
{
	struct dbf_wire_item item = { .type = DBF_WIRE_VERDICT, .captured = sizeof(*v) };

	wiring_item(w, DBF_WIRE_CLIENT, &item, v);
}

/* The message before is held in @slot, with sequence @slot + 1; @hashed bytes of it were. */
static inline void wiring_hold(struct wiring *w, uint32_t slot, uint32_t hashed)
{
	struct dbf_verdict v = { .gate = DBF_GATE_WIRE, .how = DBF_HOW_HOLD, .slot = slot, .slot_seq = slot + 1,
				 .policy_gen = 3, .text_len = hashed, .hash = { 11, 12 }, .deadline_ns = w->ts + 9000 };

	wiring_verdict(w, &v);
	wiring_flush(w);
}

static inline void wiring_decided(struct wiring *w, uint16_t how, uint16_t action)
{
	struct dbf_verdict v = { .gate = DBF_GATE_WIRE, .how = how, .action = action, .why = DBF_WHY_KEEPER_SILENT,
				 .policy_gen = 3 };

	wiring_verdict(w, &v);
	wiring_flush(w);
}

static inline void wiring_ended(struct wiring *w, uint32_t slot, uint16_t action, uint16_t by)
{
	struct dbf_verdict v = { .how = DBF_HOW_HOLD, .action = action, .why = by, .slot = slot, .slot_seq = slot + 1,
				 .deadline_ns = w->ts + 7000 };

	wiring_verdict(w, &v);
	wiring_flush(w);
}

static inline void wiring_say(struct wiring *w, const char *line)
{
	script_feed(&w->script, line);
	wiring_flush(w);
}

/* Ends seen on this node, bits by enum dbf_wire_dir; a start-up packet, and the server's answers to it. */
static inline void wiring_begin(struct wiring *w, unsigned ends, uint32_t client, uint32_t server)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	static const char parameters[] = "user\0ada\0database\0db\0application_name\0test\0";

	if (ends & 1 << DBF_WIRE_CLIENT) {
		wiring_open(w, &o);
		wiring_who(w, DBF_WIRE_CLIENT, client, "client");
	}
	o.end = DBF_WIRE_SERVER;
	if (ends == 1 << DBF_WIRE_SERVER) /* its ingress brings the client's direction */
		wiring_open(w, &o);
	script_start(&w->script, 3 << 16, parameters, sizeof(parameters));
	wiring_flush(w);
	if (ends == 3)
		wiring_open(w, &o);
	if (ends & 1 << DBF_WIRE_SERVER)
		wiring_who(w, DBF_WIRE_SERVER, server, "postgres");
	script_message(&w->script, DBF_WIRE_SERVER, 'R', "\0\0\0\0", 4, 4);
	wiring_say(w, "< S(client_encoding=UTF8) S(server_version=15.3) S(standard_conforming_strings=on) ZI");
}

static inline void wiring_close(struct wiring *w, int end, bool reset)
{
	wiring_note(w, end, DBF_WIRE_CLOSE, reset ? 2 : 1);
	wiring_flush(w);
}

#endif
