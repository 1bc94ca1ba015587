/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The screen: an Aho-Corasick automaton, folded to lower case by its class table, that the probes run over a
 * statement's bytes. Ending it without a word proves that no enforcing rule can match. When nobody can judge the text,
 * the words that were found decide: with OPEN ones only it runs, with any other, rules of closed policies need it judged.
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
#define DBF_SCREEN_STATE 0x03ff		/* the number of a transition's state */
#define DBF_SCREEN_ACCEPT 0x8000	/* a word ended that says it all */
#define DBF_SCREEN_OPEN 0x4000		/* a word ended that only rules of open policies need: look on */

enum dbf_screen_all { DBF_SCREEN_SOME, DBF_SCREEN_ALL, DBF_SCREEN_ALL_OPEN };

struct dbf_screen {
	dbf_u32 match_all;		/* enum dbf_screen_all: every statement is a candidate, as if it held such a word */
	dbf_u32 state_cnt;		/* 0: nothing enforces, nothing is a candidate */
	dbf_u8 class_of[256];		/* byte → class, below DBF_SCREEN_CLASSES */
	dbf_u16 next[DBF_SCREEN_STATES][DBF_SCREEN_CLASSES];
};

#endif
