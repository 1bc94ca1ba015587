// SPDX-License-Identifier: Apache-2.0
/*
 * The line writer. It counts terminal columns as it goes, so that the statement's text, always
 * last, gets what is left of the width.
 */
#include "audit/line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "audit/text.h"
#include "dbfence/audit.pb-c.h"

#define TEXT_COLUMNS_MIN 24 /* of the statement, however narrow the terminal is */
#define NAME_COLUMNS_MAX 64 /* of anything else that a client chose */
#define ELLIPSIS "..."

struct line {
	struct buf *out;
	const struct line_opts *opts;
	unsigned column;
};

static const char style_none[] = "\033[0m";
static const char style_dim[] = "\033[2m";
static const char style_stop[] = "\033[1;33m";	/* bold yellow: we acted or would have */
static const char style_fail[] = "\033[35m";	/* magenta: the database refused */
static const char style_doubt[] = "\033[1;36m"; /* bold cyan: something was not seen */

static void put_style(struct line *line, const char *style)
{
	if (line->opts->color && style)
		buf_puts(line->out, style);
}

/* Text of ours: plain ASCII. */
static void put_plain(struct line *line, const char *text)
{
	size_t len = strlen(text);

	buf_put(line->out, text, len);
	line->column += (unsigned)len;
}

static void put_format(struct line *line, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void put_format(struct line *line, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put_plain(line, text);
}

static void put_styled(struct line *line, const char *style, const char *text)
{
	put_style(line, style);
	put_plain(line, text);
	if (style)
		put_style(line, style_none);
}

struct shown {
	char text[12];
	unsigned len, width, taken;
};

static bool is_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * How the character at @at is shown, and how many bytes it took. A run of white space is one space.
 */
static void show_char(const unsigned char *at, const unsigned char *end, struct shown *shown)
{
	uint32_t cp;

	shown->taken = text_utf8(at, end, &cp);
	if (!shown->taken) {
		shown->taken = 1;
		shown->len = shown->width =
		    (unsigned)snprintf(shown->text, sizeof(shown->text), "\\x%02x", *at);
	} else if (is_space(*at)) {
		while (at + shown->taken < end && is_space(at[shown->taken]))
			shown->taken++;
		shown->text[0] = ' ';
		shown->len = shown->width = 1;
	} else if (text_is_unsafe(cp)) {
		shown->len = shown->width = (unsigned)snprintf(
		    shown->text, sizeof(shown->text), cp < 0x100 ? "\\x%02x" : "\\u{%x}", cp);
	} else {
		memcpy(shown->text, at, shown->taken);
		shown->len = shown->taken;
		shown->width = text_width(cp);
	}
}

/* Text of a client's, at most @columns wide (0: all of it); false when it had to be shortened. */
static bool put_foreign(struct line *line, const char *text, unsigned columns)
{
	const unsigned char *at = (const unsigned char *)(text ? text : "");
	const unsigned char *end = at + strlen((const char *)at);
	size_t cut_len = line->out->len;
	unsigned used = 0, cut_used = 0;
	struct shown shown;

	while (at < end && is_space(*at))
		at++;
	while (end > at && is_space(end[-1]))
		end--;
	for (; at < end; at += shown.taken) {
		show_char(at, end, &shown);
		if (columns && used + shown.width > columns) {
			/* Back to where the ellipsis still fitted. */
			if (!buf_err(line->out)) {
				line->out->len = cut_len;
				line->out->data[cut_len] = '\0';
			}
			buf_puts(line->out, ELLIPSIS);
			line->column += cut_used + 3;
			return false;
		}
		buf_put(line->out, shown.text, shown.len);
		used += shown.width;
		if (columns && used + 3 <= columns) {
			cut_len = line->out->len;
			cut_used = used;
		}
	}
	line->column += used;
	return true;
}

static void put_name(struct line *line, const char *text)
{
	put_foreign(line, text && *text ? text : "?", NAME_COLUMNS_MAX);
}

static bool given(const char *text)
{
	return text && *text;
}

static bool is(const char *text, const char *what)
{
	return text && !strcmp(text, what);
}

static void put_head(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	char time[TEXT_TIME_MAX];
	size_t len = text_time(time, record->time_ns, 3);
	size_t from = line->opts->date ? 0 : 11;

	put_style(line, style_dim);
	if (line->opts->seq && record->seq)
		put_format(line, "#%llu ", (unsigned long long)record->seq);
	put_format(line, "%.*s", (int)(len - from), time + from);
	put_style(line, style_none);
	put_plain(line, " ");
}

static void put_client(struct line *line, const Dbfence__Audit__V1__Client *client)
{
	const char *exe, *slash;

	if (!client)
		return;
	put_plain(line, " ");
	if (client->pid && (given(client->exe) || given(client->comm))) {
		exe = given(client->exe) ? client->exe : client->comm;
		slash = strrchr(exe, '/');
		put_name(line, slash && slash[1] ? slash + 1 : exe);
		put_format(line, "[%u]", client->pid);
	} else if (client->pid) {
		put_format(line, "[%u]", client->pid);
	} else if (given(client->address)) {
		put_name(line, client->address);
		if (client->port)
			put_format(line, ":%u", client->port);
	} else {
		put_plain(line, "?");
	}
}

static void put_who(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	put_name(line, record->db_user);
	put_plain(line, "@");
	put_name(line, record->database);
	put_client(line, record->client);
}

static void put_verdict(struct line *line, const char *before, const char *action,
			const char *policy, const char *rule)
{
	put_plain(line, " ");
	put_style(line, style_stop);
	put_plain(line, before);
	put_name(line, action);
	if (given(policy) || given(rule)) {
		put_plain(line, " ");
		put_name(line, policy);
		put_plain(line, "/");
		put_name(line, rule);
	}
	put_style(line, style_none);
}

static void put_decision(struct line *line, const Dbfence__Audit__V1__Decision *decision)
{
	if (!decision)
		return;
	if (given(decision->action) && !is(decision->action, "allow")) {
		put_verdict(line, is(decision->mode, "shadow") ? "would " : "", decision->action,
			    decision->policy, decision->rule);
	} else {
		for (size_t i = 0; i < decision->n_matches; i++) {
			const Dbfence__Audit__V1__Match *match = decision->matches[i];

			if (is(match->mode, "shadow") && !is(match->action, "allow")) {
				put_verdict(line, "would ", match->action, match->policy,
					    match->rule);
				break;
			}
		}
	}
	if (decision->by_fail_mode)
		put_styled(line, style_doubt, " by fail mode");
}

static const char *outcome_style(const char *outcome)
{
	static const struct {
		const char *outcome, *style;
	} styles[] = {
	    {"failed", style_fail},  {"prevented", style_stop}, {"cancelled", style_stop},
	    {"aborted", style_stop}, {"contained", style_stop}, {"unknown", style_doubt},
	};

	for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++)
		if (is(outcome, styles[i].outcome))
			return styles[i].style;
	return NULL;
}

static void put_duration(struct line *line, uint64_t us)
{
	if (us < 10 * 1000)
		put_format(line, " %.2fms", (double)us / 1e3);
	else if (us < 10 * 1000 * 1000)
		put_format(line, " %.0fms", (double)us / 1e3);
	else
		put_format(line, " %.1fs", (double)us / 1e6);
}

static void put_text(struct line *line, const Dbfence__Audit__V1__Statement *statement)
{
	char more[48] = "";
	unsigned columns = 0, width = line->opts->width, tail;

	put_plain(line, " ");
	if (statement->captured < statement->length)
		snprintf(more, sizeof(more), " [+%llu bytes]",
			 (unsigned long long)(statement->length - statement->captured));
	tail = (unsigned)strlen(more);
	if (width) {
		columns = width > line->column + tail ? width - line->column - tail : 0;
		if (columns < TEXT_COLUMNS_MIN)
			columns = TEXT_COLUMNS_MIN;
	}
	put_foreign(line, statement->text, columns);
	put_plain(line, more);
}

static void line_statement(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Statement *statement = record->statement;
	const char *style = outcome_style(record->outcome);

	put_who(line, record);
	put_plain(line, " ");
	put_style(line, style);
	put_name(line, record->outcome);
	if (style)
		put_style(line, style_none);
	put_decision(line, record->decision);
	if (given(record->sqlstate) && !is(record->sqlstate, "00000")) {
		put_plain(line, " ");
		put_name(line, record->sqlstate);
	}
	if (record->rows_known)
		put_format(line, " %llu row%s", (unsigned long long)record->rows,
			   record->rows == 1 ? "" : "s");
	put_duration(line, record->duration_us);
	if (!statement)
		return;
	if (statement->executions > 1)
		put_format(line, " x%llu", (unsigned long long)statement->executions);
	if (record->parent_seq || record->parent_statement_id || is(statement->form, "nested"))
		put_plain(line, " >");
	put_text(line, statement);
}

static void line_transaction(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Transaction *transaction = record->transaction;

	put_who(line, record);
	put_plain(line, " transaction ");
	put_name(line, transaction ? transaction->state : NULL);
	if (!transaction)
		return;
	if (transaction->xid)
		put_format(line, " xid %llu", (unsigned long long)transaction->xid);
	put_format(line, " %llu statement%s", (unsigned long long)transaction->statements,
		   transaction->statements == 1 ? "" : "s");
	put_duration(line, record->duration_us);
}

static void put_detail(struct line *line, const char *detail)
{
	if (!given(detail))
		return;
	put_plain(line, ": ");
	put_foreign(line, detail, 4 * NAME_COLUMNS_MAX);
}

static void line_session(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Session *session = record->session;

	put_who(line, record);
	put_plain(line, " session ");
	put_name(line, session ? session->event : NULL);
	if (!session)
		return;
	if (session->statements)
		put_format(line, " %llu statement%s", (unsigned long long)session->statements,
			   session->statements == 1 ? "" : "s");
	put_detail(line, session->reason);
}

static void line_gap(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Gap *gap = record->gap;

	put_styled(line, style_doubt, "gap");
	if (!gap)
		return;
	put_plain(line, " ");
	put_name(line, gap->reason);
	if (gap->records)
		put_format(line, " %llu record%s", (unsigned long long)gap->records,
			   gap->records == 1 ? "" : "s");
	if (gap->executions)
		put_format(line, " %llu execution%s", (unsigned long long)gap->executions,
			   gap->executions == 1 ? "" : "s");
	put_detail(line, gap->detail);
}

static void line_agent(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Agent *agent = record->agent;

	put_plain(line, "agent ");
	put_name(line, agent ? agent->event : NULL);
	if (!agent)
		return;
	if (given(agent->version)) {
		put_plain(line, " ");
		put_name(line, agent->version);
	}
	put_detail(line, agent->message);
}

static void line_policy(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__PolicyChange *change = record->policy_change;

	put_plain(line, "policy");
	if (!change)
		return;
	put_format(line, " generation %llu: policies %u, rules %u, enforcing %u",
		   (unsigned long long)change->generation, change->policies, change->rules,
		   change->enforcing);
	put_detail(line, change->message);
}

static void line_coverage(struct line *line, const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Coverage *coverage = record->coverage;

	put_plain(line, "coverage ");
	put_foreign(line, coverage ? coverage->object : NULL, 4 * NAME_COLUMNS_MAX);
	if (!coverage)
		return;
	put_plain(line, " ");
	put_style(line, is(coverage->state, "covered") ? NULL : style_doubt);
	put_name(line, coverage->state);
	put_style(line, is(coverage->state, "covered") ? NULL : style_none);
	put_detail(line, coverage->detail);
}

void audit_line_write(const Dbfence__Audit__V1__Record *record, const struct line_opts *opts,
		      struct buf *out)
{
	static const struct {
		const char *kind;
		void (*write)(struct line *line, const Dbfence__Audit__V1__Record *record);
	} kinds[] = {
	    {"statement", line_statement}, {"transaction", line_transaction},
	    {"session", line_session},	   {"gap", line_gap},
	    {"agent", line_agent},	   {"policy", line_policy},
	    {"coverage", line_coverage},
	};
	struct line line = {.out = out, .opts = opts};
	size_t i;

	put_head(&line, record);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (is(record->kind, kinds[i].kind))
			break;
	if (i < sizeof(kinds) / sizeof(kinds[0])) {
		kinds[i].write(&line, record);
	} else {
		put_name(&line, record->kind);
		put_plain(&line, " ");
		put_who(&line, record);
	}
	buf_putc(out, '\n');
}
