/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small x86-64 decoder for function prologues: how long an instruction is, which general
 * registers it writes, what it does to the stack pointer and to control flow, and what a uprobe on
 * it costs. It errs on one side only: a register may be reported written that is not, never the
 * other way round, and an opcode that it does not know is said to be unknown.
 */
#ifndef DBFENCE_LOADER_INSN_H
#define DBFENCE_LOADER_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_LEN_MAX 15

/* Register numbers as the processor encodes them; a set of registers is a mask of these bits. */
enum insn_reg {
	INSN_RAX,
	INSN_RCX,
	INSN_RDX,
	INSN_RBX,
	INSN_RSP,
	INSN_RBP,
	INSN_RSI,
	INSN_RDI,
	INSN_R8,
	INSN_R9,
	INSN_R10,
	INSN_R11,
	INSN_R12,
	INSN_R13,
	INSN_R14,
	INSN_R15,
	INSN_REG_MAX
};

enum insn_flow {
	INSN_FLOW_NEXT,	    /* goes on behind itself */
	INSN_FLOW_COND,	    /* conditional branch to a fixed target */
	INSN_FLOW_JUMP,	    /* unconditional branch to a fixed target */
	INSN_FLOW_JUMP_ANY, /* through a register or memory */
	INSN_FLOW_CALL,	    /* direct or indirect */
	INSN_FLOW_RET,
	INSN_FLOW_TRAP, /* system call, breakpoint, undefined instruction */
	INSN_FLOW_MAX
};

enum insn_uprobe {
	INSN_UPROBE_REFUSED, /* the kernel does not let a uprobe be placed here */
	INSN_UPROBE_STEPPED, /* executed out of line in single-step: about 9.5 µs a hit */
	INSN_UPROBE_NEWER, /* emulated, but only by kernels newer than the oldest that is supported
			    */
	INSN_UPROBE_EMULATED, /* emulated by every supported kernel: about 0.7 µs a hit */
	INSN_UPROBE_MAX
};

struct insn {
	uint8_t len;
	enum insn_flow flow;
	enum insn_uprobe uprobe;
	uint16_t writes; /* mask over enum insn_reg */
	bool sp_known;	 /* sp_grows is exact; false when the stack pointer gets a computed value */
	int32_t sp_grows; /* bytes by which the stack grows (push 8, pop -8) */
	int64_t target; /* COND, JUMP and direct CALL: relative to the instruction's own address */
};

/*
 * Decode the instruction at @code, of which @len bytes may be read. 0; -EAGAIN when it goes on
 * behind @len; -ENOTSUP when it is unknown or does not exist.
 */
int insn_decode(const uint8_t *code, size_t len, struct insn *out);
const char *insn_uprobe_name(enum insn_uprobe uprobe);

#endif
