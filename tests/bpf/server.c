// SPDX-License-Identifier: Apache-2.0
/* What the probes look for, and the backends. Exported names are PostgreSQL's. */
#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/test.h"

/* Each alone on a page of this file, so that its page can be dropped and read again. */
#define OWN_PAGE __attribute__((aligned(4096), section(".data")))

struct one_page InterruptHoldoffCount OWN_PAGE, QueryCancelHoldoffCount OWN_PAGE, CritSectionCount OWN_PAGE,
	MyProcPort OWN_PAGE, am_walsender OWN_PAGE;
struct one_page ParallelWorkerNumber OWN_PAGE = { .number = -1 };
struct one_page standard_conforming_strings OWN_PAGE = { .flag = true };
const char *volatile debug_query_string;
void *volatile ActivePortal;
volatile int MaxConnections = 100;
static volatile uint64_t calls;

__attribute__((noinline)) void raw_parser(const char *text, int mode)
{
	calls += (uint64_t)text + (uint64_t)mode;
}

__attribute__((noinline)) void ExecutorRun(void *query_desc)
{
	calls += (uint64_t)query_desc + 1;
}

__attribute__((noinline)) void ExecutorEnd(void *query_desc)
{
	calls += (uint64_t)query_desc + 2;
}

__attribute__((noinline)) void ProcessUtility(void *stmt, const char *text, bool read_only, int context)
{
	calls += (uint64_t)stmt + (uint64_t)text + read_only + (uint64_t)context;
}

__attribute__((noinline)) void secure_write(void *port, void *bytes, size_t len)
{
	calls += (uint64_t)port + (uint64_t)bytes + len;
}

__attribute__((noinline)) void exec_replication_command(const char *text)
{
	calls += (uint64_t)text + 3;
}

static struct backend *self;
static char port[4096];

static void on_interrupt(int sig)
{
	(void)sig;
	self->interrupts++;
}

static void on_interrupt_ignored(int sig)
{
	(void)sig;
}

static void obey(struct backend *b)
{
	char ready[] = { 'Z', 0, 0, 0, 5, 'I' };

	switch (b->order) {
	case ORDER_PARSE:
		debug_query_string = b->text;
		raw_parser(b->text, 0);
		break;
	case ORDER_COMMAND: exec_replication_command(b->text); break;
	case ORDER_INSIDE:
		debug_query_string = NULL;
		raw_parser(b->text, 0);
		break;
	case ORDER_READY: secure_write(port, ready, sizeof(ready)); break;
	/* What was never written comes back from the file; until it is touched, no page is there. */
	case ORDER_DROP_PAGE: madvise(b->page, sizeof(*b->page), MADV_DONTNEED); break;
	case ORDER_TOUCH_PAGE:
		if (b->page == &MyProcPort)
			MyProcPort.pointer = port;
		calls += (uint64_t)b->page->number;
		break;
	case ORDER_SET: MaxConnections = getpid(); break;
	case ORDER_NONE: break;
	}
}

static void backend_main(struct backend *b)
{
	self = b;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, on_interrupt);
	MyProcPort.pointer = port;
	calls += (uint64_t)(InterruptHoldoffCount.number + QueryCancelHoldoffCount.number + CritSectionCount.number +
			    ParallelWorkerNumber.number + am_walsender.flag + standard_conforming_strings.flag);
	for (;; usleep(200)) {
		if (!b->order)
			continue;
		obey(b);
		b->order = ORDER_NONE;
		b->done++;
	}
}

struct backend *backend_new(void)
{
	struct backend *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	pid_t pid;

	if (b == MAP_FAILED)
		abort();
	pid = fork();
	if (!pid)
		backend_main(b);
	b->pid = pid;
	return b;
}

struct backend *backend_under_another(pid_t *postmaster)
{
	struct backend *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (b == MAP_FAILED)
		abort();
	*postmaster = fork();
	if (!*postmaster) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGINT, on_interrupt_ignored);
		signal(SIGQUIT, on_interrupt_ignored);
		signal(SIGTERM, on_interrupt_ignored);
		pid = fork();
		if (!pid)
			backend_main(b);
		b->pid = pid;
		for (;;)
			pause();
	}
	while (!*(volatile pid_t *)&b->pid)
		usleep(100);
	return b;
}

void backend_end(struct backend *b)
{
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	munmap(b, sizeof(*b));
}

bool stopped(const struct backend *b)
{
	char path[64], buf[512] = "", *p;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", b->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) < 0)
		buf[0] = '\0';
	close(fd);
	p = strrchr(buf, ')');
	return p && p[2] == 'T';
}

bool tell(struct backend *b, enum order order)
{
	unsigned before = b->done;

	b->order = order;
	for (int i = 0; i < 20000 && b->done == before; i++) {
		if (stopped(b))
			return false;
		usleep(100);
	}
	CHECK_MSG(b->done != before, "a backend neither went on nor stood still");
	return true;
}

bool tell_text(struct backend *b, enum order order, const char *text)
{
	snprintf(b->text, sizeof(b->text), "%s", text);
	return tell(b, order);
}

bool parse(struct backend *b, const char *text)
{
	return tell_text(b, ORDER_PARSE, text);
}

void wait_done(struct backend *b)
{
	for (int i = 0; i < 20000 && b->order; i++)
		usleep(100);
	CHECK_MSG(!b->order, "a backend that was released did not go on");
}
