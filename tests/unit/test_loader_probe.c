// SPDX-License-Identifier: Apache-2.0
/* Probe placement: on programs made here byte by byte, and on the PostgreSQL server of this
 * machine. */
#include "../lib/test.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/elf.h"
#include "loader/probe.h"

#define CODE_VADDR 0x401000UL
#define CODE_OFFSET 0x200UL

/* One executable segment that holds @code. */
static struct elf_file *make_elf(const uint8_t *code, size_t len, uint16_t machine, uint32_t flags)
{
	Elf64_Ehdr h = {
	    .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_EXEC,
	    .e_machine = machine,
	    .e_phoff = sizeof(h),
	    .e_phentsize = sizeof(Elf64_Phdr),
	    .e_phnum = 1,
	};
	Elf64_Phdr p = {
	    .p_type = PT_LOAD,
	    .p_flags = flags,
	    .p_offset = CODE_OFFSET,
	    .p_vaddr = CODE_VADDR,
	    .p_filesz = len,
	    .p_memsz = len,
	};
	int fd = memfd_create("probe", MFD_CLOEXEC);
	struct elf_file *elf = NULL;
	struct err err;

	CHECK(pwrite(fd, &h, sizeof(h), 0) == sizeof(h) &&
	      pwrite(fd, &p, sizeof(p), sizeof(h)) == sizeof(p) &&
	      pwrite(fd, code, len, CODE_OFFSET) == (ssize_t)len);
	CHECK_MSG(!elf_open_fd(fd, &elf, &err), "%s", err.text);
	close(fd);
	return elf;
}

struct want {
	const char *text;
	uint8_t code[40];
	uint8_t len;
	uint16_t args;
	bool size_unknown;
	int site;
	uint32_t sp_delta;
	bool slow;
};

#define ARG(reg) (1U << INSN_##reg)
#define RET 0xc3

static const struct want wants[] = {
    {"push first", {0x55, 0x48, 0x89, 0xe5, RET}, 5, ARG(RDI), false, 0, 0, false},
    {"endbr64, then push", {0xf3, 0x0f, 0x1e, 0xfa, 0x55, RET}, 6, ARG(RDI), false, 4, 0, false},
    {"hook wrapper: the je",
     {0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x48, 0x85, 0xc0, 0x74, 0x02, 0xff, 0xe0, RET},
     15,
     ARG(RDI),
     false,
     10,
     0,
     false},
    {"an argument is overwritten before the push",
     {0x31, 0xff, 0x55, RET},
     4,
     ARG(RDI),
     false,
     0,
     0,
     true},
    {"another argument may be", {0x31, 0xff, 0x55, RET}, 4, ARG(RSI), false, 2, 0, false},
    {"no arguments wanted: the jmp", {0x31, 0xff, 0xeb, 0x00, RET}, 5, 0, false, 2, 0, false},
    {"stack taken before the site",
     {0x48, 0x83, 0xec, 0x18, 0x48, 0x85, 0xf6, 0x74, 0x00, RET},
     10,
     ARG(RDI),
     false,
     7,
     24,
     false},
    {"stack aligned by a computed value",
     {0x48, 0x83, 0xe4, 0xf0, 0x55, RET},
     6,
     ARG(RDI),
     false,
     0,
     0,
     true},
    {"nothing before ret", {0x89, 0xf8, RET, 0x55, RET}, 5, ARG(RDI), false, 0, 0, true},
    {"nothing before an indirect jump", {0xff, 0xe0, 0x55, RET}, 4, ARG(RDI), false, 0, 0, true},
    {"an unknown instruction ends the search",
     {0x0f, 0x04, 0x55, RET},
     4,
     ARG(RDI),
     false,
     0,
     0,
     true},
    {"the je is the head of a loop",
     {0x31, 0xc0, 0x48, 0x85, 0xff, 0x74, 0x05, 0x48, 0x8b, 0x3f, 0xeb, 0xf6, RET},
     13,
     ARG(RDI),
     false,
     0,
     0,
     true},
    {"a loop behind the site does no harm",
     {0x85, 0xff, 0x74, 0x04, 0xff, 0xcf, 0x75, 0xfc, RET},
     9,
     ARG(RDI),
     false,
     2,
     0,
     false},
    {"a je is not trusted when the end is unknown",
     {0x85, 0xff, 0x74, 0x00, RET},
     5,
     ARG(RDI),
     true,
     0,
     0,
     true},
    {"a push is", {0x89, 0xf8, 0x55, RET}, 4, ARG(RDI), true, 2, 0, false},
    {"a long nop, when nothing better is there",
     {0x0f, 0x1f, 0x40, 0x00, 0x31, 0xff, RET},
     7,
     ARG(RDI),
     false,
     0,
     0,
     true},
    {"a push behind a long nop",
     {0x0f, 0x1f, 0x40, 0x00, 0x55, RET},
     6,
     ARG(RDI),
     false,
     4,
     0,
     false},
};

static void test_made(void)
{
	for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
		const struct want *w = &wants[i];
		struct elf_file *elf = make_elf(w->code, w->len, EM_X86_64, PF_R | PF_X);
		struct probe_target target = {
		    .vaddr = CODE_VADDR, .size = w->size_unknown ? 0 : w->len, .arg_regs = w->args};
		struct probe_site got = {0};

		if (!elf)
			continue;
		CHECK_MSG(!probe_place(elf, &target, 16, &got), "%s: no site", w->text);
		CHECK_MSG(got.vaddr == CODE_VADDR + (uint64_t)w->site, "%s: site %lld, expected %d",
			  w->text, (long long)(got.vaddr - CODE_VADDR), w->site);
		CHECK_MSG(got.offset == CODE_OFFSET + (uint64_t)w->site, "%s: offset %llx", w->text,
			  (unsigned long long)got.offset);
		CHECK_MSG(got.slow == w->slow && got.sp_delta == w->sp_delta &&
			      !!got.reason[0] == w->slow,
			  "%s: slow %d (%s), stack %u", w->text, got.slow, got.reason,
			  got.sp_delta);
		elf_close(elf);
	}
}

static void test_limits(void)
{
	static const uint8_t nops[] = {0x89, 0xf8, 0x89, 0xf8, 0x55, RET},
			     refused[] = {0xf0, 0xff, 0x07, RET};
	struct elf_file *elf = make_elf(nops, sizeof(nops), EM_X86_64, PF_R | PF_X);
	struct probe_target target = {
	    .vaddr = CODE_VADDR, .size = sizeof(nops), .arg_regs = ARG(RDI)};
	struct probe_site got = {0};

	CHECK(!probe_place(elf, &target, 2, &got) && got.slow && got.vaddr == CODE_VADDR);
	CHECK(!probe_place(elf, &target, 3, &got) && !got.slow);
	target.vaddr = CODE_VADDR + 0x1000;
	CHECK_INT(probe_place(elf, &target, 3, &got), -ENXIO);
	elf_close(elf);
	target.vaddr = CODE_VADDR;
	elf = make_elf(nops, sizeof(nops), EM_X86_64, PF_R);
	CHECK_INT(probe_place(elf, &target, 3, &got), -ENXIO);
	elf_close(elf);
	elf = make_elf(refused, sizeof(refused), EM_X86_64, PF_R | PF_X);
	CHECK_INT(probe_place(elf, &target, 3, &got), -ENOTSUP);
	elf_close(elf);
	elf = make_elf(nops, sizeof(nops), EM_AARCH64, PF_R | PF_X);
	CHECK(!probe_place(elf, &target, 3, &got) && got.slow && got.vaddr == CODE_VADDR);
	CHECK_STR(got.reason, "no decoder for this machine");
	elf_close(elf);
	CHECK_INT(probe_arg_regs(3), ARG(RDI) | ARG(RSI) | ARG(RDX));
	CHECK_INT(probe_arg_regs(9), ARG(RDI) | ARG(RSI) | ARG(RDX) | ARG(RCX) | ARG(R8) | ARG(R9));
	CHECK_INT(probe_arg_reg(6), 0);
}

/* What the kernel side reads at each function, and where the probe must land in any sane build:
 * "cheap" or not. */
struct function {
	const char *name;
	uint16_t args;
	bool may_be_slow;
};

static const struct function functions[] = {
    {"raw_parser", ARG(RDI) | ARG(RSI), false},
    {"ExecutorRun", ARG(RDI), false},
    {"ExecutorEnd", ARG(RDI), false},
    {"ProcessUtility", ARG(RDI) | ARG(RSI) | ARG(RCX), false},
    {"standard_ProcessUtility", ARG(RDI) | ARG(RSI) | ARG(RCX), false},
    {"secure_write", ARG(RDI) | ARG(RSI) | ARG(RDX), false},
    {"CreateDestReceiver", ARG(RDI), true}, /* a jump table and nothing before it */
    {"errcode", ARG(RDI), false},
    {"XactLockTableInsert", ARG(RDI), true},
    {"SPI_commit", 0, false},
    {"SPI_rollback", 0, false},
    {"exec_replication_command", ARG(RDI), false},
    {"HandleFunctionRequest", ARG(RDI), false},
    {"pgstat_report_activity", ARG(RDI) | ARG(RSI), false},
    {"ClientAuthentication", ARG(RDI), false},
    {"ExecCheckRTPerms", ARG(RDI), false},
};

static void test_server(void)
{
	int fd = open("/usr/lib/postgresql/15/bin/postgres", O_RDONLY | O_CLOEXEC);
	struct elf_file *elf = NULL;
	struct err err;

	if (fd < 0) {
		test_skip("PostgreSQL 15 is not installed");
		return;
	}
	if (!CHECK_MSG(!elf_open_fd(fd, &elf, &err), "%s", err.text))
		goto out;
	if (elf_machine(elf) != ELF_MACHINE_X86_64) {
		test_skip("PostgreSQL 15 is not for x86-64 here");
		goto out;
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		const struct function *f = &functions[i];
		struct elf_symbol sym;
		struct probe_site site;
		struct probe_target target;

		if (!CHECK_MSG(!elf_lookup_symbol(elf, f->name, &sym), "%s is not exported",
			       f->name))
			continue;
		target = (struct probe_target){
		    .vaddr = sym.vaddr, .size = sym.size, .arg_regs = f->args};
		if (!CHECK_MSG(!probe_place(elf, &target, 32, &site), "%s: no site", f->name))
			continue;
		printf("%-26s +%-2llu stack %-3u %s\n", f->name,
		       (unsigned long long)(site.vaddr - sym.vaddr), site.sp_delta,
		       site.slow ? site.reason : "emulated");
		CHECK_MSG(!site.slow || f->may_be_slow, "%s: %s", f->name, site.reason);
		CHECK_MSG(site.vaddr - sym.vaddr < 64, "%s: site far behind the entry", f->name);
	}
out:
	elf_close(elf);
	close(fd);
}

static const struct test_case cases[] = {
    {"made", test_made},
    {"limits", test_limits},
    {"server", test_server},
};

TEST_MAIN(cases)
