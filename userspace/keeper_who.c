// SPDX-License-Identifier: Apache-2.0
/* Who is process N: program, user, cgroup, start. From /proc; nothing is guessed when the process
 * is gone. */
#include "keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_TICK 10000000ULL /* USER_HZ is 100 everywhere */

static bool read_proc(uint32_t pid, const char *name, char *buf, size_t cap)
{
	char path[64];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(buf, 1, cap - 1, f);
	fclose(f);
	buf[n] = '\0';
	return n > 0;
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold anything, so count from its last
 * parenthesis. */
static uint64_t start_ticks(uint32_t pid)
{
	char buf[1024], *p;

	if (!read_proc(pid, "stat", buf, sizeof(buf)))
		return 0;
	p = strrchr(buf, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static void read_cgroup(uint32_t pid, char *out, size_t cap)
{
	char buf[4096], *line, *end;

	out[0] = '\0';
	if (!read_proc(pid, "cgroup", buf, sizeof(buf)))
		return;
	line = strncmp(buf, "0::", 3) ? strstr(buf, "\n0::") : buf - 1;
	if (!line)
		return;
	line += 4;
	end = strchr(line, '\n');
	snprintf(out, cap, "%.*s", (int)(end ? end - line : (long)strlen(line)), line);
}

void keeper_find_who(const struct msg_who *ask, struct msg_who_answer *a)
{
	char buf[4096], *p;
	ssize_t n;

	*a = (struct msg_who_answer){ .session = ask->session };
	if (!ask->pid)
		return;
	a->start_ticks = start_ticks(ask->pid);
	if (!a->start_ticks || (ask->start && ask->start / NS_PER_TICK != a->start_ticks))
		return;
	snprintf(buf, sizeof(buf), "/proc/%u/exe", ask->pid);
	n = readlink(buf, a->exe, sizeof(a->exe) - 1);
	a->exe[n > 0 ? n : 0] = '\0';
	if (read_proc(ask->pid, "comm", buf, sizeof(buf)))
		snprintf(a->comm, sizeof(a->comm), "%.*s", (int)strcspn(buf, "\n"), buf);
	if (read_proc(ask->pid, "status", buf, sizeof(buf)) && (p = strstr(buf, "\nUid:")))
		a->uid = (uint32_t)strtoul(p + 5, NULL, 10);
	read_cgroup(ask->pid, a->cgroup, sizeof(a->cgroup));
	/* Still the same process, so all of the above is its own. */
	a->found = start_ticks(ask->pid) == a->start_ticks;
}
