// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: decoding x86-64 machine code as far as placing a probe needs it. Called by probe.c.
 *
 * Lengths come from three tables of operand forms (one-byte opcodes, 0f, and rules for 0f 38, 0f
 * 3a, VEX and EVEX, which are regular). Reference: Intel SDM volume 2, appendix A. What the kernel
 * does with a probed instruction: arch/x86/kernel/uprobes.c, branch_setup_xol_ops and
 * push_setup_xol_ops (emulated), good_insns_64 and is_prefix_bad (refused).
 */
#include "loader/insn.h"

#include <errno.h>
#include <string.h>

/* Operand forms. X: no such instruction in 64-bit mode, or one that we do not care to know. */
enum form {
	X,  /* unknown */
	N,  /* nothing behind the opcode */
	M,  /* ModRM */
	B,  /* immediate byte */
	W,  /* immediate word */
	Z,  /* immediate of 4 bytes, 2 with prefix 66 */
	MB, /* ModRM and byte */
	MZ, /* ModRM and 4 or 2 bytes */
	O,  /* address of 8 bytes, 4 with prefix 67 */
	V,  /* immediate as large as the operand: mov $imm,%reg */
	E,  /* word and byte: enter */
	J1, /* relative target, byte */
	J4, /* relative target, 4 bytes */
	G3, /* ModRM, and an immediate when its reg field is 0 or 1: test in group 3 */
	P,  /* prefix or escape; handled before this table is read */
};

/* clang-format off */
static const uint8_t one_byte[256] = {
	/* 00 */ M, M, M, M, B, Z, X, X, M, M, M, M, B, Z, X, P,
	/* 10 */ M, M, M, M, B, Z, X, X, M, M, M, M, B, Z, X, X,
	/* 20 */ M, M, M, M, B, Z, P, X, M, M, M, M, B, Z, P, X,
	/* 30 */ M, M, M, M, B, Z, P, X, M, M, M, M, B, Z, P, X,
	/* 40 */ P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
	/* 50 */ N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	/* 60 */ X, X, P, M, P, P, P, P, Z, MZ, B, MB, N, N, N, N,
	/* 70 */ J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1, J1,
	/* 80 */ MB, MZ, X, MB, M, M, M, M, M, M, M, M, M, M, M, M,
	/* 90 */ N, N, N, N, N, N, N, N, N, N, X, N, N, N, N, N,
	/* a0 */ O, O, O, O, N, N, N, N, B, Z, N, N, N, N, N, N,
	/* b0 */ B, B, B, B, B, B, B, B, V, V, V, V, V, V, V, V,
	/* c0 */ MB, MB, W, N, P, P, MB, MZ, E, N, W, N, N, B, X, N,
	/* d0 */ M, M, M, M, X, X, X, N, M, M, M, M, M, M, M, M,
	/* e0 */ J1, J1, J1, J1, B, B, B, B, J4, J4, X, J1, N, N, N, N,
	/* f0 */ P, N, P, P, N, N, G3, G3, N, N, N, N, N, N, M, M,
};

static const uint8_t two_byte[256] = {
	/* 00 */ M, M, M, M, X, N, N, N, N, N, X, N, X, M, N, X,
	/* 10 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* 20 */ M, M, M, M, X, X, X, X, M, M, M, M, M, M, M, M,
	/* 30 */ N, N, N, N, N, N, X, N, P, X, P, X, X, X, X, X,
	/* 40 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* 50 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* 60 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* 70 */ MB, MB, MB, MB, M, M, M, N, X, X, X, X, M, M, M, M,
	/* 80 */ J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4, J4,
	/* 90 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* a0 */ N, N, N, M, MB, M, X, X, N, N, N, M, MB, M, M, M,
	/* b0 */ M, M, M, M, M, M, M, M, M, M, MB, M, M, M, M, M,
	/* c0 */ M, M, MB, M, MB, MB, MB, M, N, N, N, N, N, N, N, N,
	/* d0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* e0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
	/* f0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
};
/* clang-format on */

enum opcode_map { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A, MAP_EVEX5, MAP_EVEX6 };

struct decode {
	const uint8_t *code;
	size_t len;
	size_t pos;
	bool opsize;	  /* 66 */
	bool addrsize;	  /* 67 */
	bool rep;	  /* f3 */
	bool repne;	  /* f2 */
	bool lock;	  /* f0 */
	bool segment;	  /* es, cs, ss, ds: the kernel refuses a probe on these */
	uint8_t prefixes; /* legacy prefixes before REX or opcode */
	uint8_t rex;
	bool vex; /* VEX or EVEX */
	enum opcode_map map;
	uint8_t op;
	bool has_modrm;
	uint8_t modrm;
	bool mem_rsp_disp; /* memory operand is disp(%rsp) without an index */
	uint8_t form;
	int64_t disp;
	int64_t imm;
};

static int take(struct decode *d, unsigned bytes, int64_t *value)
{
	uint64_t v = 0;

	if (d->pos + bytes > INSN_LEN_MAX)
		return -ENOTSUP;
	if (d->pos + bytes > d->len)
		return -EAGAIN;
	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)d->code[d->pos + i] << (8 * i);
	d->pos += bytes;
	/* Sign-extend: shift the value's top bit to the register's and back. */
	if (bytes && bytes < 8) {
		uint64_t top = 1ULL << (8 * bytes - 1);

		v = (v ^ top) - top;
	}
	*value = (int64_t)v;
	return 0;
}

static int take_byte(struct decode *d, uint8_t *out)
{
	int64_t v;
	int err = take(d, 1, &v);

	if (!err)
		*out = (uint8_t)v;
	return err;
}

/* Legacy prefixes and REX. Returns with the first byte that is neither in d->op. */
static int take_prefixes(struct decode *d)
{
	for (;;) {
		int err = take_byte(d, &d->op);

		if (err)
			return err;
		if ((d->op & 0xf0) == 0x40) {
			d->rex = d->op;
			continue;
		}
		switch (d->op) {
		case 0x66:
			d->opsize = true;
			break;
		case 0x67:
			d->addrsize = true;
			break;
		case 0xf0:
			d->lock = true;
			break;
		case 0xf2:
			d->repne = true;
			break;
		case 0xf3:
			d->rep = true;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			d->segment = true;
			break;
		case 0x64:
		case 0x65:
			break;
		default:
			return 0;
		}
		d->prefixes++;
		/* A REX prefix counts only directly before the opcode. */
		d->rex = 0;
	}
}

static uint8_t vex_form(const struct decode *d)
{
	switch (d->map) {
	case MAP_0F:
		if (d->op == 0x77)
			return N;
		if ((d->op >= 0x70 && d->op <= 0x73) || d->op == 0xc2 ||
		    (d->op >= 0xc4 && d->op <= 0xc6))
			return MB;
		return M;
	case MAP_0F3A:
		return MB;
	case MAP_0F38:
	case MAP_EVEX5:
	case MAP_EVEX6:
		return M;
	default:
		return X;
	}
}

/* c5, c4 and 62: what a VEX or EVEX prefix replaces is put where legacy prefixes would have put it.
 */
static int take_vex(struct decode *d)
{
	static const enum opcode_map maps[8] = {MAP_ONE, MAP_0F,    MAP_0F38,  MAP_0F3A,
						MAP_ONE, MAP_EVEX5, MAP_EVEX6, MAP_ONE};
	unsigned extra = d->op == 0xc5 ? 0 : d->op == 0xc4 ? 1 : 2, map = 1;
	uint8_t first, more = 0, pp;
	int err;

	if (d->opsize || d->rep || d->repne || d->lock || d->rex)
		return -ENOTSUP;
	err = take_byte(d, &first);
	if (err)
		return err;
	d->vex = true;
	pp = first;
	d->rex = 0x40 | (first & 0x80 ? 0 : 4);
	if (extra) {
		map = extra == 1 ? first & 0x1f : first & 0x07;
		if (extra == 2 && (first & 0x08))
			return -ENOTSUP;
		d->rex |= (first & 0x40 ? 0 : 2) | (first & 0x20 ? 0 : 1);
		for (unsigned i = 0; i < extra; i++) {
			err = take_byte(d, &more);
			if (err)
				return err;
			if (!i)
				pp = more;
		}
		if (extra == 2 && !(pp & 0x04))
			return -ENOTSUP;
		d->rex |= pp & 0x80 ? 8 : 0;
	}
	if (map > 6 || maps[map] == MAP_ONE || (map > 3 && extra != 2))
		return -ENOTSUP;
	d->map = maps[map];
	d->opsize = (pp & 3) == 1;
	d->rep = (pp & 3) == 2;
	d->repne = (pp & 3) == 3;
	err = take_byte(d, &d->op);
	d->form = vex_form(d);
	return err;
}

static int take_opcode(struct decode *d)
{
	int err = take_prefixes(d);

	if (err)
		return err;
	if (d->op == 0xc4 || d->op == 0xc5 || d->op == 0x62)
		return take_vex(d);
	if (d->op != 0x0f) {
		d->form = one_byte[d->op];
		return 0;
	}
	err = take_byte(d, &d->op);
	if (err)
		return err;
	if (d->op == 0x38 || d->op == 0x3a) {
		d->map = d->op == 0x38 ? MAP_0F38 : MAP_0F3A;
		d->form = d->op == 0x38 ? M : MB;
		return take_byte(d, &d->op);
	}
	d->map = MAP_0F;
	d->form = two_byte[d->op];
	return 0;
}

static int take_modrm(struct decode *d)
{
	uint8_t mod, rm, sib;
	unsigned disp = 0;
	int err = take_byte(d, &d->modrm);

	if (err)
		return err;
	d->has_modrm = true;
	mod = d->modrm >> 6;
	rm = d->modrm & 7;
	/* Moves from and to control registers have no memory form, whatever mod says. */
	if (mod == 3 || (d->map == MAP_0F && !d->vex && d->op >= 0x20 && d->op <= 0x23))
		return 0;
	if (mod == 1)
		disp = 1;
	else if (mod == 2 || (!mod && rm == 5))
		disp = 4;
	if (rm == 4) {
		err = take_byte(d, &sib);
		if (err)
			return err;
		if (!mod && (sib & 7) == 5)
			disp = 4;
		d->mem_rsp_disp = sib == 0x24 && !(d->rex & 3) && disp;
	}
	return take(d, disp, &d->disp);
}

static int take_immediate(struct decode *d)
{
	unsigned z = d->opsize && !(d->rex & 8) ? 2 : 4;
	int64_t frame;
	int err;

	switch (d->form) {
	case B:
	case MB:
	case J1:
		return take(d, 1, &d->imm);
	case W:
		return take(d, 2, &d->imm);
	case Z:
	case MZ:
		return take(d, z, &d->imm);
	case J4:
		/* With prefix 66 and no REX.W, Intel and AMD disagree on the length. */
		return z == 2 ? -ENOTSUP : take(d, 4, &d->imm);
	case O:
		return take(d, d->addrsize ? 4 : 8, &d->imm);
	case V:
		return take(d, d->rex & 8 ? 8 : z, &d->imm);
	case E:
		err = take(d, 2, &frame);
		return err ? err : take(d, 1, &d->imm);
	case G3:
		if ((d->modrm >> 3 & 7) > 1)
			return 0;
		return take(d, d->op == 0xf6 ? 1 : z, &d->imm);
	default:
		return 0;
	}
}

/* what it writes */

#define BIT(reg) (1U << (reg))
#define AX BIT(INSN_RAX)
#define CX BIT(INSN_RCX)
#define DX BIT(INSN_RDX)
#define BX BIT(INSN_RBX)
#define SP BIT(INSN_RSP)
#define BP BIT(INSN_RBP)
#define SI BIT(INSN_RSI)
#define DI BIT(INSN_RDI)
#define ANY 0xffffU

/* @byte: ah, ch, dh and bh (4 to 7 without REX) are parts of the first four registers. */
static unsigned reg_bit(const struct decode *d, unsigned low, bool extend, bool byte)
{
	if (byte && !d->rex && low >= 4)
		return BIT(low - 4);
	return BIT(low | (extend ? 8 : 0));
}

static unsigned bit_reg(const struct decode *d, bool byte)
{
	return reg_bit(d, d->modrm >> 3 & 7, d->rex & 4, byte);
}

static unsigned bit_rm(const struct decode *d, bool byte)
{
	return d->modrm >> 6 == 3 ? reg_bit(d, d->modrm & 7, d->rex & 1, byte) : 0;
}

static unsigned bit_op(const struct decode *d, bool byte)
{
	return reg_bit(d, d->op & 7, d->rex & 1, byte);
}

static unsigned writes_group(const struct decode *d)
{
	unsigned n = d->modrm >> 3 & 7;

	switch (d->op) {
	case 0x80:
	case 0x81:
	case 0x83: /* add or adc sbb and sub xor cmp */
		return n == 7 ? 0 : bit_rm(d, d->op == 0x80);
	case 0xf6:
	case 0xf7: /* test test not neg mul imul div idiv */
		if (n < 2)
			return 0;
		return n < 4 ? bit_rm(d, d->op == 0xf6) : AX | DX;
	case 0xfe:
		return bit_rm(d, true);
	default: /* ff: inc dec call callf jmp jmpf push */
		return n < 2 ? bit_rm(d, false) : SP;
	}
}

static unsigned writes_string(const struct decode *d)
{
	unsigned count = d->rep || d->repne ? CX : 0;

	switch (d->op) {
	case 0x6c:
	case 0x6d:
	case 0xaa:
	case 0xab:
	case 0xae:
	case 0xaf:
		return count | DI;
	case 0x6e:
	case 0x6f:
		return count | SI;
	case 0xac:
	case 0xad:
		return count | SI | AX;
	default: /* movs cmps */
		return count | SI | DI;
	}
}

static unsigned writes_alu(const struct decode *d)
{
	if (d->op >= 0x38) /* cmp */
		return 0;
	switch (d->op & 7) {
	case 0:
	case 1:
		return bit_rm(d, !(d->op & 1));
	case 2:
	case 3:
		return bit_reg(d, !(d->op & 1));
	default:
		return AX;
	}
}

/* Branches, comparisons, stores, flags: no general register. */
static bool writes_nothing(uint8_t op)
{
	switch (op) {
	case 0x70 ... 0x7f:
	case 0x84:
	case 0x85:
	case 0x8e:
	case 0x9b:
	case 0x9e:
	case 0xa2:
	case 0xa3:
	case 0xa8:
	case 0xa9:
	case 0xe3:
	case 0xe9:
	case 0xeb:
	case 0xf5:
	case 0xf8 ... 0xfd:
		return true;
	default:
		return false;
	}
}

static unsigned writes_one_byte(const struct decode *d)
{
	if (writes_nothing(d->op))
		return 0;
	switch (d->op) {
	case 0x00 ... 0x3f:
		return writes_alu(d);
	case 0x58 ... 0x5f:
		return SP | bit_op(d, false);
	case 0x63:
	case 0x69:
	case 0x6b:
	case 0x8b:
	case 0x8d:
		return bit_reg(d, false);
	case 0x6c ... 0x6f:
	case 0xa4 ... 0xa7:
	case 0xaa ... 0xaf:
		return writes_string(d);
	case 0x80 ... 0x83:
	case 0xf6:
	case 0xf7:
	case 0xfe:
	case 0xff:
		return writes_group(d);
	case 0x86:
	case 0x87:
		return bit_reg(d, d->op == 0x86) | bit_rm(d, d->op == 0x86);
	case 0x88:
	case 0x89:
	case 0x8c:
	case 0xc6:
	case 0xc7:
		return bit_rm(d, d->op == 0x88 || d->op == 0xc6);
	case 0x8a:
		return bit_reg(d, true);
	case 0x8f:
		return SP | bit_rm(d, false);
	case 0x90 ... 0x97:
		return d->op == 0x90 && !(d->rex & 1) ? 0 : AX | bit_op(d, false);
	case 0x50 ... 0x57:
	case 0x68:
	case 0x6a:
	case 0x9c:
	case 0x9d:
	case 0xc2:
	case 0xc3:
	case 0xe8:
		return SP;
	case 0x98:
	case 0x9f:
	case 0xa0:
	case 0xa1:
	case 0xd7:
	case 0xe4:
	case 0xe5:
		return AX;
	case 0x99:
		return DX;
	case 0xb0 ... 0xbf:
		return bit_op(d, d->op < 0xb8);
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3:
		return bit_rm(d, !(d->op & 1));
	case 0xc8:
	case 0xc9:
		return SP | BP;
	case 0xd8 ... 0xdf: /* fnstsw %ax is the only one */
		return d->op == 0xdf && d->modrm == 0xe0 ? AX : 0;
	case 0xe0 ... 0xe2:
		return CX;
	default:
		return ANY;
	}
}

static unsigned writes_two_byte(const struct decode *d)
{
	switch (d->op) {
	case 0x0d:
	case 0x0e:
	case 0x10 ... 0x1d:
	case 0x1f:
	case 0x28 ... 0x2b:
	case 0x2e ... 0x2f:
	case 0x51 ... 0x7d:
	case 0x7f ... 0x8f:
	case 0xa0:
	case 0xa3:
	case 0xa8:
	case 0xb9:
	case 0xc2:
	case 0xc3:
	case 0xc4:
	case 0xc6:
	case 0xd0 ... 0xd6:
	case 0xd8 ... 0xff:
		return d->op == 0xa0 || d->op == 0xa8 ? SP : 0;
	case 0x1e: /* with f3, rdssp writes a register; endbr does not */
		return d->rep && d->modrm != 0xfa && d->modrm != 0xfb ? bit_rm(d, false) : 0;
	case 0x02:
	case 0x03:
	case 0x2c:
	case 0x2d:
	case 0x40 ... 0x50:
	case 0xaf:
	case 0xb2:
	case 0xb4 ... 0xb8:
	case 0xbc ... 0xbf:
	case 0xc5:
	case 0xd7:
		return bit_reg(d, false);
	case 0x31 ... 0x33:
		return AX | DX;
	case 0x7e:
	case 0xa4:
	case 0xa5:
	case 0xab:
	case 0xac ... 0xae:
	case 0xb3:
	case 0xbb:
		return bit_rm(d, false);
	case 0x90 ... 0x9f:
		return bit_rm(d, true);
	case 0xa2:
		return AX | BX | CX | DX;
	case 0xb0:
	case 0xb1:
		return AX | bit_rm(d, d->op == 0xb0);
	case 0xba: /* bt bts btr btc */
		return (d->modrm >> 3 & 7) == 4 ? 0 : bit_rm(d, false);
	case 0xc0:
	case 0xc1:
		return bit_reg(d, d->op == 0xc0) | bit_rm(d, d->op == 0xc0);
	case 0xc8 ... 0xcf:
		return bit_op(d, false);
	default:
		return ANY;
	}
}

/* Vector maps: a few instructions write general registers, and guessing high costs only a slower
 * probe. */
static unsigned writes_vector(const struct decode *d)
{
	if (d->map == MAP_0F3A)
		return bit_reg(d, false) | bit_rm(d, false) |
		       (d->op >= 0x60 && d->op <= 0x63 ? CX : 0);
	if (d->map == MAP_0F38 && d->op >= 0xf0)
		return d->vex ? ANY : bit_reg(d, false) | bit_rm(d, false);
	return d->form == N ? 0 : bit_reg(d, false) | bit_rm(d, false);
}

static unsigned writes_of(const struct decode *d)
{
	if (d->vex || d->map > MAP_0F)
		return writes_vector(d);
	return d->map == MAP_ONE ? writes_one_byte(d) : writes_two_byte(d);
}

/* stack pointer, control flow, price */

static void set_known(struct insn *out, int64_t grows)
{
	/* A frame of more than 1 GiB is not a frame. */
	if (grows > -(1 << 30) && grows < (1 << 30)) {
		out->sp_known = true;
		out->sp_grows = (int32_t)grows;
	}
}

static void set_stack(const struct decode *d, struct insn *out)
{
	bool rsp_rm = d->has_modrm && bit_rm(d, false) == SP;
	unsigned n = d->modrm >> 3 & 7;

	out->sp_known = !(out->writes & SP);
	out->sp_grows = 0;
	if (out->sp_known || d->map != MAP_ONE || d->vex || d->opsize || d->addrsize)
		return;
	if ((d->op >= 0x50 && d->op <= 0x57) || d->op == 0x68 || d->op == 0x6a || d->op == 0x9c ||
	    (d->op == 0xff && n == 6))
		set_known(out, 8);
	else if (d->op == 0x9d || (d->op >= 0x58 && d->op <= 0x5f && !(bit_op(d, false) & SP)))
		set_known(out, -8);
	else if ((d->op == 0x81 || d->op == 0x83) && rsp_rm && (d->rex & 8) && (n == 0 || n == 5))
		set_known(out, n == 5 ? d->imm : -d->imm);
	else if (d->op == 0x8d && d->mem_rsp_disp && (d->rex & 8))
		set_known(out, -d->disp);
}

static void set_flow(const struct decode *d, struct insn *out)
{
	unsigned n = d->modrm >> 3 & 7;

	out->flow = INSN_FLOW_NEXT;
	if (d->vex || d->map > MAP_0F)
		return;
	if (d->form == J1 || d->form == J4) {
		out->target = d->imm + (int64_t)d->pos;
		out->flow = INSN_FLOW_COND;
		if (d->map == MAP_ONE && (d->op == 0xe9 || d->op == 0xeb))
			out->flow = INSN_FLOW_JUMP;
		else if (d->map == MAP_ONE && d->op == 0xe8)
			out->flow = INSN_FLOW_CALL;
		return;
	}
	if (d->map == MAP_0F) {
		if (d->op == 0x05 || d->op == 0x07 || d->op == 0x0b || d->op == 0x34 ||
		    d->op == 0x35 || d->op == 0xaa || d->op == 0xb9 || d->op == 0xff)
			out->flow = INSN_FLOW_TRAP;
		return;
	}
	if (d->op == 0xc2 || d->op == 0xc3 || d->op == 0xca || d->op == 0xcb || d->op == 0xcf)
		out->flow = INSN_FLOW_RET;
	else if (d->op == 0xcc || d->op == 0xcd || d->op == 0xf1 || d->op == 0xf4)
		out->flow = INSN_FLOW_TRAP;
	else if (d->op == 0xff && (n == 2 || n == 3))
		out->flow = INSN_FLOW_CALL;
	else if (d->op == 0xff && (n == 4 || n == 5))
		out->flow = INSN_FLOW_JUMP_ANY;
	else if (d->op == 0xc7 && n == 7) /* xbegin */
		out->flow = INSN_FLOW_TRAP;
}

/* good_insns_64 and good_2byte_insns, and the stack segment loads, which hide the step's exception.
 */
static bool opcode_refused(const struct decode *d)
{
	if (d->map == MAP_0F)
		return d->op <= 0x01 || (d->op >= 0x05 && d->op <= 0x09) || d->op == 0x0b ||
		       d->op == 0x30 || d->op == 0x34 || d->op == 0x35 || d->op == 0x37 ||
		       d->op == 0x78 || d->op == 0x79 || d->op == 0xae;
	if (d->map != MAP_ONE)
		return false;
	return (d->op >= 0x6c && d->op <= 0x6f) || (d->op >= 0xcc && d->op <= 0xcf) ||
	       (d->op >= 0xe4 && d->op <= 0xe7) || (d->op >= 0xec && d->op <= 0xef) ||
	       d->op == 0xf1 || d->op == 0xf4 || d->op == 0xfa || d->op == 0xfb ||
	       (d->op == 0x8e && (d->modrm >> 3 & 7) == 2);
}

static enum insn_uprobe uprobe_of(const struct decode *d, const struct insn *out)
{
	bool branch = d->map == MAP_ONE && ((d->op >= 0x70 && d->op <= 0x7f) || d->op == 0xe8 ||
					    d->op == 0xe9 || d->op == 0xeb);

	if (d->segment || d->lock || opcode_refused(d))
		return INSN_UPROBE_REFUSED;
	if (d->vex)
		return INSN_UPROBE_STEPPED;
	if (d->map == MAP_0F && d->op >= 0x80 && d->op <= 0x8f)
		branch = true;
	if (branch)
		return d->opsize ? INSN_UPROBE_REFUSED : INSN_UPROBE_EMULATED;
	/* Early 6.1 refused 66 90, so only the plain nop is counted. */
	if (d->map == MAP_ONE && d->op == 0x90)
		return out->len == 1 ? INSN_UPROBE_EMULATED : INSN_UPROBE_STEPPED;
	if (d->map == MAP_ONE && d->op >= 0x50 && d->op <= 0x57)
		return out->len == 1 || (out->len == 2 && d->rex == 0x41) ? INSN_UPROBE_EMULATED
									  : INSN_UPROBE_STEPPED;
	/* nopl: the forms that compilers pad with, since x86_nops[] is compared. */
	if (d->map == MAP_0F && d->op == 0x1f && !d->rex && d->prefixes == (d->opsize ? 1 : 0) &&
	    !(d->modrm >> 3 & 7) && d->modrm >> 6 != 3 && !d->disp)
		return INSN_UPROBE_NEWER;
	return INSN_UPROBE_STEPPED;
}

int insn_decode(const uint8_t *code, size_t len, struct insn *out)
{
	struct decode d = {.code = code, .len = len};
	struct insn insn = {0};
	int err = take_opcode(&d);

	if (err)
		return err;
	if (d.form == X || d.form == P)
		return -ENOTSUP;
	if (d.form == M || d.form == MB || d.form == MZ || d.form == G3)
		err = take_modrm(&d);
	if (!err)
		err = take_immediate(&d);
	if (err)
		return err;
	/* 8f with another reg field is AMD's XOP, whose length follows other rules. */
	if (d.map == MAP_ONE && d.op == 0x8f && (d.modrm >> 3 & 7))
		return -ENOTSUP;
	insn.len = (uint8_t)d.pos;
	insn.writes = (uint16_t)writes_of(&d);
	set_flow(&d, &insn);
	set_stack(&d, &insn);
	insn.uprobe = uprobe_of(&d, &insn);
	*out = insn;
	return 0;
}

const char *insn_uprobe_name(enum insn_uprobe uprobe)
{
	static const char *const names[INSN_UPROBE_MAX] = {
	    [INSN_UPROBE_REFUSED] = "refused",
	    [INSN_UPROBE_STEPPED] = "single-stepped",
	    [INSN_UPROBE_NEWER] = "emulated by newer kernels",
	    [INSN_UPROBE_EMULATED] = "emulated",
	};

	return uprobe < INSN_UPROBE_MAX ? names[uprobe] : "refused";
}
