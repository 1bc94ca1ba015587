/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which functions are risky, and what calling them does beyond reading. One table, by name; a name in another
 * schema than pg_catalog is looked up too, since contrib functions live anywhere, but never as harmless.
 */
#ifndef DBFENCE_SQL_SQL_FUNC_H
#define DBFENCE_SQL_SQL_FUNC_H

#include "sql/sql.h"

/* The risk of @schema.@name (@schema may be NULL); *@effects gets what a call adds to its statement. */
enum sql_func_risk sql_func_lookup(const char *schema, const char *name, uint32_t *effects);

/* CREATE FUNCTION, DO: whether code in the language @name can reach outside the database. */
bool sql_language_is_untrusted(const char *name);

#endif
