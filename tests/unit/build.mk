UNIT_SRC += tests/unit/test_priv_chan.c tests/unit/test_priv_child.c
UNIT_SRC += tests/unit/test_priv_filter.c tests/unit/test_priv_sandbox.c
UNIT_SRC += tests/unit/test_sql_golden.c tests/unit/test_sql_lex.c tests/unit/test_sql_engine.c
UNIT_SRC += tests/unit/test_audit_journal.c tests/unit/test_audit_json.c tests/unit/test_audit_line.c tests/unit/test_audit_recorder.c
UNIT_SRC += tests/unit/test_loader_elf.c tests/unit/test_loader_insn.c tests/unit/test_loader_probe.c
UNIT_SRC += tests/unit/test_loader_pg_layout.c tests/unit/test_loader_pg_process.c
UNIT_SRC += tests/unit/test_policy_load.c tests/unit/test_policy_eval.c tests/unit/test_policy_screen.c
UNIT_SRC += tests/unit/test_policy_cases.c tests/unit/test_policy_docs.c
