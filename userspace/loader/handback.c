// SPDX-License-Identifier: Apache-2.0
#include "loader/handback.h"

#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <bpf/bpf.h>

#include "dbfence/abi/wire_hold.h"

struct errand {
	int prog, netns;
	uint32_t index, seq;
	int rc; /* bytes, or a negative errno */
};

/* The program makes its packet out of this one. */
static int piece(const struct errand *e, uint32_t off)
{
	uint8_t frame[64] = { [12] = 0x08 };
	struct __sk_buff ctx = { .cb = { [DBF_WIRE_KEEP_SLOT] = e->index, [DBF_WIRE_KEEP_SEQ] = e->seq,
					 [DBF_WIRE_KEEP_OFF] = off } };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	int rc = bpf_prog_test_run_opts(e->prog, &opts);

	return rc ? rc : (int)opts.retval;
}

/* In a thread of its own, which ends in the other namespace. */
static void *run_errand(void *arg)
{
	struct errand *e = arg;
	uint32_t off = 0;
	int n;

	if (setns(e->netns, CLONE_NEWNET)) {
		e->rc = -errno;
		return NULL;
	}
	while (off < DBF_WIRE_KEPT_BYTES && (n = piece(e, off)) > 0)
		off += (uint32_t)n;
	e->rc = (int)off;
	return NULL;
}

int handback(int prog, int netns, uint32_t index, uint32_t seq, struct err *err)
{
	struct errand e = { prog, netns, index, seq, 0 };
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, run_errand, &e);

	if (rc)
		return err_set(err, -rc, "no thread for another network namespace: %s", strerror(rc));
	pthread_join(thread, NULL);
	if (e.rc < 0)
		return err_set(err, e.rc, "kept packets cannot be handed back: %s", strerror(-e.rc));
	return e.rc;
}
