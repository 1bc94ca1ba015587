/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test program as a server: it exports what the probes look for, is the postmaster, and forks backends that do
 * what they are told.
 */
#ifndef DBFENCE_TESTS_BPF_SERVER_H
#define DBFENCE_TESTS_BPF_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct one_page {
	union {
		volatile int number;
		void *volatile pointer;
		volatile bool flag;
		char bytes[4096];
	};
};

extern struct one_page InterruptHoldoffCount, QueryCancelHoldoffCount, CritSectionCount, MyProcPort,
	am_walsender, ParallelWorkerNumber, standard_conforming_strings;
extern const char *volatile debug_query_string;
extern void *volatile ActivePortal;
extern volatile int MaxConnections;
void raw_parser(const char *text, int mode);
void ExecutorRun(void *query_desc);
void ExecutorEnd(void *query_desc);
void ProcessUtility(void *stmt, const char *text, bool read_only, int context);
void secure_write(void *port, void *bytes, size_t len);
void exec_replication_command(const char *text);

enum order { ORDER_NONE, ORDER_PARSE, ORDER_COMMAND, ORDER_INSIDE, ORDER_READY, ORDER_DROP_PAGE, ORDER_TOUCH_PAGE, ORDER_SET };

struct backend { /* shared with the child */
	pid_t pid;
	volatile enum order order;
	volatile unsigned done, interrupts;
	struct one_page *page;
	char text[16384];
};

struct backend *backend_new(void);
/* A backend of a second server, whose postmaster shrugs at signals. */
struct backend *backend_under_another(pid_t *postmaster);
void backend_end(struct backend *b);

/* It stands still. */
bool stopped(const struct backend *b);
/* Give the order; true when it is carried out, false when the backend stands still in it. */
bool tell(struct backend *b, enum order order);
bool tell_text(struct backend *b, enum order order, const char *text);
bool parse(struct backend *b, const char *text);
/* Until the order that it stood still in is carried out. */
void wait_done(struct backend *b);

#endif
