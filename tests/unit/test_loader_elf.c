// SPDX-License-Identifier: Apache-2.0
/* The ELF reader against the dynamic linker's view of this process's own C library, and against
 * broken files. */
#include "../lib/test.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/elf.h"

static struct elf_file *open_path(const char *path, int *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct elf_file *elf = NULL;

	*err = fd < 0 ? -errno : elf_open_fd(fd, &elf, NULL);
	if (fd >= 0)
		close(fd);
	return elf;
}

static int open_bytes(const void *data, size_t len, struct elf_file **elf, struct err *err)
{
	int fd = memfd_create("elf", MFD_CLOEXEC), ret;

	CHECK(write(fd, data, len) == (ssize_t)len);
	ret = elf_open_fd(fd, elf, err);
	close(fd);
	return ret;
}

static const char *const libc_names[] = {"malloc", "printf", "qsort", "getenv", "stdout"};
#define LIBC_NAMES (sizeof(libc_names) / sizeof(libc_names[0]))

static void test_symbols(void)
{
	struct elf_symbol syms[LIBC_NAMES + 2] = {{0}};
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	struct link_map *map = NULL;
	struct elf_file *elf;
	int err;

	if (!libc || dlinfo(libc, RTLD_DI_LINKMAP, &map)) {
		test_skip("the C library is not glibc");
		return;
	}
	elf = open_path(map->l_name, &err);
	if (!CHECK_MSG(elf != NULL, "%s: error %d", map->l_name, err))
		return;
	for (size_t i = 0; i < LIBC_NAMES; i++)
		syms[i].name = libc_names[i];
	syms[LIBC_NAMES].name = "no_such_function_here";
	syms[LIBC_NAMES + 1].name = "";
	CHECK_INT(elf_lookup_symbols(elf, syms, LIBC_NAMES + 2), LIBC_NAMES);
	CHECK(!syms[LIBC_NAMES].found);
	for (size_t i = 0; i < LIBC_NAMES; i++) {
		const uint8_t *real = dlsym(libc, syms[i].name);
		uint8_t bytes[16];
		uint64_t offset;
		bool exec = false;

		CHECK_MSG(syms[i].vaddr + map->l_addr == (uintptr_t)real, "%s is elsewhere",
			  syms[i].name);
		CHECK_INT(syms[i].type, strcmp(syms[i].name, "stdout") ? STT_FUNC : STT_OBJECT);
		CHECK_MSG(syms[i].size > 0, "%s has no size", syms[i].name);
		if (syms[i].type != STT_FUNC)
			continue;
		CHECK_INT(elf_vaddr_to_offset(elf, syms[i].vaddr, &offset, &exec), 0);
		CHECK(exec);
		CHECK_INT(elf_read(elf, syms[i].vaddr, bytes, sizeof(bytes)), 0);
		CHECK_MSG(!memcmp(bytes, real, sizeof(bytes)), "%s has other bytes", syms[i].name);
	}
	CHECK_INT(elf_lookup_symbol(elf, "no_such_function_here", &syms[0]), -ENOENT);
	CHECK_INT(elf_lookup_symbol(elf, "free", &syms[0]), 0);
	CHECK(elf_machine(elf) == ELF_MACHINE_X86_64 || elf_machine(elf) == ELF_MACHINE_AARCH64);
	elf_close(elf);
	dlclose(libc);
}

struct note {
	const char *lib;
	char hex[ELF_BUILD_ID_HEX];
};

static int find_note(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct note *n = arg;

	(void)size;
	if (!strstr(info->dlpi_name, n->lib))
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		const uint8_t *at = (const uint8_t *)(info->dlpi_addr + p->p_vaddr),
			      *end = at + p->p_memsz;

		while (p->p_type == PT_NOTE && p->p_align == 4 && at + sizeof(ElfW(Nhdr)) < end) {
			const ElfW(Nhdr) *h = (const ElfW(Nhdr) *)at;
			const uint8_t *desc = at + sizeof(*h) + ((h->n_namesz + 3) & ~3U);

			for (unsigned j = 0;
			     h->n_type == NT_GNU_BUILD_ID && j < h->n_descsz && j < 64; j++)
				snprintf(n->hex + 2 * j, 3, "%02x", desc[j]);
			at = desc + ((h->n_descsz + 3) & ~3U);
		}
	}
	return 1;
}

static void test_build_id(void)
{
	struct note n = {.lib = "libc.so"};
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	struct link_map *map = NULL;
	struct elf_file *elf;
	int err;

	if (!dl_iterate_phdr(find_note, &n) || !libc || dlinfo(libc, RTLD_DI_LINKMAP, &map)) {
		test_skip("the C library is not glibc");
		return;
	}
	elf = open_path(map->l_name, &err);
	if (CHECK(elf != NULL))
		CHECK_STR(elf_build_id(elf), n.hex);
	elf_close(elf);
	dlclose(libc);
}

static void test_refused(void)
{
	static const uint8_t text[] = "#!/bin/sh\nexec postgres\n";
	struct elf_file *elf = NULL;
	struct err err;
	int ret;

	CHECK_INT(open_bytes(text, sizeof(text), &elf, &err), -ENOEXEC);
	CHECK(err.text[0]);
	CHECK_INT(open_bytes("", 0, &elf, &err), -ENOEXEC);
	CHECK(open_path("/tmp", &ret) == NULL && ret == -ENOEXEC);
	CHECK(open_path("/dev/null", &ret) == NULL && ret == -ENOEXEC);
	CHECK_INT(elf_open_fd(-1, &elf, &err), -EBADF);
	CHECK(elf == NULL);
	elf_close(NULL);
}

/* A file with one load segment: 16 bytes of file at 0x10000 in 32 bytes of memory, and one dynamic
 * segment. */
struct made {
	Elf64_Ehdr h;
	Elf64_Phdr p[3];
	uint8_t bytes[16];
	Elf64_Dyn dyn[6];
	uint32_t hash[2];
	Elf64_Sym syms[3];
	char strings[16];
};

#define MADE_AT(member) (0x10000 + offsetof(struct made, member))

static struct made make(void)
{
	struct made m = {
	    .h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			      EV_CURRENT},
		  .e_type = ET_DYN,
		  .e_machine = EM_AARCH64,
		  .e_phoff = offsetof(struct made, p),
		  .e_phentsize = sizeof(Elf64_Phdr),
		  .e_phnum = 3},
	    .p = {{.p_type = PT_LOAD,
		   .p_flags = PF_R,
		   .p_vaddr = 0x10000,
		   .p_filesz = sizeof(m),
		   .p_memsz = sizeof(m) + 32},
		  {.p_type = PT_DYNAMIC,
		   .p_offset = offsetof(struct made, dyn),
		   .p_filesz = sizeof(m.dyn),
		   .p_vaddr = MADE_AT(dyn),
		   .p_memsz = sizeof(m.dyn)},
		  {.p_type = PT_NULL}},
	    .bytes = "0123456789abcde",
	    .dyn = {{DT_SYMTAB, {MADE_AT(syms)}},
		    {DT_STRTAB, {MADE_AT(strings)}},
		    {DT_STRSZ, {16}},
		    {DT_HASH, {MADE_AT(hash)}},
		    {DT_NULL, {0}}},
	    .hash = {1, 3},
	    .syms = {{0},
		     {.st_name = 1, .st_shndx = 0, .st_value = 5},
		     {.st_name = 1,
		      .st_shndx = 9,
		      .st_value = 0x10010,
		      .st_size = 4,
		      .st_info = STT_FUNC}},
	    .strings = "\0name",
	};

	return m;
}

static void test_made(void)
{
	struct made m = make();
	struct elf_file *elf = NULL;
	struct elf_symbol sym;
	uint64_t offset, at;
	uint8_t buf[64];
	struct err err;

	if (!CHECK_MSG(!open_bytes(&m, sizeof(m), &elf, &err), "%s", err.text))
		return;
	CHECK_INT(elf_machine(elf), ELF_MACHINE_AARCH64);
	CHECK_STR(elf_build_id(elf), "");
	CHECK_INT(elf_lookup_symbol(elf, "name", &sym), 0);
	CHECK_INT(sym.vaddr, 0x10010); /* not the undefined one */
	CHECK_INT(elf_lookup_symbol(elf, "nam", &sym), -ENOENT);
	CHECK_INT(elf_vaddr_to_offset(elf, MADE_AT(bytes), &offset, NULL), 0);
	CHECK_INT(offset, offsetof(struct made, bytes));
	CHECK_INT(elf_vaddr_to_offset(elf, 0xffff, &offset, NULL), -ENXIO);
	CHECK_INT(elf_vaddr_to_offset(elf, 0x10000 + sizeof(m), &offset, NULL), -ENXIO);
	/* Across the end of the file's part: the rest of the segment is zero, and behind it is
	 * nothing. */
	memset(buf, 0xff, sizeof(buf));
	CHECK_INT(elf_read(elf, 0x10000 + sizeof(m) - 4, buf, 12), 0);
	CHECK(!memcmp(buf, m.strings + 12, 4) && !buf[4] && !buf[11] && buf[12] == 0xff);
	CHECK_INT(elf_read(elf, 0x10000 + sizeof(m) + 30, buf, 4), -ENXIO);
	CHECK_INT(elf_read_some(elf, 0x10000 + sizeof(m) + 30, buf, 4), 2);
	CHECK_INT(elf_search(elf, "789a", 4, 0, &at), 0);
	CHECK_INT(at, MADE_AT(bytes) + 7);
	CHECK_INT(elf_search(elf, "789a", 4, at + 1, &at), -ENOENT);
	CHECK_INT(elf_search(elf, "", 0, 0, &at), -EINVAL);
	elf_close(elf);
}

/* Each of these must be an error or nothing found, quickly, and never more memory than the file
 * could fill. */
static void test_hostile(void)
{
	struct elf_file *elf = NULL;
	struct elf_symbol sym;
	struct made m;

	m = make();
	m.p[0].p_vaddr = UINT64_MAX - 8;
	CHECK_INT(open_bytes(&m, sizeof(m), &elf, NULL), -ENOEXEC);
	m = make();
	m.p[0].p_offset = UINT64_MAX - 8;
	CHECK_INT(open_bytes(&m, sizeof(m), &elf, NULL), -ENOEXEC);
	m = make();
	m.h.e_phnum = 65535;
	CHECK_INT(open_bytes(&m, sizeof(m), &elf, NULL), -ENOEXEC);
	m = make();
	m.h.e_phoff = UINT64_MAX - 100;
	CHECK_INT(open_bytes(&m, sizeof(m), &elf, NULL), -ENOEXEC);
	m = make();
	m.dyn[2].d_un.d_val = UINT64_MAX;
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -E2BIG);
	elf_close(elf);
	m = make();
	m.hash[1] = UINT32_MAX;
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -E2BIG);
	elf_close(elf);
	m = make();
	m.syms[2].st_name = UINT32_MAX;
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -ENOENT);
	elf_close(elf);
	m = make();
	memset(m.strings, 'n', sizeof(m.strings)); /* no NUL at all */
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -ENOENT);
	elf_close(elf);
	m = make();
	m.dyn[0].d_un.d_ptr = 0x77777777;
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -ENXIO);
	elf_close(elf);
	m = make();
	m.p[1].p_type = PT_NULL;
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) &&
	      elf_lookup_symbol(elf, "name", &sym) == -ENOENT);
	elf_close(elf);
	/* A note that claims more than there is. */
	m = make();
	m.p[2] = (Elf64_Phdr){
	    .p_type = PT_NOTE, .p_offset = offsetof(struct made, hash), .p_filesz = UINT64_MAX / 2};
	CHECK(!open_bytes(&m, sizeof(m), &elf, NULL) && !elf_build_id(elf)[0]);
	elf_close(elf);
}

/* Cut anywhere, and with any one byte inverted: whatever happens stays inside the file. */
static void test_mutations(void)
{
	const struct made good = make();
	unsigned opened = 0, found = 0;

	for (size_t i = 0; i < 2 * sizeof(good); i++) {
		struct made m = good;
		size_t len = i < sizeof(m) ? i : sizeof(m);
		struct elf_file *elf = NULL;
		struct elf_symbol sym;

		if (i >= sizeof(m))
			((uint8_t *)&m)[i - sizeof(m)] ^= 0xff;
		if (open_bytes(&m, len, &elf, NULL))
			continue;
		opened++;
		if (!elf_lookup_symbol(elf, "name", &sym))
			found++;
		elf_close(elf);
	}
	CHECK_MSG(opened > 100 && found > 10 && found < opened, "%u opened, %u found", opened,
		  found);
}

static const struct test_case cases[] = {
    {"symbols", test_symbols}, {"build_id", test_build_id}, {"refused", test_refused},
    {"made", test_made},       {"hostile", test_hostile},   {"mutations", test_mutations},
};

TEST_MAIN(cases)
