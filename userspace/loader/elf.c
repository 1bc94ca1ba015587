// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: reading ELF. Called by probe.c, pg_layout.c and discover.c. Knows nothing of databases.
 *
 * The loader's view (program headers and PT_DYNAMIC) is used and not the section headers: a
 * stripped file may lack the latter, and a hostile one may let them disagree with what really runs.
 */
#include "loader/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ELF_SEGMENTS_MAX 64
#define ELF_NOTE_BYTES_MAX (64 * 1024)
#define ELF_DYNAMIC_MAX 4096
#define ELF_SYMBOLS_MAX (4 * 1024 * 1024)
#define ELF_STRINGS_MAX (64 * 1024 * 1024)
#define ELF_BUCKETS_MAX (4 * 1024 * 1024)
#define ELF_NEEDLE_MAX 256
#define ELF_CHUNK (64 * 1024)
#define ELF_SEARCH_MAX                                                                             \
	(512 * 1024 * 1024) /* bytes of one search: a sparse file may claim any size */

struct elf_file {
	int fd; /* owned */
	uint64_t size;
	enum elf_machine machine;
	unsigned segment_cnt;
	Elf64_Phdr segments[ELF_SEGMENTS_MAX];
	char build_id[ELF_BUILD_ID_HEX];
};

/* What PT_DYNAMIC says about the dynamic symbols; addresses, 0 when absent. */
struct elf_dynamic {
	uint64_t symtab;
	uint64_t strtab;
	uint64_t strsz;
	uint64_t hash;
	uint64_t gnu_hash;
};

static int read_at(const struct elf_file *elf, uint64_t offset, void *buf, size_t len)
{
	char *p = buf;

	if (offset > elf->size || len > elf->size - offset)
		return -ENOEXEC;
	while (len) {
		ssize_t n = pread(elf->fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static const Elf64_Phdr *segment_of(const struct elf_file *elf, uint64_t vaddr)
{
	for (unsigned i = 0; i < elf->segment_cnt; i++) {
		const Elf64_Phdr *p = &elf->segments[i];

		if (p->p_type == PT_LOAD && vaddr >= p->p_vaddr && vaddr - p->p_vaddr < p->p_memsz)
			return p;
	}
	return NULL;
}

int elf_vaddr_to_offset(const struct elf_file *elf, uint64_t vaddr, uint64_t *offset, bool *exec)
{
	const Elf64_Phdr *p = segment_of(elf, vaddr);

	if (!p || vaddr - p->p_vaddr >= p->p_filesz)
		return -ENXIO;
	*offset = p->p_offset + (vaddr - p->p_vaddr);
	if (exec)
		*exec = p->p_flags & PF_X;
	return 0;
}

int elf_read_some(const struct elf_file *elf, uint64_t vaddr, void *buf, size_t len)
{
	const Elf64_Phdr *p = segment_of(elf, vaddr);
	uint64_t skip, in_file = 0;
	int err;

	if (!p)
		return -ENXIO;
	if (len > INT32_MAX)
		return -EINVAL;
	skip = vaddr - p->p_vaddr;
	if (len > p->p_memsz - skip)
		len = p->p_memsz - skip;
	if (skip < p->p_filesz)
		in_file = p->p_filesz - skip < len ? p->p_filesz - skip : len;
	err = in_file ? read_at(elf, p->p_offset + skip, buf, in_file) : 0;
	if (err)
		return err;
	memset((char *)buf + in_file, 0, len - in_file);
	return (int)len;
}

int elf_read(const struct elf_file *elf, uint64_t vaddr, void *buf, size_t len)
{
	int n = elf_read_some(elf, vaddr, buf, len);

	if (n < 0)
		return n;
	return (size_t)n == len ? 0 : -ENXIO;
}

static void set_build_id(struct elf_file *elf, const uint8_t *desc, size_t len)
{
	if (len > (ELF_BUILD_ID_HEX - 1) / 2)
		len = (ELF_BUILD_ID_HEX - 1) / 2;
	for (size_t i = 0; i < len; i++)
		snprintf(elf->build_id + 2 * i, 3, "%02x", desc[i]);
}

static uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

static void read_build_id(struct elf_file *elf, const Elf64_Phdr *note)
{
	uint64_t align = note->p_align == 8 ? 8 : 4;
	size_t len = note->p_filesz < ELF_NOTE_BYTES_MAX ? note->p_filesz : ELF_NOTE_BYTES_MAX;
	uint8_t *data = malloc(len ? len : 1);
	size_t pos = 0;

	if (!data || read_at(elf, note->p_offset, data, len))
		goto out;
	while (len - pos >= sizeof(Elf64_Nhdr)) {
		uint64_t name, desc, next;
		Elf64_Nhdr n;

		memcpy(&n, data + pos, sizeof(n));
		name = pos + sizeof(n);
		desc = align_up(name + n.n_namesz, align);
		next = align_up(desc + n.n_descsz, align);
		if (desc > len || n.n_descsz > len - desc)
			break;
		if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && n.n_descsz &&
		    !memcmp(data + name, "GNU", 4)) {
			set_build_id(elf, data + desc, n.n_descsz);
			break;
		}
		if (next > len)
			break;
		pos = next;
	}
out:
	free(data);
}

static int read_segments(struct elf_file *elf, const Elf64_Ehdr *h, struct err *err)
{
	int ret;

	if (!h->e_phnum || h->e_phnum > ELF_SEGMENTS_MAX || h->e_phentsize != sizeof(Elf64_Phdr))
		return err_set(err, -ENOEXEC,
			       "the ELF file has %u program headers, which is not between 1 and %d",
			       h->e_phnum, ELF_SEGMENTS_MAX);
	ret = read_at(elf, h->e_phoff, elf->segments, h->e_phnum * sizeof(Elf64_Phdr));
	if (ret)
		return err_set(err, ret, "the ELF file's program headers cannot be read: %s",
			       strerror(-ret));
	elf->segment_cnt = h->e_phnum;
	for (unsigned i = 0; i < elf->segment_cnt; i++) {
		Elf64_Phdr *p = &elf->segments[i];

		/* With these two, no address or offset inside a segment can wrap later. */
		if (p->p_vaddr + p->p_memsz < p->p_vaddr ||
		    p->p_offset + p->p_filesz < p->p_offset ||
		    (p->p_type == PT_LOAD && p->p_filesz > p->p_memsz))
			return err_set(err, -ENOEXEC,
				       "the ELF file's program header %u is not sane", i);
	}
	for (unsigned i = 0; i < elf->segment_cnt && !elf->build_id[0]; i++)
		if (elf->segments[i].p_type == PT_NOTE)
			read_build_id(elf, &elf->segments[i]);
	return 0;
}

static enum elf_machine machine_of(uint16_t e_machine)
{
	switch (e_machine) {
	case EM_X86_64:
		return ELF_MACHINE_X86_64;
	case EM_AARCH64:
		return ELF_MACHINE_AARCH64;
	default:
		return ELF_MACHINE_OTHER;
	}
}

int elf_open_fd(int fd, struct elf_file **out, struct err *err)
{
	struct elf_file *elf = calloc(1, sizeof(*elf));
	Elf64_Ehdr h;
	struct stat st;
	int ret;

	if (!elf)
		return err_set(err, -ENOMEM, "out of memory while opening an ELF file");
	elf->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (elf->fd < 0 || fstat(elf->fd, &st)) {
		ret = err_set(err, -errno, "the ELF file cannot be opened: %s", strerror(errno));
		goto fail;
	}
	ret = -ENOEXEC;
	if (!S_ISREG(st.st_mode)) {
		err_set(err, ret, "not a regular file");
		goto fail;
	}
	elf->size = (uint64_t)st.st_size;
	if (read_at(elf, 0, &h, sizeof(h)) || memcmp(h.e_ident, ELFMAG, SELFMAG) ||
	    h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB ||
	    (h.e_type != ET_EXEC && h.e_type != ET_DYN)) {
		err_set(err, ret, "not a 64-bit little-endian ELF program or library");
		goto fail;
	}
	elf->machine = machine_of(h.e_machine);
	if (elf->machine == ELF_MACHINE_OTHER) {
		err_set(err, ret,
			"the ELF file is for machine %u; x86-64 and aarch64 are supported",
			h.e_machine);
		goto fail;
	}
	ret = read_segments(elf, &h, err);
	if (ret)
		goto fail;
	*out = elf;
	return 0;
fail:
	elf_close(elf);
	return ret;
}

void elf_close(struct elf_file *elf)
{
	if (!elf)
		return;
	if (elf->fd >= 0)
		close(elf->fd);
	free(elf);
}

enum elf_machine elf_machine(const struct elf_file *elf)
{
	return elf->machine;
}

const char *elf_machine_name(enum elf_machine machine)
{
	static const char *const names[ELF_MACHINE_MAX] = {
	    [ELF_MACHINE_OTHER] = "other",
	    [ELF_MACHINE_X86_64] = "x86-64",
	    [ELF_MACHINE_AARCH64] = "aarch64",
	};

	return machine < ELF_MACHINE_MAX ? names[machine] : "other";
}

const char *elf_build_id(const struct elf_file *elf)
{
	return elf->build_id;
}

static int read_dynamic(const struct elf_file *elf, struct elf_dynamic *out)
{
	struct elf_dynamic d = {0};
	const Elf64_Phdr *p = NULL;
	Elf64_Dyn dyn;
	int err;

	for (unsigned i = 0; i < elf->segment_cnt; i++)
		if (elf->segments[i].p_type == PT_DYNAMIC)
			p = &elf->segments[i];
	if (!p)
		return -ENOENT;
	for (uint64_t i = 0; i < ELF_DYNAMIC_MAX && (i + 1) * sizeof(dyn) <= p->p_filesz; i++) {
		err = read_at(elf, p->p_offset + i * sizeof(dyn), &dyn, sizeof(dyn));
		if (err)
			return err;
		if (dyn.d_tag == DT_NULL)
			break;
		if (dyn.d_tag == DT_SYMTAB)
			d.symtab = dyn.d_un.d_ptr;
		else if (dyn.d_tag == DT_STRTAB)
			d.strtab = dyn.d_un.d_ptr;
		else if (dyn.d_tag == DT_STRSZ)
			d.strsz = dyn.d_un.d_val;
		else if (dyn.d_tag == DT_HASH)
			d.hash = dyn.d_un.d_ptr;
		else if (dyn.d_tag == DT_GNU_HASH)
			d.gnu_hash = dyn.d_un.d_ptr;
		else if (dyn.d_tag == DT_SYMENT && dyn.d_un.d_val != sizeof(Elf64_Sym))
			return -ENOEXEC;
	}
	if (!d.symtab || !d.strtab || (!d.hash && !d.gnu_hash))
		return -ENOENT;
	*out = d;
	return 0;
}

/* The GNU hash table has no symbol count: it is one past the end of the chain that starts last. */
static int count_gnu_symbols(const struct elf_file *elf, uint64_t table, uint64_t *cnt)
{
	uint32_t head[4], buckets[1024], last = 0;
	uint64_t at;
	int err = elf_read(elf, table, head, sizeof(head));

	if (err)
		return err;
	if (head[0] > ELF_BUCKETS_MAX || head[2] > ELF_BUCKETS_MAX)
		return -E2BIG;
	at = table + sizeof(head) + 8ULL * head[2];
	for (uint32_t done = 0, n; done < head[0]; done += n) {
		n = head[0] - done < 1024 ? head[0] - done : 1024;
		err = elf_read(elf, at + 4ULL * done, buckets, 4 * n);
		if (err)
			return err;
		for (uint32_t i = 0; i < n; i++)
			if (buckets[i] > last)
				last = buckets[i];
	}
	*cnt = head[1];
	if (last < head[1])
		return 0;
	at += 4ULL * head[0] - 4ULL * head[1];
	while (last < ELF_SYMBOLS_MAX) {
		int n = elf_read_some(elf, at + 4ULL * last, buckets, sizeof(buckets));

		if (n < 4)
			return n < 0 ? n : -ENXIO;
		for (int i = 0; i < n / 4; i++, last++)
			if (buckets[i] & 1) {
				*cnt = (uint64_t)last + 1;
				return 0;
			}
	}
	return -E2BIG;
}

static int count_symbols(const struct elf_file *elf, const struct elf_dynamic *d, uint64_t *cnt)
{
	uint32_t head[2];
	int err;

	if (d->gnu_hash)
		return count_gnu_symbols(elf, d->gnu_hash, cnt);
	err = elf_read(elf, d->hash, head, sizeof(head));
	if (!err)
		*cnt = head[1];
	return err;
}

static int match_symbol(const Elf64_Sym *sym, const char *strings, size_t strsz,
			struct elf_symbol *syms, size_t cnt)
{
	const char *name;
	int found = 0;

	if (sym->st_shndx == SHN_UNDEF || sym->st_name >= strsz)
		return 0;
	name = strings + sym->st_name;
	for (size_t i = 0; i < cnt; i++) {
		/* The first definition wins, as it does for the dynamic linker. */
		if (syms[i].found || syms[i].name[0] != name[0] || strcmp(syms[i].name, name))
			continue;
		syms[i].found = true;
		syms[i].vaddr = sym->st_value;
		syms[i].size = sym->st_size;
		syms[i].type = ELF64_ST_TYPE(sym->st_info);
		found++;
	}
	return found;
}

int elf_lookup_symbols(const struct elf_file *elf, struct elf_symbol *syms, size_t cnt)
{
	struct elf_dynamic d;
	uint64_t sym_cnt = 0;
	char *strings = NULL;
	Elf64_Sym *chunk = NULL;
	const size_t per_chunk = ELF_CHUNK / sizeof(*chunk);
	int found = 0, err;

	for (size_t i = 0; i < cnt; i++)
		syms[i].found = false;
	err = read_dynamic(elf, &d);
	if (!err)
		err = count_symbols(elf, &d, &sym_cnt);
	if (err)
		return err;
	/* A table that claims more than the file holds is refused before memory is taken for it. */
	if (d.strsz > ELF_STRINGS_MAX || d.strsz > elf->size || sym_cnt > ELF_SYMBOLS_MAX)
		return -E2BIG;
	strings = malloc(d.strsz + 1);
	chunk = malloc(per_chunk * sizeof(*chunk));
	err = strings && chunk ? elf_read(elf, d.strtab, strings, d.strsz) : -ENOMEM;
	if (err)
		goto out;
	strings[d.strsz] = '\0';
	for (uint64_t done = 0; done < sym_cnt && (size_t)found < cnt; done += per_chunk) {
		size_t n = sym_cnt - done < per_chunk ? sym_cnt - done : per_chunk;

		err = elf_read(elf, d.symtab + done * sizeof(*chunk), chunk, n * sizeof(*chunk));
		if (err)
			goto out;
		for (size_t i = 0; i < n; i++)
			found += match_symbol(&chunk[i], strings, d.strsz, syms, cnt);
	}
out:
	free(chunk);
	free(strings);
	return err ? err : found;
}

int elf_lookup_symbol(const struct elf_file *elf, const char *name, struct elf_symbol *out)
{
	struct elf_symbol sym = {.name = name};
	int n = elf_lookup_symbols(elf, &sym, 1);

	if (n < 0)
		return n;
	if (!n)
		return -ENOENT;
	*out = sym;
	return 0;
}

static int search_segment(const struct elf_file *elf, const Elf64_Phdr *p, uint64_t skip,
			  const void *needle, size_t len, char *chunk, size_t *budget,
			  uint64_t *vaddr)
{
	/* Chunks overlap by len - 1, so that no match is cut in two. */
	while (p->p_filesz - skip >= len) {
		size_t n = p->p_filesz - skip < ELF_CHUNK ? p->p_filesz - skip : ELF_CHUNK;
		const char *hit;
		int err = read_at(elf, p->p_offset + skip, chunk, n);

		if (err)
			return err;
		if (n > *budget)
			return -E2BIG;
		*budget -= n;
		hit = memmem(chunk, n, needle, len);
		if (hit) {
			*vaddr = p->p_vaddr + skip + (uint64_t)(hit - chunk);
			return 0;
		}
		skip += n - (len - 1);
	}
	return -ENOENT;
}

int elf_exec_range(const struct elf_file *elf, unsigned idx, uint64_t *vaddr, uint64_t *len)
{
	for (unsigned i = 0; i < elf->segment_cnt; i++) {
		const Elf64_Phdr *p = &elf->segments[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || idx--)
			continue;
		*vaddr = p->p_vaddr;
		*len = p->p_filesz;
		return 0;
	}
	return -ENOENT;
}

int elf_search(const struct elf_file *elf, const void *needle, size_t len, uint64_t from,
	       uint64_t *vaddr)
{
	size_t budget = ELF_SEARCH_MAX;
	char *chunk;
	int err = -ENOENT;

	if (!len || len > ELF_NEEDLE_MAX)
		return -EINVAL;
	chunk = malloc(ELF_CHUNK);
	if (!chunk)
		return -ENOMEM;
	for (unsigned i = 0; i < elf->segment_cnt && err == -ENOENT; i++) {
		const Elf64_Phdr *p = &elf->segments[i];
		uint64_t skip = from > p->p_vaddr ? from - p->p_vaddr : 0;

		if (p->p_type != PT_LOAD || (p->p_flags & PF_W) || skip >= p->p_filesz)
			continue;
		err = search_segment(elf, p, skip, needle, len, chunk, &budget, vaddr);
	}
	free(chunk);
	return err;
}
