LIB_SRC += userspace/enforce/deadman.c userspace/enforce/hold.c userspace/enforce/socket.c userspace/enforce/wire_hold.c
