// SPDX-License-Identifier: Apache-2.0
#include "loader/tcp_seed.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct owners {
	struct dbf_tcp_owner *all; /* owned: room entries */
	size_t cnt;
};

struct seeding {
	const struct tcp_seed_ports *ports;
	size_t room;
	struct owners servers, others;
	size_t left_out;
};

static bool is_server_port(const struct tcp_seed_ports *ports, uint16_t port)
{
	for (unsigned i = 0; i < ports->cnt; i++)
		if (ports->ports[i] == port)
			return true;
	return false;
}

static bool owners_add(struct owners *to, size_t room, const struct dbf_tcp_owner *owner)
{
	if (to->cnt == room)
		return false;
	to->all[to->cnt++] = *owner;
	return true;
}

static void sort_out(struct seeding *s, const struct dbf_tcp_owner *owner)
{
	if (is_server_port(s->ports, owner->key.server_port))
		s->left_out += !owners_add(&s->servers, s->room, owner);
	else if (!is_server_port(s->ports, owner->key.client_port))
		owners_add(&s->others, s->room, owner);
}

static int read_all(struct seeding *s, int fd)
{
	struct dbf_tcp_owner chunk[512];
	size_t have = 0, whole;
	ssize_t n;

	for (;;) {
		n = read(fd, (char *)chunk + have, sizeof(chunk) - have);
		if (n < 0 && (errno == EINTR ||
			      errno == EAGAIN)) /* again: it looked at many files in vain */
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return have ? -EIO : 0;
		have += (size_t)n;
		whole = have / sizeof(chunk[0]);
		for (size_t i = 0; i < whole; i++)
			sort_out(s, &chunk[i]);
		have -= whole * sizeof(chunk[0]);
		memmove(chunk, &chunk[whole], have);
	}
}

int tcp_seed(int fd, const struct tcp_seed_ports *ports, size_t room, tcp_seed_fn fn, void *ctx,
	     size_t *left_out)
{
	struct seeding s = { .ports = ports, .room = room };
	int rc = -ENOMEM;

	s.servers.all = calloc(room, sizeof(s.servers.all[0]));
	s.others.all = calloc(room, sizeof(s.others.all[0]));
	if (!s.servers.all || !s.others.all)
		goto out;
	rc = read_all(&s, fd);
	if (rc)
		goto out;
	for (size_t i = 0; i < s.others.cnt && i < room - s.servers.cnt; i++)
		fn(ctx, &s.others.all[i]);
	for (size_t i = 0; i < s.servers.cnt; i++)
		fn(ctx, &s.servers.all[i]);
	*left_out = s.left_out;
out:
	free(s.servers.all);
	free(s.others.all);
	return rc;
}
