/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Texts and executions of a PostgreSQL backend: raw_parser, CreateDestReceiver (the Execute gate),
 * ExecutorRun, ExecutorEnd, ProcessUtility.
 *
 * Top level means: the text is the one in debug_query_string. For a Query it is that very pointer;
 * for an Execute it is a copy of the active portal's text, so pointer to the portal's, then
 * compared. Everything else runs inside something, cursors that a function opened included: their
 * portals have other texts.
 *
 * Who runs inside whom follows from the stack pointer: a frame that is still active has a higher
 * one. ExecutorEnd removes its frame; the others vanish when something runs at or above them.
 *
 * A cursor that a function reads in pieces is run several times; each run starts its count of rows
 * anew, so what the last one counted is taken when the next begins, and when it ends.
 *
 * A nested text that repeats under the same parent is counted, not reported. It is the same text
 * when its pointer is the same and nothing was parsed in between (a cached plan: foreign-key
 * checks, PL/pgSQL loops), or when its keyed 128-bit hash is (dynamic SQL, whose memory is reused).
 */

#define REST_BYTES 32 /* looked at behind a statement */

static __always_inline u64 stmt_top_text(struct backend *b, struct dbf_server *srv)
{
	return task_user_u64(b->base + srv->debug_query_string);
}

/* Whether two strings are equal, as far as COMPARE_BYTES. */
GLOBAL_FN int stmt_same_text(struct backend *b, u64 one, u64 other)
{
	long n, m;

	if (!b)
		return 0;
	n = bpf_probe_read_user_str(b->compare[0], COMPARE_BYTES, (void *)one);
	m = bpf_probe_read_user_str(b->compare[1], COMPARE_BYTES, (void *)other);
	if (n <= 0 || n != m)
		return 0;
	for (u32 i = 0; i < COMPARE_BYTES / 8; i++) {
		u64 x = *(u64 *)&b->compare[0][i * 8], y = *(u64 *)&b->compare[1][i * 8];
		long left = n - i * 8;

		if (left <= 0)
			break;
		if (left < 8) { /* what stands behind the end is from earlier texts */
			x <<= 64 - 8 * left;
			y <<= 64 - 8 * left;
		}
		if (x != y)
			return 0;
	}
	return 1;
}

/* Drop the frames that have returned; the id of the innermost that has not. */
static __always_inline u32 stmt_parent(struct backend *b, u64 sp)
{
	for (u32 i = 0; i < FRAMES; i++) {
		u32 top = b->depth;

		if (!top || b->frames[(top - 1) & (FRAMES - 1)].sp > sp)
			break;
		b->depth = top - 1;
	}
	return b->depth ? b->frames[(b->depth - 1) & (FRAMES - 1)].exec_id : b->top_id;
}

/* @direct: rows go straight to the client of an Execute. Then nothing that runs around it makes it
 * the client's own. */
static __always_inline bool stmt_is_top(struct backend *b, struct dbf_server *srv, u64 ptr, u64 sp,
					bool direct)
{
	u64 top = stmt_top_text(b, srv), portal;

	if (!ptr || !top)
		return false;
	if (ptr == top)
		return true;
	portal = task_user_u64(b->base + srv->active_portal);
	if (!portal || task_user_u64(portal + srv->portal_source) != ptr)
		return false;
	stmt_parent(b, sp);
	return (direct && !b->depth) || stmt_same_text(b, ptr, top);
}

static __always_inline u64 stmt_rows(struct dbf_server *srv, u64 estate)
{
	return estate ? task_user_u64(estate + srv->es_processed) : 0;
}

static __always_inline void stmt_report_fold(struct backend *b, struct fold *f)
{
	struct dbf_nested *n;

	if (!f->executions && !f->rows)
		return;
	n = emit_room(b, sizeof(struct dbf_fact) + sizeof(*n)) + sizeof(struct dbf_fact);
	n->exec_id = f->exec_id;
	n->executions = f->executions;
	n->rows = f->rows;
	n->first_ts = f->first_ts;
	n->last_ts = f->last_ts;
	emit_commit(b, DBF_FACT_NESTED, sizeof(struct dbf_fact) + sizeof(*n),
		    f->query_desc && b->failed, f->last_ts);
	f->executions = 0;
	f->rows = 0;
}

GLOBAL_FN int stmt_end_folds(struct backend *b)
{
	struct dbf_server *srv;

	if (!b || !b->folded)
		return 0;
	b->folded = 0;
	srv = task_server(b->server);
	for (u32 i = 0; i < FOLDS; i++) {
		struct fold *f = &b->folds[i];

		/* A cursor that stays open. After an error it may be gone without an end. */
		if (f->query_desc && f->exec_id && srv && !b->failed)
			f->rows += stmt_rows(srv, task_user_u64(f->query_desc + srv->qd_estate));
		stmt_report_fold(b, f);
		f->ptr = 0;
		f->query_desc = 0;
		f->len = 0;
		f->exec_id = 0;
	}
	return 0;
}

static __always_inline void stmt_push(struct backend *b, u64 sp, u64 query_desc, u32 exec_id)
{
	struct frame *f;

	if (b->depth >= FRAMES) {
		count_add(DBF_COUNT_NEST_LOST, 1);
		return;
	}
	f = &b->frames[b->depth & (FRAMES - 1)];
	f->sp = sp;
	f->query_desc = query_desc;
	f->exec_id = exec_id;
	b->depth++;
}

static __always_inline struct dbf_exec *stmt_exec_head(struct backend *b, u32 exec_id, u32 parent,
						       u32 flags)
{
	struct running *r = &b->run;
	struct dbf_exec *e = text_head(b);

	__builtin_memset(e, 0, sizeof(*e));
	e->exec_id = exec_id;
	e->parent_id = parent;
	e->op = r->op;
	e->flags = flags | r->flags;
	e->dest = r->dest;
	e->text.id = parent;
	return e;
}

/* An execution fact without text: user space has it. */
static __always_inline void stmt_exec_bare(struct backend *b, u32 exec_id, u32 parent, u32 flags)
{
	struct dbf_exec *e = stmt_exec_head(b, exec_id, parent, flags);

	e->text.ptr = b->run.ptr;
	emit_commit(b, DBF_FACT_EXEC, sizeof(struct dbf_fact) + sizeof(*e), 0, bpf_ktime_get_ns());
}

static __always_inline void stmt_name(struct backend *b, struct dbf_server *srv, struct dbf_exec *e)
{
	u64 portal = task_user_u64(b->base + srv->active_portal);
	u64 name = portal ? task_user_u64(portal + srv->portal_prep_name) : 0;

	if (name)
		bpf_probe_read_user_str(e->statement_name, sizeof(e->statement_name), (void *)name);
}

/* How the server read what runs: of a nested SELECT only its parse could tell, which may be long ago. */
static __always_inline u32 stmt_mode(struct backend *b, u32 top)
{
	return !top && b->run.op == DBF_OP_SELECT ? DBF_MODE_UNKNOWN : 0;
}

/* Judge the execution whose text is in b->judge.text. */
static __always_inline u32 stmt_judge_exec(struct backend *b, struct dbf_server *srv, u32 exec_id,
					   u32 top)
{
	struct dbf_config *cfg = config_get();

	if (!cfg || !cfg->enforce)
		return DBF_ACTION_ALLOW;
	b->judge.ptr = b->run.ptr;
	b->judge.gate = b->run.gate;
	b->judge.exec_id = exec_id;
	b->judge.mode = stmt_mode(b, top);
	b->judge.top = top;
	return verdict_judge(b, srv);
}

/* The client's own statement begins, or goes on, or is one more of the same text. */
GLOBAL_FN int stmt_run_top(struct backend *b, struct dbf_server *srv)
{
	struct dbf_config *cfg = config_get();
	struct dbf_exec *e;
	struct running *r;
	bool simple, known;
	u64 judged;
	u32 id;

	if (!b || !srv || !cfg)
		return 0;
	r = &b->run;
	simple = r->ptr == b->parse_ptr;
	known = !simple && b->execute_ptr;
	b->nested_parse_ptr = 0;
	stmt_parent(b, r->sp);
	if (r->again) { /* a portal goes on under its first id, which user space knows by its text
			 */
		stmt_push(b, r->sp, r->query_desc, b->top_id);
		stmt_exec_bare(b, b->top_id, 0, DBF_EXEC_TOP | DBF_EXEC_AGAIN);
		return 0;
	}
	stmt_end_folds(b);
	b->depth = 0;
	id = simple && b->parse_executed ? b->parse_executed
	     : known			 ? b->execute_id
					 : b->next_exec_id++;
	if (simple && !b->parse_executed)
		b->parse_executed = id;
	else if (simple)
		r->flags |= DBF_EXEC_SAME;
	b->top_id = id;
	stmt_push(b, r->sp, r->query_desc, id);
	if (!known && !(r->flags & DBF_EXEC_SAME))
		b->execs++;
	judged = known ? b->execute_ptr : r->ptr;
	b->execute_ptr = 0;
	if (simple || known) {
		stmt_exec_bare(b, id, 0, DBF_EXEC_TOP | (simple ? DBF_EXEC_SIMPLE : DBF_EXEC_SAME));
		if (!cfg->enforce || !verdict_again(b, srv, cfg, judged, r->gate, id) || simple)
			return 0;
	}
	e = stmt_exec_head(b, id, 0, DBF_EXEC_TOP | (known ? DBF_EXEC_SAME : 0));
	stmt_name(b, srv, e);
	text_fact(b, DBF_FACT_EXEC, sizeof(*e), r->ptr, DBF_TEXT_TOP, &b->judge.text);
	stmt_judge_exec(b, srv, id, 1);
	return 0;
}

static __always_inline struct fold *stmt_fold_by_ptr(struct backend *b, struct running *r,
						     u32 parent, u32 *index)
{
	for (u32 i = 0; i < FOLDS; i++) {
		struct fold *f = &b->folds[i];

		if (f->ptr == r->ptr && f->epoch == b->epoch && f->parent_id == parent &&
		    f->exec_id) {
			*index = i;
			return f;
		}
	}
	return NULL;
}

/* Index + 1 of the fold with the text in b->text_hash, or 0. */
GLOBAL_FN int stmt_fold_by_hash(struct backend *b, u32 parent, u32 len)
{
	if (!b)
		return 0;
	for (u32 i = 0; i < FOLDS; i++) {
		struct fold *f = &b->folds[i];

		if (f->exec_id && f->hash[0] == b->text_hash.words[0] && f->hash[1] == b->text_hash.words[1] &&
		    f->len == len && f->parent_id == parent)
			return i + 1;
	}
	return 0;
}

/* The fold whose execution @qd is: nobody else's any more when @take. */
static __always_inline struct fold *stmt_fold_of(struct backend *b, u64 qd, bool take)
{
	struct fold *found = NULL;

	for (u32 i = 0; i < FOLDS; i++) {
		struct fold *f = &b->folds[i];

		if (f->query_desc != qd || !f->exec_id)
			continue;
		found = f;
		if (take)
			f->query_desc = 0;
	}
	return found;
}

static __always_inline void stmt_count_fold(struct backend *b, struct fold *f, struct running *r)
{
	u64 now = bpf_ktime_get_ns();

	f->ptr = f->hash[0] | f->hash[1] ? r->ptr : 0; /* only a text that was read whole */
	f->source = f->ptr == r->source ? r->source : 0;
	f->epoch = b->epoch;
	if (!r->again) {
		if (!f->executions)
			f->first_ts = now;
		f->executions++;
	}
	f->last_ts = now;
	f->query_desc = r->query_desc;
	stmt_push(b, r->sp, r->query_desc, f->exec_id);
}

/*
 * A cursor goes on: the rows of its run before are final, and it is no execution of its own. True when
 * nothing more is to be done; it is judged again when what was decided is not for these policies.
 */
static __always_inline bool stmt_cursor_again(struct backend *b, struct dbf_server *srv,
					      struct dbf_config *cfg)
{
	struct running *r = &b->run;
	struct fold *f = stmt_fold_of(b, r->query_desc, !r->again);

	if (!f || !r->again)
		return false;
	f->rows += stmt_rows(srv, r->estate);
	if (cfg->enforce && f->policy_gen != cfg->policy_gen)
		return false;
	f->last_ts = bpf_ktime_get_ns();
	stmt_push(b, r->sp, r->query_desc, f->exec_id);
	return true;
}

/* A fold of its own for the text that was just read, in the place of the oldest one. */
static __always_inline struct fold *stmt_begin_fold(struct backend *b, struct dbf_config *cfg, u32 id,
						    u32 parent)
{
	u32 index = b->fold_next++ & (FOLDS - 1);
	struct fold *f = &b->folds[index];
	struct text *t = &b->judge.text;

	b->fold_last = index;
	stmt_report_fold(b, f);
	b->folded = 1;
	f->ptr = t->whole ? b->run.ptr : 0;
	f->hash[0] = b->text_hash.words[0];
	f->hash[1] = b->text_hash.words[1];
	f->len = t->len;
	f->exec_id = id;
	f->parent_id = parent;
	f->epoch = b->epoch;
	f->policy_gen = cfg->policy_gen;
	f->executions = 0;
	f->rows = 0;
	return f;
}

/* Something runs inside the client's statement. */
GLOBAL_FN int stmt_run_nested(struct backend *b, struct dbf_server *srv)
{
	struct dbf_config *cfg = config_get();
	u32 parent, index = 0, id, saved;
	struct running *r;
	struct text *t;
	struct fold *f;
	u64 portal;

	if (!b || !srv || !cfg)
		return 0;
	r = &b->run;
	t = &b->judge.text;
	parent = stmt_parent(b, r->sp);
	b->nested_parse_ptr = 0;
	if (r->query_desc && b->folded && stmt_cursor_again(b, srv, cfg))
		return 0;
	/* A portal's copy of its text may stand where the last portal's stood. */
	portal = task_user_u64(b->base + srv->active_portal);
	f = portal && task_user_u64(portal + srv->portal_source) == r->ptr ?
		    NULL : stmt_fold_by_ptr(b, r, parent, &b->fold_last);
	if (f && (!cfg->enforce || f->policy_gen == cfg->policy_gen)) {
		stmt_count_fold(b, f, r);
		return 0;
	}
	id = b->next_exec_id;
	stmt_exec_head(b, id, parent, 0)->text.mode = stmt_mode(b, 0);
	saved = b->used;
	text_fact(b, DBF_FACT_EXEC, sizeof(struct dbf_exec), r->ptr, 0, t);
	b->text_hash = (struct hash128){};
	if (t->whole) {
		siphash_text(text_piece(b, t), t->len, &b->text_hash);
		index = stmt_fold_by_hash(b, parent, t->len);
		if (index) {
			f = &b->folds[(index - 1) & (FOLDS - 1)];
			b->fold_last = index - 1;
			if (!cfg->enforce || f->policy_gen == cfg->policy_gen) {
				b->used = saved; /* the text is known: take the fact back */
				stmt_count_fold(b, f, r);
				return 0;
			}
		}
	}
	b->next_exec_id++;
	f = stmt_begin_fold(b, cfg, id, parent);
	stmt_count_fold(b, f, r);
	/* Repeats of what was not plainly allowed are judged again. */
	if (stmt_judge_exec(b, srv, id, 0) != DBF_ACTION_ALLOW)
		f->policy_gen = 0;
	return 0;
}

/* Where in its source the statement stands: PlannedStmt's stmt_location and stmt_len. */
static __always_inline void stmt_locate(struct backend *b, struct dbf_server *srv, u64 plan)
{
	s32 at = (s32)task_user_u32(plan + srv->ps_location);
	s32 len = (s32)task_user_u32(plan + srv->ps_len);

	if (at > 0)
		b->run.ptr += at;
	if (len > 0)
		b->run.len = len;
}

/* Nothing stands behind the statement in its text: the server would plan that before we see it begin. */
static __always_inline bool stmt_is_last(struct backend *b, struct dbf_server *srv, u64 plan, u64 text)
{
	s32 at = (s32)task_user_u32(plan + srv->ps_location);
	s32 len = (s32)task_user_u32(plan + srv->ps_len);
	char *rest = b->compare[0];
	long n;

	if (!len)
		return true;
	n = bpf_probe_read_user_str(rest, REST_BYTES, (void *)(text + at + len));
	if (n <= 0 || n == REST_BYTES)
		return false;
	for (u32 i = 0; i < REST_BYTES; i++) {
		if (!rest[i])
			return true;
		if (rest[i] != ';' && rest[i] != ' ' && (rest[i] < '\t' || rest[i] > '\r'))
			return false;
	}
	return false;
}

/*
 * CREATE FUNCTION merely checks the text, which is judged when it runs. With no portal active a commit's
 * triggers run; with another text the next Bind plans.
 */
static __always_inline bool stmt_only_checks(struct backend *b, struct dbf_server *srv)
{
	return b->ddl_text && b->ddl_text == stmt_top_text(b, srv) &&
	       task_user_u64(b->base + srv->active_portal);
}

/*
 * Bulk work: one text again and again, each a whole source that was neither parsed nor is a portal's.
 * All that is left of it is to count.
 */
static __always_inline bool stmt_repeats(struct backend *b, struct dbf_server *srv,
					 const struct dbf_query_desc *q)
{
	struct fold *f = &b->folds[b->fold_last & (FOLDS - 1)];
	struct dbf_config *cfg = config_get();
	struct running *r = &b->run;
	u64 portal;

	if (!cfg || !q->source || f->source != q->source || f->epoch != b->epoch ||
	    q->already_executed || !f->exec_id || q->source == stmt_top_text(b, srv) ||
	    (cfg->enforce && f->policy_gen != cfg->policy_gen) ||
	    f->parent_id != stmt_parent(b, r->sp))
		return false;
	portal = task_user_u64(b->base + srv->active_portal);
	if (portal && task_user_u64(portal + srv->portal_source) == q->source)
		return false;
	b->nested_parse_ptr = 0;
	r->ptr = r->source = q->source;
	stmt_fold_of(b, r->query_desc, true);
	stmt_count_fold(b, f, r);
	return true;
}

static __always_inline void stmt_run(struct backend *b, struct dbf_server *srv, bool top)
{
	if (top)
		stmt_run_top(b, srv);
	else
		stmt_run_nested(b, srv);
}

/*
 * raw_parser(const char *str, RawParseMode mode): every text, before it means anything. The
 * client's own is reported at once; one inside only when it is judged, or fails.
 */
SEC("uprobe")
int BPF_KPROBE(raw_parser, const char *str, u32 mode)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	struct dbf_config *cfg = config_get();
	struct dbf_text *head;
	struct text t = {};
	u32 saved;
	bool top;

	if (!b || !hold_settle(b) || !cfg)
		return 0;
	mode = srv->major > 13 ? mode & 0xffff : 0;
	top = (u64)str == stmt_top_text(b, srv);
	if (!top) {
		b->epoch++;
		b->nested_parse_ptr = (u64)str;
		if (!cfg->enforce || mode == 1)
			return 0;
	} else {
		b->parse_ptr = (u64)str;
		b->parse_executed = 0;
		b->ddl_text = 0;
	}
	head = text_head(b);
	saved = b->used;
	head->mode = mode;
	head->id = top ? 0 : stmt_parent(b, PT_REGS_SP(ctx));
	text_fact(b, DBF_FACT_PARSE, sizeof(*head), (u64)str, top ? DBF_TEXT_TOP : 0, &t);
	if (cfg->enforce) {
		u32 before = b->used;

		b->judge = (struct judging){
			.ptr = (u64)str, .gate = DBF_GATE_PARSE, .mode = mode, .top = top, .text = t
		};
		if (((!top && stmt_only_checks(b, srv)) ||
		     verdict_judge(b, srv) == DBF_ACTION_ALLOW) &&
		    !top && b->used == before && t.whole)
			b->used = saved;
	}
	return 0;
}

/*
 * CreateDestReceiver(CommandDest dest): in exec_execute_message it stands before the server's check
 * for interrupts, so it is the gate for what was prepared before. Attached only while sessions with
 * such statements may exist.
 */
SEC("uprobe")
int BPF_KPROBE(create_dest_receiver, u32 dest)
{
	struct dbf_config *cfg;
	struct dbf_server *srv;
	struct dbf_exec *e;
	struct backend *b;

	cfg = config_get();
	if (!cfg || !cfg->enforce || dest > 16)
		return 0;
	b = task_backend(ctx, &srv, false);
	if (!b || dest != srv->dest_remote_execute || !hold_settle(b))
		return 0;
	b->run = (struct running){ .op = DBF_OP_EXECUTE, .gate = DBF_GATE_EXECUTE, .dest = dest };
	b->run.ptr = stmt_top_text(b, srv);
	if (!b->run.ptr)
		return 0;
	stmt_end_folds(b);
	b->depth = 0;
	b->execute_ptr = b->run.ptr;
	b->ddl_text = 0;
	b->execute_id = b->next_exec_id++;
	b->top_id = b->execute_id;
	b->execs++;
	e = stmt_exec_head(b, b->execute_id, 0, DBF_EXEC_TOP);
	text_fact(b, DBF_FACT_EXEC, sizeof(*e), b->run.ptr, DBF_TEXT_TOP, &b->judge.text);
	stmt_judge_exec(b, srv, b->execute_id, 1);
	return 0;
}

/* ExecutorRun(QueryDesc *queryDesc, …): rows are about to be produced or changed. */
SEC("uprobe")
int BPF_KPROBE(executor_run, u64 qd)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	struct dbf_query_desc q;
	struct running *r;
	bool top;
	u64 plan;

	if (!b || !hold_settle(b))
		return 0;
	r = &b->run;
	*r = (struct running){ .gate = DBF_GATE_EXECUTOR, .query_desc = qd, .sp = PT_REGS_SP(ctx) };
	/* One read for all members: the loader refuses a server whose QueryDesc is laid out
	 * otherwise. */
	if (bpf_probe_read_user(&q, sizeof(q), (void *)qd)) {
		count_add(DBF_COUNT_STATE_FAULTS, 1);
		__builtin_memset(&q, 0, sizeof(q)); /* without a text it is undecided */
	}
	if (b->folded && stmt_repeats(b, srv, &q))
		return 0;
	r->ptr = q.source;
	r->op = q.operation;
	r->again = q.already_executed;
	r->estate = q.estate;
	r->dest = q.dest ? task_user_u32(q.dest + srv->dest_kind) : 0;
	plan = q.plannedstmt;
	if (plan && task_user_u8(plan + srv->ps_modifying_cte))
		r->flags |= DBF_EXEC_MODIFYING_CTE;
	if (srv->major < 15 && r->op == 5)
		r->op = DBF_OP_UTILITY;
	else if (srv->major >= 15 && r->op >= 5)
		r->op = r->op == 5 ? DBF_OP_MERGE : DBF_OP_UTILITY;
	top = stmt_is_top(b, srv, r->ptr, r->sp, r->dest == srv->dest_remote_execute);
	if (!top && plan && r->ptr) /* a function's source may hold several statements */
		stmt_locate(b, srv, plan);
	if (!top && r->ptr == q.source && !r->len)
		r->source = q.source;
	if (top)
		b->ddl_text = 0;
	stmt_run(b, srv, top);
	return 0;
}

/* ExecutorEnd(QueryDesc *queryDesc): the rows of what ran inside are final. */
SEC("uprobe")
int BPF_KPROBE(executor_end, u64 qd)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	struct fold *f;

	if (!b || !hold_settle(b))
		return 0;
	for (u32 i = 0; i < FRAMES; i++) {
		u32 top = b->depth;

		if (top <= i)
			break;
		if (b->frames[(top - 1 - i) & (FRAMES - 1)].query_desc == qd) {
			b->depth = top - 1 - i;
			break;
		}
	}
	f = b->folded ? stmt_fold_of(b, qd, true) : NULL;
	if (f) {
		f->rows += stmt_rows(srv, task_user_u64(qd + srv->qd_estate));
		f->last_ts = bpf_ktime_get_ns();
	}
	return 0;
}

/* ProcessUtility(PlannedStmt *pstmt, const char *queryString, …): everything that is not SELECT,
 * INSERT, UPDATE, DELETE, MERGE. */
SEC("uprobe")
int BPF_KPROBE(process_utility, u64 pstmt, u64 query)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	struct running *r;
	u64 stmt, third, fourth;
	u32 context;
	bool top;

	if (!b || !hold_settle(b))
		return 0;
	third = PT_REGS_PARM3(ctx);
	fourth = PT_REGS_PARM4(ctx);
	/* Both are loaded first: a load at a computed offset from the context is refused. */
	bounded_pin(third);
	bounded_pin(fourth);
	context = srv->utility_context_arg == 4 ? fourth : third;
	if (context == 3) /* PROCESS_UTILITY_SUBCOMMAND: a part of one that was seen */
		return 0;
	r = &b->run;
	*r = (struct running){
		.gate = DBF_GATE_UTILITY, .op = DBF_OP_UTILITY, .ptr = query, .sp = PT_REGS_SP(ctx)
	};
	top = stmt_is_top(b, srv, query, PT_REGS_SP(ctx), false);
	stmt = task_user_u64(pstmt + srv->ps_utility);
	if (top)
		b->ddl_text = srv->create_function_tag && stmt &&
			      task_user_u32(stmt) == srv->create_function_tag &&
			      stmt_is_last(b, srv, pstmt, query) ? stmt_top_text(b, srv) : 0;
	else if (query)
		stmt_locate(b, srv, pstmt);
	stmt_run(b, srv, top);
	return 0;
}
