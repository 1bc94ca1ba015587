/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A case makes facts and says what has to come out; it is run with the facts in batches cut at every place, one fact a
 * batch, and with every reply split at every byte.
 */
#ifndef DBFENCE_TESTS_CONN_CUTS_H
#define DBFENCE_TESTS_CONN_CUTS_H

#include "../lib/test.h"
#include "conn_facts.h"

static struct facts facts;

static inline void compare(const char *name, const char *how, unsigned at, const struct buf *got, const char *want)
{
	CHECK_MSG(!strcmp(buf_str(got), want), "%s, %s %u:\n--- got\n%s--- expected\n%s---", name, how, at, buf_str(got), want);
}

static inline void run_once(const char *name, const char *how, unsigned at, unsigned cut, const char *want)
{
	struct feeding g;

	feeding_init(&g);
	feed_facts(&g, &facts, cut);
	compare(name, how, at, &g.log, want);
	CHECK_INT(conn_table_counters(g.table)->bad_records, 0);
	feeding_fini(&g);
}

static inline void begin(size_t reply_split)
{
	facts.cnt = 0;
	facts.ts = 0;
	facts.ptr = 0x1000;
	facts.reply_split = reply_split;
}

static inline void check(const char *name, void (*make)(struct facts *f), const char *want)
{
	begin(0);
	make(&facts);
	run_once(name, "as few batches as possible", 0, FACTS_MAX, want);
	run_once(name, "one fact a batch", 0, 0, want);
	for (unsigned cut = 1; cut < facts.cnt; cut++)
		run_once(name, "cut before fact", cut, cut, want);
	for (size_t split = 1; split < 60; split++) {
		begin(split);
		make(&facts);
		run_once(name, "replies split behind byte", (unsigned)split - 1, FACTS_MAX, want);
	}
}

#define OPEN "session open\nsession auth_ok\n"

static inline void opened(struct facts *f)
{
	add_open(f, false);
	add_reply(f, 'R', "\0\0\0\0", 4, 0);
	add_ready(f, 'I');
}

#endif
