// SPDX-License-Identifier: Apache-2.0
/*
 * `dbfence policy`: check, test and explain work on files alone, without root and without the
 * daemon; show and reload ask the daemon over its control socket.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "control.h"
#include "policy/cases.h"
#include "policy/guarantee.h"
#include "policy/policy.h"

#define EXPLAIN_MAX (1024 * 1024)

static int bad_usage(const char *command, const char *why)
{
	fprintf(stderr, "dbfence policy %s: %s; see dbfence policy %s --help\n", command, why,
		command);
	return CLI_USAGE;
}

static void print_json(json_t *json)
{
	json_dumpf(json, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(json);
}

/* Texts may hold bytes that are not UTF-8, which JSON cannot: each such byte becomes U+FFFD. */
static json_t *json_text(const char *text)
{
	json_t *value = json_string(text ? text : "");
	struct buf clean;

	if (value)
		return value;
	buf_init(&clean, EXPLAIN_MAX * 3UL);
	for (; *text; text++)
		buf_printf(&clean, "%s",
			   (unsigned char)*text < 0x80 ? (char[]){*text, '\0'} : "\xef\xbf\xbd");
	value = json_string(buf_str(&clean));
	buf_fini(&clean);
	return value ? value : json_string("");
}

/* --- check
 * ------------------------------------------------------------------------------------------- */

static void check_usage(FILE *out)
{
	fprintf(out, "usage: dbfence policy check [--json] [PATH...]\n\n"
		     "Loads policy files, or directories of *.yaml and *.yml files, and says what "
		     "is wrong with them and what\n"
		     "their denying rules can promise. Without PATH: " CLI_DEFAULT_POLICIES ".\n\n"
		     "  --json   one object for all paths\n\n"
		     "exit status: 0 no errors (warnings allowed), 1 errors, 2 usage\n");
}

/* "file:line:column: text" as fields; a path may hold colons, so the numbers are looked for. */
static json_t *json_finding(const char *line, size_t len)
{
	bool warning = memmem(line, len, ": warning: ", 11) != NULL;
	char text[2048];
	unsigned row, column;
	const char *at;

	snprintf(text, sizeof(text), "%.*s", (int)(len < sizeof(text) ? len : sizeof(text) - 1),
		 line);
	for (at = strchr(text, ':'); at; at = strchr(at + 1, ':'))
		if (sscanf(at, ":%u:%u: ", &row, &column) == 2)
			break;
	if (!at)
		return json_pack("{s:s, s:o}", "severity", warning ? "warning" : "error", "message",
				 json_text(text));
	return json_pack("{s:s, s:s%, s:i, s:i, s:o}", "severity", warning ? "warning" : "error",
			 "file", text, (size_t)(at - text), "line", (int)row, "column", (int)column,
			 "message", json_text(text));
}

static json_t *json_findings(const struct policy_report *report)
{
	json_t *list = json_array();
	const char *line = buf_str(&report->text), *end;

	for (; (end = strchr(line, '\n')); line = end + 1)
		json_array_append_new(list, json_finding(line, (size_t)(end - line)));
	return list;
}

static void json_exceptions(json_t *rule, const struct policy_set *set, unsigned idx)
{
	json_t *list = json_array();
	const char *tag;

	for (enum guarantee_reason reason = GUARANTEE_ROLLED_BACK; reason < GUARANTEE_REASON_MAX;
	     reason++)
		for (unsigned i = 0; (tag = policy_rule_exception(set, idx, reason, i)); i++)
			json_array_append_new(list,
					      json_pack("{s:s, s:s}", "command", tag, "reason",
							policy_guarantee_reason(reason)));
	json_object_set_new(rule, "nested_exceptions", list);
}

static void json_rules(json_t *rules, const struct policy_set *set)
{
	struct policy_rule_info info;
	json_t *rule;

	for (unsigned i = 0; policy_rule_info(set, i, &info); i++) {
		rule =
		    json_pack("{s:s, s:s, s:s, s:i, s:s, s:s, s:s}", "policy", info.policy, "rule",
			      info.rule, "file", info.file, "line", (int)info.line, "action",
			      policy_action_name(info.action), "mode", policy_mode_name(info.mode),
			      "on_failure", policy_failure_name(info.on_failure));
		if (info.severity)
			json_object_set_new(rule, "severity", json_string(info.severity));
		if (info.action >= POLICY_DENY) {
			json_object_set_new(rule, "guarantee",
					    json_string(policy_guarantee_name(info.asked)));
			json_object_set_new(rule, "postgresql_server",
					    json_string(policy_guarantee_name(info.top)));
			json_object_set_new(rule, "postgresql_server_nested",
					    json_string(policy_guarantee_name(info.nested)));
			json_object_set_new(rule, "evadable_through_views",
					    json_boolean(info.by_name));
			json_exceptions(rule, set, i);
		}
		json_array_append_new(rules, rule);
	}
}

static void print_exceptions(const struct policy_set *set, unsigned idx,
			     enum guarantee_reason reason)
{
	const char *tag;
	unsigned i;

	for (i = 0; (tag = policy_rule_exception(set, idx, reason, i)); i++)
		if (i < 4)
			printf("%s%s",
			       i ? ", " : "      inside functions and DO blocks not: ", tag);
	if (i > 4)
		printf(" and %u more", i - 4);
	if (i)
		printf(" (%s)\n", policy_guarantee_reason(reason));
}

static void print_rules(const struct policy_set *set)
{
	struct policy_rule_info info;

	for (unsigned i = 0; policy_rule_info(set, i, &info); i++) {
		if (info.action < POLICY_DENY)
			continue;
		printf("  %s/%s: %s, %s: asks to %s; PostgreSQL server vantage: %s%s\n",
		       info.policy, info.rule, policy_action_name(info.action),
		       policy_mode_name(info.mode), policy_guarantee_name(info.asked),
		       policy_guarantee_name(info.top),
		       info.top < info.asked ? " (less than asked)" : "");
		print_exceptions(set, i, GUARANTEE_ROLLED_BACK);
		print_exceptions(set, i, GUARANTEE_STAYS);
		if (info.by_name)
			printf("      names objects: what is reached through views, rules and "
			       "functions is not in the text\n");
	}
}

static int check_path(const char *path, json_t *json, unsigned *errors, unsigned *warnings)
{
	struct policy_summary summary = {0};
	struct policy_report report;
	struct policy_set *set = NULL;
	json_t *findings;
	int err;

	policy_report_init(&report);
	err = policy_set_load_path(path, 0, &set, &report);
	if (err == -ENOMEM) {
		fprintf(stderr, "dbfence: out of memory\n");
		policy_report_fini(&report);
		return err;
	}
	*errors += report.errors;
	*warnings += report.warnings;
	if (set)
		policy_set_summary(set, &summary);
	if (json) {
		findings = json_findings(&report);
		json_array_extend(json_object_get(json, "findings"), findings);
		json_decref(findings);
		if (set)
			json_rules(json_object_get(json, "rules"), set);
	} else {
		fputs(buf_str(&report.text), stderr);
		if (set) {
			printf("%s: %u policies, %u rules, %u of them enforced\n", path,
			       summary.policies, summary.rules, summary.enforcing_rules);
			print_rules(set);
		}
	}
	policy_set_free(set);
	policy_report_fini(&report);
	return 0;
}

static int policy_check(int argc, char **argv)
{
	static const struct option options[] = {
	    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	static char *defaults[] = {CLI_DEFAULT_POLICIES};
	unsigned errors = 0, warnings = 0;
	json_t *json = NULL;
	bool as_json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'h') {
			check_usage(stdout);
			return CLI_DONE;
		}
		if (opt != 'j')
			return bad_usage("check", "unknown option");
		as_json = true;
	}
	argv += optind;
	argc -= optind;
	if (!argc) {
		argv = defaults;
		argc = 1;
	}
	if (as_json)
		json = json_pack("{s:[], s:[]}", "findings", "rules");
	for (int i = 0; i < argc; i++)
		if (check_path(argv[i], json, &errors, &warnings)) {
			json_decref(json);
			return CLI_NEGATIVE;
		}
	if (json) {
		json_object_set_new(json, "errors", json_integer(errors));
		json_object_set_new(json, "warnings", json_integer(warnings));
		print_json(json);
	} else if (errors || warnings) {
		fprintf(stderr, "%u errors, %u warnings\n", errors, warnings);
	}
	return errors ? CLI_NEGATIVE : CLI_DONE;
}

/* --- explain and test
 * -------------------------------------------------------------------------------- */

static struct sql_engine *new_engine(void)
{
	struct sql_engine *engine = NULL;
	uint8_t key[16];

	if (getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key))
		engine = sql_engine_new(64, key);
	if (!engine)
		fprintf(stderr, "dbfence: cannot start the SQL parser: %s\n", strerror(errno));
	return engine;
}

static void explain_usage(FILE *out)
{
	fprintf(out,
		"usage: dbfence policy explain [OPTIONS] SQL\n\n"
		"Says what a statement does, which rule matches it and why every other one does "
		"not. SQL - reads standard\n"
		"input. What is not said about the client is unknown, as it can be on a real "
		"connection.\n\n"
		"  --policies PATH      a file or directory (default " CLI_DEFAULT_POLICIES ")\n"
		"  --user U             database user\n"
		"  --database D\n"
		"  --application A      application_name\n"
		"  --exe E              the client's executable\n"
		"  --uid N              the client's user id\n"
		"  --client-address A\n"
		"  --environment E      the server's label\n"
		"  --transport T        tcp, tls or unix\n"
		"  --enforce            as if every policy were in enforce mode\n"
		"  --json\n\n"
		"exit status: 0 explained, 1 the policies do not load, 2 usage\n");
}

struct explain {
	const char *policies, *sql;
	struct identity who;
	bool json, enforce;
};

enum { OPT_CLIENT_ADDRESS = 256, OPT_ENVIRONMENT, OPT_TRANSPORT, OPT_ENFORCE };

static const struct option explain_options[] = {
    {"policies", required_argument, NULL, 'p'},
    {"user", required_argument, NULL, 'u'},
    {"database", required_argument, NULL, 'd'},
    {"application", required_argument, NULL, 'a'},
    {"exe", required_argument, NULL, 'e'},
    {"uid", required_argument, NULL, 'n'},
    {"client-address", required_argument, NULL, OPT_CLIENT_ADDRESS},
    {"environment", required_argument, NULL, OPT_ENVIRONMENT},
    {"transport", required_argument, NULL, OPT_TRANSPORT},
    {"enforce", no_argument, NULL, OPT_ENFORCE},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int explain_uid(struct explain *explain, const char *text)
{
	unsigned long long uid;
	char *end;

	errno = 0;
	uid = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || uid > UINT32_MAX)
		return bad_usage("explain", "--uid wants a number");
	explain->who.uid_known = true;
	explain->who.uid = (uint32_t)uid;
	return CLI_DONE;
}

static int explain_option(struct explain *explain, int opt)
{
	switch (opt) {
	case 'p':
		explain->policies = optarg;
		return CLI_DONE;
	case 'u':
		explain->who.db_user = optarg;
		return CLI_DONE;
	case 'd':
		explain->who.database = optarg;
		return CLI_DONE;
	case 'a':
		explain->who.application_name = optarg;
		return CLI_DONE;
	case 'e':
		explain->who.exe = optarg;
		return CLI_DONE;
	case 'n':
		return explain_uid(explain, optarg);
	case OPT_CLIENT_ADDRESS:
		explain->who.client_address = optarg;
		return CLI_DONE;
	case OPT_ENVIRONMENT:
		explain->who.environment = optarg;
		return CLI_DONE;
	case OPT_TRANSPORT:
		if (strcmp(optarg, "tcp") && strcmp(optarg, "tls") && strcmp(optarg, "unix"))
			return bad_usage("explain", "--transport is tcp, tls or unix");
		explain->who.transport = optarg;
		return CLI_DONE;
	case OPT_ENFORCE:
		explain->enforce = true;
		return CLI_DONE;
	case 'j':
		explain->json = true;
		return CLI_DONE;
	default:
		return bad_usage("explain", "unknown option, or its value is missing");
	}
}

static json_t *json_effects(uint32_t effects)
{
	json_t *list = json_array();

	for (enum sql_effect effect = SQL_EFFECT_NONE + 1; effect < SQL_EFFECT_MAX; effect++)
		if (effects & SQL_BIT(effect))
			json_array_append_new(list, json_string(sql_effect_name(effect)));
	return list;
}

static json_t *json_statement(const struct sql_stmt *stmt)
{
	json_t *objects = json_array(), *functions = json_array(), *object;

	for (unsigned i = 0; i < stmt->object_cnt; i++) {
		object = json_pack("{s:s, s:o, s:o}", "kind",
				   sql_object_kind_name(stmt->objects[i].kind), "name",
				   json_text(stmt->objects[i].name), "effects",
				   json_effects(stmt->objects[i].effects));
		if (stmt->objects[i].schema)
			json_object_set_new(object, "schema", json_text(stmt->objects[i].schema));
		json_array_append_new(objects, object);
	}
	for (unsigned i = 0; i < stmt->function_cnt; i++)
		json_array_append_new(
		    functions, json_pack("{s:o, s:s}", "name", json_text(stmt->functions[i].name),
					 "risk", sql_func_risk_name(stmt->functions[i].risk)));
	return json_pack("{s:o, s:o, s:o, s:o}", "command", json_text(stmt->command), "effects",
			 json_effects(stmt->effects), "objects", objects, "functions", functions);
}

static json_t *json_decision(const struct policy_decision *decision)
{
	json_t *matches = json_array(), *unknown = json_array(), *json;

	for (unsigned i = 0; i < decision->match_cnt; i++)
		json_array_append_new(matches,
				      json_pack("{s:s, s:s, s:s, s:s, s:b}", "policy",
						decision->matches[i].policy, "rule",
						decision->matches[i].rule, "action",
						policy_action_name(decision->matches[i].action),
						"mode", policy_mode_name(decision->matches[i].mode),
						"by_fail_mode", decision->matches[i].by_fail_mode));
	for (unsigned i = 0; i < decision->unknown_cnt; i++)
		json_array_append_new(unknown, json_string(decision->unknown_attributes[i]));
	json = json_pack("{s:s, s:s, s:o, s:o}", "action", policy_action_name(decision->action),
			 "shadow", policy_action_name(decision->shadow), "matches", matches,
			 "unknown_attributes", unknown);
	if (decision->deciding) {
		json_object_set_new(json, "policy", json_string(decision->deciding->policy));
		json_object_set_new(json, "rule", json_string(decision->deciding->rule));
		json_object_set_new(json, "mode",
				    json_string(policy_mode_name(decision->deciding->mode)));
		if (decision->deciding->message)
			json_object_set_new(json, "message",
					    json_text(decision->deciding->message));
	}
	return json;
}

static void explain_print(const struct explain *explain, const struct policy_set *set,
			  const struct sql_facts *facts)
{
	struct policy_decision decision;
	json_t *statements;
	struct buf out;

	if (explain->json) {
		policy_eval(set, facts, &explain->who, &decision);
		statements = json_array();
		for (unsigned i = 0; i < facts->stmt_cnt; i++)
			json_array_append_new(statements, json_statement(&facts->stmts[i]));
		print_json(json_pack(
		    "{s:o, s:s, s:o, s:o, s:o}", "text", json_text(facts->masked), "unknown",
		    facts->unknown == SQL_KNOWN ? "" : sql_unknown_name(facts->unknown), "effects",
		    json_effects(facts->effects), "statements", statements, "decision",
		    json_decision(&decision)));
		return;
	}
	buf_init(&out, EXPLAIN_MAX);
	policy_explain(set, facts, &explain->who, &out);
	fputs(buf_str(&out), stdout);
	if (buf_err(&out))
		fprintf(stderr, "dbfence: the explanation is longer than %d bytes and was cut\n",
			EXPLAIN_MAX);
	buf_fini(&out);
}

static int explain_run(const struct explain *explain, const char *sql, size_t len)
{
	struct sql_engine *engine = NULL;
	struct policy_report report;
	struct policy_set *set = NULL;
	int code = CLI_NEGATIVE;

	policy_report_init(&report);
	if (policy_set_load_path(explain->policies, 0, &set, &report)) {
		fputs(buf_str(&report.text), stderr);
		goto out;
	}
	if (explain->enforce)
		policy_set_force_mode(set, POLICY_ENFORCE);
	engine = new_engine();
	if (!engine)
		goto out;
	explain_print(explain, set, sql_analyze_walsender(engine, sql, len, true));
	code = CLI_DONE;
out:
	sql_engine_free(engine);
	policy_set_free(set);
	policy_report_fini(&report);
	return code;
}

/* The whole of standard input, up to one byte more than is ever parsed. */
static int explain_stdin(const struct explain *explain)
{
	size_t len, cap = LIMIT_SQL_PARSE_BYTES + 1;
	char *text = malloc(cap);
	int code;

	if (!text) {
		fprintf(stderr, "dbfence: out of memory\n");
		return CLI_NEGATIVE;
	}
	len = fread(text, 1, cap, stdin);
	code = explain_run(explain, text, len);
	free(text);
	return code;
}

static int policy_explain_cmd(int argc, char **argv)
{
	struct explain explain = {.policies = CLI_DEFAULT_POLICIES,
				  .who = {.engine = "postgresql"}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", explain_options, NULL)) != -1) {
		if (opt == 'h') {
			explain_usage(stdout);
			return CLI_DONE;
		}
		code = explain_option(&explain, opt);
		if (code)
			return code;
	}
	if (argc - optind != 1)
		return bad_usage("explain", "one SQL text is wanted, in quotes, or -");
	if (!strcmp(argv[optind], "-"))
		return explain_stdin(&explain);
	return explain_run(&explain, argv[optind], strlen(argv[optind]));
}

static void test_usage(FILE *out)
{
	fprintf(out, "usage: dbfence policy test [--json] CASES...\n\n"
		     "Runs tables of cases: SQL, identity, expected action and rule. Each file "
		     "names its policy, which is judged\n"
		     "as if it were in enforce mode. dbfence-policy(5) describes the format.\n\n"
		     "exit status: 0 all cases hold, 1 some do not, 2 usage\n");
}

static int policy_test(int argc, char **argv)
{
	static const struct option options[] = {
	    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct policy_cases_result result = {0};
	struct sql_engine *engine;
	struct policy_report report;
	bool as_json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'h') {
			test_usage(stdout);
			return CLI_DONE;
		}
		if (opt != 'j')
			return bad_usage("test", "unknown option");
		as_json = true;
	}
	if (optind == argc)
		return bad_usage("test", "no file of cases is named");
	engine = new_engine();
	if (!engine)
		return CLI_NEGATIVE;
	policy_report_init(&report);
	for (; optind < argc; optind++)
		policy_cases_run(argv[optind], engine, &result, &report);
	if (as_json)
		print_json(json_pack("{s:i, s:i, s:o}", "passed", (int)result.passed, "failed",
				     (int)result.failed, "findings", json_findings(&report)));
	else
		printf("%s%u passed, %u failed\n", buf_str(&report.text), result.passed,
		       result.failed);
	opt = report.errors || result.failed ? CLI_NEGATIVE : CLI_DONE;
	policy_report_fini(&report);
	sql_engine_free(engine);
	return opt;
}

/* --- show and reload
 * --------------------------------------------------------------------------------- */

static void print_value(const char *key, const json_t *value, int indent)
{
	const char *name;
	json_t *item;
	size_t i;

	if (json_is_object(value)) {
		if (key)
			printf("%*s%s:\n", indent, "", key);
		json_object_foreach((json_t *)value, name, item) if (strcmp(name, "ok") || indent)
		    print_value(name, item, key ? indent + 2 : indent);
	} else if (json_is_array(value)) {
		printf("%*s%s:\n", indent, "", key ? key : "-");
		json_array_foreach(value, i, item) print_value(
		    json_is_object(item) || json_is_array(item) ? "-" : NULL, item, indent + 2);
	} else {
		printf("%*s%s%s", indent, "", key ? key : "-", key ? ": " : " ");
		if (json_is_string(value))
			printf("%s\n", json_string_value(value));
		else if (json_is_integer(value))
			printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
		else if (json_is_real(value))
			printf("%g\n", json_real_value(value));
		else
			printf("%s\n", json_is_true(value)    ? "yes"
				       : json_is_false(value) ? "no"
							      : "unknown");
	}
}

static void daemon_usage(FILE *out, const char *name)
{
	bool show = !strcmp(name, "show");

	fprintf(
	    out,
	    "usage: dbfence [--socket PATH] policy %s [--json]\n\n%s\n\n  --json   the daemon's "
	    "answer as it is\n\n"
	    "exit status: 0 done, 1 the daemon refused, 2 usage, 3 the daemon cannot be reached\n",
	    name,
	    show ? "Prints the policies that the daemon has loaded."
		 : "Makes the daemon read its policies again. A file with errors changes nothing, "
		   "and is named.");
}

static int policy_daemon(const struct cli *cli, const char *name, const char *cmd, int argc,
			 char **argv)
{
	static const struct option options[] = {
	    {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	bool as_json = false;
	json_t *reply = NULL;
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'h') {
			daemon_usage(stdout, name);
			return CLI_DONE;
		}
		if (opt != 'j')
			return bad_usage(name, "unknown option");
		as_json = true;
	}
	if (optind != argc)
		return bad_usage(name, "no argument is wanted");
	code = control_ask(cli->socket, cmd, &reply);
	if (code)
		return code;
	if (as_json) {
		print_json(reply);
	} else {
		print_value(NULL, reply, 0);
		json_decref(reply);
	}
	return CLI_DONE;
}

static void usage(FILE *out)
{
	fprintf(
	    out,
	    "usage: dbfence policy COMMAND [--help] [...]\n\n"
	    "  check    load policy files: errors, warnings, and what denying rules can promise\n"
	    "  test     run tables of cases against policy files\n"
	    "  explain  what one statement does, which rule matches it, and why not the others\n"
	    "  show     the policies that the daemon has loaded\n"
	    "  reload   make the daemon read its policies again\n\n"
	    "exit status: 0 done, 1 negative answer, 2 usage, 3 the daemon cannot be reached\n");
}

int cli_policy(const struct cli *cli, int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	optind = 1;
	opterr = 0;
	if (!strcmp(command, "check"))
		return policy_check(argc - 1, argv + 1);
	if (!strcmp(command, "test"))
		return policy_test(argc - 1, argv + 1);
	if (!strcmp(command, "explain"))
		return policy_explain_cmd(argc - 1, argv + 1);
	if (!strcmp(command, "show"))
		return policy_daemon(cli, "show", "policy_show", argc - 1, argv + 1);
	if (!strcmp(command, "reload"))
		return policy_daemon(cli, "reload", "policy_reload", argc - 1, argv + 1);
	if (!strcmp(command, "--help") || !strcmp(command, "-h")) {
		usage(stdout);
		return CLI_DONE;
	}
	if (*command)
		fprintf(stderr, "dbfence policy: unknown command '%s'\n", command);
	usage(stderr);
	return CLI_USAGE;
}
