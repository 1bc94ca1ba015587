// SPDX-License-Identifier: Apache-2.0
/*
 * YAML documents to policies and rules. One table per mapping of the language names its keys and
 * who reads each; whatever is not in the table is an error with the nearest name. The tables are
 * also what the manual page is tested against.
 */
#include "policy/load.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

#define API_VERSION "dbfence.dev/v1"
#define NAME_MAX_BYTES 63
#define MESSAGE_MAX_BYTES 500

static const char *const severities[] = {"info", "low", "medium", "high", "critical"};

/* --- helpers of both halves
 * -------------------------------------------------------------------------- */

void loader_error(struct loader *l, const struct yaml_node *at, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	yaml_finding(l->report, l->file, at, false, "%s%s", l->where, text);
}

void loader_warning(struct loader *l, const struct yaml_node *at, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	yaml_finding(l->report, l->file, at, true, "%s%s", l->where, text);
}

void *loader_array(struct loader *l, size_t cnt, size_t size)
{
	void *array = arena_array(l->arena, cnt, size);

	if (!array)
		l->oom = true;
	return array;
}

static void unknown_key(struct loader *l, const struct yaml_node *key, const char *what,
			const struct loader_key *keys, unsigned cnt)
{
	char hint[96] = "", known[256] = "";
	unsigned nearest = UINT_MAX, far;
	const char *name = NULL;
	size_t len = 0;

	if (!strcmp(key->value, "approval") || !strcmp(key->value, "budget") ||
	    !strcmp(key->value, "limit")) {
		loader_error(l, key, "'%s' comes with a later release, with its action: remove it",
			     key->value);
		return;
	}
	for (unsigned i = 0; i < cnt; i++) {
		len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i ? ", " : "",
					keys[i].name);
		far = policy_distance(key->value, keys[i].name);
		if (far < nearest) {
			nearest = far;
			name = keys[i].name;
		}
	}
	if (nearest <= policy_distance_limit(key->value))
		snprintf(hint, sizeof(hint), "; did you mean '%s'?", name);
	loader_error(l, key, "unknown key '%.60s' in %s%s: known are %s", key->value, what, hint,
		     known);
}

bool loader_map(struct loader *l, const struct yaml_node *map, const char *what,
		const struct loader_key *keys, unsigned cnt, void *into)
{
	const struct yaml_node *value;
	char seen[80];

	if (map->kind != YAML_MAP) {
		loader_error(l, map, "%s: expected a mapping, not %s", what,
			     yaml_describe(map, seen, sizeof(seen)));
		return false;
	}
	for (unsigned i = 0; i < map->cnt; i += 2) {
		unsigned k;

		for (k = 0; k < cnt && strcmp(keys[k].name, map->items[i]->value); k++)
			;
		if (k == cnt)
			unknown_key(l, map->items[i], what, keys, cnt);
	}
	/* In the table's order, so that a rule's name is known when its other keys are read. */
	for (unsigned k = 0; k < cnt; k++) {
		value = yaml_lookup(map, keys[k].name);
		if (value)
			keys[k].load(l, value, into);
		else if (keys[k].required)
			loader_error(l, map, "%s has no '%s'", what, keys[k].name);
	}
	return true;
}

const char *loader_text(struct loader *l, const struct yaml_node *value, const char *what,
			size_t max)
{
	char seen[80];
	const char *text;

	if (value->kind != YAML_SCALAR || !value->len ||
	    (value->plain && !strcmp(value->value, "~"))) {
		loader_error(l, value, "%s: expected a text, not %s", what,
			     yaml_describe(value, seen, sizeof(seen)));
		return NULL;
	}
	if (value->len > max) {
		loader_error(l, value, "%s: longer than %zu bytes", what, max);
		return NULL;
	}
	for (size_t i = 0; i < value->len; i++)
		if ((unsigned char)value->value[i] < ' ' || value->value[i] == 0x7f) {
			loader_error(l, value,
				     "%s: holds a control character; write it on one line", what);
			return NULL;
		}
	text = arena_strndup(l->arena, value->value, value->len);
	if (!text)
		l->oom = true;
	return text;
}

bool loader_list(struct loader *l, const struct yaml_node *value, const char *what)
{
	char seen[80];

	if (value->kind != YAML_LIST)
		loader_error(l, value, "%s: expected a list such as [a, b], not %s", what,
			     yaml_describe(value, seen, sizeof(seen)));
	else if (!value->cnt)
		loader_error(l, value, "%s: the list is empty and would match nothing", what);
	else if (value->cnt > LIMIT_POLICY_LIST)
		loader_error(l, value, "%s: more than %u entries", what,
			     (unsigned)LIMIT_POLICY_LIST);
	else
		return true;
	return false;
}

/* --- words from closed sets
 * -------------------------------------------------------------------------- */

static const char *mode_at(unsigned idx)
{
	return policy_mode_name(idx);
}

static const char *failure_at(unsigned idx)
{
	return policy_failure_name(idx);
}

static const char *guarantee_at(unsigned idx)
{
	return policy_guarantee_name(idx);
}

static const char *action_at(unsigned idx)
{
	return policy_action_name(idx);
}

static const char *severity_at(unsigned idx)
{
	return severities[idx];
}

/* The index of the word, or @cnt after a finding. */
static unsigned load_word(struct loader *l, const struct yaml_node *value, const char *what,
			  const char *(*name_at)(unsigned idx), unsigned cnt)
{
	const char *text = loader_text(l, value, what, NAME_MAX_BYTES);
	char hint[96], known[128] = "";
	size_t len = 0;
	unsigned i;

	if (!text)
		return cnt;
	for (i = 0; i < cnt && strcmp(name_at(i), text); i++)
		;
	if (i < cnt)
		return i;
	for (unsigned k = 0; k < cnt; k++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", k ? ", " : "",
					name_at(k));
	loader_error(l, value, "%s: unknown '%s'%s: one of %s", what, text,
		     policy_suggest(text, name_at, cnt, hint, sizeof(hint)), known);
	return cnt;
}

static const char *load_name_word(struct loader *l, const struct yaml_node *value, const char *what)
{
	const char *text = loader_text(l, value, what, NAME_MAX_BYTES);

	if (text &&
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
		strlen(text)) {
		loader_error(l, value, "%s: '%s' may hold only letters, digits, '.', '_' and '-'",
			     what, text);
		return NULL;
	}
	return text;
}

/* --- rules
 * ------------------------------------------------------------------------------------------- */

static void load_rule_name(struct loader *l, const struct yaml_node *value, void *into)
{
	struct rule *rule = into;

	rule->match.rule = load_name_word(l, value, "name");
	if (rule->match.rule)
		snprintf(l->where, sizeof(l->where), "rule '%s': ", rule->match.rule);
}

static void load_rule_when(struct loader *l, const struct yaml_node *value, void *into)
{
	struct rule *rule = into;

	rule->has_when = true;
	load_when(l, value, &rule->when);
}

static void load_rule_unless(struct loader *l, const struct yaml_node *value, void *into)
{
	struct rule *rule = into;

	rule->has_unless = true;
	load_unless(l, value, &rule->unless);
}

static void load_rule_action(struct loader *l, const struct yaml_node *value, void *into)
{
	struct rule *rule = into;
	unsigned action;

	if (value->kind == YAML_SCALAR &&
	    (!strcmp(value->value, "require_approval") || !strcmp(value->value, "limit"))) {
		loader_error(l, value,
			     "action '%s' comes with a later release: this one would not carry it "
			     "out, so it refuses "
			     "to load it; use deny until then",
			     value->value);
		return;
	}
	action = load_word(l, value, "action", action_at, POLICY_ACTION_MAX);
	if (action < POLICY_ACTION_MAX)
		rule->match.action = action;
}

static void load_rule_message(struct loader *l, const struct yaml_node *value, void *into)
{
	((struct rule *)into)->match.message = loader_text(l, value, "message", MESSAGE_MAX_BYTES);
}

static void load_rule_severity(struct loader *l, const struct yaml_node *value, void *into)
{
	unsigned severity = load_word(l, value, "severity", severity_at, COUNT(severities));

	if (severity < COUNT(severities))
		((struct rule *)into)->severity = severities[severity];
}

static const struct loader_key rule_keys[] = {
    {"name", load_rule_name, true},	   {"when", load_rule_when, false},
    {"unless", load_rule_unless, false},   {"action", load_rule_action, true},
    {"message", load_rule_message, false}, {"severity", load_rule_severity, false},
};

/* --- policies
 * ---------------------------------------------------------------------------------------- */

static void load_mode(struct loader *l, const struct yaml_node *value, void *into)
{
	unsigned mode = load_word(l, value, "mode", mode_at, POLICY_MODE_MAX);

	if (mode < POLICY_MODE_MAX)
		((struct policy *)into)->mode = mode;
}

static void load_on_failure(struct loader *l, const struct yaml_node *value, void *into)
{
	unsigned failure = load_word(l, value, "on_failure", failure_at, POLICY_FAILURE_MAX);

	if (failure < POLICY_FAILURE_MAX)
		((struct policy *)into)->on_failure = failure;
}

static void load_guarantee(struct loader *l, const struct yaml_node *value, void *into)
{
	struct policy *policy = into;
	unsigned guarantee = load_word(l, value, "guarantee", guarantee_at, POLICY_GUARANTEE_MAX);

	if (guarantee < POLICY_GUARANTEE_MAX) {
		policy->guarantee = guarantee;
		policy->guarantee_given = true;
	}
}

static void load_policy_match(struct loader *l, const struct yaml_node *value, void *into)
{
	load_match(l, value, &((struct policy *)into)->match);
}

static int by_rule_name(const void *a, const void *b)
{
	const struct rule *const *x = a, *const *y = b;
	int order = strcmp((*x)->match.rule, (*y)->match.rule);

	return order ? order : ((*x)->line < (*y)->line ? -1 : (*x)->line > (*y)->line);
}

static void check_rule_names(struct loader *l, const struct policy *policy)
{
	const struct rule **sorted = malloc((policy->rule_cnt + 1) * sizeof(*sorted));
	struct yaml_node at = {0};
	unsigned cnt = 0;

	if (!sorted) {
		l->oom = true;
		return;
	}
	for (unsigned i = 0; i < policy->rule_cnt; i++)
		if (policy->rules[i].match.rule)
			sorted[cnt++] = &policy->rules[i];
	qsort(sorted, cnt, sizeof(*sorted), by_rule_name);
	for (unsigned i = 1; i < cnt; i++) {
		if (strcmp(sorted[i - 1]->match.rule, sorted[i]->match.rule))
			continue;
		at.line = sorted[i]->line;
		at.column = sorted[i]->column;
		loader_error(l, &at,
			     "rule name '%s' is used twice in this policy, first in line %u",
			     sorted[i]->match.rule, sorted[i - 1]->line);
	}
	free(sorted);
}

static void load_rules(struct loader *l, const struct yaml_node *value, void *into)
{
	struct policy *policy = into;
	const struct yaml_node *item;
	struct rule *rule;
	char seen[80];

	if (value->kind != YAML_LIST || !value->cnt) {
		loader_error(l, value, "rules: expected a list with at least one rule, not %s",
			     value->kind == YAML_LIST ? "an empty one"
						      : yaml_describe(value, seen, sizeof(seen)));
		return;
	}
	if (value->cnt > LIMIT_POLICY_RULES) {
		loader_error(l, value, "rules: more than %u", (unsigned)LIMIT_POLICY_RULES);
		return;
	}
	policy->rules = loader_array(l, value->cnt, sizeof(*policy->rules));
	if (!policy->rules)
		return;
	policy->rule_cnt = value->cnt;
	for (unsigned i = 0; i < value->cnt && !l->oom; i++) {
		item = value->items[i];
		rule = &policy->rules[i];
		rule->line = item->line;
		rule->column = item->column;
		rule->file = l->file;
		loader_map(l, item, "a rule", rule_keys, COUNT(rule_keys), rule);
		l->where[0] = '\0';
	}
	check_rule_names(l, policy);
}

static const struct loader_key spec_keys[] = {
    {"mode", load_mode, false},
    {"guarantee", load_guarantee, false},
    {"on_failure", load_on_failure, false},
    {"match", load_policy_match, false},
    {"rules", load_rules, true},
};

static void load_meta_name(struct loader *l, const struct yaml_node *value, void *into)
{
	((struct policy *)into)->name = load_name_word(l, value, "metadata.name");
}

/* A map that belongs to the user: its shape is checked, its contents are not ours. */
static void load_annotations(struct loader *l, const struct yaml_node *value, void *into)
{
	char seen[80];

	(void)into;
	if (value->kind != YAML_MAP)
		loader_error(l, value, "annotations: expected a mapping, not %s",
			     yaml_describe(value, seen, sizeof(seen)));
}

static const struct loader_key metadata_keys[] = {
    {"name", load_meta_name, true},
    {"annotations", load_annotations, false},
};

static void load_exact(struct loader *l, const struct yaml_node *value, const char *what,
		       const char *want)
{
	char seen[80];

	if (value->kind != YAML_SCALAR || strcmp(value->value, want))
		loader_error(l, value, "%s: expected '%s', not %s", what, want,
			     yaml_describe(value, seen, sizeof(seen)));
}

static void load_api_version(struct loader *l, const struct yaml_node *value, void *into)
{
	(void)into;
	load_exact(l, value, "apiVersion", API_VERSION);
}

static void load_kind(struct loader *l, const struct yaml_node *value, void *into)
{
	(void)into;
	load_exact(l, value, "kind", "Policy");
}

static void load_metadata(struct loader *l, const struct yaml_node *value, void *into)
{
	loader_map(l, value, "metadata", metadata_keys, COUNT(metadata_keys), into);
}

static void load_spec(struct loader *l, const struct yaml_node *value, void *into)
{
	loader_map(l, value, "spec", spec_keys, COUNT(spec_keys), into);
}

static const struct loader_key document_keys[] = {
    {"apiVersion", load_api_version, true},
    {"kind", load_kind, true},
    {"metadata", load_metadata, true},
    {"spec", load_spec, true},
};

const char *policy_keyword_at(unsigned idx)
{
	static const struct {
		const struct loader_key *keys;
		unsigned cnt;
	} tables[] = {
	    {document_keys, COUNT(document_keys)},
	    {metadata_keys, COUNT(metadata_keys)},
	    {spec_keys, COUNT(spec_keys)},
	    {rule_keys, COUNT(rule_keys)},
	};
	static const struct {
		const char *(*name_at)(unsigned idx);
		unsigned cnt;
	} words[] = {
	    {mode_at, POLICY_MODE_MAX},		  {failure_at, POLICY_FAILURE_MAX},
	    {guarantee_at, POLICY_GUARANTEE_MAX}, {action_at, POLICY_ACTION_MAX},
	    {severity_at, COUNT(severities)},
	};

	for (unsigned i = 0; i < COUNT(tables); idx -= tables[i].cnt, i++)
		if (idx < tables[i].cnt)
			return tables[i].keys[idx].name;
	for (unsigned i = 0; i < COUNT(words); idx -= words[i].cnt, i++)
		if (idx < words[i].cnt)
			return words[i].name_at(idx);
	if (idx < ATTR_MAX)
		return policy_attr_name(idx);
	idx -= ATTR_MAX;
	for (unsigned i = 0; policy_clause_keywords[i]; i++)
		if (i == idx)
			return policy_clause_keywords[i];
	return NULL;
}

/* --- sets
 * -------------------------------------------------------------------------------------------- */

static void finish_policy(struct policy *policy)
{
	struct policy_match *match;

	for (unsigned i = 0; i < policy->rule_cnt; i++) {
		match = &policy->rules[i].match;
		match->policy = policy->name;
		match->mode = policy->mode;
		match->guarantee = !rule_blocks(&policy->rules[i]) ? POLICY_DETECT
				   : policy->guarantee_given	   ? policy->guarantee
								   : POLICY_PREVENT;
	}
}

static bool grow(struct policy **v, unsigned cnt, unsigned *cap)
{
	struct policy *bigger;

	if (cnt < *cap)
		return true;
	*cap = *cap ? *cap * 2 : 16;
	bigger = realloc(*v, *cap * sizeof(**v));
	if (!bigger)
		return false;
	*v = bigger;
	return true;
}

struct growing {
	struct policy *v; /* owned */
	unsigned cnt, cap, rules;
};

static int load_document(struct loader *l, const struct yaml_node *doc, struct growing *all)
{
	struct policy *policy;
	struct yaml_node at;

	if (!grow(&all->v, all->cnt, &all->cap))
		return -ENOMEM;
	policy = &all->v[all->cnt++];
	*policy = (struct policy){.file = l->file, .line = doc->line, .column = doc->column};
	l->where[0] = '\0';
	loader_map(l, doc, "a policy", document_keys, COUNT(document_keys), policy);
	finish_policy(policy);
	all->rules += policy->rule_cnt;
	if (all->rules > LIMIT_POLICY_RULES &&
	    all->rules - policy->rule_cnt <= LIMIT_POLICY_RULES) {
		at = (struct yaml_node){.line = doc->line, .column = doc->column};
		loader_error(l, &at, "more than %u rules in all policies together",
			     (unsigned)LIMIT_POLICY_RULES);
	}
	return l->oom ? -ENOMEM : 0;
}

static int load_source(struct policy_set *set, const struct policy_source *src,
		       struct policy_report *report, struct growing *all)
{
	struct loader l = {.arena = &set->arena, .report = report};
	struct yaml_docs docs = {0};
	struct arena tmp;
	int err;

	l.file = arena_strndup(&set->arena, src->name, strlen(src->name));
	if (!l.file)
		return -ENOMEM;
	arena_init(&tmp);
	err = yaml_parse_docs(&tmp, src, &docs, report);
	if (!err && !docs.cnt)
		yaml_finding(report, l.file, NULL, false,
			     "holds no policy: remove the file, or write one");
	for (unsigned i = 0; !err && i < docs.cnt; i++)
		err = load_document(&l, docs.docs[i], all);
	arena_fini(&tmp);
	/* What is wrong with a file stands in the report; the other files are still read. */
	return err == -EINVAL ? 0 : err;
}

static int by_policy_name(const void *a, const void *b)
{
	const struct policy *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);

	return order ? order : (*x < *y ? -1 : *x > *y);
}

static int check_policy_names(const struct growing *all, struct policy_report *report)
{
	const struct policy **sorted = malloc((all->cnt + 1) * sizeof(*sorted));
	struct yaml_node at = {0};
	unsigned cnt = 0;

	if (!sorted)
		return -ENOMEM;
	for (unsigned i = 0; i < all->cnt; i++)
		if (all->v[i].name)
			sorted[cnt++] = &all->v[i];
	qsort(sorted, cnt, sizeof(*sorted), by_policy_name);
	for (unsigned i = 1; i < cnt; i++) {
		if (strcmp(sorted[i - 1]->name, sorted[i]->name))
			continue;
		at.line = sorted[i]->line;
		at.column = sorted[i]->column;
		yaml_finding(report, sorted[i]->file, &at, false,
			     "policy name '%s' is taken by %s:%u", sorted[i]->name,
			     sorted[i - 1]->file, sorted[i - 1]->line);
	}
	free(sorted);
	return 0;
}

static int place_policies(struct policy_set *set, const struct growing *all)
{
	set->policies = arena_array(&set->arena, all->cnt, sizeof(*set->policies));
	if (!set->policies)
		return -ENOMEM;
	if (all->cnt)
		memcpy(set->policies, all->v, all->cnt * sizeof(*all->v));
	set->policy_cnt = all->cnt;
	set->rule_cnt = all->rules;
	for (unsigned p = 0; p < set->policy_cnt; p++)
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++)
			set->policies[p].rules[r].policy = &set->policies[p];
	return 0;
}

int policy_set_load(const struct policy_source *sources, size_t cnt, uint64_t generation,
		    struct policy_set **out, struct policy_report *report)
{
	struct policy_set *set = calloc(1, sizeof(*set));
	struct growing all = {0};
	unsigned before = report->errors;
	int err = 0;

	if (!set)
		return -ENOMEM;
	arena_init(&set->arena);
	set->generation = generation;
	if (cnt > LIMIT_POLICY_FILES) {
		yaml_finding(report, sources[LIMIT_POLICY_FILES].name, NULL, false,
			     "more than %u policy files", (unsigned)LIMIT_POLICY_FILES);
		cnt = 0;
	}
	for (size_t i = 0; i < cnt && !err; i++)
		err = load_source(set, &sources[i], report, &all);
	if (!err)
		err = check_policy_names(&all, report);
	if (!err && report->errors == before)
		err = place_policies(set, &all);
	else if (!err)
		err = -EINVAL;
	if (!err) {
		policy_lint(set, report);
		*out = set;
		set = NULL;
	}
	free(all.v);
	policy_set_free(set);
	return err;
}
