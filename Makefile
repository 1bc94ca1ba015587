# SPDX-License-Identifier: Apache-2.0
# One non-recursive Makefile; each folder lists its files in a build.mk. All output goes to build/.
# `make help` lists the targets. Switches: V=1 (show commands), SAN=1 (AddressSanitizer and UBSan), BUILD=dir.

V ?= 0
SAN ?= 0
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
PROTOC_C ?= protoc-c
PG_CONFIG ?= pg_config
ifeq ($(SAN),1)
BUILD ?= build/san
else
BUILD ?= build
endif

ifeq ($(V),1)
Q :=
msg =
else
Q := @
msg = @printf '  %-8s %s\n' "$(1)" "$(2)";
endif

ARCH := $(shell uname -m | sed 's/aarch64/arm64/')
BPF_ARCH := $(if $(filter x86_64,$(ARCH)),x86,$(ARCH))

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wimplicit-fallthrough -Werror
CPPFLAGS += -D_GNU_SOURCE -Iuserspace -Iinclude -I$(BUILD)/gen
CFLAGS ?= -O2 -g
CFLAGS += -std=gnu11 $(WARN) -fno-omit-frame-pointer -fstack-protector-strong -fPIE
LDFLAGS += -pie -Wl,-z,relro,-z,now
# protobuf-c first: libpg_query exports a copy of its own, which is slower.
LDLIBS += -lprotobuf-c -lbpf -lelf -lz -lpg_query -lyaml -lsodium -lnettle -lseccomp -ljansson -lpthread -lm
ifeq ($(SAN),1)
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -O1
LDFLAGS += -fsanitize=address,undefined
else
CPPFLAGS += -D_FORTIFY_SOURCE=2
endif
BPF_CFLAGS := -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) -Wall -Wextra -Wno-unused-parameter -Werror -Iinclude -Ibpf -Ivmlinux \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.DEFAULT_GOAL := all

LIB_SRC :=
CLI_SRC :=
UNIT_SRC :=
FUZZ_SRC :=
BPF_TEST_SRC :=
BENCH_SRC :=
FOLDERS := $(wildcard userspace/build.mk userspace/*/build.mk tools/*/build.mk tests/*/build.mk)
include $(FOLDERS)

GEN := $(BUILD)/gen/dbfence/audit.pb-c.h $(BUILD)/gen/dbfence.skel.h
LIB := $(BUILD)/libdbfence.a
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/audit.pb-c.o
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)
BPF_TEST_BIN := $(BPF_TEST_SRC:tests/bpf/%.c=$(BUILD)/tests/bpf/%)
BENCH_BIN := $(BENCH_SRC:tests/bench/%.c=$(BUILD)/tests/bench/%)
FUZZ_REPLAY_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/tests/fuzz/%)
BIN := $(BUILD)/bin/dbfenced $(BUILD)/bin/dbfence

all: $(BIN)  ## build dbfenced and dbfence

# --- generated sources -----------------------------------------------------------------------------------

$(BUILD)/gen/dbfence/audit.pb-c.h $(BUILD)/gen/dbfence/audit.pb-c.c &: include/dbfence/audit.proto
	@mkdir -p $(BUILD)/gen
	$(call msg,PROTOC,$<)
	$(Q)$(PROTOC_C) -Iinclude --c_out=$(BUILD)/gen dbfence/audit.proto

$(BUILD)/obj/gen/audit.pb-c.o: $(BUILD)/gen/dbfence/audit.pb-c.c
	@mkdir -p $(@D)
	$(call msg,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -W%,$(CFLAGS)) -c $< -o $@

$(BUILD)/bpf/dbfence.bpf.o: bpf/dbfence.bpf.c
	@mkdir -p $(@D)
	$(call msg,BPF,$<)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(BUILD)/bpf/dbfence.bpf.d -MT $@ -c $< -o $@

$(BUILD)/bpf/%.bpf.o: tests/bpf/%.bpf.c
	@mkdir -p $(@D)
	$(call msg,BPF,$<)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(BUILD)/bpf/$*.bpf.d -MT $@ -c $< -o $@

$(BUILD)/gen/dbfence.skel.h: $(BUILD)/bpf/dbfence.bpf.o
	@mkdir -p $(@D)
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name dbfence_bpf > $@

# --- objects and programs --------------------------------------------------------------------------------

$(BUILD)/obj/%.o: %.c | $(GEN)
	@mkdir -p $(@D)
	$(call msg,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/tests/%.o: CPPFLAGS += -Itests

$(LIB): $(LIB_OBJ)
	$(call msg,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/bin/dbfenced: $(BUILD)/obj/userspace/main.o $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/bin/dbfence: $(CLI_SRC:%.c=$(BUILD)/obj/%.o) $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/obj/tests/lib/test.o $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/tests/bpf/%: $(BUILD)/obj/tests/bpf/%.o $(BUILD)/obj/tests/lib/test.o $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(filter-out %.bpf.o,$^) $(LDLIBS) -o $@

$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# A fuzz target replays its corpus without a fuzzer in `make check`; `make fuzz T=name` searches with libFuzzer.
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/lib/fuzz_replay.o $(LIB)
	@mkdir -p $(@D)
	$(call msg,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

FUZZ_SECONDS ?= 600
fuzz:  ## search with libFuzzer: make fuzz T=sql_lex FUZZ_SECONDS=600
	$(Q)$(MAKE) --no-print-directory BUILD=build/fuzz CC=$(CLANG) SAN=1 \
		CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' build/fuzz/libdbfence.a build/fuzz/obj/tests/fuzz/fuzz_$(T).o
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined build/fuzz/obj/tests/fuzz/fuzz_$(T).o build/fuzz/libdbfence.a \
		$(LDLIBS) -o build/fuzz/fuzz_$(T)
	$(Q)mkdir -p build/fuzz/corpus/$(T) tests/fuzz/corpus/$(T)
	$(Q)build/fuzz/fuzz_$(T) -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -timeout=20 \
		-artifact_prefix=build/fuzz/$(T)- build/fuzz/corpus/$(T) tests/fuzz/corpus/$(T)

tests-bin: $(UNIT_BIN) $(FUZZ_REPLAY_BIN) $(BPF_TEST_BIN) $(BENCH_BIN)

# --- what people type --------------------------------------------------------------------------------------

deps:  ## install what is missing from apt (root)
	$(Q)tools/dev/deps build

run: deps all  ## install, build, start the agent with the shipped policies (root)
	$(Q)tools/dev/run

demo: deps all  ## a scratch PostgreSQL, a story in psql, what was prevented, the audit trail (root)
	$(Q)tools/dev/demo

check: all tests-bin  ## unit, golden, policy, fuzz replay, lint: no root, database or network
	$(Q)tests/run check

test:  ## install, build, run every tier that this machine can run (root)
	$(Q)tools/dev/deps test
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all tests-bin
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) SAN=1 tests-bin
	$(Q)tests/run all

bench: deps all  ## ratios against a baseline in the same run (root)
	$(Q)tools/dev/deps test
	$(Q)tests/bench/run

lint:  ## include rules, banned functions, header self-containment, documentation drift
	$(Q)tools/dev/lint

format:  ## clang-format in place
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')

golden-update: all tests-bin  ## rewrite the golden expectations; review the diff as code
	$(Q)tests/run golden-update

PREFIX ?= /usr
install: all  ## DESTDIR= PREFIX=/usr
	install -D -m 0755 $(BUILD)/bin/dbfenced $(DESTDIR)$(PREFIX)/sbin/dbfenced
	install -D -m 0755 $(BUILD)/bin/dbfence $(DESTDIR)$(PREFIX)/bin/dbfence
	install -d $(DESTDIR)/etc/dbfence/policies $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 policies/*.yaml $(DESTDIR)/etc/dbfence/policies/
	for m in man/*.[158]; do install -m 0644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/; done

clean:  ## remove build/
	rm -rf build

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t16

.PHONY: all deps run demo check test bench lint format golden-update install clean help fuzz tests-bin

-include $(shell find $(BUILD)/obj $(BUILD)/bpf -name '*.d' 2>/dev/null)
