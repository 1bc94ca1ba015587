// SPDX-License-Identifier: Apache-2.0
#include "enforce/wire_hold.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "core/clock.h"

uint32_t wire_hold_name(char *to, const char *rule)
{
	size_t len = rule ? strnlen(rule, DBF_RULE_NAME_BYTES - 1) : 0;

	memset(to, 0, DBF_RULE_NAME_BYTES);
	for (size_t i = 0; i < len; i++)
		to[i] = isascii(rule[i]) && isalnum((unsigned char)rule[i]) ? rule[i] : '_';
	return (uint32_t)len;
}

/* What is written before the swap is this resolver's own, and nobody's unless it wins. */
static bool decide(struct dbf_wire_hold *slot, uint32_t seq, enum dbf_wire_hold_state to, const char *name,
		   enum dbf_resolver by)
{
	uint64_t held = DBF_STATE(seq, DBF_WIRE_HOLD);

	__atomic_store_n(&slot->decided_ns[by], clock_mono_ns(), __ATOMIC_RELAXED);
	if (by == DBF_BY_KEEPER)
		slot->name_len[DBF_WIRE_NAME_JUDGED] = (uint8_t)wire_hold_name(slot->name[DBF_WIRE_NAME_JUDGED], name);
	return __atomic_compare_exchange_n(&slot->state, &held, DBF_WIRE_STATE(seq, by, to), false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

uint64_t wire_hold_decided_ns(const struct dbf_wire_hold *copy)
{
	uint32_t by = DBF_WIRE_BY(copy->state);

	return by > DBF_BY_NONE && by < DBF_BY_MAX ? copy->decided_ns[by] : 0;
}

int wire_hold_end(struct dbf_wire_hold *slots, uint32_t index, uint32_t seq, enum dbf_wire_hold_state to,
		  const char *name, enum dbf_resolver by)
{
	struct dbf_wire_hold *slot;

	if (index >= DBF_WIRE_HOLD_SLOTS ||
	    by <= DBF_BY_NONE || by >= DBF_BY_MAX || (to != DBF_WIRE_ALLOW && to != DBF_WIRE_REWRITE && to != DBF_WIRE_KILL))
		return -EINVAL;
	slot = &slots[index];
	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != DBF_STATE(seq, DBF_WIRE_HOLD))
		return -EALREADY;
	return decide(slot, seq, to, name, by) ? 0 : -EALREADY;
}

/* Its fields are written while it is CLAIMED, or by who decides for itself, and each statement has its own sequence number. */
bool wire_hold_read(const struct dbf_wire_hold *slot, struct dbf_wire_hold *copy)
{
	uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

	if (DBF_STATE_OF(state) == DBF_WIRE_CLAIMED)
		return false;
	memcpy(copy, slot, sizeof(*copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	copy->state = state;
	return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == state;
}

unsigned wire_hold_end_overdue(struct dbf_wire_hold *slots, unsigned cnt, uint64_t now_ns, enum dbf_resolver by,
			       unsigned *held)
{
	unsigned ended = 0;

	*held = 0;
	for (unsigned i = 0; i < cnt; i++) {
		uint64_t state = __atomic_load_n(&slots[i].state, __ATOMIC_ACQUIRE);

		if (DBF_STATE_OF(state) != DBF_WIRE_HOLD)
			continue;
		if (now_ns <= slots[i].deadline_ns)
			(*held)++;
		else
			ended += decide(&slots[i], DBF_STATE_SEQ(state),
					slots[i].fail_closed ? DBF_WIRE_REWRITE : DBF_WIRE_ALLOW, NULL, by);
	}
	return ended;
}

unsigned wire_hold_count(const struct dbf_wire_hold *slots, unsigned cnt)
{
	unsigned used = 0;

	for (unsigned i = 0; i < cnt; i++)
		used += DBF_STATE_OF(__atomic_load_n(&slots[i].state, __ATOMIC_ACQUIRE)) != DBF_WIRE_FREE;
	return used;
}

const char *wire_hold_state_name(enum dbf_wire_hold_state state)
{
	static const char *const names[DBF_WIRE_STATE_MAX] = { "free",	    "claimed", "held",	   "allowed",
							       "rewritten", "killed",  "abandoned" };

	return state < DBF_WIRE_STATE_MAX ? names[state] : "";
}
