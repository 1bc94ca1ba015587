FUZZ_SRC += tests/fuzz/fuzz_elf.c tests/fuzz/fuzz_insn.c
FUZZ_SRC += tests/fuzz/fuzz_journal.c
FUZZ_SRC += tests/fuzz/fuzz_sql_lex.c tests/fuzz/fuzz_sql_analyze.c
FUZZ_SRC += tests/fuzz/fuzz_policy_load.c
FUZZ_SRC += tests/fuzz/fuzz_batch.c tests/fuzz/fuzz_pipeline.c tests/fuzz/fuzz_wire.c
FUZZ_SRC += tests/fuzz/fuzz_frame.c
