// SPDX-License-Identifier: Apache-2.0
/*
 * A PostgreSQL client that never calls send, write or recv: one simple query, sent and answered through io_uring. Raw
 * system calls, so that no library is needed.
 *
 * Usage: uring_client HOST PORT APPLICATION TEXT [sqpoll]      with sqpoll a kernel thread of this process sends
 */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
	int fd, sqpoll;
	unsigned int *sq_tail, *sq_mask, *sq_array, *sq_flags;
	unsigned int *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static int die(const char *what)
{
	perror(what);
	return -1;
}

static int ring_open(struct ring *ring, int sqpoll)
{
	struct io_uring_params params = { .flags = sqpoll ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 1000 };
	char *sq, *cq;

	ring->sqpoll = sqpoll;
	ring->fd = (int)syscall(__NR_io_uring_setup, 8, &params);
	if (ring->fd < 0)
		return die("io_uring_setup");
	sq = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		  ring->fd, IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			  IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || ring->sqes == MAP_FAILED)
		return die("mmap");
	ring->sq_tail = (unsigned int *)(sq + params.sq_off.tail);
	ring->sq_mask = (unsigned int *)(sq + params.sq_off.ring_mask);
	ring->sq_array = (unsigned int *)(sq + params.sq_off.array);
	ring->sq_flags = (unsigned int *)(sq + params.sq_off.flags);
	ring->cq_head = (unsigned int *)(cq + params.cq_off.head);
	ring->cq_tail = (unsigned int *)(cq + params.cq_off.tail);
	ring->cq_mask = (unsigned int *)(cq + params.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	return 0;
}

/* One operation on the socket, and its result. */
static int ring_do(struct ring *ring, int op, int sock, void *data, size_t len)
{
	unsigned int tail = *ring->sq_tail, at = tail & *ring->sq_mask, flags = IORING_ENTER_GETEVENTS;
	struct io_uring_sqe *sqe = &ring->sqes[at];
	int result;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)op;
	sqe->fd = sock;
	sqe->addr = (uintptr_t)data;
	sqe->len = (uint32_t)len;
	ring->sq_array[at] = at;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_SEQ_CST);
	if (ring->sqpoll && (__atomic_load_n(ring->sq_flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP))
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(__NR_io_uring_enter, ring->fd, 1, 1, flags, NULL, 0) < 0)
		return die("io_uring_enter");
	while (*ring->cq_head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		usleep(100);
	result = ring->cqes[*ring->cq_head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return result;
}

/* Receive until the last message is ReadyForQuery: its type, length 5 and one byte of state. */
static int read_ready(struct ring *ring, int sock)
{
	static char buffer[65536];
	size_t have = 0;

	for (;;) {
		int got = ring_do(ring, IORING_OP_RECV, sock, buffer + have, sizeof(buffer) - have);

		if (got <= 0) {
			fprintf(stderr, "uring_client: recv gave %d\n", got);
			return -1;
		}
		have += (size_t)got;
		if (have >= 6 && !memcmp(buffer + have - 6, "Z\0\0\0\5", 5))
			return 0;
	}
}

static size_t put_len(char *at, size_t len)
{
	uint32_t be = htonl((uint32_t)len);

	memcpy(at, &be, 4);
	return len;
}

static int dial(const char *host, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int sock = socket(AF_INET, SOCK_STREAM, 0);

	if (sock < 0 || inet_pton(AF_INET, host, &to.sin_addr) != 1 || connect(sock, (struct sockaddr *)&to, sizeof(to)))
		return die("connect");
	return sock;
}

int main(int argc, char **argv)
{
	static const char head[] = "user\0postgres\0database\0postgres\0application_name";
	char message[4096];
	struct ring ring;
	size_t len = 8;
	int sock;

	if (argc < 5 || strlen(argv[3]) > 64 || strlen(argv[4]) > 2000) {
		fprintf(stderr, "usage: uring_client HOST PORT APPLICATION TEXT [sqpoll]\n");
		return 2;
	}
	sock = dial(argv[1], (int)strtol(argv[2], NULL, 10));
	if (sock < 0 || ring_open(&ring, argc > 5))
		return 1;
	memcpy(message + 4, "\0\3\0\0", 4);
	memcpy(message + len, head, sizeof(head));
	len += sizeof(head);
	len += (size_t)snprintf(message + len, 65, "%s", argv[3]) + 1;
	message[len++] = 0;
	if (ring_do(&ring, IORING_OP_SEND, sock, message, put_len(message, len)) != (int)len || read_ready(&ring, sock))
		return 1;
	message[0] = 'Q';
	len = (size_t)snprintf(message + 5, sizeof(message) - 5, "%s", argv[4]) + 1;
	if (ring_do(&ring, IORING_OP_SEND, sock, message, put_len(message + 1, len + 4) + 1) < 0 || read_ready(&ring, sock))
		return 1;
	printf("%d\n", getpid());
	usleep(200000); /* until whoever wants to know has seen what we run */
	return 0;
}
