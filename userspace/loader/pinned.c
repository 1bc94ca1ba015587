// SPDX-License-Identifier: Apache-2.0
/* What is pinned under one directory of bpffs, by us or by a daemon before us: found, released,
 * removed. */
#include "loader/pinned.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "enforce/hold.h"
#include "loader/kernel.h"
#include "loader/netdev.h"
#include "loader/wire_release.h"

#define BPFFS_MAGIC 0xcafe4a11

int pinned_make_dir(const char *dir, struct err *err)
{
	char parent[256];
	struct statfs fs;
	char *slash;

	snprintf(parent, sizeof(parent), "%s", dir);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return err_set(
			err, -EINVAL,
			"'%s' is no place to pin programs: use a directory on bpffs, such as %s",
			dir, KERNEL_PIN_DIR);
	*slash = '\0';
	if (statfs(parent, &fs) || fs.f_type != BPFFS_MAGIC) {
		if (mount("bpf", parent, "bpf", 0, NULL))
			return err_set(
				err, -errno,
				"%s is no bpffs and mounting one failed (%s): mount -t bpf bpf %s",
				parent, strerror(errno), parent);
	}
	if (mkdir(dir, 0700) && errno != EEXIST)
		return err_set(err, -errno, "cannot create %s: %s", dir, strerror(errno));
	return 0;
}

uint32_t pinned_instance(const char *pin_dir)
{
	struct dbf_vitals v = {};
	uint32_t zero = 0;
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/vitals", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	bpf_map_lookup_elem(fd, &zero, &v);
	close(fd);
	return v.active_instance;
}

size_t pinned_ring_bytes(const char *pin_dir)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/ring", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info.max_entries = 0;
	close(fd);
	return info.max_entries;
}

static void *map_pages(int fd, size_t len, int prot)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (len + page - 1) & ~(page - 1), prot, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *pinned_map(int fd, size_t len)
{
	return map_pages(fd, len, PROT_READ | PROT_WRITE);
}

const void *pinned_map_read(int fd, size_t len)
{
	return map_pages(fd, len, PROT_READ);
}

/* A daemon before this one may have had another number of slots. */
static unsigned release_pinned(const char *pin_dir)
{
	struct dbf_hold_slot *slots = NULL;
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	unsigned released = 0;
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/holds", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (!bpf_obj_get_info_by_fd(fd, &info, &len) && info.value_size == sizeof(*slots) &&
	    info.max_entries <= DBF_HOLD_SLOTS)
		slots = pinned_map(fd, info.max_entries * sizeof(*slots));
	if (slots) {
		released = hold_release_all(slots, info.max_entries, DBF_BY_START);
		munmap(slots, info.max_entries * sizeof(*slots));
	}
	close(fd);
	return released;
}

void kernel_recover(const char *pin_dir, unsigned *released, uint64_t *generation)
{
	struct dbf_config config = {};
	uint32_t zero = 0;
	char path[400];
	int fd;

	*released = 0;
	*generation = 0;
	if (!pin_dir)
		pin_dir = KERNEL_PIN_DIR;
	*released = release_pinned(pin_dir);
	snprintf(path, sizeof(path), "%s/configs", pin_dir);
	fd = bpf_obj_get(path);
	if (fd >= 0 && !bpf_map_lookup_elem(fd, &zero, &config))
		*generation = config.policy_gen;
	if (fd >= 0)
		close(fd);
}

void pinned_remove_dir(const char *dir, unsigned *removed)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && !unlinkat(dirfd(d), e->d_name, 0))
			(*removed)++;
	closedir(d);
	rmdir(dir);
}

void pinned_remove_links(const char *pin_dir, const char *spare, unsigned *removed)
{
	DIR *d = opendir(pin_dir);
	char path[600];
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, "links-", 6))
			continue;
		snprintf(path, sizeof(path), "%s/%s", pin_dir, e->d_name);
		if (!spare || strcmp(path, spare))
			pinned_remove_dir(path, removed);
	}
	closedir(d);
}

/* A daemon that still lives keeps its programs attached through its descriptors: from now on they
 * only observe. */
static void disable_pinned(const char *pin_dir)
{
	struct dbf_config config;
	uint32_t zero = 0;
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/configs", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return;
	if (!bpf_map_lookup_elem(fd, &zero, &config)) {
		config.enforce = 0;
		bpf_map_update_elem(fd, &zero, &config, BPF_ANY);
	}
	close(fd);
}

/* While the programs that refuse and change are still there. How many are left. */
static unsigned release_wire(const char *pin_dir, unsigned *released)
{
	struct dbf_wire_hold *slots;
	char path[400];
	unsigned left;
	int fd;

	snprintf(path, sizeof(path), "%s/wire_holds", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	slots = pinned_map(fd, DBF_WIRE_HOLD_SLOTS * sizeof(*slots));
	close(fd);
	if (!slots)
		return 0;
	for (unsigned i = 0; i < DBF_WIRE_HOLD_SLOTS; i++)
		*released += DBF_STATE_OF(slots[i].state) == DBF_WIRE_HOLD;
	left = wire_release_all(slots, -1, WIRE_RELEASE_MS);
	munmap(slots, DBF_WIRE_HOLD_SLOTS * sizeof(*slots));
	return left;
}

int kernel_disarm(const char *pin_dir, unsigned *released, unsigned *removed, struct err *err)
{
	struct err ignored;

	*released = *removed = 0;
	if (!pin_dir)
		pin_dir = KERNEL_PIN_DIR;
	if (access(pin_dir, F_OK))
		return err_set(err, -ENOENT, "nothing is pinned under %s", pin_dir);
	disable_pinned(pin_dir); /* no new hold from here on */
	if (release_wire(pin_dir, released))
		return err_set(err, -EBUSY, "statements that were stopped are still in their clients' sockets: end these "
			       "clients, then try again");
	netdev_detach_all(&ignored);
	pinned_remove_links(pin_dir, NULL, removed);
	*released += release_pinned(pin_dir);
	pinned_remove_dir(pin_dir, removed);
	if (!access(pin_dir, F_OK))
		return err_set(err, -EBUSY, "%s could not be removed: %s", pin_dir,
			       strerror(errno));
	return 0;
}
