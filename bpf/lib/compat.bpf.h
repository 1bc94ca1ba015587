/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rank 0. Kernel types and helpers, and whatever differs between kernels. */
#ifndef DBF_COMPAT_BPF_H
#define DBF_COMPAT_BPF_H

#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "dbfence/abi/shared.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_LISTEN 10

#define EBUSY 16

#define SIGINT 2
#define SIGTERM 15
#define SIGCONT 18
#define SIGSTOP 19

#endif
