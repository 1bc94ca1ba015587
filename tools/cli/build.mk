CLI_SRC += tools/cli/main.c
CLI_SRC += tools/cli/cmd_audit.c tools/cli/cmd_tail.c
CLI_SRC += tools/cli/cmd_status.c tools/cli/control.c
CLI_SRC += tools/cli/cmd_policy.c
