/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what a probe needs out of an ELF file that nobody vouches for: dynamic symbols, the GNU
 * build-id, addresses and bytes. 64-bit little-endian, x86-64 and aarch64. Everything goes through
 * pread(2), so that a file which shrinks or changes underneath gives an error and never a signal,
 * and every count is bounded.
 */
#ifndef DBFENCE_LOADER_ELF_H
#define DBFENCE_LOADER_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define ELF_BUILD_ID_HEX 129 /* longest build-id that is kept, as text with its NUL */

struct elf_file;

enum elf_machine { ELF_MACHINE_OTHER, ELF_MACHINE_X86_64, ELF_MACHINE_AARCH64, ELF_MACHINE_MAX };

struct elf_symbol {
	const char *name; /* in; borrowed: by the caller */
	bool found;	  /* the rest is set only then */
	uint8_t type;	  /* STT_FUNC, STT_OBJECT, … */
	uint64_t vaddr;
	uint64_t size; /* 0 when the file does not say */
};

/*
 * Read the headers of the file behind @fd, which is duplicated: the caller keeps its own. -ENOEXEC
 * when it is not an ELF file of the supported kind; other machines than the two are refused too.
 */
int elf_open_fd(int fd, struct elf_file **out, struct err *err);
void elf_close(struct elf_file *elf);

enum elf_machine elf_machine(const struct elf_file *elf);
const char *elf_machine_name(enum elf_machine machine);
/* Lower-case hex, "" when the file has none. Borrowed: by the file. */
const char *elf_build_id(const struct elf_file *elf);

/*
 * Fill each of @syms from the dynamic symbol table, definitions only. Returns how many were found,
 * or a negative errno when the table cannot be read (-ENOENT: there is none).
 */
int elf_lookup_symbols(const struct elf_file *elf, struct elf_symbol *syms, size_t cnt);
/* One name: 0 or -ENOENT. */
int elf_lookup_symbol(const struct elf_file *elf, const char *name, struct elf_symbol *out);

/*
 * Where the byte at @vaddr stands in the file, -ENXIO when it does not (not mapped, or zero-filled
 * memory).
 * @exec (may be NULL) says whether it is mapped executable: only there can a uprobe be placed.
 */
int elf_vaddr_to_offset(const struct elf_file *elf, uint64_t vaddr, uint64_t *offset, bool *exec);
/* The @len bytes at @vaddr as the file has them; memory beyond the file's part of a segment reads
 * as zero. */
int elf_read(const struct elf_file *elf, uint64_t vaddr, void *buf, size_t len);
/* Like elf_read, but stops at the end of the mapped bytes: returns how many were read, or a
 * negative errno. */
int elf_read_some(const struct elf_file *elf, uint64_t vaddr, void *buf, size_t len);
/* The @idx-th executable segment's bytes in the file: 0 with its address and length, or -ENOENT after the last. */
int elf_exec_range(const struct elf_file *elf, unsigned idx, uint64_t *vaddr, uint64_t *len);
/*
 * Find @needle (at most 256 bytes) in the segments that are not writable, at or after @from. 0 and
 * its address, or -ENOENT.
 */
int elf_search(const struct elf_file *elf, const void *needle, size_t len, uint64_t from,
	       uint64_t *vaddr);

#endif
