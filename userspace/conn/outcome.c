// SPDX-License-Identifier: Apache-2.0
/* How a statement ended, decided from what was seen of it. */
#include "conn/state.h"

#include <string.h>

bool outcome_rejected(const struct stmt *st)
{
	const struct conn_verdict *v = &st->pub.verdict;

	return st->pub.has_verdict && v->signalled &&
	       (v->action == DBF_ACTION_DENY || v->action == DBF_ACTION_KILL);
}

static bool is_cancel(const char *sqlstate)
{
	return !strcmp(sqlstate, "57014") || !strcmp(sqlstate, "57P01");
}

static bool rejected_inside(const struct stmt *st)
{
	for (unsigned i = 0; i < st->nested_cnt; i++)
		if (outcome_rejected(st->nested[i]))
			return true;
	return false;
}

/* A part of it is answered: a statement of several, or rows of a portal. */
static enum conn_outcome of_reject_on_wire(const struct conn_stmt *p)
{
	return p->part_cnt || p->missing & 1U << CONN_MISSING_SUSPENDED ? CONN_CANCELLED : CONN_PREVENTED;
}

/*
 * What the reject did, when there was one and the statement ended in an error or with its session.
 * The executor checks for interrupts before it touches a row, so a reject at its entry is still
 * before the beginning.
 */
static enum conn_outcome of_reject(const struct stmt *st, bool session_end)
{
	enum dbf_gate gate = st->pub.verdict.gate;

	/* What the server got was another message: whatever error it gave is about that. */
	if (gate == DBF_GATE_WIRE)
		return of_reject_on_wire(&st->pub);
	if (!is_cancel(st->pub.sqlstate) && !(session_end && !st->pub.sqlstate[0]))
		return CONN_FAILED; /* it failed first, by itself */
	if (!st->pub.began ||
	    (gate == DBF_GATE_EXECUTOR && !st->pub.part_cnt && st->pub.executions <= 1))
		return CONN_PREVENTED;
	return CONN_CANCELLED;
}

void outcome_decide(struct stmt *st, bool session_end)
{
	struct conn_stmt *p = &st->pub;
	bool error = p->sqlstate[0] != '\0', inside = rejected_inside(st);

	p->evidence |= (error ? 1U << CONN_SAW_ERROR : 0) | (p->part_cnt ? 1U << CONN_SAW_TAG : 0) |
		       (session_end ? 1U << CONN_SAW_EXIT : 0) |
		       (outcome_rejected(st) || (error && inside) ? 1U << CONN_SAW_REJECT : 0) |
		       (p->began || p->session->vantage == CONN_WIRE ? 0 : 1U << CONN_SAW_NO_EXECUTION);
	if (p->has_verdict && p->verdict.withheld && !error && !p->part_cnt) {
		p->evidence |= 1U << CONN_SAW_WITHHELD;
		p->outcome = of_reject_on_wire(p);
	} else if (outcome_rejected(st) && (error || (session_end && st->state != STMT_DONE)))
		p->outcome = of_reject(st, session_end);
	else if (is_cancel(p->sqlstate) && inside)
		p->outcome = CONN_CANCELLED;
	else if (error)
		p->outcome = CONN_FAILED;
	else if (st->state == STMT_DONE || st->state == STMT_SUSPENDED || st->empty_query)
		p->outcome = CONN_EXECUTED;
	else if (p->missing & 1U << CONN_MISSING_GAP)
		p->outcome = CONN_UNKNOWN;
	else if (session_end)
		p->outcome = CONN_ABORTED;
	else
		p->outcome = CONN_UNKNOWN;
}

void outcome_decide_nested(struct stmt *st, const struct stmt *top)
{
	struct conn_stmt *p = &st->pub;
	bool error = p->sqlstate[0] != '\0';
	bool session_end = top->pub.evidence & 1U << CONN_SAW_EXIT;

	p->evidence |= (error ? 1U << CONN_SAW_ERROR : 0) |
		       (outcome_rejected(st) ? 1U << CONN_SAW_REJECT : 0) |
		       (p->began ? 0 : 1U << CONN_SAW_NO_EXECUTION) | 1U << CONN_SAW_PARENT_END;
	if (outcome_rejected(st) &&
	    (error || top->pub.sqlstate[0] || top->pub.outcome == CONN_ABORTED ||
	     top->pub.outcome == CONN_PREVENTED || top->pub.outcome == CONN_CANCELLED)) {
		if (!error)
			memcpy(p->sqlstate, top->pub.sqlstate, sizeof(p->sqlstate));
		p->outcome = of_reject(st, session_end);
	} else if (error) {
		p->outcome = CONN_FAILED;
	} else if (!p->began || top->state == STMT_LOST) {
		p->outcome = CONN_UNKNOWN;
	} else if (top->pub.outcome == CONN_ABORTED) {
		p->outcome = CONN_ABORTED;
	} else {
		p->outcome = CONN_EXECUTED;
	}
	p->executions = p->began && !p->executions ? 1 : p->executions;
	p->missing |= top->pub.missing & 1U << CONN_MISSING_GAP;
}
