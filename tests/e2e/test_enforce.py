# SPDX-License-Identifier: Apache-2.0
"""
Ways to drop a table, empty it, grant it away or change the server's settings, each tried over TCP, unix socket
and TLS under an enforced protect-production-schema: the victim survives, each attempt leaves one record with the
outcome that was observed and its evidence, the client gets an ordinary error and its connection goes on working.

An attack is (name, kind, setup, function): the setup runs, and statements are prepared, while nothing is enforced
yet; the function runs after the policies were loaded. Every attack has a table of its own as its victim.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (TRANSPORTS, Cluster, Daemon, case, check, field, main, say, shipped_policy)  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DATABASE = "guarded"
TABLE, ROWS, GRANT, SETTING = "table", "rows", "grant", "setting"

ATTACKS = []


def attack(kind, setup="", *, prepare=None, swallowed=False, nested=False, killed=False):
    """
    Register an attack on a victim of @kind. @setup: SQL, {t} is the victim. @prepare(conn, t): on the attacking
    connection, before the policies are loaded. @swallowed: the client need not see an error. @nested: the
    denied statement runs inside another one.
    """
    def register(function):
        ATTACKS.append({"name": function.__name__, "kind": kind, "setup": setup, "prepare": prepare,
                        "swallowed": swallowed, "nested": nested, "killed": killed, "run": function})
        return function
    return register


def simple(name, kind, text, **options):
    """Register an attack that is one simple-query message."""
    def function(conn, t):
        return conn.query(text.format(t=t))
    function.__name__ = name
    attack(kind, **options)(function)


def parse_before(text):
    """A `prepare` that parses @text as the named statement "early"."""
    def prepare(conn, t):
        result = conn.sync(conn.parse(text.format(t=t), "early"))
        check(not result.errors, f"the setup's Parse failed: {result.errors}")
    return prepare


def execute_early(conn, _t):
    return conn.sync(conn.bind("early"), conn.execute())


# --- dropping --------------------------------------------------------------------------------------------

simple("drop_direct", TABLE, "DROP TABLE {t}")
simple("drop_lower_case", TABLE, "drop table {t}")
simple("drop_mixed_case_and_space", TABLE, "\n\t dRoP\r\n  TaBlE\f{t} ;;")
simple("drop_commented", TABLE, "DROP/**/TABLE/* a /* nested */ comment */{t}-- end")
simple("drop_comment_in_front", TABLE, "-- SELECT 1\n/* SELECT 2 */ DROP TABLE {t}")
simple("drop_if_exists_cascade", TABLE, "DROP TABLE IF EXISTS no_such_table, public.{t} CASCADE")
simple("drop_quoted_name", TABLE, 'DROP TABLE "{t}"')
simple("drop_second_statement", TABLE, "SELECT 1; DROP TABLE {t}")
simple("drop_between_statements", TABLE, "SELECT 1; DROP TABLE {t}; SELECT 2")
simple("drop_after_escape_string", TABLE, "SELECT E'O\\'Brien'; DROP TABLE {t} --'")
simple("drop_after_dollar_quote", TABLE, "SELECT $a$ ; $b$ ' $a$; DROP TABLE {t}")
simple("drop_60_kb_in_front", TABLE, "/*" + "x" * 61000 + "*/ DROP TABLE {t}")
simple("drop_60_kb_behind", TABLE, "DROP TABLE {t} /*" + "x" * 61000 + "*/")
simple("drop_60_kb_of_literals", TABLE, "SELECT '" + "y" * 60000 + "'; DROP TABLE {t}")
simple("drop_owned_view_cascade", TABLE, "DROP SCHEMA s_{t} CASCADE",
       setup="CREATE SCHEMA s_{t}; ALTER TABLE {t} SET SCHEMA s_{t};")
simple("drop_column", TABLE, "ALTER TABLE {t} DROP COLUMN id")
simple("drop_in_do_built_at_run_time", TABLE, "DO $$ BEGIN EXECUTE 'DR' || 'OP TABLE {t}'; END $$", nested=True)
simple("drop_in_do_static", TABLE, "DO $$ BEGIN DROP TABLE {t}; END $$", nested=True)
simple("drop_in_do_that_catches_the_cancel", TABLE,
       "DO $$ BEGIN BEGIN EXECUTE 'DROP TABLE {t}'; EXCEPTION WHEN query_canceled THEN NULL; END; "
       "PERFORM 1; END $$", nested=True, swallowed=True)
simple("drop_in_do_that_tries_again", TABLE,
       "DO $$ BEGIN FOR i IN 1..5 LOOP BEGIN EXECUTE 'DROP TABLE IF EXISTS {t}'; EXCEPTION WHEN "
       "query_canceled THEN NULL; END; END LOOP; END $$", nested=True, killed=True)
simple("drop_in_sql_function", TABLE, "SELECT f_{t}()", nested=True,
       setup="CREATE FUNCTION f_{t}() RETURNS void LANGUAGE sql AS 'DROP TABLE {t}';")
simple("drop_in_function_built_at_run_time", TABLE, "SELECT f_{t}('TABLE')", nested=True,
       setup="CREATE FUNCTION f_{t}(what text) RETURNS void LANGUAGE plpgsql AS "
             "$f$ BEGIN EXECUTE format('DROP %s %I', what, '{t}'); END $f$;")
simple("drop_in_procedure", TABLE, "CALL p_{t}()", nested=True,
       setup="CREATE PROCEDURE p_{t}() LANGUAGE plpgsql AS $f$ BEGIN DROP TABLE {t}; END $f$;")


@attack(TABLE)
def drop_extended(conn, t):
    return conn.extended(f"DROP TABLE {t}")


@attack(TABLE)
def drop_extended_in_single_messages(conn, t):
    """Each protocol message in a write of its own."""
    for message in (conn.parse(f"DROP TABLE {t}"), conn.bind(), conn.execute()):
        conn.send(message)
    return conn.sync()


@attack(TABLE)
def drop_named_statement(conn, t):
    first = conn.sync(conn.parse(f"DROP TABLE {t}", "n"))
    second = conn.sync(conn.bind("n"), conn.execute())
    return second if not first.errors else first


@attack(TABLE)
def drop_pipelined_behind_a_harmless_statement(conn, t):
    return conn.sync(conn.parse("SELECT 1"), conn.bind(), conn.execute(),
                     conn.parse(f"DROP TABLE {t}"), conn.bind(), conn.execute(),
                     conn.parse("SELECT 2"), conn.bind(), conn.execute())


@attack(TABLE, prepare=parse_before("DROP TABLE {t}"))
def drop_parsed_before_the_policy(conn, t):
    return execute_early(conn, t)


@attack(TABLE, prepare=parse_before("DROP TABLE {t}"))
def drop_parsed_before_after_set_role(conn, t):
    conn.must("SET ROLE powerful")
    return execute_early(conn, t)


@attack(TABLE, prepare=parse_before("DROP TABLE {t}"))
def drop_parsed_before_pipelined(conn, t):
    return conn.sync(conn.parse("SELECT 1"), conn.bind(), conn.execute(), conn.bind("early"), conn.execute())


@attack(TABLE)
def drop_inside_a_transaction(conn, t):
    conn.must("BEGIN")
    result = conn.query(f"DROP TABLE {t}")
    conn.must("COMMIT")
    return result


@attack(TABLE)
def drop_behind_a_savepoint(conn, t):
    conn.must("BEGIN")
    conn.must("SAVEPOINT s")
    result = conn.query(f"DROP TABLE {t}")
    if result.errors:
        conn.must("ROLLBACK TO SAVEPOINT s")
    conn.must("COMMIT")
    return result


@attack(TABLE)
def drop_with_changed_string_syntax(conn, t):
    conn.must("SET standard_conforming_strings = off")
    return conn.query(f"SELECT 'a\\'; SELECT '; DROP TABLE {t} --'")


# What the quotes say depends on standard_conforming_strings when it was parsed, not when it runs.
BY_QUOTES = "WITH x AS (SELECT '\\'' ), d AS (DELETE FROM {t} RETURNING 1) SELECT 1 --') SELECT 1"


def with_escapes(prepare):
    """@prepare while standard_conforming_strings is off."""
    def around(conn, t):
        conn.must("SET standard_conforming_strings = off")
        prepare(conn, t)
        conn.must("SET standard_conforming_strings = on")
    return around


@attack(ROWS, prepare=with_escapes(parse_before(BY_QUOTES)))
def delete_parsed_with_changed_string_syntax(conn, t):
    return execute_early(conn, t)


@attack(ROWS, prepare=with_escapes(lambda conn, t: conn.must("PREPARE early AS " + BY_QUOTES.format(t=t))))
def delete_through_sql_execute_with_changed_string_syntax(conn, _t):
    return conn.query("EXECUTE early")


@attack(ROWS, prepare=with_escapes(parse_before(BY_QUOTES)))
def delete_parsed_with_changed_string_syntax_behind_its_harmless_reading(conn, t):
    """What was allowed at the parser's gate is not what was prepared."""
    for _ in range(2):
        conn.must(BY_QUOTES.format(t=t))
    return execute_early(conn, t)


def run_once_and_roll_back(conn, t):
    conn.must("BEGIN")
    conn.must(f"SELECT f_{t}()")
    conn.must("ROLLBACK")


CACHED = "CREATE FUNCTION f_{{t}}() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {} {{t}}; END $f$;"


@attack(TABLE, setup=CACHED.format("DROP TABLE"), prepare=run_once_and_roll_back, nested=True)
def drop_from_a_cached_plan(conn, t):
    return conn.query(f"SELECT f_{t}()")


# --- emptying --------------------------------------------------------------------------------------------

simple("truncate_direct", ROWS, "TRUNCATE {t}")
simple("truncate_lower_case_commented", ROWS, "truncate/**/table/**/{t}")
simple("truncate_second_statement", ROWS, "SELECT 1; TRUNCATE TABLE ONLY {t} RESTART IDENTITY")
simple("truncate_in_do_built_at_run_time", ROWS, "DO $$ BEGIN EXECUTE 'TRUN' || 'CATE {t}'; END $$", nested=True)
simple("truncate_in_do_that_catches_the_cancel", ROWS,
       "DO $$ BEGIN EXECUTE 'TRUNCATE {t}'; EXCEPTION WHEN query_canceled THEN NULL; END $$",
       nested=True, swallowed=True)
simple("delete_without_where", ROWS, "DELETE FROM {t}")
simple("delete_where_true", ROWS, "DELETE FROM {t} WHERE 1 = 1")
simple("delete_in_cte", ROWS, "WITH d AS (DELETE FROM {t} RETURNING *) SELECT count(*) FROM d")
simple("delete_in_copy", ROWS, "COPY (DELETE FROM {t} RETURNING id) TO STDOUT")
simple("delete_in_explain_analyze", ROWS, "EXPLAIN ANALYZE DELETE FROM {t}")
simple("delete_in_sql_function", ROWS, "SELECT f_{t}()", nested=True,
       setup="CREATE FUNCTION f_{t}() RETURNS void LANGUAGE sql AS 'DELETE FROM {t}';")
simple("delete_in_begin_atomic_function", ROWS, "SELECT f_{t}()", nested=True,
       setup="CREATE FUNCTION f_{t}() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM {t}; END;")


@attack(ROWS)
def truncate_extended(conn, t):
    return conn.extended(f"TRUNCATE {t}")


@attack(ROWS, prepare=parse_before("TRUNCATE {t}"))
def truncate_parsed_before_the_policy(conn, t):
    return execute_early(conn, t)


@attack(ROWS, prepare=parse_before("DELETE FROM {t}"))
def delete_parsed_before_the_policy(conn, t):
    return execute_early(conn, t)


@attack(ROWS, setup=CACHED.format("TRUNCATE"), prepare=run_once_and_roll_back, nested=True)
def truncate_from_a_cached_plan(conn, t):
    return conn.query(f"SELECT f_{t}()")


@attack(ROWS, setup=CACHED.format("DELETE FROM"), prepare=run_once_and_roll_back, nested=True)
def delete_from_a_cached_plan(conn, t):
    return conn.query(f"SELECT f_{t}()")


@attack(ROWS, prepare=lambda conn, t: conn.must(f"PREPARE early AS DELETE FROM {t}"))
def delete_through_sql_execute(conn, _t):
    return conn.query("EXECUTE early")


@attack(ROWS, prepare=lambda conn, t: conn.must(f"PREPARE early AS DELETE FROM {t}"))
def delete_through_sql_execute_after_set_role(conn, _t):
    conn.must("SET ROLE powerful")
    return conn.query("EXECUTE early")


# Reading a value of this type as a literal runs a function of the user's.
RUNS_WHEN_READ = ("CREATE FUNCTION f_{t}(int) RETURNS bool LANGUAGE plpgsql AS $f$ BEGIN DELETE FROM {t}; RETURN true; "
                  "END $f$; CREATE DOMAIN d_{t} AS int CHECK (f_{t}(VALUE)); CREATE TYPE c_{t} AS (a d_{t});")

simple("delete_while_a_function_is_created", ROWS,
       "CREATE FUNCTION g_{t}() RETURNS c_{t} LANGUAGE sql AS $f$ SELECT '(1)'::c_{t} $f$", nested=True,
       setup=RUNS_WHEN_READ)


@attack(ROWS, setup=RUNS_WHEN_READ, nested=True)
def delete_while_parsing_behind_a_created_function(conn, t):
    return conn.sync(conn.parse(f"CREATE FUNCTION g_{t}() RETURNS int LANGUAGE sql AS 'SELECT 1'"), conn.bind(),
                     conn.execute(), conn.parse(f"SELECT '(1)'::c_{t}"), conn.bind(), conn.execute())


# --- granting and settings -------------------------------------------------------------------------------

simple("grant_direct", GRANT, "GRANT ALL ON {t} TO stranger")
simple("grant_lower_case_commented", GRANT, "grant/**/select on {t} to/**/stranger")
simple("grant_second_statement", GRANT, "SELECT 1; GRANT SELECT ON {t} TO stranger; SELECT 2")
simple("grant_in_do_built_at_run_time", GRANT,
       "DO $$ BEGIN EXECUTE 'GR' || 'ANT SELECT ON {t} TO stranger'; END $$", nested=True)
simple("grant_in_do_that_catches_the_cancel", GRANT,
       "DO $$ BEGIN EXECUTE 'GRANT SELECT ON {t} TO stranger'; EXCEPTION WHEN query_canceled THEN NULL; END $$",
       nested=True, swallowed=True)


@attack(GRANT)
def grant_extended(conn, t):
    return conn.extended(f"GRANT SELECT ON {t} TO stranger")


@attack(GRANT, prepare=parse_before("GRANT SELECT ON {t} TO stranger"))
def grant_parsed_before_the_policy(conn, t):
    return execute_early(conn, t)


simple("alter_system_direct", SETTING, "ALTER SYSTEM SET dbfence_test.{t} = 'changed'")
simple("alter_system_lower_case_commented", SETTING, "alter/**/system/**/set dbfence_test.{t} = 'changed'")


@attack(SETTING)
def alter_system_extended(conn, t):
    return conn.extended(f"ALTER SYSTEM SET dbfence_test.{t} = 'changed'")


@attack(SETTING, prepare=parse_before("ALTER SYSTEM SET dbfence_test.{t} = 'changed'"))
def alter_system_parsed_before_the_policy(conn, t):
    return execute_early(conn, t)


# --- running them ----------------------------------------------------------------------------------------

class Attempt:
    """One attack over one transport: its victim, its connection, and what the client saw."""

    def __init__(self, cluster, index, what, transport):
        self.what, self.transport = what, transport
        self.name = f"{what['name']} over {transport}"
        self.victim = f"v{index}_{transport}"
        self.conn = Connection(cluster, transport, database=DATABASE, application="attacker")
        self.result = self.error = None
        self.goes_on = False

    def prepare(self):
        self.conn.must(f"CREATE TABLE {self.victim} AS SELECT generate_series(1, 10) AS id;" if
                       self.what["kind"] != SETTING else "SELECT 1")
        if self.what["setup"]:
            self.conn.must(self.what["setup"].format(t=self.victim))
        if self.what["prepare"]:
            self.what["prepare"](self.conn, self.victim)

    def strike(self):
        try:
            self.result = self.what["run"](self.conn, self.victim)
            self.goes_on = self.conn.query("SELECT 'still here'").rows == [["still here"]]
        except (Error, Closed, OSError) as e:
            self.error = e

    def client_faults(self):
        """What is wrong with what the client saw."""
        # The second reject inside one statement ends the session, unless the first was acted on outside of the
        # block that catches it: then the statement fails as a whole.
        if self.what["killed"]:
            ended = self.error or self.result.sqlstate == "57014"
            return [] if ended else ["the block went on"]
        if self.error:
            return [f"the connection did not live: {self.error}"]
        found = [] if self.goes_on else ["the connection does not go on working"]
        if self.result.sqlstate != "57014" and not (self.what["swallowed"] and not self.result.errors):
            found.append(f"the client saw {self.result.errors or self.result.tags}, expected 57014")
        return found

    def survival_faults(self, cluster, settings_file):
        victim = self.victim
        queries = {
            TABLE: "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid "
                   f"WHERE relname = '{victim}' AND attname = 'id' AND NOT attisdropped",
            ROWS: f"SELECT (SELECT count(*) FROM {victim}) = 10",
            GRANT: f"SELECT NOT has_table_privilege('stranger', '{victim}', 'SELECT')",
        }
        if self.what["kind"] == SETTING:
            return ["the setting was changed"] if victim in settings_file else []
        answer = cluster.psql(queries[self.what["kind"]], database=DATABASE, check_rc=False).stdout.strip()
        return [] if answer in ("1", "t") else [f"the {self.what['kind']} did not survive"]

    def record_faults(self, records):
        """One denied record with an observed outcome and evidence, among the records of this backend."""
        denied = [r for r in records if field(r, "decision.action") == "deny"
                  and field(r, "decision.mode") == "enforce"]
        outcomes = [r.get("outcome") for r in denied]
        if len(denied) != 1:
            return [f"{len(denied)} denied records, expected one: {outcomes}"]
        allowed = ("prevented", "cancelled") if self.what["nested"] else ("prevented",)
        found = [f"outcome {o}, expected {' or '.join(allowed)}" for o in outcomes if o not in allowed]
        found += ["no evidence" for r in denied if not r.get("evidence")]
        found += ["no rule named" for r in denied if not field(r, "decision.rule")]
        found += [f"transport {r.get('transport')}" for r in denied if r.get("transport") != self.transport]
        return found


def make_database(cluster):
    cluster.psql(f"CREATE DATABASE {DATABASE};")
    cluster.psql("CREATE ROLE stranger; CREATE ROLE powerful SUPERUSER;", database=DATABASE)
    # A custom setting needs its prefix to be known for ALTER SYSTEM to accept it.
    cluster.psql("".join(f"ALTER DATABASE {DATABASE} SET dbfence_test.v{i}_{t} = 'initial';"
                         for i, a in enumerate(ATTACKS) if a["kind"] == SETTING for t in TRANSPORTS),
                 database=DATABASE)


def load_policies(daemon):
    with open(os.path.join(HERE, "policies", "also-protect.yaml"), encoding="utf-8") as f:
        daemon.write_policy("also-protect.yaml", f.read().replace("DATABASE", DATABASE))
    shipped = shipped_policy("protect-production-schema.yaml", mode="enforce", database=DATABASE)
    daemon.write_policy("protect-production-schema.yaml", shipped)
    checked = daemon.cli("policy", "check", daemon.policy_dir)
    daemon.reload()
    return checked.stdout


def attack_all(cluster, daemon, attempts):
    for attempt in attempts:
        attempt.prepare()
    if daemon:
        load_policies(daemon)
    for attempt in attempts:
        attempt.strike()
        attempt.conn.close()


def settings_of(cluster):
    with open(os.path.join(cluster.data, "postgresql.auto.conf"), encoding="utf-8") as f:
        return f.read()


@case
def every_attack_works_without_dbfence():
    """An attack that the server refuses by itself would prove nothing; needs no daemon."""
    with Cluster(settings={"max_connections": 300}) as cluster:
        make_database(cluster)
        attempts = [Attempt(cluster, i, a, "unix") for i, a in enumerate(ATTACKS)]
        attack_all(cluster, None, attempts)
        settings = settings_of(cluster)
        idle = [a.name for a in attempts if not a.survival_faults(cluster, settings)]
        failed = [f"{a.name}: {a.error or a.result.errors}" for a in attempts if a.error or a.result.errors]
    say(f"{len(attempts)} attacks, {len(attempts) - len(idle)} of them did their damage")
    check(not idle, "without dbfence these attacks do nothing: " + "; ".join(idle + failed))


def enforce_over(transport):
    with Cluster(settings={"max_connections": 300}) as cluster:
        make_database(cluster)
        with Daemon() as daemon:
            attempts = [Attempt(cluster, i, a, transport) for i, a in enumerate(ATTACKS)]
            attack_all(cluster, daemon, attempts)
            daemon.settle()
            records = {}
            for r in daemon.journal("statement"):
                records.setdefault(field(r, "server.pid"), []).append(r)
            settings = settings_of(cluster)
            faults = []
            for a in attempts:
                faults += [f"{a.name}: {f}" for f in a.client_faults() + a.survival_faults(cluster, settings)
                           + a.record_faults(records.get(a.conn.pid, []))]
            check(not cluster.stopped_backends(), "a backend stayed stopped")
    outcomes = [r.get("outcome") for rs in records.values() for r in rs
                if field(r, "decision.action") == "deny"]
    say(f"{len(attempts)} attacks; outcomes: " + ", ".join(f"{o} {outcomes.count(o)}" for o in sorted(set(outcomes))))
    check(not faults, f"{len(faults)} faults:\n    " + "\n    ".join(faults[:40]))


@case
def attacks_over_tcp_are_prevented():
    enforce_over("tcp")


@case
def attacks_over_a_unix_socket_are_prevented():
    enforce_over("unix")


@case
def attacks_over_tls_are_prevented():
    enforce_over("tls")


@case
def what_is_allowed_goes_on_under_enforcement():
    with Cluster() as cluster:
        make_database(cluster)
        with Daemon() as daemon:
            load_policies(daemon)
            with Connection(cluster, database=DATABASE) as conn:
                conn.must("CREATE TABLE kept (id int)")
                for text in ("INSERT INTO kept SELECT generate_series(1, 9)", "SELECT 'DROP TABLE kept'",
                             "SELECT 1 AS drop", "DELETE FROM kept WHERE id = 3", "UPDATE kept SET id = 0 WHERE id = 4",
                             "/* DROP TABLE kept */ SELECT 1"):
                    result = conn.query(text)
                    check(not result.errors, f"{text}: {result.errors}")
            with Connection(cluster, database="postgres") as conn:
                conn.must("CREATE TABLE elsewhere (id int)")
                conn.must("DROP TABLE elsewhere")


@case
def shadow_mode_decides_and_does_not_act():
    with Cluster() as cluster:
        make_database(cluster)
        policy = shipped_policy("protect-production-schema.yaml", mode="shadow", database=DATABASE)
        with Daemon({"p.yaml": policy}) as daemon, Connection(cluster, database=DATABASE) as conn:
            conn.must("CREATE TABLE gone (id int)")
            conn.must("DROP TABLE gone")
            found = daemon.wait_journal(lambda r: field(r, "statement.text", "") == "DROP TABLE gone")
            check(len(found) == 1, f"{len(found)} records of one DROP")
            check(found[0].get("outcome") == "executed", f"outcome {found[0].get('outcome')}")
            check(field(found[0], "decision.mode") == "shadow" and not field(found[0], "decision.acted", False),
                  f"the decision is {found[0].get('decision')}")
            actions = {m.get("action") for m in field(found[0], "decision.matches", [])}
            check("deny" in actions, f"the shadow rule is not among the matches: {actions}")


KILL = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: end-the-session
spec:
  mode: enforce
  rules:
    - name: no-drop
      when:
        effects: [schema_destroy]
      action: kill
"""


@case
def kill_ends_the_session_before_it_runs():
    with Cluster() as cluster:
        make_database(cluster)
        cluster.psql("CREATE TABLE stays (id int);")
        with Daemon({"kill.yaml": KILL}) as daemon:
            conn = Connection(cluster)
            try:
                result = conn.query("DROP TABLE stays")
                check(False, f"the session lives: {result.tags} {result.errors}")
            except Error as e:
                check(e.sqlstate == "57P01", f"the session ended with {e}")
            except Closed:
                pass
            check(cluster.value("SELECT to_regclass('stays')") == "stays", "the table did not survive")
            found = daemon.wait_journal(lambda r: field(r, "decision.action") == "kill")
            check(len(found) == 1 and found[0].get("outcome") == "prevented",
                  f"records: {[(r.get('outcome'), r.get('evidence')) for r in found]}")


if __name__ == "__main__":
    main()
