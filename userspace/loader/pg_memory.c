// SPDX-License-Identifier: Apache-2.0
#include "loader/pg_memory.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define AUXV_MAX 64

static int open_proc(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Where the kernel told the process that its program begins, which is not where the file says. */
static int read_entry(pid_t pid, uint64_t *entry)
{
	Elf64_auxv_t auxv[AUXV_MAX];
	int fd = open_proc(pid, "auxv");
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, auxv, sizeof(auxv));
	close(fd);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(auxv[0]); i++)
		if (auxv[i].a_type == AT_ENTRY) {
			*entry = auxv[i].a_un.a_val;
			return 0;
		}
	return -ESRCH;
}

static int find_symbol(const struct pg_server *server, const char *name, uint64_t *vaddr,
		       uint64_t *entry)
{
	struct elf_file *elf = NULL;
	struct elf_symbol sym;
	struct err err = {};
	Elf64_Ehdr head;
	int rc = elf_open_fd(server->fd, &elf, &err);

	if (!rc)
		rc = elf_lookup_symbol(elf, name, &sym);
	if (!rc && sym.size != sizeof(int))
		rc = -EINVAL;
	if (!rc && pread(server->fd, &head, sizeof(head), 0) != sizeof(head))
		rc = -EIO;
	if (!rc) {
		*vaddr = sym.vaddr;
		*entry = head.e_entry;
	}
	elf_close(elf);
	return rc;
}

int pg_memory_read_int(const struct pg_server *server, pid_t pid, const char *symbol, int *value)
{
	uint64_t vaddr, entry, runs_at;
	int rc = find_symbol(server, symbol, &vaddr, &entry), fd, got;

	if (!rc)
		rc = read_entry(pid, &runs_at);
	if (rc)
		return rc;
	fd = open_proc(pid, "mem");
	if (fd < 0)
		return fd;
	if (pread(fd, &got, sizeof(got), (off_t)(runs_at - entry + vaddr)) != sizeof(got))
		rc = -EIO;
	else
		*value = got;
	close(fd);
	return rc;
}
