// SPDX-License-Identifier: Apache-2.0
/* postmaster.pid as it looks while a server starts, runs and ends, and as its owner may have
 * damaged it. */
#include "../lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "loader/pg_process.h"

static int parse(const char *text, pid_t ns_pid, struct pg_postmaster *pm)
{
	char *copy = strdup(text);
	int ret;

	memset(pm, 0, sizeof(*pm));
	pm->ns_pid = ns_pid;
	ret = pg_postmaster_parse(copy, pm);
	free(copy);
	return ret;
}

static void test_running(void)
{
	struct pg_postmaster pm;

	CHECK(!parse(
	    "4711\n/var/lib/postgresql/15/main\n1716000000\n5432\n/var/run/postgresql\nlocalhost\n"
	    "  1234567     32768\nready   \n",
	    4711, &pm));
	CHECK_STR(pm.data_dir, "/var/lib/postgresql/15/main");
	CHECK_INT(pm.port, 5432);
	CHECK_STR(pm.socket_dir, "/var/run/postgresql");
	CHECK_STR(pm.listen_address, "localhost");
	CHECK(pm.ready);
}

static void test_stages(void)
{
	struct pg_postmaster pm;

	CHECK(!parse("4711\n/d\n1716000000\n5432\n\n", 4711, &pm));
	CHECK_STR(pm.socket_dir, "");
	CHECK(!pm.ready);
	CHECK(!parse("4711\n/d\n1716000000\n5432\n/a, /b\n*\n", 4711, &pm));
	CHECK_STR(pm.socket_dir, "/a");
	CHECK_STR(pm.listen_address, "*");
	CHECK(!parse("4711\n/d\n1\n5432\n/a\n*\n1 2\nstarting\n", 4711, &pm) && !pm.ready);
	CHECK(!parse("4711\n/d\n1\n5432\n/a\n*\n1 2\nstopping\n", 4711, &pm) && !pm.ready);
	CHECK(!parse("4711\n/d\n1\n5432\n/a\n*\n1 2\nstandby \n", 4711, &pm) && pm.ready);
}

static void test_not_ours(void)
{
	struct pg_postmaster pm;

	/* another process, a single-user backend, and no lock file at all */
	CHECK_INT(parse("4712\n/d\n1\n5432\n/a\n*\n1 2\nready\n", 4711, &pm), -ENOENT);
	CHECK_INT(parse("-4711\n/d\n1\n5432\n\n\n", 4711, &pm), -ENOENT);
	CHECK_INT(parse("", 4711, &pm), -ENOENT);
	CHECK_INT(parse("4711\n/d\n1", 4711, &pm), -ENOENT);
	CHECK_INT(parse("4711x/d", 4711, &pm), -ENOENT);
}

static void test_damaged(void)
{
	struct pg_postmaster pm;
	char *text = malloc(20000);
	size_t at;

	CHECK(!parse("4711\n/d\n1\n70000\n", 4711, &pm) && pm.port == 0);
	CHECK(!parse("4711\n/d\n1\n-5\n", 4711, &pm) && pm.port == 0);
	CHECK(!parse("4711\n/d\n1\nmany\n", 4711, &pm) && pm.port == 0);
	/* Lines longer than any field are cut, not written over the next. */
	at = (size_t)snprintf(text, 20000, "4711\n");
	memset(text + at, 'd', 6000);
	at += 6000;
	at += (size_t)snprintf(text + at, 20000 - at, "\n1\n5432\n");
	memset(text + at, 's', 6000);
	snprintf(text + at + 6000, 20000 - at - 6000, "\n*\n");
	CHECK(!parse(text, 4711, &pm));
	CHECK_INT(strlen(pm.data_dir), sizeof(pm.data_dir) - 1);
	CHECK_INT(strlen(pm.socket_dir), sizeof(pm.socket_dir) - 1);
	CHECK_INT(pm.port, 5432);
	CHECK_STR(pm.listen_address, "*");
	free(text);
}

static void test_self(void)
{
	struct stat st, exe;
	uint64_t start = 0;
	pid_t ppid = 0;

	CHECK_INT(proc_read_stat(getpid(), &ppid, &start), 0);
	CHECK_INT(ppid, getppid());
	CHECK(start > 0);
	CHECK_INT(proc_stat_exe(getpid(), &st), 0);
	CHECK(!stat("/proc/self/exe", &exe) && exe.st_ino == st.st_ino && exe.st_dev == st.st_dev);
	CHECK(proc_read_ns_pid(getpid()) > 0);
	CHECK_INT(proc_read_stat(1 << 30, &ppid, &start), -ESRCH);
	CHECK_INT(proc_stat_exe(1 << 30, &st), -ENOENT);
}

static const struct test_case cases[] = {
    {"running", test_running}, {"stages", test_stages}, {"not_ours", test_not_ours},
    {"damaged", test_damaged}, {"self", test_self},
};

TEST_MAIN(cases)
