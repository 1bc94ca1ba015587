// SPDX-License-Identifier: Apache-2.0
/*
 * Necessary words. A rule is a conjunction, so the necessary words of any one of its keys are
 * necessary for the rule; the cheapest key (the one whose words are rarest in ordinary traffic) is
 * taken. Within a key the entries are alternatives, so all their words are needed.
 *
 * Why a word is necessary at all: keywords of PostgreSQL cannot be written in any other way than by
 * their letters, in either case. Names can: in double quotes a quote is doubled, and U&"..." spells
 * characters by number. Both forms count as the presence of every name, and so does \u, which
 * spells them in literals that are later run as text. Names with letters outside ASCII are folded
 * by the server's locale and are cut to their longest ASCII part. Some names stand in the facts
 * though the text spells them differently (EXTRACT(...) is date_part); those have a second word in
 * a table here.
 *
 * A keyword that cannot be a text's last token is followed by something that does not continue an
 * identifier: a blank, a comment, punctuation. Looking for that too keeps "created_at" from being a
 * CREATE. In the tables ~ stands for it.
 *
 * The tables are deliberately generous: a superfluous word costs a look by the full parser, a
 * missing one a hole. The tests hold every effect that the analyser reports against this table.
 */
#include "policy/words.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sql/sql_func_table.inc"

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

/* A name shorter than this is in too many texts to be worth a word of its own. */
#define NAME_MIN 2

void words_init(struct words *words)
{
	*words = (struct words){0};
}

void words_fini(struct words *words)
{
	free(words->v);
	words->v = NULL;
	words->cnt = words->cap = 0;
}

static void words_add(struct words *words, const char *text, size_t len)
{
	struct word *v;
	unsigned cap;

	if (len > WORD_MAX)
		len = WORD_MAX;
	if (words->cnt == words->cap) {
		cap = words->cap ? words->cap * 2 : 64;
		v = realloc(words->v, cap * sizeof(*v));
		if (!v) {
			words->err = -ENOMEM;
			return;
		}
		words->v = v;
		words->cap = cap;
	}
	v = &words->v[words->cnt++];
	v->len = (unsigned char)len;
	v->open = words->open;
	for (size_t i = 0; i < len; i++)
		v->text[i] =
		    text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 'a' - 'A') : text[i];
}

/* The word and, when @ended, what ends it: WORD_END stands for anything but a quote that ends an
 * identifier. */
static void words_add_keyword(struct words *words, const char *text, size_t len, bool ended)
{
	char with_end[WORD_MAX];

	if (!ended || len >= sizeof(with_end)) {
		words_add(words, text, len);
		return;
	}
	memcpy(with_end, text, len);
	with_end[len] = WORD_END;
	words_add(words, with_end, len + 1);
	with_end[len] = '"';
	words_add(words, with_end, len + 1);
}

/* Blank-separated, because that reads best in a table. */
static void words_add_list(struct words *words, const char *list)
{
	size_t len;

	for (; *list; list += len + (list[len] == ' ')) {
		len = strcspn(list, " ");
		words_add_keyword(words, list, list[len - 1] == '~' ? len - 1 : len,
				  list[len - 1] == '~');
	}
}

static void words_move(struct words *to, struct words *from)
{
	for (unsigned i = 0; i < from->cnt; i++)
		words_add(to, from->v[i].text, from->v[i].len);
	*(to->open ? &to->open_all : &to->all) |= from->all;
	*(to->open ? &to->open_names : &to->names) |= from->names;
	if (from->err)
		to->err = from->err;
	words_fini(from);
}

static int by_text(const struct word *x, const struct word *y)
{
	return x->len != y->len ? (int)x->len - (int)y->len : memcmp(x->text, y->text, x->len);
}

/* Of two that are equal the one that says more comes first. */
static int by_length(const void *a, const void *b)
{
	const struct word *x = a, *y = b;
	int order = by_text(x, y);

	return order ? order : x->open - y->open;
}

/* Quadratic only up to this many words; beyond, superfluous words just cost states. */
#define TIDY_MAX 4096

void words_tidy(struct words *words)
{
	unsigned kept = 0, k;

	if (words->cnt)
		qsort(words->v, words->cnt, sizeof(*words->v), by_length);
	for (unsigned i = 0; i < words->cnt; i++) {
		for (k = 0; k < kept && k < TIDY_MAX; k++)
			if ((!words->v[k].open || words->v[i].open) &&
			    memmem(words->v[i].text, words->v[i].len, words->v[k].text,
				   words->v[k].len))
				break;
		if (k < kept && k < TIDY_MAX)
			continue;
		if (kept && !by_text(&words->v[kept - 1], &words->v[i]))
			continue;
		words->v[kept++] = words->v[i];
	}
	words->cnt = kept;
}

static void words_add_functions(struct words *words, uint32_t risks, uint32_t effects)
{
	for (unsigned i = 0; i < COUNT(risky_functions); i++)
		if ((risks & 1u << risky_functions[i].risk) ||
		    (effects & risky_functions[i].effects))
			words_add(words, risky_functions[i].name, strlen(risky_functions[i].name));
	if ((risks & 1u << SQL_RISK_ADMIN) || (effects & SQL_BIT(SQL_MAINTENANCE)))
		words_add_list(words, "binary_upgrade_");
	words->names = true;
	(void)harmless_functions;
}

static const char *const effect_words[SQL_EFFECT_MAX] = {
    [SQL_WRITE] = "insert~ merge~ copy~ into~ create~ refresh~",
    [SQL_MODIFY] = "update~ merge~",
    [SQL_DELETE] = "delete~ truncate~ merge~",
    [SQL_BULK_LOAD] = "copy~",
    [SQL_BULK_EXPORT] = "copy~ base_backup",
    [SQL_SCHEMA_CREATE] = "create~ into~ import~ alter~",
    [SQL_SCHEMA_ALTER] = "alter~ comment~ security~ create~ import~ refresh~",
    [SQL_SCHEMA_DESTROY] = "drop~ discard~",
    [SQL_PRIVILEGE] = "grant~ revoke~ create~ alter~ drop~ reassign~ security role authorization",
    [SQL_TRANSACTION] =
	"begin start~ commit end rollback abort savepoint~ release~ prepare~ transaction "
	"characteristics constraints",
    [SQL_SESSION] = "set~ discard~ prepare~ deallocate~ declare~ close~ move~ execute~",
    [SQL_MAINTENANCE] = "vacuum analy reindex~ cluster checkpoint system~ refresh~",
    [SQL_LOCK] = "lock~ update share",
    [SQL_NOTIFY] = "notify~ listen~",
    [SQL_PROCEDURAL] = "do~ call~ execute~",
    [SQL_UNSAFE_IO] =
	"copy~ load~ system~ language~ extension~ server~ wrapper~ foreign~ tablespace~ handler~ "
	"preload library_path",
    [SQL_REPLICATION] =
	"replica publication~ subscription~ base_backup identify_system timeline_history "
	"upload_manifest",
};

void words_of_effect(struct words *words, enum sql_effect effect)
{
	if (effect >= SQL_EFFECT_MAX || !effect_words[effect]) {
		words->all = true; /* read, unknown */
		return;
	}
	words_add_list(words, effect_words[effect]);
	words_add_functions(words, 0, SQL_BIT(effect));
}

static void words_of_effects(struct words *words, const struct facts_matcher *m)
{
	for (enum sql_effect effect = SQL_EFFECT_NONE + 1; effect < SQL_EFFECT_MAX; effect++)
		if (m->effects & SQL_BIT(effect))
			words_of_effect(words, effect);
}

/* The facts' name, and a word that the text has instead. */
static const struct alias {
	const char *name, *word;
} aliases[] = {
    /* settings */
    {"timezone", "zone"},
    {"client_encoding", "names"},
    {"search_path", "schema"},
    {"session_authorization", "authorization"},
    {"xmloption", "option"},
    {"transaction_isolation", "isolation"},
    {"transaction_read_only", "read"},
    {"transaction_deferrable", "deferrable"},
    {"TRANSACTION", "transaction"},
    {"all", "all"},
    /* a policy without TO is for everyone */
    {"public", "policy"},
    /* functions behind their own syntax */
    {"date_part", "extract"},
    {"timezone", "local"},
    {"btrim", "trim"},
    {"ltrim", "trim"},
    {"rtrim", "trim"},
    {"pg_collation_for", "collation"},
    {"similar_to_escape", "similar"},
    {"similar_escape", "similar"},
    {"like_escape", "escape"},
    {"is_normalized", "normalized"},
    {"system", "tablesample"},
    {"bernoulli", "tablesample"},
    {"substr", "substring"},
    {"int4", "int"},
    {"int8", "bigint"},
    {"int2", "smallint"},
    {"bpchar", "char"},
    {"varchar", "varying"},
    {"float4", "real"},
    {"float8", "double"},
    {"float8", "float"},
    {"float4", "float"},
    {"bool", "boolean"},
    {"numeric", "dec"},
    {"varbit", "bit"},
    {"timetz", "time"},
    {"timestamptz", "timestamp"},
};

static void words_of_aliases(struct words *words, const struct glob *name)
{
	for (unsigned i = 0; i < COUNT(aliases); i++)
		if (glob_match(name, aliases[i].name))
			words_add(words, aliases[i].word, strlen(aliases[i].word));
}

/* The longest part that is plain in every writing of a matching name, but for the escapes named
 * above. */
static void words_of_glob(struct words *words, const struct glob *glob)
{
	const char *best = NULL, *at = glob->text;
	size_t best_len = 0, len;

	while (*at) {
		len =
		    strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$");
		if (len > best_len) {
			best = at;
			best_len = len;
		}
		at += len ? len : 1;
	}
	words->names = true;
	if (best_len < NAME_MIN)
		words->all = true;
	else
		words_add(words, best, best_len);
}

static void words_of_objects(struct words *words, const struct facts_matcher *m)
{
	/*
	 * Files, programs, roles and languages can be written as string literals, which have more
	 * ways to spell a letter and can be cut in two by a line break. Their statements have a
	 * keyword instead.
	 */
	words_add_list(words, "copy~ load~ role authorization language~");
	for (unsigned i = 0; i < m->object_cnt; i++) {
		words_of_glob(words, &m->objects[i].name);
		words_of_aliases(words, &m->objects[i].name);
		/* What is done to a whole schema is done to the object; such a statement says
		 * SCHEMA. */
		if (m->objects[i].has_schema)
			words_add_list(words, "schema");
	}
}

static void words_of_columns(struct words *words, const struct facts_matcher *m)
{
	for (unsigned i = 0; i < m->column_cnt; i++) {
		/* "SELECT *" names no column, so only a table's name is necessary. */
		if (m->columns[i].has_table)
			words_of_glob(words, &m->columns[i].table.name);
		else
			words->all = true;
	}
}

static void words_of_functions(struct words *words, const struct facts_matcher *m)
{
	for (unsigned i = 0; i < m->function_cnt; i++) {
		words_of_glob(words, &m->functions[i].name);
		words_of_aliases(words, &m->functions[i].name);
	}
}

static void words_of_risks(struct words *words, const struct facts_matcher *m)
{
	if (m->risks & (1u << SQL_RISK_NONE | 1u << SQL_RISK_UNKNOWN))
		words->all = true;
	else
		words_add_functions(words, m->risks, 0);
}

/* Tags whose first word the text may replace by another. */
static const struct alias tag_aliases[] = {
    {"SELECT", "table values"}, {"COMMIT", "end"},    {"ROLLBACK", "abort"}, {"CREATE", "into~"},
    {"ANALYZE", "analyse"},	{"VALUES", "select"}, {"START", "begin"},
};

/* Commands that need something behind their first word, wherever they stand in a text. */
static bool never_last(const char *word)
{
	static const char *const words[] = {
	    "ALTER",   "CALL",	  "COMMENT", "COPY",	 "CREATE", "DEALLOCATE", "DECLARE",
	    "DO",      "DROP",	  "EXECUTE", "EXPLAIN",	 "GRANT",  "IMPORT",	 "INSERT",
	    "LISTEN",  "LOAD",	  "LOCK",    "MERGE",	 "NOTIFY", "PREPARE",	 "REASSIGN",
	    "REFRESH", "REINDEX", "REVOKE",  "SECURITY", "SET",	   "TRUNCATE",	 "UPDATE"};

	for (unsigned i = 0; i < COUNT(words); i++)
		if (!strcmp(words[i], word))
			return true;
	return false;
}

static void words_of_commands(struct words *words, const struct facts_matcher *m)
{
	char first[WORD_MAX + 1];
	const char *text;
	size_t len;

	for (unsigned i = 0; i < m->command_cnt; i++) {
		text = m->commands[i].text;
		len = strcspn(text, " ");
		if (!len || len > WORD_MAX || memchr(text, '*', len) || memchr(text, '?', len)) {
			words->all = true;
			return;
		}
		for (size_t c = 0; c < len; c++)
			first[c] = text[c] >= 'a' && text[c] <= 'z' ? (char)(text[c] - 'a' + 'A')
								    : text[c];
		first[len] = '\0';
		words_add_keyword(words, first, len, never_last(first));
		for (unsigned a = 0; a < COUNT(tag_aliases); a++)
			if (!strcmp(tag_aliases[a].name, first))
				words_add_list(words, tag_aliases[a].word);
	}
}

/* How often ordinary traffic holds the word, roughly: only the choice between keys depends on it.
 */
static unsigned word_cost(const struct word *word)
{
	static const struct {
		const char *text;
		unsigned cost;
	} common[] = {
	    {"select", 900}, {"set", 300},    {"end", 300},	{"into", 200},	 {"values", 150},
	    {"insert", 150}, {"update", 150}, {"begin", 150},	{"commit", 150}, {"table", 60},
	    {"delete", 60},  {"role", 40},    {"start", 40},	{"do", 30},	 {"share", 20},
	    {"close", 20},   {"execute", 20}, {"security", 10}, {"server", 10},	 {"system", 10},
	    {"load", 10},    {"schema", 10},  {"language", 10},
	};
	unsigned len = word->len;

	if (word->text[len - 1] == WORD_END || word->text[len - 1] == '"')
		len--;
	for (unsigned i = 0; i < COUNT(common); i++)
		if (strlen(common[i].text) == len && !memcmp(common[i].text, word->text, len))
			return common[i].cost;
	return len < 4 ? 20 : 2;
}

static unsigned words_cost(const struct words *words)
{
	unsigned cost = words->names ? 1 : 0;

	if (words->all || words->err)
		return UINT_MAX;
	for (unsigned i = 0; i < words->cnt && cost < UINT_MAX / 2; i++)
		cost += word_cost(&words->v[i]);
	return cost;
}

static void words_of_selective(struct words *words, const struct facts_matcher *m)
{
	(void)m;
	words_add_list(words, "update~ delete~ truncate~ merge~");
}

static void words_of_nothing(struct words *words, const struct facts_matcher *m)
{
	(void)m;
	words->all = true;
}

void words_of_rule(struct words *words, const struct rule *rule)
{
	static void (*const makers[FACT_MAX])(struct words * words,
					      const struct facts_matcher *m) = {
	    [FACT_UNKNOWN] = words_of_nothing,	   [FACT_EFFECTS] = words_of_effects,
	    [FACT_COMMANDS] = words_of_commands,   [FACT_SELECTIVE] = words_of_selective,
	    [FACT_OBJECTS] = words_of_objects,	   [FACT_COLUMNS] = words_of_columns,
	    [FACT_FUNCTIONS] = words_of_functions, [FACT_FUNCTION_RISK] = words_of_risks,
	};
	const struct facts_matcher *m = &rule->when.facts;
	struct words best, one;

	words_init(&best);
	best.all = true;
	for (enum policy_fact fact = 0; fact < FACT_MAX; fact++) {
		if (!(m->keys & FACT_BIT(fact)))
			continue;
		words_init(&one);
		makers[fact](&one, m);
		if (one.err)
			words->err = one.err;
		if (words_cost(&one) < words_cost(&best)) {
			words_fini(&best);
			best = one;
		} else {
			words_fini(&one);
		}
		/* A text that cannot be read is what such a rule looks for: no other key narrows
		 * it. */
		if (fact == FACT_UNKNOWN)
			break;
	}
	words_move(words, &best);
}

/* When every text is a candidate for open policies' rules, only the others' words tell something. */
static void words_drop_open(struct words *words)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < words->cnt; i++)
		if (!words->v[i].open)
			words->v[kept++] = words->v[i];
	words->cnt = kept;
}

void words_of_set(struct words *words, const struct policy_set *set)
{
	struct policy_summary summary;
	const struct rule *rule;

	policy_set_summary(set, &summary);
	for (unsigned p = 0; p < set->policy_cnt; p++)
		for (unsigned r = 0; r < set->policies[p].rule_cnt && !words->all; r++) {
			rule = &set->policies[p].rules[r];
			words->open = summary.fails_closed &&
				      set->policies[p].on_failure != POLICY_FAIL_CLOSED;
			if (rule->match.mode == POLICY_ENFORCE && rule_blocks(rule))
				words_of_rule(words, rule);
		}
	words->open = !words->names;
	if (words->names || words->open_names)
		words_add_list(words, "u&\" \"\" \\u");
	if (words->open_all)
		words_drop_open(words);
	words_tidy(words);
}
