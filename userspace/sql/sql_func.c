// SPDX-License-Identifier: Apache-2.0
/* Owns the function table's search and the list of trusted languages. */
#include "sql/sql_func.h"

#include <stdlib.h>
#include <string.h>

#include "sql/sql_func_table.inc"

static int compare_risky(const void *name, const void *row)
{
	return strcmp(name, ((const struct risky *)row)->name);
}

static int compare_harmless(const void *name, const void *row)
{
	return strcmp(name, *(const char *const *)row);
}

enum sql_func_risk sql_func_lookup(const char *schema, const char *name, uint32_t *effects)
{
	const struct risky *risky;
	bool builtin = !schema || !strcmp(schema, "pg_catalog");

	*effects = 0;
	risky = bsearch(name, risky_functions, sizeof(risky_functions) / sizeof(risky_functions[0]),
			sizeof(risky_functions[0]), compare_risky);
	if (risky && (builtin || risky->risk != SQL_RISK_NONE)) {
		*effects = risky->effects;
		return risky->risk;
	}
	if (!strncmp(name, "binary_upgrade_", 15) && builtin) {
		*effects = SQL_BIT(SQL_MAINTENANCE);
		return SQL_RISK_ADMIN;
	}
	if (builtin && bsearch(name, harmless_functions, sizeof(harmless_functions) / sizeof(harmless_functions[0]),
			       sizeof(harmless_functions[0]), compare_harmless))
		return SQL_RISK_NONE;
	return SQL_RISK_UNKNOWN;
}

bool sql_language_is_untrusted(const char *name)
{
	static const char *const trusted[] = { "sql", "plpgsql", "plperl", "pltcl", "plv8", "pllua" };

	for (size_t i = 0; i < sizeof(trusted) / sizeof(trusted[0]); i++)
		if (!strcmp(name, trusted[i]))
			return false;
	return true;
}
