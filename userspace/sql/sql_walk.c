// SPDX-License-Identifier: Apache-2.0
/* Owns what one statement's walk collects, and the generic descent. Called by sql.c on the parser's stack. */
#include "sql/sql_walk.h"

#include <string.h>

#include "core/limits.h"
#include "sql/sql_func.h"

void walk_give_up(struct walk *walk, enum sql_unknown why)
{
	if (walk->unknown == SQL_KNOWN)
		walk->unknown = why;
}

void walk_effect(struct walk *walk, uint32_t effects)
{
	walk->effects |= effects & walk->mask;
}

void walk_command(struct walk *walk, const char *command)
{
	if (!walk->command)
		walk->command = command;
}

static uint32_t hash_names(enum sql_object_kind kind, const char *schema, const char *name)
{
	uint32_t h = 2166136261u ^ (uint32_t)kind;

	for (const char *p = schema ? schema : ""; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	h = (h ^ '.') * 16777619u;
	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

static bool same_schema(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

struct walk_object *walk_object(struct walk *walk, enum sql_object_kind kind, const char *schema, const char *name,
				uint32_t effects)
{
	static struct walk_object scratch;
	struct walk_object *object;
	uint32_t hash;

	name = name ? name : "";
	hash = hash_names(kind, schema, name);
	walk_effect(walk, effects);
	for (object = walk->objects; object && walk_step(walk); object = object->next) {
		if (object->hash == hash && object->kind == kind && same_schema(object->schema, schema) &&
		    !strcmp(object->name, name)) {
			object->effects |= effects & walk->mask;
			return object;
		}
	}
	object = walk->object_cnt < LIMIT_SQL_OBJECTS ? sql_arena_alloc(walk->arena, sizeof(*object)) : NULL;
	if (!object) {
		walk_give_up(walk, walk->arena->failed ? SQL_UNKNOWN_RESOURCE : SQL_UNKNOWN_TOO_MANY);
		memset(&scratch, 0, sizeof(scratch));
		return &scratch;
	}
	object->hash = hash;
	object->kind = kind;
	object->schema = schema;
	object->name = name;
	object->effects = effects & walk->mask;
	if (walk->last_object)
		walk->last_object->next = object;
	else
		walk->objects = object;
	walk->last_object = object;
	walk->object_cnt++;
	return object;
}

void walk_column(struct walk *walk, struct walk_object *object, const char *name)
{
	struct walk_column *column;

	if (!object || !name)
		return;
	for (column = object->columns; column && walk_step(walk); column = column->next)
		if (!strcmp(column->name, name))
			return;
	if (object->column_cnt >= LIMIT_SQL_COLUMNS) {
		walk_give_up(walk, SQL_UNKNOWN_TOO_MANY);
		return;
	}
	column = sql_arena_alloc(walk->arena, sizeof(*column));
	if (!column) {
		walk_give_up(walk, SQL_UNKNOWN_RESOURCE);
		return;
	}
	column->name = name;
	if (object->last_column)
		object->last_column->next = column;
	else
		object->columns = column;
	object->last_column = column;
	object->column_cnt++;
}

struct walk_object *walk_relation(struct walk *walk, const struct jnode *range, uint32_t effects)
{
	if (!range)
		return NULL;
	return walk_object(walk, SQL_OBJ_RELATION, jnode_str(range, "schemaname"), jnode_str(range, "relname"),
			   effects);
}

bool walk_names(const struct jnode *node, const char **schema, const char **name)
{
	const char *last = NULL, *before = NULL;

	if (!node)
		return false;
	if (jnode_text(node)) {
		*schema = NULL;
		*name = jnode_text(node);
		return true;
	}
	if (node->type == N_ObjectWithArgs || jnode_get(node, "objname"))
		node = jnode_get(node, "objname");
	else if (node->type == N_TypeName || jnode_get(node, "names"))
		node = jnode_get(node, "names");
	else if (node->type == N_List)
		node = jnode_get(node, "items");
	if (node && node->child && node->child->type == N_TypeName)
		return walk_names(node->child, schema, name);
	jnode_for_each(item, node) {
		if (!jnode_text(item))
			continue;
		before = last;
		last = jnode_text(item);
	}
	if (!last)
		return false;
	*schema = before;
	*name = last;
	return true;
}

const struct jnode *walk_option(const struct jnode *list, const char *name)
{
	const struct jnode *found = NULL;

	jnode_for_each(item, list)
		if (jnode_is(item, "defname", name))
			found = item;
	return found;
}

static void add_function(struct walk *walk, const char *schema, const char *name, enum sql_func_risk risk)
{
	struct walk_function *function;

	for (function = walk->functions; function && walk_step(walk); function = function->next)
		if (same_schema(function->schema, schema) && !strcmp(function->name, name))
			return;
	function = walk->function_cnt < LIMIT_SQL_OBJECTS ? sql_arena_alloc(walk->arena, sizeof(*function)) : NULL;
	if (!function) {
		walk_give_up(walk, walk->arena->failed ? SQL_UNKNOWN_RESOURCE : SQL_UNKNOWN_TOO_MANY);
		return;
	}
	function->schema = schema;
	function->name = name;
	function->risk = risk;
	if (walk->last_function)
		walk->last_function->next = function;
	else
		walk->functions = function;
	walk->last_function = function;
	walk->function_cnt++;
}

void walk_call(struct walk *walk, const struct jnode *call)
{
	const char *schema = NULL, *name = NULL;
	enum sql_func_risk risk;
	uint32_t effects;

	if (walk_names(jnode_get(call, "funcname"), &schema, &name)) {
		risk = sql_func_lookup(schema, name, &effects);
		add_function(walk, schema, name, risk);
		walk_effect(walk, effects);
		if (risk == SQL_RISK_DYNAMIC || risk == SQL_RISK_ADMIN)
			walk->literal_dependent = true;
	}
	jnode_for_each(field, call)
		if (strcmp(field->key, "funcname") != 0)
			walk_expr(walk, field);
}

void walk_fields(struct walk *walk, const struct jnode *node)
{
	jnode_for_each(field, node)
		if (field->kind >= JSON_ARRAY)
			walk_expr(walk, field);
}

static void walk_sub_link(struct walk *walk, const struct jnode *node)
{
	walk_expr(walk, jnode_get(node, "testexpr"));
	walk_expr(walk, jnode_get(node, "subselect"));
}

void walk_expr(struct walk *walk, const struct jnode *node)
{
	if (!node || node->kind < JSON_ARRAY)
		return;
	switch (node->type) {
	case N_A_Const:
	case N_ParamRef:
	case N_String:
	case N_Integer:
	case N_TypeName:
		return;
	case N_ColumnRef:
		walk_column_ref(walk, node);
		return;
	case N_FuncCall:
		walk_call(walk, node);
		return;
	case N_SubLink:
		walk_sub_link(walk, node);
		return;
	case N_RangeVar:
		walk_relation(walk, node, SQL_BIT(SQL_READ));
		return;
	case N_UNKNOWN:
		walk_give_up(walk, SQL_UNKNOWN_NODE);
		return;
	case N_NONE:
		/* Fields whose type the grammar fixes are not wrapped; a table's is known by its name field. */
		if (jnode_get(node, "relname"))
			walk_relation(walk, node, SQL_BIT(SQL_READ));
		else
			walk_fields(walk, node);
		return;
	default:
		break;
	}
	if (walk_is_query(node->type))
		walk_query(walk, node);
	else if (!walk_utility(walk, node))
		walk_fields(walk, node);
}

void sql_walk_start(struct walk *walk, struct sql_arena *arena, const struct jnode *node)
{
	memset(walk, 0, sizeof(*walk));
	walk->arena = arena;
	walk->mask = ~0u;
	if (!node || node->type == N_NONE)
		walk_give_up(walk, SQL_UNKNOWN_NODE);
	else if (walk_is_query(node->type))
		walk_query(walk, node);
	else if (!walk_utility(walk, node))
		walk_give_up(walk, SQL_UNKNOWN_NODE);
	walk_command(walk, "UNKNOWN");
}
