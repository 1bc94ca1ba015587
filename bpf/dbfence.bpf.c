/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one BPF object. lib/ holds ranked helper headers, observe/ one hook family per file, enforce/ what acts with no
 * process of ours behind it; README.md lists hooks, maps and the kernel facts they rest on.
 */
#include "lib/compat.bpf.h"
#include "lib/verdict.bpf.h"
#include "lib/wire.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "observe/statement.bpf.c"
#include "observe/reply.bpf.c"
#include "observe/session.bpf.c"
#include "enforce/wire.bpf.c"
#include "observe/order.bpf.c"
#include "observe/mark.bpf.c"
#include "observe/find.bpf.c"
#include "observe/wire.bpf.c"
#include "enforce/release.bpf.c"
#include "enforce/stop.bpf.c"
#include "enforce/rewrite.bpf.c"
#include "enforce/handback.bpf.c"
