/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which policies are in force, and which are on their way. What is in force stays in force, and
 * judged, until worker and kernel both have what comes after it.
 *
 *   offer_new ──▶ offered ──(sent to the worker)──▶ answer ok ──▶ INSTALL, into the kernel ──▶ in force
 *                    └─────────────────────────────▶ refused, or the worker ended: dropped
 *
 * Pure state: nothing is sent, logged or written here. The keeper does what is answered.
 */
#ifndef DBFENCE_KEEPER_OFFER_H
#define DBFENCE_KEEPER_OFFER_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

struct offer { /* one set of policies, compiled */
	uint64_t generation;
	int fd; /* owned: memfd of the sources, -1 */
	uint32_t bytes;
	struct policy_summary summary;
	struct dbf_screen *screen; /* owned */
	bool sent;		   /* to the worker that lives; its answer is awaited */
};

struct offers {
	uint64_t generation;	/* the last that was given out */
	struct offer *in_force; /* owned; NULL before the first */
	struct offer *offered;	/* owned; NULL when nothing is on its way */
	uint64_t worker_has;	/* what the worker took last */
	bool judged;		/* that is what is in force */
};

enum offer_next {
	OFFER_IGNORE,
	OFFER_INSTALL,	      /* the set of that generation into the kernel, then offer_installed() */
	OFFER_REFUSED,	      /* dropped; what is in force stays */
	OFFER_REPLACE_WORKER, /* it cannot judge by what is in force */
};

void offer_free(struct offer *o);
void offers_fini(struct offers *all);

/* Takes @o and gives it a generation. An earlier one that is still on its way is dropped. */
void offer_new(struct offers *all, struct offer *o);

/*
 * A new worker knows nothing, and what the last one judged is not for its identity classes: what is
 * in force gets a new generation. What the last worker had been offered is dropped, since it may
 * have died of it; true then.
 */
bool offers_new_worker(struct offers *all);

/* The next to be sent to the worker, in order; NULL when there is none. The caller sets ->sent. */
struct offer *offers_to_send(struct offers *all);

enum offer_next offers_answered(struct offers *all, uint64_t generation, bool ok);

/* The one that OFFER_INSTALL was about; NULL when unknown. */
const struct offer *offers_lookup(const struct offers *all, uint64_t generation);

/*
 * The kernel has it, or not. When not, the worker is ahead of the kernel: what is in force is to be
 * sent again, and nobody judges until it is answered.
 */
enum offer_next offers_installed(struct offers *all, uint64_t generation, bool ok);

#endif
