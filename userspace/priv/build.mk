LIB_SRC += userspace/priv/chan.c userspace/priv/child.c
LIB_SRC += userspace/priv/sandbox.c userspace/priv/sandbox_rules.c
