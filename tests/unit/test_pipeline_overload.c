// SPDX-License-Identifier: Apache-2.0
/* pipeline.c while the reader is behind: records say that nothing was read, what is held is read and judged. */
#include "../lib/test.h"

#include "audit/record.h"
#include "conn_facts.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"

static const char policy[] =
	"apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: enforce\n  on_failure: closed\n"
	"  rules:\n    - {name: drop, when: {effects: [schema_destroy]}, action: deny}\n";

static struct {
	struct record_arena arena;
	char unknown[64], decision[64], text[128];
	unsigned verdict;
} heard;
static struct facts facts;
static uint32_t seq;

static void hear_record(void *ctx, const void *body, size_t len)
{
	const Dbfence__Audit__V1__Record *r = record_unpack(&heard.arena, body, len);

	(void)ctx;
	if (!CHECK(r) || !r->statement)
		return;
	snprintf(heard.unknown, sizeof(heard.unknown), "%s", r->statement->unknown_reason);
	snprintf(heard.text, sizeof(heard.text), "%s", r->statement->text);
	snprintf(heard.decision, sizeof(heard.decision), "%s%s", r->decision->action,
		 r->decision->by_fail_mode ? " by fail mode" : "");
}

static void hear_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	(void)ctx;
	if (type == MSG_VERDICT && CHECK_INT(len, sizeof(struct msg_verdict)))
		heard.verdict = ((const struct msg_verdict *)payload)->action;
}

static void feed(struct pipeline *p)
{
	static uint64_t record[(sizeof(struct dbf_batch) + DBF_BATCH_BYTES) / 8];
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .tgid = 4, .postmaster = 7, .session = 9, .seq = seq++ };

	b.len = (uint32_t)(sizeof(b) + facts.at[facts.cnt]);
	memcpy(record, &b, sizeof(b));
	memcpy(record + sizeof(b) / 8, facts.words, facts.at[facts.cnt]);
	facts.cnt = 0;
	pipeline_feed(p, record, b.len);
}

static struct pipeline *open_pipeline(void)
{
	static const struct pipeline_ops ops = { .record = hear_record, .message = hear_message };
	struct policy_source source = { .name = "p.yaml", .yaml = policy, .len = sizeof(policy) - 1 };
	struct pipeline_opts opts = { .node = "n" };
	struct pipeline *p = pipeline_new(&opts, &ops, NULL);
	struct policy_report report;
	struct policy_set *set = NULL;

	policy_report_init(&report);
	if (CHECK(p) && CHECK_INT(policy_set_load(&source, 1, 1, &set, &report), 0))
		pipeline_set_policy(p, set);
	policy_report_fini(&report);
	seq = 0;
	add_open(&facts, false);
	feed(p);
	return p;
}

static void run(struct pipeline *p, uint32_t id, const char *text)
{
	add_parse(&facts, text);
	add_run(&facts, id, DBF_OP_SELECT, false);
	add_tag(&facts, "SELECT 1");
	add_ready(&facts, 'I');
	feed(p);
}

static void test_overload(void)
{
	struct pipeline *p = open_pipeline();
	struct msg_stats stats;

	run(p, 1, "SELECT a FROM t WHERE b = 1");
	CHECK_STR(heard.unknown, "");
	pipeline_set_overloaded(p, true);
	run(p, 2, "SELECT a FROM t WHERE b = 22");	/* of a known shape */
	CHECK_STR(heard.unknown, "");
	run(p, 3, "SELECT c FROM t WHERE b = 'secret'");
	CHECK_STR(heard.unknown, "overload");
	CHECK_STR(heard.text, "SELECT c FROM t WHERE b = ?");
	CHECK_STR(heard.decision, "allow");
	pipeline_stats(p, &stats);
	CHECK_INT(stats.sql_unread, 1);
	/* Somebody stands still for this one. */
	add_parse(&facts, "DROP TABLE t");
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 3);
	feed(p);
	CHECK_INT(heard.verdict, DBF_ACTION_DENY);
	add_settled(&facts, 3, DBF_ACTION_DENY, DBF_BY_KEEPER);
	add_failed(&facts, "ERROR", "57014", "canceling statement due to user request");
	add_ready(&facts, 'I');
	feed(p);
	CHECK_STR(heard.unknown, "");
	CHECK_STR(heard.decision, "deny");
	pipeline_set_overloaded(p, false);
	run(p, 4, "SELECT c FROM t WHERE b = 'secret'");
	CHECK_STR(heard.unknown, "");
	pipeline_free(p);
}

static const struct test_case cases[] = { { "overload", test_overload } };

TEST_MAIN(cases)
