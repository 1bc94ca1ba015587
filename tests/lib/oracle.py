# SPDX-License-Identifier: Apache-2.0
"""
The second opinion: what PostgreSQL's own csvlog says was executed, and how it compares to the journal.

The server runs with log_statement=all. It writes one LOG row per simple-query message ("statement: …") and
per Execute message ("execute NAME: …"), and one ERROR row per refusal. An ERROR belongs to the statement
row before it, except while the server was idle or handling Parse or Bind (its command_tag column tells):
then the text never came to an execution and the ERROR is the whole story. "execute fetch from" rows are
further pieces of a portal that was counted before.
"""
import os
import csv
import hashlib
import re
from collections import Counter, defaultdict

from e2e import field, is_top_level

csv.field_size_limit(1 << 30)

PID, FROM, SESSION, TAG, SEVERITY, SQLSTATE, MESSAGE, QUERY, APPLICATION = 3, 4, 5, 7, 11, 12, 13, 19, 22
_EXECUTE = re.compile(r"execute (fetch from )?[^:]*: ", re.S)
# What pg_stat_statements counts with track_utility off. (With it on, release 15 counts a cached utility
# statement once per session: it zeroes the plan's query id on the first execution.)
PLANNED_TAGS = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE")
# Who runs under an application name of the tests.
PROGRAMS = {"psql": "psql", "pgbench": "pgbench", "pipeline": "pipeline", "psycopg2": os.path.basename(os.path.realpath("/proc/self/exe")), "node": "node",
            "jdbc": "java"}
_BEFORE_EXECUTION = ("idle", "idle in transaction", "idle in transaction (aborted)", "PARSE", "BIND", "")


class Session:
    """What one backend did: statements is a list of [text, sqlstate] in the order of the log."""

    def __init__(self):
        self.statements = []
        self.refetches = 0
        self.application = ""
        self.pids, self.sessions = set(), set()  # one of each, but where a client's port was used again


def read_csvlog(path, offset=0, by=PID):
    """
    {backend pid: Session} from the csvlog's rows that begin at or after byte @offset; with @by FROM {"address:port" of
    the client: Session}, of the sessions that came over TCP.
    """
    sessions = defaultdict(Session)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as f:
        f.seek(offset)
        for row in csv.reader(f):
            if len(row) < 23 or not row[PID] or (by == FROM and ":" not in row[FROM]):
                continue
            session = sessions[int(row[PID]) if by == PID else row[by]]
            session.pids.add(int(row[PID]))
            session.sessions.add(row[SESSION])
            _take_row(session, row)
    return {name: s for name, s in sessions.items() if s.statements}


def _take_row(session, row):
    message = row[MESSAGE]
    session.application = row[APPLICATION] or session.application
    if row[SEVERITY] == "LOG":
        if message.startswith("statement: "):
            session.statements.append([message[len("statement: "):], ""])
        elif message.startswith("execute "):
            found = _EXECUTE.match(message)
            if found and found.group(1):
                session.refetches += 1
            elif found:
                session.statements.append([message[found.end():], ""])
    elif row[SEVERITY] in ("ERROR", "FATAL"):
        last = session.statements[-1] if session.statements else None
        if row[TAG] in _BEFORE_EXECUTION:
            if row[QUERY]:
                session.statements.append([row[QUERY], row[SQLSTATE]])
        elif last and not last[1] and (not row[QUERY] or last[0] == row[QUERY]):
            last[1] = row[SQLSTATE]
        elif row[QUERY]:
            session.statements.append([row[QUERY], row[SQLSTATE]])


class Journal:
    """The journal's side of the comparison, from one pass over its records."""

    def __init__(self, records, cluster=None):
        """@cluster: leave out the sessions of other servers that run on this machine."""
        self.postmaster = None
        if cluster:
            with open(os.path.join(cluster.data, "postmaster.pid"), encoding="utf-8") as f:
                self.postmaster = int(f.readline())
        self.sessions = defaultdict(Counter)      # backend pid → (text, sqlstate) → count
        self.tags = defaultdict(Counter)          # backend pid → (text, tag) → count
        self.rows = defaultdict(int)              # application → rows of planned statements that succeeded
        self.calls = defaultdict(int)             # application → how many those were
        self.truncated = defaultdict(list)        # backend pid → (text, length, sqlstate, digest, length is a minimum)
        self.ids = defaultdict(set)               # backend pid → session ids
        self.uneven = []                          # (backend pid, text, tag, rows) where the tag counts otherwise
        self.nested = Counter()                   # text → executions
        self.nested_rows = Counter()
        self.executions = self.lost = self.record_cnt = 0
        self.gaps = []
        self.seqs = []
        for record in records:
            self._take(record)

    def _take(self, r):
        self.record_cnt += 1
        self.seqs.append(r.get("seq", 0))
        if r.get("kind") == "gap":
            self.lost += int(field(r, "gap.executions", 0))
            self.gaps.append(r["gap"])
        if r.get("kind") != "statement":
            return
        if not self._belongs(r):
            return
        text, sqlstate = field(r, "statement.text", ""), r.get("sqlstate", "")
        if not is_top_level(r):
            if field(r, "statement.form") == "nested":
                self.nested[text] += int(field(r, "statement.executions", 0) or 1)
                self.nested_rows[text] += int(r.get("rows", 0))
            return
        name, app = self._session_name(r), r.get("application_name", "")
        self.executions += 1
        self.ids[name].add(r.get("session_id", ""))
        length, captured = field(r, "statement.length", 0), field(r, "statement.captured", 0)
        if captured < length or {"text_limit", "record_limit"} & set(r.get("incomplete", ())):
            self.truncated[name].append((text, length, sqlstate, field(r, "statement.digest", ""),
                                         bool(field(r, "statement.length_is_minimum"))))
        else:
            self.sessions[name][(text, sqlstate)] += 1
        if r.get("tag"):
            self.tags[name][(text, r["tag"])] += 1
            counted = re.fullmatch(r"(?:SELECT|INSERT \d+|UPDATE|DELETE|MERGE|FETCH|COPY) (\d+)", r["tag"])
            if counted and len(field(r, "statement.statements", ())) < 2 and int(counted[1]) != r.get("rows", -1):
                self.uneven.append((name, text, r["tag"], r.get("rows")))
        if not sqlstate and r.get("tag", "").split(" ")[0] in PLANNED_TAGS:
            self.calls[app] += 1
            self.rows[app] += int(r.get("rows", 0))

    def _belongs(self, r):
        return not self.postmaster or field(r, "server.postmaster_pid") == self.postmaster

    @staticmethod
    def _session_name(r):
        return field(r, "server.pid", 0)


class WireJournal(Journal):
    """
    The same of what was seen on the wire: sessions are named by the client's "address:port", as in the server's log.
    Where the server's process (its client's process) is on this node, every record has to name it.
    """

    def __init__(self, records, cluster):
        self.port = cluster.port
        self.vantages = Counter()
        self.server_pids = defaultdict(Counter)   # client's address and port → backend pids
        self.client_exes = defaultdict(Counter)   # application → programs
        super().__init__(records)

    def _belongs(self, r):
        if field(r, "server.port") != self.port:
            return False
        self.vantages[r.get("vantage", "")] += 1
        self.server_pids[self._session_name(r)][field(r, "server.pid", 0)] += 1
        # Of one that was gone before anybody could look, there is the name that the kernel had for it.
        program = os.path.basename(field(r, "client.exe", "")) or field(r, "client.comm", "")
        self.client_exes[r.get("application_name", "")][program] += 1
        return True

    @staticmethod
    def _session_name(r):
        return f"{field(r, 'client.address', '')}:{field(r, 'client.port', 0)}"

    def misattributed(self, log, *, client=True, server=True):
        """Of the ends that are on this node: records that name another process than the log's, or another program."""
        found = [f"vantage {name!r}: {count} records" for name, count in self.vantages.items() if name != "wire"]
        for name, session in log.items():
            wrong = {pid: n for pid, n in self.server_pids[name].items() if server and pid not in session.pids}
            found += [f"{name}: {n} records name the backend {pid}, not {session.pids}" for pid, n in wrong.items()]
        for app, exes in self.client_exes.items():
            wrong = {exe: n for exe, n in exes.items() if exe != (PROGRAMS.get(app, exe or None) if client else "")}
            found += [f"{n} records of {app!r} name the program {exe!r}" for exe, n in wrong.items()]
        return found


def compare(log, journal, limit=12):
    """Differences between read_csvlog()'s answer and a Journal, as sentences; empty when they agree."""
    found = []
    missing = extra = 0
    for name in sorted(set(log) | set(journal.sessions) | set(journal.truncated)):
        want = Counter(map(tuple, log[name].statements)) if name in log else Counter()
        have = Counter(journal.sessions.get(name, ()))
        only_log, only_journal = want - have, have - want
        for truncated in journal.truncated.get(name, ()):
            _match_truncated(only_log, only_journal, *truncated)
        missing += sum(only_log.values())
        extra += sum(only_journal.values())
        for where, counter in (("not in the journal", only_log), ("not in the server's log", only_journal)):
            for (text, sqlstate), count in (+counter).items():
                found.append(f"backend {name}: {count} × {_short(text)} sqlstate={sqlstate or '-'}: {where}")
    for name, ids in journal.ids.items():
        if len(ids) != (len(log[name].sessions) if name in log else 1) or "" in ids:
            found.append(f"backend {name}: its records name {len(ids)} sessions: {sorted(ids)[:3]}")
    found += check_seqs(journal.seqs)
    if missing or extra:
        found.insert(0, f"{missing} executions missing from the journal, {extra} too many")
    return found[:limit] + ([f"… and {len(found) - limit} more"] if len(found) > limit else [])


def _match_truncated(only_log, only_journal, text, length, sqlstate, digest, minimum):
    head = text.encode("utf-8", "surrogateescape")[:-4]
    for key, count in only_log.items():
        raw = key[0].encode("utf-8", "surrogateescape")
        if (count > 0 and key[1] == sqlstate and raw.startswith(head) and (len(raw) >= length if minimum else len(raw) == length)
                and digest in ("", hashlib.sha256(raw).hexdigest())):
            only_log[key] -= 1
            return
    only_journal[(f"{text} (truncated, {length} bytes)", sqlstate)] += 1


def check_seqs(seqs):
    if len(set(seqs)) != len(seqs):
        return [f"{len(seqs) - len(set(seqs))} sequence numbers appear twice"]
    if seqs and max(seqs) - min(seqs) + 1 != len(seqs):
        return [f"sequence numbers {min(seqs)}..{max(seqs)} hold only {len(seqs)} records"]
    return []


def _short(text):
    text = " ".join(text.split())
    return repr(text if len(text) <= 90 else f"{text[:80]}… ({len(text)} characters)")
