BPF_TEST_SRC += tests/bpf/test_discover.c
