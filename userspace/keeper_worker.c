// SPDX-License-Identifier: Apache-2.0
/* What the worker may ask for. It reads what clients wrote: nothing that it says is believed without a look. */
#include "keeper.h"

#include <errno.h>
#include <string.h>

#include "core/clock.h"
#include "enforce/hold.h"

static int handle_verdict(void *ctx, const struct chan_msg *msg)
{
	static const enum dbf_hold_state states[DBF_ACTION_MAX] = {
		[DBF_ACTION_ALLOW] = DBF_HOLD_ALLOWED,
		[DBF_ACTION_DENY] = DBF_HOLD_DENIED,
		[DBF_ACTION_KILL] = DBF_HOLD_KILLED,
	};
	struct keeper *k = ctx;
	const struct msg_verdict *m = msg->payload;
	char rule[sizeof(m->name)];
	int rc;

	if (!m->action || m->action >= DBF_ACTION_MAX || (!m->wire && m->slot >= DBF_HOLD_SLOTS))
		return -EINVAL;
	memcpy(rule, m->name, sizeof(rule));
	rule[sizeof(rule) - 1] = '\0';
	/* Remembered first: the backend may reach its next gate before we are back from the signal.
	 */
	if (m->remember && m->key.identity_class)
		kernel_put_verdict(k->kernel, &m->key, m->action, rule);
	rc = m->wire ? keeper_wire_verdict(k, m, rule)
		     : hold_end(kernel_holds(k->kernel), m->slot, m->slot_seq, states[m->action],
				DBF_BY_KEEPER);
	k->counters.verdicts += !rc;
	k->counters.verdicts_late += rc == -EALREADY;
	k->counters.verdict_errors += rc && rc != -EALREADY;
	return 0;
}

static int handle_who(void *ctx, const struct chan_msg *msg)
{
	struct keeper *k = ctx;
	struct msg_who_answer answer;

	keeper_find_who(msg->payload, &answer);
	k->counters.whos++;
	k->counters.who_missing += !answer.found;
	return chan_try_send(k->worker_fd, MSG_WHO_ANSWER, &answer, sizeof(answer), -1);
}

static int handle_class(void *ctx, const struct chan_msg *msg)
{
	struct keeper *k = ctx;
	const struct msg_class *m = msg->payload;

	return kernel_put_class(k->kernel, &m->session, m->identity_class);
}

static int handle_ready(void *ctx, const struct chan_msg *msg)
{
	keeper_policy_ready(ctx, msg->payload);
	return 0;
}

static int handle_vouch(void *ctx, const struct chan_msg *msg)
{
	keeper_wire_vouch(ctx, msg->payload);
	return 0;
}

static int handle_stats(void *ctx, const struct chan_msg *msg)
{
	struct keeper *k = ctx;

	memcpy(&k->stats, msg->payload, sizeof(k->stats));
	k->worker_beat_ns = clock_mono_ns();
	return 0;
}

#define FIXED(type, st, fn) \
	{ \
		type, sizeof(struct st), sizeof(struct st), false, fn \
	}

static const struct chan_rule worker_rules[] = {
	FIXED(MSG_VERDICT, msg_verdict, handle_verdict), FIXED(MSG_WHO, msg_who, handle_who),
	FIXED(MSG_CLASS, msg_class, handle_class),	 FIXED(MSG_READY, msg_ready, handle_ready),
	FIXED(MSG_STATS, msg_stats, handle_stats),	 FIXED(MSG_VOUCH, msg_vouch, handle_vouch),
};

void keeper_worker_table(struct keeper *k)
{
	k->worker_table = (struct chan_table){ .rules = worker_rules,
					       .ctx = k,
					       .rule_cnt = sizeof(worker_rules) / sizeof(worker_rules[0]) };
}
