/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel side decided about the messages of a connection, or waits for: from the message that it stopped to the
 * statement that the reply to it makes. A verdict comes right behind its message, and how a hold ended comes before the
 * reply; the number that the message is marked with leads from the one to the other.
 */
#ifndef DBFENCE_CONN_WIRE_VERDICT_H
#define DBFENCE_CONN_WIRE_VERDICT_H

#include "conn/wire.h"
#include "source/wire.h"

/* A DBF_WIRE_VERDICT. Somebody may wait: then ops.hold() is called. */
void wire_verdict_item(struct conn_wire *w, const struct wire_item *item, uint64_t ts);
/* @st is what the message with @mark came to: the verdict about it is @st's now. */
void wire_verdict_take(struct conn_wire *w, struct stmt *st, uint64_t mark);

/* The same of a connection that is another session's: whoever waits is let go. */
void wire_verdict_merged(struct conn_wire *w, const struct wire_item *item, uint64_t ts);
/*
 * @w turns out to be another session's, and is about to forget what it read. What was stopped right before is kept, because it
 * never gets there as it was: its record is @w's, as soon as it is known that it was denied, or dropped.
 */
void wire_verdict_part(struct conn_wire *w);
/* That is forgotten now. Records what was kept, if it is known. */
void wire_verdict_parted(struct conn_wire *w, uint64_t ts);

#endif
