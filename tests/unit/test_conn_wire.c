// SPDX-License-Identifier: Apache-2.0
/* conn/wire: records of connections to sessions and statements, alone and beside the server vantage. */
#include "../lib/test.h"

#include "core/limits.h"
#include "wire_fixture.h"

static void setup(struct fixture *f)
{
	feeding_init(&f->out);
	wiring_init(&f->w, 0x77, feed_table, f->out.table);
}

static void done(struct fixture *f, unsigned sessions)
{
	CHECK_INT(conn_table_cnt(f->out.table), sessions);
	CHECK_INT(conn_table_counters(f->out.table)->bad_records, 0);
	feeding_fini(&f->out);
}

static void test_statements(void)
{
	struct fixture f;

	setup(&f);
	wiring_begin(&f.w, CLIENT, 5, 0);
	expect(&f, "client 5\nsession open\nsession auth_ok\n", "opened by the first ReadyForQuery");
	wiring_say(&f.w, "> Q(select 1) < T D(1) C(SELECT 1) ZI");
	expect(&f, "1 simple 'select 1' executed [SELECT 1] rows=1 x1+\n", "one");
	wiring_say(&f.w, "> Q(a) < E(42601) ZI");
	expect(&f, "2 simple 'a' failed 42601 x2-\n", "failed");
	wiring_say(&f.w, "> P(s,b) B(,s) D(P,) E() S < 1 2 T D(2) C(SHOW) ZI");
	expect(&f, "3 extended 'b' executed name=s [SHOW] rows=2 x3+\n", "rows that no tag counts");
	wiring_say(&f.w, "> P(,a) B(,) E() P(,b) B(,) E() P(,c) B(,) E() S < 1 2 C(INSERT 0 1) 1 2 E(22012) ZI");
	expect(&f, "4 extended 'a' executed [INSERT 0 1] rows=1 x4\n5 extended 'b' failed 22012 x4\n"
	       "x4 rolled back, 2 statements, xid 0, implicit\n", "a pipeline");
	wiring_say(&f.w, "> Q(begin) < C(BEGIN) ZT > Q(i) < C(INSERT 0 1) ZT > Q(commit) < C(COMMIT) ZI");
	expect(&f, "6 simple 'begin' executed [BEGIN] x5\n7 simple 'i' executed [INSERT 0 1] rows=1 x5\n"
	       "8 simple 'commit' executed [COMMIT] x5\nx5 committed, 3 statements, xid 0\n", "a transaction");
	wiring_say(&f.w, "> Q(begin) < C(BEGIN) ZT > P(,a) B(p,) E(p) S < 1 2 D(2) s ZT > E(p) S < D(1) C(SELECT 1) ZT "
		   "> Q(rollback) < C(ROLLBACK) ZI");
	expect(&f, "9 simple 'begin' executed [BEGIN] x6\n10 extended 'a' executed [SELECT 1] rows=3 !suspended x6\n"
	       "11 simple 'rollback' executed [ROLLBACK] x6\nx6 rolled back, 3 statements, xid 0\n", "a portal in pieces");
	wiring_say(&f.w, "> Q() < I ZI > P(,) B(,) E() S < 1 2 I ZI > F < V ZI");
	expect(&f, "12 simple '' executed x7+\n13 extended '' executed x8+\n14 fastpath '' executed [FUNCTION CALL] x9+\n",
	       "empty, and a function");
	wiring_say(&f.w, "> P(,copy) B(,) E() S < 1 2 G > d(2) c S < C(COPY 2) ZI > Q(a) < C(A) ZI");
	expect(&f, "15 extended 'copy' executed [COPY 2] rows=2 x10+\n16 simple 'a' executed [A] x11+\n", "a copy");
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "session close closed\n", "closed");
	done(&f, 0);
}

static void test_ends(void)
{
	struct fixture f;

	setup(&f);
	wiring_begin(&f.w, CLIENT | SERVER, 5, 6);
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> Q(a)");
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "", "the server's end may still answer");
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "1 simple 'a' executed [A] x1+\n", "it did");
	wiring_close(&f.w, DBF_WIRE_SERVER, false);
	expect(&f, "session close closed\n", "both ends");
	wiring_init(&f.w, f.w.conn + 1, feed_table, f.out.table);
	wiring_begin(&f.w, SERVER, 5, 6);
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> P(,a) B(,) E() S Q(b)");
	wiring_close(&f.w, DBF_WIRE_SERVER, true);
	expect(&f, "1 extended 'a' aborted x1\n2 simple 'b' aborted x1\nx1 unknown, 2 statements, xid 0, implicit\n"
	       "session close reset\n", "not answered");
	wiring_init(&f.w, f.w.conn + 1, feed_table, f.out.table);
	wiring_begin(&f.w, SERVER, 5, 6);
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> Q(a) < E(57P01)");
	wiring_close(&f.w, DBF_WIRE_SERVER, false);
	expect(&f, "1 simple 'a' failed 57P01 x1-\nsession close closed\n", "an error before the end");
	wiring_close(&f.w, DBF_WIRE_SERVER, false);
	expect(&f, "", "what is over begins nothing");
	done(&f, 0);
}

static void test_refused(void)
{
	static const char error[] = "SFATAL\0VFATAL\0C28P01\0Mno\0";
	static const char parameters[] = "user\0ada\0";
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	struct fixture f;

	setup(&f);
	wiring_open(&f.w, &o);
	script_start(&f.w.script, 3 << 16, parameters, sizeof(parameters));
	script_message(&f.w.script, DBF_WIRE_SERVER, 'E', error, sizeof(error), sizeof(error));
	wiring_flush(&f.w);
	expect(&f, "", "it is not settled whose records stand");
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "session open\nsession auth_failed no\nsession close 28P01 no\n", "now it is");
	wiring_init(&f.w, 0x78, feed_table, f.out.table);
	wiring_open(&f.w, &o);
	script_start(&f.w.script, 80877102, "\0\0\2\1", 4);
	wiring_flush(&f.w);
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "session cancel_request backend 513\n", "a request to cancel");
	done(&f, 0);
}

static void test_opaque(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	struct fixture f;

	setup(&f);
	wiring_open(&f.w, &o);
	script_start(&f.w.script, 80877103, "", 0);
	wiring_note(&f.w, DBF_WIRE_SERVER, DBF_WIRE_ANSWER, 'S');
	wiring_note(&f.w, DBF_WIRE_SERVER, DBF_WIRE_OPAQUE, 'S');
	wiring_note(&f.w, DBF_WIRE_CLIENT, DBF_WIRE_OPAQUE, 0x16);
	wiring_flush(&f.w);
	expect(&f, "session opaque tls\n", "the server is elsewhere");
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "", "that was all");
	wiring_open(&f.w, &o);
	script_start(&f.w.script, 80877103, "", 0);
	o.end = DBF_WIRE_SERVER;
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_SERVER, 42, "postgres");
	wiring_note(&f.w, DBF_WIRE_SERVER, DBF_WIRE_OPAQUE, 'S');
	wiring_flush(&f.w);
	expect(&f, "", "the server vantage may see it");
	f.w.ts += 3000000000;
	f.w.conn++;
	wiring_note(&f.w, DBF_WIRE_CLIENT, DBF_WIRE_CLOSE, 1);
	wiring_flush(&f.w);
	expect(&f, "session opaque tls\n", "it does not");
	f.w.conn--;
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	wiring_close(&f.w, DBF_WIRE_SERVER, false);
	expect(&f, "", "once");
	done(&f, 0);
}

/* What a backend with process 42 tells; feeding.session is its start. */
static void backend(struct fixture *f, struct facts *facts)
{
	f->out.session = 42 * 10000000ULL;
	feed_facts(&f->out, facts, facts->cnt);
	facts->cnt = 0;
}

/* The server's session is there first, or appears in the middle; each statement is recorded once. */
static void test_merge(void)
{
	static struct facts facts;

	for (unsigned when = 0; when < 3; when++) {
		struct fixture f;

		setup(&f);
		facts.cnt = 0;
		add_open(&facts, false);
		if (when == 0)
			backend(&f, &facts);
		if (when == 1) { /* between its process's first bytes and ReadyForQuery */
			struct dbf_wire_open o = wiring_end(DBF_WIRE_SERVER, false);

			wiring_open(&f.w, &o);
			wiring_who(&f.w, DBF_WIRE_SERVER, 42, "postgres");
			script_start(&f.w.script, 3 << 16, "user\0ada\0", 10);
			wiring_flush(&f.w);
			backend(&f, &facts);
			wiring_say(&f.w, "< ZI");
			expect(&f, "session open\n", "only the server's");
		} else {
			wiring_begin(&f.w, CLIENT | SERVER, 5, 42);
		}
		if (when == 2) { /* its facts were lost until now */
			expect(&f, "client 5\nsession open\nsession auth_ok\n", "the wire's own");
			wiring_say(&f.w, "> Q(a) < C(A) ZI > Q(b)");
			backend(&f, &facts);
			expect(&f, "1 simple 'a' executed [A] x1+\nsession close seen at the server\n"
			       "session open\n", "handed over");
		}
		buf_reset(&f.out.log);
		add_parse(&facts, "b");
		add_run(&facts, 1, DBF_OP_SELECT, false);
		add_tag(&facts, "SELECT 1");
		add_ready(&facts, 'I');
		wiring_say(&f.w, "> Q(b)");
		backend(&f, &facts);
		wiring_say(&f.w, "< C(SELECT 1) ZI");
		expect(&f, "1 simple 'b' executed [SELECT 1] rows=1 x1+\n", "once");
		add_exit(&facts, 0);
		backend(&f, &facts);
		wiring_close(&f.w, DBF_WIRE_SERVER, false);
		wiring_close(&f.w, DBF_WIRE_CLIENT, false);
		expect(&f, "session close exit 0\n", "one end");
		CHECK_INT(conn_table_counters(f.out.table)->wire_merged, 1);
		done(&f, 0);
	}
}

static void add_tcp(struct facts *facts)
{
	struct dbf_session open = { .kind = DBF_SESSION_CLIENT, .transport = DBF_TRANSPORT_TCP, .user = "ada" };

	facts->cnt = 0;
	facts_add(facts, DBF_FACT_OPEN, 0, &open, sizeof(open), NULL, 0);
}

/* A client behind an address that is translated: the server vantage does not know it, the wire does. */
static void test_enrich(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	static struct facts facts;
	struct conn_session *s;
	struct fixture f;

	setup(&f);
	o.server_addr[15] = 99; /* what the client connected to */
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
	script_start(&f.w.script, 3 << 16, "user\0ada\0", 10);
	wiring_flush(&f.w);
	o = wiring_end(DBF_WIRE_SERVER, false);
	o.client_addr[15] = 77; /* as the server sees it */
	o.client_port = 1024;
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_SERVER, 42, "postgres");
	wiring_flush(&f.w);
	add_tcp(&facts);
	backend(&f, &facts);
	s = conn_table_lookup(f.out.table, f.out.session, 42);
	if (CHECK(s)) {
		CHECK_INT(s->info.client_pid, 5);
		CHECK(s->info.client_known);
		CHECK_INT(s->info.client_uid, 1005);
		CHECK_INT(s->info.client_addr[15], 1);
		CHECK_INT(s->info.client_port, 40000);
		CHECK_INT(s->info.server_addr[15], 2);
		CHECK(s->client_seen_as.differs && s->server_seen_as.differs);
		CHECK_INT(s->client_seen_as.addr[15], 77);
		CHECK_INT(s->client_seen_as.port, 1024);
		CHECK_INT(s->server_seen_as.addr[15], 99);
	}
	expect(&f, "client 5\nsession open\n", "told once");
	done(&f, 2);
}

static void leg_statement(void *ctx, const struct conn_stmt *st)
{
	struct feeding *g = ctx;

	buf_printf(&g->log, "%.*s%s ", (int)st->captured, st->text, st->session->pooler_leg ? " pooler" : "");
}

/* A client of process 8, and its own server: the execution is the second leg's. */
static void test_pooler(void)
{
	struct feeding g = { 0 };
	struct conn_ops ops = { .session = log_session, .hold = log_hold, .client = log_client, .statement = leg_statement,
				.transaction = log_transaction, .gap = log_gap, .limit = log_limit };

	for (int backend_process = 0; backend_process < 2; backend_process++) {
		struct wiring front, back;

		buf_init(&g.log, 1 << 20);
		g.table = conn_table_new(&ops, &g);
		if (!CHECK(g.table))
			return;
		wiring_init(&front, 1, feed_table, g.table);
		wiring_init(&back, 2, feed_table, g.table);
		wiring_begin(&front, CLIENT | SERVER, 5, 8);
		wiring_who(&front, DBF_WIRE_SERVER, 8, backend_process ? "postgres" : "pgbouncer");
		wiring_say(&front, "> Q(a)");
		wiring_begin(&back, CLIENT, 8, 0);
		buf_reset(&g.log);
		wiring_say(&back, "> Q(a) < C(A) ZI");
		wiring_say(&front, "< C(A) ZI");
		CHECK_STR(buf_str(&g.log), backend_process ? "a a " : "a a pooler ");
		buf_fini(&g.log);
		conn_table_free(g.table);
	}
}

static void test_losses(void)
{
	struct fixture f;

	setup(&f);
	wiring_begin(&f.w, CLIENT, 5, 0);
	wiring_say(&f.w, "> P(s,a) S < 1 ZI");
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> Q(b) < T");
	f.w.dirs[DBF_WIRE_SERVER].seq++;
	f.w.dirs[DBF_WIRE_SERVER].lost++;
	wiring_say(&f.w, "> Q(c) < C(C) ZI");
	expect(&f, "gap 1 0\n1 simple 'b' unknown !gap x1\n2 simple 'c' unknown !gap x1\n"
	       "x1 unknown, 2 statements, xid 0, implicit\n", "found out only by the next record");
	wiring_say(&f.w, "> Q(d) < C(D) ZI > B(,s) E() S < 2 C(A) ZI");
	expect(&f, "3 simple 'd' executed [D] x2+\n4 extended 'a' executed name=s [A] x3+\n", "in step again");
	f.w.dirs[DBF_WIRE_CLIENT].seq++;
	f.w.dirs[DBF_WIRE_CLIENT].lost++;
	f.w.dirs[DBF_WIRE_CLIENT].lost_execs += 2;
	wiring_say(&f.w, "> Q(e) < C(E) ZI > B(,s) E() S < 2 C(A) ZI");
	expect(&f, "gap 1 2\n5 simple 'e' executed [E] !gap x4\nx4 unknown, 1 statements, xid 0, implicit\n"
	       "6 extended 'a' executed name=s [A] !name_doubt x5+\n", "a name may be another's now");
	wiring_say(&f.w, "> Q(f) < G! R! ZI > Q(g) < C(G) ZI");
	expect(&f, "gap 0 0\n7 simple 'f' unknown !gap x6\nx6 unknown, 1 statements, xid 0, implicit\n"
	       "8 simple 'g' executed [G] x7+\n", "the kernel's own");
	wiring_say(&f.w, "> Q(h) < 1 > Q(i) < C(I) ZI");
	expect(&f, "gap 0 1\n9 simple 'h' unknown !gap x8\n10 simple 'i' executed [I] !gap x8\n"
	       "x8 unknown, 2 statements, xid 0, implicit\n", "what does not fit");
	CHECK_INT(conn_table_counters(f.out.table)->wire_mismatches, 1);
	done(&f, 1);
}

static void test_doubts(void)
{
	struct fixture f;

	setup(&f);
	wiring_begin(&f.w, CLIENT, 5, 0);
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> Q(a) O! < C(A) ZI");
	expect(&f, "1 simple 'a' executed [A] !overlap x1+\n", "sent twice");
	wiring_say(&f.w, "> Q(b) < T O! C(B) ZI > Q(c) < C(C) ZI");
	expect(&f, "2 simple 'b' executed [B] !overlap x2+\n3 simple 'c' executed [C] x3+\n", "while it is answered");
	wiring_say(&f.w, "> Q(caf\xc3\xa9) < C(A) ZI");
	expect(&f, "4 simple 'caf\xc3\xa9' executed [A] x4+\n", "UTF-8");
	wiring_say(&f.w, "> Q(set) < C(SET) S(client_encoding=SJIS) ZI > Q(caf\xc3\xa9) < C(A) ZI > Q(d) < C(D) ZI");
	expect(&f, "5 simple 'set' executed [SET] x5+\n6 simple 'caf\xc3\xa9' executed [A] !encoding x6+\n"
	       "7 simple 'd' executed [D] x7+\n", "another encoding");
	wiring_say(&f.w, "> Q(set) P(,\xc3\xa9) B(,) E() S < C(SET) S(client_encoding=UTF8) ZI 1 2 C(A) ZI");
	buf_reset(&f.out.log);
	wiring_say(&f.w, "> P(,set) B(,) E() P(,\xc3\xa9) B(,) E() S < 1 2 C(SET) 1 2 C(A) S(client_encoding=BIG5) ZI");
	CHECK(strstr(buf_str(&f.out.log), "'\xc3\xa9' executed [A] !encoding"));
	done(&f, 1);
}

static void test_joined(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, true);
	struct fixture f;

	setup(&f);
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
	wiring_say(&f.w, "> R! Q(a)");
	expect(&f, "client 5\n", "asked for before the first statement");
	wiring_say(&f.w, "< R! ZI");
	expect(&f, "session found\n1 simple 'a' unknown !gap !identity x1\nx1 unknown, 1 statements, xid 0, implicit\n", "its replies were not framed");
	wiring_say(&f.w, "> B(,s) E() S < 2 C(A) ZI > Q(b) < C(B) ZI");
	expect(&f, "2 extended '' executed name=s [A] !joined_mid_stream !identity x2+\n"
	       "3 simple 'b' executed [B] !identity x3+\n", "prepared before us");
	wiring_who(&f.w, DBF_WIRE_CLIENT, 6, "other");
	wiring_say(&f.w, "> Q(c) < C(C) ZI");
	expect(&f, "client 6\n4 simple 'c' executed [C] !identity x4+\n", "another process");
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	expect(&f, "session close closed\n", "closed");
	done(&f, 0);
}

static void add_again(struct wiring *w, const char *bytes, size_t len)
{
	struct dbf_wire_item item = { .type = DBF_WIRE_AGAIN, .captured = (uint16_t)len, .length = (uint32_t)len };

	wiring_item(w, DBF_WIRE_CLIENT, &item, bytes);
}

/* It was told to a reader before this one: whose session it is, and what it called itself unless that may have changed. */
static void test_again(void)
{
	static const char start[] = "\0\3\0\0user\0ada\0database\0shop\0application_name\0till\0";
	struct conn_session *s;

	for (unsigned changed = 0; changed < 3; changed++) { /* not, told before, told behind */
		struct dbf_wire_open client = wiring_end(DBF_WIRE_CLIENT, true), server = wiring_end(DBF_WIRE_SERVER, true);
		struct fixture f;

		setup(&f);
		client.changed = changed == 1;
		server.changed = changed == 2;
		client.synced = server.synced = 3;
		wiring_open(&f.w, &client);
		add_again(&f.w, start, sizeof(start));
		wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
		wiring_say(&f.w, "> Q(a)");
		wiring_open(&f.w, &server);
		add_again(&f.w, start, sizeof(start));
		wiring_say(&f.w, "< C(A) ZI");
		expect(&f, "client 5\nsession found\n1 simple 'a' executed [A] x1+\n", "known");
		s = conn_table_lookup(f.out.table, 0x77, 0);
		if (CHECK(s)) {
			CHECK_STR(s->info.user, "ada");
			CHECK_STR(s->info.database, "shop");
			CHECK_STR(s->application, changed ? "" : "till");
		}
		wiring_close(&f.w, DBF_WIRE_CLIENT, false);
		wiring_close(&f.w, DBF_WIRE_SERVER, false);
		buf_reset(&f.out.log);
		done(&f, 0);
	}
}

/* What is no session's start-up tells nothing, and what comes when it is known already. */
static void test_again_not(void)
{
	static const char *const starts[] = { "\0", "\4\xd2\x16\x2e\0\0\0\0", "\1\3\0\0user\0ada\0" };
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, true);
	struct fixture f;

	setup(&f);
	wiring_open(&f.w, &o);
	add_again(&f.w, starts[1], 8);
	add_again(&f.w, starts[2], 13);
	wiring_say(&f.w, "> R! Q(a) < R! ZI > Q(b) < C(B) ZI");
	CHECK_MSG(strstr(buf_str(&f.out.log), "2 simple 'b' executed [B] !identity"), "%s", buf_str(&f.out.log));
	feeding_fini(&f.out);
	setup(&f);
	wiring_begin(&f.w, CLIENT, 5, 0);
	add_again(&f.w, "\0\3\0\0user\0eve\0", 13);
	wiring_say(&f.w, "> Q(a) < C(A) ZI");
	CHECK_STR(conn_table_lookup(f.out.table, 0x77, 0)->info.user, "ada");
	feeding_fini(&f.out);
}

static void bytes_statement(void *ctx, const struct conn_stmt *st)
{
	struct feeding *g = ctx;

	buf_printf(&g->log, "%.*s %llu %llu ", (int)st->captured, st->text, (unsigned long long)st->bytes_in,
		   (unsigned long long)st->bytes_out);
}

static void test_bytes(void)
{
	struct conn_ops ops = { .session = log_session, .hold = log_hold, .client = log_client,
				.statement = bytes_statement, .transaction = log_transaction, .gap = log_gap,
				.limit = log_limit };
	struct feeding g = { 0 };
	struct wiring w;

	buf_init(&g.log, 1 << 20);
	g.table = conn_table_new(&ops, &g);
	if (!CHECK(g.table))
		return;
	wiring_init(&w, 1, feed_table, g.table);
	wiring_begin(&w, CLIENT, 5, 0);
	buf_reset(&g.log);
	/* Parse 10, Bind 9, Execute 6, Sync 5; 1 and 2 5 each, two rows 18, C 7, Z 6. */
	wiring_say(&w, "> P(,a) B(,) E() S < 1 2 D(2) C(A) ZI > Q(q) < C(B) ZI");
	CHECK_STR(buf_str(&g.log), "a 30 41 q 7 13 ");
	CHECK(conn_table_lookup(g.table, 1, 0)->bytes_in > 37);
	buf_fini(&g.log);
	conn_table_free(g.table);
}

static struct dbf_wire_mark marks[DBF_WIRE_MARKS];

static void mark(enum dbf_wire_dir dir, uint32_t seq, uint64_t ns, uint64_t info)
{
	uint64_t name = dbf_wire_mark_name(0x77, dir, seq);

	marks[dbf_wire_mark_index(name)] = (struct dbf_wire_mark){ .check = name ^ ns ^ info, .ns = ns, .info = info };
}

static void marks_statement(void *ctx, const struct conn_stmt *st)
{
	struct feeding *g = ctx;

	buf_printf(&g->log, "%.*s in %llu out %llu at %llu %llu\n", (int)st->captured, st->text,
		   (unsigned long long)st->bytes_in, (unsigned long long)st->bytes_out,
		   (unsigned long long)st->request_ns, (unsigned long long)st->response_ns);
}

static void add_query(struct facts *facts, const char *text, uint32_t id)
{
	add_parse(facts, text);
	add_run(facts, id, DBF_OP_SELECT, false);
	facts_add(facts, DBF_FACT_REPLY, 20, /* a RowDescription */
		  &(struct dbf_reply){ .type = 'C', .length = 9, .captured = 9, .rows = 2, .row_bytes = 30 },
		  sizeof(struct dbf_reply), "SELECT 2", 9);
}

/* The server has read up to @read, and its answer ends at @written. */
static void add_at(struct facts *facts, uint32_t read, uint32_t written)
{
	struct dbf_tcp_at at = { .read = read, .written = written };
	struct dbf_reply r = { .type = 'Z', .length = 1, .captured = 1 };

	memcpy(&r.row_bytes, &at, sizeof(at));
	facts_add(facts, DBF_FACT_REPLY, 0, &r, sizeof(r), "I", 1);
}

/* What the wire marked of a connection whose statements the server tells. */
static void test_marks(void)
{
	struct conn_ops ops = { .session = log_session, .hold = log_hold, .client = log_client, .statement = marks_statement,
				.transaction = log_transaction, .gap = log_gap, .limit = log_limit };
	static struct facts facts;
	struct fixture f = { 0 };
	uint32_t id = 0;

	memset(marks, 0, sizeof(marks));
	buf_init(&f.out.log, 1 << 20);
	f.out.table = conn_table_new(&ops, &f.out);
	f.out.tgid = 42;
	if (!CHECK(f.out.table))
		return;
	conn_table_set_marks(f.out.table, marks);
	wiring_init(&f.w, 0x77, feed_table, f.out.table);
	wiring_begin(&f.w, CLIENT | SERVER, 5, 42);
	add_tcp(&facts);
	facts.ts = 1000;
	mark(DBF_WIRE_CLIENT, 0xfffffff0, 500, 0xffffff00);
	add_at(&facts, 0xfffffff0, 50);
	backend(&f, &facts);
	buf_reset(&f.out.log);

	/* C 14, rows 30 + 10, others 20, Z 6 */
	mark(DBF_WIRE_CLIENT, 0x10, facts.ts + 5, 0xfffffff0);
	mark(DBF_WIRE_SERVER, 100, facts.ts + 100, 0);
	add_query(&facts, "q", ++id);
	add_at(&facts, 0x10, 100);
	backend(&f, &facts);
	expect(&f, "q in 32 out 80 at 1015 1110\n", "one request");

	mark(DBF_WIRE_CLIENT, 0x40, facts.ts + 5, 0x30);
	add_query(&facts, "p1", ++id);
	add_at(&facts, 0x40, 200);
	add_query(&facts, "p2", ++id);
	add_at(&facts, 0x40, 280);
	backend(&f, &facts);
	expect(&f, "p1 in 0 out 80 at 0 0\np2 in 0 out 80 at 0 0\n", "two that came together");

	mark(DBF_WIRE_CLIENT, 0x60, facts.ts + 5, 0x40);
	add_query(&facts, "a", ++id);
	add_parse(&facts, "b");
	add_run(&facts, ++id, DBF_OP_SELECT, false);
	add_tag(&facts, "SELECT 1");
	add_at(&facts, 0x60, 300);
	backend(&f, &facts);
	expect(&f, "a in 0 out 88 at 0 0\nb in 0 out 6 at 0 0\nx4 committed, 2 statements, xid 0, implicit\n", "two in one");

	mark(DBF_WIRE_CLIENT, 0x70, facts.ts + 5, 0x60);
	mark(DBF_WIRE_CLIENT, 0x90, facts.ts + 15, 0x70 | DBF_WIRE_MARK_COPY);
	add_query(&facts, "copy", ++id);
	add_at(&facts, 0x90, 400);
	backend(&f, &facts);
	CHECK_MSG(strstr(buf_str(&f.out.log), "copy in 48 out 80 at "), "%s", buf_str(&f.out.log));
	buf_reset(&f.out.log);

	mark(DBF_WIRE_CLIENT, 0xa0, facts.ts - 500, 0x90);
	mark(DBF_WIRE_SERVER, 500, facts.ts - 500, 0);
	add_query(&facts, "old", ++id);
	add_at(&facts, 0xa0, 500);
	backend(&f, &facts);
	expect(&f, "old in 0 out 80 at 0 0\n", "marks of 4 GB before");

	mark(DBF_WIRE_CLIENT, 0xb0, facts.ts + 5, 0xa0);
	marks[dbf_wire_mark_index(dbf_wire_mark_name(0x77, DBF_WIRE_CLIENT, 0xb0))].ns++;
	add_query(&facts, "torn", ++id);
	add_at(&facts, 0xb0, 600);
	backend(&f, &facts);
	expect(&f, "torn in 0 out 80 at 0 0\n", "half written");

	mark(DBF_WIRE_CLIENT, 0xc0, facts.ts + 5, 0xb0);
	add_loss(&facts, 1);
	add_query(&facts, "lost", ++id);
	add_at(&facts, 0xc0, 700);
	backend(&f, &facts);
	CHECK_MSG(strstr(buf_str(&f.out.log), "lost in 0 out 80 at 0 0\n"), "%s", buf_str(&f.out.log));
	buf_fini(&f.out.log);
	conn_table_free(f.out.table);
}

/* A text of a megabyte reaches the record whole; beyond that it is cut and says how long it was. */
static void test_long_text(void)
{
	size_t len = LIMIT_STATEMENT_BYTES;
	char *text = malloc(len + 64);
	struct fixture f;
	const char *at;

	if (!CHECK(text))
		return;
	for (int beyond = 0; beyond < 2; beyond++) {
		size_t n = len + (beyond ? 10 : 0);

		memset(text, 'x', n);
		text[n] = '\0';
		setup(&f);
		f.w.script.piece = 4096;
		wiring_begin(&f.w, CLIENT, 5, 0);
		buf_reset(&f.out.log);
		script_message(&f.w.script, DBF_WIRE_CLIENT, 'Q', text, n + 1, n + 1);
		wiring_say(&f.w, "< C(A) ZI");
		at = strstr(buf_str(&f.out.log), beyond ? "' executed [A] !text_limit x1+\n" : "' executed [A] x1+\n");
		CHECK(at && at - buf_str(&f.out.log) == (long)(strlen("1 simple '") + len));
		done(&f, 1);
	}
	free(text);
}

/* What is lost of any one record costs what was in it, and says so. */
static void test_any_loss(void)
{
	static const char *const said[] = { "> P(s,a) S", "< 1 ZI", "> Q(b)", "< T D(1) C(SELECT 1) ZI", "> B(,s) E() S",
					    "< 2 C(X) ZI", "> Q(c)", "< E(22012) ZI", "> Q(d)",
					    "< C(D) ZI", "> Q(e)", "< C(E) ZI" };

	for (size_t drop = 0; drop < sizeof(said) / sizeof(said[0]); drop++) {
		struct fixture f;

		setup(&f);
		wiring_begin(&f.w, CLIENT, 5, 0);
		for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
			int dir = said[i][0] == '<';

			if (i == drop) {
				f.w.dirs[dir].seq++;
				f.w.dirs[dir].lost++;
			} else {
				wiring_say(&f.w, said[i]);
			}
		}
		f.w.ts += 2000000000;
		wiring_say(&f.w, "> Q(f) < C(F) ZI > Q(g) < C(G) ZI");
		CHECK_MSG(strstr(buf_str(&f.out.log), "gap 1 0\n"), "%zu was lost silently", drop);
		CHECK_MSG(!strstr(buf_str(&f.out.log), "'b' executed [X]") && !strstr(buf_str(&f.out.log), "'c' executed [D]"),
			  "%zu: %s", drop, buf_str(&f.out.log));
		CHECK_MSG(strstr(buf_str(&f.out.log), "'g' executed [G]"), "%zu: not in step again:\n%s", drop,
			  buf_str(&f.out.log));
		done(&f, 1);
	}
}

/* More than the table holds: the oldest make room, and what they had in flight is unknown. */
static void test_evict(void)
{
	const unsigned more = 20;
	struct fixture f;

	setup(&f);
	for (unsigned i = 0; i < LIMIT_SESSIONS + more; i++) {
		wiring_init(&f.w, 1000 + i, feed_table, f.out.table);
		wiring_begin(&f.w, CLIENT | SERVER, i + 1, 100000 + i);
		buf_reset(&f.out.log);
		wiring_say(&f.w, "> Q(a)");
	}
	CHECK_INT(conn_table_counters(f.out.table)->evicted, more);
	wiring_init(&f.w, 1, feed_table, f.out.table);
	wiring_begin(&f.w, CLIENT, 5, 0);
	CHECK(strstr(buf_str(&f.out.log), "simple 'a' unknown !gap"));
	CHECK(strstr(buf_str(&f.out.log), "session close forgotten: too many sessions\n"));
	done(&f, LIMIT_SESSIONS);
}

/* Who it is is asked for at once, and again when it is another; of what the server vantage tells, only once for that. */
static void test_who(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_CLIENT, false);
	static struct facts facts;
	struct fixture f;

	setup(&f);
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
	wiring_flush(&f.w);
	expect(&f, "client 5\n", "before it said a word");
	wiring_who(&f.w, DBF_WIRE_CLIENT, 6, "other");
	script_start(&f.w.script, 3 << 16, "user\0ada\0", 10);
	wiring_flush(&f.w);
	expect(&f, "client 6\n", "before it is opened");
	o.end = DBF_WIRE_SERVER;
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_SERVER, 42, "postgres");
	wiring_flush(&f.w);
	facts.cnt = 0;
	add_open(&facts, false);
	backend(&f, &facts);
	expect(&f, "session open\n", "handed over");
	wiring_who(&f.w, DBF_WIRE_CLIENT, 7, "third");
	wiring_say(&f.w, "< ZI");
	wiring_who(&f.w, DBF_WIRE_CLIENT, 8, "fourth");
	wiring_say(&f.w, "> Q(a)");
	expect(&f, "", "nobody is told of what makes no record");
	done(&f, 2);
	/* The other way round: the client's process is first seen when the server's session is there. */
	setup(&f);
	o = wiring_end(DBF_WIRE_SERVER, false);
	wiring_open(&f.w, &o);
	wiring_who(&f.w, DBF_WIRE_SERVER, 42, "postgres");
	wiring_flush(&f.w);
	add_tcp(&facts);
	backend(&f, &facts);
	buf_reset(&f.out.log);
	wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
	wiring_flush(&f.w);
	expect(&f, "client 5\n", "the server's session is told");
	wiring_who(&f.w, DBF_WIRE_CLIENT, 5, "client");
	wiring_flush(&f.w);
	expect(&f, "", "once");
	done(&f, 2);
}

static const struct test_case cases[] = {
	{ "statements", test_statements }, { "ends", test_ends },     { "refused", test_refused },
	{ "opaque", test_opaque },	   { "merge", test_merge },   { "enrich", test_enrich },
	{ "pooler", test_pooler },	   { "losses", test_losses }, { "doubts", test_doubts },
	{ "again", test_again }, { "again_not", test_again_not },
	{ "joined", test_joined },	   { "bytes", test_bytes },   { "marks", test_marks },
	{ "long_text", test_long_text },
	{ "any_loss", test_any_loss },	   { "evict", test_evict },   { "who", test_who },
};

TEST_MAIN(cases)
