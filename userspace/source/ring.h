/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the kernel's ring buffer from shared memory, without bpf(2): what is mapped before the
 * process gives up its privileges is all it needs.
 *
 * While there is work the reader polls; it announces in the vitals page that it sleeps, and only
 * then does the kernel side wake it (a wakeup per event costs more than everything else together).
 */
#ifndef DBFENCE_SOURCE_RING_H
#define DBFENCE_SOURCE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "dbfence/abi/shared.h"

struct ring;

typedef void (*ring_record_fn)(void *ctx, const void *record, size_t len);

/* Map the ring behind @map_fd. The fd itself is what to poll; it stays the caller's. NULL with
 * errno. */
struct ring *ring_open(int map_fd, size_t bytes);
void ring_close(struct ring *ring);

/* Hand at most @max records to @fn, in order. Returns how many. */
unsigned ring_consume(struct ring *ring, unsigned max, ring_record_fn fn, void *ctx);

/*
 * Looking ahead. ring_tail() is where the next record to consume begins; ring_peek() gives the one at
 * @pos, without taking it, and where the next one begins. False while there is none, or it is still
 * being written. *record is NULL where there is nothing to read (discarded, or taken already).
 */
uint64_t ring_tail(const struct ring *ring);
bool ring_peek(const struct ring *ring, uint64_t pos, const void **record, size_t *len,
	       uint64_t *next);
/* The record at @pos was taken out of its turn: ring_consume() will pass over it. */
void ring_mark_taken(struct ring *ring, uint64_t pos);

/* Bytes waiting. */
size_t ring_backlog(const struct ring *ring);

#endif
