LIB_SRC += userspace/proto/pgwire.c userspace/proto/pgwire_names.c userspace/proto/pgwire_request.c
