/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records for the tests of userspace/audit: a typical statement, and one with every field of the
 * schema set.
 */
#ifndef DBFENCE_TESTS_AUDIT_SAMPLE_H
#define DBFENCE_TESTS_AUDIT_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/record.h"
#include "core/buf.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"

struct sample {
	Dbfence__Audit__V1__Record record;
	Dbfence__Audit__V1__Client client;
	Dbfence__Audit__V1__Server server;
	Dbfence__Audit__V1__Statement statement;
	Dbfence__Audit__V1__Decision decision;
	Dbfence__Audit__V1__Effect effect;
	Dbfence__Audit__V1__Effect *effects[1];
	uint8_t digest[32];
};

/* A statement as the worker would send it. Borrows @text. */
static inline void sample_statement(struct sample *s, const char *session, uint64_t id,
				    const char *text)
{
	dbfence__audit__v1__record__init(&s->record);
	dbfence__audit__v1__client__init(&s->client);
	dbfence__audit__v1__server__init(&s->server);
	dbfence__audit__v1__statement__init(&s->statement);
	dbfence__audit__v1__decision__init(&s->decision);
	dbfence__audit__v1__effect__init(&s->effect);
	s->record.kind = (char *)"statement";
	s->record.time_ns = 1700000000123456789LL;
	s->record.mono_ns = 5000000000ULL;
	s->record.end_time_ns = 1700000000124690789LL;
	s->record.duration_us = 1234;
	s->record.node = (char *)"db-7";
	s->record.session_id = (char *)session;
	s->record.statement_id = id;
	s->record.engine = (char *)"postgresql";
	s->record.engine_version = (char *)"15.14";
	s->record.database = (char *)"orders";
	s->record.db_user = (char *)"app";
	s->record.application_name = (char *)"psql";
	s->record.transport = (char *)"unix";
	s->record.vantage = (char *)"server";
	s->record.tag = (char *)"SELECT 3";
	s->record.rows = 3;
	s->record.rows_known = 1;
	s->record.outcome = (char *)"executed";
	s->client.pid = 4242;
	s->client.exe = (char *)"/usr/lib/postgresql/15/bin/psql";
	s->client.comm = (char *)"psql";
	s->client.uid = 1000;
	s->client.known = 1;
	s->client.assurance = (char *)"kernel";
	s->record.client = &s->client;
	s->server.pid = 999;
	s->server.postmaster_pid = 900;
	s->server.socket_path = (char *)"/var/run/postgresql/.s.PGSQL.5432";
	s->record.server = &s->server;
	s->statement.text = (char *)text;
	s->statement.masked = 1;
	s->statement.length = s->statement.captured = strlen(text);
	for (unsigned i = 0; i < sizeof(s->digest); i++)
		s->digest[i] = (uint8_t)(i * 7);
	s->statement.digest = (ProtobufCBinaryData){sizeof(s->digest), s->digest};
	s->statement.fingerprint = (char *)"02a281c251c3a43d";
	s->statement.form = (char *)"simple";
	s->record.statement = &s->statement;
	s->effect.kind = (char *)"read";
	s->effect.object = (char *)"public.customers";
	s->effect.object_kind = (char *)"relation";
	s->effects[0] = &s->effect;
	s->record.effects = s->effects;
	s->record.n_effects = 1;
	s->decision.action = (char *)"allow";
	s->record.decision = &s->decision;
}

static inline size_t sample_pack(const Dbfence__Audit__V1__Record *record, uint8_t **out)
{
	size_t len = dbfence__audit__v1__record__get_packed_size(record);

	*out = malloc(len + 1);
	if (*out)
		dbfence__audit__v1__record__pack(record, *out);
	return len;
}

/* Sets every field of @message to something that is not its default; allocated in @arena. */
static inline void sample_fill(struct record_arena *arena, ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *desc = message->descriptor;

	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &desc->fields[i];
		char *at = (char *)message + field->offset;
		ProtobufCMessage *sub = NULL;
		char *text = record_arena_take(arena, 128);
		void **list = record_arena_take(arena, 2 * sizeof(void *));

		snprintf(text, 128, "%s \"%s\"\n", desc->short_name, field->name);
		if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
			const ProtobufCMessageDescriptor *inner = field->descriptor;

			sub = record_arena_take(arena, inner->sizeof_message);
			inner->message_init(sub);
			sample_fill(arena, sub);
		}
		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			list[0] = list[1] = sub ? (void *)sub : text;
			*(void ***)at = list;
			*(size_t *)((char *)message + field->quantifier_offset) = 2;
		} else if (sub) {
			*(ProtobufCMessage **)at = sub;
		} else if (field->type == PROTOBUF_C_TYPE_STRING) {
			*(char **)at = text;
		} else if (field->type == PROTOBUF_C_TYPE_BYTES) {
			*(ProtobufCBinaryData *)at = (ProtobufCBinaryData){3, (uint8_t *)text};
		} else if (field->type == PROTOBUF_C_TYPE_BOOL) {
			*(protobuf_c_boolean *)at = 1;
		} else if (field->type == PROTOBUF_C_TYPE_UINT32) {
			*(uint32_t *)at = 4000000000U + field->id;
		} else {
			*(uint64_t *)at = 0x123456789abcdefULL + field->id;
		}
	}
}

#endif
