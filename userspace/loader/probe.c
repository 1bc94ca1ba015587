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
#include <string.h>

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

#define CALL_REL32 0xe8
#define CALL_BYTES 5
#define SCAN_BYTES 65536

/* The target of a call whose opcode is at @vaddr, given the four bytes behind it. */
static uint64_t call_target(uint64_t vaddr, const uint8_t *rel)
{
	int32_t distance;

	memcpy(&distance, rel, sizeof(distance));
	return vaddr + CALL_BYTES + (uint64_t)(int64_t)distance;
}

/* Whether a call of @callee stands in the @within bytes before @vaddr. Four bytes that match by chance are one in 2^32. */
static bool call_before(const struct elf_file *elf, uint64_t vaddr, uint64_t callee, unsigned within)
{
	uint8_t bytes[64];
	size_t len = within < sizeof(bytes) ? within : sizeof(bytes);

	if (vaddr < len || elf_read(elf, vaddr - len, bytes, len))
		return false;
	for (size_t i = 0; i + CALL_BYTES <= len; i++)
		if (bytes[i] == CALL_REL32 && call_target(vaddr - len + i, bytes + i + 1) == callee)
			return true;
	return false;
}

/* Look through [@vaddr, @vaddr + @len); counts the matches in *found and remembers the last. */
static int scan_calls(const struct elf_file *elf, uint64_t vaddr, uint64_t len, uint64_t callee, uint64_t before,
		      unsigned within, unsigned *found, uint64_t *site)
{
	static const size_t step = SCAN_BYTES - CALL_BYTES;
	uint8_t *bytes = malloc(SCAN_BYTES);

	if (!bytes)
		return -ENOMEM;
	for (uint64_t at = 0; at < len; at += step) {
		int n = elf_read_some(elf, vaddr + at, bytes, len - at < SCAN_BYTES ? len - at : SCAN_BYTES);

		for (int i = 0; i + CALL_BYTES <= n && (size_t)i < step; i++) {
			if (bytes[i] != CALL_REL32 || call_target(vaddr + at + (uint64_t)i, bytes + i + 1) != callee ||
			    !call_before(elf, vaddr + at + (uint64_t)i, before, within))
				continue;
			(*found)++;
			*site = vaddr + at + (uint64_t)i;
		}
	}
	free(bytes);
	return 0;
}

int probe_place_call(const struct elf_file *elf, uint64_t callee, uint64_t before, unsigned within, struct probe_site *out)
{
	uint64_t vaddr, len, site = 0, offset;
	unsigned found = 0;
	bool exec;
	int rc = 0;

	if (elf_machine(elf) != ELF_MACHINE_X86_64)
		return -ENOTSUP;
	for (unsigned i = 0; !rc && !elf_exec_range(elf, i, &vaddr, &len); i++)
		rc = scan_calls(elf, vaddr, len, callee, before, within, &found, &site);
	if (rc || found != 1)
		return rc ? rc : found ? -ENOTUNIQ : -ENOENT;
	rc = elf_vaddr_to_offset(elf, site, &offset, &exec);
	if (!rc)
		*out = (struct probe_site){ .vaddr = site, .offset = offset, .reason = "" };
	return rc;
}
