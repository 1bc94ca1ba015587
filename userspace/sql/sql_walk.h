/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one statement's tree to its facts. Split by subject over four files that share this state:
 *
 *   sql_walk.c    the collected objects, columns and functions; the generic descent through expressions
 *   sql_query.c   SELECT, INSERT, UPDATE, DELETE, MERGE: name scopes, which column belongs to which table
 *   sql_fold.c    whether a WHERE clause can be false
 *   sql_utility.c everything else that is a statement, one row of a table for each; sql_ddl.c its longer rows
 *
 * The descent visits every node. What carries meaning has a handler; any other expression is just walked
 * through; a statement or node type without an entry makes the facts unknown.
 */
#ifndef DBFENCE_SQL_SQL_WALK_H
#define DBFENCE_SQL_SQL_WALK_H

#include "sql/sql.h"
#include "sql/sql_json.h"

struct walk_column {
	struct walk_column *next;
	const char *name;
};

struct walk_object {
	struct walk_object *next;
	uint32_t hash;
	enum sql_object_kind kind;
	const char *schema, *name;
	uint32_t effects;
	struct walk_column *columns, *last_column;
	unsigned column_cnt;
	bool all_columns;
};

struct walk_function {
	struct walk_function *next;
	const char *schema, *name;
	enum sql_func_risk risk;
};

/* What a name in FROM stands for. */
struct walk_range {
	struct walk_range *next;
	const char *alias;		/* how columns name it */
	const char *schema;		/* only where it may be named with one */
	struct walk_object *object;	/* NULL for sub-queries, functions and CTEs */
	bool is_join;			/* the alias of a parenthesised join: any of the scope's tables */
};

struct walk_cte {
	struct walk_cte *next;
	const char *name;
};

struct walk_scope {
	struct walk_scope *up;
	struct walk_range *ranges;
	struct walk_cte *ctes;
	const struct jnode *outputs;	/* target list, for names in ORDER BY */
	bool hidden;			/* its ranges cannot be seen from the sub-query being walked */
};

struct walk {
	struct sql_arena *arena;	/* borrowed: by the engine, reset per analysis */
	const char *command;
	uint32_t effects;
	uint32_t mask;			/* effects that count here: all, READ under EXPLAIN, none in a stored body */
	struct walk_object *objects, *last_object;
	struct walk_function *functions, *last_function;
	unsigned object_cnt, function_cnt;
	struct walk_scope *scope;
	enum sql_selective selective;
	bool has_where, where_true, has_limit, has_returning;
	bool literal_dependent;
	unsigned steps;			/* of the linear look-ups: bounded, since a text chooses how many there are */
	enum sql_unknown unknown;
};

/* --- sql_walk.c ------------------------------------------------------------------------------------------ */

/* The statement @node (a wrapped ...Stmt); @walk is zeroed apart from its arena. */
void sql_walk_start(struct walk *walk, struct sql_arena *arena, const struct jnode *node);

#define WALK_STEPS_MAX 1000000

void walk_give_up(struct walk *walk, enum sql_unknown why);
/* Count one step of a look-up; false, and the facts unknown, when there were too many. */
static inline bool walk_step(struct walk *walk)
{
	if (walk->steps++ < WALK_STEPS_MAX)
		return true;
	walk_give_up(walk, SQL_UNKNOWN_TOO_MANY);
	return false;
}
void walk_effect(struct walk *walk, uint32_t effects);
void walk_command(struct walk *walk, const char *command);	/* the first one said stays */
/* Never NULL: out of memory or beyond the limit it is a scratch object, and the facts are unknown. */
struct walk_object *walk_object(struct walk *walk, enum sql_object_kind kind, const char *schema, const char *name,
				uint32_t effects);
void walk_column(struct walk *walk, struct walk_object *object, const char *name);
/* The object of an unwrapped or wrapped RangeVar. NULL only when @range is NULL. */
struct walk_object *walk_relation(struct walk *walk, const struct jnode *range, uint32_t effects);
void walk_expr(struct walk *walk, const struct jnode *node);
void walk_fields(struct walk *walk, const struct jnode *node);	/* every field of a node */
void walk_call(struct walk *walk, const struct jnode *call);	/* a FuncCall, wrapped or not */
/* Schema (or NULL) and name out of a List, a TypeName, an ObjectWithArgs or a String. False when there is none. */
bool walk_names(const struct jnode *node, const char **schema, const char **name);
const struct jnode *walk_option(const struct jnode *list, const char *name);	/* the last DefElem @name */

/* --- sql_query.c ----------------------------------------------------------------------------------------- */

bool walk_is_query(enum sql_node_type type);
void walk_query(struct walk *walk, const struct jnode *node);
void walk_column_ref(struct walk *walk, const struct jnode *node);
struct walk_scope *walk_push_scope(struct walk *walk, struct walk_scope *scope);
void walk_pop_scope(struct walk *walk, struct walk_scope *scope);
/* A table whose columns expressions may name from here on, without FROM. */
void walk_add_range(struct walk *walk, struct walk_object *object, const char *alias);

/* --- sql_fold.c ------------------------------------------------------------------------------------------ */

/*
 * True when @where selects all rows or none as a whole; *@depends when other literals could change the answer.
 * @target: the name of the table whose rows are changed, NULL where they are only read.
 */
bool sql_fold_is_true(const struct jnode *where, const char *target, bool *depends);

/* --- sql_utility.c, sql_ddl.c ---------------------------------------------------------------------------- */

/* False when @node is no statement that is known. */
bool walk_utility(struct walk *walk, const struct jnode *node);

/* What an ObjectType ("OBJECT_TABLE") is called in command tags, and its kind here. */
struct walk_objtype {
	const char *type, *tag;
	enum sql_object_kind kind;
	bool on_relation;	/* its name is that of a table followed by its own */
};

const struct walk_objtype *walk_objtype(const char *type);
const char *walk_tag(struct walk *walk, const char *verb, const char *what);

/* Objects of whatever @value is: a name, a qualified name, a table, a role, or a list of those. */
void walk_objects(struct walk *walk, const struct jnode *value, enum sql_object_kind kind, uint32_t effects);

typedef void (*walk_stmt_fn)(struct walk *walk, const struct jnode *node);
void ddl_alter_table(struct walk *walk, const struct jnode *node);
void ddl_create_table(struct walk *walk, const struct jnode *node);
void ddl_create_foreign_table(struct walk *walk, const struct jnode *node);
void ddl_create_function(struct walk *walk, const struct jnode *node);
void ddl_alter_function(struct walk *walk, const struct jnode *node);
void ddl_drop(struct walk *walk, const struct jnode *node);
void ddl_rename(struct walk *walk, const struct jnode *node);
void ddl_alter_object(struct walk *walk, const struct jnode *node);
void ddl_owner(struct walk *walk, const struct jnode *node);
void ddl_comment(struct walk *walk, const struct jnode *node);
void ddl_define(struct walk *walk, const struct jnode *node);
void ddl_index(struct walk *walk, const struct jnode *node);
void ddl_view(struct walk *walk, const struct jnode *node);
void ddl_table_as(struct walk *walk, const struct jnode *node);
void ddl_rule(struct walk *walk, const struct jnode *node);
void ddl_trigger(struct walk *walk, const struct jnode *node);
void ddl_policy(struct walk *walk, const struct jnode *node);
void ddl_schema(struct walk *walk, const struct jnode *node);
void ddl_grant(struct walk *walk, const struct jnode *node);
void ddl_default_privileges(struct walk *walk, const struct jnode *node);
void ddl_publication(struct walk *walk, const struct jnode *node);
void ddl_import_schema(struct walk *walk, const struct jnode *node);
void ddl_statistics(struct walk *walk, const struct jnode *node);

#endif
