/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The screen: an Aho-Corasick automaton, folded to lower case by its class table, that the probes run over a
 * statement's bytes. Ending it without an accepting state proves that no enforcing rule can match.
 * Written by user space (policy/screen.c), read by bpf/lib/screen.bpf.h.
 */
#ifndef DBFENCE_ABI_SCREEN_H
#define DBFENCE_ABI_SCREEN_H

#ifndef __bpf__
#include <stdint.h>
typedef uint8_t dbf_u8;
typedef uint16_t dbf_u16;
typedef uint32_t dbf_u32;
typedef uint64_t dbf_u64;
typedef int64_t dbf_s64;
#else
typedef unsigned char dbf_u8;
typedef unsigned short dbf_u16;
typedef unsigned int dbf_u32;
typedef unsigned long long dbf_u64;
typedef long long dbf_s64;
#endif

#define DBF_SCREEN_STATES 1024
#define DBF_SCREEN_CLASSES 64
#define DBF_SCREEN_ACCEPT 0x8000	/* set in a transition: a word ended; the state number is in the low bits */

struct dbf_screen {
	dbf_u32 match_all;		/* every statement is a candidate */
	dbf_u32 state_cnt;		/* 0: nothing enforces, nothing is a candidate */
	dbf_u8 class_of[256];		/* byte → class, below DBF_SCREEN_CLASSES */
	dbf_u16 next[DBF_SCREEN_STATES][DBF_SCREEN_CLASSES];
};

#endif
