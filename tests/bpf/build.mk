BPF_TEST_SRC += tests/bpf/test_discover.c tests/bpf/test_holds.c tests/bpf/wire_rig.c
# It is its own server: the probes look for exported names.
$(BUILD)/tests/bpf/test_holds: $(BUILD)/obj/tests/bpf/server.o
$(BUILD)/tests/bpf/test_holds: LDFLAGS += -rdynamic
# The wire's rig loads an object of its own.
$(BUILD)/tests/bpf/wire_rig: $(BUILD)/bpf/wire_gate.bpf.o
