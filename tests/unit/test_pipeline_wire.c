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
	struct msg_verdict verdict; /* the last */
	struct msg_vouch vouch;
	unsigned asked, records, verdicts, vouches;
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

	if (type == MSG_WHO && CHECK_INT(len, sizeof(h->who))) {
		h->who = *(const struct msg_who *)payload;
		h->asked++;
	} else if (type == MSG_VERDICT && CHECK_INT(len, sizeof(h->verdict))) {
		h->verdict = *(const struct msg_verdict *)payload;
		h->verdicts++;
	} else if (type == MSG_VOUCH && CHECK_INT(len, sizeof(h->vouch))) {
		h->vouch = *(const struct msg_vouch *)payload;
		h->vouches++;
	}
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

/* Generation 3 is what wiring_hold() says. @rules: more of them. */
static void enforce(struct heard *h, const char *rules)
{
	struct policy_report report;
	struct policy_set *set = NULL;
	char yaml[1024];
	struct policy_source source = { .name = "p.yaml", .yaml = yaml };

	source.len = (size_t)snprintf(yaml, sizeof(yaml),
		"apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: enforce\n  on_failure: closed\n"
		"  rules:\n    - {name: no-drop, when: {effects: [schema_destroy]}, action: deny}\n"
		"%s", rules);
	policy_report_init(&report);
	CHECK_MSG(!policy_set_load(&source, 1, 3, &set, &report), "%s", buf_str(&report.text));
	if (set)
		pipeline_set_policy(h->pipeline, set);
	policy_report_fini(&report);
}

static void test_verdict(void)
{
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	enforce(&h, "");
	wiring_begin(&w, CLIENT, 5, 0);
	wiring_say(&w, "> Q(drop table t)");
	wiring_hold(&w, 4, 12);
	CHECK_INT(h.verdicts, 1);
	CHECK_INT(h.verdict.action, DBF_ACTION_DENY);
	CHECK_INT(h.verdict.wire, 1);
	CHECK_INT(h.verdict.slot, 4);
	CHECK_INT(h.verdict.slot_seq, 5);
	CHECK_STR(h.verdict.name, "no-drop");
	CHECK_INT(h.verdict.key.mode, DBF_MODE_WIRE);
	CHECK_INT(h.verdict.key.len, 12);
	CHECK_INT(h.verdict.key.policy_gen, 3);
	CHECK_INT(h.verdict.remember, 0); /* its client's program is not known yet */
	wiring_ended(&w, 4, DBF_ACTION_DENY, DBF_BY_KEEPER);
	wiring_say(&w, "< E(42601) ZI");
	CHECK_STR(h.last->outcome, "prevented");
	CHECK_STR(h.last->decision->action, "deny");
	answer(&h, "/bin/client");
	wiring_say(&w, "> Q(select 1)");
	wiring_hold(&w, 5, 8);
	CHECK_INT(h.verdict.action, DBF_ACTION_ALLOW);
	CHECK_STR(h.verdict.name, "");
	CHECK_INT(h.verdict.remember, 1);
	CHECK(h.verdict.key.identity_class != 0);
	wiring_say(&w, "> Q(select 2)");
	wiring_hold(&w, 6, 0);
	CHECK_INT(h.verdict.remember, 0); /* the kernel has no hash of it */
	wiring_say(&w, "> Q(select 3) O!");
	wiring_hold(&w, 7, 8);
	CHECK_INT(h.verdict.action, DBF_ACTION_DENY); /* it may be another text */
	done(&h);
}

/* What was prepared under other policies need not be asked about each time, when all of it is allowed. */
static void test_vouch(void)
{
	static const struct { const char *said, *rules; bool vouched; } cases[] = {
		{ "> P(s,select 1) P(t,select 2) S < 1 1 ZI > B(,s)", "", true },
		{ "> P(s,select 1) B(,s) E()", "", true },
		{ "> P(s,select 1) P(t,drop table t) S < 1 1 ZI > B(,s)", "", false },
		{ "> P(s,select 1) S < 1 ZI > P(t,drop table t) S B(,s)", "", false },
		{ "> P(s,select 1) S < 1 ZI > Q(prepare t as x) < C(PREPARE) ZI > B(,s)", "", false },
		{ "> P(s,select 1) S < G! R! ZI > B(,s)", "", false },
		{ "> P(s,select a from t) S < 1 ZI > B(,s)", "", true },
		/* What the session says of itself may be another tomorrow. */
		{ "> P(s,select a from t) S < 1 ZI > B(,s)",
		  "    - {name: app, when: {effects: [read]}, unless: {identity: {application_name: [test]}}, action: deny}\n", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct heard h;
		struct wiring w;

		setup(&h, &w);
		enforce(&h, cases[i].rules);
		wiring_begin(&w, CLIENT, 5, 0);
		wiring_say(&w, cases[i].said);
		wiring_hold(&w, 4, 0);
		CHECK_MSG(h.verdicts == 1 && h.vouches == cases[i].vouched, "%s: %u verdicts, %u vouches", cases[i].said,
			  h.verdicts, h.vouches);
		if (cases[i].vouched) {
			CHECK_INT(h.vouch.conn, 0x77);
			CHECK_INT(h.vouch.policy_gen, 3);
		}
		done(&h);
	}
}

/* How many texts are looked at for one held message, and whether it ends with a vouch. */
static unsigned looks_for(struct heard *h, struct wiring *w, const char *said, uint32_t slot, bool *vouched)
{
	struct msg_stats before, after;
	unsigned vouches = h->vouches;

	wiring_say(w, said);
	pipeline_stats(h->pipeline, &before);
	wiring_hold(w, slot, 0);
	pipeline_stats(h->pipeline, &after);
	wiring_ended(w, slot, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	*vouched = h->vouches != vouches;
	return (unsigned)(after.sql_calls - before.sql_calls);
}

/* When it cannot be vouched for a connection, that is found out once; each message is judged still. */
static void test_vouch_once(void)
{
	struct heard h;
	struct wiring w;
	bool vouched;
	char line[64];

	setup(&h, &w);
	enforce(&h, "");
	wiring_begin(&w, CLIENT, 5, 0);
	for (int i = 0; i < 600; i++) {
		snprintf(line, sizeof(line), "> P(s%d,select %d) S < 1 ZI", i, i);
		wiring_say(&w, line);
	}
	CHECK_MSG(looks_for(&h, &w, "> B(,s1)", 1, &vouched) > 500 && !vouched, "more than are looked through");
	CHECK_INT(h.verdict.action, DBF_ACTION_ALLOW);
	CHECK_INT(looks_for(&h, &w, "> E()", 2, &vouched), 1);
	CHECK_INT(looks_for(&h, &w, "> S < 2 C(SELECT 1) ZI > P(more,select 7) S < 1 ZI > B(,s2)", 3, &vouched), 1);
	CHECK_INT(h.verdicts, 3);
	wiring_say(&w, "> E() S < 2 C(SELECT 1) ZI > Q(deallocate all) < C(DEALLOCATE ALL) ZI > P(s,select 1) S < 1 ZI");
	CHECK_MSG(looks_for(&h, &w, "> B(,s)", 4, &vouched) < 5 && vouched, "they are gone");
	done(&h);

	setup(&h, &w);
	enforce(&h, "");
	wiring_begin(&w, CLIENT, 5, 0);
	wiring_say(&w, "> P(s,select 1) P(t,drop table t) S < 1 1 ZI");
	looks_for(&h, &w, "> B(,s)", 1, &vouched);
	CHECK(!vouched);
	CHECK_INT(looks_for(&h, &w, "> E()", 2, &vouched), 1);
	wiring_say(&w, "> S < 2 C(SELECT 1) ZI > C(S,t) S < 3 ZI");
	looks_for(&h, &w, "> B(,s)", 3, &vouched);
	CHECK_MSG(vouched, "what stood against it was closed");
	done(&h);
}

/* Other policies than the kernel's: not for those. And what is denied vouches for nothing. */
static void test_vouches_not(void)
{
	struct dbf_verdict v = { .gate = DBF_GATE_WIRE, .how = DBF_HOW_HOLD, .slot = 1, .slot_seq = 1, .policy_gen = 2 };
	struct heard h;
	struct wiring w;

	setup(&h, &w);
	enforce(&h, "");
	wiring_begin(&w, CLIENT, 5, 0);
	wiring_say(&w, "> P(s,select 1) S < 1 ZI > B(,s)");
	wiring_verdict(&w, &v);
	wiring_flush(&w);
	CHECK_INT(h.verdicts, 1);
	CHECK_INT(h.vouches, 0);
	wiring_say(&w, "> E() S < 2 C(SELECT 1) ZI > Q(drop table t)");
	wiring_hold(&w, 2, 0);
	CHECK_INT(h.verdict.action, DBF_ACTION_DENY);
	CHECK_INT(h.vouches, 0);
	done(&h);
}

static const struct test_case cases[] = {
	{ "record", test_record },	 { "other_process", test_other_process }, { "translated", test_translated },
	{ "pooler", test_pooler },	 { "doubt", test_doubt },		   { "session_bytes", test_session_bytes },
	{ "opaque", test_opaque },	 { "verdict", test_verdict },		  { "vouch", test_vouch },
	{ "vouches_not", test_vouches_not },  { "vouch_once", test_vouch_once },
};

TEST_MAIN(cases)
