// SPDX-License-Identifier: Apache-2.0
/* Connections on the wire through the whole pipeline: what their records say that others do not. */
#include "../lib/test.h"

#include "audit/record.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"
#include "wire_records.h"

#define CLIENT (1 << DBF_WIRE_CLIENT)
#define SERVER (1 << DBF_WIRE_SERVER)

struct heard {
	struct pipeline *pipeline;
	struct record_arena arena;
	Dbfence__Audit__V1__Record *last; /* of the last record */
	struct msg_who who;
	unsigned asked, records;
};

static void on_record(void *ctx, const void *body, size_t len)
{
	struct heard *h = ctx;

	h->last = record_unpack(&h->arena, body, len);
	CHECK(h->last);
	h->records++;
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	struct heard *h = ctx;

	if (type != MSG_WHO || !CHECK_INT(len, sizeof(h->who)))
		return;
	h->who = *(const struct msg_who *)payload;
	h->asked++;
}

static void feed(void *to, const void *record, size_t len)
{
	pipeline_feed(to, record, len);
}

static void setup(struct heard *h, struct wiring *w)
{
	static const struct pipeline_ops ops = { .record = on_record, .message = on_message };
	struct pipeline_opts opts = { .node = "test", .full_text = true };

	*h = (struct heard){ 0 };
	record_arena_init(&h->arena);
	h->pipeline = pipeline_new(&opts, &ops, h);
	CHECK(h->pipeline);
	wiring_init(w, 0x77, feed, h->pipeline);
}

static void done(struct heard *h)
{
	pipeline_free(h->pipeline);
	record_arena_fini(&h->arena);
}

static void answer(struct heard *h, const char *exe)
{
	struct msg_who_answer a = { .session = h->who.session, .found = 1, .start_ticks = h->who.start / 10000000 };

	snprintf(a.exe, sizeof(a.exe), "%s", exe);
	pipeline_who(h->pipeline, &a);
}

static void test_record(void)
{
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	wiring_begin(&w, CLIENT | SERVER, 5, 42);
	CHECK_INT(h.asked, 1);
	CHECK_INT(h.who.pid, 5);
	CHECK_INT(h.who.session.session, 0x77);
	CHECK_INT(h.who.session.tgid, 0);
	answer(&h, "/bin/client");
	wiring_say(&w, "> Q(select 1) < D(1) C(SELECT 1) ZI");
	CHECK_STR(h.last->kind, "statement");
	CHECK_STR(h.last->vantage, "wire");
	CHECK_STR(h.last->leg, "");
	CHECK_STR(h.last->engine_version, "15");
	CHECK_STR(h.last->transport, "tcp");
	CHECK_STR(h.last->db_user, "ada");
	CHECK_STR(h.last->client->exe, "/bin/client");
	CHECK_INT(h.last->client->pid, 5);
	CHECK_INT(h.last->client->uid, 1005);
	CHECK_STR(h.last->client->address, "10.0.0.1");
	CHECK_STR(h.last->client->seen_as_address, "");
	CHECK_STR(h.last->server->address, "10.0.0.2");
	CHECK_INT(h.last->server->pid, 42);
	CHECK_INT(h.last->bytes_in, 5 + 9);
	CHECK_INT(h.last->bytes_out, 13 + 14 + 6);
	CHECK_INT(h.last->n_evidence, 1);
	CHECK_STR(h.last->evidence[0], "completion");
	done(&h);
}

/* Another process goes on with the connection: it is asked about, and an answer about the first comes too late. */
static void test_other_process(void)
{
	struct msg_who first;
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	wiring_begin(&w, CLIENT, 5, 0);
	first = h.who;
	wiring_who(&w, DBF_WIRE_CLIENT, 6, "other");
	wiring_say(&w, "> Q(a) < C(A) ZI");
	CHECK_INT(h.asked, 2);
	CHECK_INT(h.who.pid, 6);
	CHECK_INT(h.last->client->pid, 6);
	CHECK_STR(h.last->client->comm, "other");
	h.who = first;
	answer(&h, "/bin/first");
	wiring_say(&w, "> Q(a) < C(A) ZI");
	CHECK_STR(h.last->client->exe, "");
	wiring_who(&w, DBF_WIRE_CLIENT, 6, "other");
	wiring_say(&w, "> Q(a) < C(A) ZI");
	CHECK_INT(h.asked, 2); /* the same again: nothing to ask */
	done(&h);
}

static void test_translated(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, true);
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	o.synced = 3;
	o.server_addr[15] = 99;
	wiring_open(&w, &o);
	o = wiring_end(DBF_WIRE_SERVER, true);
	o.client_addr[15] = 77;
	o.client_port = 1024;
	wiring_open(&w, &o);
	wiring_say(&w, "> Q(a) < C(A) ZI");
	CHECK_STR(h.last->client->address, "10.0.0.1");
	CHECK_INT(h.last->client->port, 40000);
	CHECK_STR(h.last->client->seen_as_address, "10.0.0.77");
	CHECK_INT(h.last->client->seen_as_port, 1024);
	CHECK_STR(h.last->server->address, "10.0.0.2");
	CHECK_STR(h.last->server->seen_as_address, "10.0.0.99");
	done(&h);
}

static void test_pooler(void)
{
	struct heard h;
	struct wiring front, back;

	setup(&h, &front);
	wiring_init(&back, 0x78, feed, h.pipeline);
	wiring_begin(&front, CLIENT | SERVER, 5, 8);
	wiring_who(&front, DBF_WIRE_SERVER, 8, "pgbouncer");
	wiring_say(&front, "> Q(a)");
	wiring_begin(&back, CLIENT, 8, 0);
	wiring_say(&back, "> Q(a) < C(A) ZI");
	CHECK_STR(h.last->leg, "");
	wiring_say(&front, "< C(A) ZI");
	CHECK_STR(h.last->leg, "pooler");
	CHECK_INT(h.last->server->pid, 8);
	done(&h);
}

/* What may be another text is judged as nothing that is known. */
static void test_doubt(void)
{
	static const char *const said[] = { "> Q(select 1) O! < C(SELECT 1) ZI",
					    "> P(s,select 1) S < 1 ZI > G! R! < ZI > B(,s) E() S < 2 C(SELECT 1) ZI",
					    "> Q(select '\xe9') < C(SELECT 1) S(client_encoding=LATIN1) ZI" };

	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct heard h;
		struct wiring w;

		setup(&h, &w);
		wiring_begin(&w, CLIENT, 5, 0);
		wiring_say(&w, said[i]);
		CHECK_STR(h.last->kind, "statement");
		CHECK_STR(h.last->statement->unknown_reason, "doubt");
		CHECK_INT(h.last->n_effects, 1);
		CHECK_STR(h.last->effects[0]->kind, "unknown");
		done(&h);
	}
}

/* Who has a connection that cannot be read, and who cancels, is what such a record is for. */
static void test_opaque(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	struct heard h;
	struct wiring w;

	for (int cancel = 0; cancel < 2; cancel++) {
		setup(&h, &w);
		wiring_open(&w, &o);
		wiring_who(&w, DBF_WIRE_CLIENT, 5, "client");
		if (cancel)
			script_start(&w.script, 80877102, "\0\0\2\1", 4);
		else
			wiring_note(&w, DBF_WIRE_CLIENT, DBF_WIRE_OPAQUE, 0x16);
		wiring_flush(&w);
		CHECK_INT(h.records, 1);
		CHECK_STR(h.last->session->event, cancel ? "cancel_request" : "opaque");
		CHECK_STR(h.last->session->reason, cancel ? "backend 513" : "tls");
		CHECK_INT(h.last->client->pid, 5);
		CHECK_STR(h.last->client->address, "10.0.0.1");
		CHECK_INT(h.last->server->port, 5432);
		done(&h);
	}
}

static void test_session_bytes(void)
{
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	wiring_begin(&w, CLIENT, 5, 0);
	wiring_say(&w, "> Q(a) < C(A) ZI");
	wiring_close(&w, DBF_WIRE_CLIENT, false);
	CHECK_STR(h.last->kind, "session");
	CHECK_STR(h.last->session->event, "close");
	CHECK_INT(h.last->session->statements, 1);
	CHECK_INT(h.last->bytes_in, w.dirs[DBF_WIRE_CLIENT].bytes);
	CHECK_INT(h.last->bytes_out, w.dirs[DBF_WIRE_SERVER].bytes);
	done(&h);
}

static const struct test_case cases[] = {
	{ "record", test_record },	 { "other_process", test_other_process }, { "translated", test_translated },
	{ "pooler", test_pooler },	 { "doubt", test_doubt },		   { "session_bytes", test_session_bytes },
	{ "opaque", test_opaque },
};

TEST_MAIN(cases)
