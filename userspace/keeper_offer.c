// SPDX-License-Identifier: Apache-2.0
#include "keeper_offer.h"

#include <stdlib.h>
#include <unistd.h>

void offer_free(struct offer *o)
{
	if (!o)
		return;
	if (o->fd >= 0)
		close(o->fd);
	free(o->screen);
	free(o);
}

void offers_fini(struct offers *all)
{
	offer_free(all->in_force);
	offer_free(all->offered);
	*all = (struct offers){ 0 };
}

static void drop_offered(struct offers *all)
{
	offer_free(all->offered);
	all->offered = NULL;
}

void offer_new(struct offers *all, struct offer *o)
{
	drop_offered(all);
	o->generation = ++all->generation;
	o->sent = false;
	all->offered = o;
}

bool offers_new_worker(struct offers *all)
{
	bool dropped = all->in_force && all->offered && all->offered->sent;

	all->judged = false;
	all->worker_has = 0;
	if (dropped)
		drop_offered(all);
	if (all->in_force) {
		all->in_force->generation = ++all->generation;
		all->in_force->sent = false;
	}
	if (all->offered) {
		all->offered->generation = ++all->generation;
		all->offered->sent = false;
	}
	return dropped;
}

struct offer *offers_to_send(struct offers *all)
{
	bool under_way = all->offered && all->offered->sent;

	/* Behind an offer it would undo it. */
	if (all->in_force && !all->judged && !all->in_force->sent && !under_way)
		return all->in_force;
	return all->offered && !under_way ? all->offered : NULL;
}

const struct offer *offers_lookup(const struct offers *all, uint64_t generation)
{
	if (all->offered && all->offered->generation == generation)
		return all->offered;
	if (all->in_force && all->in_force->generation == generation)
		return all->in_force;
	return NULL;
}

enum offer_next offers_answered(struct offers *all, uint64_t generation, bool ok)
{
	const struct offer *o = offers_lookup(all, generation);

	/* Of one that was dropped for the next as well: it is what the worker judges by. */
	if (ok)
		all->worker_has = generation;
	if (!o || !o->sent)
		return OFFER_IGNORE;
	if (ok)
		return OFFER_INSTALL;
	if (o == all->offered) {
		drop_offered(all);
		all->judged = all->in_force && all->worker_has == all->in_force->generation;
		return OFFER_REFUSED;
	}
	all->in_force->sent = false;
	return all->offered && all->offered->sent ? OFFER_REFUSED : OFFER_REPLACE_WORKER;
}

enum offer_next offers_installed(struct offers *all, uint64_t generation, bool ok)
{
	const struct offer *o = offers_lookup(all, generation);

	if (!o)
		return OFFER_IGNORE;
	if (ok && o == all->offered) {
		offer_free(all->in_force);
		all->in_force = all->offered;
		all->offered = NULL;
	}
	if (ok) {
		all->in_force->sent = false;
		all->judged = true;
		return OFFER_IGNORE;
	}
	all->judged = false;
	if (all->in_force)
		all->in_force->sent = false;
	if (o != all->offered)
		return OFFER_REPLACE_WORKER; /* tried again with the next, after a pause */
	drop_offered(all);
	return OFFER_REFUSED;
}
