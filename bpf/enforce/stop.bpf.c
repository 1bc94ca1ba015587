/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A server that is told to stop waits for its sessions, and a held one does not hear it. So the
 * signal to its postmaster ends all its holds at once: their deadlines are over, which is for the
 * dead-man to see, and no other begins.
 *
 * SIGTERM is not among the signals: a smart shutdown lets the sessions finish what they do, which
 * may take hours, and their statements go on being judged.
 */

#define SIGQUIT 3

struct stop {
	u32 postmaster;
	u32 pad;
	u64 now;
};

static long stop_hold(u32 i, struct stop *s)
{
	struct dbf_hold_slot *slot = hold_slot_at(i);

	if (!slot)
		return 1;
	if (slot->postmaster == s->postmaster && DBF_STATE_OF(slot->state) == DBF_HOLD_OPEN &&
	    slot->deadline_ns > s->now)
		slot->deadline_ns = s->now;
	return 0;
}

/* Every signal on the node comes by here. */
SEC("tp_btf/signal_generate")
int BPF_PROG(server_stop, int sig, void *info, struct task_struct *task)
{
	struct stop s = {};
	u64 start;

	if ((sig != SIGINT && sig != SIGQUIT) || !instance_active())
		return 0;
	s.postmaster = task->tgid;
	if (!bpf_map_lookup_elem(&clusters, &s.postmaster))
		return 0;
	s.now = bpf_ktime_get_ns();
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	bpf_map_update_elem(&stopping, &s.postmaster, &start, BPF_ANY);
	bpf_loop(DBF_HOLD_SLOTS, stop_hold, &s, 0);
	return 0;
}
