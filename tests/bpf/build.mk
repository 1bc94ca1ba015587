BPF_TEST_SRC += tests/bpf/test_discover.c tests/bpf/test_holds.c
# It is its own server: the probes look for exported names.
$(BUILD)/tests/bpf/test_holds: $(BUILD)/obj/tests/bpf/server.o
$(BUILD)/tests/bpf/test_holds: LDFLAGS += -rdynamic
