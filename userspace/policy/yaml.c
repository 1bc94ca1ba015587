// SPDX-License-Identifier: Apache-2.0
#include "policy/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* More findings than a person reads in one go help nobody; the count goes on. */
#define REPORT_FINDINGS 200

struct builder {
	struct arena *arena;	      /* borrowed */
	struct policy_report *report; /* borrowed */
	const char *file;
	yaml_parser_t parser;
	unsigned nodes;
};

struct list {
	struct yaml_node **v;
	unsigned cnt, cap;
};

static bool list_add(struct list *list, struct yaml_node *node)
{
	unsigned cap = list->cap ? list->cap * 2 : 8;
	struct yaml_node **v;

	if (list->cnt == list->cap) {
		v = realloc(list->v, cap * sizeof(*v));
		if (!v)
			return false;
		list->v = v;
		list->cap = cap;
	}
	list->v[list->cnt++] = node;
	return true;
}

void yaml_finding(struct policy_report *report, const char *file, const struct yaml_node *at,
		  bool warning, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (warning)
		report->warnings++;
	else
		report->errors++;
	if (report->errors + report->warnings > REPORT_FINDINGS)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What is quoted from a file may hold anything; a finding stays one printable line. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	buf_puts(&report->text, file);
	if (at)
		buf_printf(&report->text, ":%u:%u", at->line, at->column);
	buf_printf(&report->text, ": %s%s\n", warning ? "warning: " : "", text);
}

const char *yaml_describe(const struct yaml_node *node, char *buf, size_t len)
{
	if (node->kind == YAML_LIST)
		snprintf(buf, len, "a list");
	else if (node->kind == YAML_MAP)
		snprintf(buf, len, "a mapping");
	else if (!node->len)
		snprintf(buf, len, "nothing");
	else
		snprintf(buf, len, "'%.60s'", node->value);
	return buf;
}

struct yaml_node *yaml_lookup(const struct yaml_node *map, const char *key)
{
	for (unsigned i = 0; i + 1 < map->cnt; i += 2)
		if (!strcmp(map->items[i]->value, key))
			return map->items[i + 1];
	return NULL;
}

static struct yaml_node mark_node(yaml_mark_t mark)
{
	return (struct yaml_node){.line = (unsigned)mark.line + 1,
				  .column = (unsigned)mark.column + 1};
}

static int refuse(struct builder *b, yaml_mark_t mark, const char *text)
{
	struct yaml_node at = mark_node(mark);

	yaml_finding(b->report, b->file, &at, false, "%s", text);
	return -EINVAL;
}

static int syntax_error(struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	struct yaml_node at = mark_node(p->problem_mark);
	const char *problem = p->problem ? p->problem : "unreadable text";
	const char *hint = "";

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->context && strstr(p->context, "alias"))
		hint = "; a value that begins with * must be quoted, as in \"*.ssn\"";
	else if (strstr(problem, "found character that cannot start any token"))
		hint = "; indent with spaces, and quote values that begin with %, @ or `";
	else if (strstr(problem, "mapping values are not allowed"))
		hint = "; quote values that contain ': '";
	yaml_finding(b->report, b->file, &at, false, "not YAML: %s%s", problem, hint);
	return -EINVAL;
}

static int next_event(struct builder *b, yaml_event_t *event)
{
	return yaml_parser_parse(&b->parser, event) ? 0 : syntax_error(b);
}

static int new_node(struct builder *b, const yaml_event_t *event, enum yaml_kind kind,
		    struct yaml_node **out)
{
	struct yaml_node *node;

	if (++b->nodes > YAML_NODES)
		return refuse(b, event->start_mark, "too many values in one file");
	node = arena_alloc(b->arena, sizeof(*node));
	if (!node)
		return -ENOMEM;
	*node = mark_node(event->start_mark);
	node->kind = kind;
	*out = node;
	return 0;
}

static int check_event(struct builder *b, const yaml_event_t *event)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return refuse(b, event->start_mark,
			      "aliases are not supported: write the value out; "
			      "a value that begins with * must be quoted, as in \"*.ssn\"");
	case YAML_SCALAR_EVENT:
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor)
		return refuse(b, event->start_mark,
			      "anchors are not supported: write the value out");
	if (tag)
		return refuse(b, event->start_mark, "tags are not supported: remove the '!…'");
	return 0;
}

static int build_scalar(struct builder *b, const yaml_event_t *event, struct yaml_node **out)
{
	const char *value = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	struct yaml_node *node;
	int err = new_node(b, event, YAML_SCALAR, &node);

	if (err)
		return err;
	if (memchr(value, '\0', len))
		return refuse(b, event->start_mark, "a value holds a NUL character");
	node->value = arena_strndup(b->arena, value, len);
	if (!node->value)
		return -ENOMEM;
	node->len = len;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	*out = node;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	const struct yaml_node *const *x = a, *const *y = b;
	int order = strcmp((*x)->value, (*y)->value);

	if (order)
		return order;
	return (*x)->line != (*y)->line ? ((*x)->line < (*y)->line ? -1 : 1)
					: (int)(*x)->column - (int)(*y)->column;
}

/* Sorted, because a hostile file may hold a mapping of a hundred thousand keys. */
static int check_keys(struct builder *b, const struct yaml_node *map)
{
	const struct yaml_node **keys;
	unsigned cnt = map->cnt / 2;
	int err = 0;

	if (cnt < 2)
		return 0;
	keys = malloc(cnt * sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (unsigned i = 0; i < cnt; i++)
		keys[i] = map->items[i * 2];
	qsort(keys, cnt, sizeof(*keys), by_text);
	for (unsigned i = 1; i < cnt; i++) {
		if (strcmp(keys[i - 1]->value, keys[i]->value))
			continue;
		yaml_finding(b->report, b->file, keys[i], false,
			     "'%.60s' is given twice, first in line %u: keep one", keys[i]->value,
			     keys[i - 1]->line);
		err = -EINVAL;
	}
	free(keys);
	return err;
}

static int build_node(struct builder *b, yaml_event_t *event, unsigned depth,
		      struct yaml_node **out);

static int build_items(struct builder *b, struct yaml_node *node, yaml_event_type_t end,
		       unsigned depth)
{
	bool map = node->kind == YAML_MAP;
	struct list list = {0};
	struct yaml_node *item;
	yaml_event_t event;
	int err;

	while (!(err = next_event(b, &event))) {
		if (event.type == end) {
			yaml_event_delete(&event);
			break;
		}
		if (map && list.cnt % 2 == 0 && event.type != YAML_SCALAR_EVENT &&
		    event.type != YAML_ALIAS_EVENT)
			err = refuse(b, event.start_mark, "a key must be a plain word");
		else
			err = build_node(b, &event, depth + 1, &item);
		yaml_event_delete(&event);
		if (!err && !list_add(&list, item))
			err = -ENOMEM;
		if (err)
			break;
	}
	if (!err) {
		node->items = arena_array(b->arena, list.cnt, sizeof(*node->items));
		if (!node->items)
			err = -ENOMEM;
		else if (list.cnt)
			memcpy(node->items, list.v, list.cnt * sizeof(*node->items));
		node->cnt = list.cnt;
	}
	free(list.v);
	return err;
}

static int build_node(struct builder *b, yaml_event_t *event, unsigned depth,
		      struct yaml_node **out)
{
	struct yaml_node *node;
	int err = check_event(b, event);

	if (err)
		return err;
	if (depth > YAML_DEPTH)
		return refuse(b, event->start_mark, "nested too deeply");
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return build_scalar(b, event, out);
	case YAML_SEQUENCE_START_EVENT:
		err = new_node(b, event, YAML_LIST, &node);
		if (!err)
			err = build_items(b, node, YAML_SEQUENCE_END_EVENT, depth);
		break;
	case YAML_MAPPING_START_EVENT:
		err = new_node(b, event, YAML_MAP, &node);
		if (!err)
			err = build_items(b, node, YAML_MAPPING_END_EVENT, depth);
		if (!err)
			err = check_keys(b, node);
		break;
	default:
		return refuse(b, event->start_mark, "unexpected YAML event");
	}
	if (!err)
		*out = node;
	return err;
}

static int build_stream(struct builder *b, struct list *list)
{
	struct yaml_node *root;
	yaml_event_t event;
	bool done = false;
	int err = 0;

	while (!done && !(err = next_event(b, &event))) {
		switch (event.type) {
		case YAML_STREAM_END_EVENT:
			done = true;
			break;
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		default:
			err = build_node(b, &event, 1, &root);
			/* "---" alone, or comments between two "---", is an empty plain scalar. */
			if (!err && !(root->kind == YAML_SCALAR && !root->len) &&
			    !list_add(list, root))
				err = -ENOMEM;
			break;
		}
		yaml_event_delete(&event);
		if (err)
			break;
	}
	return err;
}

int yaml_parse_docs(struct arena *arena, const struct policy_source *src, struct yaml_docs *docs,
		    struct policy_report *report)
{
	struct builder b = {.arena = arena, .report = report, .file = src->name};
	struct list list = {0};
	int err;

	if (src->len > LIMIT_POLICY_FILE_BYTES) {
		yaml_finding(report, src->name, NULL, false, "longer than %u bytes: split it",
			     (unsigned)LIMIT_POLICY_FILE_BYTES);
		return -EINVAL;
	}
	if (!yaml_parser_initialize(&b.parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)(src->len ? src->yaml : ""),
				     src->len);
	err = build_stream(&b, &list);
	yaml_parser_delete(&b.parser);
	if (!err) {
		docs->docs = arena_array(arena, list.cnt, sizeof(*docs->docs));
		docs->cnt = list.cnt;
		if (!docs->docs)
			err = -ENOMEM;
		else if (list.cnt)
			memcpy(docs->docs, list.v, list.cnt * sizeof(*docs->docs));
	}
	free(list.v);
	return err;
}
