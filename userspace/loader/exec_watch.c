// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: one perf event and one ring per CPU. Called by discover.c. Knows nothing of databases.
 *
 * A dummy software event asks for COMM records alone; an exec is the COMM record with
 * PERF_RECORD_MISC_COMM_EXEC. The watermark must be one byte: sideband records are not samples, so
 * wakeup_events does not count them and the wake-up would wait for the ring to fill.
 */
#include "loader/exec_watch.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_PAGES 8 /* a power of two; about 800 execs between two drains */

struct ring {
	int fd;	   /* owned */
	void *map; /* owned; the control page, then the data */
};

struct exec_watch {
	int epoll_fd; /* owned */
	size_t page;
	unsigned ring_cnt;
	struct ring rings[]; /* owned */
};

/* What is needed of a COMM record; the name behind it is not. */
struct comm_record {
	struct perf_event_header header;
	uint32_t pid;
	uint32_t tid;
};

struct lost_record {
	struct perf_event_header header;
	uint64_t id;
	uint64_t lost;
};

static int ring_open(struct exec_watch *w, struct ring *r, int cpu)
{
	struct perf_event_attr attr = {
	    .type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(attr),
	    .config = PERF_COUNT_SW_DUMMY,
	    .comm = 1,
	    .comm_exec = 1,
	    .watermark = 1,
	    .wakeup_watermark = 1,
	};
	struct epoll_event ev = {.events = EPOLLIN};
	void *map;
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return -errno;
	map = mmap(NULL, (RING_PAGES + 1) * w->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev)) {
		int err = -errno;

		if (map != MAP_FAILED)
			munmap(map, (RING_PAGES + 1) * w->page);
		close(fd);
		return err;
	}
	r->fd = fd;
	r->map = map;
	return 0;
}

int exec_watch_open(struct exec_watch **out, struct err *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	struct exec_watch *w;
	int ret = 0;

	if (cpus < 1)
		cpus = 1;
	w = calloc(1, sizeof(*w) + (size_t)cpus * sizeof(w->rings[0]));
	if (!w)
		return err_set(err, -ENOMEM,
			       "out of memory while preparing to watch for new processes");
	w->page = (size_t)sysconf(_SC_PAGESIZE);
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		ret = -errno;
	for (int cpu = 0; cpu < cpus && !ret; cpu++) {
		ret = ring_open(w, &w->rings[w->ring_cnt], cpu);
		if (!ret)
			w->ring_cnt++;
		else if (ret == -ENODEV)
			ret = 0; /* this CPU is off line */
	}
	if (ret || !w->ring_cnt) {
		exec_watch_close(w);
		return err_set(err, -ENOTSUP,
			       "the kernel refuses to report new processes (perf_event_open: %s); "
			       "new servers are looked "
			       "for at intervals instead. CAP_PERFMON and "
			       "kernel.perf_event_paranoid decide this",
			       strerror(ret ? -ret : ENODEV));
	}
	*out = w;
	return 0;
}

void exec_watch_close(struct exec_watch *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < w->ring_cnt; i++) {
		munmap(w->rings[i].map, (RING_PAGES + 1) * w->page);
		close(w->rings[i].fd);
	}
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	free(w);
}

int exec_watch_fd(const struct exec_watch *w)
{
	return w->epoll_fd;
}

/* Records wrap at the end of the ring; @len is at most what a record header promises. */
static void copy_out(const struct exec_watch *w, const struct ring *r, uint64_t pos, void *buf,
		     size_t len)
{
	const uint8_t *data = (const uint8_t *)r->map + w->page;
	size_t size = RING_PAGES * w->page;

	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = data[(pos + i) & (size - 1)];
}

static size_t drain_ring(struct exec_watch *w, struct ring *r, pid_t *pids, size_t cap,
			 uint64_t *lost)
{
	struct perf_event_mmap_page *page = r->map;
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), pos = page->data_tail;
	size_t cnt = 0;

	while (pos < head) {
		struct perf_event_header h;

		copy_out(w, r, pos, &h, sizeof(h));
		if (h.size < sizeof(h) || h.size > head - pos) {
			(*lost)++;
			break;
		}
		if (h.type == PERF_RECORD_COMM && (h.misc & PERF_RECORD_MISC_COMM_EXEC) &&
		    h.size >= sizeof(struct comm_record)) {
			struct comm_record rec;

			copy_out(w, r, pos, &rec, sizeof(rec));
			if (cnt < cap)
				pids[cnt++] = (pid_t)rec.pid;
			else
				(*lost)++;
		} else if (h.type == PERF_RECORD_LOST && h.size >= sizeof(struct lost_record)) {
			struct lost_record rec;

			copy_out(w, r, pos, &rec, sizeof(rec));
			*lost += rec.lost;
		}
		pos += h.size;
	}
	__atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
	return cnt;
}

size_t exec_watch_drain(struct exec_watch *w, pid_t *pids, size_t cap, uint64_t *lost)
{
	struct epoll_event evs[16];
	size_t cnt = 0;

	/* Takes the events off the epoll's ready list; the rings themselves are all looked at
	 * anyway. */
	epoll_wait(w->epoll_fd, evs, 16, 0);
	for (unsigned i = 0; i < w->ring_cnt; i++)
		cnt += drain_ring(w, &w->rings[i], pids + cnt, cap - cnt, lost);
	return cnt;
}
