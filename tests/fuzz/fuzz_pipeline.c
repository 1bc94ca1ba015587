// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel records from nowhere, through the whole pipeline: whatever comes in, what is handed out is an audit record that
 * protobuf-c can read, of a kind that the recorder takes, with strings that are UTF-8.
 *
 * Input: records as in records.h. The lowest bit of the first byte chooses whether texts are stored in full.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/record.h"
#include "audit/text.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"
#include "records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char policy[] =
	"apiVersion: dbfence.dev/v1\n"
	"kind: Policy\n"
	"metadata: {name: p}\n"
	"spec:\n"
	"  mode: enforce\n"
	"  on_failure: closed\n"
	"  rules:\n"
	"    - {name: drop, when: {effects: [schema_destroy]}, unless: {identity: {application_name: [ok]}}, action: deny}\n"
	"    - {name: bare, when: {effects: [modify, delete], selective: false}, action: kill}\n"
	"    - {name: files, when: {function_risk: [file]}, action: alert, message: \"ü\"}\n";

static struct record_arena arena;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void must_be_text(const char *s)
{
	const unsigned char *at = (const unsigned char *)s, *end = at + strlen(s);
	uint32_t cp;

	while (at < end) {
		unsigned n = text_utf8(at, end, &cp);

		must(n);
		at += n;
	}
}

static void must_be_sound(const ProtobufCMessage *m);

static void field_must_be_sound(const ProtobufCFieldDescriptor *f, const void *member)
{
	if (f->type == PROTOBUF_C_TYPE_STRING)
		must_be_text(*(char *const *)member);
	else if (f->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage *const *)member)
		must_be_sound(*(ProtobufCMessage *const *)member);
}

/* Every string in it, by the schema. */
static void must_be_sound(const ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *member = (const char *)m + f->offset;
		bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
		size_t cnt = list ? *(const size_t *)(const void *)((const char *)m + f->quantifier_offset) : 1;

		if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		for (size_t k = 0; k < cnt; k++)
			field_must_be_sound(f, list ? *(const char *const *)(const void *)member + k * sizeof(void *) :
							     member);
	}
}

static void on_record(void *ctx, const void *body, size_t len)
{
	Dbfence__Audit__V1__Record *rec;
	struct record_keys keys;

	(void)ctx;
	must(len && len <= LIMIT_RECORD_BYTES);
	must(record_scan(body, len, &keys) && !keys.has_seq && keys.kind.len);
	rec = record_unpack(&arena, body, len);
	must(rec);
	must_be_sound(&rec->base);
	if (rec->statement)
		must(rec->decision && rec->outcome[0] && rec->statement->form[0]);
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	(void)ctx;
	must(payload && len && type);
}

static struct pipeline *open_pipeline(bool full_text)
{
	struct pipeline_ops ops = { .record = on_record, .message = on_message };
	struct pipeline_opts opts = { .node = "fuzz", .full_text = full_text, .cache_entries = 64 };
	struct policy_source source = { .name = "p.yaml", .yaml = policy, .len = sizeof(policy) - 1 };
	struct pipeline *p = pipeline_new(&opts, &ops, NULL);
	struct policy_report report;
	struct policy_set *set;

	policy_report_init(&report);
	must(p && !policy_set_load(&source, 1, 1, &set, &report));
	policy_report_fini(&report);
	pipeline_set_policy(p, set);
	return p;
}

static void feed(void *to, const void *record, size_t len)
{
	pipeline_feed(to, record, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pipeline *p;

	if (!size)
		return 0;
	p = open_pipeline(data[0] & 1);
	pipeline_losses(p, size, records_feed(data, size, feed, p));
	pipeline_free(p);
	return 0;
}
