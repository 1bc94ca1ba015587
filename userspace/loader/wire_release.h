/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings every statement that is stopped on the wire to its end, so that the programs may be detached: a refused packet
 * that stands in a socket's queue is sent as soon as they are gone. Needs no daemon; the programs must be attached still.
 */
#ifndef DBFENCE_LOADER_WIRE_RELEASE_H
#define DBFENCE_LOADER_WIRE_RELEASE_H

#include <stdint.h>

#include "dbfence/abi/wire_hold.h"

#define WIRE_RELEASE_MS 5000

/*
 * What is held in @slots (DBF_WIRE_HOLD_SLOTS of them) is decided by its fail mode. What was decided has a second to leave;
 * then, and at once when its client gave up or it is to be killed, its socket is destroyed. @prog is the program
 * wire_handback, or negative: then what is denied at a server's socket is destroyed too. New holds must not begin meanwhile.
 * Takes at most @ms. Returns how many are left: while it is not 0, do not detach.
 */
unsigned wire_release_all(struct dbf_wire_hold *slots, int prog, unsigned ms);

#endif
