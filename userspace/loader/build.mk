LIB_SRC += userspace/loader/elf.c userspace/loader/insn.c userspace/loader/probe.c userspace/loader/pg_layout.c
LIB_SRC += userspace/loader/pg_process.c userspace/loader/pg_memory.c userspace/loader/exec_watch.c userspace/loader/discover.c
LIB_SRC += userspace/loader/features.c userspace/loader/kernel.c userspace/loader/kernel_server.c userspace/loader/pinned.c userspace/loader/tcp_seed.c userspace/loader/wire.c
LIB_SRC += userspace/loader/handback.c userspace/loader/netdev.c userspace/loader/rtnl.c userspace/loader/wire_release.c
