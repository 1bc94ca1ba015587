/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who stand still come first: the records of a session whose statement is held are taken out of
 * the ring ahead of all that others have put before them, in the session's own order. So whoever fills
 * the ring with work makes nobody's hold late.
 *
 * Short texts come before long ones, which cost most to parse.
 */
#ifndef DBFENCE_SOURCE_URGENT_H
#define DBFENCE_SOURCE_URGENT_H

#include "source/ring.h"

struct urgent;

/* @ring is borrowed. NULL with errno. */
struct urgent *urgent_new(struct ring *ring);
void urgent_free(struct urgent *u);

/*
 * Hand the records of one session that waits to @fn, up to that of its hold. False when nobody waits.
 * Call until then between any two records of ring_consume().
 */
bool urgent_take(struct urgent *u, ring_record_fn fn, void *ctx);

#endif
