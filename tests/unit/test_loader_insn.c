// SPDX-License-Identifier: Apache-2.0
/* The decoder against hand-made cases, against every truncation, and against objdump on real
 * programs. */
#include "../lib/test.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/insn.h"

#define R(reg) (1U << INSN_##reg)

struct want {
	const char *text;
	uint8_t code[INSN_LEN_MAX + 1];
	uint8_t len;
	enum insn_flow flow;
	enum insn_uprobe uprobe;
	unsigned writes;
	bool sp_known;
	int sp_grows;
};

#define NEXT INSN_FLOW_NEXT
#define STEP INSN_UPROBE_STEPPED
#define EMUL INSN_UPROBE_EMULATED

/* clang-format off */
static const struct want wants[] = {
	{"push %rbp", {0x55}, 1, NEXT, EMUL, R(RSP), true, 8},
	{"push %r15", {0x41, 0x57}, 2, NEXT, EMUL, R(RSP), true, 8},
	{"rex.W push %rbp", {0x48, 0x55}, 2, NEXT, STEP, R(RSP), true, 8},
	{"push $5", {0x6a, 0x05}, 2, NEXT, STEP, R(RSP), true, 8},
	{"push 8(%rdi)", {0xff, 0x77, 0x08}, 3, NEXT, STEP, R(RSP), true, 8},
	{"pop %rbx", {0x5b}, 1, NEXT, STEP, R(RSP) | R(RBX), true, -8},
	{"pop %rsp", {0x5c}, 1, NEXT, STEP, R(RSP), false, 0},
	{"mov %rsp,%rbp", {0x48, 0x89, 0xe5}, 3, NEXT, STEP, R(RBP), true, 0},
	{"mov %rbp,%rsp", {0x48, 0x89, 0xec}, 3, NEXT, STEP, R(RSP), false, 0},
	{"sub $0x48,%rsp", {0x48, 0x83, 0xec, 0x48}, 4, NEXT, STEP, R(RSP), true, 0x48},
	{"add $-128,%rsp", {0x48, 0x83, 0xc4, 0x80}, 4, NEXT, STEP, R(RSP), true, 128},
	{"sub $0xf28,%rsp", {0x48, 0x81, 0xec, 0x28, 0x0f, 0, 0}, 7, NEXT, STEP, R(RSP), true, 0xf28},
	{"and $-16,%rsp", {0x48, 0x83, 0xe4, 0xf0}, 4, NEXT, STEP, R(RSP), false, 0},
	{"lea -24(%rsp),%rsp", {0x48, 0x8d, 0x64, 0x24, 0xe8}, 5, NEXT, STEP, R(RSP), true, 24},
	{"lea 8(%rsp,%rax,1),%rsp", {0x48, 0x8d, 0x64, 0x04, 0x08}, 5, NEXT, STEP, R(RSP), false, 0},
	{"leave", {0xc9}, 1, NEXT, STEP, R(RSP) | R(RBP), false, 0},
	{"mov 0x10(%rip),%rax", {0x48, 0x8b, 0x05, 0x10, 0, 0, 0}, 7, NEXT, STEP, R(RAX), true, 0},
	{"mov %fs:0x28,%rax", {0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}, 9, NEXT, STEP, R(RAX), true, 0},
	{"movzbl %dl,%edx", {0x0f, 0xb6, 0xd2}, 3, NEXT, STEP, R(RDX), true, 0},
	{"movslq (%rdx,%rax,4),%rax", {0x48, 0x63, 0x04, 0x82}, 4, NEXT, STEP, R(RAX), true, 0},
	{"mov %edi,0x30(%rdx,%rax,1)", {0x89, 0x7c, 0x02, 0x30}, 4, NEXT, STEP, 0, true, 0},
	{"mov $1,%ah", {0xb4, 0x01}, 2, NEXT, STEP, R(RAX), true, 0},
	{"mov $1,%spl", {0x40, 0xb4, 0x01}, 3, NEXT, STEP, R(RSP), false, 0},
	{"movabs", {0x49, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10, NEXT, STEP, R(R8), true, 0},
	{"mov $1,%dx", {0x66, 0xba, 1, 0}, 4, NEXT, STEP, R(RDX), true, 0},
	{"xor %edi,%edi", {0x31, 0xff}, 2, NEXT, STEP, R(RDI), true, 0},
	{"cmp %rsi,%rdi", {0x48, 0x39, 0xf7}, 3, NEXT, STEP, 0, true, 0},
	{"cmp $9,%edi", {0x83, 0xff, 0x09}, 3, NEXT, STEP, 0, true, 0},
	{"test %rdi,%rdi", {0x48, 0x85, 0xff}, 3, NEXT, STEP, 0, true, 0},
	{"test $1,%dil", {0x40, 0xf6, 0xc7, 0x01}, 4, NEXT, STEP, 0, true, 0},
	{"not %edi", {0xf7, 0xd7}, 2, NEXT, STEP, R(RDI), true, 0},
	{"mul %esi", {0xf7, 0xe6}, 2, NEXT, STEP, R(RAX) | R(RDX), true, 0},
	{"imul $0xb8,%rax,%rax", {0x48, 0x69, 0xc0, 0xb8, 0, 0, 0}, 7, NEXT, STEP, R(RAX), true, 0},
	{"xchg %rsi,%rdi", {0x48, 0x87, 0xf7}, 3, NEXT, STEP, R(RSI) | R(RDI), true, 0},
	{"rep stos", {0xf3, 0x48, 0xab}, 3, NEXT, STEP, R(RCX) | R(RDI), true, 0},
	{"cqto", {0x48, 0x99}, 2, NEXT, STEP, R(RDX), true, 0},
	{"cpuid", {0x0f, 0xa2}, 2, NEXT, STEP, R(RAX) | R(RBX) | R(RCX) | R(RDX), true, 0},
	{"sete %cl", {0x0f, 0x94, 0xc1}, 3, NEXT, STEP, R(RCX), true, 0},
	{"cmovne %rsi,%rdi", {0x48, 0x0f, 0x45, 0xfe}, 4, NEXT, STEP, R(RDI), true, 0},
	{"movq %xmm0,%rdi", {0x66, 0x48, 0x0f, 0x7e, 0xc7}, 5, NEXT, STEP, R(RDI), true, 0},
	{"movaps %xmm0,(%rsp)", {0x0f, 0x29, 0x04, 0x24}, 4, NEXT, STEP, 0, true, 0},
	{"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}, 4, NEXT, STEP, 0, true, 0},
	{"nop", {0x90}, 1, NEXT, EMUL, 0, true, 0},
	{"xchg %ax,%ax", {0x66, 0x90}, 2, NEXT, STEP, 0, true, 0},
	{"xchg %r8,%rax", {0x49, 0x90}, 2, NEXT, STEP, R(RAX) | R(R8), true, 0},
	{"nopl 0(%rax)", {0x0f, 0x1f, 0x40, 0x00}, 4, NEXT, INSN_UPROBE_NEWER, 0, true, 0},
	{"nopw 0(%rax,%rax,1)", {0x66, 0x0f, 0x1f, 0x44, 0, 0}, 6, NEXT, INSN_UPROBE_NEWER, 0, true, 0},
	{"cs nopw", {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}, 10, NEXT, INSN_UPROBE_REFUSED, 0, true, 0},
	{"je", {0x74, 0x09}, 2, INSN_FLOW_COND, EMUL, 0, true, 0},
	{"js rel32", {0x0f, 0x88, 0x0f, 0, 0, 0}, 6, INSN_FLOW_COND, EMUL, 0, true, 0},
	{"bnd je", {0xf2, 0x74, 0x09}, 3, INSN_FLOW_COND, EMUL, 0, true, 0},
	{"je,pn", {0x2e, 0x74, 0x09}, 3, INSN_FLOW_COND, INSN_UPROBE_REFUSED, 0, true, 0},
	{"loop", {0xe2, 0xfe}, 2, INSN_FLOW_COND, STEP, R(RCX), true, 0},
	{"jmp rel8", {0xeb, 0x10}, 2, INSN_FLOW_JUMP, EMUL, 0, true, 0},
	{"jmp rel32", {0xe9, 0, 1, 0, 0}, 5, INSN_FLOW_JUMP, EMUL, 0, true, 0},
	{"jmp *%rax", {0xff, 0xe0}, 2, INSN_FLOW_JUMP_ANY, STEP, R(RSP), false, 0},
	{"notrack jmp *%rax", {0x3e, 0xff, 0xe0}, 3, INSN_FLOW_JUMP_ANY, INSN_UPROBE_REFUSED, R(RSP), false, 0},
	{"call rel32", {0xe8, 0, 0, 0, 0}, 5, INSN_FLOW_CALL, EMUL, R(RSP), false, 0},
	{"data16 rex.W call", {0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0}, 8, INSN_FLOW_CALL, INSN_UPROBE_REFUSED,
	 R(RSP), false, 0},
	{"call *(%rax)", {0xff, 0x10}, 2, INSN_FLOW_CALL, STEP, R(RSP), false, 0},
	{"ret", {0xc3}, 1, INSN_FLOW_RET, STEP, R(RSP), false, 0},
	{"syscall", {0x0f, 0x05}, 2, INSN_FLOW_TRAP, INSN_UPROBE_REFUSED, 0xffff, false, 0},
	{"int3", {0xcc}, 1, INSN_FLOW_TRAP, INSN_UPROBE_REFUSED, 0xffff, false, 0},
	{"ud2", {0x0f, 0x0b}, 2, INSN_FLOW_TRAP, INSN_UPROBE_REFUSED, 0xffff, false, 0},
	{"lock incl (%rdi)", {0xf0, 0xff, 0x07}, 3, NEXT, INSN_UPROBE_REFUSED, 0, true, 0},
	{"vzeroupper", {0xc5, 0xf8, 0x77}, 3, NEXT, STEP, 0, true, 0},
};
/* clang-format on */

static void test_table(void)
{
	for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
		const struct want *w = &wants[i];
		struct insn got;
		int err = insn_decode(w->code, w->len, &got);

		if (!CHECK_MSG(!err, "%s: error %d", w->text, err))
			continue;
		CHECK_MSG(got.len == w->len, "%s: length %u, expected %u", w->text, got.len,
			  w->len);
		CHECK_MSG(got.flow == w->flow, "%s: flow %d, expected %d", w->text, got.flow,
			  w->flow);
		CHECK_MSG(got.uprobe == w->uprobe, "%s: %s, expected %s", w->text,
			  insn_uprobe_name(got.uprobe), insn_uprobe_name(w->uprobe));
		CHECK_MSG(got.writes == w->writes, "%s: writes %04x, expected %04x", w->text,
			  got.writes, w->writes);
		CHECK_MSG(got.sp_known == w->sp_known && got.sp_grows == w->sp_grows,
			  "%s: stack %d by %d, expected %d by %d", w->text, got.sp_known,
			  got.sp_grows, w->sp_known, w->sp_grows);
	}
}

/* A cut instruction is "more is needed", never a shorter instruction. */
static void test_truncation(void)
{
	for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++)
		for (size_t len = 0; len < wants[i].len; len++) {
			uint8_t *copy = malloc(len ? len : 1);
			struct insn got;

			memcpy(copy, wants[i].code, len);
			CHECK_MSG(insn_decode(copy, len, &got) == -EAGAIN, "%s cut to %zu bytes",
				  wants[i].text, len);
			free(copy);
		}
}

static void test_unknown(void)
{
	static const uint8_t codes[][INSN_LEN_MAX + 1] = {
	    {0x06},
	    {0x60},
	    {0x82, 0xc0, 0},
	    {0x9a},
	    {0xce},
	    {0xd4, 0},
	    {0xea},
	    {0x0f, 0x04},
	    {0x0f, 0x24, 0xc0},
	    {0x8f, 0xe8, 0x78, 0xc0},
	    {0x66, 0xe8, 0, 0, 0, 0},
	    {0x66, 0xc5, 0xf8, 0x77},
	    {0xc4, 0x1f, 0, 0},
	    /* sixteen bytes are too many */
	    {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
	     0x66, 0x90},
	};
	struct insn got;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		CHECK_MSG(insn_decode(codes[i], sizeof(codes[i]), &got) == -ENOTSUP,
			  "code %zu (%02x %02x)", i, codes[i][0], codes[i][1]);
}

/* objdump */

struct tally {
	unsigned seen, unknown, wrong, branches;
};

static FILE *start_objdump(const char *file, pid_t *pid)
{
	int fds[2];

	if (pipe(fds))
		return NULL;
	*pid = fork();
	if (!*pid) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execlp("objdump", "objdump", "-d", "-w", "-j", ".text", file, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	return *pid < 0 ? NULL : fdopen(fds[0], "r");
}

/* "  279260:\t55                   \tpush   %rbp": the bytes of one line; 0 when it is not an
 * instruction. */
static size_t parse_line(char *line, uint64_t *addr, uint8_t *code, char **mnemonic)
{
	char *p, *end;
	size_t n = 0;

	*addr = strtoull(line, &p, 16);
	if (p == line || p[0] != ':' || p[1] != '\t')
		return 0;
	for (p += 2; n < INSN_LEN_MAX && isxdigit((unsigned char)*p); p = end + (*end == ' '))
		code[n++] = (uint8_t)strtoul(p, &end, 16);
	*mnemonic = strchr(p, '\t');
	if (!*mnemonic)
		return 0;
	(*mnemonic)++;
	return n;
}

static void check_line(char *line, struct tally *t)
{
	uint8_t code[INSN_LEN_MAX];
	struct insn insn;
	uint64_t addr;
	char *text;
	size_t n = parse_line(line, &addr, code, &text);
	int err;

	/* objdump joins fwait and the instruction behind it into one. */
	if (!n || strstr(text, "(bad)") || code[0] == 0x9b)
		return;
	t->seen++;
	err = insn_decode(code, n, &insn);
	if (err == -ENOTSUP) {
		t->unknown++;
		return;
	}
	if (err || insn.len != n) {
		t->wrong++;
		CHECK_MSG(t->wrong > 20, "%.60s: error %d, length %u of %zu", line, err,
			  err ? 0 : insn.len, n);
		return;
	}
	if ((text[0] == 'j' || !strncmp(text, "call ", 5)) && !strchr(text, '*')) {
		char *operand = strchr(text, ' ');

		t->branches++;
		CHECK_MSG(operand && strtoull(operand, NULL, 16) == addr + (uint64_t)insn.target &&
			      insn.flow != INSN_FLOW_NEXT,
			  "%.80s: flow %d, target %+lld", line, insn.flow, (long long)insn.target);
	} else if (text[0] != 'j' && text[0] != 'x' && insn.flow == INSN_FLOW_COND) {
		CHECK_MSG(!strncmp(text, "bnd ", 4) || !strncmp(text, "loop", 4),
			  "%.80s is no branch", line);
	}
}

static unsigned compare_file(const char *file, unsigned limit)
{
	struct tally t = {0};
	size_t cap = 0;
	char *line = NULL;
	pid_t pid = -1;
	FILE *f = start_objdump(file, &pid);

	if (!f)
		return 0;
	while (t.seen < limit && getline(&line, &cap, f) > 0)
		check_line(line, &t);
	fclose(f);
	free(line);
	waitpid(pid, NULL, 0);
	printf("%s: %u instructions, %u branches, %u unknown, %u wrong\n", file, t.seen, t.branches,
	       t.unknown, t.wrong);
	CHECK_INT(t.wrong, 0);
	CHECK_MSG(t.unknown * 1000 <= t.seen, "%s: more than 1 in 1000 is unknown", file);
	return t.seen;
}

static void test_objdump(void)
{
	static const char *const files[] = {
	    "/usr/lib/postgresql/15/bin/postgres",
	    "/lib/x86_64-linux-gnu/libc.so.6",
	    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
	};
	const char *limit_text = getenv("DBFENCE_TEST_INSNS");
	unsigned limit = limit_text ? (unsigned)strtoul(limit_text, NULL, 10) : 30000, total = 0,
		 present = 0;

	if (access("/usr/bin/objdump", X_OK)) {
		test_skip("objdump is not installed (package binutils)");
		return;
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (access(files[i], R_OK))
			continue;
		total += compare_file(files[i], limit);
		present++;
	}
	if (!present) {
		test_skip("none of postgres 15, libc and libssl for x86-64 is installed");
		return;
	}
	CHECK_MSG(total >= 20000 || present < 3, "only %u instructions were compared", total);
}

static const struct test_case cases[] = {
    {"table", test_table},
    {"truncation", test_truncation},
    {"unknown", test_unknown},
    {"objdump", test_objdump},
};

TEST_MAIN(cases)
