LIB_SRC += userspace/source/batch.c userspace/source/ring.c
