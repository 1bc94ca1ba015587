// SPDX-License-Identifier: Apache-2.0
/* UTF-8, safe and unsafe characters, times and numbers. */
#include "audit/text.h"

#include <string.h>

#include "core/clock.h"

unsigned text_utf8(const unsigned char *at, const unsigned char *end, uint32_t *cp)
{
	unsigned len;
	uint32_t c = at[0], min;

	if (c < 0x80) {
		*cp = c;
		return 1;
	}
	if (c >= 0xc2 && c < 0xe0) {
		len = 2;
		min = 0x80;
		c &= 0x1f;
	} else if (c >= 0xe0 && c < 0xf0) {
		len = 3;
		min = 0x800;
		c &= 0x0f;
	} else if (c >= 0xf0 && c < 0xf5) {
		len = 4;
		min = 0x10000;
		c &= 0x07;
	} else {
		return 0;
	}
	if ((size_t)(end - at) < len)
		return 0;
	for (unsigned i = 1; i < len; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (at[i] & 0x3f);
	}
	if (c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*cp = c;
	return len;
}

/* Where the plain characters from @at on end. */
static const unsigned char *skip_ascii(const unsigned char *at, const unsigned char *end)
{
	while (at < end && *at && *at < 0x80)
		at++;
	return at;
}

bool text_is_utf8(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + len;
	uint32_t cp;
	unsigned n;

	for (at = skip_ascii(at, end); at < end; at = skip_ascii(at + n, end)) {
		n = *at ? text_utf8(at, end, &cp) : 0;
		if (!n)
			return false;
	}
	return true;
}

void text_put_utf8(struct buf *out, const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + len;

	while (at < end) {
		const unsigned char *from = at;
		uint32_t cp;
		unsigned n;

		at = skip_ascii(at, end);
		buf_put(out, from, (size_t)(at - from));
		if (at == end)
			break;
		n = *at ? text_utf8(at, end, &cp) : 0;
		if (n)
			buf_put(out, at, n);
		else
			buf_puts(out, "\xef\xbf\xbd");
		at += n ? n : 1;
	}
}

bool text_is_unsafe(uint32_t cp)
{
	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
		return true;
	if (cp < 0x61c)
		return cp == 0xad;
	return cp == 0x61c || (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	       (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff || (cp >= 0xfff9 && cp <= 0xfffb) ||
	       (cp >= 0xe0000 && cp <= 0xe007f);
}

struct range {
	uint32_t first, last;
};

static bool in_ranges(uint32_t cp, const struct range *ranges, size_t cnt)
{
	for (size_t i = 0; i < cnt; i++)
		if (cp >= ranges[i].first && cp <= ranges[i].last)
			return true;
	return false;
}

unsigned text_width(uint32_t cp)
{
	static const struct range zero[] = {
	    {0x300, 0x36f},   {0x483, 0x489},	{0x591, 0x5bd},	    {0x610, 0x61a},
	    {0x64b, 0x65f},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},   {0x20d0, 0x20ff},
	    {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xe0100, 0xe01ef},
	};
	static const struct range wide[] = {
	    {0x1100, 0x115f},	{0x2e80, 0xa4cf},   {0xa960, 0xa97f},	{0xac00, 0xd7a3},
	    {0xf900, 0xfaff},	{0xfe30, 0xfe6f},   {0xff00, 0xff60},	{0xffe0, 0xffe6},
	    {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
	};

	if (cp < 0x300)
		return 1;
	if (in_ranges(cp, zero, sizeof(zero) / sizeof(zero[0])))
		return 0;
	return in_ranges(cp, wide, sizeof(wide) / sizeof(wide[0])) ? 2 : 1;
}

static void put_digits(char *to, uint64_t value, unsigned digits)
{
	while (digits--) {
		to[digits] = (char)('0' + value % 10);
		value /= 10;
	}
}

/*
 * Days since 1970-01-01 to a date of the Gregorian calendar: eras of 400 years that begin on 1
 * March.
 */
static void civil_date(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t era, z = days + 719468;
	unsigned doe, yoe, doy, mp;

	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = (unsigned)(z - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp < 10 ? mp + 3 : mp - 9;
	*year = (int64_t)yoe + era * 400 + (*month <= 2);
}

size_t text_time(char to[TEXT_TIME_MAX], int64_t time_ns, unsigned ns_digits)
{
	int64_t secs = time_ns / (int64_t)NS_PER_SEC, days, year;
	int64_t ns = time_ns % (int64_t)NS_PER_SEC;
	unsigned month, day, of_day;
	size_t len;

	if (ns < 0) {
		ns += (int64_t)NS_PER_SEC;
		secs--;
	}
	days = secs / 86400;
	if (secs % 86400 < 0)
		days--;
	of_day = (unsigned)(secs - days * 86400);
	civil_date(days, &year, &month, &day); /* 64 bits of nanoseconds reach from 1677 to 2262 */
	memcpy(to, "0000-00-00T00:00:00.", 20);
	put_digits(to, (uint64_t)year, 4);
	put_digits(to + 5, month, 2);
	put_digits(to + 8, day, 2);
	put_digits(to + 11, of_day / 3600, 2);
	put_digits(to + 14, of_day / 60 % 60, 2);
	put_digits(to + 17, of_day % 60, 2);
	if (ns_digits > 9)
		ns_digits = 9;
	for (unsigned i = ns_digits; i < 9; i++)
		ns /= 10;
	put_digits(to + 20, (uint64_t)ns, ns_digits);
	len = 20 + ns_digits;
	to[len++] = 'Z';
	return len;
}

void text_put_u64(struct buf *out, uint64_t value)
{
	char digits[20];
	unsigned at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	buf_put(out, digits + at, sizeof(digits) - at);
}
