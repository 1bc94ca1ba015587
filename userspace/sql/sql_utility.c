// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the table of utility statements: for each its command tag, its effects and where its object's name is, or a
 * handler. A statement that is not in the table is not known.
 */
#include "sql/sql_walk.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "sql/sql_func.h"

#define B(effect) SQL_BIT(SQL_##effect)

static const struct walk_objtype objtypes[] = {
	{ "OBJECT_ACCESS_METHOD", "ACCESS METHOD", SQL_OBJ_OTHER, false },
	{ "OBJECT_AGGREGATE", "AGGREGATE", SQL_OBJ_FUNCTION, false },
	{ "OBJECT_AMOP", "OPERATOR FAMILY", SQL_OBJ_OTHER, false },
	{ "OBJECT_AMPROC", "OPERATOR FAMILY", SQL_OBJ_OTHER, false },
	{ "OBJECT_ATTRIBUTE", "TYPE", SQL_OBJ_TYPE, false },
	{ "OBJECT_CAST", "CAST", SQL_OBJ_OTHER, false },
	{ "OBJECT_COLUMN", "TABLE", SQL_OBJ_OTHER, true },
	{ "OBJECT_COLLATION", "COLLATION", SQL_OBJ_OTHER, false },
	{ "OBJECT_CONVERSION", "CONVERSION", SQL_OBJ_OTHER, false },
	{ "OBJECT_DATABASE", "DATABASE", SQL_OBJ_DATABASE, false },
	{ "OBJECT_DEFAULT", "TABLE", SQL_OBJ_OTHER, true },
	{ "OBJECT_DOMAIN", "DOMAIN", SQL_OBJ_TYPE, false },
	{ "OBJECT_DOMCONSTRAINT", "DOMAIN", SQL_OBJ_TYPE, false },
	{ "OBJECT_EVENT_TRIGGER", "EVENT TRIGGER", SQL_OBJ_OTHER, false },
	{ "OBJECT_EXTENSION", "EXTENSION", SQL_OBJ_EXTENSION, false },
	{ "OBJECT_FDW", "FOREIGN DATA WRAPPER", SQL_OBJ_OTHER, false },
	{ "OBJECT_FOREIGN_SERVER", "SERVER", SQL_OBJ_OTHER, false },
	{ "OBJECT_FOREIGN_TABLE", "FOREIGN TABLE", SQL_OBJ_RELATION, false },
	{ "OBJECT_FUNCTION", "FUNCTION", SQL_OBJ_FUNCTION, false },
	{ "OBJECT_INDEX", "INDEX", SQL_OBJ_RELATION, false },
	{ "OBJECT_LANGUAGE", "LANGUAGE", SQL_OBJ_LANGUAGE, false },
	{ "OBJECT_LARGEOBJECT", "LARGE OBJECT", SQL_OBJ_OTHER, false },
	{ "OBJECT_MATVIEW", "MATERIALIZED VIEW", SQL_OBJ_RELATION, false },
	{ "OBJECT_OPCLASS", "OPERATOR CLASS", SQL_OBJ_OTHER, false },
	{ "OBJECT_OPERATOR", "OPERATOR", SQL_OBJ_OTHER, false },
	{ "OBJECT_OPFAMILY", "OPERATOR FAMILY", SQL_OBJ_OTHER, false },
	{ "OBJECT_PARAMETER_ACL", "PARAMETER", SQL_OBJ_SETTING, false },
	{ "OBJECT_POLICY", "POLICY", SQL_OBJ_OTHER, true },
	{ "OBJECT_PROCEDURE", "PROCEDURE", SQL_OBJ_FUNCTION, false },
	{ "OBJECT_PUBLICATION", "PUBLICATION", SQL_OBJ_PUBLICATION, false },
	{ "OBJECT_ROLE", "ROLE", SQL_OBJ_ROLE, false },
	{ "OBJECT_ROUTINE", "ROUTINE", SQL_OBJ_FUNCTION, false },
	{ "OBJECT_RULE", "RULE", SQL_OBJ_OTHER, true },
	{ "OBJECT_SCHEMA", "SCHEMA", SQL_OBJ_SCHEMA, false },
	{ "OBJECT_SEQUENCE", "SEQUENCE", SQL_OBJ_RELATION, false },
	{ "OBJECT_SUBSCRIPTION", "SUBSCRIPTION", SQL_OBJ_OTHER, false },
	{ "OBJECT_STATISTIC_EXT", "STATISTICS", SQL_OBJ_OTHER, false },
	{ "OBJECT_TABCONSTRAINT", "TABLE", SQL_OBJ_OTHER, true },
	{ "OBJECT_TABLE", "TABLE", SQL_OBJ_RELATION, false },
	{ "OBJECT_TABLESPACE", "TABLESPACE", SQL_OBJ_TABLESPACE, false },
	{ "OBJECT_TRANSFORM", "TRANSFORM", SQL_OBJ_OTHER, false },
	{ "OBJECT_TRIGGER", "TRIGGER", SQL_OBJ_OTHER, true },
	{ "OBJECT_TSCONFIGURATION", "TEXT SEARCH CONFIGURATION", SQL_OBJ_OTHER, false },
	{ "OBJECT_TSDICTIONARY", "TEXT SEARCH DICTIONARY", SQL_OBJ_OTHER, false },
	{ "OBJECT_TSPARSER", "TEXT SEARCH PARSER", SQL_OBJ_OTHER, false },
	{ "OBJECT_TSTEMPLATE", "TEXT SEARCH TEMPLATE", SQL_OBJ_OTHER, false },
	{ "OBJECT_TYPE", "TYPE", SQL_OBJ_TYPE, false },
	{ "OBJECT_USER_MAPPING", "USER MAPPING", SQL_OBJ_OTHER, false },
	{ "OBJECT_VIEW", "VIEW", SQL_OBJ_RELATION, false },
};

const struct walk_objtype *walk_objtype(const char *type)
{
	static const struct walk_objtype other = { "", "OBJECT", SQL_OBJ_OTHER, false };

	for (size_t i = 0; type && i < sizeof(objtypes) / sizeof(objtypes[0]); i++)
		if (!strcmp(objtypes[i].type, type))
			return &objtypes[i];
	return &other;
}

const char *walk_tag(struct walk *walk, const char *verb, const char *what)
{
	size_t size = strlen(verb) + strlen(what) + 2;
	char *tag = sql_arena_alloc(walk->arena, size);

	if (!tag)
		return verb;
	snprintf(tag, size, "%s %s", verb, what);
	return tag;
}

void walk_objects(struct walk *walk, const struct jnode *value, enum sql_object_kind kind, uint32_t effects)
{
	const char *schema, *name;

	if (!value)
		return;
	if (jnode_get(value, "relname")) {
		/* CREATE TYPE writes its name as a table's. */
		walk_object(walk, kind == SQL_OBJ_TYPE ? kind : SQL_OBJ_RELATION, jnode_str(value, "schemaname"),
			    jnode_str(value, "relname"), effects);
	} else if (jnode_get(value, "roletype")) {
		name = jnode_str(value, "rolename");
		if (name)
			walk_object(walk, SQL_OBJ_ROLE, NULL, name, effects);
		else if (jnode_is(value, "roletype", "ROLESPEC_PUBLIC"))
			walk_object(walk, SQL_OBJ_ROLE, NULL, "public", effects);
	} else if (value->kind == JSON_ARRAY && value->child && !jnode_text(value->child)) {
		jnode_for_each(item, value)
			walk_objects(walk, item, kind, effects);
	} else if (walk_names(value, &schema, &name)) {
		walk_object(walk, kind, schema, name, effects);
	}
}

/* --- handlers -------------------------------------------------------------------------------------------- */

static void stmt_truncate(struct walk *walk, const struct jnode *node)
{
	jnode_for_each(relation, jnode_get(node, "relations"))
		walk_relation(walk, relation, B(DELETE))->all_columns = true;
	if (walk->mask & B(DELETE))
		walk->selective = SQL_SELECTIVE_NO;
}

static void copy_columns(struct walk *walk, const struct jnode *node, struct walk_object *table)
{
	const struct jnode *columns = jnode_get(node, "attlist");

	jnode_for_each(column, columns)
		walk_column(walk, table, jnode_text(column));
	if (!columns)
		table->all_columns = true;
}

/* A program's arguments may hold secrets: only its own name is an object. */
static const char *first_word(struct walk *walk, const char *line)
{
	size_t len = strcspn(line += strspn(line, " \t\n"), " \t\n");
	char *word = sql_arena_alloc(walk->arena, len + 1);

	return word ? memcpy(word, line, len) : "";
}

static void stmt_copy(struct walk *walk, const struct jnode *node)
{
	bool from = jnode_bool(node, "is_from"), program = jnode_bool(node, "is_program");
	uint32_t effects = from ? B(BULK_LOAD) | B(WRITE) : B(BULK_EXPORT) | B(READ);
	const char *file = jnode_str(node, "filename");
	struct walk_object *table;

	walk_effect(walk, from ? B(BULK_LOAD) : B(BULK_EXPORT));
	table = walk_relation(walk, jnode_get(node, "relation"), effects);
	if (table) {
		struct walk_scope scope;

		copy_columns(walk, node, table);
		walk_push_scope(walk, &scope);
		walk_add_range(walk, table, table->name);
		walk_expr(walk, jnode_get(node, "whereClause"));
		walk_pop_scope(walk, &scope);
	}
	walk_expr(walk, jnode_get(node, "query"));
	if (file)
		walk_object(walk, program ? SQL_OBJ_PROGRAM : SQL_OBJ_FILE, NULL,
			    program ? first_word(walk, file) : file, B(UNSAFE_IO));
	walk->literal_dependent = true;
}

/* Option values as defGetBoolean() reads them. */
static bool option_is_on(struct walk *walk, const struct jnode *option)
{
	const struct jnode *arg = jnode_get(option, "arg");
	const char *text = jnode_text(arg);

	if (!option)
		return false;
	if (!arg)
		return true;
	walk->literal_dependent = true;
	if (arg->type == N_Integer)
		return jnode_num(arg, "ival") != 0;
	return !text || (strcasecmp(text, "false") != 0 && strcasecmp(text, "off") != 0);
}

static void stmt_explain(struct walk *walk, const struct jnode *node)
{
	uint32_t mask = walk->mask;

	/* Only planned: what it would touch is looked at, not changed. */
	if (!option_is_on(walk, walk_option(jnode_get(node, "options"), "analyze")))
		walk->mask &= B(READ);
	walk_expr(walk, jnode_get(node, "query"));
	walk->mask = mask;
}

static void stmt_do(struct walk *walk, const struct jnode *node)
{
	const struct jnode *option = walk_option(jnode_get(node, "args"), "language");
	const char *language = jnode_text(jnode_get(option, "arg"));

	if (language) {
		bool untrusted = sql_language_is_untrusted(language);

		walk_object(walk, SQL_OBJ_LANGUAGE, NULL, language, B(PROCEDURAL) | (untrusted ? B(UNSAFE_IO) : 0));
	}
	walk->literal_dependent = true;
}

static void stmt_call(struct walk *walk, const struct jnode *node)
{
	const struct jnode *call = jnode_get(node, "funccall");
	const char *schema, *name;

	if (walk_names(jnode_get(call, "funcname"), &schema, &name))
		walk_object(walk, SQL_OBJ_FUNCTION, schema, name, B(PROCEDURAL));
	walk_call(walk, call);
}

static const struct setting {
	const char *name;
	uint32_t effects;
} settings[] = {
	{ "role", B(PRIVILEGE) },
	{ "session_authorization", B(PRIVILEGE) },
	{ "row_security", B(PRIVILEGE) },
	{ "session_replication_role", B(PRIVILEGE) },
	{ "local_preload_libraries", B(UNSAFE_IO) },
	{ "session_preload_libraries", B(UNSAFE_IO) },
	{ "dynamic_library_path", B(UNSAFE_IO) },
	{ "TRANSACTION", B(TRANSACTION) },
	{ "SESSION CHARACTERISTICS", B(TRANSACTION) },
	{ "TRANSACTION SNAPSHOT", B(TRANSACTION) },
};

static uint32_t setting_effects(const char *name)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (!strcasecmp(settings[i].name, name))
			return settings[i].effects;
	if (!strncasecmp(name, "transaction_", 12) || !strncasecmp(name, "default_transaction_", 20))
		return B(TRANSACTION);
	return 0;
}

/* Names of settings are the same in any case. */
static const char *lower(struct walk *walk, const char *name)
{
	char *copy = sql_arena_alloc(walk->arena, strlen(name) + 1);

	for (size_t i = 0; copy && name[i]; i++)
		copy[i] = name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 32 : name[i];
	return copy ? copy : name;
}

/* The setting of a VariableSetStmt, wrapped or not, as an object with @effects. */
static void walk_setting(struct walk *walk, const struct jnode *set, uint32_t effects)
{
	const char *name = jnode_str(set, "name");

	walk->literal_dependent = true;
	if (name && !strcmp(name, "TRANSACTION SNAPSHOT")) {
		walk_effect(walk, effects | B(TRANSACTION));
		return;
	}
	if (!name) {
		walk_object(walk, SQL_OBJ_SETTING, NULL, "all", effects);
		return;
	}
	/* SET TRANSACTION and SET SESSION CHARACTERISTICS hold a list of settings. */
	if (jnode_is(set, "kind", "VAR_SET_MULTI")) {
		walk_effect(walk, effects | B(TRANSACTION));
		jnode_for_each(arg, jnode_get(set, "args"))
			if (jnode_str(arg, "defname"))
				walk_object(walk, SQL_OBJ_SETTING, NULL, jnode_str(arg, "defname"),
					    effects | B(TRANSACTION));
		return;
	}
	walk_object(walk, SQL_OBJ_SETTING, NULL, lower(walk, name), effects | setting_effects(name));
}

static void stmt_set(struct walk *walk, const struct jnode *node)
{
	const char *kind = jnode_str(node, "kind"), *name = jnode_str(node, "name");

	walk_command(walk, kind && !strncmp(kind, "VAR_RESET", 9) ? "RESET" : "SET");
	walk_setting(walk, node, B(SESSION));
	if (!name)
		return;
	jnode_for_each(arg, jnode_get(node, "args")) {
		const char *value = jnode_str(jnode_get(arg, "sval"), "sval");

		if (value && (!strcasecmp(name, "role") || !strcasecmp(name, "session_authorization")))
			walk_object(walk, SQL_OBJ_ROLE, NULL, value, B(SESSION) | B(PRIVILEGE));
	}
}

static void stmt_alter_system(struct walk *walk, const struct jnode *node)
{
	walk_setting(walk, jnode_get(node, "setstmt"), B(MAINTENANCE) | B(UNSAFE_IO));
}

static void stmt_database_set(struct walk *walk, const struct jnode *node)
{
	walk_objects(walk, jnode_get(node, "dbname"), SQL_OBJ_DATABASE, B(SCHEMA_ALTER));
	walk_setting(walk, jnode_get(node, "setstmt"), B(SCHEMA_ALTER));
}

static void stmt_role_set(struct walk *walk, const struct jnode *node)
{
	walk_objects(walk, jnode_get(node, "role"), SQL_OBJ_ROLE, B(PRIVILEGE));
	walk_objects(walk, jnode_get(node, "database"), SQL_OBJ_DATABASE, B(PRIVILEGE));
	walk_setting(walk, jnode_get(node, "setstmt"), B(PRIVILEGE));
}

static void stmt_show(struct walk *walk, const struct jnode *node)
{
	const char *name = jnode_str(node, "name");

	walk_object(walk, SQL_OBJ_SETTING, NULL, name ? lower(walk, name) : "all", B(READ));
}

static void stmt_transaction(struct walk *walk, const struct jnode *node)
{
	static const char *const tags[][2] = {
		{ "TRANS_STMT_BEGIN", "BEGIN" },
		{ "TRANS_STMT_START", "START TRANSACTION" },
		{ "TRANS_STMT_COMMIT", "COMMIT" },
		{ "TRANS_STMT_ROLLBACK", "ROLLBACK" },
		{ "TRANS_STMT_SAVEPOINT", "SAVEPOINT" },
		{ "TRANS_STMT_RELEASE", "RELEASE" },
		{ "TRANS_STMT_ROLLBACK_TO", "ROLLBACK" },
		{ "TRANS_STMT_PREPARE", "PREPARE TRANSACTION" },
		{ "TRANS_STMT_COMMIT_PREPARED", "COMMIT PREPARED" },
		{ "TRANS_STMT_ROLLBACK_PREPARED", "ROLLBACK PREPARED" },
	};

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (jnode_is(node, "kind", tags[i][0]))
			walk_command(walk, tags[i][1]);
	jnode_for_each(option, jnode_get(node, "options"))
		if (jnode_str(option, "defname"))
			walk_object(walk, SQL_OBJ_SETTING, NULL, jnode_str(option, "defname"), B(TRANSACTION));
}

static void stmt_discard(struct walk *walk, const struct jnode *node)
{
	const char *target = jnode_str(node, "target");

	walk_command(walk, walk_tag(walk, "DISCARD", target && strlen(target) > 8 ? target + 8 : "ALL"));
}

static void stmt_vacuum(struct walk *walk, const struct jnode *node)
{
	walk_command(walk, jnode_bool(node, "is_vacuumcmd") ? "VACUUM" : "ANALYZE");
	jnode_for_each(item, jnode_get(node, "rels")) {
		struct walk_object *table = walk_relation(walk, jnode_get(item, "relation"), B(MAINTENANCE));

		jnode_for_each(column, jnode_get(item, "va_cols"))
			walk_column(walk, table, jnode_text(column));
	}
}

static void stmt_reindex(struct walk *walk, const struct jnode *node)
{
	const char *kind = jnode_str(node, "kind"), *name = jnode_str(node, "name");
	bool schema = kind && !strcmp(kind, "REINDEX_OBJECT_SCHEMA");

	walk_relation(walk, jnode_get(node, "relation"), B(MAINTENANCE));
	if (name)
		walk_object(walk, schema ? SQL_OBJ_SCHEMA : SQL_OBJ_DATABASE, NULL, name, B(MAINTENANCE));
}

static void stmt_load(struct walk *walk, const struct jnode *node)
{
	walk_object(walk, SQL_OBJ_FILE, NULL, jnode_str(node, "filename"), B(UNSAFE_IO));
	walk->literal_dependent = true;
}

/* CREATE LANGUAGE comes here too, and its name may be a literal. */
static void stmt_create_extension(struct walk *walk, const struct jnode *node)
{
	walk_object(walk, SQL_OBJ_EXTENSION, NULL, jnode_str(node, "extname"), B(SCHEMA_CREATE) | B(UNSAFE_IO));
	walk->literal_dependent = true;
}

static void stmt_create_language(struct walk *walk, const struct jnode *node)
{
	walk_object(walk, SQL_OBJ_LANGUAGE, NULL, jnode_str(node, "plname"), B(SCHEMA_CREATE) | B(UNSAFE_IO));
	walk->literal_dependent = true;
}

static void stmt_fetch(struct walk *walk, const struct jnode *node)
{
	bool move = jnode_bool(node, "ismove");

	walk_command(walk, move ? "MOVE" : "FETCH");
	walk_object(walk, SQL_OBJ_OTHER, NULL, jnode_str(node, "portalname"), move ? B(SESSION) : B(READ));
}

static void stmt_close(struct walk *walk, const struct jnode *node)
{
	const char *name = jnode_str(node, "portalname");

	walk_command(walk, name ? "CLOSE CURSOR" : "CLOSE CURSOR ALL");
	if (name)
		walk_object(walk, SQL_OBJ_OTHER, NULL, name, B(SESSION));
}

static void stmt_deallocate(struct walk *walk, const struct jnode *node)
{
	const char *name = jnode_str(node, "name");

	walk_command(walk, name ? "DEALLOCATE" : "DEALLOCATE ALL");
	if (name)
		walk_object(walk, SQL_OBJ_PREPARED, NULL, name, B(SESSION));
}

static void stmt_execute(struct walk *walk, const struct jnode *node)
{
	walk_object(walk, SQL_OBJ_PREPARED, NULL, jnode_str(node, "name"), B(PROCEDURAL));
	walk_expr(walk, jnode_get(node, "params"));
	walk->literal_dependent = true;
}

static void stmt_create_role(struct walk *walk, const struct jnode *node)
{
	walk_object(walk, SQL_OBJ_ROLE, NULL, jnode_str(node, "role"), B(PRIVILEGE));
	jnode_for_each(option, jnode_get(node, "options"))
		walk_objects(walk, jnode_get(jnode_get(option, "arg"), "items"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

static void stmt_alter_role(struct walk *walk, const struct jnode *node)
{
	walk_objects(walk, jnode_get(node, "role"), SQL_OBJ_ROLE, B(PRIVILEGE));
	jnode_for_each(option, jnode_get(node, "options"))
		walk_objects(walk, jnode_get(jnode_get(option, "arg"), "items"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

static void stmt_grant_role(struct walk *walk, const struct jnode *node)
{
	walk_command(walk, jnode_bool(node, "is_grant") ? "GRANT ROLE" : "REVOKE ROLE");
	/* Granted roles are written like privileges. */
	jnode_for_each(role, jnode_get(node, "granted_roles"))
		walk_object(walk, SQL_OBJ_ROLE, NULL, jnode_str(role, "priv_name"), B(PRIVILEGE));
	walk_objects(walk, jnode_get(node, "grantee_roles"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

static void stmt_reassign(struct walk *walk, const struct jnode *node)
{
	walk_objects(walk, jnode_get(node, "roles"), SQL_OBJ_ROLE, B(PRIVILEGE));
	walk_objects(walk, jnode_get(node, "newrole"), SQL_OBJ_ROLE, B(PRIVILEGE));
}

/* --- the table ------------------------------------------------------------------------------------------- */

/* Effects go to the statement and to the objects that @field holds; then the handler; without one, all fields. */
static const struct utility {
	const char *command;	/* NULL: the handler says it */
	uint32_t effects;
	enum sql_object_kind kind;
	const char *field;	/* NULL: no object, or the handler's */
	walk_stmt_fn fn;
} utilities[N_MAX] = {
	[N_TruncateStmt] = { "TRUNCATE TABLE", B(DELETE), 0, NULL, stmt_truncate },
	[N_CopyStmt] = { "COPY", 0, 0, NULL, stmt_copy },
	[N_ExplainStmt] = { "EXPLAIN", 0, 0, NULL, stmt_explain },
	[N_DoStmt] = { "DO", B(PROCEDURAL), 0, NULL, stmt_do },
	[N_CallStmt] = { "CALL", B(PROCEDURAL), 0, NULL, stmt_call },
	[N_VariableSetStmt] = { NULL, B(SESSION), 0, NULL, stmt_set },
	[N_VariableShowStmt] = { "SHOW", 0, 0, NULL, stmt_show },
	[N_AlterSystemStmt] = { "ALTER SYSTEM", B(MAINTENANCE) | B(UNSAFE_IO), 0, NULL, stmt_alter_system },
	[N_AlterDatabaseSetStmt] = { "ALTER DATABASE", B(SCHEMA_ALTER), 0, NULL, stmt_database_set },
	[N_AlterRoleSetStmt] = { "ALTER ROLE", B(PRIVILEGE), 0, NULL, stmt_role_set },
	[N_TransactionStmt] = { NULL, B(TRANSACTION), 0, NULL, stmt_transaction },
	[N_ConstraintsSetStmt] = { "SET CONSTRAINTS", B(TRANSACTION), 0, NULL, NULL },
	[N_DiscardStmt] = { NULL, B(SESSION), 0, NULL, stmt_discard },
	[N_VacuumStmt] = { NULL, B(MAINTENANCE), 0, NULL, stmt_vacuum },
	[N_ReindexStmt] = { "REINDEX", B(MAINTENANCE), 0, NULL, stmt_reindex },
	[N_ClusterStmt] = { "CLUSTER", B(MAINTENANCE), SQL_OBJ_RELATION, "relation", NULL },
	[N_CheckPointStmt] = { "CHECKPOINT", B(MAINTENANCE), 0, NULL, NULL },
	[N_RefreshMatViewStmt] = { "REFRESH MATERIALIZED VIEW", B(MAINTENANCE), SQL_OBJ_RELATION, "relation", NULL },
	[N_LoadStmt] = { "LOAD", B(UNSAFE_IO), 0, NULL, stmt_load },
	[N_LockStmt] = { "LOCK TABLE", B(LOCK), SQL_OBJ_RELATION, "relations", NULL },
	[N_NotifyStmt] = { "NOTIFY", B(NOTIFY), SQL_OBJ_CHANNEL, "conditionname", NULL },
	[N_ListenStmt] = { "LISTEN", B(NOTIFY), SQL_OBJ_CHANNEL, "conditionname", NULL },
	[N_UnlistenStmt] = { "UNLISTEN", B(NOTIFY), SQL_OBJ_CHANNEL, "conditionname", NULL },
	[N_FetchStmt] = { NULL, 0, 0, NULL, stmt_fetch },
	[N_ClosePortalStmt] = { NULL, B(SESSION), 0, NULL, stmt_close },
	[N_DeclareCursorStmt] = { "DECLARE CURSOR", B(SESSION), SQL_OBJ_OTHER, "portalname", NULL },
	[N_PrepareStmt] = { "PREPARE", B(SESSION), SQL_OBJ_PREPARED, "name", NULL },
	[N_ExecuteStmt] = { "EXECUTE", B(PROCEDURAL), 0, NULL, stmt_execute },
	[N_DeallocateStmt] = { NULL, B(SESSION), 0, NULL, stmt_deallocate },

	[N_CreateStmt] = { "CREATE TABLE", B(SCHEMA_CREATE), 0, NULL, ddl_create_table },
	[N_CreateForeignTableStmt] = { "CREATE FOREIGN TABLE", B(SCHEMA_CREATE) | B(UNSAFE_IO), 0, NULL,
				       ddl_create_foreign_table },
	[N_CreateTableAsStmt] = { NULL, B(SCHEMA_CREATE), 0, NULL, ddl_table_as },
	[N_ViewStmt] = { "CREATE VIEW", B(SCHEMA_CREATE), 0, NULL, ddl_view },
	[N_IndexStmt] = { "CREATE INDEX", B(SCHEMA_CREATE), 0, NULL, ddl_index },
	[N_CreateFunctionStmt] = { NULL, B(SCHEMA_CREATE), 0, NULL, ddl_create_function },
	[N_AlterFunctionStmt] = { NULL, B(SCHEMA_ALTER), 0, NULL, ddl_alter_function },
	[N_AlterTableStmt] = { NULL, B(SCHEMA_ALTER), 0, NULL, ddl_alter_table },
	[N_AlterTableMoveAllStmt] = { "ALTER TABLE", B(SCHEMA_ALTER), SQL_OBJ_TABLESPACE, "orig_tablespacename",
				      NULL },
	[N_DropStmt] = { NULL, B(SCHEMA_DESTROY), 0, NULL, ddl_drop },
	[N_RenameStmt] = { NULL, B(SCHEMA_ALTER), 0, NULL, ddl_rename },
	[N_AlterObjectSchemaStmt] = { NULL, B(SCHEMA_ALTER), 0, NULL, ddl_alter_object },
	[N_AlterObjectDependsStmt] = { NULL, B(SCHEMA_ALTER), 0, NULL, ddl_alter_object },
	[N_AlterOwnerStmt] = { NULL, B(SCHEMA_ALTER) | B(PRIVILEGE), 0, NULL, ddl_owner },
	[N_CommentStmt] = { "COMMENT", B(SCHEMA_ALTER), 0, NULL, ddl_comment },
	[N_SecLabelStmt] = { "SECURITY LABEL", B(PRIVILEGE), 0, NULL, ddl_comment },
	[N_DefineStmt] = { NULL, B(SCHEMA_CREATE), 0, NULL, ddl_define },
	[N_RuleStmt] = { "CREATE RULE", B(SCHEMA_CREATE) | B(SCHEMA_ALTER), 0, NULL, ddl_rule },
	[N_CreateTrigStmt] = { "CREATE TRIGGER", B(SCHEMA_CREATE) | B(SCHEMA_ALTER), 0, NULL, ddl_trigger },
	[N_CreatePolicyStmt] = { "CREATE POLICY", B(SCHEMA_CREATE) | B(PRIVILEGE), 0, NULL, ddl_policy },
	[N_AlterPolicyStmt] = { "ALTER POLICY", B(SCHEMA_ALTER) | B(PRIVILEGE), 0, NULL, ddl_policy },
	[N_CreateSchemaStmt] = { "CREATE SCHEMA", B(SCHEMA_CREATE), 0, NULL, ddl_schema },
	[N_GrantStmt] = { NULL, B(PRIVILEGE), 0, NULL, ddl_grant },
	[N_AlterDefaultPrivilegesStmt] = { "ALTER DEFAULT PRIVILEGES", B(PRIVILEGE), 0, NULL,
					   ddl_default_privileges },
	[N_CreateStatsStmt] = { "CREATE STATISTICS", B(SCHEMA_CREATE), 0, NULL, ddl_statistics },
	[N_AlterStatsStmt] = { "ALTER STATISTICS", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "defnames", NULL },
	[N_CreateSeqStmt] = { "CREATE SEQUENCE", B(SCHEMA_CREATE), SQL_OBJ_RELATION, "sequence", NULL },
	[N_AlterSeqStmt] = { "ALTER SEQUENCE", B(SCHEMA_ALTER), SQL_OBJ_RELATION, "sequence", NULL },
	[N_CreateDomainStmt] = { "CREATE DOMAIN", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "domainname", NULL },
	[N_AlterDomainStmt] = { "ALTER DOMAIN", B(SCHEMA_ALTER), SQL_OBJ_TYPE, "typeName", NULL },
	[N_CompositeTypeStmt] = { "CREATE TYPE", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "typevar", NULL },
	[N_CreateEnumStmt] = { "CREATE TYPE", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "typeName", NULL },
	[N_CreateRangeStmt] = { "CREATE TYPE", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "typeName", NULL },
	[N_AlterEnumStmt] = { "ALTER TYPE", B(SCHEMA_ALTER), SQL_OBJ_TYPE, "typeName", NULL },
	[N_AlterTypeStmt] = { "ALTER TYPE", B(SCHEMA_ALTER), SQL_OBJ_TYPE, "typeName", NULL },
	[N_AlterOperatorStmt] = { "ALTER OPERATOR", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "opername", NULL },
	[N_AlterCollationStmt] = { "ALTER COLLATION", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "collname", NULL },
	[N_CreateConversionStmt] = { "CREATE CONVERSION", B(SCHEMA_CREATE), SQL_OBJ_OTHER, "conversion_name", NULL },
	[N_CreateCastStmt] = { "CREATE CAST", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "sourcetype", NULL },
	[N_CreateTransformStmt] = { "CREATE TRANSFORM", B(SCHEMA_CREATE), SQL_OBJ_TYPE, "type_name", NULL },
	[N_CreateOpClassStmt] = { "CREATE OPERATOR CLASS", B(SCHEMA_CREATE), SQL_OBJ_OTHER, "opclassname", NULL },
	[N_CreateOpFamilyStmt] = { "CREATE OPERATOR FAMILY", B(SCHEMA_CREATE), SQL_OBJ_OTHER, "opfamilyname", NULL },
	[N_AlterOpFamilyStmt] = { "ALTER OPERATOR FAMILY", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "opfamilyname", NULL },
	[N_CreateAmStmt] = { "CREATE ACCESS METHOD", B(SCHEMA_CREATE) | B(UNSAFE_IO), SQL_OBJ_OTHER, "amname", NULL },
	[N_AlterTSDictionaryStmt] = { "ALTER TEXT SEARCH DICTIONARY", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "dictname",
				      NULL },
	[N_AlterTSConfigurationStmt] = { "ALTER TEXT SEARCH CONFIGURATION", B(SCHEMA_ALTER), SQL_OBJ_OTHER,
					 "cfgname", NULL },
	[N_CreateExtensionStmt] = { "CREATE EXTENSION", B(SCHEMA_CREATE) | B(UNSAFE_IO), 0, NULL,
				    stmt_create_extension },
	[N_AlterExtensionStmt] = { "ALTER EXTENSION", B(SCHEMA_ALTER) | B(UNSAFE_IO), SQL_OBJ_EXTENSION, "extname",
				   NULL },
	[N_AlterExtensionContentsStmt] = { "ALTER EXTENSION", B(SCHEMA_ALTER), SQL_OBJ_EXTENSION, "extname", NULL },
	[N_CreatePLangStmt] = { "CREATE LANGUAGE", B(SCHEMA_CREATE) | B(UNSAFE_IO), 0, NULL, stmt_create_language },
	[N_CreateFdwStmt] = { "CREATE FOREIGN DATA WRAPPER", B(SCHEMA_CREATE) | B(UNSAFE_IO), SQL_OBJ_OTHER, "fdwname",
			      NULL },
	[N_AlterFdwStmt] = { "ALTER FOREIGN DATA WRAPPER", B(SCHEMA_ALTER) | B(UNSAFE_IO), SQL_OBJ_OTHER, "fdwname",
			     NULL },
	[N_CreateForeignServerStmt] = { "CREATE SERVER", B(SCHEMA_CREATE) | B(UNSAFE_IO), SQL_OBJ_OTHER, "servername",
					NULL },
	[N_AlterForeignServerStmt] = { "ALTER SERVER", B(SCHEMA_ALTER) | B(UNSAFE_IO), SQL_OBJ_OTHER, "servername",
				       NULL },
	[N_CreateUserMappingStmt] = { "CREATE USER MAPPING", B(SCHEMA_CREATE) | B(PRIVILEGE), SQL_OBJ_OTHER,
				      "servername", NULL },
	[N_AlterUserMappingStmt] = { "ALTER USER MAPPING", B(SCHEMA_ALTER) | B(PRIVILEGE), SQL_OBJ_OTHER, "servername",
				     NULL },
	[N_DropUserMappingStmt] = { "DROP USER MAPPING", B(SCHEMA_DESTROY) | B(PRIVILEGE), SQL_OBJ_OTHER,
				    "servername", NULL },
	[N_ImportForeignSchemaStmt] = { "IMPORT FOREIGN SCHEMA", B(SCHEMA_CREATE) | B(UNSAFE_IO), 0, NULL,
					ddl_import_schema },
	[N_CreateEventTrigStmt] = { "CREATE EVENT TRIGGER", B(SCHEMA_CREATE), SQL_OBJ_OTHER, "trigname", NULL },
	[N_AlterEventTrigStmt] = { "ALTER EVENT TRIGGER", B(SCHEMA_ALTER), SQL_OBJ_OTHER, "trigname", NULL },
	[N_CreateTableSpaceStmt] = { "CREATE TABLESPACE", B(SCHEMA_CREATE) | B(UNSAFE_IO), SQL_OBJ_TABLESPACE,
				     "tablespacename", NULL },
	[N_DropTableSpaceStmt] = { "DROP TABLESPACE", B(SCHEMA_DESTROY), SQL_OBJ_TABLESPACE, "tablespacename", NULL },
	[N_AlterTableSpaceOptionsStmt] = { "ALTER TABLESPACE", B(SCHEMA_ALTER), SQL_OBJ_TABLESPACE, "tablespacename",
					   NULL },
	[N_CreatedbStmt] = { "CREATE DATABASE", B(SCHEMA_CREATE), SQL_OBJ_DATABASE, "dbname", NULL },
	[N_DropdbStmt] = { "DROP DATABASE", B(SCHEMA_DESTROY), SQL_OBJ_DATABASE, "dbname", NULL },
	[N_AlterDatabaseStmt] = { "ALTER DATABASE", B(SCHEMA_ALTER), SQL_OBJ_DATABASE, "dbname", NULL },
	[N_AlterDatabaseRefreshCollStmt] = { "ALTER DATABASE", B(SCHEMA_ALTER), SQL_OBJ_DATABASE, "dbname", NULL },
	[N_CreateRoleStmt] = { "CREATE ROLE", B(PRIVILEGE), 0, NULL, stmt_create_role },
	[N_AlterRoleStmt] = { "ALTER ROLE", B(PRIVILEGE), 0, NULL, stmt_alter_role },
	[N_DropRoleStmt] = { "DROP ROLE", B(PRIVILEGE) | B(SCHEMA_DESTROY), SQL_OBJ_ROLE, "roles", NULL },
	[N_GrantRoleStmt] = { NULL, B(PRIVILEGE), 0, NULL, stmt_grant_role },
	[N_DropOwnedStmt] = { "DROP OWNED", B(PRIVILEGE) | B(SCHEMA_DESTROY), SQL_OBJ_ROLE, "roles", NULL },
	[N_ReassignOwnedStmt] = { "REASSIGN OWNED", B(PRIVILEGE), 0, NULL, stmt_reassign },
	[N_CreatePublicationStmt] = { "CREATE PUBLICATION", B(SCHEMA_CREATE) | B(REPLICATION), SQL_OBJ_PUBLICATION,
				      "pubname", ddl_publication },
	[N_AlterPublicationStmt] = { "ALTER PUBLICATION", B(SCHEMA_ALTER) | B(REPLICATION), SQL_OBJ_PUBLICATION,
				     "pubname", ddl_publication },
	[N_CreateSubscriptionStmt] = { "CREATE SUBSCRIPTION", B(SCHEMA_CREATE) | B(REPLICATION), SQL_OBJ_OTHER,
				       "subname", NULL },
	[N_AlterSubscriptionStmt] = { "ALTER SUBSCRIPTION", B(SCHEMA_ALTER) | B(REPLICATION), SQL_OBJ_OTHER,
				      "subname", NULL },
	[N_DropSubscriptionStmt] = { "DROP SUBSCRIPTION", B(SCHEMA_DESTROY) | B(REPLICATION), SQL_OBJ_OTHER,
				     "subname", NULL },
};

bool walk_utility(struct walk *walk, const struct jnode *node)
{
	const struct utility *row = &utilities[node->type];

	if (!row->command && !row->fn)
		return false;
	if (row->command)
		walk_command(walk, row->command);
	walk_effect(walk, row->effects);
	if (row->field)
		walk_objects(walk, jnode_get(node, row->field), row->kind, row->effects);
	if (row->fn) {
		row->fn(walk, node);
		return true;
	}
	jnode_for_each(field, node)
		if (field->kind >= JSON_ARRAY && (!row->field || strcmp(field->key, row->field) != 0))
			walk_expr(walk, field);
	return true;
}
