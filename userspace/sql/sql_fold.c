// SPDX-License-Identifier: Apache-2.0
/*
 * Owns one question: can this WHERE clause leave a row out? "WHERE true", "1 = 1", "id = id" cannot, and neither, to
 * any effect, can "id IS NOT NULL".
 *
 * Each expression folds to one of five values: TRUE (always, or for every row that matters), FALSE, CONST (the same
 * for every row, but not known here: length('x') = 1), ROW (depends on the row), RARE (id IS NULL: selects, but its
 * negation does not). TRUE and CONST select nothing out.
 *
 * Beside the value goes the set of values that the same text with other literals could have; if that set holds both a
 * selective and a non-selective one, the answer must not be cached by shape.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sql/sql_walk.h"

enum { V_TRUE = 1, V_FALSE = 2, V_CONST = 4, V_ROW = 8, V_RARE = 16, V_LAST = V_RARE };
#define NOT_SELECTIVE (V_TRUE | V_CONST)
#define ANY_VALUE (V_TRUE | V_FALSE | V_CONST | V_ROW | V_RARE)

struct fold {
	uint8_t value;		/* one bit */
	uint8_t possible;	/* with other literals; holds value */
};

/*
 * @target: how the table whose rows are changed is named. Then only columns that may be its own tell its rows apart, and
 * LIKE '%' counts, which makes facts depend on literals. NULL where rows are only read.
 */
static struct fold fold(const struct jnode *node, const char *target);

static struct fold exactly(uint8_t value)
{
	return (struct fold){ value, value };
}

static struct fold one_of(uint8_t value, uint8_t possible)
{
	return (struct fold){ value, value | possible };
}

static uint8_t not_value(uint8_t v)
{
	if (v == V_TRUE)
		return V_FALSE;
	return v == V_FALSE || v == V_RARE ? V_TRUE : v;
}

static uint8_t and_value(uint8_t a, uint8_t b)
{
	if (a == V_FALSE || b == V_FALSE)
		return V_FALSE;
	if (a == V_RARE || b == V_RARE)
		return V_RARE;
	if (a == V_ROW || b == V_ROW)
		return V_ROW;
	return a == V_TRUE ? b : a;
}

static uint8_t or_value(uint8_t a, uint8_t b)
{
	if (a == V_TRUE || b == V_TRUE)
		return V_TRUE;
	if (a == V_CONST || b == V_CONST)
		return V_CONST;
	if (a == V_ROW || b == V_ROW)
		return V_ROW;
	return a == V_FALSE ? b : a;
}

static struct fold combine(struct fold a, struct fold b, uint8_t (*op)(uint8_t, uint8_t))
{
	struct fold result = { op(a.value, b.value), 0 };

	for (uint8_t x = V_TRUE; x <= V_LAST; x <<= 1)
		for (uint8_t y = V_TRUE; y <= V_LAST; y <<= 1)
			if ((a.possible & x) && (b.possible & y))
				result.possible |= op(x, y);
	return result;
}

static struct fold negate(struct fold a)
{
	struct fold result = { not_value(a.value), 0 };

	for (uint8_t x = V_TRUE; x <= V_LAST; x <<= 1)
		if (a.possible & x)
			result.possible |= not_value(x);
	return result;
}

/* --- what an expression is made of ----------------------------------------------------------------------- */

/* The name before the last of a column's, or NULL. */
static const char *qualifier_of(const struct jnode *fields)
{
	const struct jnode *before = NULL;

	jnode_for_each(field, fields)
		if (field->next && !field->next->next)
			before = field;
	return before ? jnode_text(before) : NULL;
}

/* A column that may be of @target's row. `SELECT *` inside EXISTS says nothing about the outer row. */
static bool is_of_row(const struct jnode *column, const char *target)
{
	const struct jnode *fields = jnode_get(column, "fields");
	const char *of = fields && target ? qualifier_of(fields) : NULL;

	if (fields && fields->last && fields->last->type == N_A_Star)
		return false;
	return !of || !strcmp(of, target);
}

/* Some column of a row is read below @node. */
static bool reads_row(const struct jnode *node, const char *target)
{
	if (!node)
		return false;
	if (node->type == N_ColumnRef)
		return is_of_row(node, target);
	if (node->type == N_CurrentOfExpr || node->type == N_UNKNOWN)
		return true;
	jnode_for_each(child, node)
		if (child->kind >= JSON_ARRAY && reads_row(child, target))
			return true;
	return false;
}

static bool holds_literal(const struct jnode *node)
{
	if (!node)
		return false;
	if (node->type == N_A_Const)
		return true;
	jnode_for_each(child, node)
		if (child->kind >= JSON_ARRAY && holds_literal(child))
			return true;
	return false;
}

/* The A_Const below casts and collations, or NULL. */
static const struct jnode *literal_of(const struct jnode *node)
{
	while (node && (node->type == N_TypeCast || node->type == N_CollateClause))
		node = jnode_get(node, "arg");
	return node && node->type == N_A_Const ? node : NULL;
}

static const char *operator_of(const struct jnode *node)
{
	const struct jnode *name = jnode_get(node, "name");
	const char *op = name && name->last ? jnode_text(name->last) : NULL;

	return op ? op : "";
}

/* --- leaves ---------------------------------------------------------------------------------------------- */

static bool is_true_word(const char *s)
{
	static const char *const words[] = { "t", "tr", "tru", "true", "y", "ye", "yes", "on", "1" };

	s += strspn(s, " \t\r\n\v\f");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strncasecmp(s, words[i], strlen(words[i])) &&
		    !s[strlen(words[i]) + strspn(s + strlen(words[i]), " \t\r\n\v\f")])
			return true;
	return false;
}

static struct fold fold_literal(const struct jnode *node)
{
	const struct jnode *boolval = jnode_get(node, "boolval"), *sval = jnode_get(node, "sval");

	if (jnode_get(node, "isnull"))
		return exactly(V_FALSE);
	if (boolval)
		return exactly(jnode_bool(boolval, "boolval") ? V_TRUE : V_FALSE);
	if (sval)
		return one_of(is_true_word(jnode_str(sval, "sval") ? jnode_str(sval, "sval") : "") ? V_TRUE : V_FALSE,
			      V_TRUE | V_FALSE);
	/* 1::bool */
	return one_of(jnode_num(jnode_get(node, "ival"), "ival") ? V_TRUE : V_FALSE, V_TRUE | V_FALSE);
}

static double number_of(const struct jnode *literal)
{
	const char *text = jnode_str(jnode_get(literal, "fval"), "fval");

	return text ? strtod(text, NULL) : (double)jnode_num(jnode_get(literal, "ival"), "ival");
}

/* -1, 0, 1, or 2 when these two cannot be compared here. */
static int compare_literals(const struct jnode *a, const struct jnode *b)
{
	const struct jnode *x = jnode_get(a, "sval"), *y = jnode_get(b, "sval");
	double dx, dy;
	int order;

	if (x && y) {
		const char *sx = jnode_str(x, "sval"), *sy = jnode_str(y, "sval");

		order = strcmp(sx ? sx : "", sy ? sy : "");
		return order < 0 ? -1 : order > 0;
	}
	if (jnode_get(a, "boolval") && jnode_get(b, "boolval"))
		return (int)jnode_num(jnode_get(a, "boolval"), "boolval") -
		       (int)jnode_num(jnode_get(b, "boolval"), "boolval");
	if (x || y || jnode_get(a, "boolval") || jnode_get(b, "boolval"))
		return 2;
	if ((!jnode_get(a, "ival") && !jnode_get(a, "fval")) || (!jnode_get(b, "ival") && !jnode_get(b, "fval")))
		return 2;
	dx = number_of(a);
	dy = number_of(b);
	return dx < dy ? -1 : dx > dy;
}

/* Whether `op` holds for an ordering; -1 for an operator that is not a comparison. */
static int holds(const char *op, int order)
{
	if (!strcmp(op, "="))
		return order == 0;
	if (!strcmp(op, "<>") || !strcmp(op, "!="))
		return order != 0;
	if (!strcmp(op, "<"))
		return order < 0;
	if (!strcmp(op, "<="))
		return order <= 0;
	if (!strcmp(op, ">"))
		return order > 0;
	return !strcmp(op, ">=") ? order >= 0 : -1;
}

/* LIKE with a pattern of nothing but '%', which any other literal need not be. */
static struct fold fold_like(const struct jnode *node)
{
	const struct jnode *pattern = literal_of(jnode_get(node, "rexpr"));
	const char *op = operator_of(node), *text;

	if (!pattern || op[0] == '!')
		return exactly(V_ROW);
	text = jnode_str(jnode_get(pattern, "sval"), "sval");
	return one_of(text && *text && !text[strspn(text, "%")] ? V_TRUE : V_ROW, V_TRUE | V_ROW);
}

static bool list_holds(const struct jnode *list, const struct jnode *value)
{
	const struct jnode *items = list;

	if (list && list->type == N_List)
		items = jnode_get(list, "items");
	else if (list && list->type == N_A_ArrayExpr)
		items = jnode_get(list, "elements");
	jnode_for_each(item, items)
		if (jnode_equal(item, value))
			return true;
	return jnode_equal(list, value);
}

static struct fold fold_equal_sides(const struct jnode *node, const char *op)
{
	uint8_t value = holds(op, 0) ? V_TRUE : V_FALSE;

	return holds_literal(node) ? one_of(value, V_TRUE | V_FALSE | V_ROW) : exactly(value);
}

static struct fold fold_compare(const struct jnode *node, const char *target)
{
	const struct jnode *left = jnode_get(node, "lexpr"), *right = jnode_get(node, "rexpr");
	const struct jnode *a = literal_of(left), *b = literal_of(right);
	const char *op = operator_of(node);
	int order;

	if (a && b) {
		order = compare_literals(a, b);
		if (order == 2 || holds(op, order) < 0)
			return one_of(V_CONST, V_TRUE | V_FALSE | V_CONST);
		return one_of(holds(op, order) ? V_TRUE : V_FALSE, V_TRUE | V_FALSE);
	}
	if (!reads_row(node, target))
		return exactly(V_CONST);
	if (holds(op, 0) < 0)
		return exactly(V_ROW);
	if (left && jnode_equal(left, right))
		return fold_equal_sides(node, op);
	/* Other literals could make the sides equal: a + 1 = a + 2. */
	if (holds_literal(left) && holds_literal(right) && reads_row(left, target) && reads_row(right, target))
		return one_of(V_ROW, V_TRUE | V_FALSE | V_ROW);
	return exactly(V_ROW);
}

static struct fold fold_between(const struct jnode *node, bool inside)
{
	const struct jnode *left = jnode_get(node, "lexpr"), *list = jnode_get(node, "rexpr");
	const struct jnode *items = list && list->type == N_List ? jnode_get(list, "items") : list;
	bool all = items && items->child;

	jnode_for_each(item, items)
		all &= jnode_equal(item, left);
	if (all)
		return exactly(inside ? V_TRUE : V_FALSE);
	return exactly(V_ROW);
}

static struct fold fold_a_expr(const struct jnode *node, const char *target)
{
	const char *kind = jnode_str(node, "kind");
	const struct jnode *left = jnode_get(node, "lexpr"), *right = jnode_get(node, "rexpr");

	if (!kind)
		return exactly(V_ROW);
	if (!strcmp(kind, "AEXPR_OP"))
		return fold_compare(node, target);
	if (!reads_row(node, target))
		return exactly(V_CONST);
	if (!strcmp(kind, "AEXPR_LIKE") || !strcmp(kind, "AEXPR_ILIKE"))
		return jnode_equal(left, right) ? exactly(V_TRUE) : target ? fold_like(node) : exactly(V_ROW);
	if (!strcmp(kind, "AEXPR_NOT_DISTINCT") || !strcmp(kind, "AEXPR_DISTINCT"))
		return jnode_equal(left, right) ? exactly(kind[6] == 'N' ? V_TRUE : V_FALSE) : exactly(V_ROW);
	if (!strcmp(kind, "AEXPR_BETWEEN") || !strcmp(kind, "AEXPR_BETWEEN_SYM"))
		return fold_between(node, true);
	if (!strcmp(kind, "AEXPR_NOT_BETWEEN") || !strcmp(kind, "AEXPR_NOT_BETWEEN_SYM"))
		return fold_between(node, false);
	if (!strcmp(kind, "AEXPR_IN") || !strcmp(kind, "AEXPR_OP_ANY")) {
		bool negated = operator_of(node)[0] == '<' || operator_of(node)[0] == '!';

		if (list_holds(right, left))
			return exactly(negated ? V_FALSE : V_TRUE);
	}
	return exactly(V_ROW);
}

/* --- inner nodes ----------------------------------------------------------------------------------------- */

static struct fold fold_bool(const struct jnode *node, const char *target)
{
	const struct jnode *args = jnode_get(node, "args");
	const char *op = jnode_str(node, "boolop");
	bool is_and = op && !strcmp(op, "AND_EXPR");
	struct fold result;

	if (!op || !args || !args->child)
		return exactly(V_ROW);
	result = fold(args->child, target);
	if (!strcmp(op, "NOT_EXPR"))
		return negate(result);
	for (const struct jnode *arg = args->child->next; arg; arg = arg->next)
		result = combine(result, fold(arg, target), is_and ? and_value : or_value);
	return result;
}

/* IS NOT NULL selects too little to count; NULL and NOT NULL literals are what they are. */
static struct fold fold_null_test(const struct jnode *node, const char *target)
{
	const struct jnode *arg = jnode_get(node, "arg"), *literal = literal_of(arg);
	bool is_not = jnode_is(node, "nulltesttype", "IS_NOT_NULL");

	if (literal)
		return exactly((jnode_get(literal, "isnull") != NULL) != is_not ? V_TRUE : V_FALSE);
	if (is_not)
		return exactly(V_TRUE);
	return reads_row(arg, target) ? exactly(V_RARE) : exactly(V_CONST);
}

static struct fold fold_bool_test(const struct jnode *node, const char *target)
{
	const char *type = jnode_str(node, "booltesttype");
	struct fold arg = fold(jnode_get(node, "arg"), target);

	if (!type || !strcmp(type, "IS_TRUE") || !strcmp(type, "IS_NOT_FALSE"))
		return arg;
	if (!strcmp(type, "IS_FALSE") || !strcmp(type, "IS_NOT_TRUE"))
		return negate(arg);
	/* IS UNKNOWN is like IS NULL, IS NOT UNKNOWN like IS NOT NULL. */
	return exactly(!strcmp(type, "IS_NOT_UNKNOWN") ? V_TRUE : arg.value == V_ROW ? V_RARE : V_FALSE);
}

/* All its results true: true, whatever the conditions are. */
static struct fold fold_case(const struct jnode *node, const char *target)
{
	const struct jnode *other = jnode_get(node, "defresult");
	struct fold result = other ? fold(other, target) : exactly(V_FALSE);
	bool first = false;

	jnode_for_each(when, jnode_get(node, "args")) {
		struct fold next = fold(jnode_get(when, "result"), target);
		struct fold cond = fold(jnode_get(when, "expr"), target);

		if (!first && !jnode_get(node, "arg") && cond.value == V_TRUE)
			return one_of(next.value, cond.possible == V_TRUE ? next.possible : ANY_VALUE);
		first = true;
		if (next.value != result.value)
			return one_of(reads_row(node, target) ? V_ROW : V_CONST, ANY_VALUE);
		result.possible |= next.possible;
	}
	return result;
}

static struct fold fold_coalesce(const struct jnode *node, const char *target)
{
	const struct jnode *args = jnode_get(node, "args");
	struct fold result = exactly(V_FALSE);

	/* As many rows as a NULL stands in get the last value: as selective as the OR of all. */
	jnode_for_each(arg, args)
		result = combine(result, fold(arg, target), or_value);
	return result;
}

static struct fold fold(const struct jnode *node, const char *target)
{
	if (!node)
		return exactly(V_ROW);
	switch (node->type) {
	case N_A_Const:
		return fold_literal(node);
	case N_BoolExpr:
		return fold_bool(node, target);
	case N_A_Expr:
		return fold_a_expr(node, target);
	case N_NullTest:
		return fold_null_test(node, target);
	case N_BooleanTest:
		return fold_bool_test(node, target);
	case N_TypeCast:
	case N_CollateClause:
		return fold(jnode_get(node, "arg"), target);
	case N_CaseExpr:
		return fold_case(node, target);
	case N_CoalesceExpr:
		return fold_coalesce(node, target);
	default:
		return exactly(reads_row(node, target) ? V_ROW : V_CONST);
	}
}

bool sql_fold_is_true(const struct jnode *where, const char *target, bool *depends)
{
	struct fold result = fold(where, target);

	*depends = (result.possible & NOT_SELECTIVE) && (result.possible & ~NOT_SELECTIVE);
	return result.value & NOT_SELECTIVE;
}
