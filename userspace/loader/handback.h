/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has the kernel side hand packets back that it kept of a held statement of a client elsewhere. Reads none of them.
 */
#ifndef DBFENCE_LOADER_HANDBACK_H
#define DBFENCE_LOADER_HANDBACK_H

#include <stdint.h>

#include "core/err.h"

/*
 * After slot @index, sequence @seq, was decided: put what is kept of it on its way to the server's socket, or end its
 * connection when it is to be killed, in the network namespace that @netns is open on. @prog is wire_handback. To be
 * repeated every 20 ms or so until the slot is free: what is lost on the way, or came later, is not noticed otherwise.
 * How many bytes, 0 when nothing was kept (the client sends again by itself), or a negative errno.
 */
int handback(int prog, int netns, uint32_t index, uint32_t seq, struct err *err);

#endif
