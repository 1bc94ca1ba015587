LIB_SRC += userspace/keeper.c userspace/keeper_control.c userspace/keeper_offer.c userspace/keeper_policy.c userspace/keeper_server.c userspace/keeper_who.c userspace/keeper_wire.c userspace/keeper_worker.c \
	userspace/pipeline.c userspace/pipeline_record.c userspace/pipeline_statement.c userspace/worker.c
