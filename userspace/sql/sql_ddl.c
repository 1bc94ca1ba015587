// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the definition statements whose facts take more than a row of the table: tables, functions, drops, grants.
 *
 * A query that is only stored (view, rule, function body) does not run now. A view's tables are reported as read,
 * since whoever may read the view reads them; bodies of rules and functions name their objects without effects.
 */
#include <string.h>

#include "sql/sql_func.h"
#include "sql/sql_walk.h"

#define B(effect) SQL_BIT(SQL_##effect)

/* Walk @node for names only: it does not run with this statement. */
static void walk_stored(struct walk *walk, const struct jnode *node)
{
	struct walk_scope scope;
	uint32_t mask = walk->mask;

	walk_push_scope(walk, &scope);
	walk->mask = 0;
	walk_expr(walk, node);
	walk->mask = mask;
	walk_pop_scope(walk, &scope);
}

/* Expressions over the columns of @table: defaults, checks, index keys. */
static void walk_table_exprs(struct walk *walk, struct walk_object *table, const struct jnode *node)
{
	struct walk_scope scope;

	walk_push_scope(walk, &scope);
	if (table)
		walk_add_range(walk, table, table->name);
	walk_expr(walk, node);
	walk_pop_scope(walk, &scope);
}

/* A trigger, rule, policy, column or constraint: [schema,] table, name. */
static void object_on_relation(struct walk *walk, const char *type, const struct jnode *list, uint32_t effects)
{
	const struct walk_objtype *objtype = walk_objtype(type);
	const char *schema = NULL, *table = NULL, *name = NULL;
	struct walk_object *relation;

	if (list && list->type == N_List)
		list = jnode_get(list, "items");
	jnode_for_each(item, list) {
		schema = table;
		table = name;
		name = jnode_text(item);
	}
	if (!name)
		return;
	if (!table) {
		walk_object(walk, objtype->kind, NULL, name, effects);
		return;
	}
	relation = walk_object(walk, SQL_OBJ_RELATION, schema, table, effects & ~B(SCHEMA_DESTROY));
	relation->effects |= effects & B(SCHEMA_DESTROY) & walk->mask ? B(SCHEMA_ALTER) & walk->mask : 0;
	if (!strcmp(type, "OBJECT_COLUMN"))
		walk_column(walk, relation, name);
	else
		walk_object(walk, objtype->kind, NULL, name, effects);
}

static void object_of(struct walk *walk, const char *type, const struct jnode *node, uint32_t effects)
{
	const struct walk_objtype *objtype = walk_objtype(type);

	if (objtype->on_relation)
		object_on_relation(walk, type, node, effects);
	else
		walk_objects(walk, node, objtype->kind, effects);
}

/* --- tables ---------------------------------------------------------------------------------------------- */

static uint32_t alter_effects(const char *subtype)
{
	static const struct {
		const char *subtype;
		uint32_t effects;
	} rows[] = {
		{ "AT_DropColumn", B(SCHEMA_DESTROY) },
		{ "AT_ChangeOwner", B(PRIVILEGE) },
		{ "AT_EnableRowSecurity", B(PRIVILEGE) },
		{ "AT_DisableRowSecurity", B(PRIVILEGE) },
		{ "AT_ForceRowSecurity", B(PRIVILEGE) },
		{ "AT_NoForceRowSecurity", B(PRIVILEGE) },
		{ "AT_ReplicaIdentity", B(REPLICATION) },
	};

	for (size_t i = 0; subtype && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(rows[i].subtype, subtype))
			return rows[i].effects;
	return 0;
}

/* The name of an ALTER TABLE action is a column's in these. */
static bool names_column(const char *subtype)
{
	static const char *const subtypes[] = { "AT_ColumnDefault", "AT_DropNotNull", "AT_SetNotNull",
						"AT_DropExpression", "AT_SetStatistics", "AT_SetOptions",
						"AT_ResetOptions", "AT_SetStorage", "AT_SetCompression",
						"AT_DropColumn", "AT_AlterColumnType",
						"AT_AlterColumnGenericOptions", "AT_AddIdentity", "AT_SetIdentity",
						"AT_DropIdentity" };

	for (size_t i = 0; subtype && i < sizeof(subtypes) / sizeof(subtypes[0]); i++)
		if (!strcmp(subtypes[i], subtype))
			return true;
	return false;
}

static void alter_command(struct walk *walk, struct walk_object *table, const struct jnode *cmd)
{
	const char *subtype = jnode_str(cmd, "subtype");
	const struct jnode *def = jnode_get(cmd, "def");
	uint32_t effects = alter_effects(subtype);

	walk_effect(walk, effects);
	if (table) {
		table->effects |= effects & walk->mask;
		if (names_column(subtype))
			walk_column(walk, table, jnode_str(cmd, "name"));
		if (def && def->type == N_ColumnDef)
			walk_column(walk, table, jnode_str(def, "colname"));
	}
	walk_objects(walk, jnode_get(cmd, "newowner"), SQL_OBJ_ROLE, B(PRIVILEGE));
	if (def && def->type == N_RangeVar)
		walk_relation(walk, def, B(SCHEMA_ALTER));
	else if (def && def->type == N_PartitionCmd)
		walk_relation(walk, jnode_get(def, "name"), B(SCHEMA_ALTER));
	else if (def && def->type == N_Constraint && jnode_get(def, "pktable"))
		walk_relation(walk, jnode_get(def, "pktable"), 0);
	else
		walk_table_exprs(walk, table, def);
}

void ddl_alter_table(struct walk *walk, const struct jnode *node)
{
	const struct jnode *relation = jnode_get(node, "relation");
	const struct walk_objtype *objtype = walk_objtype(jnode_str(node, "objtype"));
	struct walk_object *table;

	walk_command(walk, walk_tag(walk, "ALTER", objtype->tag));
	table = walk_object(walk, objtype->kind, jnode_str(relation, "schemaname"), jnode_str(relation, "relname"),
			    B(SCHEMA_ALTER));
	jnode_for_each(cmd, jnode_get(node, "cmds"))
		alter_command(walk, table, cmd);
}

static void table_element(struct walk *walk, struct walk_object *table, const struct jnode *element)
{
	if (element->type == N_ColumnDef)
		walk_column(walk, table, jnode_str(element, "colname"));
	if (element->type == N_TableLikeClause) {
		walk_relation(walk, jnode_get(element, "relation"), 0);
		return;
	}
	/* A referenced table is named, not read. */
	if (element->type == N_Constraint)
		walk_relation(walk, jnode_get(element, "pktable"), 0);
	jnode_for_each(constraint, jnode_get(element, "constraints"))
		walk_relation(walk, jnode_get(constraint, "pktable"), 0);
	walk_table_exprs(walk, table, jnode_get(element, "raw_expr"));
	walk_table_exprs(walk, table, jnode_get(element, "raw_default"));
	jnode_for_each(constraint, jnode_get(element, "constraints"))
		walk_table_exprs(walk, table, jnode_get(constraint, "raw_expr"));
}

static void create_table(struct walk *walk, const struct jnode *node, uint32_t effects)
{
	struct walk_object *table = walk_relation(walk, jnode_get(node, "relation"), effects);

	if (!table)
		return;
	jnode_for_each(element, jnode_get(node, "tableElts"))
		table_element(walk, table, element);
	jnode_for_each(parent, jnode_get(node, "inhRelations"))
		walk_relation(walk, parent, B(SCHEMA_ALTER));
	walk_table_exprs(walk, table, jnode_get(node, "partspec"));
	walk_table_exprs(walk, table, jnode_get(node, "partbound"));
}

void ddl_create_table(struct walk *walk, const struct jnode *node)
{
	create_table(walk, node, B(SCHEMA_CREATE));
}

void ddl_create_foreign_table(struct walk *walk, const struct jnode *node)
{
	create_table(walk, jnode_get(node, "base"), B(SCHEMA_CREATE) | B(UNSAFE_IO));
	walk_objects(walk, jnode_get(node, "servername"), SQL_OBJ_OTHER, B(UNSAFE_IO));
}

void ddl_table_as(struct walk *walk, const struct jnode *node)
{
	const struct jnode *into = jnode_get(node, "into");
	bool matview = jnode_is(node, "objtype", "OBJECT_MATVIEW");
	struct walk_object *table;

	walk_command(walk, matview ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS");
	table = walk_relation(walk, jnode_get(into, "rel"), B(SCHEMA_CREATE) | B(WRITE));
	jnode_for_each(column, jnode_get(into, "colNames"))
		walk_column(walk, table, jnode_text(column));
	walk_expr(walk, jnode_get(node, "query"));
}

void ddl_view(struct walk *walk, const struct jnode *node)
{
	bool replace = jnode_bool(node, "replace");
	uint32_t mask = walk->mask;

	walk_effect(walk, replace ? B(SCHEMA_ALTER) : 0);
	walk_relation(walk, jnode_get(node, "view"), B(SCHEMA_CREATE) | (replace ? B(SCHEMA_ALTER) : 0));
	walk->mask &= B(READ);
	walk_expr(walk, jnode_get(node, "query"));
	walk->mask = mask;
}

void ddl_index(struct walk *walk, const struct jnode *node)
{
	const char *name = jnode_str(node, "idxname");
	struct walk_object *table = walk_relation(walk, jnode_get(node, "relation"), B(SCHEMA_CREATE));

	if (name)
		walk_object(walk, SQL_OBJ_RELATION, jnode_str(jnode_get(node, "relation"), "schemaname"), name,
			    B(SCHEMA_CREATE));
	jnode_for_each(param, jnode_get(node, "indexParams")) {
		if (table)
			walk_column(walk, table, jnode_str(param, "name"));
		walk_table_exprs(walk, table, jnode_get(param, "expr"));
	}
	jnode_for_each(param, jnode_get(node, "indexIncludingParams"))
		if (table)
			walk_column(walk, table, jnode_str(param, "name"));
	walk_table_exprs(walk, table, jnode_get(node, "whereClause"));
}

void ddl_statistics(struct walk *walk, const struct jnode *node)
{
	struct walk_object *table = NULL;

	walk_objects(walk, jnode_get(node, "defnames"), SQL_OBJ_OTHER, B(SCHEMA_CREATE));
	jnode_for_each(relation, jnode_get(node, "relations"))
		table = walk_relation(walk, relation, B(SCHEMA_CREATE));
	jnode_for_each(expr, jnode_get(node, "exprs")) {
		if (table)
			walk_column(walk, table, jnode_str(expr, "name"));
		walk_table_exprs(walk, table, jnode_get(expr, "expr"));
	}
}

/* --- what hangs on tables -------------------------------------------------------------------------------- */

void ddl_rule(struct walk *walk, const struct jnode *node)
{
	walk_relation(walk, jnode_get(node, "relation"), B(SCHEMA_ALTER));
	walk_object(walk, SQL_OBJ_OTHER, NULL, jnode_str(node, "rulename"), B(SCHEMA_CREATE));
	walk_stored(walk, jnode_get(node, "whereClause"));
	walk_stored(walk, jnode_get(node, "actions"));
}

void ddl_trigger(struct walk *walk, const struct jnode *node)
{
	struct walk_object *table = walk_relation(walk, jnode_get(node, "relation"), B(SCHEMA_ALTER));

	walk_object(walk, SQL_OBJ_OTHER, NULL, jnode_str(node, "trigname"), B(SCHEMA_CREATE));
	walk_objects(walk, jnode_get(node, "funcname"), SQL_OBJ_FUNCTION, 0);
	walk_relation(walk, jnode_get(node, "constrrel"), 0);
	jnode_for_each(column, jnode_get(node, "columns"))
		if (table)
			walk_column(walk, table, jnode_text(column));
	walk_stored(walk, jnode_get(node, "whenClause"));
}

void ddl_policy(struct walk *walk, const struct jnode *node)
{
	bool create = node->type == N_CreatePolicyStmt;
	struct walk_object *table = walk_relation(walk, jnode_get(node, "table"), B(PRIVILEGE));
	struct walk_scope scope;
	uint32_t mask = walk->mask;

	walk_object(walk, SQL_OBJ_OTHER, NULL, jnode_str(node, "policy_name"),
		    B(PRIVILEGE) | (create ? B(SCHEMA_CREATE) : B(SCHEMA_ALTER)));
	walk_objects(walk, jnode_get(node, "roles"), SQL_OBJ_ROLE, B(PRIVILEGE));
	walk_push_scope(walk, &scope);
	if (table)
		walk_add_range(walk, table, table->name);
	walk->mask = 0;
	walk_expr(walk, jnode_get(node, "qual"));
	walk_expr(walk, jnode_get(node, "with_check"));
	walk->mask = mask;
	walk_pop_scope(walk, &scope);
}

/* --- functions ------------------------------------------------------------------------------------------- */

static uint32_t security_effects(const struct jnode *options)
{
	const struct jnode *security = walk_option(options, "security");

	/* SECURITY DEFINER lends the owner's rights to every caller. */
	return security && jnode_bool(jnode_get(security, "arg"), "boolval") ? B(PRIVILEGE) : 0;
}

void ddl_create_function(struct walk *walk, const struct jnode *node)
{
	const struct jnode *options = jnode_get(node, "options");
	const char *language = jnode_text(jnode_get(walk_option(options, "language"), "arg"));
	uint32_t effects = B(SCHEMA_CREATE) | security_effects(options);

	walk_command(walk, jnode_bool(node, "is_procedure") ? "CREATE PROCEDURE" : "CREATE FUNCTION");
	if (jnode_bool(node, "replace"))
		effects |= B(SCHEMA_ALTER);
	if (language && sql_language_is_untrusted(language))
		effects |= B(UNSAFE_IO);
	walk_objects(walk, jnode_get(node, "funcname"), SQL_OBJ_FUNCTION, effects);
	if (language)
		walk_object(walk, SQL_OBJ_LANGUAGE, NULL, language, 0);
	walk_stored(walk, jnode_get(node, "parameters"));
	walk_stored(walk, jnode_get(node, "sql_body"));
	walk->literal_dependent = true;
}

void ddl_alter_function(struct walk *walk, const struct jnode *node)
{
	const struct walk_objtype *objtype = walk_objtype(jnode_str(node, "objtype"));

	walk_command(walk, walk_tag(walk, "ALTER", objtype->tag));
	walk_objects(walk, jnode_get(node, "func"), SQL_OBJ_FUNCTION,
		     B(SCHEMA_ALTER) | security_effects(jnode_get(node, "actions")));
}

/* --- any object ------------------------------------------------------------------------------------------ */

void ddl_drop(struct walk *walk, const struct jnode *node)
{
	const char *type = jnode_str(node, "removeType");

	walk_command(walk, walk_tag(walk, "DROP", walk_objtype(type)->tag));
	if (type && !strcmp(type, "OBJECT_PUBLICATION"))
		walk_effect(walk, B(REPLICATION));
	if (type && !strcmp(type, "OBJECT_POLICY"))
		walk_effect(walk, B(PRIVILEGE));
	jnode_for_each(object, jnode_get(node, "objects"))
		object_of(walk, type, object, B(SCHEMA_DESTROY));
}

void ddl_rename(struct walk *walk, const struct jnode *node)
{
	const char *type = jnode_str(node, "renameType"), *name = jnode_str(node, "subname");
	const struct walk_objtype *objtype = walk_objtype(type);
	const struct jnode *relation = jnode_get(node, "relation");
	uint32_t effects = B(SCHEMA_ALTER);
	struct walk_object *table;

	if (type && (!strcmp(type, "OBJECT_COLUMN") || !strcmp(type, "OBJECT_ATTRIBUTE")))
		objtype = walk_objtype(jnode_str(node, "relationType"));
	walk_command(walk, walk_tag(walk, "ALTER", objtype->tag));
	if (objtype->kind == SQL_OBJ_ROLE)
		effects |= B(PRIVILEGE);
	table = walk_relation(walk, relation, effects);
	if (relation && type && !strcmp(type, "OBJECT_COLUMN"))
		walk_column(walk, table, name);
	else if (relation && name && objtype->on_relation)
		walk_object(walk, objtype->kind, NULL, name, effects);
	else if (!relation && !jnode_get(node, "object"))
		walk_object(walk, objtype->kind, NULL, name, effects);
	walk_objects(walk, jnode_get(node, "object"), objtype->kind, effects);
}

void ddl_alter_object(struct walk *walk, const struct jnode *node)
{
	const char *type = jnode_str(node, "objectType");
	const struct walk_objtype *objtype = walk_objtype(type);

	walk_command(walk, walk_tag(walk, "ALTER", objtype->tag));
	if (jnode_get(node, "relation"))
		walk_relation(walk, jnode_get(node, "relation"), B(SCHEMA_ALTER));
	else
		object_of(walk, type, jnode_get(node, "object"), B(SCHEMA_ALTER));
	walk_objects(walk, jnode_get(node, "newschema"), SQL_OBJ_SCHEMA, 0);
}

void ddl_owner(struct walk *walk, const struct jnode *node)
{
	const char *type = jnode_str(node, "objectType");
	uint32_t effects = B(SCHEMA_ALTER) | B(PRIVILEGE);

	walk_command(walk, walk_tag(walk, "ALTER", walk_objtype(type)->tag));
	if (jnode_get(node, "relation"))
		walk_relation(walk, jnode_get(node, "relation"), effects);
	else
		object_of(walk, type, jnode_get(node, "object"), effects);
	walk_objects(walk, jnode_get(node, "newowner"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

void ddl_comment(struct walk *walk, const struct jnode *node)
{
	object_of(walk, jnode_str(node, "objtype"), jnode_get(node, "object"),
		  node->type == N_SecLabelStmt ? B(PRIVILEGE) : B(SCHEMA_ALTER));
}

void ddl_define(struct walk *walk, const struct jnode *node)
{
	const struct walk_objtype *objtype = walk_objtype(jnode_str(node, "kind"));

	walk_command(walk, walk_tag(walk, "CREATE", objtype->tag));
	walk_objects(walk, jnode_get(node, "defnames"), objtype->kind, B(SCHEMA_CREATE));
}

/* Its elements are statements that run. */
void ddl_schema(struct walk *walk, const struct jnode *node)
{
	const char *name = jnode_str(node, "schemaname");

	if (name)
		walk_object(walk, SQL_OBJ_SCHEMA, NULL, name, B(SCHEMA_CREATE));
	walk_objects(walk, jnode_get(node, "authrole"), SQL_OBJ_ROLE, B(PRIVILEGE));
	walk_expr(walk, jnode_get(node, "schemaElts"));
}

/* --- privileges ------------------------------------------------------------------------------------------ */

static void grant(struct walk *walk, const struct jnode *node, bool names_objects)
{
	const char *type = jnode_str(node, "objtype");
	bool in_schema = jnode_is(node, "targtype", "ACL_TARGET_ALL_IN_SCHEMA");
	const struct walk_objtype *objtype = walk_objtype(in_schema ? "OBJECT_SCHEMA" : type);

	jnode_for_each(object, names_objects ? jnode_get(node, "objects") : NULL) {
		walk_objects(walk, object, objtype->kind, B(PRIVILEGE));
		if (!jnode_get(object, "relname"))
			continue;
		jnode_for_each(privilege, jnode_get(node, "privileges"))
			jnode_for_each(column, jnode_get(privilege, "cols"))
				walk_column(walk, walk_relation(walk, object, 0), jnode_text(column));
	}
	walk_objects(walk, jnode_get(node, "grantees"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

void ddl_grant(struct walk *walk, const struct jnode *node)
{
	walk_command(walk, jnode_bool(node, "is_grant") ? "GRANT" : "REVOKE");
	grant(walk, node, true);
}

void ddl_default_privileges(struct walk *walk, const struct jnode *node)
{
	jnode_for_each(option, jnode_get(node, "options")) {
		const struct jnode *arg = jnode_get(option, "arg");
		bool schemas = jnode_is(option, "defname", "schemas");

		jnode_for_each(item, jnode_get(arg, "items"))
			walk_objects(walk, item, schemas ? SQL_OBJ_SCHEMA : SQL_OBJ_ROLE, B(PRIVILEGE));
	}
	grant(walk, jnode_get(node, "action"), false);
}

/* --- replication and foreign data ------------------------------------------------------------------------ */

void ddl_publication(struct walk *walk, const struct jnode *node)
{
	jnode_for_each(object, jnode_get(node, "pubobjects")) {
		const struct jnode *table = jnode_get(object, "pubtable");
		struct walk_object *relation = walk_relation(walk, jnode_get(table, "relation"), B(REPLICATION));

		if (!table)
			walk_objects(walk, jnode_get(object, "name"), SQL_OBJ_SCHEMA, B(REPLICATION));
		jnode_for_each(column, jnode_get(table, "columns"))
			if (relation)
				walk_column(walk, relation, jnode_text(column));
		if (relation)
			walk_table_exprs(walk, relation, jnode_get(table, "whereClause"));
	}
}

void ddl_import_schema(struct walk *walk, const struct jnode *node)
{
	walk_objects(walk, jnode_get(node, "server_name"), SQL_OBJ_OTHER, B(UNSAFE_IO));
	walk_objects(walk, jnode_get(node, "local_schema"), SQL_OBJ_SCHEMA, B(SCHEMA_CREATE));
}
