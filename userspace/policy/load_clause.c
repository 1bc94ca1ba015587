// SPDX-License-Identifier: Apache-2.0
/* spec.match and the clauses of rules: lists of texts to compiled patterns and masks. */
#include "policy/load.h"

#include <stdio.h>
#include <string.h>

#define PATTERN_MAX 256

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

static const char *const transports[] = {"tcp", "tls", "unix"};

/* Identity that needs a later release; named so that the answer is better than "unknown key". */
static const char *const later_attrs[] = {
    "ancestry", "build_id", "container_id",    "image",	      "image_digest",
    "intent",	"labels",   "loginuid",	       "login_uid",   "namespace",
    "pod",	"role",	    "service_account", "tls_version", "end_user",
};

static const char *attr_at(unsigned idx)
{
	return policy_attr_name(idx);
}

static const char *effect_at(unsigned idx)
{
	return sql_effect_name(idx + 1);
}

static const char *risk_at(unsigned idx)
{
	return sql_func_risk_name(idx);
}

static const char *unknown_at(unsigned idx)
{
	return sql_unknown_name(idx + 1);
}

static const char *transport_at(unsigned idx)
{
	return transports[idx];
}

static const char *load_pattern(struct loader *l, const struct yaml_node *value, const char *what)
{
	return loader_text(l, value, what, PATTERN_MAX);
}

static const struct glob *load_globs(struct loader *l, const struct yaml_node *list,
				     const char *what, bool fold, unsigned *cnt)
{
	struct glob *globs;
	const char *text;

	if (!loader_list(l, list, what))
		return NULL;
	globs = loader_array(l, list->cnt, sizeof(*globs));
	if (!globs)
		return NULL;
	for (unsigned i = 0; i < list->cnt; i++) {
		text = load_pattern(l, list->items[i], what);
		glob_compile(&globs[i], text ? text : "", fold);
	}
	*cnt = list->cnt;
	return globs;
}

/* --- identity
 * ---------------------------------------------------------------------------------------- */

static void check_transports(struct loader *l, const struct yaml_node *list,
			     const struct attr_cond *cond)
{
	char hint[96];
	bool any;

	for (unsigned i = 0; i < cond->cnt; i++) {
		any = false;
		for (unsigned t = 0; t < COUNT(transports); t++)
			any |= glob_match(&cond->globs[i], transports[t]);
		if (!any && cond->globs[i].text[0])
			loader_error(l, list->items[i],
				     "unknown transport '%.40s'%s: tcp, tls or unix",
				     cond->globs[i].text,
				     policy_suggest(cond->globs[i].text, transport_at,
						    COUNT(transports), hint, sizeof(hint)));
	}
}

static void load_addrs(struct loader *l, const struct yaml_node *list, struct attr_cond *cond,
		       const char *what)
{
	bool server = cond->attr == ATTR_SERVER;
	struct addr_pattern *addrs;
	const char *text;

	if (!loader_list(l, list, what))
		return;
	addrs = loader_array(l, list->cnt, sizeof(*addrs));
	if (!addrs)
		return;
	for (unsigned i = 0; i < list->cnt; i++) {
		text = load_pattern(l, list->items[i], what);
		if (text && addr_pattern_parse(&addrs[i], text, server))
			loader_error(
			    l, list->items[i], "'%.60s' is not %s", text,
			    server ? "an address, address:port, network (10.0.0.0/8), *:port, or a "
				     "socket "
				     "directory that begins with /"
				   : "an address, a network (10.0.0.0/8) or a pattern (10.0.*)");
	}
	cond->addrs = addrs;
	cond->cnt = list->cnt;
}

static void load_uids(struct loader *l, const struct yaml_node *list, struct attr_cond *cond,
		      const char *what)
{
	uint64_t value;
	uint32_t *uids;
	char seen[80];

	if (!loader_list(l, list, what))
		return;
	uids = loader_array(l, list->cnt, sizeof(*uids));
	if (!uids)
		return;
	for (unsigned i = 0; i < list->cnt; i++) {
		const struct yaml_node *item = list->items[i];
		bool ok = item->kind == YAML_SCALAR && item->plain && item->len && item->len <= 10;

		value = 0;
		for (size_t c = 0; ok && c < item->len; c++) {
			ok = item->value[c] >= '0' && item->value[c] <= '9';
			value = value * 10 + (uint64_t)(item->value[c] - '0');
		}
		if (!ok || value > UINT32_MAX)
			loader_error(l, item, "%s: expected a user id such as 1000, not %s", what,
				     yaml_describe(item, seen, sizeof(seen)));
		uids[i] = (uint32_t)value;
	}
	cond->uids = uids;
	cond->cnt = list->cnt;
}

static void load_cond(struct loader *l, const struct yaml_node *value, struct attr_cond *cond)
{
	const char *what = policy_attr_name(cond->attr);

	switch (cond->attr) {
	case ATTR_UID:
		load_uids(l, value, cond, what);
		break;
	case ATTR_SERVER:
	case ATTR_CLIENT_ADDRESS:
		load_addrs(l, value, cond, what);
		break;
	default:
		cond->globs = load_globs(l, value, what, false, &cond->cnt);
		if (cond->attr == ATTR_TRANSPORT)
			check_transports(l, value, cond);
	}
}

static void unknown_attr(struct loader *l, const struct yaml_node *key, const char *what,
			 uint32_t allowed)
{
	char hint[96], known[256] = "";
	size_t len = 0;

	for (unsigned i = 0; i < COUNT(later_attrs); i++)
		if (!strcmp(key->value, later_attrs[i])) {
			loader_error(l, key,
				     "'%s' comes with a later release: this one cannot know it",
				     key->value);
			return;
		}
	for (enum policy_attr attr = 0; attr < ATTR_MAX; attr++)
		if (allowed & 1u << attr)
			len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s",
						len ? ", " : "", policy_attr_name(attr));
	loader_error(l, key, "unknown key '%.60s' in %s%s: known are %s", key->value, what,
		     policy_suggest(key->value, attr_at, ATTR_MAX, hint, sizeof(hint)), known);
}

static void load_who(struct loader *l, const struct yaml_node *map, const char *what,
		     uint32_t allowed, struct who_matcher *m)
{
	struct attr_cond *conds;
	enum policy_attr attr;
	char seen[80];

	if (map->kind != YAML_MAP || !map->cnt) {
		loader_error(l, map, "%s: expected a mapping such as {db_user: [app]}, not %s",
			     what,
			     map->kind == YAML_MAP ? "an empty one"
						   : yaml_describe(map, seen, sizeof(seen)));
		return;
	}
	for (unsigned i = 0; i < map->cnt; i += 2) {
		attr = policy_attr_from_name(map->items[i]->value);
		if (attr == ATTR_MAX || !(allowed & 1u << attr))
			unknown_attr(l, map->items[i], what, allowed);
	}
	conds = loader_array(l, map->cnt / 2, sizeof(*conds));
	if (!conds)
		return;
	for (attr = 0; attr < ATTR_MAX; attr++) {
		const struct yaml_node *value = yaml_lookup(map, policy_attr_name(attr));

		if (!value || !(allowed & 1u << attr))
			continue;
		conds[m->cnt].attr = attr;
		load_cond(l, value, &conds[m->cnt]);
		m->cnt++;
	}
	m->conds = conds;
}

#define ATTR_BIT(attr) (1u << (attr))
#define MATCH_ATTRS                                                                                \
	(ATTR_BIT(ATTR_ENGINE) | ATTR_BIT(ATTR_TRANSPORT) | ATTR_BIT(ATTR_DATABASE) |              \
	 ATTR_BIT(ATTR_DB_USER) | ATTR_BIT(ATTR_ENVIRONMENT) | ATTR_BIT(ATTR_SERVER))
#define IDENTITY_ATTRS                                                                             \
	(ATTR_BIT(ATTR_TRANSPORT) | ATTR_BIT(ATTR_DB_USER) | ATTR_BIT(ATTR_ENVIRONMENT) |          \
	 ATTR_BIT(ATTR_UID) | ATTR_BIT(ATTR_EXE) | ATTR_BIT(ATTR_CGROUP) |                         \
	 ATTR_BIT(ATTR_CLIENT_ADDRESS) | ATTR_BIT(ATTR_APPLICATION_NAME))

void load_match(struct loader *l, const struct yaml_node *value, void *who_matcher)
{
	load_who(l, value, "match", MATCH_ATTRS, who_matcher);
}

static void load_identity(struct loader *l, const struct yaml_node *value, void *clause)
{
	load_who(l, value, "identity", IDENTITY_ATTRS, &((struct clause *)clause)->who);
}

/* --- facts
 * ------------------------------------------------------------------------------------------- */

static void load_mask(struct loader *l, const struct yaml_node *list, const char *what,
		      const char *noun, const char *(*name_at)(unsigned idx), unsigned cnt,
		      unsigned first, uint32_t *mask)
{
	char hint[96];
	const char *text;
	unsigned i, n;

	if (!loader_list(l, list, what))
		return;
	for (i = 0; i < list->cnt; i++) {
		text = load_pattern(l, list->items[i], what);
		for (n = 0; text && n < cnt && strcmp(name_at(n), text); n++)
			;
		if (text && n < cnt)
			*mask |= 1u << (n + first);
		else if (text)
			loader_error(l, list->items[i], "unknown %s '%.60s'%s", noun, text,
				     policy_suggest(text, name_at, cnt, hint, sizeof(hint)));
	}
}

static void load_effects(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_EFFECTS);
	load_mask(l, value, "effects", "effect", effect_at, SQL_EFFECT_MAX - 1, 1, &m->effects);
}

static void load_function_risk(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_FUNCTION_RISK);
	load_mask(l, value, "function_risk", "function risk", risk_at, SQL_RISK_MAX, 0, &m->risks);
}

static bool load_bool(struct loader *l, const struct yaml_node *value, const char *what, bool *out)
{
	char seen[80];

	if (value->kind == YAML_SCALAR && value->plain &&
	    (!strcmp(value->value, "true") || !strcmp(value->value, "false"))) {
		*out = value->value[0] == 't';
		return true;
	}
	loader_error(l, value, "%s: expected true or false, not %s", what,
		     yaml_describe(value, seen, sizeof(seen)));
	return false;
}

static void load_selective(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_SELECTIVE);
	load_bool(l, value, "selective", &m->selective);
}

static void load_unknown(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;
	bool all = false;

	m->keys |= FACT_BIT(FACT_UNKNOWN);
	if (value->kind == YAML_LIST) {
		load_mask(l, value, "unknown", "reason", unknown_at, SQL_UNKNOWN_MAX - 1, 1,
			  &m->unknown);
		return;
	}
	if (!load_bool(l, value, "unknown (or a list of reasons)", &all))
		return;
	if (!all)
		loader_error(
		    l, value,
		    "unknown: false is not needed: without the key only known statements match");
	m->unknown = ((1u << SQL_UNKNOWN_MAX) - 1) & ~(1u << SQL_KNOWN);
}

static void warn_upper_case(struct loader *l, const struct yaml_node *at, const char *text)
{
	if (strpbrk(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
		loader_warning(l, at,
			       "'%.60s' holds capital letters: the server folds names to lower "
			       "case, so this matches "
			       "only names that are written in double quotes",
			       text);
}

/* Cuts "a.b" at its last dot. Texts that begin with / are paths and have no parts. */
static bool cut_name(char *text, char **before, char **last)
{
	char *dot = text[0] == '/' ? NULL : strrchr(text, '.');

	*before = dot ? text : NULL;
	*last = dot ? dot + 1 : text;
	if (dot)
		*dot = '\0';
	return **last && (!dot || text[0]);
}

static bool load_name(struct loader *l, const char *text, struct name_pattern *p)
{
	char *copy = arena_strndup(l->arena, text, strlen(text)), *schema, *name;

	if (!copy) {
		l->oom = true;
		return true;
	}
	if (!cut_name(copy, &schema, &name) || (schema && strchr(schema, '.')))
		return false;
	glob_compile(&p->full, text, false);
	glob_compile(&p->name, name, false);
	p->has_schema = schema;
	if (schema)
		glob_compile(&p->schema, schema, false);
	return true;
}

static const struct name_pattern *load_names(struct loader *l, const struct yaml_node *list,
					     const char *what, unsigned *cnt)
{
	struct name_pattern *names;
	const char *text;

	if (!loader_list(l, list, what))
		return NULL;
	names = loader_array(l, list->cnt, sizeof(*names));
	if (!names)
		return NULL;
	for (unsigned i = 0; i < list->cnt; i++) {
		text = load_pattern(l, list->items[i], what);
		if (!text)
			continue;
		if (!load_name(l, text, &names[i]))
			loader_error(l, list->items[i],
				     "%s: '%.60s' is neither name nor schema.name (a database is "
				     "named in match)",
				     what, text);
		warn_upper_case(l, list->items[i], text);
	}
	*cnt = list->cnt;
	return names;
}

static void load_objects(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_OBJECTS);
	m->objects = load_names(l, value, "objects", &m->object_cnt);
}

static void load_functions(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_FUNCTIONS);
	m->functions = load_names(l, value, "functions", &m->function_cnt);
}

static bool load_column(struct loader *l, const char *text, struct column_pattern *p)
{
	char *copy = arena_strndup(l->arena, text, strlen(text)), *table, *column;

	if (!copy) {
		l->oom = true;
		return true;
	}
	if (!cut_name(copy, &table, &column))
		return false;
	glob_compile(&p->column, column, false);
	p->has_table = table;
	return !table || load_name(l, table, &p->table);
}

static void load_columns(struct loader *l, const struct yaml_node *list, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;
	struct column_pattern *columns;
	const char *text;

	m->keys |= FACT_BIT(FACT_COLUMNS);
	if (!loader_list(l, list, "columns"))
		return;
	columns = loader_array(l, list->cnt, sizeof(*columns));
	if (!columns)
		return;
	for (unsigned i = 0; i < list->cnt; i++) {
		text = load_pattern(l, list->items[i], "columns");
		if (!text)
			continue;
		if (!load_column(l, text, &columns[i]))
			loader_error(l, list->items[i],
				     "columns: '%.60s' is neither column, table.column nor "
				     "schema.table.column",
				     text);
		warn_upper_case(l, list->items[i], text);
	}
	m->columns = columns;
	m->column_cnt = list->cnt;
}

static void load_commands(struct loader *l, const struct yaml_node *value, void *clause)
{
	struct facts_matcher *m = &((struct clause *)clause)->facts;

	m->keys |= FACT_BIT(FACT_COMMANDS);
	m->commands = load_globs(l, value, "commands", true, &m->command_cnt);
}

static const struct loader_key clause_keys[] = {
    {"identity", load_identity, false},
    {"effects", load_effects, false},
    {"objects", load_objects, false},
    {"columns", load_columns, false},
    {"commands", load_commands, false},
    {"functions", load_functions, false},
    {"function_risk", load_function_risk, false},
    {"selective", load_selective, false},
    {"unknown", load_unknown, false},
};

const char *const policy_clause_keywords[] = {"identity", "effects",   "objects",	"columns",
					      "commands", "functions", "function_risk", "selective",
					      "unknown",  NULL};

_Static_assert(COUNT(clause_keys) == COUNT(policy_clause_keywords) - 1,
	       "policy_clause_keywords lists clause_keys");

static void load_clause(struct loader *l, const struct yaml_node *value, const char *what,
			struct clause *clause)
{
	if (!loader_map(l, value, what, clause_keys, COUNT(clause_keys), clause))
		return;
	if (!value->cnt)
		loader_error(l, value, "%s is empty: give a key, or leave %s out", what, what);
}

void load_when(struct loader *l, const struct yaml_node *value, void *clause)
{
	load_clause(l, value, "when", clause);
}

void load_unless(struct loader *l, const struct yaml_node *value, void *clause)
{
	load_clause(l, value, "unless", clause);
}
