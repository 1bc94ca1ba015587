// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static enum log_level log_max = LOG_LEVEL_INFO;
static const char *log_who = "dbfence";

void log_set_level(enum log_level level)
{
	log_max = level;
}

void log_set_who(const char *who)
{
	log_who = who;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const names[LOG_LEVEL_MAX] = { "error: ", "warning: ", "", "debug: " };
	char line[2048];
	va_list ap;
	int n, m;

	if (level > log_max)
		return;
	n = snprintf(line, sizeof(line), "%s: %s", log_who, names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	/* One write per line, so that the processes' lines do not interleave. A lost log line is
	 * not worth an error. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}
