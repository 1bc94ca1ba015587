/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dead-man: releases holds whose deadline is past and knows nothing else. It outlives the
 * keeper until the last hold is over, so no backend stays stopped whoever dies.
 */
#ifndef DBFENCE_ENFORCE_DEADMAN_H
#define DBFENCE_ENFORCE_DEADMAN_H

#include "dbfence/abi/wire_hold.h"

#define DEADMAN_TICK_MS 20 /* while a hold is open: how late a release can be */
#define DEADMAN_IDLE_MS 50

struct deadman {
	struct dbf_vitals *vitals; /* borrowed: shared pages */
	struct dbf_hold_slot *slots;
	struct dbf_wire_hold *wire_slots; /* NULL: the wire is not watched */
	int keeper_fd; /* reads end-of-file when the keeper is gone */
};

/* Runs until the keeper is gone and no hold is open. Returns 0. */
int deadman_run(const struct deadman *d);

#endif
