// SPDX-License-Identifier: Apache-2.0
/*
 * Copies kernel records out of the running daemon's ring, for tests/golden/pipeline/ (root; tests/golden/record.py drives
 * it). The daemon consumes them as always: what it has consumed stays in the ring's memory until it is written over, so
 * remembering a position before a scenario and reading from there after it is enough.
 *
 *   record RING mark               print the position at which the next record will be written
 *   record RING dump POSITION      write everything since then to standard output: u32 length, record, repeated
 *
 * Not part of any build: gcc -O2 -D_GNU_SOURCE tests/golden/record.c -lbpf -o /tmp/record
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_BUSY (1U << 31)
#define RING_DISCARD (1U << 30)
#define RING_HEADER 8

static int dump(const unsigned char *data, unsigned long bytes, unsigned long pos, unsigned long end)
{
	if (pos > end || end - pos > bytes) {
		fprintf(stderr, "record: the records since %lu were written over; use a larger --ring-bytes\n", pos);
		return 1;
	}
	while (pos < end) {
		const unsigned char *at = data + (pos & (bytes - 1));
		uint32_t head = __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE);
		uint32_t len = head & ~(RING_BUSY | RING_DISCARD);

		if (head & RING_BUSY)
			break;
		if (!(head & RING_DISCARD)) {
			fwrite(&len, sizeof(len), 1, stdout);
			fwrite(at + RING_HEADER, len, 1, stdout);
		}
		pos += (RING_HEADER + len + 7) & ~7UL;
	}
	return fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct bpf_map_info info = { 0 };
	uint32_t info_len = sizeof(info);
	const unsigned char *map;
	unsigned long page, end;
	int fd;

	if (argc < 3 || (strcmp(argv[2], "mark") && (strcmp(argv[2], "dump") || argc != 4))) {
		fprintf(stderr, "usage: record RING mark | record RING dump POSITION\n");
		return 2;
	}
	fd = bpf_obj_get(argv[1]);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &info_len)) {
		fprintf(stderr, "record: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	page = (unsigned long)sysconf(_SC_PAGESIZE);
	map = mmap(NULL, page + 2UL * info.max_entries, PROT_READ, MAP_SHARED, fd, (off_t)page);
	if (map == MAP_FAILED) {
		fprintf(stderr, "record: mmap: %s\n", strerror(errno));
		return 1;
	}
	end = __atomic_load_n((const unsigned long *)(const void *)map, __ATOMIC_ACQUIRE);
	if (!strcmp(argv[2], "mark")) {
		printf("%lu\n", end);
		return 0;
	}
	return dump(map + page, info.max_entries, strtoul(argv[3], NULL, 10), end);
}
