// SPDX-License-Identifier: Apache-2.0
/* Any file through everything that the loader asks of an ELF file, probe placement and version
 * search included. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/elf.h"
#include "loader/pg_layout.h"
#include "loader/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct elf_file *elf, size_t size)
{
	struct elf_symbol syms[] = {
	    {.name = "raw_parser"}, {.name = "ExecutorRun"}, {.name = "main"}, {.name = "f"}};
	const size_t cnt = sizeof(syms) / sizeof(syms[0]);
	int found = elf_lookup_symbols(elf, syms, cnt), major = 0;
	char version[64];

	if (found > (int)cnt || strlen(elf_build_id(elf)) >= ELF_BUILD_ID_HEX)
		abort();
	for (size_t i = 0; i < cnt; i++) {
		struct probe_target target = {
		    .vaddr = syms[i].vaddr, .size = syms[i].size, .arg_regs = 0xc6};
		struct probe_site site;
		uint8_t bytes[64];
		uint64_t offset;

		if (!syms[i].found)
			continue;
		if (!elf_vaddr_to_offset(elf, syms[i].vaddr, &offset, NULL) &&
		    elf_read(elf, syms[i].vaddr, bytes, 1) == 0 && offset >= size)
			abort();
		elf_read(elf, syms[i].vaddr, bytes, sizeof(bytes));
		if (!probe_place(elf, &target, 32, &site) &&
		    (site.vaddr < target.vaddr || !site.reason))
			abort();
	}
	if (!pg_binary_version(elf, &major, version, sizeof(version), NULL) &&
	    (major <= 0 || !version[0]))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_file *elf;
	struct err err;
	int fd = memfd_create("fuzz_elf", MFD_CLOEXEC);

	if (fd < 0)
		return 0;
	if (write(fd, data, size) == (ssize_t)size && !elf_open_fd(fd, &elf, &err)) {
		ask(elf, size);
		elf_close(elf);
	}
	close(fd);
	return 0;
}
