// SPDX-License-Identifier: Apache-2.0
/* Owns the reading of libpg_query's JSON, and the table from node names to types. */
#include "sql/sql_json.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

#define SQL_NODE_NAME(name) [N_##name] = #name,
static const char *const node_names[N_MAX] = { SQL_NODES(SQL_NODE_NAME) };
#undef SQL_NODE_NAME

static uint8_t node_table[BUCKETS];
_Static_assert(N_MAX < 256, "node types fit the table");

static unsigned name_hash(const char *name)
{
	unsigned h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return (h ^ h >> 15) % BUCKETS;
}

void sql_json_init(void)
{
	static bool done;

	if (done)
		return;
	for (unsigned type = N_NONE + 1; type < N_UNKNOWN; type++) {
		unsigned h = name_hash(node_names[type]);

		while (node_table[h])
			h = (h + 1) % BUCKETS;
		node_table[h] = (uint8_t)type;
	}
	done = true;
}

static enum sql_node_type node_type(const char *name)
{
	for (unsigned h = name_hash(name); node_table[h]; h = (h + 1) % BUCKETS)
		if (!strcmp(node_names[node_table[h]], name))
			return node_table[h];
	return N_UNKNOWN;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* libpg_query writes \u00XX only, for control characters and angle brackets: one byte each. */
static char unescape(const char **p)
{
	char c = *(*p)++;

	switch (c) {
	case 'n':
		return '\n';
	case 't':
		return '\t';
	case 'r':
		return '\r';
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'u':
		if (hex((*p)[0]) >= 0 && hex((*p)[1]) >= 0 && hex((*p)[2]) >= 0 && hex((*p)[3]) >= 0) {
			c = (char)(hex((*p)[2]) << 4 | hex((*p)[3]));
			*p += 4;
		}
		return c;
	default:
		return c;
	}
}

/* *@pos is behind the opening quote; returns the string, NUL-terminated in place, and moves behind the closing one. */
static char *read_string(char **pos)
{
	char *start = *pos, *out;
	const char *p = start;

	while (*p && *p != '"' && *p != '\\')
		p++;
	out = start + (p - start);
	while (*p && *p != '"') {
		if (*p == '\\' && p[1]) {
			p++;
			*out++ = unescape(&p);
		} else {
			*out++ = *p++;
		}
	}
	if (!*p)
		return NULL;
	*pos = start + (p + 1 - start);
	*out = '\0';
	return start;
}

struct reader {
	struct sql_arena *arena;
	char *p;
	struct jnode *open;	/* the innermost array or object */
	struct jnode *root;
	const char *key;
	enum sql_node_type wrap;	/* the next object is the body of this node */
};

static bool is_wrapper(const char *key)
{
	return key[0] >= 'A' && key[0] <= 'Z';
}

static struct jnode *add_node(struct reader *r, enum json_kind kind)
{
	struct jnode *node = sql_arena_alloc(r->arena, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->key = r->key;
	node->parent = r->open;
	r->key = NULL;
	if (!r->open)
		r->root = node;
	else if (r->open->last)
		r->open->last->next = node;
	else
		r->open->child = node;
	if (r->open)
		r->open->last = node;
	return node;
}

static void drop_last(struct jnode *open, struct jnode *before)
{
	open->last = before;
	if (before)
		before->next = NULL;
	else
		open->child = NULL;
}

/* Digits, perhaps behind a minus. Moves behind them; false when there are none. */
static bool read_number(char **pos, int64_t *num)
{
	char *p = *pos;
	bool negative = *p == '-';
	int64_t n = 0;

	p += negative;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
			return false;
	}
	*num = negative ? -n : n;
	*pos = p;
	return true;
}

static bool read_scalar(struct reader *r)
{
	struct jnode *before = r->open ? r->open->last : NULL, *node;
	bool position = r->key && !strcmp(r->key, "location");

	if (*r->p == '"') {
		node = add_node(r, JSON_STRING);
		r->p++;
		return node && (node->str = read_string(&r->p));
	}
	node = add_node(r, JSON_NULL);
	if (!node)
		return false;
	if (!strncmp(r->p, "true", 4) || !strncmp(r->p, "false", 5)) {
		node->kind = JSON_BOOL;
		node->num = *r->p == 't';
		r->p += *r->p == 't' ? 4 : 5;
		return true;
	}
	if (!strncmp(r->p, "null", 4)) {
		r->p += 4;
		return true;
	}
	node->kind = JSON_NUMBER;
	if (!read_number(&r->p, &node->num))
		return false;
	if (position && r->open)
		drop_last(r->open, before);
	return true;
}

/* At `{`. A wrapper's single key names the type; its body is read into the same node. */
static bool read_object(struct reader *r)
{
	struct jnode *node = add_node(r, JSON_OBJECT);
	char *key;

	if (!node)
		return false;
	r->open = node;
	r->p++;
	if (*r->p != '"')
		return true;
	key = r->p + 1;
	if (!is_wrapper(key))
		return true;
	r->p++;
	key = read_string(&r->p);
	if (!key || r->p[0] != ':' || r->p[1] != '{')
		return false;
	r->p += 2;
	node->type = node_type(key);
	return true;
}

static bool close_node(struct reader *r)
{
	struct jnode *node = r->open;

	if (!node || (*r->p == ']') != (node->kind == JSON_ARRAY))
		return false;
	r->p++;
	if (node->type != N_NONE && *r->p++ != '}')
		return false;
	r->open = node->parent;
	return true;
}

static bool read_token(struct reader *r)
{
	struct jnode *node;

	switch (*r->p) {
	case '{':
		return read_object(r);
	case '[':
		node = add_node(r, JSON_ARRAY);
		r->p++;
		r->open = node ? node : r->open;
		return node != NULL;
	case '}':
	case ']':
		return close_node(r);
	case ',':
		r->p++;
		return r->open != NULL;
	case '"':
		if (r->open && r->open->kind == JSON_OBJECT && !r->key) {
			r->p++;
			r->key = read_string(&r->p);
			return r->key && *r->p++ == ':';
		}
		return read_scalar(r);
	default:
		return read_scalar(r);
	}
}

struct jnode *sql_json_parse(struct sql_arena *arena, char *text)
{
	struct reader r = { .arena = arena, .p = text };

	do {
		if (!*r.p || !read_token(&r))
			return NULL;
	} while (r.open);
	return r.root;
}

struct jnode *jnode_get(const struct jnode *node, const char *key)
{
	jnode_for_each(field, node)
		if (field->key && !strcmp(field->key, key))
			return field;
	return NULL;
}

const char *jnode_str(const struct jnode *node, const char *key)
{
	const struct jnode *field = jnode_get(node, key);

	return field && field->kind == JSON_STRING ? field->str : NULL;
}

bool jnode_bool(const struct jnode *node, const char *key)
{
	return jnode_num(node, key) != 0;
}

int64_t jnode_num(const struct jnode *node, const char *key)
{
	const struct jnode *field = jnode_get(node, key);

	return field ? field->num : 0;
}

bool jnode_is(const struct jnode *node, const char *key, const char *value)
{
	const char *str = jnode_str(node, key);

	return str && !strcmp(str, value);
}

const char *jnode_text(const struct jnode *node)
{
	if (!node)
		return NULL;
	if (node->kind == JSON_STRING)
		return node->str;
	return node->type == N_String ? jnode_str(node, "sval") : NULL;
}

bool jnode_equal(const struct jnode *a, const struct jnode *b)
{
	const struct jnode *x, *y;

	if (!a || !b)
		return a == b;
	if (a->kind != b->kind || a->type != b->type || a->num != b->num)
		return false;
	if (a->str && strcmp(a->str, b->str))
		return false;
	for (x = a->child, y = b->child; x && y; x = x->next, y = y->next)
		if ((x->key && y->key && strcmp(x->key, y->key)) || !jnode_equal(x, y))
			return false;
	return !x && !y;
}
