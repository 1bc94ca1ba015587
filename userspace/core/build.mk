LIB_SRC += userspace/core/buf.c userspace/core/err.c userspace/core/log.c
