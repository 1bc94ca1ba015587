// SPDX-License-Identifier: Apache-2.0
/* Decisions from hand-built facts: what each key matches, what unknown things do, and which match
 * decides. */
#include "../lib/test.h"

#include <stdio.h>

#include "policy/policy.h"
#include "policy/set.h"

#define HEAD(spec)                                                                                 \
	"apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: "           \
	"enforce\n" spec

static struct policy_set *load(const char *yaml)
{
	struct policy_source src = {.name = "t.yaml", .yaml = yaml, .len = strlen(yaml)};
	struct policy_report report;
	struct policy_set *set = NULL;

	policy_report_init(&report);
	policy_set_load(&src, 1, 1, &set, &report);
	CHECK_MSG(set != NULL, "%s", buf_str(&report.text));
	policy_report_fini(&report);
	return set;
}

static struct policy_decision eval(const char *yaml, const struct sql_facts *facts,
				   const struct identity *who)
{
	static struct policy_decision decision;
	static struct policy_set *set;

	/* The last set stays alive: the decision borrows its strings. */
	policy_set_free(set);
	set = load(yaml);
	memset(&decision, 0xa5, sizeof(decision));
	if (set)
		policy_eval(set, facts, who, &decision);
	return decision;
}

/* --- statements by hand
 * ------------------------------------------------------------------------------ */

static struct sql_object relation(const char *schema, const char *name, uint32_t effects)
{
	return (struct sql_object){
	    .kind = SQL_OBJ_RELATION, .schema = schema, .name = name, .effects = effects};
}

static struct sql_stmt statement(const char *command, struct sql_object *objects, unsigned cnt)
{
	struct sql_stmt stmt = {.command = command, .objects = objects, .object_cnt = cnt};

	for (unsigned i = 0; i < cnt; i++)
		stmt.effects |= objects[i].effects;
	return stmt;
}

static struct sql_facts known(struct sql_stmt *stmts, unsigned cnt)
{
	struct sql_facts facts = {.stmts = stmts, .stmt_cnt = cnt, .masked = "", .tags = ""};

	for (unsigned i = 0; i < cnt; i++)
		facts.effects |= stmts[i].effects;
	return facts;
}

static struct sql_facts unknown(enum sql_unknown why, uint32_t hinted)
{
	return (struct sql_facts){
	    .unknown = why, .effects = SQL_BIT(SQL_UNKNOWN) | hinted, .masked = "", .tags = ""};
}

#define DEL SQL_BIT(SQL_DELETE)
#define RD SQL_BIT(SQL_READ)
#define DROP SQL_BIT(SQL_SCHEMA_DESTROY)

#define RULE(when) HEAD("  rules: [{name: r, action: deny, when: " when "}]\n")
#define UNLESS(when, unless)                                                                       \
	HEAD("  rules: [{name: r, action: deny, when: " when ", unless: " unless "}]\n")
#define CLOSED(when)                                                                               \
	HEAD("  on_failure: closed\n  rules: [{name: r, action: deny, when: " when "}]\n")
#define CLOSED_UNLESS(when, unless)                                                                \
	HEAD("  on_failure: closed\n  rules: [{name: r, action: deny, when: " when                 \
	     ", unless: " unless "}]\n")

static const struct identity nobody;

static void test_effects(void)
{
	struct sql_object object = relation("public", "t", DEL | RD);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_decision d = eval(RULE("{effects: [delete]}"), &facts, &nobody);

	CHECK_INT(d.action, POLICY_DENY);
	CHECK_INT(d.shadow, POLICY_ALLOW);
	CHECK_STR(d.matches[0].rule, "r");
	CHECK_INT(d.match_total, 1);
	CHECK(d.literal_free && !d.identity_volatile && !d.unknown_cnt &&
	      !d.matches[0].by_fail_mode);
	d = eval(RULE("{effects: [schema_destroy, write]}"), &facts, &nobody);
	CHECK_INT(d.action, POLICY_ALLOW);
	CHECK_INT(d.match_total, 0);
	CHECK(!d.deciding);
	facts.literal_dependent = true;
	CHECK(!eval(RULE("{effects: [delete]}"), &facts, &nobody).literal_free);
}

static enum policy_action one_object(const char *yaml, const char *schema, const char *name,
				     uint32_t effects)
{
	struct sql_object object = relation(schema, name, effects);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);

	return eval(yaml, &facts, &nobody).action;
}

static void test_objects_lenient(void)
{
	const char *rule = RULE("{objects: [public.customers, audit_*, '*.ledger']}");

	CHECK_INT(one_object(rule, "public", "customers", DEL), POLICY_DENY);
	CHECK_INT(one_object(rule, "other", "customers", DEL), POLICY_ALLOW);
	CHECK_INT(one_object(rule, NULL, "customers", DEL), POLICY_DENY);
	CHECK_INT(one_object(rule, "any", "audit_x", DEL), POLICY_DENY);
	CHECK_INT(one_object(rule, NULL, "ledger", DEL), POLICY_DENY);
	CHECK_INT(one_object(rule, "x", "ledgers", DEL), POLICY_ALLOW);
	CHECK_INT(one_object(rule, "x", "", DEL), POLICY_ALLOW);
	CHECK_INT(one_object(rule, "x", NULL, DEL), POLICY_ALLOW);
	/* An unwritten schema may be any, not only public. */
	CHECK_INT(one_object(RULE("{objects: [billing.t]}"), NULL, "t", DEL), POLICY_DENY);
}

static void test_objects_kinds(void)
{
	struct sql_object object = {.kind = SQL_OBJ_SCHEMA, .name = "billing", .effects = DROP};
	struct sql_stmt stmt = statement("DROP SCHEMA", &object, 1);
	struct sql_facts facts = known(&stmt, 1);

	CHECK_INT(eval(RULE("{objects: ['billing.*']}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{objects: [billing.invoices]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{objects: [billing]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{objects: ['sales.*']}"), &facts, &nobody).action, POLICY_ALLOW);
	object =
	    (struct sql_object){.kind = SQL_OBJ_SETTING, .name = "auto_explain.log", .effects = RD};
	CHECK_INT(eval(RULE("{objects: ['auto_explain.*']}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{objects: ['x.log']}"), &facts, &nobody).action, POLICY_ALLOW);
	object = (struct sql_object){.kind = SQL_OBJ_FILE, .name = "/etc/x.conf", .effects = RD};
	CHECK_INT(eval(RULE("{objects: ['/etc/*']}"), &facts, &nobody).action, POLICY_DENY);
	object = (struct sql_object){.kind = SQL_OBJ_ROLE, .name = "customers", .effects = RD};
	CHECK_INT(eval(RULE("{objects: [public.customers]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
}

static void test_effects_belong_to_objects(void)
{
	struct sql_object objects[] = {relation("public", "log", DEL),
				       relation("public", "customers", RD)};
	struct sql_stmt stmt = statement("DELETE", objects, 2);
	struct sql_facts facts = known(&stmt, 1);

	CHECK_INT(eval(RULE("{effects: [delete], objects: [customers]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(RULE("{effects: [read], objects: [customers]}"), &facts, &nobody).action,
		  POLICY_DENY);
	/* An effect that no object carries may be on any of them. */
	stmt.effects |= SQL_BIT(SQL_WRITE);
	facts.effects |= SQL_BIT(SQL_WRITE);
	CHECK_INT(eval(RULE("{effects: [write], objects: [customers]}"), &facts, &nobody).action,
		  POLICY_DENY);
}

static void test_columns(void)
{
	static const char *columns[] = {"id", "ssn"};
	struct sql_object object = relation("public", "customers", RD);
	struct sql_stmt stmt = statement("SELECT", &object, 1);
	struct sql_facts facts = known(&stmt, 1);

	CHECK_INT(eval(RULE("{columns: ['*.ssn']}"), &facts, &nobody).action, POLICY_ALLOW);
	object.columns = columns;
	object.column_cnt = 1;
	CHECK_INT(eval(RULE("{columns: ['*.ssn']}"), &facts, &nobody).action, POLICY_ALLOW);
	object.column_cnt = 2;
	CHECK_INT(eval(RULE("{columns: ['*.ssn']}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{columns: [ssn]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{columns: [public.customers.ssn]}"), &facts, &nobody).action,
		  POLICY_DENY);
	CHECK_INT(eval(RULE("{columns: [hr.customers.ssn]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(RULE("{columns: [orders.ssn]}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(RULE("{columns: [ssn], effects: [modify]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(RULE("{columns: [ssn], objects: [orders]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	object.column_cnt = 0;
	object.all_columns = true;
	CHECK_INT(eval(RULE("{columns: [customers.ssn]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{columns: [orders.ssn]}"), &facts, &nobody).action, POLICY_ALLOW);
}

static void test_commands_functions_selective(void)
{
	struct sql_function functions[] = {
	    {.name = "lower", .risk = SQL_RISK_NONE},
	    {.schema = "ext", .name = "dblink", .risk = SQL_RISK_DYNAMIC}};
	struct sql_stmt stmt = {.command = "ALTER SYSTEM",
				.functions = functions,
				.function_cnt = 2,
				.selective = SQL_SELECTIVE_NO};
	struct sql_facts facts = known(&stmt, 1);

	CHECK_INT(eval(RULE("{commands: [alter system]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{commands: ['ALTER *']}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{commands: [ALTER]}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(RULE("{functions: ['dblink*']}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{functions: [public.dblink]}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(RULE("{function_risk: [dynamic, file]}"), &facts, &nobody).action,
		  POLICY_DENY);
	CHECK_INT(eval(RULE("{function_risk: [file]}"), &facts, &nobody).action, POLICY_ALLOW);
	/* Both keys about one function. */
	CHECK_INT(
	    eval(RULE("{functions: [lower], function_risk: [dynamic]}"), &facts, &nobody).action,
	    POLICY_ALLOW);
	CHECK_INT(eval(RULE("{selective: false}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{selective: true}"), &facts, &nobody).action, POLICY_ALLOW);
	stmt.selective = SQL_SELECTIVE_NA;
	CHECK_INT(eval(RULE("{selective: false}"), &facts, &nobody).action, POLICY_ALLOW);
	stmt.selective = SQL_SELECTIVE_UNKNOWN;
	CHECK_INT(eval(RULE("{selective: false}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(CLOSED("{selective: false}"), &facts, &nobody).action, POLICY_DENY);
	CHECK(eval(CLOSED("{selective: false}"), &facts, &nobody).matches[0].by_fail_mode);
	stmt.command = NULL;
	CHECK_INT(eval(RULE("{commands: ['*']}"), &facts, &nobody).action, POLICY_ALLOW);
}

static void test_every_statement_counts(void)
{
	struct sql_object a = relation(NULL, "a", RD), b = relation(NULL, "b", DROP);
	struct sql_stmt stmts[] = {statement("SELECT", &a, 1), statement("SELECT", &a, 1),
				   statement("DROP TABLE", &b, 1)};
	struct sql_facts facts = known(stmts, 3);
	struct policy_decision d = eval(RULE("{effects: [schema_destroy]}"), &facts, &nobody);

	CHECK_INT(d.action, POLICY_DENY);
	CHECK_INT(d.matches[0].stmt, 2);
	/* Both keys must hold for one statement. */
	CHECK_INT(eval(RULE("{effects: [schema_destroy], objects: [a]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	facts = known(stmts, 0);
	CHECK_INT(eval(HEAD("  rules: [{name: r, action: deny}]\n"), &facts, &nobody).action,
		  POLICY_ALLOW);
}

static void test_unless_objects(void)
{
	const char *rule =
	    UNLESS("{effects: [schema_destroy]}", "{objects: ['scratch.*', 'tmp_*']}");
	struct sql_object objects[] = {relation("scratch", "a", DROP),
				       relation("public", "b", DROP)};
	struct sql_stmt stmt = statement("DROP TABLE", objects, 1);
	struct sql_facts facts = known(&stmt, 1);

	CHECK_INT(eval(rule, &facts, &nobody).action, POLICY_ALLOW);
	stmt.object_cnt = 2;
	CHECK_INT(eval(rule, &facts, &nobody).action, POLICY_DENY);
	/* What is only read does not have to be exempt. */
	objects[1].effects = RD;
	CHECK_INT(eval(rule, &facts, &nobody).action, POLICY_ALLOW);
	/* Without a schema it could be anywhere: not exempt by schema, but by a bare name. */
	CHECK_INT(one_object(rule, NULL, "a", DROP), POLICY_DENY);
	CHECK_INT(one_object(rule, NULL, "tmp_a", DROP), POLICY_ALLOW);
	/* DROP SCHEMA scratch is not a drop in scratch. */
	objects[0] =
	    (struct sql_object){.kind = SQL_OBJ_SCHEMA, .name = "scratch", .effects = DROP};
	stmt.object_cnt = 1;
	CHECK_INT(eval(rule, &facts, &nobody).action, POLICY_DENY);
	/* An effect whose object is not known is not exempt. */
	stmt = statement("DROP OWNED", NULL, 0);
	stmt.effects = DROP;
	facts = known(&stmt, 1);
	CHECK_INT(eval(rule, &facts, &nobody).action, POLICY_DENY);
}

static void test_unless_other_facts(void)
{
	static const char *columns[] = {"id", "name"};
	struct sql_function functions[] = {{.name = "pg_read_file", .risk = SQL_RISK_FILE},
					   {.name = "lower", .risk = SQL_RISK_NONE},
					   {.name = "pg_ls_dir", .risk = SQL_RISK_FILE}};
	struct sql_object object = relation("public", "t", RD);
	struct sql_stmt stmt = statement("SELECT", &object, 1);
	struct sql_facts facts;

	stmt.functions = functions;
	stmt.function_cnt = 2;
	facts = known(&stmt, 1);
	CHECK_INT(
	    eval(UNLESS("{function_risk: [file]}", "{functions: [pg_read_file]}"), &facts, &nobody)
		.action,
	    POLICY_ALLOW);
	stmt.function_cnt = 3;
	CHECK_INT(
	    eval(UNLESS("{function_risk: [file]}", "{functions: [pg_read_file]}"), &facts, &nobody)
		.action,
	    POLICY_DENY);
	CHECK_INT(eval(UNLESS("{objects: [t]}", "{commands: [SELECT]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(UNLESS("{objects: [t]}", "{effects: [read]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	stmt.effects |= DEL;
	CHECK_INT(eval(UNLESS("{objects: [t]}", "{effects: [read]}"), &facts, &nobody).action,
		  POLICY_DENY);
	object.columns = columns;
	CHECK_INT(
	    eval(UNLESS("{objects: [t]}", "{columns: [public.t.id]}"), &facts, &nobody).action,
	    POLICY_DENY);
	object.column_cnt = 1;
	CHECK_INT(
	    eval(UNLESS("{objects: [t]}", "{columns: [public.t.id]}"), &facts, &nobody).action,
	    POLICY_ALLOW);
	object.column_cnt = 2;
	CHECK_INT(
	    eval(UNLESS("{objects: [t]}", "{columns: [public.t.id]}"), &facts, &nobody).action,
	    POLICY_DENY);
	object.column_cnt = 1;
	object.all_columns = true;
	CHECK_INT(
	    eval(UNLESS("{objects: [t]}", "{columns: [public.t.id]}"), &facts, &nobody).action,
	    POLICY_DENY);
}

static void test_identity(void)
{
	struct identity who = {.engine = "postgresql",
			       .database = "orders",
			       .db_user = "app",
			       .application_name = "psql",
			       .transport = "tcp",
			       .server_address = "10.0.0.5",
			       .server_port = 5432,
			       .client_address = "::ffff:10.1.2.3",
			       .exe = "/usr/bin/psql",
			       .cgroup = "/kube/x",
			       .uid_known = true,
			       .uid = 1000,
			       .environment = "production"};
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	static const struct {
		const char *key;
		bool hit;
	} tests[] = {
	    {"db_user: [x, app]", true},
	    {"db_user: ['ap?']", true},
	    {"db_user: [App]", false},
	    {"uid: [0, 1000]", true},
	    {"uid: [0]", false},
	    {"exe: ['/usr/bin/*']", true},
	    {"exe: ['*/psq']", false},
	    {"cgroup: ['/kube/*']", true},
	    {"transport: [tcp]", true},
	    {"transport: [tls, unix]", false},
	    {"environment: ['prod*']", true},
	    {"environment: [dev]", false},
	    {"client_address: [10.1.2.3]", true},
	    {"client_address: [10.1.0.0/16]", true},
	    {"client_address: [10.2.0.0/16]", false},
	    {"client_address: [10.1.2.2/31]", true},
	    {"client_address: ['fe80::/10']", false},
	    {"client_address: ['0.0.0.0/0']", true},
	    {"application_name: [psql]", true},
	    {"db_user: [app], uid: [0]", false},
	};
	char yaml[512];

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		snprintf(yaml, sizeof(yaml), RULE("{effects: [delete], identity: {%s}}"),
			 tests[i].key);
		CHECK_MSG(eval(yaml, &facts, &who).action ==
			      (tests[i].hit ? POLICY_DENY : POLICY_ALLOW),
			  "when %s", tests[i].key);
		snprintf(yaml, sizeof(yaml), UNLESS("{effects: [delete]}", "{identity: {%s}}"),
			 tests[i].key);
		CHECK_MSG(eval(yaml, &facts, &who).action ==
			      (tests[i].hit ? POLICY_ALLOW : POLICY_DENY),
			  "unless %s", tests[i].key);
	}
}

static void test_match(void)
{
	static const struct {
		const char *match, *address;
		uint16_t port;
		bool hit;
	} tests[] = {
	    {"server: [10.0.0.5]", "10.0.0.5", 5432, true},
	    {"server: ['10.0.0.5:5432']", "10.0.0.5", 5432, true},
	    {"server: ['10.0.0.5:5433']", "10.0.0.5", 5432, false},
	    {"server: ['*:5432']", "10.0.0.5", 5432, true},
	    {"server: ['*:5432']", "10.0.0.5", 5433, false},
	    {"server: [10.0.0.0/24]", "10.0.0.5", 5432, true},
	    {"server: ['10.0.*']", "10.0.0.5", 5432, true},
	    {"server: ['[2001:db8::1]:5432']", "2001:db8:0::1", 5432, true},
	    {"server: ['2001:db8::1']", "2001:db8::1", 1, true},
	    {"server: ['2001:db8::1']", "2001:db8::2", 1, false},
	    {"server: ['/var/run/*']", "/var/run/postgresql", 5432, true},
	    {"server: [/var/run/postgresql]", "/tmp", 5432, false},
	    {"engine: [postgresql]", "10.0.0.5", 1, true},
	    {"engine: [mysql]", "10.0.0.5", 1, false},
	    {"database: [orders, 'billing_*']", "10.0.0.5", 1, true},
	    {"database: ['billing_*']", "10.0.0.5", 1, false},
	    {"database: [orders], db_user: [x]", "10.0.0.5", 1, false},
	};
	struct identity who = {.engine = "postgresql", .database = "orders", .db_user = "app"};
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	char yaml[512];

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		who.server_address = tests[i].address;
		who.server_port = tests[i].port;
		snprintf(yaml, sizeof(yaml),
			 HEAD("  match: {%s}\n  rules: [{name: r, action: deny}]\n"),
			 tests[i].match);
		CHECK_MSG(eval(yaml, &facts, &who).action ==
			      (tests[i].hit ? POLICY_DENY : POLICY_ALLOW),
			  "%s for %s:%u", tests[i].match, tests[i].address, tests[i].port);
	}
}

/* For every attribute: unknown is neither a match nor a mismatch. */
static void test_unknown_attributes(void)
{
	static const char *const keys[] = {
	    "db_user: [x]", "application_name: [x]",	  "exe: [x]",	      "uid: [0]",
	    "cgroup: [x]",  "client_address: [10.0.0.1]", "transport: [tcp]", "environment: [x]"};
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_decision d;
	char yaml[512];

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		snprintf(yaml, sizeof(yaml), RULE("{effects: [delete], identity: {%s}}"), keys[i]);
		d = eval(yaml, &facts, &nobody);
		CHECK_MSG(d.action == POLICY_ALLOW, "open %s", keys[i]);
		CHECK_INT(d.unknown_cnt, 1);
		CHECK(!strncmp(d.unknown_attributes[0], keys[i], strlen(d.unknown_attributes[0])));
		snprintf(yaml, sizeof(yaml), CLOSED("{effects: [delete], identity: {%s}}"),
			 keys[i]);
		d = eval(yaml, &facts, &nobody);
		CHECK_MSG(d.action == POLICY_DENY && d.matches[0].by_fail_mode, "closed %s",
			  keys[i]);
		snprintf(yaml, sizeof(yaml), UNLESS("{effects: [delete]}", "{identity: {%s}}"),
			 keys[i]);
		d = eval(yaml, &facts, &nobody);
		CHECK_MSG(d.action == POLICY_DENY && !d.matches[0].by_fail_mode, "unless %s",
			  keys[i]);
		CHECK_INT(d.unknown_cnt, 1);
		snprintf(yaml, sizeof(yaml),
			 HEAD("  on_failure: closed\n  rules: [{name: r, action: alert, when: "
			      "{effects: [delete], identity: {%s}}}]\n"),
			 keys[i]);
		CHECK_MSG(eval(yaml, &facts, &nobody).action == POLICY_ALLOW, "alert %s", keys[i]);
	}
	/* A definite mismatch settles it, whatever else is unknown. */
	CHECK_INT(eval(CLOSED("{effects: [read], identity: {exe: [x]}}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(HEAD("  on_failure: closed\n  match: {environment: [production]}\n"
			    "  rules: [{name: r, action: deny}]\n"),
		       &facts, &nobody)
		      .action,
		  POLICY_DENY);
	CHECK_INT(
	    eval(HEAD("  match: {environment: [production]}\n  rules: [{name: r, action: deny}]\n"),
		 &facts, &nobody)
		.action,
	    POLICY_ALLOW);
	/* There is no address on a unix socket, and that is known. */
	CHECK_INT(eval(CLOSED("{identity: {client_address: [10.0.0.1]}}"), &facts,
		       &(struct identity){.transport = "unix"})
		      .action,
		  POLICY_ALLOW);
}

static void test_unknown_facts(void)
{
	static const char *const keys[] = {"effects: [delete]", "objects: [t]",
					   "columns: [c]",	"commands: [DROP TABLE]",
					   "functions: [f]",	"function_risk: [file]",
					   "selective: false"};
	struct sql_facts facts = unknown(SQL_UNKNOWN_SYNTAX, 0);
	struct policy_decision d;
	char yaml[512];

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		snprintf(yaml, sizeof(yaml), RULE("{%s}"), keys[i]);
		CHECK_MSG(eval(yaml, &facts, &nobody).action == POLICY_ALLOW, "open %s", keys[i]);
		snprintf(yaml, sizeof(yaml), CLOSED("{%s}"), keys[i]);
		d = eval(yaml, &facts, &nobody);
		CHECK_MSG(d.action == POLICY_DENY && d.matches[0].by_fail_mode, "closed %s",
			  keys[i]);
		CHECK_INT(d.matches[0].stmt, 0);
		CHECK(!d.literal_free);
		snprintf(yaml, sizeof(yaml), UNLESS("{unknown: true}", "{%s}"), keys[i]);
		CHECK_MSG(eval(yaml, &facts, &nobody).action == POLICY_DENY, "unless %s", keys[i]);
		snprintf(yaml, sizeof(yaml), RULE("{unknown: [syntax], %s}"), keys[i]);
		d = eval(yaml, &facts, &nobody);
		CHECK_MSG(d.action == POLICY_DENY && !d.matches[0].by_fail_mode, "explicit %s",
			  keys[i]);
	}
	CHECK_INT(eval(RULE("{unknown: true}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{effects: [unknown]}"), &facts, &nobody).action, POLICY_DENY);
	CHECK_INT(eval(RULE("{unknown: [truncated]}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(CLOSED("{unknown: [truncated]}"), &facts, &nobody).action, POLICY_ALLOW);
	CHECK_INT(eval(UNLESS("{unknown: true}", "{unknown: [syntax]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(CLOSED_UNLESS("{effects: [delete]}", "{identity: {db_user: [m]}}"), &facts,
		       &(struct identity){.db_user = "m"})
		      .action,
		  POLICY_ALLOW);
	facts = unknown(SQL_UNKNOWN_EMPTY_SOURCE, DEL);
	d = eval(RULE("{effects: [delete]}"), &facts, &nobody);
	CHECK_INT(d.action, POLICY_DENY);
	CHECK(!d.matches[0].by_fail_mode);
	CHECK_INT(eval(RULE("{effects: [delete], objects: [t]}"), &facts, &nobody).action,
		  POLICY_ALLOW);
	CHECK_INT(eval(CLOSED("{effects: [delete], objects: [t]}"), &facts, &nobody).action,
		  POLICY_DENY);
}

/* A text of which some statements were read: those count as what they are. */
static void test_partly_unknown(void)
{
	struct sql_object object = relation(NULL, "t", DROP);
	struct sql_stmt stmt = statement("DROP TABLE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_decision d;

	facts.unknown = SQL_UNKNOWN_TOO_MANY;
	d = eval(RULE("{effects: [schema_destroy], objects: [t]}"), &facts, &nobody);
	CHECK_INT(d.action, POLICY_DENY);
	CHECK(!d.matches[0].by_fail_mode);
	d = eval(CLOSED("{objects: [u]}"), &facts, &nobody);
	CHECK_INT(d.action, POLICY_DENY);
	CHECK(d.matches[0].by_fail_mode);
	CHECK_INT(d.matches[0].stmt, 0);
}

static void test_order_and_shadow(void)
{
	static const char yaml[] =
	    "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: shadow}\nspec:\n  mode: "
	    "shadow\n  rules:\n"
	    "  - {name: s1, action: kill}\n  - {name: s2, action: deny}\n---\n"
	    "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: on}\nspec:\n  mode: "
	    "enforce\n  rules:\n"
	    "  - {name: e1, action: audit}\n  - {name: e2, action: alert, message: look}\n";
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_set *set = load(yaml);
	struct policy_decision d;

	if (!set)
		return;
	policy_eval(set, &facts, &nobody, &d);
	CHECK_INT(d.action, POLICY_ALERT);
	CHECK_INT(d.shadow, POLICY_KILL);
	CHECK_INT(d.match_total, 4);
	CHECK_STR(d.deciding->rule, "e2");
	CHECK_STR(d.deciding->message, "look");
	CHECK_STR(d.matches[1].rule, "e1");
	CHECK_STR(d.matches[2].rule, "s1");
	policy_set_force_mode(set, POLICY_SHADOW);
	policy_eval(set, &facts, &nobody, &d);
	CHECK_INT(d.action, POLICY_ALLOW);
	CHECK_INT(d.shadow, POLICY_KILL);
	CHECK_STR(d.deciding->rule, "s1");
	policy_set_free(set);
}

static void test_many_matches(void)
{
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_set *set;
	struct policy_decision d;
	struct buf yaml;

	buf_init(&yaml, 1 << 16);
	buf_puts(&yaml, HEAD("  rules:\n"));
	for (int i = 0; i < 40; i++)
		buf_printf(&yaml, "  - {name: a%d, action: %s}\n", i,
			   i == 30   ? "deny"
			   : i == 35 ? "kill"
				     : "audit");
	set = load(buf_str(&yaml));
	if (set) {
		policy_eval(set, &facts, &nobody, &d);
		CHECK_INT(d.match_cnt, LIMIT_POLICY_MATCHES);
		CHECK_INT(d.match_total, 40);
		CHECK_STR(d.matches[0].rule, "a35");
		CHECK_STR(d.matches[1].rule, "a30");
		CHECK_STR(d.matches[2].rule, "a0");
		CHECK_STR(d.matches[15].rule, "a13");
		CHECK_INT(d.action, POLICY_KILL);
	}
	policy_set_free(set);
	buf_fini(&yaml);
}

static void test_volatile(void)
{
	const char *rule =
	    UNLESS("{effects: [delete]}", "{identity: {application_name: [x], db_user: [m]}}");
	struct sql_object object = relation(NULL, "t", DEL);
	struct sql_stmt stmt = statement("DELETE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct identity who = {.db_user = "m", .application_name = "y"};

	CHECK(eval(rule, &facts, &who).identity_volatile);
	who.db_user = "other";
	CHECK(!eval(rule, &facts, &who).identity_volatile);
	facts = known(&stmt, 0);
	CHECK(!eval(rule, &facts, &who).identity_volatile);
}

static void undecided(const char *yaml, const struct identity *who, enum policy_action want)
{
	struct policy_set *set = load(yaml);
	struct policy_decision d;

	if (!set)
		return;
	policy_eval_undecided(set, who, &d);
	CHECK_MSG(d.action == want, "%s", yaml);
	CHECK(!d.literal_free);
	if (want != POLICY_ALLOW)
		CHECK(d.deciding && d.deciding->by_fail_mode && !d.deciding->message);
	policy_set_free(set);
}

static void test_undecided(void)
{
	struct identity who = {.database = "orders", .db_user = "m"};

	undecided(CLOSED("{effects: [delete]}"), &who, POLICY_DENY);
	undecided(RULE("{effects: [delete]}"), &who, POLICY_ALLOW);
	undecided(HEAD("  on_failure: closed\n  rules: [{name: r, action: kill}]\n"), &who,
		  POLICY_DENY);
	undecided(HEAD("  on_failure: closed\n  match: {database: [x]}\n  rules: [{name: r, "
		       "action: deny}]\n"),
		  &who, POLICY_ALLOW);
	undecided(HEAD("  on_failure: closed\n  match: {database: [orders]}\n  rules: [{name: r, "
		       "action: deny}]\n"),
		  &who, POLICY_DENY);
	undecided(HEAD("  on_failure: closed\n  match: {environment: [x]}\n  rules: [{name: r, "
		       "action: deny}]\n"),
		  &who, POLICY_DENY);
	undecided(HEAD("  on_failure: closed\n  rules: [{name: r, action: alert}]\n"), &who,
		  POLICY_ALLOW);
	/* Whoever is exempt from every rule whatever the text says has nothing to fear from a lost
	 * one. */
	undecided(CLOSED_UNLESS("{effects: [delete]}", "{identity: {db_user: [m]}}"), &who,
		  POLICY_ALLOW);
	undecided(CLOSED_UNLESS("{effects: [delete]}", "{identity: {db_user: [m]}, objects: [t]}"),
		  &who, POLICY_DENY);
	undecided(CLOSED_UNLESS("{effects: [delete]}", "{identity: {exe: [m]}}"), &who,
		  POLICY_DENY);
}

static void test_explain(void)
{
	struct sql_object object = relation("public", "t\033[2J", DROP);
	struct sql_stmt stmt = statement("DROP TABLE", &object, 1);
	struct sql_facts facts = known(&stmt, 1);
	struct policy_set *set = load(
	    HEAD("  rules:\n  - {name: r1, action: deny, message: no, when: {effects: "
		 "[schema_destroy]}}\n"
		 "  - {name: r2, action: deny, when: {effects: [read]}}\n"
		 "  - {name: r3, action: deny, when: {effects: [schema_destroy], objects: [x]}}\n"
		 "  - {name: r4, action: deny, when: {identity: {db_user: [x]}}}\n"
		 "  - {name: r5, action: deny, when: {identity: {exe: [x]}}}\n"
		 "  - {name: r6, action: deny, unless: {identity: {db_user: [m]}}}\n"));
	static const char *const want[] = {
	    "statement 1: DROP TABLE: schema_destroy",
	    "relation public.t?[2J: schema_destroy",
	    "* r1 (deny): matches statement 1",
	    "  r2 (deny): no: when.effects does not match",
	    "  r3 (deny): no: when.objects does not match",
	    "  r4 (deny): no: when.identity.db_user does not match",
	    "  r5 (deny): no: exe is unknown, and on_failure is open",
	    "  r6 (deny): no: 'unless' exempts it",
	    "decision: deny, by rule r1 of policy p: no",
	    "asked for and unknown: exe",
	};
	struct identity who = {.db_user = "m"};
	struct buf out;

	buf_init(&out, 65536);
	facts.masked = "DROP TABLE public.t";
	if (set)
		policy_explain(set, &facts, &who, &out);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		CHECK_MSG(strstr(buf_str(&out), want[i]), "no \"%s\" in:\n%s", want[i],
			  buf_str(&out));
	buf_fini(&out);
	policy_set_free(set);
}

static void test_glob(void)
{
	static const struct {
		const char *pattern, *text;
		bool hit;
	} tests[] = {
	    {"abc", "abc", true},  {"abc", "abcd", false},     {"*", "", true},
	    {"a*", "a", true},	   {"a*", "b", false},	       {"*c", "abc", true},
	    {"*c", "c", true},	   {"*bc", "c", false},	       {"a*c", "abbc", true},
	    {"a*c", "abb", false}, {"a?c", "abc", true},       {"a?c", "ac", false},
	    {"*a*", "bab", true},  {"*a*b*c", "xaxbxc", true}, {"*a*b*c", "xaxcxb", false},
	    {"??", "ab", true},	   {"??", "a", false},	       {"**", "x", true},
	    {"?*", "", false},
	};
	char many[257], text[301];
	struct glob glob;

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		glob_compile(&glob, tests[i].pattern, false);
		CHECK_MSG(glob_match(&glob, tests[i].text) == tests[i].hit, "%s on %s",
			  tests[i].pattern, tests[i].text);
	}
	glob_compile(&glob, "Drop *", true);
	CHECK(glob_match(&glob, "DROP TABLE"));
	/* The worst pattern stays polynomial. */
	for (size_t i = 0; i < sizeof(many) - 1; i++)
		many[i] = i % 2 ? '*' : 'a';
	many[sizeof(many) - 1] = '\0';
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 2] = 'b';
	text[sizeof(text) - 1] = '\0';
	many[sizeof(many) - 2] = 'c';
	glob_compile(&glob, many, false);
	CHECK(!glob_match(&glob, text));
}

static const struct test_case cases[] = {
    {"effects", test_effects},
    {"objects_lenient", test_objects_lenient},
    {"objects_kinds", test_objects_kinds},
    {"effects_belong_to_objects", test_effects_belong_to_objects},
    {"columns", test_columns},
    {"commands_functions_selective", test_commands_functions_selective},
    {"every_statement_counts", test_every_statement_counts},
    {"unless_objects", test_unless_objects},
    {"unless_other_facts", test_unless_other_facts},
    {"identity", test_identity},
    {"match", test_match},
    {"unknown_attributes", test_unknown_attributes},
    {"unknown_facts", test_unknown_facts},
    {"partly_unknown", test_partly_unknown},
    {"order_and_shadow", test_order_and_shadow},
    {"many_matches", test_many_matches},
    {"volatile", test_volatile},
    {"undecided", test_undecided},
    {"explain", test_explain},
    {"glob", test_glob},
};

TEST_MAIN(cases)
