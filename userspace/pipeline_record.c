// SPDX-License-Identifier: Apache-2.0
#include "pipeline_record.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "audit/text.h"
#include "core/buf.h"
#include "core/clock.h"
#include "dbfence/audit.pb-c.h"

#define FOREIGN_BYTES 4096

#define R(name) Dbfence__Audit__V1__##name
#define INIT(name) DBFENCE__AUDIT__V1__##name##__INIT

struct record_writer {
	const char *node;
	uint64_t wall_minus_mono;
	R(Record) rec;
	R(Client) client;
	R(Server) server;
	R(Transaction) transaction;
	R(Session) session;
	R(Gap) gap;
	char xact_id[80];
	char client_seen_as[64], server_seen_as[64];
	char foreign[FOREIGN_BYTES]; /* strings that had to be made UTF-8 */
	size_t foreign_len;
	const struct record_common *common;
	struct buf out;
};

const char *record_transport_name(enum dbf_transport transport)
{
	static const char *const names[DBF_TRANSPORT_MAX] = { NULL, "tcp", "tls", "unix" };

	return transport < DBF_TRANSPORT_MAX ? names[transport] : NULL;
}

void record_address_text(const uint8_t *ip, char *text, size_t cap)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t none[16];

	text[0] = '\0';
	if (!memcmp(ip, none, sizeof(none)))
		return;
	if (!memcmp(ip, mapped, sizeof(mapped)))
		inet_ntop(AF_INET, ip + 12, text, (socklen_t)cap);
	else
		inet_ntop(AF_INET6, ip, text, (socklen_t)cap);
}

struct record_writer *record_writer_new(const char *node)
{
	struct record_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->node = node;
	buf_init(&w->out, LIMIT_RECORD_BYTES);
	return w;
}

void record_writer_free(struct record_writer *w)
{
	if (!w)
		return;
	buf_fini(&w->out);
	free(w);
}

/* protobuf-c has no const; packing does not write. */
static char *str(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

/* A name or message from elsewhere: as it is when it is UTF-8, else a copy that is. */
static char *foreign(struct record_writer *w, const char *s)
{
	size_t left = sizeof(w->foreign) - w->foreign_len;
	struct buf clean;
	char *to = str("");

	if (!s || text_is_utf8(s, strlen(s)))
		return str(s);
	buf_init(&clean, left - 1);
	text_put_utf8(&clean, s, strlen(s));
	if (!buf_err(&clean)) {
		to = w->foreign + w->foreign_len;
		memcpy(to, clean.data, clean.len + 1);
		w->foreign_len += clean.len + 1;
	}
	buf_fini(&clean);
	return to;
}

static void set_times(struct record_writer *w, uint64_t start_ns, uint64_t end_ns)
{
	R(Record) *r = &w->rec;

	r->mono_ns = start_ns;
	r->end_mono_ns = end_ns;
	r->time_ns = (int64_t)(start_ns + w->wall_minus_mono);
	r->end_time_ns = (int64_t)(end_ns + w->wall_minus_mono);
	r->duration_us = end_ns > start_ns ? (end_ns - start_ns) / NS_PER_US : 0;
}

static void set_client(struct record_writer *w, const struct conn_session *s,
		       const struct identity *who)
{
	R(Client) *c = &w->client;

	*c = (R(Client))INIT(CLIENT);
	c->pid = who->pid;
	c->exe = foreign(w, who->exe);
	c->comm = foreign(w, who->comm);
	c->uid = who->uid;
	c->known = who->uid_known;
	c->cgroup = foreign(w, who->cgroup);
	c->address = str(who->client_address);
	c->port = who->client_port;
	c->assurance = str(who->uid_known ? "kernel" : "handshake");
	c->start_time = s->who.start_ticks;
	if (s->client_seen_as.differs) {
		record_address_text(s->client_seen_as.addr, w->client_seen_as, sizeof(w->client_seen_as));
		c->seen_as_address = w->client_seen_as;
		c->seen_as_port = s->client_seen_as.port;
	}
	w->rec.client = c;
}

static void set_server(struct record_writer *w, const struct conn_session *s,
		       const struct identity *who)
{
	R(Server) *v = &w->server;

	*v = (R(Server))INIT(SERVER);
	v->pid = s->server_pid;
	v->postmaster_pid = s->postmaster;
	if (s->info.transport == DBF_TRANSPORT_UNIX)
		v->socket_path = foreign(w, who->server_address);
	else
		v->address = str(who->server_address);
	v->port = who->server_port;
	if (s->server_seen_as.differs) {
		record_address_text(s->server_seen_as.addr, w->server_seen_as, sizeof(w->server_seen_as));
		v->seen_as_address = w->server_seen_as;
		v->seen_as_port = s->server_seen_as.port;
	}
	w->rec.server = v;
}

void record_writer_begin(struct record_writer *w, const struct record_common *common,
			 const char *kind)
{
	R(Record) *r = &w->rec;
	uint64_t mono = clock_mono_ns();

	w->wall_minus_mono = clock_wall_ns() - mono;
	w->common = common;
	*r = (R(Record))INIT(RECORD);
	w->foreign_len = 0;
	r->kind = str(kind);
	if (!common)
		r->node = str(w->node);
	set_times(w, mono, mono);
}

void record_writer_common(struct record_writer *w, const struct conn_session *s,
			  const struct identity *who, struct record_common *out)
{
	static const char *const majors[] = { "13", "14", "15", "16", "17", "18" };
	R(Record) *r = &w->rec;
	size_t need;

	*r = (R(Record))INIT(RECORD);
	w->foreign_len = 0;
	r->node = str(w->node);
	r->vantage = str(conn_vantage_name(s->vantage));
	if (s->pooler_leg)
		r->leg = str("pooler");
	r->engine = str("postgresql");
	if (s->info.major >= 13 && s->info.major <= 18)
		r->engine_version = str(majors[s->info.major - 13]);
	r->session_id = str(s->id);
	r->database = foreign(w, who->database);
	r->db_user = foreign(w, who->db_user);
	r->application_name = foreign(w, who->application_name);
	r->transport = str(who->transport);
	set_client(w, s, who);
	set_server(w, s, who);
	need = dbfence__audit__v1__record__get_packed_size(r);
	out->len = need <= sizeof(out->bytes) ? dbfence__audit__v1__record__pack(r, out->bytes) : 0;
}

void record_writer_session(struct record_writer *w, const struct conn_session *s,
			   enum conn_event event, const char *reason)
{
	w->session = (R(Session))INIT(SESSION);
	w->session.event = str(conn_event_name(event));
	w->session.reason = foreign(w, reason);
	w->session.statements = s->statements;
	w->rec.bytes_in = s->bytes_in;
	w->rec.bytes_out = s->bytes_out;
	w->rec.session = &w->session;
}

size_t record_decimal(char *to, uint64_t value)
{
	char digits[20];
	size_t n = 0, len;

	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	len = n;
	while (n)
		*to++ = digits[--n];
	*to = '\0';
	return len;
}

static void set_xact_id(struct record_writer *w, const struct conn_session *s, uint64_t number)
{
	size_t n;

	if (!number)
		return;
	n = strlen(s->id);
	memcpy(w->xact_id, s->id, n);
	w->xact_id[n++] = '.';
	record_decimal(w->xact_id + n, number);
	w->rec.transaction_id = w->xact_id;
}

void record_writer_transaction(struct record_writer *w, const struct conn_session *s,
			       const struct conn_xact *x)
{
	static const char *const states[] = { "unknown", "committed", "rolled_back" };

	set_times(w, x->start_ns, x->end_ns);
	set_xact_id(w, s, x->number);
	w->transaction = (R(Transaction))INIT(TRANSACTION);
	w->transaction.state = str(states[x->state]);
	w->transaction.xid = x->xid;
	w->transaction.statements = x->statements;
	w->transaction.implicit = x->implicit;
	w->rec.transaction = &w->transaction;
}

void record_writer_gap(struct record_writer *w, const char *reason, uint64_t records,
		       uint64_t execs, const char *detail)
{
	w->gap = (R(Gap))INIT(GAP);
	w->gap.reason = str(reason);
	w->gap.records = records;
	w->gap.executions = execs;
	w->gap.detail = str(detail);
	w->rec.gap = &w->gap;
}

const void *record_writer_pack(struct record_writer *w, size_t *len)
{
	size_t need = dbfence__audit__v1__record__get_packed_size(&w->rec);
	char *to;

	buf_reset(&w->out);
	if (w->common)
		buf_put(&w->out, w->common->bytes, w->common->len);
	to = buf_grow(&w->out, need);
	if (!to)
		return NULL;
	dbfence__audit__v1__record__pack(&w->rec, (uint8_t *)to);
	*len = w->out.len;
	return w->out.data;
}
