// SPDX-License-Identifier: Apache-2.0
/*
 * Any bytes through the instruction decoder: it stays inside them, gives lengths from 1 to 15, and
 * never answers differently when more bytes follow.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_one(const uint8_t *code, size_t len)
{
	struct insn insn = {0}, again = {0};
	int err = insn_decode(code, len, &insn);

	if (err) {
		if (err != -ENOTSUP && (err != -EAGAIN || len >= INSN_LEN_MAX))
			abort();
		return;
	}
	if (!insn.len || insn.len > INSN_LEN_MAX || insn.len > len || insn.flow >= INSN_FLOW_MAX ||
	    insn.uprobe >= INSN_UPROBE_MAX || (!insn.sp_known && insn.sp_grows) ||
	    (insn.sp_grows && !(insn.writes & 1U << INSN_RSP)))
		abort();
	/* Exactly its own bytes are enough, and one less is too few. */
	if (insn_decode(code, insn.len, &again) || memcmp(&insn, &again, sizeof(insn)) ||
	    insn_decode(code, insn.len - 1U, &again) != -EAGAIN)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size, so that a read behind the end is found. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	for (size_t pos = 0; pos < size && pos < 256; pos++)
		check_one(copy + pos, size - pos);
	free(copy);
	return 0;
}
