/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The last resort of a hold: the kernel itself ends it when no process of ours is left to do so.
 *
 *   SIGSTOP sent by a gate ──▶ signal_generate arms the slot's timer ──(deadline + grace)──▶ still
 * OPEN? the fail mode
 *
 * Timers are not allowed in uprobes, hence the tracepoint. The grace lets the dead-man come first
 * while it lives.
 *
 * Signals are refused (EPERM) while the timer's CPU is idle or runs a kernel thread, and while the
 * CPU's last one is on its way (EBUSY). On an idle node that can last for seconds, so the
 * postmaster, which is a process like any other, is asked to run the release on its next way to
 * user mode; it is woken for that and notices nothing. A refused release puts the slot back to
 * OPEN, so that a dead-man, a start or a disarm may still end it; whoever put it back sees to the
 * next try. There is no last one: the slot leaves OPEN at the latest when its process exits.
 *
 * The signal kfunc exists from Linux 6.13 on: on older kernels this program is not loaded. Task
 * work exists from 6.18 on.
 */

#define CLOCK_MONOTONIC 1
#define RELEASE_GRACE_NS (40 * 1000 * 1000ULL) /* the dead-man looks every 20 ms */
#define RELEASE_RETRY_NS (1000 * 1000ULL)
#define RELEASE_RETRY_SLOW_NS (20 * 1000 * 1000ULL)
#define RELEASE_FAST_RETRIES 10000

const volatile bool cfg_task_work;

extern struct task_struct *bpf_task_from_pid(s32 pid) __weak __ksym;
extern void bpf_task_release(struct task_struct *task) __weak __ksym;
extern int bpf_send_signal_task(struct task_struct *task, int sig, enum pid_type type,
				u64 value) __weak __ksym;
extern int bpf_task_work_schedule_signal_impl(struct task_struct *task, struct bpf_task_work *tw,
					      void *map__map,
					      int (*callback)(struct bpf_map *map, void *key,
							      void *value),
					      void *aux__prog) __weak __ksym;

/* SIGINT first: a process that was let go may finish its statement before the second signal. */
static __always_inline bool release_signal(struct task_struct *task, struct release *r, bool deny)
{
	if (deny && !r->interrupted) {
		if (bpf_send_signal_task(task, SIGINT, PIDTYPE_TGID, 0))
			return false;
		r->interrupted = 1;
		count_add(DBF_COUNT_SIGNALS, 1);
	}
	if (bpf_send_signal_task(task, SIGCONT, PIDTYPE_TGID, 0))
		return false;
	count_add(DBF_COUNT_SIGNALS, 1);
	return true;
}

/* End an overdue hold by its fail mode. False when the slot was put back: it must be tried again.
 */
static __always_inline bool release_end(struct dbf_hold_slot *slot, struct release *r)
{
	u64 open = DBF_STATE(r->seq, DBF_HOLD_OPEN);
	bool deny = slot->fail_closed, done = true;
	u64 decided = DBF_STATE(r->seq, deny ? DBF_HOLD_DENIED : DBF_HOLD_ALLOWED);
	struct task_struct *task = bpf_task_from_pid(slot->tgid);

	if (!task)
		return true;
	if (BPF_CORE_READ(task, group_leader, start_boottime) == slot->session &&
	    __sync_val_compare_and_swap(&slot->state, open, decided) == open) {
		slot->resolver = DBF_BY_KERNEL;
		slot->resolved_ns = bpf_ktime_get_ns();
		done = release_signal(task, r, deny);
		if (done)
			count_add(DBF_COUNT_TIMER_RELEASES, 1);
		else
			__sync_val_compare_and_swap(&slot->state, decided, open);
	}
	bpf_task_release(task);
	return done;
}

static __always_inline void release_retry(struct release *r)
{
	bpf_timer_start(
		&r->timer,
		r->attempts++ < RELEASE_FAST_RETRIES ? RELEASE_RETRY_NS : RELEASE_RETRY_SLOW_NS, 0);
}

/* In the postmaster. */
static int release_work(struct bpf_map *map, void *key, void *value)
{
	struct dbf_hold_slot *slot = hold_slot_at(*(u32 *)key);
	struct release *r = value;

	if (slot && DBF_STATE_SEQ(slot->state) == r->seq && !release_end(slot, r))
		release_retry(r);
	return 0;
}

static __always_inline void release_ask_postmaster(struct dbf_hold_slot *slot, struct release *r)
{
	struct task_struct *task;

	if (!cfg_task_work)
		return;
	task = bpf_task_from_pid(slot->postmaster);
	if (!task)
		return;
	/* Refused while the last request is on its way. */
	bpf_task_work_schedule_signal_impl(task, &r->work, &releases, release_work, NULL);
	bpf_task_release(task);
}

static __always_inline u64 release_wait(struct dbf_hold_slot *slot)
{
	u64 due = slot->deadline_ns + RELEASE_GRACE_NS, now = bpf_ktime_get_ns();

	return due > now ? due - now : 0;
}

static int release_due(void *map, u32 *index, struct release *r)
{
	struct dbf_hold_slot *slot = hold_slot_at(*index);
	u64 state, wait;

	if (!slot)
		return 0;
	state = slot->state;
	if (DBF_STATE_SEQ(state) != r->seq)
		return 0;
	if (DBF_STATE_OF(state) != DBF_HOLD_OPEN && DBF_STATE_OF(state) != DBF_HOLD_CLAIMED)
		return 0;
	wait = release_wait(slot);
	if (wait) {
		bpf_timer_start(&r->timer, wait, 0);
		return 0;
	}
	if (DBF_STATE_OF(state) == DBF_HOLD_OPEN) {
		if (release_end(slot, r))
			return 0;
		release_ask_postmaster(slot, r);
	}
	release_retry(r);
	return 0;
}

static __always_inline void release_arm(u32 index, u32 seq)
{
	struct release *r = bpf_map_lookup_elem(&releases, &index);
	struct dbf_hold_slot *slot = hold_slot_at(index);

	if (!r || !slot || DBF_STATE_SEQ(slot->state) != seq)
		return;
	if (r->seq != seq) {
		r->seq = seq;
		r->attempts = 0;
		r->interrupted = 0;
	}
	/* Its callback may be of the programs that ours replaced. */
	if (!bpf_timer_set_callback(&r->timer, release_due) &&
	    !bpf_timer_start(&r->timer, release_wait(slot), 0))
		slot->timer = DBF_TIMER_OF(seq);
}

static long release_prepare_slot(u32 index, u32 *missing)
{
	struct release *r = bpf_map_lookup_elem(&releases, &index);
	struct dbf_hold_slot *slot = hold_slot_at(index);
	int err;

	if (!r || !slot)
		return 1;
	err = bpf_timer_init(&r->timer, &releases, CLOCK_MONOTONIC);
	if (!err || err == -EBUSY) /* it was made before */
		__sync_fetch_and_or(&slot->timer, DBF_TIMER_MADE);
	else
		(*missing)++;
	return 0;
}

/*
 * Make all timers, before any is needed: the memory for one cannot always be had where a signal is
 * sent. Run by the loader; how many could not be made.
 */
SEC("syscall")
int release_prepare(void *ctx)
{
	u32 missing = 0;

	bpf_loop(DBF_HOLD_SLOTS, release_prepare_slot, &missing, 0);
	return missing;
}

/* Every signal on the node comes by here: what is not a stop of ours leaves at once. */
SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int sig, void *info, struct task_struct *task)
{
	struct backend *b;

	if (sig != SIGSTOP || !instance_active())
		return 0;
	b = bpf_task_storage_get(&backends, task, NULL, 0);
	if (b && b->hold_slot)
		release_arm(b->hold_slot - 1, b->hold_seq);
	return 0;
}
