// SPDX-License-Identifier: Apache-2.0
#include "source/wire.h"

#include <string.h>

bool wire_is_record(const void *record, size_t len)
{
	dbf_u16 abi;

	if (len < sizeof(abi))
		return false;
	memcpy(&abi, record, sizeof(abi));
	return abi == DBF_WIRE_ABI;
}

const struct dbf_wire *wire_open(const void *record, size_t len, struct wire_iter *it)
{
	const struct dbf_wire *w = record;

	if (len < sizeof(*w) || w->abi != DBF_WIRE_ABI || w->len < sizeof(*w) || w->len > len ||
	    w->dir > DBF_WIRE_SERVER || w->seen_by > DBF_WIRE_SERVER)
		return NULL;
	*it = (struct wire_iter){
		.at = (const unsigned char *)record + sizeof(*w),
		.end = (const unsigned char *)record + w->len,
	};
	return w;
}

/* What an item must have behind its head. */
static size_t least(const struct dbf_wire_item *item)
{
	switch (item->type) {
	case DBF_WIRE_OPEN: return sizeof(struct dbf_wire_open);
	case DBF_WIRE_WHO: return sizeof(struct dbf_wire_who);
	case DBF_WIRE_VERDICT: return sizeof(struct dbf_verdict);
	case DBF_WIRE_AGAIN: return 4;
	default: return 0;
	}
}

bool wire_next(struct wire_iter *it, struct wire_item *item)
{
	size_t left = (size_t)(it->end - it->at), size;

	if (!left)
		return false;
	it->bad = true;
	if (left < sizeof(item->head))
		return false;
	memcpy(&item->head, it->at, sizeof(item->head));
	size = sizeof(item->head) + item->head.captured;
	if (item->head.type == DBF_WIRE_NONE || size > left || item->head.captured < least(&item->head))
		return false;
	if (item->head.type < 32 && item->head.type >= DBF_WIRE_TYPE_MAX)
		return false;
	item->bytes = it->at + sizeof(item->head);
	size = (size + 7U) & ~7UL;
	it->at += size < left ? size : left;
	it->bad = false;
	return true;
}
