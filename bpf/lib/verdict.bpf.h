/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 5. What happens to a text at a gate: cache, screen, hold, fail mode; and the signals.
 *
 * Nothing is signalled or stopped unless the process is a client backend of a postmaster we know
 * and holds off no interrupts: a stopped process that owns a lightweight lock stops the whole
 * server, and a cancel would be deferred. SIGKILL is never sent: the postmaster would restart every
 * session.
 *
 * A hold: claim a free slot, SIGSTOP ourselves (it takes effect on the way back to user mode), tell
 * user space. The order matters: an answer that comes at once must find the stop already pending,
 * so that its SIGCONT removes it.
 */
#ifndef DBF_VERDICT_BPF_H
#define DBF_VERDICT_BPF_H

#include "lib/hash.bpf.h"
#include "lib/screen.bpf.h"
#include "lib/task.bpf.h"

/* NONE: signal and stop as you like. FAULT: a signal does no harm, but it must not be stopped, since
 * it may hold a lock. */
static __always_inline enum dbf_why verdict_may_signal(struct backend *b, struct dbf_server *srv)
{
	u32 postmaster = b->postmaster, interrupts = 0, cancels = 0, critical = 0;
	struct dbf_cluster *cluster = bpf_map_lookup_elem(&clusters, &postmaster);
	bool fault;

	if (b->kind != DBF_SESSION_CLIENT && b->kind != DBF_SESSION_WALSENDER)
		return DBF_WHY_NOT_OURS;
	if (!cluster || !(cluster->flags & DBF_CLUSTER_ENFORCE))
		return DBF_WHY_NOT_OURS;
	fault = task_read(&interrupts, b->base + srv->interrupt_holdoff);
	fault |= task_read(&cancels, b->base + srv->cancel_holdoff);
	fault |= task_read(&critical, b->base + srv->crit_section);
	if (interrupts | cancels | critical)
		return DBF_WHY_BUSY;
	count_add(DBF_COUNT_STATE_FAULTS, fault);
	return fault ? DBF_WHY_FAULT : DBF_WHY_NONE;
}

static __always_inline bool verdict_signal(int sig)
{
	if (bpf_send_signal(sig)) {
		count_add(DBF_COUNT_SIGNAL_ERRORS, 1);
		return false;
	}
	count_add(DBF_COUNT_SIGNALS, 1);
	return true;
}

static __always_inline u32 verdict_signal_of(u32 action)
{
	return action == DBF_ACTION_KILL ? SIGTERM : action == DBF_ACTION_DENY ? SIGINT : 0;
}

/* Rejects inside this statement that an error followed, this one included: several gates may reject
 * one attempt. */
static __always_inline u32 verdict_count_nested(struct backend *b)
{
	if (!b->denial_open)
		b->nested_denials++;
	b->denial_open = 1;
	return b->nested_denials;
}

static __always_inline struct dbf_hold_slot *hold_slot_at(u32 index)
{
	return bpf_map_lookup_elem(&holds, &index);
}

/*
 * What a look at all slots found. Holds that ended do not count, however long their backends run on;
 * a claim that is being made counts for those behind it, so that of two only one has to give way.
 */
struct claiming {
	u64 oldest_ns;
	u32 postmaster;
	u32 class;
	u32 below; /* claims count up to this slot */
	u32 held;
	u32 same;   /* of them of this identity */
	u32 spare;  /* index + 1 of a free slot */
	u32 oldest; /* index + 1 of the slot whose hold ended first and was not collected */
	u32 max;
};

/* An ender is through with the slot once both are written; the kernel's timer may still put it back. */
static __always_inline bool hold_is_over(struct dbf_hold_slot *slot)
{
	return slot->resolver && slot->resolver != DBF_BY_KERNEL && slot->resolved_ns;
}

static long claim_look(u32 i, struct claiming *c)
{
	struct dbf_hold_slot *slot = hold_slot_at(i);
	u32 st;

	if (!slot)
		return 1;
	st = DBF_STATE_OF(slot->state);
	if (st == DBF_HOLD_FREE) {
		if (!c->spare && (!cfg_releases || slot->timer & DBF_TIMER_MADE))
			c->spare = i + 1;
	} else if (slot->postmaster == c->postmaster &&
		 (st == DBF_HOLD_OPEN || (st == DBF_HOLD_CLAIMED && i < c->below))) {
		c->held++;
		c->same += slot->identity_class == c->class;
	} else if (st == DBF_HOLD_ALLOWED && hold_is_over(slot) &&
		 (!c->oldest || slot->resolved_ns < c->oldest_ns)) {
		c->oldest = i + 1;
		c->oldest_ns = slot->resolved_ns;
	}
	return 0;
}

/*
 * Give a slot up, whatever it holds, unless it is not hold @seq's any more. Nobody else's state is
 * overwritten: the slot of a hold that was allowed may have been taken for another.
 */
static __always_inline void hold_free(struct dbf_hold_slot *slot, u32 seq)
{
	for (int i = 0; i < 4; i++) { /* it may be resolved meanwhile, once */
		u64 state = *(volatile u64 *)&slot->state;

		if (DBF_STATE_SEQ(state) != seq ||
		    __sync_val_compare_and_swap(&slot->state, state,
						DBF_STATE(seq + 1, DBF_HOLD_FREE)) == state)
			return;
	}
}

/* No identity gets the last quarter: whoever asks without end leaves room for others. */
static __always_inline bool claim_allowed(const struct claiming *c)
{
	return c->held < c->max && c->same < c->max - c->max / 4;
}

/*
 * Claim a slot for @postmaster, which may have @max: a free one, else that of the hold that was
 * allowed longest ago and whose backend has not come to a gate since. Such a backend learns by the
 * sequence that it was allowed; only when, and by whom, is lost. Its index + 1, or 0.
 */
GLOBAL_FN int hold_claim(u32 postmaster, u32 class, u32 max)
{
	for (u32 try = 0; try < 4; try++) {
		struct claiming c = { .postmaster = postmaster, .class = class, .max = max,
				      .below = DBF_HOLD_SLOTS };
		struct dbf_hold_slot *slot;
		u32 index, seq;
		u64 state;

		bpf_loop(DBF_HOLD_SLOTS, claim_look, &c, 0);
		index = c.spare ? c.spare : c.oldest;
		if (!index || !claim_allowed(&c))
			return 0;
		slot = hold_slot_at(index - 1);
		if (!slot)
			return 0;
		state = *(volatile u64 *)&slot->state;
		if (c.spare ? DBF_STATE_OF(state) != DBF_HOLD_FREE
			    : DBF_STATE_OF(state) != DBF_HOLD_ALLOWED || !hold_is_over(slot))
			continue;
		seq = DBF_STATE_SEQ(state) + !c.spare;
		if (__sync_val_compare_and_swap(&slot->state, state,
						DBF_STATE(seq, DBF_HOLD_CLAIMED)) != state)
			continue;
		slot->resolved_ns = 0;
		slot->resolver = 0;
		slot->postmaster = postmaster;
		slot->identity_class = class;
		count_add(DBF_COUNT_HOLD_ENDS_LOST, !c.spare);
		c.below = index - 1;
		c.held = c.same = 0;
		bpf_loop(DBF_HOLD_SLOTS, claim_look, &c, 0);
		if (claim_allowed(&c))
			return index;
		hold_free(slot, seq);
		return 0;
	}
	return 0;
}

static __always_inline struct dbf_verdict *verdict_fact(struct backend *b)
{
	struct dbf_verdict *v =
		emit_room(b, sizeof(struct dbf_fact) + sizeof(*v)) + sizeof(struct dbf_fact);

	__builtin_memset(v, 0, sizeof(*v));
	return v;
}

static __always_inline void verdict_commit(struct backend *b)
{
	emit_commit(b, DBF_FACT_VERDICT, sizeof(struct dbf_fact) + sizeof(struct dbf_verdict), 0,
		    bpf_ktime_get_ns());
}

/* The current process's postmaster was told to stop. */
static __always_inline bool hold_is_stopping(struct backend *b)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 postmaster = b->postmaster;
	u64 *start = bpf_map_lookup_elem(&stopping, &postmaster);

	return start && *start == BPF_CORE_READ(task, real_parent, group_leader, start_boottime);
}

/* Somebody would answer: DBF_WHY_NONE. */
static __always_inline enum dbf_why verdict_silence(const struct dbf_config *cfg)
{
	struct dbf_vitals *v = vitals_get();
	u64 now = bpf_ktime_get_ns();

	if (!v || now - v->keeper_beat_ns > cfg->beat_max_ns)
		return DBF_WHY_KEEPER_SILENT;
	return now - v->deadman_beat_ns > cfg->beat_max_ns ? DBF_WHY_DEADMAN_SILENT : DBF_WHY_NONE;
}

/* Is a stop possible now? Reasons not to are never errors: the fail mode decides at once. */
static __always_inline enum dbf_why hold_refusal(struct backend *b, struct dbf_config *cfg)
{
	u32 postmaster = b->postmaster;
	struct dbf_cluster *cluster = bpf_map_lookup_elem(&clusters, &postmaster);
	enum dbf_why silence = verdict_silence(cfg);

	if (silence)
		return silence;
	if (cluster && (cluster->flags & DBF_CLUSTER_STANDBY))
		return DBF_WHY_STANDBY;
	return hold_is_stopping(b) ? DBF_WHY_STOPPING : DBF_WHY_NONE;
}

/* What the backend's server may have held at once. */
static __always_inline u32 hold_limit(struct backend *b, struct dbf_config *cfg)
{
	u32 postmaster = b->postmaster;
	struct dbf_cluster *cluster = bpf_map_lookup_elem(&clusters, &postmaster);

	return cluster && cluster->max_holds && cluster->max_holds < cfg->max_holds ?
		       cluster->max_holds : cfg->max_holds;
}

/* Stop here until user space answers, in the slot with number @index - 1, which is claimed.
 * DBF_WHY_NONE when the stop is pending and user space was told. */
GLOBAL_FN int hold_begin(struct backend *b, u32 index)
{
	struct dbf_config *cfg = config_get();
	u64 now = bpf_ktime_get_ns();
	struct dbf_hold_slot *slot = hold_slot_at(index - 1);
	struct dbf_verdict *v;
	u32 seq;

	if (!b || !cfg || !slot)
		return DBF_WHY_NO_SLOT;
	seq = DBF_STATE_SEQ(slot->state);
	slot->since_ns = now;
	slot->deadline_ns = now + cfg->hold_ns;
	slot->session = b->session;
	slot->tgid = b->tgid;
	slot->fail_closed = b->judge.fail_closed;
	/* The verdict names its text by the address. Making room may have lost the text, and user
	 * space would judge an older one that stood there. */
	v = verdict_fact(b);
	if (b->lost_batches != b->judge.text.lost) {
		hold_free(slot, seq);
		return DBF_WHY_RING_FULL;
	}
	/* Known before the stop: the program that sees the signal sent arms the slot's timer. */
	b->hold_slot = index;
	b->hold_seq = seq;
	if (!verdict_signal(SIGSTOP)) {
		b->hold_slot = 0;
		hold_free(slot, seq);
		return DBF_WHY_SIGNAL;
	}
	/* Without its timer nobody may be left to let it go. */
	if (cfg_releases && *(volatile u32 *)&slot->timer != DBF_TIMER_OF(seq)) {
		bpf_send_signal(SIGCONT);
		b->hold_slot = 0;
		hold_free(slot, seq);
		count_add(DBF_COUNT_SIGNAL_ERRORS, 1);
		return DBF_WHY_SIGNAL;
	}
	__sync_val_compare_and_swap(&slot->state, DBF_STATE(seq, DBF_HOLD_CLAIMED),
				    DBF_STATE(seq, DBF_HOLD_OPEN));
	if (hold_is_stopping(b)) /* since it was looked at: it did not see this hold */
		slot->deadline_ns = now;
	*v = b->proto;
	v->how = DBF_HOW_HOLD;
	v->slot = index - 1;
	v->slot_seq = seq;
	v->deadline_ns = slot->deadline_ns;
	verdict_commit(b);
	if (emit_flush(b, EMIT_WAKE | EMIT_RESERVE | EMIT_HOLD |
				   (b->judge.text.whole ? 0 : EMIT_HOLD_LONG))) {
		/* Nobody will answer: take the stop back before it takes effect. */
		bpf_send_signal(SIGCONT);
		b->hold_slot = 0;
		hold_free(slot, seq);
		return DBF_WHY_RING_FULL;
	}
	count_add(DBF_COUNT_HOLDS, 1);
	return DBF_WHY_NONE;
}

struct hold_end {
	u64 at_ns;
	u32 st;
	u32 by;
};

/* How the backend's hold ended, and its slot is free again. False while it has not. */
static __always_inline bool hold_collect(struct backend *b, struct dbf_hold_slot *slot,
					 struct hold_end *end)
{
	u64 state = *(volatile u64 *)&slot->state;

	*end = (struct hold_end){ .st = DBF_HOLD_ALLOWED };
	/* Only the slot of a hold that was allowed is taken away. */
	if (DBF_STATE_SEQ(state) != b->hold_seq || slot->tgid != b->tgid ||
	    slot->session != b->session)
		return true;
	if (DBF_STATE_OF(state) == DBF_HOLD_OPEN)
		return false;
	end->st = DBF_STATE_OF(state);
	end->by = slot->resolver;
	end->at_ns = slot->resolved_ns;
	if (__sync_val_compare_and_swap(&slot->state, state,
					DBF_STATE(b->hold_seq + 1, DBF_HOLD_FREE)) != state)
		*end = (struct hold_end){ .st = DBF_HOLD_ALLOWED };
	return true;
}

/*
 * First thing at every hit: a hold of ours may have ended. Settled: say how, free the slot. Still
 * open: a stranger sent SIGCONT; stop again. Returns false while the process is to stop again.
 */
static __always_inline bool hold_settle(struct backend *b)
{
	struct dbf_hold_slot *slot;
	struct dbf_verdict *v;
	struct hold_end end;

	if (!b->hold_slot)
		return true;
	slot = hold_slot_at(b->hold_slot - 1);
	if (!slot)
		return true;
	if (!hold_collect(b, slot, &end)) {
		verdict_signal(SIGSTOP);
		return false;
	}
	b->judged_action = end.st == DBF_HOLD_KILLED   ? DBF_ACTION_KILL
			   : end.st == DBF_HOLD_DENIED ? DBF_ACTION_DENY
						       : DBF_ACTION_ALLOW;
	if (b->judged_action == DBF_ACTION_DENY && !b->hold_top && verdict_count_nested(b) > 1) {
		b->judged_action = DBF_ACTION_KILL;
		verdict_signal(SIGTERM);
	}
	v = verdict_fact(b);
	v->ptr = b->hold_ptr;
	v->how = DBF_HOW_HOLD;
	v->action = b->judged_action;
	v->why = end.by;
	v->slot = b->hold_slot - 1;
	v->slot_seq = b->hold_seq;
	v->deadline_ns = end.at_ns;
	v->signal = verdict_signal_of(b->judged_action);
	verdict_commit(b);
	b->hold_slot = 0;
	return true;
}

/* A slot whose owner exits. */
static __always_inline void hold_abandon(struct backend *b)
{
	struct dbf_hold_slot *slot;

	if (!b->hold_slot)
		return;
	slot = hold_slot_at(b->hold_slot - 1);
	if (slot && slot->tgid == b->tgid && slot->session == b->session)
		hold_free(slot, b->hold_seq);
	b->hold_slot = 0;
}

/* 0 while user space has not told. */
static __always_inline u32 verdict_class(struct backend *b)
{
	struct dbf_session_key sk = { .session = b->session, .tgid = b->tgid };
	u32 *class = bpf_map_lookup_elem(&classes, &sk);

	return class ? *class : 0;
}

static __always_inline u32 verdict_cached(struct backend *b, struct dbf_config *cfg)
{
	struct judging *j = &b->judge;
	struct dbf_verdict_key key = { .len = j->text.len,
				       .policy_gen = cfg->policy_gen,
				       .mode = j->mode | (j->text.escapes ? DBF_MODE_ESCAPES : 0) };
	struct dbf_verdict_value *value;

	key.identity_class = verdict_class(b);
	if (!key.identity_class)
		return DBF_ACTION_NONE;
	key.hash[0] = b->text_hash.words[0];
	key.hash[1] = b->text_hash.words[1];
	value = bpf_map_lookup_elem(&verdicts, &key);
	return value ? value->action : DBF_ACTION_NONE;
}

/* Nobody can be asked, or a signal is impossible here: the fail mode, and why. */
static __always_inline u32 verdict_fail(struct backend *b, u32 why)
{
	struct dbf_verdict *v = verdict_fact(b);

	*v = b->proto;
	v->how = DBF_HOW_FAIL;
	v->why = why;
	v->action = b->judge.fail_closed ? DBF_ACTION_DENY : DBF_ACTION_ALLOW;
	if (v->action == DBF_ACTION_DENY && why != DBF_WHY_BUSY && why != DBF_WHY_NOT_OURS)
		v->signal = verdict_signal(SIGINT) ? SIGINT : 0;
	else if (why == DBF_WHY_BUSY || why == DBF_WHY_NOT_OURS)
		v->action = DBF_ACTION_ALLOW;
	count_add(v->action == DBF_ACTION_DENY ? DBF_COUNT_FAIL_CLOSED : DBF_COUNT_FAIL_OPEN, 1);
	b->judged_action = v->action;
	verdict_commit(b);
	return b->judged_action;
}

/* The cache says so. */
static __always_inline u32 verdict_deny(struct backend *b, u32 action)
{
	struct dbf_verdict *v = verdict_fact(b);

	if (!b->judge.top && verdict_count_nested(b) > 1)
		action = DBF_ACTION_KILL;
	*v = b->proto;
	v->how = DBF_HOW_CACHE;
	v->action = action;
	v->signal = verdict_signal(verdict_signal_of(action)) ? verdict_signal_of(action) : 0;
	verdict_commit(b);
	count_add(DBF_COUNT_CACHE_DENY, 1);
	b->judged_action = action;
	return action;
}

/*
 * Judge the text that was just put into the batch, described in b->judge. The enum dbf_action, NONE
 * while it is held. Everything that acts is told to user space with a verdict fact; what the screen
 * lets pass is not.
 */
GLOBAL_FN int verdict_judge(struct backend *b, struct dbf_server *srv)
{
	struct dbf_config *cfg = config_get();
	u32 action = DBF_ACTION_NONE, why, found, index;
	struct judging *j;
	bool countable;

	if (!b || !srv || !cfg)
		return DBF_ACTION_ALLOW;
	j = &b->judge;
	if (!j->top && b->replicating) /* a stream is never signalled */
		return DBF_ACTION_ALLOW;
	countable = j->text.whole && !j->text.fault;
	j->fail_closed = cfg->fail_closed;
	b->proto = (struct dbf_verdict){ .ptr = j->ptr,
					 .gate = j->gate,
					 .exec_id = j->exec_id,
					 .text_len = j->text.len,
					 .policy_gen = cfg->policy_gen };
	b->judged_ptr = j->ptr;
	b->judged_cycle = b->cycle;
	b->judged_gen = cfg->policy_gen;
	b->judged_action = DBF_ACTION_ALLOW;
	if (countable && !j->text.len && j->top) /* an empty query, which some clients send to see whether we live */
		return DBF_ACTION_ALLOW;
	if (countable && j->text.len) {
		found = screen_text(text_piece(b, &j->text), j->text.len, cfg->screen);
		if (found == SCREEN_OPEN)
			j->fail_closed = 0;
		if (!found) {
			count_add(DBF_COUNT_SCREENED, 1);
			return DBF_ACTION_ALLOW;
		}
		siphash_text(text_piece(b, &j->text), j->text.len, &b->text_hash);
		b->proto.hash[0] = b->text_hash.words[0];
		b->proto.hash[1] = b->text_hash.words[1];
		action = verdict_cached(b, cfg);
	}
	count_add(DBF_COUNT_CANDIDATES, 1);
	if (action == DBF_ACTION_ALLOW) {
		count_add(DBF_COUNT_CACHE_ALLOW, 1);
		return action;
	}
	why = verdict_may_signal(b, srv);
	if (why == DBF_WHY_NOT_OURS) /* nothing is enforced here: only observed */
		return DBF_ACTION_ALLOW;
	if (why == DBF_WHY_BUSY)
		return verdict_fail(b, why);
	if (action == DBF_ACTION_DENY || action == DBF_ACTION_KILL)
		return verdict_deny(b, action);
	if (!why)
		why = hold_refusal(b, cfg);
	if (!why) { /* side by side, not one in the other: the stack is short */
		index = hold_claim(b->postmaster, verdict_class(b), hold_limit(b, cfg));
		why = index ? hold_begin(b, index) : DBF_WHY_NO_SLOT;
	}
	if (why)
		return verdict_fail(b, why);
	b->hold_ptr = j->ptr;
	b->hold_top = j->top;
	return DBF_ACTION_NONE;
}

/*
 * An execution of a text that was judged in this cycle: repeat a denial that has not taken effect
 * yet. True when the text needs judging.
 */
static __always_inline bool verdict_again(struct backend *b, struct dbf_server *srv,
					  struct dbf_config *cfg, u64 ptr, u32 gate, u32 exec_id)
{
	enum dbf_why why;
	struct dbf_verdict *v;

	if (b->judged_ptr != ptr || b->judged_cycle != b->cycle || b->judged_gen != cfg->policy_gen)
		return true;
	if (b->judged_action != DBF_ACTION_DENY && b->judged_action != DBF_ACTION_KILL)
		return false;
	why = verdict_may_signal(b, srv);
	if (why && why != DBF_WHY_FAULT)
		return false;
	v = verdict_fact(b);
	v->ptr = ptr;
	v->gate = gate;
	v->how = DBF_HOW_CACHE;
	v->action = b->judged_action;
	v->exec_id = exec_id;
	v->policy_gen = cfg->policy_gen;
	v->signal = verdict_signal(verdict_signal_of(b->judged_action))
			    ? verdict_signal_of(b->judged_action)
			    : 0;
	verdict_commit(b);
	return false;
}

#endif
