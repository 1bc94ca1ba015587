/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's records into a connection table, and what comes out as text. */
#ifndef DBFENCE_TESTS_WIRE_FIXTURE_H
#define DBFENCE_TESTS_WIRE_FIXTURE_H

#include "../lib/test.h"
#include "conn_facts.h"
#include "wire_records.h"

#define CLIENT (1 << DBF_WIRE_CLIENT)
#define SERVER (1 << DBF_WIRE_SERVER)

struct fixture {
	struct feeding out;
	struct wiring w;
};

static void feed_table(void *to, const void *record, size_t len)
{
	conn_table_feed(to, record, len);
}

static inline void expect(struct fixture *f, const char *seen, const char *what)
{
	CHECK_MSG(!strcmp(buf_str(&f->out.log), seen), "%s:\n--- got\n%s--- expected\n%s", what, buf_str(&f->out.log), seen);
	buf_reset(&f->out.log);
}

#endif
