// SPDX-License-Identifier: Apache-2.0
/* proto/pgwire: conversations and what is made of them. Scripts are explained in pgwire_script.h. */
#include "../lib/test.h"

#include "core/limits.h"
#include "pgwire_script.h"

struct conversation {
	const char *what, *said, *seen;
};

static const struct conversation simple[] = {
	{ "one", "> Q(select 1) < T D(3) C(SELECT 3) ZI", " +s'select 1' C(SELECT 3)/3 ZI" },
	{ "several", "> Q(a; b) < C(A) T D(1) C(SELECT 1) ZI", " +s'a; b' C(A) C(SELECT 1)/1 ZI" },
	{ "empty", "> Q() < I ZI", " +s'' I ZI" },
	{ "failed", "> Q(a; b) < C(A) E(42601) ZI", " +s'a; b' C(A) E(42601) ZI" },
	{ "two at once", "> Q(a) Q(b) < E(1) ZI C(B) ZT", " +s'a' E(1) ZI +s'b' C(B) ZT" },
	{ "noise", "> Q(a) < N A S(x=y) C(A) N ZI < A E(57P01)", " +s'a' C(A) ZI E(57P01)" },
	{ "function", "> F < V ZI > F < E(1) ZI", " +f'' V ZI +f'' E(1) ZI" },
	{ "copied out", "> Q(copy a to stdout) < H d(7) c C(COPY 7) ZI", " +s'copy a to stdout' H C(COPY 7)/7 ZI" },
	{ "copied in", "> Q(copy) < G > d(3) c < C(COPY 3) ZI", " +s'copy' G C(COPY 3) ZI" },
	{ "copied in twice", "> Q(copy; copy) < G > d c < C(COPY 1) G > d c < C(COPY 2) ZI > Q(a) < C(A) ZI",
	  " +s'copy; copy' G C(COPY 1) G C(COPY 2) ZI +s'a' C(A) ZI" },
	{ "copy failed by the client", "> Q(copy) < G > d f < E(57014) ZI > Q(a) < C(A) ZI",
	  " +s'copy' G E(57014) ZI +s'a' C(A) ZI" },
	{ "copy failed by the server, the client goes on", "> Q(copy) < G > d < E(22P02) ZI > d d c Q(a) < C(A) ZI",
	  " +s'copy' G E(22P02) ZI +s'a' C(A) ZI" },
	{ "copied both ways", "> Q(START_REPLICATION) < W d(2) > d < d(5) > c < c C(COPY 0) ZI",
	  " +s'START_REPLICATION' W C(COPY 0)/7 ZI" },
};

static const struct conversation extended[] = {
	{ "one", "> P(,a) B(,) D(P,) E() S < 1 2 n C(A) ZI", " +x'a' C(A) ZI" },
	{ "described twice", "> P(s,a) D(S,s) S < 1 t T ZI > B(p,s) D(P,p) E(p) S < 2 T D(2) C(SELECT 2) ZI",
	  " ZI +x[s]'a' C(SELECT 2)/2 ZI" },
	{ "pipelined, all of it before any reply",
	  "> P(,a) B(,) E() P(,b) B(,) E() S P(,c) B(,) E() S < 1 2 C(A) 1 2 C(B) ZI 1 2 C(C) ZI",
	  " +x'a' C(A) +x'b' C(B) ZI +x'c' C(C) ZI" },
	{ "one name, another text each time",
	  "> P(s,a) B(,s) E() C(S,s) P(s,b) B(,s) E() S < 1 2 C(A) 3 1 2 C(B) ZI", " +x[s]'a' C(A) +x[s]'b' C(B) ZI" },
	{ "closed between Bind and Execute", "> P(s,a) B(p,s) C(S,s) E(p) S < 1 2 3 C(A) ZI", " +x[s]'a' C(A) ZI" },
	{ "error in Parse", "> P(,bad) B(,) E() S < E(42601) ZI", " +x'bad' E(42601) ZI" },
	{ "error in Bind", "> P(s,a) S B(,s) E() S < 1 ZI E(22P02) ZI", " ZI +x[s]'a' E(22P02) ZI" },
	{ "error in Describe", "> P(s,a) D(S,s) B(,s) E() S < 1 E(25P02) ZE", " +x[s]'a' E(25P02) ZE" },
	{ "error in Execute skips to Sync", "> P(,a) B(,) E() B(,) E() S P(,c) B(,) E() S < 1 2 E(22012) ZI 1 2 C(C) ZI",
	  " +x'a' E(22012) ZI +x'c' C(C) ZI" },
	{ "a Query and a function call are skipped too", "> P(,a) Q(b) F B(,) E() S < E(1) ZI > Q(c) < C(C) ZI",
	  " +x'a' E(1) ZI +s'c' C(C) ZI" },
	{ "error in Close, of no statement", "> P(s,a) C(S,s) S < 1 E(1) ZI", " E(1) ZI" },
	{ "error at Sync, of no statement", "> P(,a) B(,) E() S < 1 2 C(A) E(23505) ZI", " +x'a' C(A) E(23505) ZI" },
	{ "a name that never was", "> B(,no) E() S < E(26000) ZI > E(no) S < E(34000) ZI", " E(26000) ZI E(34000) ZI" },
	{ "a cursor of SQL", "> E(cursor) S < D(1) C(FETCH 1) ZT", " +x''n C(FETCH 1)/1 ZT" },
	{ "a Parse that failed leaves the old text", "> P(s,a) S < 1 ZI > P(s,b) S < E(42P05) ZI > B(,s) E() S < 2 C(A) ZI",
	  " ZI +x[s]'b' E(42P05) ZI +x[s]'a' C(A) ZI" },
	{ "an unnamed one leaves none", "> P(,a) S < 1 ZI > P(,b) S < E(42601) ZI > B(,) E() S < E(26000) ZI",
	  " ZI +x'b' E(42601) ZI E(26000) ZI" },
	{ "a simple query drops the unnamed", "> P(,a) S < 1 ZI > Q(q) < C(Q) ZI > B(,) E() S < E(26000) ZI",
	  " ZI +s'q' C(Q) ZI E(26000) ZI" },
	{ "in pieces", "> P(,a) B(p,) E(p) H < 1 2 D(2) s > E(p) H < D(2) s > E(p) S < D(1) C(SELECT 1) ZI",
	  " +x'a' s/2 +x'a'a1 s/2 +x'a'a1 C(SELECT 1)/1 ZI" },
	{ "a portal dies with its transaction", "> P(s,a) B(p,s) E(p) S < 1 2 s ZI > E(p) S < E(34000) ZI",
	  " +x[s]'a' s ZI E(34000) ZI" },
	{ "and lives in it", "> P(s,a) B(p,s) E(p) S < 1 2 s ZT > E(p) S < C(SELECT 1) ZT",
	  " +x[s]'a' s ZT +x[s]'a'a1 C(SELECT 1) ZT" },
	{ "a portal is bound anew", "> P(s,a) P(u,b) B(,s) E() B(,u) E() S < 1 1 2 C(A) 2 C(B) ZI",
	  " +x[s]'a' C(A) +x[u]'b' C(B) ZI" },
	{ "empty", "> P(,) B(,) E() S < 1 2 I ZI", " +x'' I ZI" },
	{ "DISCARD ALL", "> P(s,a) S Q(discard all) < 1 ZI C(DISCARD ALL) ZI > B(,s) E() S < E(26000) ZI",
	  " ZI +s'discard all' C(DISCARD ALL) ZI E(26000) ZI" },
	{ "prepared again by SQL",
	  "> P(s,a) S < 1 ZI > Q(deallocate s) < C(DEALLOCATE) ZI > Q(prepare s as b) < C(PREPARE) ZI > B(,s) E() S < 2 C(B) ZI",
	  " ZI +s'deallocate s' C(DEALLOCATE) ZI +s'prepare s as b' C(PREPARE) ZI +x[s]'a'd C(B) ZI" },
	{ "prepared by SQL first", "> Q(prepare s as b) < C(PREPARE) ZI > B(,s) E() S < 2 C(B) ZI",
	  " +s'prepare s as b' C(PREPARE) ZI +x[s]''n C(B) ZI" },
	{ "long names are cut", "> P(0123456789012345678901234567890123456789012345678901234567890123x,a) "
	  "B(,0123456789012345678901234567890123456789012345678901234567890123y) E() S < 1 2 C(A) ZI",
	  " +x[012345678901234567890123456789012345678901234567890123456789012]'a' C(A) ZI" },
};

/* As libpq does: a Sync behind Execute, and one more behind CopyDone. */
static const struct conversation copies[] = {
	{ "the first Sync is swallowed", "> P(,copy) B(,) E() S < 1 2 G > d(2) c S < C(COPY 2) ZI > Q(a) < C(A) ZI",
	  " +x'copy' G C(COPY 2) ZI +s'a' C(A) ZI" },
	{ "also when all was sent before G was seen", "> P(,copy) B(,) E() S d(2) c S P(,b) B(,) E() S "
	  "< 1 2 G C(COPY 2) ZI 1 2 C(B) ZI", " +x'copy' G C(COPY 2) ZI +x'b' C(B) ZI" },
	{ "CopyFail", "> P(,copy) B(,) E() S < 1 2 G > d f S < E(57014) ZI > Q(a) < C(A) ZI",
	  " +x'copy' G E(57014) ZI +s'a' C(A) ZI" },
	{ "failed while it was read", "> P(,copy) B(,) E() S < 1 2 G > d < E(22P02) > d c S < ZI > Q(a) < C(A) ZI",
	  " +x'copy' G E(22P02) ZI +s'a' C(A) ZI" },
	{ "failed before it was read: both Syncs are answered",
	  "> P(,copy) B(,) E() S < 1 2 G E(P0001) ZI > d c S < ZI > Q(a) < C(A) ZI",
	  " +x'copy' G E(P0001) ZI ZI +s'a' C(A) ZI" },
	{ "the same, and all was sent by then",
	  "> P(,copy) B(,) E() S < 1 2 G > d c S < E(P0001) ZI ZI > Q(a) < C(A) ZI",
	  " +x'copy' G E(P0001) ZI +s'a' C(A) ZI" },
	{ "the second answer comes when the next query waits",
	  "> P(,copy) B(,) E() S < 1 2 G > d c S < E(P0001) ZI > Q(a) < ZI C(A) ZI",
	  " +x'copy' G E(P0001) ZI +s'a' C(A) ZI" },
	{ "refused before G", "> P(,copy) B(,) E() S < 1 2 E(42501) ZI > Q(a) < C(A) ZI",
	  " +x'copy' E(42501) ZI +s'a' C(A) ZI" },
};

static const struct conversation losses[] = {
	{ "a reply is lost", "> Q(a) < G! R! > Q(b) < C(B) ZI", " +s'a'l +s'b' C(B) ZI" },
	{ "the end of one", "> Q(a) < C(A) G! R! > Q(b) < C(B) ZI", " +s'a' C(A) +s'b' C(B) ZI" },
	{ "a request is lost", "> G! R! < T D C(X) ZI > Q(b) < C(B) ZI", " ZI +s'b' C(B) ZI" },
	{ "half a request", "> P(,a) G! R! E() S < 1 2 C(A) ZI > Q(b) < C(B) ZI", " +x''nl ZI +s'b' C(B) ZI" },
	{ "names are doubtful then", "> P(s,a) S < 1 ZI > G! R! < ZI > B(,s) E() S < 2 C(A) ZI", " ZI ZI +x[s]'a'd C(A) ZI" },
	{ "until they are made anew", "> P(s,a) S < 1 ZI > G! R! < ZI > P(s,b) B(,s) E() S < 1 2 C(B) ZI",
	  " ZI ZI +x[s]'b' C(B) ZI" },
	{ "a Parse whose reply is lost", "> P(s,a) S < G! R! > B(,s) E() S < 2 C(A) ZI", " +x[s]'a'd C(A) ZI" },
	{ "one of several in flight", "> Q(a) Q(b) Q(x) < G! R! C(B) ZI > Q(c) < C(C) ZI > W! Q(d) < C(D) ZI",
	  " +s'a'l +s'b'l +s'x'l ZI +s'c'l ZI +s'd' C(D) ZI" },
	{ "the next one shows that a reply is lost", "> Q(a) < T > Q(b) < G! R! C(B) ZI > Q(c) < C(C) ZI",
	  " +s'a' +s'b'l ZI +s'c' C(C) ZI" },
	{ "what cannot be: a reply to nothing", "> Q(a) < 1 > Q(b) < C(B) ZI", " !mismatch:1 +s'a'l +s'b' C(B) ZI" },
	{ "another's", "> P(,a) B(,) E() S < 1 C(A) ZI > Q(b) < C(B) ZI", " !mismatch:1 +x'a'dl ZI +s'b' C(B) ZI" },
	{ "ready without a word", "> Q(a) < ZI > Q(b) < C(B) ZI", " !mismatch:1 +s'a'l +s'b' C(B) ZI" },
	{ "what was skipped did not run", "> P(,a) B(,) E() B(,) E() S < 1 2 E(1) G! R! > Q(b) < C(B) ZI",
	  " +x'a' E(1) +s'b' C(B) ZI" },
	{ "a pipeline that loses a reply is in step again when it pauses",
	  "> Q(a) Q(b) < C(A) ZI G! R! > Q(c) Q(d) < C(C) ZI C(D) ZI > Q(e) < C(E) ZI > W! Q(f) < C(F) ZI",
	  " +s'a' C(A) ZI +s'b'l +s'c'l ZI +s'd'l ZI +s'e'l ZI +s'f' C(F) ZI" },
	{ "or when all that could come came", "> Q(a) Q(b) Q(x) < C(A) G! R! ZI > Q(c) < C(B) ZI C(X) ZI C(C) ZI > Q(d) < C(D) ZI",
	  " +s'a' C(A) +s'b'l +s'x'l ZI +s'c'l ZI ZI ZI +s'd' C(D) ZI" },
};

static const struct conversation doubts[] = {
	{ "of a Query", "> Q(a) O! < C(A) ZI > Q(b) < C(B) ZI", " +s'a'o C(A) ZI +s'b'o C(B) ZI" },
	{ "and not of those after", "> Q(a) < C(A) ZI > O! Q(b) < C(B) ZI > Q(c) < C(C) ZI",
	  " +s'a' C(A) ZI +s'b'o C(B) ZI +s'c' C(C) ZI" },
	{ "of a Parse, for all that runs by its name", "> P(s,a) O! S B(,s) E() S < 1 ZI 2 C(A) ZI > B(,s) E() S < 2 C(A) ZI",
	  " ZI +x[s]'a'o C(A) ZI +x[s]'a'o C(A) ZI" },
	{ "of a Bind", "> P(s,a) S < 1 ZI > B(,s) O! E() S < 2 C(A) ZI", " ZI +x[s]'a'do C(A) ZI" },
	{ "of a reply", "> Q(a) < O! C(A) ZI", " +s'a'o C(A) ZI" },
};

static const struct conversation joined[] = {
	{ "a query", "> Q(a) < C(A) ZI", " +s'a' C(A) ZI" },
	{ "an answer to what was before", "< C(X) ZI > Q(a) < C(A) ZI", " ZI +s'a' C(A) ZI" },
	{ "a name from before", "> B(,s) E() S < 2 C(A) ZI", " +x[s]''n C(A) ZI" },
	{ "and a failure of it", "> B(,s) E() S < E(22012) ZI", " +x[s]''n E(22012) ZI" },
	{ "a portal from before", "> E(p) S < C(SELECT 5) ZT", " +x''n C(SELECT 5) ZT" },
	{ "replies are not framed at first", "< U! > Q(a) < R! ZI > Q(b) < C(B) ZI", " +s'a'l ZI +s'b' C(B) ZI" },
};

static void converse(const struct conversation *c, size_t cnt, bool join)
{
	for (size_t i = 0; i < cnt; i++)
		for (size_t piece = 0; piece < 3; piece++) {
			struct script s;

			script_init(&s, join);
			s.piece = piece;
			script_feed(&s, c[i].said);
			CHECK_MSG(!strcmp(buf_str(&s.log), c[i].seen), "%s (pieces of %zu):\n  got      %s\n  expected %s",
				  c[i].what, piece, buf_str(&s.log), c[i].seen);
			script_fini(&s);
		}
}

#define CONVERSE(list, join) converse(list, sizeof(list) / sizeof((list)[0]), join)

static void test_simple(void) { CONVERSE(simple, false); }
static void test_extended(void) { CONVERSE(extended, false); }
static void test_copies(void) { CONVERSE(copies, false); }
static void test_losses(void) { CONVERSE(losses, false); }
static void test_doubts(void) { CONVERSE(doubts, false); }
static void test_joined(void) { CONVERSE(joined, true); }

static void check_start(uint32_t code, const char *parameters, size_t len, const char *then, const char *seen)
{
	struct script s;

	script_init(&s, false);
	script_start(&s, code, parameters, len);
	script_feed(&s, then);
	CHECK_STR(buf_str(&s.log), seen);
	script_fini(&s);
}

#define START(text) text "\0", sizeof(text) + 1

static void test_startup(void)
{
	check_start(3 << 16, START("user\0ada\0database\0db\0application_name\0psql\0options\0-c x=y"),
		    "< R S(a=b) K ZI > Q(a) < C(A) ZI", " start1(ada,db,psql,0,0) R ZI +s'a' C(A) ZI");
	/* A query may be sent before the server says that it is ready. */
	check_start(3 << 16 | 2, START("user\0ada"), "> p Q(a) < R R ZI C(A) ZI", " start1(ada,,,0,0) R R ZI +s'a' C(A) ZI");
	check_start(3 << 16, START("user\0ada"), "< E(28P01)", " start1(ada,,,0,0) E(28P01)");
	check_start(3 << 16, START("user\0ada\0replication\0database"), "< ZI > Q(IDENTIFY_SYSTEM) < C(X) ZI > Q(select 1) "
		    "< C(Y) ZI > Q(SHOW x) < C(Z) ZI", " start1(ada,,,1,0) ZI +r'IDENTIFY_SYSTEM' C(X) ZI "
		    "+s'select 1' C(Y) ZI +r'SHOW x' C(Z) ZI");
	check_start(3 << 16, START("replication\0off"), "", " start1(,,,0,0)");
	check_start(3 << 16, START("replication\0yes"), "", " start1(,,,1,0)");
	check_start(80877102, "\0\0\2\1", 4, "", " start2(,,,0,513)");
	check_start(80877103, "", 0, "", " start3(,,,0,0)");
	check_start(80877104, "", 0, "", " start4(,,,0,0)");
	check_start(2 << 16, START("user"), "", "");
	check_start(3 << 16, "user\0ada", 8, "", " start1(,,,0,0)"); /* cut: its end is missing */
}

static void test_end(void)
{
	struct script s;

	script_init(&s, false);
	script_feed(&s, "> P(s,a) B(,s) E() S Q(b) P(,c) B(,) D(P,) E() < 1 2 C(A) > X");
	pgwire_end(s.wire, 1);
	CHECK_STR(buf_str(&s.log), " +x[s]'a' C(A) +s'b' +x'c'");
	script_fini(&s);
}

static void withheld(const char *said, const char *behind, const char *seen)
{
	struct script s;

	script_init(&s, false);
	script_feed(&s, said);
	pgwire_mark(s.wire, 7);
	script_feed(&s, behind);
	pgwire_withheld(s.wire, 7);
	script_feed(&s, "> P(,more) B(,) E() S Q(more)");
	pgwire_end(s.wire, 1);
	CHECK_STR(buf_str(&s.log), seen);
	script_fini(&s);
}

/* The last that could run, whatever was in flight before it; what only follows it is none. */
static void test_withheld(void)
{
	withheld("> Q(a)", "> Q(b)", " +s'a'");
	withheld("> Q(a) Q(b)", "> X", " +s'a' +s'b'");
	withheld("> P(,a)", "> B(,) E() S", " +x'a'");
	withheld("> P(s,a) S < 1 ZI > B(,s)", "> E() S", " ZI +x[s]'a'");
	withheld("> P(,a) B(,) E() P(,b)", "", " +x'a' +x'b'");
}

static void pending(const char *said, const char *text, uint32_t flags)
{
	struct pgwire_run run;
	struct script s;

	script_init(&s, false);
	script_feed(&s, said);
	if (CHECK_MSG(pgwire_pending_text(s.wire, &run), "%s", said))
		CHECK_MSG(run.captured == strlen(text) && !memcmp(run.text, text, run.captured) && run.flags == flags,
			  "%s: '%.*s' flags %x", said, (int)run.captured, run.text, run.flags);
	script_fini(&s);
}

static void test_pending(void)
{
	struct script s;
	struct pgwire_run run;

	pending("> Q(a)", "a", 0);
	pending("> P(,a) B(,)", "a", 0);
	pending("> P(,a) B(,) E()", "a", 0);
	pending("> P(s,a) S < 1 ZI > B(p,s) D(P,p) E(p)", "a", 0);
	pending("> P(s,a) S < 1 ZI > C(S,s) P(s,b) B(p,s) E(p)", "b", 0);
	pending("> P(s,a) P(u,b) B(p,s) B(q,u) E(p)", "a", 0);
	pending("> P(s,a) B(p,s) P(s,b) E(p)", "a", 0);
	pending("> P(s,a) C(S,s) B(,s)", "", PGWIRE_NAMELESS);
	pending("> P(,a) Q(b) B(,)", "", PGWIRE_NAMELESS);
	pending("> P(s,a) B(p,s) C(P,p) E(p)", "", PGWIRE_NAMELESS);
	pending("> P(s,a) S < 1 ZI > G! R! B(,s)", "a", PGWIRE_DOUBTFUL);
	pending("> P(s,a) S < 1 ZI > B(,s) O! E()", "a", PGWIRE_OVERLAP);
	pending("> E(cursor)", "", PGWIRE_NAMELESS);
	pending("> P(s,a)", "a", 0);
	pending("> P(s,a) B(,s) E() S P(s,b)", "b", 0);
	pending("> F", "", 0);
	pending("> Q(a) F", "", 0);
	script_init(&s, false);
	script_feed(&s, "> Q(a) S");
	CHECK(!pgwire_pending_text(s.wire, &run));
	script_fini(&s);
}

/* Behind a Sync it is not skipped when what it builds on fails: then it runs what stood there before. */
static void test_pending_later(void)
{
	pending("> P(s,a) S < 1 ZI > P(s,b) S B(,s)", "b", PGWIRE_DOUBTFUL);
	pending("> P(s,a) S < 1 ZI > P(s,b) S B(,s) E()", "b", PGWIRE_DOUBTFUL);
	pending("> P(s,a) S P(s,b) S B(,s)", "b", PGWIRE_DOUBTFUL);
	pending("> P(s,a) S < 1 ZI > P(s,b) B(,s) E()", "b", 0);
	pending("> P(s,a) S B(,s)", "a", 0);
	pending("> P(,a) S < 1 ZI > P(,b) S B(,)", "b", PGWIRE_DOUBTFUL);
	pending("> P(s,a) P(t,b) B(p,s) S < 1 1 2 ZT > B(p,t) S E(p)", "b", PGWIRE_DOUBTFUL);
	pending("> P(t,b) S < 1 ZT > B(p,t) S E(p)", "b", 0);
	pending("> Q(x) < C(PREPARE) ZI > P(s,b) S B(,s)", "b", PGWIRE_DOUBTFUL);
}

static uint64_t mark_run(void *ctx, const struct pgwire_run *r)
{
	struct script *s = ctx;

	buf_printf(&s->log, " %.*s:%llu", (int)r->captured, r->text, (unsigned long long)r->mark);
	return ++s->handles;
}

/* @said, with a mark from 1 on the message in front of each '#'; what runs with which. */
static void marked(const char *said, bool end, const char *want)
{
	static const struct pgwire_ops ops = { .startup = script_startup, .run = mark_run, .reply = script_reply,
					       .loss = script_loss };
	char line[256], *at = line, *hash;
	uint64_t mark = 0;
	struct script s;

	script_init(&s, false);
	pgwire_free(s.wire);
	s.wire = pgwire_new(&s.pool, &ops, &s, false);
	if (!CHECK(s.wire))
		return;
	snprintf(line, sizeof(line), "%s", said);
	for (; (hash = strchr(at, '#')); at = hash + 1) {
		*hash = '\0';
		script_feed(&s, at);
		pgwire_mark(s.wire, ++mark);
	}
	script_feed(&s, at);
	if (end)
		pgwire_end(s.wire, 1);
	CHECK_MSG(!strcmp(buf_str(&s.log), want), "%s:\n got%s\nwant%s", said, buf_str(&s.log), want);
	script_fini(&s);
}

static void test_marks(void)
{
	marked("> Q(a)# < C(A) ZI", false, " a:1 C(A) ZI");
	marked("> Q(a) Q(b)# Q(c) < C(A) ZI C(B) ZI C(C) ZI", false, " a:0 C(A) ZI b:1 C(B) ZI c:0 C(C) ZI");
	marked("> P(,a)# < E(42601) > S < ZI", false, " a:1 E(42601) ZI");
	/* It was let go: it belongs to what then runs, once. */
	marked("> P(s,a)# B(,s) E() S < 1 2 C(A) ZI > B(,s) E() S < 2 C(A) ZI", false, " a:1 C(A) ZI a:0 C(A) ZI");
	marked("> P(s,a)# B(,s)# E()# S < 1 2 C(A) ZI", false, " a:3 C(A) ZI");
	marked("> P(s,a)# B(,s)# E() S < 1 2 C(A) ZI", false, " a:2 C(A) ZI");
	marked("> P(s,a) S < 1 ZI > B(,s)# < E(08P01) > S < ZI", false, " ZI a:1 E(08P01) ZI");
	marked("> P(s,a)# P(s,b) B(,s) E() S < 1 1 2 C(A) ZI", false, " b:0 C(A) ZI");
	marked("> F# < V ZI", false, " :1 V ZI");
	/* The connection ends at what was stopped. */
	marked("> Q(a)#", true, " a:1");
	marked("> P(,a)#", true, " a:1");
	marked("> P(,a) B(,)#", true, " a:1");
	marked("> P(,a)# B(,) E() S", true, " a:1");
	marked("> P(,a)", true, "");
	marked("> Q(x) P(,a)# G! R!", false, " x:0 a:1");
	marked("#", true, "");
}

struct gathered {
	char text[256];
	unsigned most;
};

static bool gather(void *ctx, const struct pgwire_run *run)
{
	struct gathered *g = ctx;
	size_t at = strlen(g->text);

	snprintf(g->text + at, sizeof(g->text) - at, "%s=%.*s%s%s ", run->name, (int)run->captured, run->text,
		 run->flags & PGWIRE_NAMELESS ? "?" : "", run->flags & PGWIRE_DOUBTFUL ? "~" : "");
	return --g->most;
}

static void each(const char *said, unsigned most, bool all, const char *want)
{
	struct gathered g = { .most = most };
	struct script s;

	script_init(&s, false);
	script_feed(&s, said);
	CHECK_MSG(pgwire_each_text(s.wire, gather, &g) == all, "%s", said);
	CHECK_MSG(!strcmp(g.text, want), "%s: got '%s'", said, g.text);
	script_fini(&s);
}

/* All that can still be run without another text; and when that is not known, nothing is all. */
static void test_each_text(void)
{
	each("> Q(a) < C(A) ZI", 9, true, "");
	each("> P(s,a) S < 1 ZI", 9, true, "s=a ");
	each("> P(,a) S < 1 ZI > P(s,b)", 9, true, "=a s=b ");
	each("> P(s,a) S < E(42601) ZI", 9, true, "");
	each("> P(s,a) S < 1 ZI > C(S,s) S < 3 ZI", 9, true, "");
	each("> P(s,a) S < 1 ZI > C(S,s) S", 9, true, "s=a ");
	/* A portal goes on with a text whose name is gone. */
	each("> Q(begin) < C(BEGIN) ZT > P(s,a) B(p,s) C(S,s) S < 1 2 3 ZT", 9, true, "s=a ");
	each("> Q(begin) < C(BEGIN) ZT > P(s,a) B(p,s) C(S,s) S < 1 2 3 ZT > Q(c) < C(COMMIT) ZI", 9, true, "");
	each("> P(s,a) S < 1 ZI > B(,s) S < 2 ZT", 1, false, "s=a ");
	each("> P(s,a) S < 1 ZI > P(t,b)", 1, false, "s=a ");
	each("> Q(prepare t as x) < C(PREPARE) ZI", 9, false, "");
	each("> P(s,a) S < 1 ZI > G! R!", 9, false, "");
	/* The server's words were lost: whether it took it is not known. */
	each("> P(s,a) S < G! R!", 9, true, "s=a~ ");
}

static void test_bytes(void)
{
	struct script s;

	script_init(&s, false);
	s.bytes = true;
	/* Bind: 5 + 4, Execute 5 + 1, Parse 5 + 5, Sync 5; replies 5 each, and what they hold. */
	script_feed(&s, "> P(,a) B(,) E() S < 1 2 D(2) C(A) ZI > Q(q) < G > d(3) c < C(COPY 3) ZI");
	CHECK_STR(buf_str(&s.log), " +x'a' C(A)/2<25,35> ZI<5,6> +s'q' G<7,5> C(COPY 3)<23,12> ZI<5,6>");
	script_fini(&s);
}

/* A text beyond the limit is cut and says so, and of all connections' texts no more is kept than there is room for. */
static void test_text_limits(void)
{
	size_t len = LIMIT_STATEMENT_BYTES + 100;
	char *text = calloc(1, len + 1);
	struct script s;
	const char *at;

	if (!CHECK(text))
		return;
	memset(text, 'x', len);
	script_init(&s, false);
	s.piece = 4096;
	script_message(&s, DBF_WIRE_CLIENT, 'Q', text, len + 1, len + 1);
	script_feed(&s, "< C(A) ZI");
	at = strstr(buf_str(&s.log), "'c C(A) ZI");
	CHECK(at && at - buf_str(&s.log) == 4 + LIMIT_STATEMENT_BYTES);
	CHECK_INT(s.pool.text_bytes, 0);
	buf_reset(&s.log);
	s.pool.text_bytes = LIMIT_WIRE_TEXT_TOTAL; /* others keep it all: the minimum remains */
	script_message(&s, DBF_WIRE_CLIENT, 'P', text, 60000, 60000);
	script_feed(&s, "> B(,) < 1 > E() < E(1)");
	CHECK(s.pool.texts_limited > 0);
	s.pool.text_bytes -= LIMIT_WIRE_TEXT_TOTAL;
	script_fini(&s);
	free(text);
}

static void test_queue_limit(void)
{
	struct script s;

	script_init(&s, false);
	s.pool.ops = LIMIT_WIRE_OPS_TOTAL;
	for (unsigned i = 0; i < LIMIT_WIRE_OPS_MIN; i++)
		script_feed(&s, "> Q(a)");
	CHECK_STR(buf_str(&s.log), "");
	script_feed(&s, "> Q(b)");
	CHECK_INT(s.pool.ops_limited, 1);
	CHECK(strstr(buf_str(&s.log), " !limit:65 +s'a'l"));
	buf_reset(&s.log);
	s.pool.ops = 0;
	/* In step again once nothing can be outstanding. */
	script_feed(&s, "< C(A) ZI > W! Q(c) < C(C) ZI");
	CHECK_STR(buf_str(&s.log), " ZI +s'c' C(C) ZI");
	script_fini(&s);
}

static void test_name_limit(void)
{
	char line[64];
	struct script s;

	script_init(&s, false);
	s.pool.names = LIMIT_WIRE_NAMES_TOTAL;
	for (unsigned i = 0; i < LIMIT_WIRE_NAMES_MIN + 1; i++) {
		snprintf(line, sizeof(line), "> P(s%u,text %u) S < 1 ZI", i, i);
		script_feed(&s, line);
	}
	buf_reset(&s.log);
	CHECK_INT(s.pool.names_limited, 1);
	script_feed(&s, "> B(,s64) E() S < 2 C(A) ZI");
	CHECK_STR(buf_str(&s.log), " +x''n C(A) ZI");
	s.pool.names -= LIMIT_WIRE_NAMES_TOTAL;
	script_fini(&s);
}

static const struct test_case cases[] = {
	{ "simple", test_simple },	     { "extended", test_extended },	{ "copies", test_copies },
	{ "losses", test_losses },	     { "doubts", test_doubts },		{ "joined", test_joined },
	{ "startup", test_startup },	     { "end", test_end },		{ "pending", test_pending },
	{ "pending_later", test_pending_later }, { "marks", test_marks },	{ "each_text", test_each_text },
	{ "bytes", test_bytes },	     { "text_limits", test_text_limits }, { "queue_limit", test_queue_limit },
	{ "name_limit", test_name_limit },   { "withheld", test_withheld },
};

TEST_MAIN(cases)
