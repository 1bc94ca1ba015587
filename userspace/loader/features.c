// SPDX-License-Identifier: Apache-2.0
/* What the running kernel offers, asked of it and never deduced from its version. */
#include "loader/kernel.h"

#include <string.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* By BTF, as the loader finds them: a symbol alone cannot be called. */
static bool have_kfunc(const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool have = btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return have;
}

bool kernel_releases_holds(void)
{
	return have_kfunc("bpf_send_signal_task");	/* the newest of those that it takes */
}

bool kernel_has_task_work(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int id = btf ? btf__find_by_name_kind(btf, KERNEL_TASK_WORK_KFUNC, BTF_KIND_FUNC) : -1;
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, btf__type_by_id(btf, (uint32_t)id)->type) : NULL;
	bool have = false;

	if (t && btf_is_func_proto(t) && btf_vlen(t) == 5) {
		t = btf__type_by_id(btf, btf_params(t)[4].type);
		have = t && btf_is_ptr(t) && !t->type;	/* void * */
	}
	btf__free(btf);
	return have;
}

void kernel_hide_symbol(void *image, size_t len, const char *name)
{
	size_t name_len = strlen(name) + 1;
	char *end = (char *)image + len;

	for (char *p = image; (p = memmem(p, (size_t)(end - p), name, name_len)); p++)
		*p = '_';
}

void kernel_features(void (*fn)(void *ctx, const char *name, bool have, const char *cost), void *ctx)
{
	fn(ctx, "btf", !access("/sys/kernel/btf/vmlinux", R_OK), "without it nothing can be loaded");
	fn(ctx, "ring_buffer", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 1, "needs 5.8");
	fn(ctx, "task_storage", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, NULL) == 1, "needs 5.11");
	fn(ctx, "bpf_loop", libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_loop, NULL) == 1, "needs 5.17");
	fn(ctx, "attach_cookie", libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_get_attach_cookie, NULL) == 1,
	   "needs 5.15");
	fn(ctx, "send_signal", libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_send_signal, NULL) == 1,
	   "without it nothing can be rejected or held at a server");
	fn(ctx, "send_signal_task", kernel_releases_holds(),
	   "when every dbfence process is killed at once, holds wait for the next start (6.13 and later release them)");
	fn(ctx, "task_work", kernel_has_task_work(),
	   "on an idle node the kernel ends such a hold some seconds late (6.18 and later: at its deadline)");
}
