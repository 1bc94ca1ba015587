/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides about statements that are held at their client's socket. Works on the shared slots alone; what decides is the
 * word in the slot, so whoever wins the compare-and-swap decides, be it the keeper, the dead-man or the program itself.
 * A statement that was decided waits for TCP's next try: socket_poke() makes that now.
 */
#ifndef DBFENCE_ENFORCE_WIRE_HOLD_H
#define DBFENCE_ENFORCE_WIRE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "dbfence/abi/wire_hold.h"

/*
 * Decide slot @index of @slots (DBF_WIRE_HOLD_SLOTS of them) if it still is held with sequence @seq: @to is
 * DBF_WIRE_ALLOW, DBF_WIRE_REWRITE or DBF_WIRE_KILL. @name, which may be NULL, is what the client reads of the rule: cut,
 * and what is no letter or digit becomes '_'; only the keeper's is kept. @by is one process at a time. 0, -EALREADY when it is not held any
 * more, -EINVAL.
 */
int wire_hold_end(struct dbf_wire_hold *slots, uint32_t index, uint32_t seq, enum dbf_wire_hold_state to,
		  const char *name, enum dbf_resolver by);

/* What the client reads of @rule, which may be NULL: into @to, DBF_RULE_NAME_BYTES of them. Returns its length. */
uint32_t wire_hold_name(char *to, const char *rule);

/*
 * A copy of @slot that is of one statement alone, whatever the programs do meanwhile. False when that was not to be had;
 * look again later.
 */
bool wire_hold_read(const struct dbf_wire_hold *slot, struct dbf_wire_hold *copy);

/* When the statement in @copy was decided, by whoever won; 0 while it is held. */
uint64_t wire_hold_decided_ns(const struct dbf_wire_hold *copy);

/* By its fail mode whatever is held and overdue at @now_ns. Returns how many; *held counts those that remain. */
unsigned wire_hold_end_overdue(struct dbf_wire_hold *slots, unsigned cnt, uint64_t now_ns, enum dbf_resolver by,
			       unsigned *held);

/* Slots in use, decided ones too: while there is one, nothing may be detached. */
unsigned wire_hold_count(const struct dbf_wire_hold *slots, unsigned cnt);

/* "free" "claimed" "held" "allowed" "rewritten" "killed" "abandoned" */
const char *wire_hold_state_name(enum dbf_wire_hold_state state);

#endif
