LIB_SRC += userspace/conn/conn.c userspace/conn/message.c userspace/conn/peers.c userspace/conn/reply.c userspace/conn/stmt.c userspace/conn/wire.c
