// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the lexical rules of PostgreSQL, as src/backend/parser/scan.l has them, and the limits in front of the parser.
 *
 * Masking copies: everything between literals is copied as it stands, a literal becomes one `?`. Because `?` is also
 * an operator, the masked text alone does not say what was a literal, so the shape hash covers a list of marks too
 * (distance and class of every literal). Comments are white space to the server and are left out of the shape,
 * otherwise a traceparent in each text would make each of them new.
 *
 * Chain depth: the grammar builds left-deep trees for operators, joins and set operations, and every pass over
 * such a tree recurses. Per parenthesis level the links are counted; a comma or a logical AND/OR (their lists are flat)
 * ends an operator chain, but not a chain of joins or set operations. It over-estimates, never under.
 */
#include "sql/sql_lex.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum class {
	C_OTHER,
	C_SPACE,
	C_IDENT,
	C_DIGIT,
	C_QUOTE,
	C_DQUOTE,
	C_DOLLAR,
	C_OPERATOR,
	C_SEMI,
	C_OPEN,
	C_CLOSE,
	C_COMMA,
	C_DOT,
	C_COLON,
	C_NUL,
};

#define ALPHA(c) [c] = C_IDENT, [(c) - 32] = C_IDENT

static const uint8_t class_of[256] = {
	[0] = C_NUL, [' '] = C_SPACE, ['\t'] = C_SPACE, ['\n'] = C_SPACE, ['\r'] = C_SPACE, ['\f'] = C_SPACE,
	['\v'] = C_SPACE,
	ALPHA('a'), ALPHA('b'), ALPHA('c'), ALPHA('d'), ALPHA('e'), ALPHA('f'), ALPHA('g'), ALPHA('h'), ALPHA('i'),
	ALPHA('j'), ALPHA('k'), ALPHA('l'), ALPHA('m'), ALPHA('n'), ALPHA('o'), ALPHA('p'), ALPHA('q'), ALPHA('r'),
	ALPHA('s'), ALPHA('t'), ALPHA('u'), ALPHA('v'), ALPHA('w'), ALPHA('x'), ALPHA('y'), ALPHA('z'),
	['_'] = C_IDENT, [128 ... 255] = C_IDENT,
	['0' ... '9'] = C_DIGIT,
	['\''] = C_QUOTE, ['"'] = C_DQUOTE, ['$'] = C_DOLLAR, [';'] = C_SEMI, ['('] = C_OPEN, ['['] = C_OPEN,
	[')'] = C_CLOSE, [']'] = C_CLOSE, [','] = C_COMMA, ['.'] = C_DOT, [':'] = C_COLON,
	['~'] = C_OPERATOR, ['!'] = C_OPERATOR, ['@'] = C_OPERATOR, ['#'] = C_OPERATOR, ['^'] = C_OPERATOR,
	['&'] = C_OPERATOR, ['|'] = C_OPERATOR, ['`'] = C_OPERATOR, ['?'] = C_OPERATOR, ['+'] = C_OPERATOR,
	['-'] = C_OPERATOR, ['*'] = C_OPERATOR, ['/'] = C_OPERATOR, ['%'] = C_OPERATOR, ['<'] = C_OPERATOR,
	['>'] = C_OPERATOR, ['='] = C_OPERATOR,
};

/* 1 for what may continue an identifier. */
static const uint8_t ident_cont[256] = {
	['a' ... 'z'] = 1, ['A' ... 'Z'] = 1, ['0' ... '9'] = 1, ['_'] = 1, ['$'] = 1, [128 ... 255] = 1,
};

enum literal { LITERAL_STRING, LITERAL_NUMBER, LITERAL_BITS, LITERAL_DOLLAR };

static inline uint8_t class_at(const struct sql_lex *lex, const char *p)
{
	return p < lex->end ? class_of[(uint8_t)*p] : C_NUL;
}

static inline char char_at(const struct sql_lex *lex, const char *p)
{
	return p < lex->end ? *p : '\0';
}

static void refuse(struct sql_lex *lex, enum sql_unknown why)
{
	if (lex->refused == SQL_KNOWN)
		lex->refused = why;
}

struct sql_lex *sql_lex_new(const uint8_t key[16])
{
	struct sql_lex *lex = calloc(1, sizeof(*lex));

	if (!lex)
		return NULL;
	memcpy(lex->key, key, sizeof(lex->key));
	/* Marks are appended to the text that is hashed with them, hence the double size. */
	lex->masked = malloc(2 * LIMIT_SQL_PARSE_BYTES + 16);
	lex->shape_text = malloc(2 * LIMIT_SQL_PARSE_BYTES + 16);
	lex->marks = malloc(LIMIT_SQL_PARSE_BYTES + 16);
	if (lex->masked && lex->shape_text && lex->marks)
		return lex;
	sql_lex_free(lex);
	errno = ENOMEM;
	return NULL;
}

void sql_lex_free(struct sql_lex *lex)
{
	if (!lex)
		return;
	free(lex->masked);
	free(lex->shape_text);
	free(lex->marks);
	free(lex);
}

/* --- output ---------------------------------------------------------------------------------------------- */

static void put(struct sql_lex *lex, const char *data, size_t len, bool in_shape)
{
	memcpy(lex->out, data, len);
	lex->out += len;
	if (lex->has_comments && in_shape) {
		memcpy(lex->shape_out, data, len);
		lex->shape_out += len;
	}
}

/* Copy what was passed over since the last literal or comment. */
static void flush(struct sql_lex *lex, const char *upto)
{
	if (upto > lex->span)
		put(lex, lex->span, (size_t)(upto - lex->span), true);
	lex->span = upto;
}

static uint32_t shape_pos(const struct sql_lex *lex)
{
	return (uint32_t)(lex->has_comments ? lex->shape_out - lex->shape_text : lex->out - lex->masked);
}

/* The literal [start, end) becomes `?`; its mark is the distance to the one before, in base 64, and its class. */
static void put_literal(struct sql_lex *lex, const char *start, const char *end, enum literal class)
{
	uint32_t pos, distance;

	flush(lex, start);
	pos = shape_pos(lex);
	distance = pos - lex->mark_pos;
	lex->mark_pos = pos;
	for (; distance >= 32; distance >>= 5)
		*lex->marks_out++ = (char)(128 | (distance & 31));
	*lex->marks_out++ = (char)(distance << 2 | class);
	put(lex, "?", 1, true);
	lex->span = end;
}

/* --- literals -------------------------------------------------------------------------------------------- */

/*
 * A string goes on behind white space that holds a line end. Returns the position after the next opening quote,
 * or NULL when @p (just behind a closing quote) is the end of it.
 */
static const char *continuation(struct sql_lex *lex, const char *p)
{
	bool line_end = false, comment = false;

	for (; p < lex->end; p++) {
		if (*p == '\n' || *p == '\r') {
			line_end = true;
		} else if (*p == '-' && char_at(lex, p + 1) == '-') {
			comment = true;
			while (p + 1 < lex->end && p[1] != '\n' && p[1] != '\r')
				p++;
		} else if (*p == '\'' && line_end) {
			/* The server takes comments there, libpg_query does not: never of one shape with others. */
			lex->fragile |= comment;
			return p + 1;
		} else if (class_of[(uint8_t)*p] != C_SPACE) {
			return NULL;
		}
	}
	return NULL;
}

/* @p is behind the opening quote; returns the position behind the closing one, or the end. */
static const char *skip_string(struct sql_lex *lex, const char *p, bool escapes)
{
	while (p < lex->end) {
		if (*p == '\\') {
			lex->fragile |= escapes;
			lex->plain_backslash |= !escapes;
			p += escapes ? 2 : 1;
		} else if (*p != '\'') {
			p++;
		} else if (char_at(lex, p + 1) == '\'') {
			p += 2;
		} else {
			const char *next;

			p++;
			next = class_at(lex, p) == C_SPACE || char_at(lex, p) == '-' ? continuation(lex, p) : NULL;
			if (!next)
				return p;
			p = next;
		}
	}
	lex->open_ended = true;
	return lex->end;
}

/* @p is at the `$`; returns the position behind the closing tag, or @p + 1 when this opens no string. */
static const char *skip_dollar(struct sql_lex *lex, const char *p)
{
	const char *body = p + 1;
	size_t tag_len;

	if (class_at(lex, body) == C_IDENT)
		while (body < lex->end && *body != '$' && ident_cont[(uint8_t)*body])
			body++;
	if (char_at(lex, body) != '$')
		return p + 1;
	tag_len = (size_t)(++body - p);
	while (body < lex->end) {
		body = memchr(body, '$', (size_t)(lex->end - body));
		if (!body || (size_t)(lex->end - body) < tag_len)
			break;
		if (!memcmp(body, p, tag_len))
			return body + tag_len;
		body++;
	}
	lex->open_ended = true;
	return lex->end;
}

static const char *skip_number(const struct sql_lex *lex, const char *p)
{
	const char *exp;

	while (class_at(lex, p) == C_DIGIT)
		p++;
	if (char_at(lex, p) == '.' && char_at(lex, p + 1) != '.') {
		p++;
		while (class_at(lex, p) == C_DIGIT)
			p++;
	}
	if ((char_at(lex, p) | 32) != 'e')
		return p;
	exp = p + 1;
	if (char_at(lex, exp) == '+' || char_at(lex, exp) == '-')
		exp++;
	if (class_at(lex, exp) != C_DIGIT)
		return p;
	while (class_at(lex, exp) == C_DIGIT)
		exp++;
	return exp;
}

/* A quoted identifier stays; one that never ends may hold anything and goes. @p is at the opening quote. */
static const char *lex_quoted_ident(struct sql_lex *lex, const char *p)
{
	const char *open = p++;

	while (p < lex->end) {
		p = memchr(p, '"', (size_t)(lex->end - p));
		if (!p)
			break;
		if (char_at(lex, p + 1) != '"')
			return p + 1;
		p += 2;
	}
	lex->open_ended = true;
	put_literal(lex, open, lex->end, LITERAL_STRING);
	return lex->end;
}

/* --- comments -------------------------------------------------------------------------------------------- */

static bool holds_secret(const char *p, const char *end)
{
	static const char *const words[] = { "passw", "pwd", "secret", "token", "apikey", "api_key", "api-key",
					     "credential", "private" };

	for (; p < end; p++) {
		char c = *p | 32;

		if (c != 'p' && c != 's' && c != 't' && c != 'a' && c != 'c')
			continue;
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			size_t len = strlen(words[i]);

			if ((size_t)(end - p) >= len && !strncasecmp(p, words[i], len))
				return true;
		}
	}
	return false;
}

/* sqlcommenter: key='value',key='value' and nothing else at the start. */
static void take_tags(struct sql_lex *lex, const char *p, const char *end)
{
	const char *key;
	size_t len;

	while (p < end && class_of[(uint8_t)*p] == C_SPACE)
		p++;
	while (end > p && class_of[(uint8_t)end[-1]] == C_SPACE)
		end--;
	for (key = p; key < end && (ident_cont[(uint8_t)*key] || *key == '%' || *key == '-' || *key == '.'); key++)
		;
	if (key == p || end - key < 3 || key[0] != '=' || key[1] != '\'' || end[-1] != '\'')
		return;
	len = (size_t)(end - p);
	if (lex->tags_len + len + 2 > sizeof(lex->tags))
		return;
	if (lex->tags_len)
		lex->tags[lex->tags_len++] = ',';
	memcpy(lex->tags + lex->tags_len, p, len);
	lex->tags_len += (uint32_t)len;
	lex->tags[lex->tags_len] = '\0';
}

/* From here on the shape needs its own text: the masked one so far is it. */
static void split_shape(struct sql_lex *lex)
{
	size_t len = (size_t)(lex->out - lex->masked);

	if (lex->has_comments)
		return;
	memcpy(lex->shape_text, lex->masked, len);
	lex->shape_out = lex->shape_text + len;
	lex->has_comments = true;
}

/* The comment [start, end) with the body [body, body_end) is white space to the shape. */
static void put_comment(struct sql_lex *lex, const char *start, const char *body, const char *body_end,
			const char *end)
{
	flush(lex, start);
	split_shape(lex);
	*lex->shape_out++ = ' ';
	if (holds_secret(body, body_end)) {
		put(lex, start, (size_t)(body - start), false);
		put(lex, "?", 1, false);
		put(lex, body_end, (size_t)(end - body_end), false);
	} else {
		put(lex, start, (size_t)(end - start), false);
		take_tags(lex, body, body_end);
	}
	lex->span = end;
}

/*
 * The server's lexer takes the longest run of operator characters and gives back what does not belong, so a long
 * run costs its square, comment openers inside a run included. Runs of stars and dashes in comments cost nothing.
 */
static void check_run(struct sql_lex *lex, const char *p)
{
	unsigned openers = 0;

	if (p < lex->run_end)
		return;
	for (; class_at(lex, p) == C_OPERATOR; p++)
		openers += *p == '/' && char_at(lex, p + 1) == '*';
	lex->run_end = p;
	if (openers > LIMIT_SQL_COMMENT_NESTING)
		refuse(lex, SQL_UNKNOWN_OPERATOR_RUN);
}

static const char *lex_line_comment(struct sql_lex *lex, const char *p)
{
	const char *end = p + 2;

	while (end < lex->end && *end != '\n' && *end != '\r')
		end++;
	put_comment(lex, p, p + 2, end, end);
	return end;
}

static const char *lex_block_comment(struct sql_lex *lex, const char *start)
{
	const char *p = start + 2;
	unsigned depth = 1;

	while (p < lex->end && depth) {
		if (*p == '/' && char_at(lex, p + 1) == '*') {
			check_run(lex, p);
			if (++depth > LIMIT_SQL_COMMENT_NESTING)
				refuse(lex, SQL_UNKNOWN_COMMENT_NESTING);
			p += 2;
		} else if (*p == '*' && char_at(lex, p + 1) == '/') {
			depth--;
			p += 2;
		} else {
			p++;
		}
	}
	lex->open_ended |= depth != 0;
	put_comment(lex, start, start + 2, depth ? p : p - 2, p);
	return p;
}

/* --- limits ---------------------------------------------------------------------------------------------- */

static uint32_t level_depth(const struct sql_level *level)
{
	uint32_t now = level->soft + level->inner;

	return level->hard + (now > level->best ? now : level->best);
}

static void end_chain(struct sql_level *level)
{
	uint32_t now = level->soft + level->inner;

	if (now > level->best)
		level->best = now;
	level->soft = level->inner = 0;
}

static void add_link(struct sql_lex *lex, bool hard)
{
	struct sql_level *level = &lex->levels[lex->level];

	if (!lex->deep)
		return;
	if (hard)
		level->hard++;
	else
		level->soft++;
	if (level_depth(level) > LIMIT_SQL_CHAIN_DEPTH)
		refuse(lex, SQL_UNKNOWN_DEPTH);
}

static void open_level(struct sql_lex *lex)
{
	if (!lex->deep)
		return;
	if (lex->level == LIMIT_SQL_CHAIN_DEPTH) {
		refuse(lex, SQL_UNKNOWN_DEPTH);
		return;
	}
	memset(&lex->levels[++lex->level], 0, sizeof(struct sql_level));
}

static void close_level(struct sql_lex *lex)
{
	uint32_t depth;
	struct sql_level *level;

	if (!lex->deep || !lex->level)
		return;
	depth = level_depth(&lex->levels[lex->level--]) + 1;
	level = &lex->levels[lex->level];
	if (depth > level->inner)
		level->inner = depth;
	if (level_depth(level) > LIMIT_SQL_CHAIN_DEPTH)
		refuse(lex, SQL_UNKNOWN_DEPTH);
}

static bool word_is(const char *p, size_t len, const char *word)
{
	return strlen(word) == len && !strncasecmp(p, word, len);
}

/* Words that extend a left-deep chain, or end one. Only texts long enough to hold a forbidden chain come here. */
static void count_word(struct sql_lex *lex, const char *p, size_t len)
{
	static const char *const soft[] = { "is", "isnull", "notnull", "collate", "at", "in", "like", "ilike",
					    "similar", "operator", "overlaps", "escape" };
	static const char *const hard[] = { "join", "union", "except", "intersect" };
	struct sql_level *level = &lex->levels[lex->level];

	if (word_is(p, len, "or") || (word_is(p, len, "and") && !level->between)) {
		end_chain(level);
		return;
	}
	if (word_is(p, len, "and")) {
		level->between--;
		return;
	}
	if (word_is(p, len, "between")) {
		level->between++;
		add_link(lex, false);
		return;
	}
	for (size_t i = 0; i < sizeof(soft) / sizeof(soft[0]); i++)
		if (word_is(p, len, soft[i]))
			add_link(lex, false);
	for (size_t i = 0; i < sizeof(hard) / sizeof(hard[0]); i++)
		if (word_is(p, len, hard[i]))
			add_link(lex, true);
}

/* Where a PL/pgSQL assignment's operator can be. */
static void note_assign(struct sql_lex *lex, const char *p, uint32_t len)
{
	if (lex->assign_len || lex->brackets)
		return;
	lex->assign = (uint32_t)(p - lex->text);
	lex->assign_len = len;
}

/* --- tokens ---------------------------------------------------------------------------------------------- */

static const char *lex_operator(struct sql_lex *lex, const char *p)
{
	const char *start = p;

	for (; class_at(lex, p) == C_OPERATOR; p++)
		if ((*p == '-' && char_at(lex, p + 1) == '-') || (*p == '/' && char_at(lex, p + 1) == '*'))
			break;
	if (p - start > LIMIT_SQL_OPERATOR_RUN)
		refuse(lex, SQL_UNKNOWN_OPERATOR_RUN);
	/* The server gives the signs behind a lone `=` back: they are the operand's. */
	if (*start == '=') {
		const char *sign = start + 1;

		while (sign < p && (*sign == '+' || *sign == '-'))
			sign++;
		if (sign == p)
			note_assign(lex, start, 1);
	}
	add_link(lex, false);
	return p;
}

static const char *lex_word(struct sql_lex *lex, const char *start)
{
	const char *p = start + 1;
	char prefix = *start | 32;

	while (p < lex->end && ident_cont[(uint8_t)*p])
		p++;
	if (p < lex->end && *p == '\'' && p - start == 1 &&
	    (prefix == 'e' || prefix == 'b' || prefix == 'x' || prefix == 'n')) {
		bool escapes = prefix == 'e' || (prefix == 'n' && !lex->standard_strings);

		p = skip_string(lex, p + 1, escapes);
		put_literal(lex, start, p, prefix == 'b' || prefix == 'x' ? LITERAL_BITS : LITERAL_STRING);
		return p;
	}
	if (p < lex->end && *p == '&' && p - start == 1 && prefix == 'u') {
		if (char_at(lex, p + 1) == '\'') {
			p = skip_string(lex, p + 2, false);
			lex->fragile = true;
			put_literal(lex, start, p, LITERAL_STRING);
			return p;
		}
		if (char_at(lex, p + 1) == '"')
			return lex_quoted_ident(lex, p + 1);
	}
	if (lex->deep)
		count_word(lex, start, (size_t)(p - start));
	return p;
}

static const char *lex_dollar(struct sql_lex *lex, const char *start)
{
	const char *p = start + 1;

	if (class_at(lex, p) == C_DIGIT) {
		while (class_at(lex, p) == C_DIGIT)
			p++;
		return p;
	}
	p = skip_dollar(lex, start);
	if (p > start + 1)
		put_literal(lex, start, p, LITERAL_DOLLAR);
	return p;
}

static void end_segment(struct sql_lex *lex, const char *semi)
{
	struct sql_segment *segment = &lex->segments[lex->segment_cnt - 1];

	segment->semi = (uint32_t)(semi - lex->text);
	segment->end = lex->last_end;
	if (segment->start == UINT32_MAX)
		segment->start = segment->end = segment->semi;
	if (semi == lex->end)
		return;
	if (lex->segment_cnt > LIMIT_SQL_STATEMENTS) {
		refuse(lex, SQL_UNKNOWN_TOO_MANY);
		return;
	}
	lex->segments[lex->segment_cnt++].start = UINT32_MAX;
	if (lex->deep && !lex->level)
		memset(&lex->levels[0], 0, sizeof(lex->levels[0]));
}

/* One token that is neither white space nor a comment nor a semicolon. */
static const char *lex_token(struct sql_lex *lex, const char *p)
{
	const char *start = p;

	switch ((enum class)class_of[(uint8_t)*p]) {
	case C_IDENT:
		return lex_word(lex, p);
	case C_DIGIT:
		p = skip_number(lex, p);
		put_literal(lex, start, p, LITERAL_NUMBER);
		return p;
	case C_QUOTE:
		p = skip_string(lex, p + 1, !lex->standard_strings);
		put_literal(lex, start, p, LITERAL_STRING);
		return p;
	case C_DQUOTE:
		return lex_quoted_ident(lex, p);
	case C_DOLLAR:
		return lex_dollar(lex, p);
	case C_OPERATOR:
		return lex_operator(lex, p);
	case C_OPEN:
		lex->brackets++;
		open_level(lex);
		return p + 1;
	case C_CLOSE:
		lex->brackets -= lex->brackets != 0;
		close_level(lex);
		return p + 1;
	case C_COMMA:
		if (lex->deep)
			end_chain(&lex->levels[lex->level]);
		return p + 1;
	case C_DOT:
		if (char_at(lex, p + 1) == '.')
			return p + 2;
		if (class_at(lex, p + 1) != C_DIGIT)
			return p + 1;
		p = skip_number(lex, p);
		put_literal(lex, start, p, LITERAL_NUMBER);
		return p;
	case C_COLON:
		if (char_at(lex, p + 1) == ':') {
			p++;
		} else if (char_at(lex, p + 1) == '=') {
			note_assign(lex, p, 2);
			p++;
		}
		add_link(lex, false);
		return p + 1;
	default:
		return p + 1;
	}
}

static void lex_start(struct sql_lex *lex, const char *text, size_t len, bool standard_strings)
{
	lex->refused = SQL_KNOWN;
	if (len > LIMIT_SQL_PARSE_BYTES) {
		lex->refused = SQL_UNKNOWN_TOO_LONG;
		len = LIMIT_SQL_PARSE_BYTES;
	}
	lex->text = lex->span = lex->run_end = text;
	lex->end = text + len;
	lex->out = lex->masked;
	lex->marks_out = lex->marks;
	lex->shape_out = lex->shape_text;
	lex->mark_pos = lex->last_end = lex->tags_len = lex->level = lex->brackets = 0;
	lex->assign = lex->assign_len = 0;
	lex->tags[0] = '\0';
	lex->has_comments = lex->open_ended = lex->fragile = lex->plain_backslash = false;
	lex->standard_strings = standard_strings;
	lex->has_nul = memchr(len ? text : "x", '\0', len ? len : 1) != NULL;
	if (lex->has_nul)
		refuse(lex, SQL_UNKNOWN_NUL);
	/* A link takes at least one byte: shorter texts cannot hold a forbidden chain and skip the counting. */
	lex->deep = len > LIMIT_SQL_CHAIN_DEPTH;
	lex->segment_cnt = 1;
	lex->segments[0].start = UINT32_MAX;
	memset(&lex->levels[0], 0, sizeof(lex->levels[0]));
}

static void blank_nuls(char *s, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (!s[i])
			s[i] = ' ';
}

/* The marks go behind the text that they describe, so that one hash covers both. */
static void lex_finish(struct sql_lex *lex)
{
	char *shape;
	size_t len, marks;

	/* What never ends is no literal or comment to the server: it must not have the shape of one that does. */
	if (lex->open_ended)
		*lex->marks_out++ = (char)0xff;
	shape = lex->has_comments ? lex->shape_text : lex->masked;
	len = shape_pos(lex);
	marks = (size_t)(lex->marks_out - lex->marks);

	lex->masked_len = (uint32_t)(lex->out - lex->masked);
	lex->masked[lex->masked_len] = '\0';
	if (lex->has_nul) {
		blank_nuls(lex->masked, lex->masked_len);
		blank_nuls(lex->tags, lex->tags_len);
	}
	shape[len] = '\0';
	memcpy(shape + len + 1, lex->marks, marks);
	crypto_shorthash_siphashx24(lex->shape, (const unsigned char *)shape, len + 1 + marks, lex->key);
}

void sql_lex_run(struct sql_lex *lex, const char *text, size_t len, bool standard_strings)
{
	const char *p = text;

	lex_start(lex, text, len, standard_strings);
	while (p < lex->end) {
		uint8_t class = class_of[(uint8_t)*p];

		if (class == C_SPACE) {
			p++;
			continue;
		}
		if (class == C_OPERATOR) {
			check_run(lex, p);
			if (*p == '-' && char_at(lex, p + 1) == '-') {
				p = lex_line_comment(lex, p);
				continue;
			}
			if (*p == '/' && char_at(lex, p + 1) == '*') {
				p = lex_block_comment(lex, p);
				continue;
			}
		}
		if (class == C_SEMI) {
			end_segment(lex, p++);
			continue;
		}
		if (lex->segments[lex->segment_cnt - 1].start == UINT32_MAX)
			lex->segments[lex->segment_cnt - 1].start = (uint32_t)(p - text);
		p = lex_token(lex, p);
		if (p > lex->end)
			p = lex->end;
		lex->last_end = (uint32_t)(p - text);
	}
	flush(lex, lex->end);
	end_segment(lex, lex->end);
	lex_finish(lex);
}
