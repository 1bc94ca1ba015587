// SPDX-License-Identifier: Apache-2.0
/*
 * JSON back to a record, by the same descriptors that the writer walks: for clients of the live
 * stream, which filter and print on their side of the socket. Jansson does the parsing and bounds
 * the nesting.
 */
#include "audit/json.h"

#include <jansson.h>
#include <string.h>

#include "dbfence/audit.pb-c.h"

static bool take_message(struct record_arena *arena, const ProtobufCMessageDescriptor *desc,
			 json_t *object, ProtobufCMessage **out);

static char *take_string(struct record_arena *arena, json_t *value)
{
	size_t len = json_string_length(value);
	char *text = record_arena_take(arena, len + 1);

	if (text) {
		memcpy(text, json_string_value(value), len);
		text[len] = '\0';
	}
	return text;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_bytes(struct record_arena *arena, json_t *value, ProtobufCBinaryData *out)
{
	const char *hex = json_string_value(value);
	size_t len = json_string_length(value) / 2;
	uint8_t *data = record_arena_take(arena, len + 1);

	if (!data || json_string_length(value) % 2)
		return false;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		data[i] = (uint8_t)(high << 4 | low);
	}
	*out = (ProtobufCBinaryData){len, data};
	return true;
}

static bool take_number(const ProtobufCFieldDescriptor *field, json_int_t number, void *to)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)to = (uint64_t)number;
		return number >= 0;
	case PROTOBUF_C_TYPE_INT64:
		*(int64_t *)to = number;
		return true;
	case PROTOBUF_C_TYPE_UINT32:
		*(uint32_t *)to = (uint32_t)number;
		return number >= 0 && number <= UINT32_MAX;
	default:
		return false;
	}
}

static bool take_value(struct record_arena *arena, const ProtobufCFieldDescriptor *field,
		       json_t *value, void *to)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		if (!json_is_string(value))
			return false;
		*(char **)to = take_string(arena, value);
		return *(char **)to != NULL;
	case PROTOBUF_C_TYPE_BYTES:
		return json_is_string(value) && take_bytes(arena, value, to);
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)to = json_is_true(value);
		return json_is_boolean(value);
	case PROTOBUF_C_TYPE_MESSAGE:
		return json_is_object(value) && take_message(arena, field->descriptor, value, to);
	default:
		return json_is_integer(value) && take_number(field, json_integer_value(value), to);
	}
}

static bool take_array(struct record_arena *arena, const ProtobufCFieldDescriptor *field,
		       json_t *array, char *message)
{
	size_t cnt = json_array_size(array);
	void **elements;

	if (!json_is_array(array))
		return false;
	/* The schema repeats strings and messages only: each element is a pointer. */
	if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	elements = record_arena_take(arena, cnt * sizeof(*elements) + 1);
	if (!elements)
		return false;
	for (size_t i = 0; i < cnt; i++)
		if (!take_value(arena, field, json_array_get(array, i), &elements[i]))
			return false;
	*(void **)(message + field->offset) = elements;
	*(size_t *)(message + field->quantifier_offset) = cnt;
	return true;
}

static bool take_message(struct record_arena *arena, const ProtobufCMessageDescriptor *desc,
			 json_t *object, ProtobufCMessage **out)
{
	ProtobufCMessage *message = record_arena_take(arena, desc->sizeof_message);

	if (!message)
		return false;
	desc->message_init(message);
	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &desc->fields[i];
		json_t *value = json_object_get(object, field->name);
		char *base = (char *)message;
		bool ok;

		if (!value)
			continue;
		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			ok = take_array(arena, field, value, base);
		else
			ok = take_value(arena, field, value, base + field->offset);
		if (!ok)
			return false;
	}
	*out = message;
	return true;
}

Dbfence__Audit__V1__Record *audit_json_read(struct record_arena *arena, const char *line,
					    size_t len)
{
	ProtobufCMessage *message = NULL;
	Dbfence__Audit__V1__Record *record;
	json_t *object;
	bool ok;

	record_arena_reset(arena);
	object = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	ok = json_is_object(object) &&
	     take_message(arena, &dbfence__audit__v1__record__descriptor, object, &message);
	if (ok) {
		record = (Dbfence__Audit__V1__Record *)message;
		record->rows_known = json_object_get(object, "rows") != NULL;
	}
	json_decref(object);
	return ok ? (Dbfence__Audit__V1__Record *)message : NULL;
}
