/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin directory. Its maps outlive daemons; the links of each instance are in links-N beneath
 * it. kernel_recover() and kernel_disarm(), declared in loader/kernel.h, are here too: they need no
 * loaded object.
 */
#ifndef DBFENCE_LOADER_PINNED_H
#define DBFENCE_LOADER_PINNED_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* Make @dir, and mount bpffs on its parent when nothing of the kind is there. 0 or a negative
 * errno. */
int pinned_make_dir(const char *dir, struct err *err);
/* The instance that acts, 0 when nothing is pinned. */
uint32_t pinned_instance(const char *pin_dir);
/* Size of the pinned ring, 0 when there is none. */
size_t pinned_ring_bytes(const char *pin_dir);
/* Map the shared page of a map, writable. NULL with errno. */
void *pinned_map(int fd, size_t len);
/* The same, so that the mapping can never become writable. */
const void *pinned_map_read(int fd, size_t len);
/* Unlink everything in @dir, then @dir; *removed counts. Errors show in what is left. */
void pinned_remove_dir(const char *dir, unsigned *removed);
/* The same for every links-N but @spare (a path, may be NULL). */
void pinned_remove_links(const char *pin_dir, const char *spare, unsigned *removed);

#endif
