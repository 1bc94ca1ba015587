/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Statements on the wire, judged at the client's socket before they leave it, or, when the client is elsewhere, at the
 * server's before they reach it. The framing stops behind each message that makes the server run something, and this
 * says whether it may pass:
 *
 *   Query, Parse      the text: screen, verdicts that are known for its bytes, else it is held and user space asked
 *   Bind, Execute     of what was prepared under other policies: held, until user space vouches for the connection
 *   FunctionCall      held: it has no text
 *
 * A text that is longer than a piece, or came in several packets, cannot be screened nor hashed here: it is held at
 * the packet that ends it, where user space has all of it. What is denied is made a message that the server refuses
 * with an error (see wire_spoil()); where no byte that could do so is in this packet, the connection is ended instead.
 */

#define WIRE_STOPS 32768 /* messages judged in one packet: more than the largest has */
#define WIRE_NAME_MAX 63
#define WIRE_COUNT_MAX 65535U /* of what a message counts: with that many it would be longer */
#define WIRE_NUL_STEP 8
/*
 * Of a client elsewhere. After 200 ms its TCP sends what is held again, and from then on nothing behind it: it would not be
 * seen any more that the client gave up.
 */
#define WIRE_HOLD_REMOTE_NS 150000000ULL

struct { /* which policies the prepared statements of a connection were judged under */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* connection */
	__type(value, u32);
} wire_vouches SEC(".maps");

struct wire_scratch {
	struct gate_message message;
	struct gate_packet packet;
};

static __always_inline struct wire_scratch *wire_scratch(struct frame_rec *rec)
{
	_Static_assert(sizeof(struct wire_scratch) <= sizeof(rec->scratch), "there is no room for what is judged");
	return (struct wire_scratch *)rec->scratch;
}

struct wire_nul {
	const struct piece *text;
	u32 len;
	u32 at;
};

static long wire_nul_step(u32 i, struct wire_nul *n)
{
	u32 at = i * WIRE_NUL_STEP;

	for (u32 k = 0; k < WIRE_NUL_STEP; k++) {
		if (at + k >= n->len)
			return 1;
		if (!n->text->bytes[bounded_max(at + k, DBF_TEXT_CHUNK)]) {
			n->at = at + k;
			return 1;
		}
	}
	return 0;
}

/* Where the first NUL of @len bytes is; @len when there is none. */
GLOBAL_FN int wire_find_nul(const struct piece *text, u32 len)
{
	struct wire_nul n = { .text = text, .len = len, .at = len };

	if (text)
		bpf_loop(DBF_TEXT_CHUNK / WIRE_NUL_STEP, wire_nul_step, &n, 0);
	return n.at;
}

static __always_inline struct piece *wire_piece(struct frame_rec *rec, u32 off)
{
	return (struct piece *)&rec->data[bounded_max(off, FRAME_DATA + WIRE_NAME_MAX + 1)];
}

/* The statement in a message whose body is there whole: offset and length in rec->judged. */
static __always_inline bool wire_find_text(struct frame_stream *s, struct frame_rec *rec)
{
	u32 name = 0;

	if (!rec->whole)
		return false;
	if (s->type == 'P') {
		name = wire_find_nul(wire_piece(rec, rec->whole), WIRE_NAME_MAX + 1) + 1;
		if (name > WIRE_NAME_MAX + 1 || name > s->length)
			return false;
	}
	rec->judged.off = rec->whole + name;
	rec->judged.len = wire_find_nul(wire_piece(rec, rec->judged.off), s->length - name);
	return true;
}

static __always_inline u32 wire_cached(struct wire_sock *ws, struct frame_rec *rec, struct dbf_config *cfg)
{
	struct dbf_session_key sk = wire_sender_key(ws);
	u32 *class = bpf_map_lookup_elem(&classes, &sk);
	struct dbf_verdict_key key = { .len = rec->judged.len, .policy_gen = cfg->policy_gen, .mode = DBF_MODE_WIRE };
	struct dbf_verdict_value *value;

	rec->judged.identity_class = class && !rec->other_sender ? *class : 0;
	if (!rec->judged.identity_class)
		return DBF_ACTION_NONE;
	key.identity_class = rec->judged.identity_class;
	key.hash[0] = rec->judged.hash.words[0];
	key.hash[1] = rec->judged.hash.words[1];
	value = bpf_map_lookup_elem(&verdicts, &key);
	if (!value)
		return DBF_ACTION_NONE;
	rec->judged.name_len = value->name_len;
	__builtin_memcpy(rec->judged.name, value->name, sizeof(value->name));
	return value->action;
}

/* Were the statements that this connection prepared earlier judged under the policies in force? */
static __always_inline bool wire_vouched(struct wire_sock *ws, struct dbf_config *cfg)
{
	u64 conn = ws->conn;
	u32 *gen;

	if (ws->vouched != cfg->policy_gen) {
		gen = bpf_map_lookup_elem(&wire_vouches, &conn);
		if (gen)
			ws->vouched = *gen;
	}
	return ws->vouched == cfg->policy_gen;
}

/* enum dbf_action for the message at which the framing stopped; NONE: user space must be asked. */
GLOBAL_FN int wire_decide(struct wire_sock *ws, struct frame_rec *rec)
{
	struct dbf_config *cfg = config_get();
	u32 found, action;

	if (!ws || !rec || !cfg)
		return DBF_ACTION_ALLOW;
	rec->judged = (struct frame_judged){ .fail_closed = cfg->fail_closed };
	if (rec->stop == 'B' || rec->stop == 'E')
		return wire_vouched(ws, cfg) ? DBF_ACTION_ALLOW : DBF_ACTION_NONE;
	if (rec->stop == 'F' || !wire_find_text(wire_requests(ws), rec)) {
		count_add(DBF_COUNT_CANDIDATES, 1);
		return DBF_ACTION_NONE;
	}
	if (!rec->judged.len)
		return DBF_ACTION_ALLOW;
	found = screen_text(wire_piece(rec, rec->judged.off), rec->judged.len, cfg->screen);
	if (!found) {
		count_add(DBF_COUNT_SCREENED, 1);
		return DBF_ACTION_ALLOW;
	}
	if (found == SCREEN_OPEN)
		rec->judged.fail_closed = 0;
	siphash_text(wire_piece(rec, rec->judged.off), rec->judged.len, &rec->judged.hash);
	rec->judged.hashed = 1;
	count_add(DBF_COUNT_CANDIDATES, 1);
	action = wire_cached(ws, rec, cfg);
	if (action == DBF_ACTION_ALLOW)
		count_add(DBF_COUNT_CACHE_ALLOW, 1);
	else if (action != DBF_ACTION_NONE)
		count_add(DBF_COUNT_CACHE_DENY, 1);
	return action;
}

/*
 * What is overwritten to make the server refuse the message, none of it outside of this packet:
 *
 *   Query, Parse   the beginning of the statement, by a token that is no SQL
 *   Query          when that has gone: the NUL at its end, which must be there
 *   Parse          when that has gone: the number of parameter types becomes one that the rest has no room for
 *   Bind           the number of parameter formats: the same
 *   Execute        the NUL behind the portal's name: the row limit behind is cut short
 *   FunctionCall   the function: one that does not exist
 *
 * False when the bytes are not in this packet.
 */
static __always_inline bool wire_spoil(struct frame_stream *s, struct frame_rec *rec, struct gate_message *m,
				       const struct gate_packet *p)
{
	u32 body = s->start + 5, names;

	m->deny = DBF_WIRE_DENY_FILL;
	m->fill = 0x7f;
	if (s->type == 'Q' || s->type == 'P') {
		if (rec->judged.len) {
			m->deny = DBF_WIRE_DENY_TOKEN;
			m->patch = body + (rec->judged.off - rec->whole);
			m->patch_len = bounded_max(rec->judged.len, DBF_WIRE_PATCH_BYTES);
		} else if (s->type == 'Q') {
			m->patch = m->end - 1;
			m->patch_len = 1;
		} else {
			m->patch = s->text_end + 1;
			m->patch_len = 2;
			m->fill = 0xff;
			if (!s->text_end || m->end - m->patch < 2 || m->end - m->patch > WIRE_COUNT_MAX * 4)
				return false;
		}
	} else if (s->type == 'B') {
		names = s->kept;
		if (s->strings || names + 2 > s->length || s->length - names > WIRE_COUNT_MAX * 2)
			return false;
		m->patch = body + names;
		m->patch_len = 2;
		m->fill = 0xff;
	} else if (s->type == 'E') {
		m->patch = m->end - 5;
		m->patch_len = 1;
	} else {
		m->patch = body;
		m->patch_len = 4;
	}
	return (s32)(m->patch - p->seq) >= 0 && (s32)(m->patch + m->patch_len - p->seq - p->len) <= 0;
}

/* An item's place for a verdict, to be filled before frame_item_end(). */
static __always_inline struct dbf_verdict *wire_verdict_item(struct wire_sock *ws, struct frame_rec *rec)
{
	struct dbf_wire_item *item = frame_item(wire_requests(ws), rec);

	*item = (struct dbf_wire_item){ .type = DBF_WIRE_VERDICT, .captured = sizeof(struct dbf_verdict) };
	return (struct dbf_verdict *)(item + 1);
}

/* Told to user space right behind the message itself. */
static __always_inline void wire_tell_verdict(struct wire_sock *ws, struct frame_rec *rec, const struct gate_message *m,
					      struct dbf_config *cfg, u32 how, u32 action, u32 why)
{
	struct dbf_verdict *v = wire_verdict_item(ws, rec);

	*v = (struct dbf_verdict){
		.ptr = m->start,
		.gate = DBF_GATE_WIRE,
		.how = how,
		.action = action,
		.why = why,
		.slot = m->slot,
		.slot_seq = m->slot_seq,
		.hash = { rec->judged.hash.words[0], rec->judged.hash.words[1] },
		.deadline_ns = m->deadline_ns,
		.text_len = rec->judged.hashed ? rec->judged.len : 0,
		.policy_gen = cfg->policy_gen,
	};
	frame_item_end(rec, sizeof(*v));
}

/* The message at which the framing stopped must not pass, or not yet. enum gate_answer for its packet. */
GLOBAL_FN int wire_stop(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct gate_packet *p, u32 action)
{
	struct dbf_config *cfg = config_get();
	struct frame_stream *s;
	struct gate_message *m;
	u32 why = 0, how;
	int answer;

	if (!ws || !rec || !p || !cfg)
		return GATE_PASS;
	if (p->received) /* it must be held to be handed back */
		action = DBF_ACTION_NONE;
	s = wire_requests(ws);
	m = &wire_scratch(rec)->message;
	__builtin_memset(m, 0, sizeof(*m));
	m->conn = ws->conn;
	m->start = s->start;
	m->end = s->start + 5 + s->length;
	m->from = m->start - p->seq < p->len ? m->start : p->seq;
	if (!p->received)
		m->pid = rec->head.pid ? rec->head.pid : ws->pid; /* a timer or an acknowledgement sends: whoever did last */
	m->name_len = rec->judged.name_len;
	__builtin_memcpy(m->name, rec->judged.name, sizeof(m->name));
	m->identity_class = rec->judged.identity_class;
	m->fail_closed = rec->judged.fail_closed;
	m->deadline_ns = bpf_ktime_get_ns() + (p->received && cfg->hold_ns > WIRE_HOLD_REMOTE_NS ? WIRE_HOLD_REMOTE_NS : cfg->hold_ns);
	m->state = action == DBF_ACTION_KILL ? DBF_WIRE_KILL : action == DBF_ACTION_DENY ? DBF_WIRE_REWRITE : DBF_WIRE_HOLD;
	how = action == DBF_ACTION_NONE ? DBF_HOW_HOLD : DBF_HOW_CACHE;
	if (action == DBF_ACTION_NONE)
		why = verdict_silence(cfg);
	if (why) {
		how = DBF_HOW_FAIL;
		action = m->fail_closed ? DBF_ACTION_DENY : DBF_ACTION_ALLOW;
		count_add(m->fail_closed ? DBF_COUNT_FAIL_CLOSED : DBF_COUNT_FAIL_OPEN, 1);
		if (!m->fail_closed) {
			wire_tell_verdict(ws, rec, m, cfg, how, action, why);
			return GATE_PASS;
		}
		m->state = DBF_WIRE_REWRITE;
	}
	if (!wire_spoil(s, rec, m, p))
		m->patch_len = 0; /* then a denial ends the connection */
	if (!m->patch_len && m->state == DBF_WIRE_REWRITE)
		m->state = DBF_WIRE_KILL;
	answer = gate_begin(skb, p, m);
	ws->gated = 1;
	ws->dead |= answer == GATE_DEAD;
	ws->cookie = p->cookie;
	if (how == DBF_HOW_HOLD && answer == GATE_REFUSE) {
		ws->held_slot = m->slot;
		ws->held_seq = m->slot_seq;
		ws->held = 1;
	}
	wire_tell_verdict(ws, rec, m, cfg, how, action, why);
	return answer;
}

/* How a hold of this socket ended: told once, before the packet that it let go; or that the socket is closed over it. */
static __always_inline void wire_tell_end(struct wire_sock *ws, bool closed)
{
	struct dbf_wire_hold *slot = gate_slot(ws->held_slot);
	struct frame_rec *rec;
	struct dbf_verdict *v;
	u64 state, by;
	u32 st;

	if (!slot)
		return;
	state = *(volatile u64 *)&slot->state;
	st = DBF_STATE_OF(state);
	by = bounded_max(DBF_WIRE_BY(state), DBF_BY_MAX - 1);
	if (DBF_STATE_SEQ(state) != ws->held_seq || (!closed && (st == DBF_WIRE_HOLD || st == DBF_WIRE_CLAIMED)))
		return;
	rec = wire_rec_take();
	if (!rec)
		return;
	wire_rec_begin(rec, ws);
	v = wire_verdict_item(ws, rec);
	*v = (struct dbf_verdict){
		.ptr = slot->start,
		.how = DBF_HOW_HOLD,
		.action = st == DBF_WIRE_ALLOW ? DBF_ACTION_ALLOW : st == DBF_WIRE_REWRITE ? DBF_ACTION_DENY
				: st == DBF_WIRE_KILL ? DBF_ACTION_KILL : DBF_ACTION_NONE,
		.why = by,
		.slot = ws->held_slot,
		.slot_seq = ws->held_seq,
		.deadline_ns = slot->decided_ns[by],
	};
	frame_item_end(rec, sizeof(*v));
	frame_send(wire_requests(ws), rec, EMIT_RESERVE);
	rec->busy = 0;
	ws->held = 0;
}

/* @done: up to here the other end has what is sent, or we what comes. */
static __always_inline void wire_gate_packet(struct __sk_buff *skb, struct gate_packet *g, const struct segment *p, u32 done,
					     bool received)
{
	*g = (struct gate_packet){
		.cookie = bpf_get_socket_cookie(skb),
		.ifindex = skb->ifindex,
		.seq = p->seq,
		.len = p->len,
		.off = p->data,
		.done = done,
		.fin = p->flags & TCP_FIN,
		.rst = p->flags & TCP_RST ? 1 : 0,
		.received = received,
	};
}

/* A packet that a socket sends of which something was stopped. enum gate_answer. */
GLOBAL_FN int wire_ask_gate(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p)
{
	struct bpf_sock *sk = skb->sk;
	struct gate_packet g = {};
	struct bpf_tcp_sock *tp;
	int answer;

	if (!ws || !p || !sk)
		return GATE_REFUSE;
	tp = bpf_tcp_sock(sk);
	if (tp && ws->end == DBF_WIRE_SERVER) { /* it may have taken what was stopped at its ingress */
		g.cookie = ws->cookie;
		g.done = tp->rcv_nxt;
		g.received = 1;
		gate_packet(skb, &g);
		return GATE_PASS;
	}
	if (!tp || p->kind != SEGMENT_TCP)
		return GATE_REFUSE;
	wire_gate_packet(skb, &g, p, tp->snd_una, false);
	g.netns = gate_netns(skb);
	if (ws->held)
		wire_tell_end(ws, false);
	answer = gate_packet(skb, &g);
	if (answer == GATE_PASS && gate_is_open(g.cookie))
		ws->gated = 0;
	return answer;
}

/* The framing stopped behind a message: may it pass? enum gate_answer for its packet. */
static __always_inline int wire_judge(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec)
{
	u32 action = wire_decide(ws, rec);

	return action == DBF_ACTION_ALLOW ? GATE_PASS : wire_stop(skb, ws, rec, &wire_scratch(rec)->packet, action);
}

struct wire_passage { /* a packet's, message by message */
	struct __sk_buff *skb;
	struct wire_sock *ws;
	struct frame_rec *rec;
	u32 at;
	u32 end;
	u32 answer;
};

static long wire_passage_step(u32 i, struct wire_passage *w)
{
	w->at = frame_feed(w->skb, wire_requests(w->ws), w->rec, w->at, w->end);
	if (!w->rec->stop)
		return 1;
	w->answer = wire_judge(w->skb, w->ws, w->rec);
	return w->answer != GATE_PASS || w->at >= w->end;
}

#define WIRE_UNREADABLE "unreadable"

/* Bytes that are no message, where nothing may pass that is not known: the connection ends, as the server would end it. */
static __always_inline int wire_end(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct gate_packet *p)
{
	struct gate_message *m = &wire_scratch(rec)->message;
	int answer;

	__builtin_memset(m, 0, sizeof(*m));
	m->conn = ws->conn;
	m->start = m->from = p->seq;
	m->end = p->seq + p->len;
	m->state = DBF_WIRE_KILL;
	count_add(DBF_COUNT_FAIL_CLOSED, 1);
	m->name_len = sizeof(WIRE_UNREADABLE) - 1;
	__builtin_memcpy(m->name, WIRE_UNREADABLE, sizeof(WIRE_UNREADABLE));
	ws->gated = 1;
	ws->cookie = p->cookie;
	answer = gate_begin(skb, p, m);
	ws->dead |= answer == GATE_DEAD;
	return answer;
}

/* A client's bytes that cannot be followed any more. enum gate_answer. */
static __always_inline int wire_lost(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec)
{
	struct dbf_config *cfg = config_get();

	/* Whatever begins like this, no server takes for its protocol; but for its old one, which had no such start-up message. */
	ws->alien |= rec->began == FRAME_START && wire_requests(ws)->head[5] != FRAME_PROTOCOL_OLD;
	if (!cfg || !cfg->fail_closed || ws->alien)
		return GATE_PASS;
	return wire_end(skb, ws, rec, &wire_scratch(rec)->packet);
}

/* Follow a client's packet, which stands in wire_scratch(), and judge what is in it from @at on. enum gate_answer. */
GLOBAL_FN int wire_pass(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct segment *p, u32 at)
{
	struct wire_passage w = { .skb = skb, .ws = ws, .rec = rec, .at = at };
	struct frame_stream *s;

	if (!ws || !rec || !p)
		return GATE_PASS;
	s = wire_requests(ws);
	w.end = p->data + p->len;
	rec->judging = 1;
	rec->began = s->phase;
	if (p->flags & TCP_URG && s->phase == FRAME_LOST) {
		frame_pass_over(s, w.end - w.at);
		w.at = w.end;
	} else {
		bpf_loop(WIRE_STOPS, wire_passage_step, &w, 0);
	}
	rec->judging = 0;
	if (w.answer != GATE_PASS || s->phase == FRAME_OPAQUE)
		return w.answer;
	if (s->phase == FRAME_LOST)
		return wire_lost(skb, ws, rec);
	return w.at < w.end ? GATE_REFUSE : GATE_PASS;
}
