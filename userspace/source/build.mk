LIB_SRC += userspace/source/batch.c userspace/source/ring.c userspace/source/urgent.c userspace/source/wire.c
