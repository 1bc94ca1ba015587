LIB_SRC += userspace/audit/record.c userspace/audit/text.c userspace/audit/journal.c userspace/audit/journal_read.c \
	userspace/audit/json.c userspace/audit/json_read.c userspace/audit/line.c userspace/audit/recorder.c \
	userspace/audit/recorder_sub.c userspace/audit/recorder_client.c
