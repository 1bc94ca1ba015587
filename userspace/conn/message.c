// SPDX-License-Identifier: Apache-2.0
#include "conn/message.h"

#include <ctype.h>
#include <string.h>

static void copy_field(char *to, size_t cap, const char *from, size_t len)
{
	if (len > cap - 1)
		len = cap - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}

bool message_parse_error(const char *bytes, size_t len, struct message_error *out)
{
	size_t at = 0;

	memset(out, 0, sizeof(*out));
	while (at < len && bytes[at]) {
		const char *value = bytes + at + 1;
		size_t left = len - at - 1, n = strnlen(value, left);

		switch (bytes[at]) {
		case 'V': /* not localised; wins over S */
			copy_field(out->severity, sizeof(out->severity), value, n);
			break;
		case 'S':
			if (!out->severity[0])
				copy_field(out->severity, sizeof(out->severity), value, n);
			break;
		case 'C': copy_field(out->sqlstate, sizeof(out->sqlstate), value, n); break;
		case 'M': copy_field(out->text, sizeof(out->text), value, n); break;
		}
		at += 1 + n + 1;
	}
	return strlen(out->sqlstate) == 5;
}

void message_parse_complete(const char *bytes, size_t len, char *tag, size_t cap, uint64_t *rows,
			    bool *rows_known)
{
	static const char *const counted[] = { "SELECT", "INSERT", "UPDATE", "DELETE",
					       "MERGE",	 "MOVE",   "FETCH",  "COPY" };
	size_t n = strnlen(bytes, len), digits = n;
	uint64_t count = 0;

	copy_field(tag, cap, bytes, n);
	*rows = 0;
	*rows_known = false;
	while (digits && isdigit((unsigned char)bytes[digits - 1]))
		digits--;
	if (digits == n || !digits || bytes[digits - 1] != ' ' || n - digits > 20)
		return;
	for (size_t i = digits; i < n; i++)
		count = count * 10 + (uint64_t)(bytes[i] - '0');
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (!strncmp(tag, counted[i], strlen(counted[i]))) {
			*rows = count;
			*rows_known = true;
			return;
		}
}

bool message_parameter(const char *bytes, size_t len, const char *name, char *value, size_t cap)
{
	size_t n = strnlen(bytes, len);

	if (n == len || strlen(name) != n || memcmp(bytes, name, n))
		return false;
	copy_field(value, cap, bytes + n + 1, strnlen(bytes + n + 1, len - n - 1));
	return true;
}

void message_sqlstate(uint32_t packed, char *out)
{
	for (int i = 0; i < 5; i++)
		out[i] = (char)((packed >> (6 * i) & 0x3f) + '0');
	out[5] = '\0';
}
