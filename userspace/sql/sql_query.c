// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the five statements that touch rows, and the scopes in which their names are looked up.
 *
 * A column is given to the table that its qualifier names. An unqualified one may belong to any table that is
 * visible where it stands, outer queries included, since there is no catalogue here: it is given to all of them. A
 * bare name that equals a table's alias is the whole row. Renamed columns (FROM t AS x(a, b)) hide which ones are
 * read: then all are.
 *
 * A CTE's name hides the table of the same name, but not inside its own query unless it is recursive, and never as
 * the target of a modifying statement.
 */
#include "sql/sql_walk.h"

#include <string.h>

struct walk_scope *walk_push_scope(struct walk *walk, struct walk_scope *scope)
{
	memset(scope, 0, sizeof(*scope));
	scope->up = walk->scope;
	walk->scope = scope;
	return scope;
}

void walk_pop_scope(struct walk *walk, struct walk_scope *scope)
{
	walk->scope = scope->up;
}

static struct walk_range *add_range(struct walk *walk, struct walk_object *object, const char *alias)
{
	struct walk_range *range = sql_arena_alloc(walk->arena, sizeof(*range));

	if (!range) {
		walk_give_up(walk, SQL_UNKNOWN_RESOURCE);
		return NULL;
	}
	range->alias = alias ? alias : "";
	range->object = object;
	range->next = walk->scope->ranges;
	walk->scope->ranges = range;
	return range;
}

void walk_add_range(struct walk *walk, struct walk_object *object, const char *alias)
{
	add_range(walk, object, alias);
}

static bool is_cte(struct walk *walk, const struct jnode *range)
{
	const char *name = jnode_str(range, "relname");

	if (jnode_get(range, "schemaname") || !name)
		return false;
	for (const struct walk_scope *scope = walk->scope; scope; scope = scope->up)
		for (const struct walk_cte *cte = scope->ctes; cte && walk_step(walk); cte = cte->next)
			if (!strcmp(cte->name, name))
				return true;
	return false;
}

/* --- columns --------------------------------------------------------------------------------------------- */

/* A column of unknown owner: of every table in sight. */
static void column_of_all(struct walk *walk, const char *name)
{
	for (const struct walk_scope *scope = walk->scope; scope; scope = scope->up)
		for (const struct walk_range *range = scope->hidden ? NULL : scope->ranges; range && walk_step(walk);
		     range = range->next)
			if (range->object)
				walk_column(walk, range->object, name);
}

static void all_columns_of_scope(const struct walk_scope *scope)
{
	for (const struct walk_range *range = scope->ranges; range; range = range->next)
		if (range->object)
			range->object->all_columns = true;
}

/* The innermost range that @schema.@alias names, and its scope. */
static struct walk_range *find_range(struct walk *walk, const char *schema, const char *alias,
				     struct walk_scope **where)
{
	for (struct walk_scope *scope = walk->scope; scope; scope = scope->up) {
		for (struct walk_range *range = scope->hidden ? NULL : scope->ranges; range && walk_step(walk);
		     range = range->next) {
			if (strcmp(range->alias, alias) != 0)
				continue;
			if (schema && (!range->schema || strcmp(range->schema, schema) != 0))
				continue;
			*where = scope;
			return range;
		}
	}
	return NULL;
}

static void qualified_column(struct walk *walk, const char *schema, const char *alias, const char *name)
{
	struct walk_scope *scope;
	struct walk_range *range = find_range(walk, schema, alias, &scope);

	if (!range && schema)
		range = find_range(walk, NULL, alias, &scope);
	if (!range) {
		/* Not a table in sight, such as a rule's `new`. */
		if (name)
			column_of_all(walk, name);
	} else if (range->is_join && !name) {
		all_columns_of_scope(scope);
	} else if (range->is_join) {
		column_of_all(walk, name);
	} else if (range->object && name) {
		walk_column(walk, range->object, name);
	} else if (range->object) {
		range->object->all_columns = true;
	}
}

void walk_column_ref(struct walk *walk, const struct jnode *node)
{
	const struct jnode *fields = jnode_get(node, "fields"), *last = fields ? fields->last : NULL;
	const char *names[4] = { NULL }, *alias, *schema;
	struct walk_scope *scope;
	struct walk_range *range;
	unsigned cnt = 0;

	jnode_for_each(field, fields)
		if (cnt < 4)
			names[cnt++] = jnode_text(field);
	if (!cnt || !last)
		return;
	if (cnt == 1 && last->type == N_A_Star) {
		if (walk->scope)
			all_columns_of_scope(walk->scope);
		return;
	}
	if (cnt == 1) {
		range = find_range(walk, NULL, names[0], &scope);
		if (range && (range->object || range->is_join))
			qualified_column(walk, NULL, names[0], NULL);
		if (!range || range->object)
			column_of_all(walk, names[0]);
		return;
	}
	alias = names[cnt - 2];
	schema = cnt > 2 ? names[cnt - 3] : NULL;
	if (alias)
		qualified_column(walk, schema, alias, names[cnt - 1]);
}

/* ORDER BY a bare name takes an output column of that name first. */
static void walk_sort(struct walk *walk, const struct jnode *sort)
{
	jnode_for_each(item, sort) {
		const struct jnode *key = jnode_get(item, "node"), *fields = jnode_get(key, "fields");
		const char *name = fields && fields->child && !fields->child->next ? jnode_text(fields->child) : NULL;
		bool is_output = false;

		jnode_for_each(target, walk->scope->outputs)
			if (name && walk_step(walk) && jnode_is(target, "name", name))
				is_output = true;
		if (!is_output)
			walk_expr(walk, item);
	}
}

/* --- FROM ------------------------------------------------------------------------------------------------ */

static const char *alias_name(const struct jnode *node)
{
	return jnode_str(jnode_get(node, "alias"), "aliasname");
}

static bool renames_columns(const struct jnode *node)
{
	return jnode_get(jnode_get(node, "alias"), "colnames") != NULL;
}

static void collect_table(struct walk *walk, const struct jnode *node, uint32_t effects)
{
	const char *alias = alias_name(node);
	struct walk_range *range;
	struct walk_object *object;

	object = walk_relation(walk, node, effects);
	range = add_range(walk, object, alias ? alias : jnode_str(node, "relname"));
	if (range && !alias)
		range->schema = jnode_str(node, "schemaname");
	if (renames_columns(node))
		object->all_columns = true;
}

/* First pass over FROM: all names, before any expression in it is looked at. */
static void collect_ranges(struct walk *walk, const struct jnode *node)
{
	struct walk_range *before, *range;

	switch (node ? node->type : N_NONE) {
	case N_RangeVar:
		if (is_cte(walk, node))
			add_range(walk, NULL, alias_name(node) ? alias_name(node) : jnode_str(node, "relname"));
		else
			collect_table(walk, node, SQL_BIT(SQL_READ));
		return;
	case N_JoinExpr:
		before = walk->scope->ranges;
		collect_ranges(walk, jnode_get(node, "larg"));
		collect_ranges(walk, jnode_get(node, "rarg"));
		if (renames_columns(node) || jnode_bool(node, "isNatural"))
			for (range = walk->scope->ranges; range && range != before; range = range->next)
				if (range->object)
					range->object->all_columns = true;
		if (alias_name(node)) {
			range = add_range(walk, NULL, alias_name(node));
			if (range)
				range->is_join = true;
		}
		return;
	case N_RangeTableSample:
		collect_ranges(walk, jnode_get(node, "relation"));
		return;
	default:
		if (alias_name(node))
			add_range(walk, NULL, alias_name(node));
		return;
	}
}

static void walk_sub_select(struct walk *walk, const struct jnode *node)
{
	struct walk_scope *scope = walk->scope;
	bool hidden = scope->hidden;

	scope->hidden = !jnode_bool(node, "lateral");
	walk_expr(walk, jnode_get(node, "subquery"));
	scope->hidden = hidden;
}

/* Second pass: the expressions in FROM. */
static void walk_ranges(struct walk *walk, const struct jnode *node)
{
	switch (node ? node->type : N_NONE) {
	case N_RangeVar:
		return;
	case N_JoinExpr:
		walk_ranges(walk, jnode_get(node, "larg"));
		walk_ranges(walk, jnode_get(node, "rarg"));
		jnode_for_each(column, jnode_get(node, "usingClause"))
			if (jnode_text(column))
				column_of_all(walk, jnode_text(column));
		walk_expr(walk, jnode_get(node, "quals"));
		return;
	case N_RangeSubselect:
		walk_sub_select(walk, node);
		return;
	case N_RangeTableSample:
		walk_ranges(walk, jnode_get(node, "relation"));
		walk_expr(walk, jnode_get(node, "args"));
		walk_expr(walk, jnode_get(node, "repeatable"));
		return;
	default:
		walk_fields(walk, node);
		return;
	}
}

static void walk_from(struct walk *walk, const struct jnode *from)
{
	jnode_for_each(item, from)
		collect_ranges(walk, item);
	jnode_for_each(item, from)
		walk_ranges(walk, item);
}

static void add_cte(struct walk *walk, const struct jnode *node)
{
	struct walk_cte *cte = sql_arena_alloc(walk->arena, sizeof(*cte));

	if (!cte) {
		walk_give_up(walk, SQL_UNKNOWN_RESOURCE);
		return;
	}
	cte->name = jnode_str(node, "ctename") ? jnode_str(node, "ctename") : "";
	cte->next = walk->scope->ctes;
	walk->scope->ctes = cte;
}

static void walk_with(struct walk *walk, const struct jnode *with)
{
	const struct jnode *ctes = jnode_get(with, "ctes");
	bool recursive = jnode_bool(with, "recursive");

	if (recursive)
		jnode_for_each(cte, ctes)
			add_cte(walk, cte);
	jnode_for_each(cte, ctes) {
		walk_expr(walk, jnode_get(cte, "ctequery"));
		walk_expr(walk, jnode_get(cte, "cycle_clause"));
		if (!recursive)
			add_cte(walk, cte);
	}
}

/* --- the statements -------------------------------------------------------------------------------------- */

/* How the columns of @relation's rows may be qualified. */
static const char *name_of(const struct jnode *relation)
{
	const char *alias = jnode_str(jnode_get(relation, "alias"), "aliasname");
	const char *name = alias ? alias : jnode_str(relation, "relname");

	return name ? name : "";
}

/* @target: the table whose rows are changed, NULL where they are only read. */
static void walk_predicate(struct walk *walk, const struct jnode *where, const struct jnode *target)
{
	bool depends = false, is_true = !where;

	if (where) {
		is_true = sql_fold_is_true(where, target ? name_of(target) : NULL, &depends);
		walk->has_where = true;
		walk->where_true |= is_true;
		walk->literal_dependent |= depends;
	}
	if (target && (walk->mask & SQL_BIT(SQL_DELETE)) && walk->selective != SQL_SELECTIVE_NO)
		walk->selective = is_true ? SQL_SELECTIVE_NO : SQL_SELECTIVE_YES;
	walk_expr(walk, where);
}

static void walk_returning(struct walk *walk, const struct jnode *node, struct walk_object *target)
{
	const struct jnode *list = jnode_get(node, "returningList");

	if (!list)
		return;
	walk->has_returning = true;
	walk_effect(walk, SQL_BIT(SQL_READ));
	target->effects |= SQL_BIT(SQL_READ) & walk->mask;
	walk_expr(walk, list);
}

/* SET lists: the names are the target's columns. */
static void walk_targets(struct walk *walk, const struct jnode *list, struct walk_object *target)
{
	jnode_for_each(item, list) {
		walk_column(walk, target, jnode_str(item, "name"));
		walk_fields(walk, item);
	}
}

static struct walk_object *walk_target(struct walk *walk, const struct jnode *node, uint32_t effects)
{
	const struct jnode *relation = jnode_get(node, "relation");

	collect_table(walk, relation, effects);
	return walk_object(walk, SQL_OBJ_RELATION, jnode_str(relation, "schemaname"), jnode_str(relation, "relname"),
			   effects);
}

static void walk_locking(struct walk *walk, const struct jnode *locking)
{
	jnode_for_each(clause, locking) {
		const struct jnode *names = jnode_get(clause, "lockedRels");

		walk_effect(walk, SQL_BIT(SQL_LOCK));
		for (struct walk_range *range = walk->scope->ranges; range; range = range->next) {
			bool named = !names;

			jnode_for_each(name, names)
				named |= walk_step(walk) && jnode_is(name, "relname", range->alias);
			if (named && range->object)
				range->object->effects |= SQL_BIT(SQL_LOCK) & walk->mask;
		}
	}
}

static void walk_select(struct walk *walk, const struct jnode *node, bool top)
{
	const struct jnode *into = jnode_get(node, "intoClause"), *limit = jnode_get(node, "limitCount");
	struct walk_scope scope;

	/* Before its CTEs: the statement is called by its own name. */
	walk_command(walk, into ? "SELECT INTO" : "SELECT");
	walk_push_scope(walk, &scope);
	walk_with(walk, jnode_get(node, "withClause"));
	if (into)
		walk_relation(walk, jnode_get(into, "rel"), SQL_BIT(SQL_SCHEMA_CREATE) | SQL_BIT(SQL_WRITE));
	if (top)
		walk->has_limit = limit && !jnode_bool(limit, "isnull");
	if (jnode_get(node, "larg")) {
		walk_select(walk, jnode_get(node, "larg"), false);
		walk_select(walk, jnode_get(node, "rarg"), false);
	}
	walk_from(walk, jnode_get(node, "fromClause"));
	scope.outputs = jnode_get(node, "targetList");
	walk_expr(walk, scope.outputs);
	if (top && jnode_get(node, "whereClause"))
		walk_predicate(walk, jnode_get(node, "whereClause"), NULL);
	else
		walk_expr(walk, jnode_get(node, "whereClause"));
	walk_expr(walk, jnode_get(node, "distinctClause"));
	walk_expr(walk, jnode_get(node, "groupClause"));
	walk_expr(walk, jnode_get(node, "havingClause"));
	walk_expr(walk, jnode_get(node, "windowClause"));
	walk_expr(walk, jnode_get(node, "valuesLists"));
	walk_sort(walk, jnode_get(node, "sortClause"));
	walk_expr(walk, jnode_get(node, "limitOffset"));
	walk_expr(walk, limit);
	walk_locking(walk, jnode_get(node, "lockingClause"));
	walk_pop_scope(walk, &scope);
}

static void walk_insert(struct walk *walk, const struct jnode *node)
{
	const struct jnode *conflict = jnode_get(node, "onConflictClause"), *cols = jnode_get(node, "cols");
	bool updates = jnode_is(conflict, "action", "ONCONFLICT_UPDATE");
	struct walk_object *target;
	struct walk_scope scope;

	walk_command(walk, "INSERT");
	walk_push_scope(walk, &scope);
	walk_with(walk, jnode_get(node, "withClause"));
	/* The source query does not see the target: it goes first. */
	walk_expr(walk, jnode_get(node, "selectStmt"));
	target = walk_target(walk, node, SQL_BIT(SQL_WRITE) | (updates ? SQL_BIT(SQL_MODIFY) : 0));
	if (cols)
		walk_targets(walk, cols, target);
	else
		target->all_columns = true;
	if (conflict) {
		add_range(walk, target, "excluded");
		walk_expr(walk, jnode_get(conflict, "infer"));
		walk_targets(walk, jnode_get(conflict, "targetList"), target);
		walk_expr(walk, jnode_get(conflict, "whereClause"));
	}
	walk_returning(walk, node, target);
	walk_pop_scope(walk, &scope);
}

static void walk_update(struct walk *walk, const struct jnode *node)
{
	struct walk_object *target;
	struct walk_scope scope;

	walk_command(walk, "UPDATE");
	walk_push_scope(walk, &scope);
	walk_with(walk, jnode_get(node, "withClause"));
	target = walk_target(walk, node, SQL_BIT(SQL_MODIFY));
	walk_from(walk, jnode_get(node, "fromClause"));
	walk_targets(walk, jnode_get(node, "targetList"), target);
	walk_predicate(walk, jnode_get(node, "whereClause"), jnode_get(node, "relation"));
	walk_returning(walk, node, target);
	walk_pop_scope(walk, &scope);
}

static void walk_delete(struct walk *walk, const struct jnode *node)
{
	struct walk_object *target;
	struct walk_scope scope;

	walk_command(walk, "DELETE");
	walk_push_scope(walk, &scope);
	walk_with(walk, jnode_get(node, "withClause"));
	target = walk_target(walk, node, SQL_BIT(SQL_DELETE));
	target->all_columns = true;
	walk_from(walk, jnode_get(node, "usingClause"));
	walk_predicate(walk, jnode_get(node, "whereClause"), jnode_get(node, "relation"));
	walk_returning(walk, node, target);
	walk_pop_scope(walk, &scope);
}

static uint32_t merge_effect(const struct jnode *clause)
{
	if (jnode_is(clause, "commandType", "CMD_INSERT"))
		return SQL_BIT(SQL_WRITE);
	if (jnode_is(clause, "commandType", "CMD_UPDATE"))
		return SQL_BIT(SQL_MODIFY);
	return jnode_is(clause, "commandType", "CMD_DELETE") ? SQL_BIT(SQL_DELETE) : 0;
}

static void walk_merge(struct walk *walk, const struct jnode *node)
{
	const struct jnode *clauses = jnode_get(node, "mergeWhenClauses"), *source = jnode_get(node, "sourceRelation");
	struct walk_object *target;
	struct walk_scope scope;
	uint32_t effects = 0;

	walk_command(walk, "MERGE");
	walk_push_scope(walk, &scope);
	walk_with(walk, jnode_get(node, "withClause"));
	jnode_for_each(clause, clauses)
		effects |= merge_effect(clause);
	target = walk_target(walk, node, effects);
	if (effects & SQL_BIT(SQL_DELETE))
		target->all_columns = true;
	collect_ranges(walk, source);
	walk_ranges(walk, source);
	walk_predicate(walk, jnode_get(node, "joinCondition"),
		       effects & (SQL_BIT(SQL_MODIFY) | SQL_BIT(SQL_DELETE)) ? jnode_get(node, "relation") : NULL);
	jnode_for_each(clause, clauses) {
		walk_expr(walk, jnode_get(clause, "condition"));
		walk_targets(walk, jnode_get(clause, "targetList"), target);
		walk_expr(walk, jnode_get(clause, "values"));
		if (jnode_is(clause, "commandType", "CMD_INSERT") && !jnode_get(clause, "targetList"))
			target->all_columns = true;
	}
	walk_pop_scope(walk, &scope);
}

bool walk_is_query(enum sql_node_type type)
{
	return type == N_SelectStmt || type == N_InsertStmt || type == N_UpdateStmt || type == N_DeleteStmt ||
	       type == N_MergeStmt;
}

void walk_query(struct walk *walk, const struct jnode *node)
{
	/* Only the outermost query's WHERE and LIMIT are the statement's own. */
	bool top = !walk->scope && !walk->command;

	switch (node->type) {
	case N_SelectStmt:
		walk_select(walk, node, top);
		return;
	case N_InsertStmt:
		walk_insert(walk, node);
		return;
	case N_UpdateStmt:
		walk_update(walk, node);
		return;
	case N_DeleteStmt:
		walk_delete(walk, node);
		return;
	default:
		walk_merge(walk, node);
		return;
	}
}
