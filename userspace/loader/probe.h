/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides at which byte of a function an entry uprobe goes. The kernel emulates a few instructions
 * under a breakpoint and single-steps the rest, at more than ten times the price: so the site is
 * the first emulated instruction that every call executes exactly once, with the arguments still in
 * their registers.
 */
#ifndef DBFENCE_LOADER_PROBE_H
#define DBFENCE_LOADER_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "loader/elf.h"
#include "loader/insn.h"

#define PROBE_INSNS_MAX 64 /* instructions looked at from the entry, whatever the caller asks for  \
			    */

/* One function to be probed. */
struct probe_target {
	uint64_t vaddr;	   /* of its entry */
	uint64_t size;	   /* bytes; 0 when unknown */
	uint16_t arg_regs; /* mask over enum insn_reg: what the program reads at the site */
};

struct probe_site {
	uint64_t vaddr;
	uint64_t offset;    /* in the file: where the uprobe is attached */
	uint32_t sp_delta;  /* bytes: stack pointer at entry minus stack pointer at the site */
	bool slow;	    /* single-stepped, on every kernel or on some */
	const char *reason; /* why it is slow; "" otherwise. A constant */
};

/*
 * The mask of the first @cnt integer arguments of the System V x86-64 calling convention. Arguments
 * from the seventh on are on the stack: argument n (from 0) at stack pointer + sp_delta + 8 * (n -
 * 5) at the site.
 */
uint16_t probe_arg_regs(unsigned cnt);
/* The register bit of argument @idx, counted from 0; 0 when it is on the stack. */
uint16_t probe_arg_reg(unsigned idx);

/*
 * Find the site. 0, with a site that is at worst the entry itself and slow; -ENXIO when @target is
 * not in executable code of the file, -ENOTSUP when the kernel would refuse a probe on the only
 * possible site.
 */
int probe_place(const struct elf_file *elf, const struct probe_target *target, unsigned max_insns,
		struct probe_site *out);

/*
 * Where a function is called right behind another: the one call of @callee that follows a call of @before within @within
 * bytes. A call is emulated by the kernel, and only this caller pays. The arguments of @callee are in their registers at the
 * site. -ENOENT when there is none, -ENOTUNIQ when there are several, -ENOTSUP on machines other than x86-64.
 */
int probe_place_call(const struct elf_file *elf, uint64_t callee, uint64_t before, unsigned within,
		     struct probe_site *out);

#endif
