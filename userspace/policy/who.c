// SPDX-License-Identifier: Apache-2.0
/*
 * Identity against a matcher. An attribute that nobody knows answers MAYBE, never NO: what that
 * means is for the rule's action and fail mode to say. The exception is the client's address on a
 * unix socket: there is none, and that is known.
 */
#include "policy/set.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* An address as 4 or 16 bytes; ::ffff:a.b.c.d is a.b.c.d, as a dual-stack server reports it. */
static int address_parse(const char *text, uint8_t bytes[16], int *family)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, text, bytes) == 1) {
		*family = AF_INET;
		return 0;
	}
	if (inet_pton(AF_INET6, text, bytes) != 1)
		return -1;
	*family = AF_INET6;
	if (!memcmp(bytes, mapped, sizeof(mapped))) {
		memmove(bytes, bytes + 12, 4);
		*family = AF_INET;
	}
	return 0;
}

static int number_parse(const char *text, unsigned long max, unsigned long *out)
{
	char *end;

	if (*text < '0' || *text > '9' || strlen(text) > 10)
		return -1;
	*out = strtoul(text, &end, 10);
	return *end || *out > max ? -1 : 0;
}

/* Splits "host:port" and "[v6]:port"; a bare IPv6 address has more than one colon and no brackets.
 */
static int split_port(char *host, struct addr_pattern *p)
{
	char *colon = strrchr(host, ':');
	unsigned long port;
	size_t len = strlen(host);

	if (host[0] == '[') {
		char *close = strchr(host, ']');

		if (!close || (close[1] && close[1] != ':'))
			return -1;
		colon = close[1] ? close + 1 : NULL;
		*close = '\0';
		memmove(host, host + 1, len);
		if (!colon)
			return 0;
		colon--; /* the text moved by one */
	} else if (!colon || strchr(host, ':') != colon) {
		return 0;
	}
	if (number_parse(colon + 1, 65535, &port))
		return -1;
	*colon = '\0';
	p->has_port = true;
	p->port = (uint16_t)port;
	return 0;
}

int addr_pattern_parse(struct addr_pattern *p, const char *text, bool port_allowed)
{
	char host[128], *slash;
	unsigned long prefix;

	*p = (struct addr_pattern){0};
	if (text[0] == '/' || text[0] == '@' || strlen(text) >= sizeof(host) - 1) {
		p->is_glob = true;
		glob_compile(&p->glob, text, false);
		return text[0] == '/' || text[0] == '@' ? 0 : -1;
	}
	memcpy(host, text, strlen(text) + 1);
	if (port_allowed && split_port(host, p))
		return -1;
	if (glob_has_wildcard(host)) {
		/* A port behind a glob cannot be cut off a borrowed text; only "*:5432" needs it.
		 */
		if (p->has_port && strcmp(host, "*"))
			return -1;
		p->is_glob = true;
		glob_compile(&p->glob, p->has_port ? "*" : text, false);
		return 0;
	}
	slash = strchr(host, '/');
	if (slash)
		*slash++ = '\0';
	if (address_parse(host, p->bytes, &p->family))
		return -1;
	p->prefix = p->family == AF_INET ? 32 : 128;
	if (slash) {
		if (number_parse(slash, p->prefix, &prefix))
			return -1;
		p->prefix = (unsigned)prefix;
	}
	return 0;
}

static bool addr_match(const struct addr_pattern *p, const char *text, const uint8_t *bytes,
		       int family, uint16_t port)
{
	unsigned whole = p->prefix / 8, rest = p->prefix % 8;

	if (p->has_port && p->port != port)
		return false;
	if (p->is_glob)
		return glob_match(&p->glob, text);
	if (family != p->family || memcmp(p->bytes, bytes, whole))
		return false;
	return !rest || ((p->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

static enum tri addrs_match(const struct attr_cond *cond, const char *text, uint16_t port)
{
	uint8_t bytes[16] = {0};
	int family = 0;

	address_parse(text, bytes, &family);
	for (unsigned i = 0; i < cond->cnt; i++)
		if (addr_match(&cond->addrs[i], text, bytes, family, port))
			return TRI_YES;
	return TRI_NO;
}

static const char *attr_text(enum policy_attr attr, const struct identity *who)
{
	switch (attr) {
	case ATTR_ENGINE:
		return who->engine;
	case ATTR_TRANSPORT:
		return who->transport;
	case ATTR_DATABASE:
		return who->database;
	case ATTR_DB_USER:
		return who->db_user;
	case ATTR_ENVIRONMENT:
		return who->environment;
	case ATTR_EXE:
		return who->exe;
	case ATTR_CGROUP:
		return who->cgroup;
	case ATTR_SERVER:
		return who->server_address;
	case ATTR_CLIENT_ADDRESS:
		return who->client_address;
	case ATTR_APPLICATION_NAME:
		return who->application_name;
	case ATTR_UID:
	case ATTR_MAX:
		break;
	}
	return NULL;
}

static enum tri cond_match(const struct attr_cond *cond, const struct identity *who)
{
	const char *text;

	if (cond->attr == ATTR_UID) {
		for (unsigned i = 0; who->uid_known && i < cond->cnt; i++)
			if (cond->uids[i] == who->uid)
				return TRI_YES;
		return who->uid_known ? TRI_NO : TRI_MAYBE;
	}
	text = attr_text(cond->attr, who);
	if (!text && cond->attr == ATTR_CLIENT_ADDRESS && who->transport &&
	    !strcmp(who->transport, "unix"))
		return TRI_NO;
	if (!text)
		return TRI_MAYBE;
	if (cond->addrs)
		return addrs_match(cond, text, cond->attr == ATTR_SERVER ? who->server_port : 0);
	for (unsigned i = 0; i < cond->cnt; i++)
		if (glob_match(&cond->globs[i], text))
			return TRI_YES;
	return TRI_NO;
}

enum tri who_match(const struct who_matcher *m, const struct identity *who, struct who_trace *trace)
{
	enum tri all = TRI_YES, one;

	trace->failed = ATTR_MAX;
	for (unsigned i = 0; i < m->cnt; i++) {
		one = cond_match(&m->conds[i], who);
		trace->asked |= 1u << m->conds[i].attr;
		if (one == TRI_MAYBE)
			trace->unknown |= 1u << m->conds[i].attr;
		if (one < all) {
			all = one;
			trace->failed = m->conds[i].attr;
		}
		if (all == TRI_NO)
			break;
	}
	return all;
}
