/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends holds: the keeper by a verdict, the dead-man by their deadlines, a starting daemon or
 * `disarm` all at once.
 *
 * Works on the shared slots alone, no /proc and no bpf(2). A slot is freed by the kernel when its
 * process exits, so a pidfd opened before a successful compare-and-swap belongs to the process that
 * is held, whatever pids are reused.
 */
#ifndef DBFENCE_ENFORCE_HOLD_H
#define DBFENCE_ENFORCE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "dbfence/abi/shared.h"

/*
 * Resolve slot @index of @slots if it still is open with sequence @seq, and let its process go on:
 * SIGCONT, behind a SIGINT when denied or a SIGTERM when killed. 0 when we resolved it, -EALREADY
 * when somebody else did, or a negative errno when the process could not be signalled.
 */
int hold_end(struct dbf_hold_slot *slots, uint32_t index, uint32_t seq, enum dbf_hold_state to,
	     enum dbf_resolver by);

/* End every hold in @cnt slots whose deadline is past @now_ns, as its fail mode says. Returns how
 * many; *open counts those that remain. */
unsigned hold_end_overdue(struct dbf_hold_slot *slots, unsigned cnt, uint64_t now_ns,
			  enum dbf_resolver by, unsigned *open);

/* End every hold, as its fail mode says. Returns how many. */
unsigned hold_release_all(struct dbf_hold_slot *slots, unsigned cnt, enum dbf_resolver by);

const char *hold_resolver_name(enum dbf_resolver by); /* "keeper" "dead-man" "kernel" "start" */

#endif
