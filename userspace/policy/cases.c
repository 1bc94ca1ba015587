// SPDX-License-Identifier: Apache-2.0
/*
 * A cases file is one mapping: `policy` (a path relative to the file), `identity` (defaults for all
 * cases) and `cases`, each with `sql`, `expect` (an action), and optionally `rule` (the deciding
 * rule), `identity` (over the defaults), `by_fail_mode`, `unknown` (judge the text as unknown for
 * this reason) and `why`.
 */
#include "policy/cases.h"

#include "policy/set.h"
#include "policy/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
	const char *file;
	struct arena arena;
	struct policy_set *set;		    /* owned */
	struct sql_engine *engine;	    /* borrowed */
	struct policy_cases_result *result; /* borrowed */
	struct policy_report *report;	    /* borrowed */
};

static bool known_key(struct run *run, const struct yaml_node *map, const char *const *keys,
		      const char *what)
{
	bool ok = true;
	unsigned k;

	for (unsigned i = 0; i < map->cnt; i += 2) {
		for (k = 0; keys[k] && strcmp(keys[k], map->items[i]->value); k++)
			;
		if (keys[k])
			continue;
		yaml_finding(run->report, run->file, map->items[i], false,
			     "unknown key '%.60s' in %s", map->items[i]->value, what);
		ok = false;
	}
	return ok;
}

static int bad(struct run *run, const struct yaml_node *at, const char *text)
{
	yaml_finding(run->report, run->file, at, false, "%s", text);
	return -EINVAL;
}

static const char *text_of(const struct yaml_node *map, const char *key)
{
	const struct yaml_node *value = map ? yaml_lookup(map, key) : NULL;

	return value && value->kind == YAML_SCALAR ? value->value : NULL;
}

static int fill_identity(struct run *run, const struct yaml_node *map, struct identity *who)
{
	static const char *const keys[] = {"engine",	       "database",  "db_user",
					   "application_name", "transport", "server_address",
					   "client_address",   "exe",	    "cgroup",
					   "environment",      "uid",	    NULL};
	const char **fields[] = {&who->engine,		 &who->database,  &who->db_user,
				 &who->application_name, &who->transport, &who->server_address,
				 &who->client_address,	 &who->exe,	  &who->cgroup,
				 &who->environment};
	const struct yaml_node *value;

	if (!map)
		return 0;
	if (map->kind != YAML_MAP || !known_key(run, map, keys, "identity"))
		return bad(run, map, "identity: expected a mapping of attributes to texts");
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		value = yaml_lookup(map, keys[i]);
		if (!value)
			continue;
		/* An empty value takes a default away: nobody knows it. */
		*fields[i] = value->kind == YAML_SCALAR && value->len ? value->value : NULL;
	}
	value = yaml_lookup(map, "uid");
	if (value) {
		who->uid_known = value->kind == YAML_SCALAR && value->len;
		who->uid = who->uid_known ? (uint32_t)strtoul(value->value, NULL, 10) : 0;
	}
	return 0;
}

static void judge(struct run *run, const struct yaml_node *item, const struct sql_facts *facts,
		  const struct identity *who)
{
	const char *expect = text_of(item, "expect"), *rule = text_of(item, "rule"),
		   *fail = text_of(item, "by_fail_mode");
	struct policy_decision decision;
	const char *got, *got_rule;
	bool ok;

	policy_eval(run->set, facts, who, &decision);
	got = policy_action_name(decision.action);
	got_rule = decision.deciding ? decision.deciding->rule : "none";
	ok = !strcmp(got, expect) && (!rule || !strcmp(rule, got_rule));
	if (fail && decision.deciding)
		ok = ok && decision.deciding->by_fail_mode == !strcmp(fail, "true");
	if (ok) {
		run->result->passed++;
		return;
	}
	run->result->failed++;
	yaml_finding(run->report, run->file, item, false, "expected %s%s%s, got %s by %s%s: %.200s",
		     expect, rule ? " by " : "", rule ? rule : "", got, got_rule,
		     decision.deciding && decision.deciding->by_fail_mode ? " (fail mode)" : "",
		     text_of(item, "sql"));
}

static int run_case(struct run *run, const struct yaml_node *item, const struct identity *defaults)
{
	static const char *const keys[] = {"sql",	   "expect",  "rule", "identity",
					   "by_fail_mode", "unknown", "why",  NULL};
	struct identity who = *defaults;
	enum sql_unknown unknown;
	const char *sql, *expect, *rule;
	int err;

	if (item->kind != YAML_MAP || !known_key(run, item, keys, "a case"))
		return bad(run, item, "a case is a mapping with sql and expect");
	sql = text_of(item, "sql");
	expect = text_of(item, "expect");
	if (!sql || !expect || policy_action_from_name(expect) == POLICY_ACTION_MAX)
		return bad(run, item, "a case needs sql, and expect with an action");
	rule = text_of(item, "rule");
	if (!rule && strcmp(expect, "allow"))
		return bad(run, item, "a case that expects more than allow names its rule");
	err = fill_identity(run, yaml_lookup(item, "identity"), &who);
	if (err)
		return err;
	if (text_of(item, "unknown")) {
		unknown = policy_unknown_from_name(text_of(item, "unknown"));
		if (unknown == SQL_UNKNOWN_MAX)
			return bad(run, item, "unknown: no such reason");
		judge(run, item, sql_unknown_facts(run->engine, unknown, 0, sql, strlen(sql)),
		      &who);
	} else {
		judge(run, item, sql_analyze_walsender(run->engine, sql, strlen(sql), true),
		      &who);
	}
	return 0;
}

static int load_policy(struct run *run, const struct yaml_node *root)
{
	const char *name = text_of(root, "policy"), *slash = strrchr(run->file, '/');
	char path[4096];
	int err;

	if (!name)
		return bad(run, root,
			   "a cases file has 'policy': the policy file, relative to this one");
	if (snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - run->file + 1) : 0,
		     run->file, name) >= (int)sizeof(path))
		return bad(run, root, "path too long");
	err = policy_set_load_path(path, 1, &run->set, run->report);
	if (!err)
		policy_set_force_mode(run->set, POLICY_ENFORCE);
	return err;
}

static int run_document(struct run *run, const struct yaml_node *root)
{
	static const char *const keys[] = {"policy", "identity", "cases", NULL};
	struct identity defaults = {0};
	const struct yaml_node *cases;
	int err;

	if (root->kind != YAML_MAP || !known_key(run, root, keys, "a cases file"))
		return bad(run, root, "expected a mapping with policy, identity and cases");
	cases = yaml_lookup(root, "cases");
	if (!cases || cases->kind != YAML_LIST)
		return bad(run, root, "a cases file has 'cases', a list");
	err = load_policy(run, root);
	if (!err)
		err = fill_identity(run, yaml_lookup(root, "identity"), &defaults);
	for (unsigned i = 0; !err && i < cases->cnt; i++)
		err = run_case(run, cases->items[i], &defaults);
	return err;
}

/* The whole file into the arena: yaml values are copied, but the text must live while it is parsed.
 */
static int slurp(struct run *run, struct policy_source *src)
{
	int fd = open(run->file, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	struct stat st;
	ssize_t n = -1;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	    st.st_size <= LIMIT_POLICY_FILE_BYTES) {
		text = arena_alloc(&run->arena, (size_t)st.st_size + 1);
		if (text)
			n = read(fd, text, (size_t)st.st_size);
	}
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return bad(run, NULL, "cannot be read, or is longer than 1 MiB");
	*src = (struct policy_source){.name = run->file, .yaml = text, .len = (size_t)n};
	return 0;
}

int policy_cases_run(const char *path, struct sql_engine *engine,
		     struct policy_cases_result *result, struct policy_report *report)
{
	struct run run = {.file = path, .engine = engine, .result = result, .report = report};
	struct policy_source src = {0};
	struct yaml_docs docs = {0};
	int err;

	arena_init(&run.arena);
	err = slurp(&run, &src);
	if (!err)
		err = yaml_parse_docs(&run.arena, &src, &docs, report);
	if (!err && docs.cnt != 1)
		err = bad(&run, NULL, "a cases file holds one document");
	if (!err)
		err = run_document(&run, docs.docs[0]);
	if (!err)
		result->policies++;
	policy_set_free(run.set);
	arena_fini(&run.arena);
	return err;
}
