LIB_SRC += userspace/enforce/deadman.c userspace/enforce/hold.c
