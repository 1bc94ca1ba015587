# SPDX-License-Identifier: Apache-2.0
LIB_SRC += userspace/sql/sql.c userspace/sql/sql_arena.c userspace/sql/sql_cache.c userspace/sql/sql_ddl.c \
	userspace/sql/sql_facts.c userspace/sql/sql_fold.c userspace/sql/sql_func.c userspace/sql/sql_json.c \
	userspace/sql/sql_lex.c userspace/sql/sql_names.c userspace/sql/sql_parse.c userspace/sql/sql_query.c \
	userspace/sql/sql_replication.c userspace/sql/sql_stack.c userspace/sql/sql_utility.c userspace/sql/sql_walk.c
