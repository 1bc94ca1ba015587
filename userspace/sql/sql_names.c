// SPDX-License-Identifier: Apache-2.0
/* The printed names of every enum of sql.h, and the way back for those that policies write. */
#include "sql/sql.h"

#include <string.h>

#define NAME_OF(names, value) \
	((unsigned)(value) < sizeof(names) / sizeof((names)[0]) ? (names)[value] : "invalid")

static const char *const effect_names[SQL_EFFECT_MAX] = {
	[SQL_EFFECT_NONE] = "none",
	[SQL_READ] = "read",
	[SQL_WRITE] = "write",
	[SQL_MODIFY] = "modify",
	[SQL_DELETE] = "delete",
	[SQL_BULK_LOAD] = "bulk_load",
	[SQL_BULK_EXPORT] = "bulk_export",
	[SQL_SCHEMA_CREATE] = "schema_create",
	[SQL_SCHEMA_ALTER] = "schema_alter",
	[SQL_SCHEMA_DESTROY] = "schema_destroy",
	[SQL_PRIVILEGE] = "privilege",
	[SQL_TRANSACTION] = "transaction",
	[SQL_SESSION] = "session",
	[SQL_MAINTENANCE] = "maintenance",
	[SQL_LOCK] = "lock",
	[SQL_NOTIFY] = "notify",
	[SQL_PROCEDURAL] = "procedural",
	[SQL_UNSAFE_IO] = "unsafe_io",
	[SQL_REPLICATION] = "replication",
	[SQL_UNKNOWN] = "unknown",
};

static const char *const kind_names[SQL_OBJ_KIND_MAX] = {
	[SQL_OBJ_RELATION] = "relation",
	[SQL_OBJ_FUNCTION] = "function",
	[SQL_OBJ_TYPE] = "type",
	[SQL_OBJ_SCHEMA] = "schema",
	[SQL_OBJ_DATABASE] = "database",
	[SQL_OBJ_ROLE] = "role",
	[SQL_OBJ_EXTENSION] = "extension",
	[SQL_OBJ_LANGUAGE] = "language",
	[SQL_OBJ_SETTING] = "setting",
	[SQL_OBJ_FILE] = "file",
	[SQL_OBJ_PROGRAM] = "program",
	[SQL_OBJ_PREPARED] = "prepared",
	[SQL_OBJ_CHANNEL] = "channel",
	[SQL_OBJ_TABLESPACE] = "tablespace",
	[SQL_OBJ_PUBLICATION] = "publication",
	[SQL_OBJ_OTHER] = "other",
};

static const char *const risk_names[SQL_RISK_MAX] = {
	[SQL_RISK_NONE] = "none",
	[SQL_RISK_UNKNOWN] = "unknown",
	[SQL_RISK_DYNAMIC] = "dynamic",
	[SQL_RISK_FILE] = "file",
	[SQL_RISK_NETWORK] = "network",
	[SQL_RISK_ADMIN] = "admin",
	[SQL_RISK_DOS] = "dos",
	[SQL_RISK_REPLICATION] = "replication",
};

static const char *const unknown_names[SQL_UNKNOWN_MAX] = {
	[SQL_KNOWN] = "known",
	[SQL_UNKNOWN_SYNTAX] = "syntax",
	[SQL_UNKNOWN_TOO_LONG] = "too_long",
	[SQL_UNKNOWN_NUL] = "nul",
	[SQL_UNKNOWN_OPERATOR_RUN] = "operator_run",
	[SQL_UNKNOWN_COMMENT_NESTING] = "comment_nesting",
	[SQL_UNKNOWN_DEPTH] = "depth",
	[SQL_UNKNOWN_TOO_MANY] = "too_many",
	[SQL_UNKNOWN_NODE] = "node",
	[SQL_UNKNOWN_TRUNCATED] = "truncated",
	[SQL_UNKNOWN_EMPTY_SOURCE] = "empty_source",
	[SQL_UNKNOWN_RESOURCE] = "resource",
	[SQL_UNKNOWN_DOUBT] = "doubt",
	[SQL_UNKNOWN_OVERLOAD] = "overload",
};

static unsigned lookup(const char *const *names, unsigned cnt, const char *name)
{
	for (unsigned i = 0; name && i < cnt; i++)
		if (!strcmp(names[i], name))
			return i;
	return cnt;
}

const char *sql_effect_name(enum sql_effect effect)
{
	return NAME_OF(effect_names, effect);
}

enum sql_effect sql_effect_from_name(const char *name)
{
	return (enum sql_effect)lookup(effect_names, SQL_EFFECT_MAX, name);
}

const char *sql_object_kind_name(enum sql_object_kind kind)
{
	return NAME_OF(kind_names, kind);
}

const char *sql_func_risk_name(enum sql_func_risk risk)
{
	return NAME_OF(risk_names, risk);
}

enum sql_func_risk sql_func_risk_from_name(const char *name)
{
	return (enum sql_func_risk)lookup(risk_names, SQL_RISK_MAX, name);
}

const char *sql_unknown_name(enum sql_unknown why)
{
	return NAME_OF(unknown_names, why);
}
