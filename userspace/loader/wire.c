// SPDX-License-Identifier: Apache-2.0
#include "loader/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

int wire_find_cgroup(char *path, size_t cap)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[4096], at[2048], type[64];
	int rc = -ENOENT;

	while (f && rc && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %2047s %63s", at, type) != 2 || strcmp(type, "cgroup2"))
			continue;
		if ((size_t)snprintf(path, cap, "%s", at) < cap)
			rc = 0;
	}
	if (f)
		fclose(f);
	return rc;
}

struct bpf_link *wire_attach(struct bpf_program *prog, const char *cgroup, const char *pin, struct err *err)
{
	struct bpf_link *link = NULL;
	int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		errno = -err_set(err, -errno, "cannot open the cgroup %s: %s", cgroup, strerror(errno));
		return NULL;
	}
	link = bpf_program__attach_cgroup(prog, fd);
	if (!link) {
		err_set(err, -errno, "cannot attach %s to the cgroup %s (is it of the v2 hierarchy?): %s",
			bpf_program__name(prog), cgroup, strerror(errno));
	} else if (bpf_link__pin(link, pin)) {
		err_set(err, -errno, "cannot pin %s: %s", pin, strerror(errno));
		bpf_link__destroy(link);
		link = NULL;
	}
	close(fd);
	return link;
}
