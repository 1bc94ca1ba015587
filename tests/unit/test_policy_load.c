// SPDX-License-Identifier: Apache-2.0
/* The loader: what loads, what every kind of mistake is told, where, and that a bad file loads
 * nothing. */
#include "../lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "policy/guarantee.h"
#include "policy/policy.h"
#include "policy/set.h"

#define HEAD "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n"

static struct policy_report report;

static struct policy_set *load(const char *yaml, size_t len)
{
	struct policy_source src = {.name = "t.yaml", .yaml = yaml, .len = len};
	struct policy_set *set = NULL;
	int err;

	policy_report_fini(&report);
	policy_report_init(&report);
	err = policy_set_load(&src, 1, 7, &set, &report);
	CHECK_MSG(err == 0 || err == -EINVAL, "unexpected %d", err);
	CHECK_MSG((err == 0) == (set != NULL), "set and error disagree: %d", err);
	CHECK_MSG((err == 0) == (report.errors == 0), "errors and result disagree: %s",
		  buf_str(&report.text));
	return set;
}

static struct policy_set *load_ok(const char *yaml)
{
	struct policy_set *set = load(yaml, strlen(yaml));

	CHECK_MSG(set != NULL, "not loaded: %s", buf_str(&report.text));
	return set;
}

static void test_defaults(void)
{
	struct policy_set *set =
	    load_ok(HEAD "  rules:\n    - {name: a, action: deny, when: {effects: [delete]}}\n"
			 "    - {name: b, action: alert, when: {effects: [read]}}\n");
	struct policy_summary sum;

	if (!set)
		return;
	CHECK_INT(set->policies[0].mode, POLICY_SHADOW);
	CHECK_INT(set->policies[0].on_failure, POLICY_FAIL_OPEN);
	CHECK_INT(set->policies[0].rules[0].match.guarantee, POLICY_PREVENT);
	CHECK_INT(set->policies[0].rules[1].match.guarantee, POLICY_DETECT);
	CHECK_STR(set->policies[0].rules[0].match.policy, "p");
	policy_set_summary(set, &sum);
	CHECK_INT(sum.policies, 1);
	CHECK_INT(sum.rules, 2);
	CHECK_INT(sum.enforcing_rules, 0);
	CHECK(!sum.enforces && !sum.fails_closed && !sum.needs_identity);
	CHECK_INT(sum.generation, 7);
	policy_set_force_mode(set, POLICY_ENFORCE);
	policy_set_summary(set, &sum);
	CHECK(sum.enforces);
	CHECK_INT(sum.enforcing_rules, 1);
	policy_set_free(set);
}

static void test_every_key(void)
{
	struct policy_set *set = load_ok(
	    HEAD "  mode: enforce\n  guarantee: contain\n  on_failure: closed\n"
		 "  match: {engine: [postgresql], database: [\"a*\"], server: [10.0.0.1, "
		 "'10.1.0.0/16', '[::1]:5433', "
		 "'h*', /run/pg, '*:6432'], environment: [production], db_user: [u], transport: "
		 "[tcp, tls]}\n"
		 "  rules:\n"
		 "    - name: a\n      action: kill\n      message: stop\n      severity: high\n"
		 "      when: {effects: [modify, unknown], objects: [t, s.t, '*.t', /etc/x], "
		 "columns: [c, t.c, s.t.c], "
		 "commands: [update, 'DROP *'], functions: [f, s.f], function_risk: [file, none], "
		 "selective: false, "
		 "unknown: [syntax]}\n"
		 "      unless: {identity: {db_user: [x], application_name: [x], exe: [/x], uid: "
		 "[0, 4294967295], "
		 "cgroup: [/x], client_address: ['::1', 10.0.0.0/8], transport: [unix], "
		 "environment: [x]}}\n");
	struct rule *rule;

	if (!set)
		return;
	rule = &set->policies[0].rules[0];
	CHECK_INT(rule->when.facts.keys, (1u << FACT_MAX) - 1);
	CHECK_INT(rule->unless.who.cnt, 8);
	CHECK_INT(set->policies[0].match.cnt, 6);
	CHECK_INT(rule->match.guarantee, POLICY_CONTAIN);
	CHECK_STR(rule->severity, "high");
	CHECK_INT(rule->unless.who.conds[7].attr, ATTR_APPLICATION_NAME);
	CHECK(rule->when.facts.objects[1].has_schema && !rule->when.facts.objects[0].has_schema);
	CHECK(!rule->when.facts.objects[3].has_schema);
	policy_set_free(set);
}

#define RULE(when) HEAD "  rules:\n  - name: r\n    action: deny\n    when: " when "\n"

/* Text, what the report must hold. The place is part of it wherever it is interesting. */
static const struct {
	const char *yaml, *want;
} mistakes[] = {
    {"", "t.yaml: holds no policy"},
    {"# only a comment\n", "holds no policy"},
    {"---\n---\n", "holds no policy"},
    {"just text", "t.yaml:1:1: a policy: expected a mapping, not 'just text'"},
    {"a: [", "t.yaml:2:1: not YAML"},
    {"a:\n\t- b", "t.yaml:2:1: not YAML"},
    {"x: *y", "aliases are not supported"},
    {RULE("{objects: [*.ssn]}"), "must be quoted"},
    {"x: &y z", "t.yaml:1:4: anchors are not supported"},
    {"x: !!str z", "t.yaml:1:4: tags are not supported"},
    {"? [a]\n: b", "a key must be a plain word"},
    {"x: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "nested too deeply"},
    {"x: \"a\\0b\"", "holds a NUL"},
    {"kind: Policy\nkind: Policy\n", "t.yaml:2:1: 'kind' is given twice, first in line 1"},
    {"kind: Policy\nmetadata: {name: p}\nspec: {rules: [{name: a, action: deny}]}",
     "has no 'apiVersion'"},
    {"apiVersion: dbfence.dev/v2\n",
     "t.yaml:1:13: apiVersion: expected 'dbfence.dev/v1', not 'dbfence.dev/v2'"},
    {"apiVersion: dbfence.dev/v1\nkind: Polcy\n",
     "t.yaml:2:7: kind: expected 'Policy', not 'Polcy'"},
    {"apiVersion: dbfence.dev/v1\nkinds: Policy\n",
     "unknown key 'kinds' in a policy; did you mean 'kind'?"},
    {HEAD "  rules: []\n",
     "t.yaml:5:10: rules: expected a list with at least one rule, not an empty one"},
    {HEAD "  mode: enforce\n", "spec has no 'rules'"},
    {HEAD "  rules: {name: x}\n", "rules: expected a list"},
    {HEAD "  mode: enforced\n  rules: [{name: a, action: deny}]\n",
     "t.yaml:5:9: mode: unknown 'enforced'; did you mean 'enforce'?: one of shadow, enforce"},
    {HEAD "  guarantee: prevented\n  rules: [{name: a, action: deny}]\n",
     "did you mean 'prevent'?"},
    {HEAD "  on_failure: shut\n  rules: [{name: a, action: deny}]\n", "one of open, closed"},
    {HEAD "  modes: enforce\n  rules: [{name: a, action: deny}]\n",
     "unknown key 'modes' in spec; did you mean 'mode'?"},
    {HEAD "  rules: [{name: a, action: dney}]\n",
     "rule 'a': action: unknown 'dney'; did you mean 'deny'?"},
    {HEAD "  rules: [{name: a, action: require_approval}]\n",
     "t.yaml:5:29: rule 'a': action 'require_approval' comes with a later release"},
    {HEAD "  rules: [{name: a, action: limit}]\n", "action 'limit' comes with a later release"},
    {HEAD "  rules: [{name: a, action: deny, approval: {approvers: [x]}}]\n",
     "'approval' comes with a later release"},
    {HEAD "  rules: [{name: a}]\n", "a rule has no 'action'"},
    {HEAD "  rules: [{action: deny}]\n", "a rule has no 'name'"},
    {HEAD "  rules: [{name: a b, action: deny}]\n", "may hold only letters"},
    {HEAD "  rules: [{name: [a], action: deny}]\n", "name: expected a text, not a list"},
    {HEAD "  rules:\n  - {name: a, action: deny}\n  - {name: a, action: alert}\n",
     "t.yaml:7:5: rule name 'a' is used twice in this policy, first in line 6"},
    {HEAD "  rules: [{name: a, action: deny, severity: hihg}]\n",
     "severity: unknown 'hihg'; did you mean 'high'?"},
    {HEAD "  rules: [{name: a, action: deny, message: \"a\\nb\"}]\n", "holds a control character"},
    {HEAD "  rules: [{name: a, action: deny, when: {}}]\n", "when is empty"},
    {HEAD "  rules: [{name: a, action: deny, unless: {}}]\n", "unless is empty"},
    {RULE("{efects: [read]}"), "unknown key 'efects' in when; did you mean 'effects'?"},
    {RULE("{effects: [dropp]}"), "t.yaml:8:22: rule 'r': unknown effect 'dropp'"},
    {RULE("{effects: [schema_destory]}"),
     "unknown effect 'schema_destory'; did you mean 'schema_destroy'?"},
    {RULE("{effects: [none]}"), "unknown effect 'none'"},
    {RULE("{effects: read}"), "effects: expected a list such as [a, b], not 'read'"},
    {RULE("{effects: []}"), "effects: the list is empty"},
    {RULE("{effects: [[read]]}"), "effects: expected a text, not a list"},
    {RULE("{effects: {read: 1}}"), "effects: expected a list such as [a, b], not a mapping"},
    {RULE("{function_risk: [flie]}"), "unknown function risk 'flie'; did you mean 'file'?"},
    {RULE("{unknown: [sintax]}"), "unknown reason 'sintax'; did you mean 'syntax'?"},
    {RULE("{unknown: false}"), "unknown: false is not needed"},
    {RULE("{unknown: yes}"), "expected true or false, not 'yes'"},
    {RULE("{selective: \"false\"}"), "selective: expected true or false"},
    {RULE("{objects: [a.b.c]}"), "'a.b.c' is neither name nor schema.name"},
    {RULE("{objects: [a.]}"), "neither name nor schema.name"},
    {RULE("{objects: [.a]}"), "neither name nor schema.name"},
    {RULE("{objects: [\"\"]}"), "objects: expected a text, not nothing"},
    {RULE("{columns: [a.b.c.d]}"), "neither column, table.column nor schema.table.column"},
    {RULE("{identity: {}}"),
     "identity: expected a mapping such as {db_user: [app]}, not an empty one"},
    {RULE("{identity: {user: [x]}}"), "unknown key 'user' in identity"},
    {RULE("{identity: {db_usr: [x]}}"),
     "unknown key 'db_usr' in identity; did you mean 'db_user'?"},
    {RULE("{identity: {service_account: [x]}}"), "'service_account' comes with a later release"},
    {RULE("{identity: {database: [x]}}"), "unknown key 'database' in identity"},
    {RULE("{identity: {uid: [-1]}}"), "expected a user id such as 1000, not '-1'"},
    {RULE("{identity: {uid: [4294967296]}}"), "expected a user id"},
    {RULE("{identity: {uid: [\"0\"]}}"), "expected a user id"},
    {RULE("{identity: {client_address: [10.0.0.0/33]}}"), "'10.0.0.0/33' is not an address"},
    {RULE("{identity: {client_address: [example.org]}}"), "'example.org' is not an address"},
    {RULE("{identity: {transport: [tpc]}}"), "unknown transport 'tpc'; did you mean 'tcp'?"},
    {HEAD "  match: {server: ['10.0.0.1:99999']}\n  rules: [{name: a, action: deny}]\n",
     "is not an address"},
    {HEAD "  match: {servers: [x]}\n  rules: [{name: a, action: deny}]\n",
     "did you mean 'server'?"},
    {HEAD "  match: {application_name: [x]}\n  rules: [{name: a, action: deny}]\n",
     "unknown key 'application_name' in match"},
    {"apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p, annotations: [x]}\n"
     "spec: {rules: [{name: a, action: deny}]}\n",
     "annotations: expected a mapping, not a list"},
    {HEAD "  rules: [{name: a, action: deny}]\n---\n" HEAD "  rules: [{name: a, action: deny}]\n",
     "t.yaml:7:1: policy name 'p' is taken by t.yaml:1"},
};

static void test_mistakes(void)
{
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		struct policy_set *set = load(mistakes[i].yaml, strlen(mistakes[i].yaml));

		CHECK_MSG(!set, "loaded: %s", mistakes[i].yaml);
		CHECK_MSG(strstr(buf_str(&report.text), mistakes[i].want), "wanted \"%s\", got: %s",
			  mistakes[i].want, buf_str(&report.text));
		policy_set_free(set);
	}
}

static const struct {
	const char *yaml, *want; /* NULL: no warning */
} warnings[] = {
    {RULE("{effects: [read], selective: false}"), "can never match"},
    {RULE("{commands: [DROP TABEL]}"),
     "no PostgreSQL command has the tag 'DROP TABEL'; did you mean 'DROP TABLE'?"},
    {RULE("{commands: [drop table, 'CREATE *', Alter System]}"), NULL},
    {RULE("{objects: [Orders]}"), "holds capital letters"},
    {RULE("{identity: {transport: [unix], client_address: [10.0.0.1]}}"),
     "a client on a unix socket has no address"},
    {HEAD "  rules: [{name: a, action: deny}]\n", "has no 'when'"},
    {HEAD "  rules: [{name: a, action: allow, when: {effects: [read]}}]\n",
     "'allow' does not override a deny"},
    {HEAD "  rules: [{name: a, action: deny, when: {effects: [read]}, unless: {identity: {db_user: "
	  "['*']}}}]\n",
     "'unless' exempts everyone"},
    {HEAD "  guarantee: prevent\n  rules: [{name: a, action: alert, when: {effects: [read]}}]\n",
     "means nothing"},
    {HEAD "  on_failure: closed\n  rules: [{name: a, action: alert, when: {effects: [read]}}]\n",
     "means nothing"},
    {HEAD
     "  match: {engine: [mysql]}\n  rules: [{name: a, action: alert, when: {effects: [read]}}]\n",
     "knows the engine postgresql only, not 'mysql'"},
    {HEAD
     "  guarantee: prevent\n  rules: [{name: a, action: deny, when: {commands: [DROP TABLE]}}]\n",
     NULL},
};

static void test_warnings(void)
{
	for (size_t i = 0; i < sizeof(warnings) / sizeof(warnings[0]); i++) {
		struct policy_set *set = load_ok(warnings[i].yaml);

		CHECK_INT(report.warnings, warnings[i].want ? 1 : 0);
		CHECK_MSG(strstr(buf_str(&report.text), warnings[i].want ? warnings[i].want : ""),
			  "wanted \"%s\": %s", warnings[i].want, buf_str(&report.text));
		policy_set_free(set);
	}
}

static void test_alias_bomb(void)
{
	struct buf yaml;

	buf_init(&yaml, 1 << 20);
	buf_puts(&yaml, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 40; i++)
		buf_printf(&yaml, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
			   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	CHECK(!load(yaml.data, yaml.len));
	CHECK(report.text.len < 200);
	buf_fini(&yaml);
}

static void test_limits(void)
{
	struct policy_set *set;
	struct buf yaml;

	buf_init(&yaml, 4 << 20);
	buf_puts(&yaml, RULE("{objects: ["));
	yaml.len--; /* the newline */
	for (int i = 0; i < LIMIT_POLICY_LIST; i++)
		buf_printf(&yaml, "t%d, ", i);
	buf_puts(&yaml, "]}\n");
	set = load(yaml.data, yaml.len);
	CHECK(set != NULL);
	policy_set_free(set);
	buf_reset(&yaml);
	buf_puts(&yaml, RULE("{objects: ["));
	yaml.len--;
	for (int i = 0; i <= LIMIT_POLICY_LIST; i++)
		buf_printf(&yaml, "t%d, ", i);
	buf_puts(&yaml, "]}\n");
	CHECK(!load(yaml.data, yaml.len));
	CHECK(strstr(buf_str(&report.text), "more than 1024 entries"));

	buf_reset(&yaml);
	buf_puts(&yaml, HEAD "  rules:\n");
	for (int i = 0; i <= LIMIT_POLICY_RULES; i++)
		buf_printf(&yaml, "  - {name: r%d, action: audit}\n", i);
	CHECK(!load(yaml.data, yaml.len));
	CHECK(strstr(buf_str(&report.text), "more than 4096"));

	buf_reset(&yaml);
	for (int i = 0; i < 600000; i++)
		buf_puts(&yaml, "# ");
	CHECK(!load(yaml.data, yaml.len));
	CHECK(strstr(buf_str(&report.text), "longer than 1048576 bytes"));
	buf_fini(&yaml);
}

/* Every byte of a good file cut off, and every byte damaged: never a crash, never half a set. */
static void test_damage(void)
{
	static const char good[] =
	    HEAD "  mode: enforce\n  rules:\n    - name: a\n      when: {effects: [delete], "
		 "objects: ['x.*']}\n      unless: {identity: {uid: [0]}}\n      action: deny\n";
	char text[sizeof(good)];

	for (size_t cut = 0; cut < sizeof(good); cut++)
		policy_set_free(load(good, cut));
	for (size_t at = 0; at < sizeof(good) - 1; at++)
		for (int byte = 0; byte < 256; byte += 5) {
			memcpy(text, good, sizeof(good));
			text[at] = (char)byte;
			policy_set_free(load(text, sizeof(good) - 1));
		}
}

static void test_many_findings(void)
{
	struct policy_set *set;
	struct buf yaml;

	buf_init(&yaml, 1 << 20);
	buf_puts(&yaml, HEAD "  rules:\n");
	for (int i = 0; i < 3000; i++)
		buf_printf(&yaml, "  - {name: r%d, action: audit, when: {effects: [x%d]}}\n", i, i);
	set = load(yaml.data, yaml.len);
	CHECK(!set);
	CHECK_INT(report.errors, 3000);
	CHECK(report.text.len > 1000 && report.text.len < 100000);
	buf_fini(&yaml);
}

static void test_paths(void)
{
	char dir[] = "/tmp/test_policy_load.XXXXXX", path[128];
	struct policy_set *set = NULL;
	FILE *f;

	if (!CHECK(mkdtemp(dir) != NULL))
		return;
	policy_report_fini(&report);
	policy_report_init(&report);
	CHECK_INT(policy_set_load_path(dir, 1, &set, &report), 0);
	CHECK_INT(report.warnings, 1);
	policy_set_free(set);
	set = NULL;
	for (int i = 2; i >= 1; i--) {
		snprintf(path, sizeof(path), "%s/%d.%s", dir, i, i == 1 ? "yaml" : "yml");
		f = fopen(path, "w");
		if (CHECK(f != NULL)) {
			fprintf(f,
				"apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p%d}\n"
				"spec: {rules: [{name: a, action: audit}]}\n",
				i);
			fclose(f);
		}
	}
	snprintf(path, sizeof(path), "%s/readme.txt", dir);
	f = fopen(path, "w");
	if (CHECK(f != NULL))
		fclose(f);
	CHECK_INT(policy_set_load_path(dir, 1, &set, &report), 0);
	if (CHECK(set != NULL)) {
		CHECK_INT(set->policy_cnt, 2);
		CHECK_STR(set->policies[0].name, "p1");
	}
	policy_set_free(set);
	set = NULL;
	CHECK_INT(policy_set_load_path("/nonexistent/x", 1, &set, &report), -EINVAL);
	CHECK(strstr(buf_str(&report.text), "/nonexistent/x: cannot be read: No such file"));
	CHECK(!set);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir,
			 i == 0	  ? "1.yaml"
			 : i == 1 ? "2.yml"
				  : "readme.txt");
		CHECK_INT(unlink(path), 0);
	}
	CHECK_INT(rmdir(dir), 0);
}

static void test_names(void)
{
	CHECK_STR(policy_action_name(POLICY_KILL), "kill");
	CHECK_STR(policy_mode_name(POLICY_ENFORCE), "enforce");
	CHECK_STR(policy_failure_name(POLICY_FAIL_CLOSED), "closed");
	CHECK_STR(policy_guarantee_name(POLICY_CONTAIN), "contain");
	CHECK_STR(policy_action_name(POLICY_ACTION_MAX), "invalid");
}

static void test_guarantees(void)
{
	static const struct {
		const char *tag;
		enum policy_guarantee nested;
		enum guarantee_reason reason;
	} want[] = {
	    {"DROP TABLE", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"ALTER TABLE", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"CREATE TABLE", POLICY_PREVENT, GUARANTEE_FULL},
	    {"CREATE VIEW", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"CREATE TABLESPACE", POLICY_PREVENT, GUARANTEE_REFUSED},
	    {"CREATE NONSENSE", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"TRUNCATE TABLE", POLICY_PREVENT, GUARANTEE_FULL},
	    {"DELETE", POLICY_PREVENT, GUARANTEE_FULL},
	    {"GRANT", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"SET", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	    {"ALTER SYSTEM", POLICY_PREVENT, GUARANTEE_REFUSED},
	    {"LOAD", POLICY_DETECT, GUARANTEE_STAYS},
	    {"COPY", POLICY_DETECT, GUARANTEE_STAYS},
	    {"CLOSE CURSOR", POLICY_DETECT, GUARANTEE_STAYS},
	    {"BASE_BACKUP", POLICY_PREVENT, GUARANTEE_REFUSED},
	    {"START_REPLICATION", POLICY_PREVENT, GUARANTEE_REFUSED},
	    {"NOT A TAG", POLICY_CONTAIN, GUARANTEE_ROLLED_BACK},
	};
	struct policy_set *set = load_ok(RULE("{effects: [privilege]}"));
	struct policy_rule_info info;
	enum guarantee_reason reason;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		CHECK_INT(policy_guarantee_for(want[i].tag, GUARANTEE_TOP, &reason),
			  POLICY_PREVENT);
		CHECK_INT(policy_guarantee_for(want[i].tag, GUARANTEE_NESTED, &reason),
			  want[i].nested);
		CHECK_INT(reason, want[i].reason);
	}
	CHECK(set && policy_rule_info(set, 0, &info) && !policy_rule_info(set, 1, &info));
	CHECK_INT(info.top, POLICY_PREVENT);
	CHECK_INT(info.nested, POLICY_CONTAIN);
	CHECK_STR(policy_rule_exception(set, 0, GUARANTEE_ROLLED_BACK, 0), "GRANT");
	policy_set_free(set);
}

static const struct test_case cases[] = {
    {"defaults", test_defaults}, {"every_key", test_every_key},		{"mistakes", test_mistakes},
    {"warnings", test_warnings}, {"alias_bomb", test_alias_bomb},	{"limits", test_limits},
    {"damage", test_damage},	 {"many_findings", test_many_findings}, {"paths", test_paths},
    {"names", test_names},	 {"guarantees", test_guarantees},
};

TEST_MAIN(cases)
