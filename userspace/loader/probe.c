// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: the choice of a probe site. Called by whoever attaches uprobes. Knows nothing of databases.
 *
 * Why the site may stand behind the entry: up to the first branch a function is straight-line, so
 * an instruction there runs once per call, unless the function itself jumps back to it. Loops that
 * begin in the prologue exist (`test %rdi,%rdi; je` as a loop's head), so the body is searched for
 * such jumps; where that cannot be done to the end, only a push is trusted, because jumping back to
 * one would unbalance the stack.
 */
#include "loader/probe.h"

#include <errno.h>
#include <stdlib.h>

#define PROBE_BODY_MAX (64 * 1024) /* bytes of a function searched for jumps back */

struct walk {
	uint64_t site; /* relative to the entry */
	uint32_t sp_delta;
	enum insn_uprobe uprobe;
	bool push;
	bool found;
};

uint16_t probe_arg_reg(unsigned idx)
{
	static const enum insn_reg order[] = {INSN_RDI, INSN_RSI, INSN_RDX,
					      INSN_RCX, INSN_R8,  INSN_R9};

	return idx < sizeof(order) / sizeof(order[0]) ? (uint16_t)(1U << order[idx]) : 0;
}

uint16_t probe_arg_regs(unsigned cnt)
{
	uint16_t mask = 0;

	for (unsigned i = 0; i < cnt && i < 6; i++)
		mask |= probe_arg_reg(i);
	return mask;
}

/* The best candidate of the straight line from the entry: the first emulated one, else the first
 * that some kernels emulate. */
static void walk_prologue(const uint8_t *code, size_t len, uint16_t arg_regs, unsigned max_insns,
			  struct walk *w)
{
	size_t pos = 0;
	int64_t grown = 0;
	struct insn insn;

	for (unsigned i = 0; i < max_insns && !insn_decode(code + pos, len - pos, &insn); i++) {
		if (insn.uprobe >= INSN_UPROBE_NEWER && insn.uprobe > w->uprobe) {
			w->site = pos;
			w->sp_delta = (uint32_t)grown;
			w->uprobe = insn.uprobe;
			w->push = insn.uprobe == INSN_UPROBE_EMULATED &&
				  (insn.writes & 1U << INSN_RSP) && insn.flow == INSN_FLOW_NEXT;
			w->found = true;
		}
		if (w->uprobe == INSN_UPROBE_EMULATED || insn.flow != INSN_FLOW_NEXT ||
		    (insn.writes & arg_regs) || !insn.sp_known)
			return;
		pos += insn.len;
		grown += insn.sp_grows;
		/* A stack that shrinks below the entry is no prologue. */
		if (grown < 0)
			return;
	}
}

/* Does any direct branch of the body land behind the entry and not behind @site? *whole: all of it
 * was read. */
static bool jumps_back(const uint8_t *code, size_t len, uint64_t site, bool *whole)
{
	struct insn insn;
	size_t pos = 0;

	*whole = false;
	while (pos < len) {
		if (insn_decode(code + pos, len - pos, &insn))
			return false;
		if (insn.flow == INSN_FLOW_COND || insn.flow == INSN_FLOW_JUMP) {
			int64_t to = (int64_t)pos + insn.target;

			if (to > 0 && (uint64_t)to <= site)
				return true;
		}
		pos += insn.len;
	}
	*whole = true;
	return false;
}

/* Why the candidate must not be used, or NULL. */
static const char *objection(const uint8_t *code, size_t len, uint64_t size, const struct walk *w)
{
	bool whole;

	if (!w->found)
		return "no instruction that the kernel emulates before the arguments are "
		       "overwritten or the code "
		       "branches";
	if (!w->site)
		return NULL;
	if (size && size < len)
		len = size;
	if (jumps_back(code, len, w->site, &whole))
		return "the function's own code jumps back to the only cheap instruction";
	if (!w->push && (!size || size > len || !whole))
		return "the function's end is not known, so that jumps back to the only cheap "
		       "instruction cannot be "
		       "excluded";
	return NULL;
}

static int set_site(const struct elf_file *elf, uint64_t vaddr, struct probe_site *site)
{
	bool exec = false;
	int err = elf_vaddr_to_offset(elf, vaddr, &site->offset, &exec);

	if (err || !exec)
		return err ? err : -ENXIO;
	site->vaddr = vaddr;
	return 0;
}

static int place_x86(const struct elf_file *elf, const struct probe_target *t, unsigned max_insns,
		     struct probe_site *site)
{
	size_t want = t->size && t->size < PROBE_BODY_MAX ? t->size : PROBE_BODY_MAX;
	struct walk w = {0};
	struct insn entry;
	const char *why;
	uint8_t *code = malloc(want);
	int len, err = 0;

	if (!code)
		return -ENOMEM;
	len = elf_read_some(elf, t->vaddr, code, want);
	if (len < 0) {
		err = len;
		goto out;
	}
	walk_prologue(code, (size_t)len, t->arg_regs, max_insns, &w);
	why = objection(code, (size_t)len, t->size, &w);
	if (!why) {
		site->sp_delta = w.sp_delta;
		site->slow = w.uprobe != INSN_UPROBE_EMULATED;
		site->reason = site->slow ? "a long nop, which only newer kernels emulate" : "";
		err = set_site(elf, t->vaddr + w.site, site);
		goto out;
	}
	site->slow = true;
	site->reason = why;
	if (!insn_decode(code, (size_t)len, &entry) && entry.uprobe == INSN_UPROBE_REFUSED)
		err = -ENOTSUP;
out:
	free(code);
	return err;
}

int probe_place(const struct elf_file *elf, const struct probe_target *target, unsigned max_insns,
		struct probe_site *out)
{
	struct probe_site site = {0};
	int err = set_site(elf, target->vaddr, &site);

	if (err)
		return err;
	if (max_insns > PROBE_INSNS_MAX)
		max_insns = PROBE_INSNS_MAX;
	if (elf_machine(elf) == ELF_MACHINE_X86_64) {
		err = place_x86(elf, target, max_insns, &site);
	} else {
		site.slow = true;
		site.reason = "no decoder for this machine";
	}
	if (!err)
		*out = site;
	return err;
}
