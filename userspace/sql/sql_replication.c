// SPDX-License-Identifier: Apache-2.0
/* Reads the beginning of a replication command as the server's scanner for them does: words in capitals, no comments. */
#include "sql/sql_replication.h"

#include <string.h>

#include "sql/sql.h"

#define B(effect) SQL_BIT(SQL_##effect)

enum slot_place { SLOT_NONE, SLOT_NEXT, SLOT_BEHIND_WORD };

static const struct {
	const char *word;
	uint32_t effects;
	enum slot_place slot;
} commands[] = {
	{ "ALTER_REPLICATION_SLOT", B(REPLICATION), SLOT_NEXT },
	{ "BASE_BACKUP", B(REPLICATION) | B(BULK_EXPORT), SLOT_NONE },
	{ "CREATE_REPLICATION_SLOT", B(REPLICATION), SLOT_NEXT },
	{ "DROP_REPLICATION_SLOT", B(REPLICATION), SLOT_NEXT },
	{ "IDENTIFY_SYSTEM", B(REPLICATION), SLOT_NONE },
	{ "READ_REPLICATION_SLOT", B(REPLICATION), SLOT_NEXT },
	{ "START_REPLICATION", B(REPLICATION), SLOT_BEHIND_WORD },
	{ "TIMELINE_HISTORY", B(REPLICATION), SLOT_NONE },
	{ "UPLOAD_MANIFEST", B(REPLICATION), SLOT_NONE },
};

struct scan {
	const char *at, *end;
};

static void skip_space(struct scan *s)
{
	while (s->at < s->end && strchr(" \t\n\r\f\v", *s->at) && *s->at)
		s->at++;
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (unsigned char)c >= 0x80;
}

/* The next word's length; 0 when something else is next. */
static size_t word_len(struct scan *s)
{
	size_t len = 0;

	skip_space(s);
	while (s->at + len < s->end && is_word(s->at[len]))
		len++;
	return len;
}

/* Capitals and an underscore: SQL has no such statement. */
static bool is_command(const char *word, size_t len)
{
	size_t capitals = 0;

	while (capitals < len && word[capitals] >= 'A' && word[capitals] <= 'Z')
		capitals++;
	return capitals && capitals < len && word[capitals] == '_';
}

static bool is_text(const char *word, size_t len, const char *text)
{
	return len == strlen(text) && !memcmp(word, text, len);
}

/* A name, in double quotes or without. False when there is none, or one too long. */
static bool read_name(struct scan *s, char *to, size_t cap)
{
	size_t len = word_len(s), n = 0;

	if (len) {
		if (len >= cap)
			return false;
		memcpy(to, s->at, len);
		to[len] = '\0';
		return true;
	}
	if (s->at == s->end || *s->at++ != '"')
		return false;
	for (; s->at < s->end && n + 1 < cap; s->at++) {
		if (*s->at == '"' && (++s->at == s->end || *s->at != '"')) {
			to[n] = '\0';
			return n > 0;
		}
		to[n++] = *s->at;
	}
	return false;
}

static bool read_slot(struct scan *s, enum slot_place place, struct sql_replication *cmd)
{
	size_t len;

	if (place == SLOT_NONE)
		return true;
	if (place == SLOT_BEHIND_WORD) {
		len = word_len(s);
		if (!is_text(s->at, len, "SLOT"))
			return true;
		s->at += len;
	}
	return read_name(s, cmd->slot, sizeof(cmd->slot));
}

bool sql_replication_read(const char *text, size_t len, struct sql_replication *cmd)
{
	struct scan s = { text, text + len };
	size_t word = word_len(&s);

	if (!is_command(s.at, word))
		return false;
	*cmd = (struct sql_replication){ .effects = B(REPLICATION), .off = (size_t)(s.at - text) };
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!is_text(s.at, word, commands[i].word))
			continue;
		cmd->effects = commands[i].effects;
		s.at += word;
		if (read_slot(&s, commands[i].slot, cmd))
			cmd->command = commands[i].word;
		break;
	}
	return true;
}
