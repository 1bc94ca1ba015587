// SPDX-License-Identifier: Apache-2.0
/*
 * proto/pgwire against a server that is modelled by its own rules: random clients, pipelined or not, with errors, copies in
 * both protocols and names that are used again; replies come at any time after their requests. Each completion has a tag
 * of its own, so that a reply given to another statement is seen.
 */
#include "../lib/test.h"

#include "pgwire_script.h"

#define MESSAGES 400
#define NAMES 3
#define OUT 64	/* bytes of one message in the script */
#define WORD 24 /* of a text */

static uint64_t seed;

static unsigned dice(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % n;
}

struct message {
	char text[OUT];
	unsigned after; /* of a reply: requests that must have been sent */
};

struct model {
	struct message requests[MESSAGES + 16], replies[MESSAGES * 4];
	unsigned request_cnt, reply_cnt;
	/* the server */
	char statements[NAMES][WORD], portals[NAMES][WORD + 12]; /* a portal's: its statement's number, then its text */
	unsigned started[NAMES]; /* which run() it was, or 0 */
	bool skipping, failed_xact;
	unsigned tags, texts, runs;
	struct buf expected;
};

static void say(struct model *m, const char *fmt, const char *a, const char *b)
{
	snprintf(m->requests[m->request_cnt++].text, OUT, fmt, a, b);
}

static void answer(struct model *m, const char *fmt, unsigned n)
{
	struct message *r = &m->replies[m->reply_cnt++];

	snprintf(r->text, OUT, fmt, n);
	r->after = m->request_cnt;
}

static const char *name_of(unsigned i)
{
	static const char *const names[NAMES] = { "", "s", "t" };

	return names[i];
}

static void expect_run(struct model *m, char form, unsigned name, const char *text, unsigned again)
{
	buf_printf(&m->expected, " +%c", form);
	if (name)
		buf_printf(&m->expected, "[%s]", name_of(name));
	buf_printf(&m->expected, "'%s'", text);
	if (again)
		buf_printf(&m->expected, "a%u", again);
	m->runs++;
}

static void complete(struct model *m)
{
	answer(m, "D(2) C(T%u)", ++m->tags);
	buf_printf(&m->expected, " C(T%u)/2", m->tags);
}

static void fail(struct model *m, bool extended)
{
	answer(m, "E(X%u)", ++m->tags);
	buf_printf(&m->expected, " E(X%u)", m->tags);
	m->skipping = extended;
}

static void ready(struct model *m)
{
	answer(m, "ZI", 0);
	buf_puts(&m->expected, " ZI");
	memset(m->portals, 0, sizeof(m->portals));
	memset(m->started, 0, sizeof(m->started));
	m->skipping = false;
}

/* COPY FROM STDIN runs; the client is in step: it sends data when it may. @extended: a Sync was sent behind it. */
static void copy_in(struct model *m, bool extended)
{
	unsigned how = dice(3);

	answer(m, "G", 0);
	buf_puts(&m->expected, " G");
	say(m, "d%s%s", "", "");
	if (how == 2)
		fail(m, extended);
	say(m, how == 1 ? "f%s%s" : "c%s%s", "", "");
	if (how == 1)
		fail(m, extended);
	else if (how == 0) {
		answer(m, "C(T%u)", ++m->tags);
		buf_printf(&m->expected, " C(T%u)", m->tags);
	}
}

static void query(struct model *m)
{
	char text[WORD];

	snprintf(text, sizeof(text), "q%u", ++m->texts);
	say(m, "Q(%s)%s", text, "");
	if (m->skipping)
		return;
	expect_run(m, 's', 0, text, 0);
	m->statements[0][0] = '\0';
	switch (dice(4)) {
	case 0: fail(m, false); break;
	case 1: copy_in(m, false); break;
	default: complete(m); break;
	}
	ready(m);
}

static void parse(struct model *m)
{
	unsigned name = dice(NAMES);
	char text[WORD];

	snprintf(text, sizeof(text), "p%u", ++m->texts);
	say(m, "P(%s,%s)", name_of(name), text);
	if (m->skipping)
		return;
	if (!name)
		m->statements[0][0] = '\0';
	if (!dice(8) || (name && m->statements[name][0])) {
		expect_run(m, 'x', name, text, 0);
		fail(m, true);
		return;
	}
	memcpy(m->statements[name], text, sizeof(text));
	answer(m, "1", 0);
}

static void bind(struct model *m)
{
	unsigned name = dice(NAMES), portal = dice(NAMES);

	say(m, "B(%s,%s)", name_of(portal), name_of(name));
	if (m->skipping)
		return;
	if (!m->statements[name][0]) {
		fail(m, true);
		return;
	}
	if (!dice(8)) {
		expect_run(m, 'x', name, m->statements[name], 0);
		fail(m, true);
		return;
	}
	m->portals[portal][0] = (char)('0' + name);
	memcpy(m->portals[portal] + 1, m->statements[name], WORD);
	m->started[portal] = 0;
	answer(m, "2", 0);
}

static void execute(struct model *m)
{
	unsigned portal = dice(NAMES);
	char *p = m->portals[portal];

	say(m, "E(%s)%s", name_of(portal), "");
	if (m->skipping)
		return;
	if (!*p) {
		fail(m, true);
		return;
	}
	expect_run(m, 'x', (unsigned)(*p - '0'), p + 1, m->started[portal]);
	if (!m->started[portal])
		m->started[portal] = m->runs;
	switch (dice(5)) {
	case 0: fail(m, true); break;
	case 1:
		answer(m, "D s", 0);
		buf_puts(&m->expected, " s/1");
		break;
	default: complete(m); break;
	}
}

static void close_or_describe(struct model *m)
{
	unsigned name = dice(NAMES);
	bool portal = dice(2), close = dice(2);
	const char *has = portal ? m->portals[name] : m->statements[name];

	say(m, close ? portal ? "C(P,%s)%s" : "C(S,%s)%s" : portal ? "D(P,%s)%s" : "D(S,%s)%s", name_of(name), "");
	if (m->skipping)
		return;
	if (close) {
		*(portal ? m->portals[name] : m->statements[name]) = '\0';
		answer(m, "3", 0);
	} else if (!*has) {
		fail(m, true);
	} else {
		answer(m, portal ? "T" : "t n", 0);
	}
}

/* As libpq does it: Parse, Bind, Execute, Sync, data, CopyDone, Sync. */
static void extended_copy(struct model *m)
{
	char text[WORD];

	if (m->skipping)
		return;
	snprintf(text, sizeof(text), "copy%u", ++m->texts);
	say(m, "P(%s,%s)", "", text);
	answer(m, "1", 0);
	say(m, "B(%s,%s)", "", "");
	answer(m, "2", 0);
	memcpy(m->statements[0], text, sizeof(text));
	snprintf(m->portals[0], sizeof(m->portals[0]), "0%s", text);
	say(m, "E(%s)%s", "", "");
	expect_run(m, 'x', 0, text, 0);
	say(m, "S%s%s", "", "");
	copy_in(m, true);
	say(m, "S%s%s", "", "");
	ready(m);
}

static void step(struct model *m)
{
	switch (dice(12)) {
	case 0:
		if (m->request_cnt && !strchr("SQ", m->requests[m->request_cnt - 1].text[0]) && dice(8)) {
			say(m, "S%s%s", "", "");
			ready(m);
		}
		query(m);
		break;
	case 1: case 2: parse(m); break;
	case 3: case 4: case 5: bind(m); break;
	case 6: case 7: execute(m); break;
	case 8: close_or_describe(m); break;
	case 9:
		if (!dice(4))
			extended_copy(m);
		break;
	default:
		say(m, "S%s%s", "", "");
		ready(m);
		break;
	}
}

static void model_run(struct model *m)
{
	memset(m, 0, sizeof(*m));
	buf_init(&m->expected, 1 << 20);
	while (m->request_cnt < MESSAGES)
		step(m);
	say(m, "S%s%s", "", "");
	ready(m);
}

/*
 * Requests and replies in some order in which each reply comes behind its request. @slow: how far replies may lag; a
 * client in step gets each group's replies before it goes on.
 */
static void converse(struct model *m, struct script *s, unsigned slow, unsigned loss)
{
	unsigned sent = 0, got = 0;

	while (sent < m->request_cnt || got < m->reply_cnt) {
		bool may_send = sent < m->request_cnt, may_get = got < m->reply_cnt && m->replies[got].after <= sent;
		bool ends = sent && strchr("SQdcf", m->requests[sent - 1].text[0]);
		bool client = may_send && (!may_get || (slow ? dice(slow) : !ends));
		char line[OUT + 4];

		if (!may_send && !may_get)
			break;
		snprintf(line, sizeof(line), "%c %s", client ? '>' : '<', client ? m->requests[sent].text : m->replies[got].text);
		sent += client;
		got += !client;
		if (loss && !dice(loss))
			snprintf(line, sizeof(line), "%c G! R!", client ? '>' : '<');
		script_feed(s, line);
	}
}

static void test_model(void)
{
	static struct model m;

	for (unsigned round = 0; round < 400; round++) {
		struct script s;

		seed = 88172645463325252ULL + round * 7919;
		model_run(&m);
		script_init(&s, false);
		s.piece = round % 3;
		converse(&m, &s, round % 5, 0);
		CHECK_MSG(!strcmp(buf_str(&s.log), buf_str(&m.expected)), "round %u:\n  got      %.3000s\n  expected %.3000s",
			  round, buf_str(&s.log), buf_str(&m.expected));
		CHECK_INT(s.pool.mismatches, 0);
		script_fini(&s);
		buf_fini(&m.expected);
	}
}

/* What was executed, by the tag of its completion or error: the text behind the last '+' before it. */
static bool text_of(const char *log, const char *tag, char *text, bool *sure)
{
	const char *at = strstr(log, tag), *from = at, *quote, *end;

	if (!at)
		return false;
	while (from > log && from[0] != '+')
		from--;
	quote = strchr(from, '\'');
	end = quote ? strchr(quote + 1, '\'') : NULL;
	if (*from != '+' || !end || end > at)
		return false;
	snprintf(text, OUT, "%.*s", (int)(end - quote - 1), quote + 1);
	*sure = !strpbrk(strndupa(end + 1, strcspn(end + 1, " ")), "ndlom");
	return true;
}

/* Whatever is lost: no reply is given to a statement that it was not for. */
static void lossy(unsigned slow, unsigned *matched, unsigned *wrong)
{
	static struct model m;

	for (unsigned round = 0; round < 300; round++) {
		struct script s;

		seed = 362436069ULL + round * 104729;
		model_run(&m);
		script_init(&s, false);
		converse(&m, &s, slow, 40);
		for (unsigned tag = 1; tag <= m.tags; tag++) {
			char name[2][OUT], got[OUT], want[OUT];
			bool sure, known;

			for (int error = 0; error < 2; error++) {
				snprintf(name[error], OUT, error ? " E(X%u)" : " C(T%u)", tag);
				if (!text_of(buf_str(&s.log), name[error], got, &sure) || !sure ||
				    !text_of(buf_str(&m.expected), name[error], want, &known))
					continue;
				(*matched)++;
				if (strcmp(got, want) && !error)
					(*wrong)++;
			}
		}
		script_fini(&s);
		buf_fini(&m.expected);
	}
}

static void test_loss_in_step(void)
{
	unsigned matched = 0, wrong = 0;

	lossy(0, &matched, &wrong);
	CHECK_MSG(matched > 2000 && !wrong, "%u matched, %u wrongly", matched, wrong);
}

static void test_loss_pipelined(void)
{
	unsigned matched = 0, wrong = 0;

	lossy(3, &matched, &wrong);
	CHECK_MSG(matched > 500 && !wrong, "%u matched, %u wrongly", matched, wrong);
}

static const struct test_case cases[] = {
	{ "model", test_model },
	{ "loss_in_step", test_loss_in_step },
	{ "loss_pipelined", test_loss_pipelined },
};

TEST_MAIN(cases)
