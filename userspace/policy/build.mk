LIB_SRC += userspace/policy/arena.c userspace/policy/glob.c userspace/policy/names.c userspace/policy/yaml.c
LIB_SRC += userspace/policy/set.c userspace/policy/load.c userspace/policy/load_clause.c userspace/policy/lint.c
LIB_SRC += userspace/policy/eval.c userspace/policy/who.c userspace/policy/explain.c
LIB_SRC += userspace/policy/words.c userspace/policy/screen.c userspace/policy/guarantee.c userspace/policy/cases.c
