// SPDX-License-Identifier: Apache-2.0
/* What is in force stays in force and judged, whatever becomes of what was to come after it. */
#include "../lib/test.h"

#include <stdlib.h>

#include "keeper_offer.h"

static struct offer *offer(unsigned rules)
{
	struct offer *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	o->fd = -1;
	o->summary.rules = rules;
	return o;
}

static void send_all(struct offers *all)
{
	struct offer *o;

	while ((o = offers_to_send(all)))
		o->sent = true;
}

/* A first set, taken by worker and kernel. */
static struct offers running(void)
{
	struct offers all = { .generation = 40 };

	offer_new(&all, offer(1));
	CHECK(!offers_new_worker(&all));
	send_all(&all);
	CHECK(!all.judged);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.offered->generation, true), OFFER_IGNORE);
	CHECK(all.judged && !all.offered && all.in_force->summary.rules == 1);
	return all;
}

static void reload(struct offers *all, unsigned rules)
{
	offer_new(all, offer(rules));
	send_all(all);
}

static void test_accepted(void)
{
	struct offers all = running();
	uint64_t before = all.in_force->generation;

	reload(&all, 2);
	CHECK(all.judged);
	CHECK_INT(offers_answered(&all, before, true), OFFER_IGNORE);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.offered->generation, true), OFFER_IGNORE);
	CHECK(all.judged && !all.offered && all.in_force->summary.rules == 2);
	CHECK(all.in_force->generation > before);
	offers_fini(&all);
}

static void test_refused(void)
{
	struct offers all = running();
	uint64_t before = all.in_force->generation;

	reload(&all, 2);
	CHECK_INT(offers_answered(&all, all.offered->generation, false), OFFER_REFUSED);
	CHECK(all.judged && !all.offered && all.in_force->summary.rules == 1);
	CHECK_INT(all.in_force->generation, before);
	CHECK(!offers_to_send(&all));
	offers_fini(&all);
}

/* The second reload before the answer to the first: only the second counts. */
static void test_superseded(void)
{
	struct offers all = running();
	uint64_t first;

	reload(&all, 2);
	first = all.offered->generation;
	reload(&all, 3);
	CHECK_INT(offers_answered(&all, first, false), OFFER_IGNORE);
	CHECK_INT(offers_answered(&all, first, true), OFFER_IGNORE);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.offered->generation, true), OFFER_IGNORE);
	CHECK_INT(all.in_force->summary.rules, 3);
	offers_fini(&all);
}

/* The worker took the first and not the second: it is sent what is in force again, which it no longer has. */
static void test_superseded_then_refused(void)
{
	struct offers all = running();

	reload(&all, 2);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	reload(&all, 3);
	CHECK_INT(offers_answered(&all, all.offered->generation, false), OFFER_REFUSED);
	CHECK(!all.judged && offers_to_send(&all) == all.in_force);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.in_force->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.in_force->generation, true), OFFER_IGNORE);
	CHECK(all.judged && all.in_force->summary.rules == 1);
	offers_fini(&all);
}

/* The kernel keeps what it has; the worker, which went ahead, is sent it again. */
static void test_kernel_refuses(void)
{
	struct offers all = running();

	reload(&all, 2);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.offered->generation, false), OFFER_REFUSED);
	CHECK(!all.judged && !all.offered);
	CHECK(offers_to_send(&all) == all.in_force);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.in_force->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.in_force->generation, true), OFFER_IGNORE);
	CHECK(all.judged && all.in_force->summary.rules == 1);
	offers_fini(&all);
}

/* What killed the last worker is not offered to the next. */
static void test_worker_ends(void)
{
	struct offers all = running();
	uint64_t before = all.in_force->generation;

	reload(&all, 2);
	CHECK(offers_new_worker(&all));
	CHECK(!all.judged && !all.offered);
	CHECK(offers_to_send(&all) == all.in_force && all.in_force->generation > before);
	send_all(&all);
	CHECK_INT(offers_answered(&all, before, true), OFFER_IGNORE);
	CHECK_INT(offers_answered(&all, all.in_force->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.in_force->generation, true), OFFER_IGNORE);
	CHECK(all.judged);
	offers_fini(&all);
}

/* A reload while there is no worker is for the next one, behind what is in force. */
static void test_no_worker(void)
{
	struct offers all = running();

	offer_new(&all, offer(2));
	CHECK(!offers_new_worker(&all));
	CHECK(offers_to_send(&all) == all.in_force);
	all.in_force->sent = true;
	CHECK(offers_to_send(&all) == all.offered);
	all.offered->sent = true;
	CHECK(!offers_to_send(&all));
	CHECK_INT(offers_answered(&all, all.in_force->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.in_force->generation, true), OFFER_IGNORE);
	CHECK(all.judged && all.in_force->summary.rules == 1);
	CHECK_INT(offers_answered(&all, all.offered->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.offered->generation, true), OFFER_IGNORE);
	CHECK(all.judged && all.in_force->summary.rules == 2);
	offers_fini(&all);
}

/* A worker that cannot judge by what is in force is no use, unless it can by what is offered. */
static void test_worker_cannot_judge(void)
{
	struct offers all = running();

	offers_new_worker(&all);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.in_force->generation, false), OFFER_REPLACE_WORKER);
	offers_new_worker(&all);
	reload(&all, 2);
	CHECK_INT(offers_answered(&all, all.in_force->generation, false), OFFER_REFUSED);
	CHECK(!offers_to_send(&all)); /* not behind the offer, which it would undo */
	CHECK_INT(offers_answered(&all, all.offered->generation, false), OFFER_REFUSED);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.in_force->generation, false), OFFER_REPLACE_WORKER);
	offers_new_worker(&all);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.in_force->generation, true), OFFER_INSTALL);
	CHECK_INT(offers_installed(&all, all.in_force->generation, false), OFFER_REPLACE_WORKER);
	CHECK(!all.judged);
	offers_fini(&all);
}

/* At the start there is nothing to fall back to. */
static void test_first_refused(void)
{
	struct offers all = {};

	offer_new(&all, offer(1));
	offers_new_worker(&all);
	send_all(&all);
	CHECK_INT(offers_answered(&all, all.offered->generation, false), OFFER_REFUSED);
	CHECK(!all.judged && !all.in_force && !all.offered);
	offers_fini(&all);
}

static const struct test_case cases[] = {
	{ "accepted", test_accepted },
	{ "refused", test_refused },
	{ "superseded", test_superseded },
	{ "superseded_then_refused", test_superseded_then_refused },
	{ "kernel_refuses", test_kernel_refuses },
	{ "worker_ends", test_worker_ends },
	{ "no_worker", test_no_worker },
	{ "worker_cannot_judge", test_worker_cannot_judge },
	{ "first_refused", test_first_refused },
};

TEST_MAIN(cases)
