// SPDX-License-Identifier: Apache-2.0
#include "source/batch.h"

#include <string.h>

/* What stands before the bytes of each kind of fact. */
static const size_t head_len[DBF_FACT_MAX] = {
	[DBF_FACT_OPEN] = sizeof(struct dbf_session),
	[DBF_FACT_PARSE] = sizeof(struct dbf_text),
	[DBF_FACT_EXEC] = sizeof(struct dbf_exec),
	[DBF_FACT_NESTED] = sizeof(struct dbf_nested),
	[DBF_FACT_REPLY] = sizeof(struct dbf_reply),
	[DBF_FACT_ERROR] = sizeof(struct dbf_error),
	[DBF_FACT_VERDICT] = sizeof(struct dbf_verdict),
	[DBF_FACT_REPLICATION] = sizeof(struct dbf_text),
};

const struct dbf_batch *batch_open(const void *record, size_t len, struct batch_iter *it)
{
	const struct dbf_batch *b = record;

	if (len < sizeof(*b) || b->abi != DBF_ABI_VERSION || b->len < sizeof(*b) || b->len > len)
		return NULL;
	*it = (struct batch_iter){
		.at = (const unsigned char *)record + sizeof(*b),
		.end = (const unsigned char *)record + b->len,
	};
	return b;
}

bool batch_next(struct batch_iter *it, struct batch_fact *fact)
{
	size_t left = (size_t)(it->end - it->at), head, padded;
	struct dbf_fact f;

	if (!left)
		return false;
	it->bad = true;
	if (left < sizeof(f))
		return false;
	memcpy(&f, it->at, sizeof(f));
	if (f.kind == DBF_FACT_NONE || f.kind >= DBF_FACT_MAX || f.len > left)
		return false;
	head = head_len[f.kind];
	if (f.len < sizeof(f) + head)
		return false;
	fact->kind = f.kind;
	fact->arg = f.arg;
	fact->ts = f.ts;
	fact->head = head ? it->at + sizeof(f) : NULL;
	fact->bytes = (const char *)it->at + sizeof(f) + head;
	fact->len = f.len - sizeof(f) - head;
	padded = (f.len + 7U) & ~7UL;
	it->at += padded < left ? padded : left;
	it->bad = false;
	return true;
}
