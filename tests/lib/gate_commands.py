# SPDX-License-Identifier: Apache-2.0
"""
The statements that test_gates.py drives through the gates: every utility command of PostgreSQL 15 and the plans
beside them, each with what has to exist before and with a probe, a query whose value changes exactly when the
command had its effect. Knows SQL, and nothing of dbfence beyond the command tag a policy calls a statement by.
"""


class Command:
    """
    @tag: as policies name it. @label: in the report, where several statements share a tag. In all texts {t} is a
    name of this case alone, {n} a number of its own, {ext} an extension of its own, {dir} a folder the server may
    write to.
    @probe: SQL whose value tells whether the effect is there; None where nothing shows it.
    @where: who asks: "monitor" (another session), "own" (the attacking one), "status" (the transaction status that
    the client was told), "maps" (@probe is then a file that the backend maps once the effect is there),
    "after:VALUE" (the attacking one, afterwards only: without the effect the answer is VALUE).
    @setup: before, by another session. @session: on the attacking connection before; it may open a transaction.
    @static: how a PL/pgSQL function runs it as a statement of its own: "sql", "loop" where it returns rows, or the
    reason why it cannot. @undo: after the run that fills the plan cache, where rolling it back does not suffice.
    @caller: how the function is run. @ahead: by the monitor, right before the attempt. @late: another process brings
    the effect about, which the probe has to wait for.
    """

    def __init__(self, tag, sql, probe, setup="", *, label="", where="monitor", session="", static="sql", undo="",
                 caller="SELECT", ahead="", late=False):
        self.tag, self.sql, self.probe, self.setup = tag, sql, probe, setup
        self.label = label or tag
        self.where, self.session, self.static, self.undo, self.caller = where, session, static, undo, caller
        self.ahead, self.late = ahead, late


COMMANDS = []
NOT_TRIED = {
    "SECURITY LABEL": "needs a label provider, and the only one that PostgreSQL ships (sepgsql) needs SELinux",
}


def add(*args, **kw):
    COMMANDS.append(Command(*args, **kw))


def count(catalog, column):
    return f"SELECT count(*) FROM {catalog} WHERE {column} = '{{t}}'"


ROWS = "CREATE TABLE {t} AS SELECT generate_series(1, 3) AS id, 0 AS x;"
BASE = "CREATE TABLE {t}_b AS SELECT generate_series(1, 3) AS id, 0 AS x;"
SEQUENCE = "CREATE SEQUENCE {t};"
ADVANCED = "SELECT last_value::text || is_called FROM {t}"
OWN_STATEMENT = "PL/pgSQL has a statement of its own for it"
NO_STATEMENT = "PL/pgSQL cannot parse it as a statement"

# --- plans -----------------------------------------------------------------------------------------------

add("INSERT", "INSERT INTO {t} VALUES (9, 9)", "SELECT count(*) FROM {t}", ROWS)
add("UPDATE", "UPDATE {t} SET id = 0", "SELECT sum(id) FROM {t}", ROWS)
add("DELETE", "DELETE FROM {t}", "SELECT count(*) FROM {t}", ROWS)
add("MERGE", "MERGE INTO {t} USING (SELECT 9 AS n) s ON false WHEN NOT MATCHED THEN INSERT VALUES (n, n)",
    "SELECT count(*) FROM {t}", ROWS)
add("SELECT", "SELECT nextval('{t}')", ADVANCED, SEQUENCE, caller="CALL", static="perform")
add("SELECT", "VALUES (nextval('{t}'))", ADVANCED, SEQUENCE, label="VALUES", caller="CALL", static="loop")
add("SELECT", "WITH d AS (DELETE FROM {t} RETURNING 1) SELECT count(*) FROM d", "SELECT count(*) FROM {t}", ROWS,
    label="SELECT, WITH DELETE", caller="CALL", static="loop")
add("SELECT INTO", "SELECT * INTO {t}_n FROM {t}", "SELECT to_regclass('{t}_n')", ROWS, static=OWN_STATEMENT)
add("CREATE TABLE AS", "CREATE TABLE {t}_n AS SELECT * FROM {t}", "SELECT to_regclass('{t}_n')", ROWS)

# --- utility commands that run plans or move data ----------------------------------------------------------

FILE = "SELECT (pg_stat_file('{dir}/{t}', true)).size IS NULL"
add("COPY", "COPY {t} FROM STDIN", "SELECT count(*) FROM {t}", ROWS, label="COPY FROM STDIN")
add("COPY", "COPY {t} FROM '{dir}/rows'", "SELECT count(*) FROM {t}", ROWS, label="COPY FROM file")
add("COPY", "COPY {t} TO STDOUT", None, ROWS, label="COPY TO STDOUT")
add("COPY", "COPY {t} TO '{dir}/{t}'", FILE, ROWS, label="COPY TO file", undo="file")
add("COPY", "COPY {t} TO PROGRAM 'cat > {dir}/{t}'", FILE, ROWS, label="COPY TO PROGRAM", undo="file")
add("COPY", "COPY (DELETE FROM {t} RETURNING id) TO '{dir}/{t}'", "SELECT count(*) FROM {t}", ROWS,
    label="COPY (DELETE) TO file", undo="file")
add("EXPLAIN", "EXPLAIN ANALYZE DELETE FROM {t}", "SELECT count(*) FROM {t}", ROWS, label="EXPLAIN ANALYZE DELETE",
    static="loop")
add("DO", "DO 'BEGIN INSERT INTO {t} VALUES (9, 9); END'", "SELECT count(*) FROM {t}", ROWS)
PROCEDURE = ROWS + ("CREATE PROCEDURE {t}_p() LANGUAGE plpgsql AS 'BEGIN INSERT INTO {t} VALUES (9, 9); END';")
add("CALL", "CALL {t}_p()", "SELECT count(*) FROM {t}", PROCEDURE)
add("PREPARE", "PREPARE p AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'", where="own",
    undo="DEALLOCATE p")
add("EXECUTE", "EXECUTE p", "SELECT count(*) FROM {t}", ROWS, session="PREPARE p AS INSERT INTO {t} VALUES (9, 9)",
    static=OWN_STATEMENT)
PREPARED = {"where": "own", "session": "PREPARE p AS SELECT 1", "undo": "PREPARE p AS SELECT 1"}
add("DEALLOCATE", "DEALLOCATE p", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'", **PREPARED)
add("DEALLOCATE ALL", "DEALLOCATE ALL", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'", **PREPARED)
HELD = "DECLARE c CURSOR WITH HOLD FOR SELECT 1"
CURSORS = "SELECT count(*) FROM pg_cursors WHERE name = 'c'"
LAZY = "BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT nextval('{t}') FROM generate_series(1, 9)"
add("DECLARE CURSOR", HELD, CURSORS, where="own", static=NO_STATEMENT)
add("FETCH", "FETCH c", ADVANCED, SEQUENCE, session=LAZY, static=OWN_STATEMENT)
add("MOVE", "MOVE FORWARD 2 FROM c", ADVANCED, SEQUENCE, session=LAZY, static=OWN_STATEMENT)
add("CLOSE CURSOR", "CLOSE c", CURSORS, where="own", session=HELD, static=OWN_STATEMENT)
add("CLOSE CURSOR ALL", "CLOSE ALL", CURSORS, where="own", session=HELD, static=OWN_STATEMENT)
add("REFRESH MATERIALIZED VIEW", "REFRESH MATERIALIZED VIEW {t}", "SELECT count(*) FROM {t}",
    BASE + "CREATE MATERIALIZED VIEW {t} AS SELECT * FROM {t}_b; DELETE FROM {t}_b;")

# --- privileges --------------------------------------------------------------------------------------------

PRIVILEGE = "SELECT has_table_privilege('stranger', '{t}', 'SELECT')"
ROLE = "CREATE ROLE {t};"
add("GRANT", "GRANT SELECT ON {t} TO stranger", PRIVILEGE, ROWS)
add("REVOKE", "REVOKE SELECT ON {t} FROM stranger", PRIVILEGE, ROWS + "GRANT SELECT ON {t} TO stranger;")
MEMBERS = "SELECT count(*) FROM pg_auth_members WHERE roleid = '{t}'::regrole"
add("GRANT ROLE", "GRANT {t} TO stranger", MEMBERS, ROLE)
add("REVOKE ROLE", "REVOKE {t} FROM stranger", MEMBERS, ROLE + "GRANT {t} TO stranger;")
add("ALTER DEFAULT PRIVILEGES", "ALTER DEFAULT PRIVILEGES FOR ROLE {t} GRANT SELECT ON TABLES TO stranger",
    "SELECT count(*) FROM pg_default_acl WHERE defaclrole = '{t}'::regrole", ROLE)
OWNED = ROLE + BASE + "ALTER TABLE {t}_b OWNER TO {t};"
add("REASSIGN OWNED", "REASSIGN OWNED BY {t} TO stranger", "SELECT relowner FROM pg_class WHERE relname = '{t}_b'",
    OWNED)
add("DROP OWNED", "DROP OWNED BY {t}", "SELECT to_regclass('{t}_b')", OWNED)

# --- settings and session ----------------------------------------------------------------------------------

add("ALTER SYSTEM", "ALTER SYSTEM SET work_mem = '{n}kB'", "SELECT pg_read_file('postgresql.auto.conf')")
add("SET", "SET work_mem = '{n}kB'", "SELECT current_setting('work_mem')", where="own")
add("SET", "SET ROLE stranger", "SELECT current_user", where="own", label="SET ROLE")
add("SET", "SET SESSION AUTHORIZATION stranger", "SELECT session_user", where="own",
    label="SET SESSION AUTHORIZATION")
add("SET", "SET LOCAL work_mem = '{n}kB'", None, session="BEGIN", label="SET LOCAL")
add("RESET", "RESET work_mem", "SELECT current_setting('work_mem')", where="own", session="SET work_mem = '{n}kB'")
add("SET CONSTRAINTS", "SET CONSTRAINTS ALL DEFERRED", None, session="BEGIN")
add("SHOW", "SHOW work_mem", None, static="loop")
add("DISCARD ALL", "DISCARD ALL", "SELECT current_setting('work_mem')", where="own",
    session="SET work_mem = '{n}kB'")
add("DISCARD PLANS", "DISCARD PLANS", None)
add("DISCARD SEQUENCES", "DISCARD SEQUENCES", "SELECT lastval()", SEQUENCE, where="own",
    session="SELECT nextval('{t}')", undo="SELECT nextval('{t}')")
add("DISCARD TEMP", "DISCARD TEMP", "SELECT to_regclass('pg_temp.{t}')", where="own",
    session="CREATE TEMP TABLE {t} (a int)")
# The queue's length is told in pages: one that is full makes the next notification begin another.
add("NOTIFY", "NOTIFY channel, '" + "x" * 4200 + "'", "SELECT pg_notification_queue_usage()",
    ahead="SELECT pg_notify('channel', repeat('x', 7900))")
CHANNELS = "SELECT count(*) FROM pg_listening_channels()"
add("LISTEN", "LISTEN {t}", CHANNELS, where="own")
add("UNLISTEN", "UNLISTEN {t}", CHANNELS, where="own", session="LISTEN {t}")
add("LOAD", "LOAD 'auto_explain'", "auto_explain", where="maps",
    static="the run that fills the plan cache loads the library for good")

# --- transactions and locks --------------------------------------------------------------------------------

add("LOCK TABLE", "LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE",
    "SELECT count(*) FROM pg_locks WHERE relation = '{t}'::regclass AND mode = 'AccessExclusiveLock' AND granted",
    ROWS, session="BEGIN")
add("BEGIN", "BEGIN", "", where="status", static=NO_STATEMENT)
add("START TRANSACTION", "START TRANSACTION", "", where="status")
add("COMMIT", "COMMIT", "SELECT count(*) FROM {t}", ROWS, session="BEGIN; INSERT INTO {t} VALUES (9, 9)",
    static=OWN_STATEMENT)
add("ROLLBACK", "ROLLBACK", "", where="status", session="BEGIN", static=OWN_STATEMENT)
IN_SAVEPOINT = "ROLLBACK TO SAVEPOINT s"
add("SAVEPOINT", "SAVEPOINT s", IN_SAVEPOINT, where="after:3B001", session="BEGIN")
add("RELEASE", "RELEASE SAVEPOINT s", IN_SAVEPOINT, where="after:ok", session="BEGIN; SAVEPOINT s")
TWO_PHASE = "SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{t}'"
WAITING = ROWS + "BEGIN; INSERT INTO {t} VALUES (9, 9); PREPARE TRANSACTION '{t}';"
add("PREPARE TRANSACTION", "PREPARE TRANSACTION '{t}'", TWO_PHASE, ROWS,
    session="BEGIN; INSERT INTO {t} VALUES (9, 9)")
add("COMMIT PREPARED", "COMMIT PREPARED '{t}'", TWO_PHASE, WAITING, static=NO_STATEMENT)
add("ROLLBACK PREPARED", "ROLLBACK PREPARED '{t}'", TWO_PHASE, WAITING, static=NO_STATEMENT)

# --- maintenance -------------------------------------------------------------------------------------------

FILENODE = "SELECT relfilenode FROM pg_class WHERE relname = '{t}'"
INDEXED = ROWS + "CREATE INDEX {t}_i ON {t} (id);"
add("TRUNCATE TABLE", "TRUNCATE {t}", "SELECT count(*) FROM {t}", ROWS)
add("VACUUM", "VACUUM {t}", "SELECT pg_stat_get_vacuum_count('{t}'::regclass)", ROWS)
add("VACUUM", "VACUUM FULL {t}", FILENODE, ROWS, label="VACUUM FULL")
add("ANALYZE", "ANALYZE {t}", "SELECT pg_stat_get_analyze_count('{t}'::regclass)", ROWS)
add("CLUSTER", "CLUSTER {t} USING {t}_i", FILENODE, INDEXED)
add("REINDEX", "REINDEX TABLE {t}", "SELECT relfilenode FROM pg_class WHERE relname = '{t}_i'", INDEXED)
add("REINDEX", "REINDEX INDEX {t}_i", "SELECT relfilenode FROM pg_class WHERE relname = '{t}_i'", INDEXED,
    label="REINDEX INDEX")
add("CHECKPOINT", "CHECKPOINT", "SELECT checkpoint_lsn FROM pg_control_checkpoint()", late=True)
add("COMMENT", "COMMENT ON TABLE {t} IS 'x'", "SELECT obj_description('{t}'::regclass)", ROWS)
add("IMPORT FOREIGN SCHEMA", "IMPORT FOREIGN SCHEMA source FROM SERVER loopback INTO {t}",
    "SELECT to_regclass('{t}.imported')", "CREATE SCHEMA {t};")

# --- CREATE, ALTER and DROP --------------------------------------------------------------------------------

COMPOSITE = "CREATE TYPE {t} AS (a int);"
RELATION = "SELECT to_regclass('{t}')"
BTREE = ("CREATE OPERATOR CLASS {t} FOR TYPE int4 USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, "
         "OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int4, int4)")


def kind(name, create, exists, *, of="{t}", before="", alter="RENAME TO {t}_r", altered="", drop=None, label=""):
    """The three commands of one kind of object. @of: how ALTER and DROP name it. @altered: the probe of ALTER."""
    made = before + create + ";"
    if create:
        add(f"CREATE {name}", create, exists, before, label=label and f"CREATE {label}")
    if alter:
        add(f"ALTER {name}", f"ALTER {label or name} {of} {alter}", altered or exists, made,
            label=label and f"ALTER {label}")
    if drop is not False:
        add(f"DROP {name}", drop or f"DROP {label or name} {of}", exists, made, label=label and f"DROP {label}")


kind("ACCESS METHOD", "CREATE ACCESS METHOD {t} TYPE INDEX HANDLER bthandler", count("pg_am", "amname"), alter="")
kind("AGGREGATE", "CREATE AGGREGATE {t}(int) (SFUNC = int4pl, STYPE = int)", count("pg_proc", "proname"),
     of="{t}(int)")
kind("CAST", "CREATE CAST ({t} AS text) WITH INOUT",
     "SELECT count(*) FROM pg_cast WHERE castsource = '{t}'::regtype", of="({t} AS text)", before=COMPOSITE, alter="")
kind("COLLATION", 'CREATE COLLATION {t} FROM "C"', count("pg_collation", "collname"))
kind("CONVERSION", "CREATE CONVERSION {t} FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1",
     count("pg_conversion", "conname"))
kind("DATABASE", "CREATE DATABASE {t}", count("pg_database", "datname"))
add("ALTER DATABASE", "ALTER DATABASE guarded SET \"gates.{t}\" = '1'", "SELECT count(*) FROM pg_db_role_setting, "
    "unnest(setconfig) s WHERE s LIKE 'gates.{t}=%'", label="ALTER DATABASE SET")
kind("DOMAIN", "CREATE DOMAIN {t} AS int", count("pg_type", "typname"))
add("ALTER DOMAIN", "ALTER DOMAIN {t} SET NOT NULL", "SELECT typnotnull FROM pg_type WHERE typname = '{t}'",
    "CREATE DOMAIN {t} AS int;", label="ALTER DOMAIN SET NOT NULL")
kind("EVENT TRIGGER", "CREATE EVENT TRIGGER {t} ON ddl_command_end WHEN TAG IN ('ALTER LARGE OBJECT') "
     "EXECUTE FUNCTION {t}_f()", count("pg_event_trigger", "evtname"), before="CREATE FUNCTION {t}_f() RETURNS "
     "event_trigger LANGUAGE plpgsql AS 'BEGIN END';", alter="DISABLE",
     altered="SELECT evtenabled FROM pg_event_trigger WHERE evtname = '{t}'")
kind("EXTENSION", "CREATE EXTENSION {ext}", "SELECT count(*) FROM pg_extension WHERE extname = '{ext}'",
     of="{ext}", before=BASE, alter="ADD TABLE {t}_b",
     altered="SELECT count(*) FROM pg_depend WHERE objid = '{t}_b'::regclass AND deptype = 'e'")
kind("FOREIGN DATA WRAPPER", "CREATE FOREIGN DATA WRAPPER {t}", count("pg_foreign_data_wrapper", "fdwname"))
kind("FOREIGN TABLE", "CREATE FOREIGN TABLE {t} (a int) SERVER nowhere", RELATION)
kind("FUNCTION", "CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT 1'", count("pg_proc", "proname"),
     of="{t}()")
add("ALTER FUNCTION", "ALTER FUNCTION {t}() STRICT", "SELECT proisstrict FROM pg_proc WHERE proname = '{t}'",
    "CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT 1';", label="ALTER FUNCTION STRICT")
kind("INDEX", "CREATE INDEX {t} ON {t}_b (id)", RELATION, before=BASE)
kind("LANGUAGE", "CREATE LANGUAGE {t} HANDLER plpgsql_call_handler", count("pg_language", "lanname"))
add("ALTER LARGE OBJECT", "ALTER LARGE OBJECT {n} OWNER TO stranger",
    "SELECT lomowner FROM pg_largeobject_metadata WHERE oid = {n}", "SELECT lo_create({n});")
kind("MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW {t} AS SELECT 1 AS a", RELATION)
kind("OPERATOR", "CREATE OPERATOR @#@ (LEFTARG = {t}, RIGHTARG = {t}, FUNCTION = {t}_f)",
     "SELECT count(*) FROM pg_operator WHERE oprleft = '{t}'::regtype", of="@#@ ({t}, {t})", before=COMPOSITE +
     "CREATE FUNCTION {t}_f({t}, {t}) RETURNS bool LANGUAGE sql AS 'SELECT true';", alter="SET SCHEMA source",
     altered="SELECT oprnamespace FROM pg_operator WHERE oprleft = '{t}'::regtype")
kind("OPERATOR CLASS", BTREE, count("pg_opclass", "opcname"), of="{t} USING btree")
kind("OPERATOR FAMILY", "CREATE OPERATOR FAMILY {t} USING btree", count("pg_opfamily", "opfname"),
     of="{t} USING btree")
kind("POLICY", "CREATE POLICY {t} ON {t}_b", count("pg_policy", "polname"), of="{t} ON {t}_b", before=BASE)
kind("PROCEDURE", "CREATE PROCEDURE {t}() LANGUAGE sql AS 'SELECT 1'", count("pg_proc", "proname"), of="{t}()")
kind("PUBLICATION", "CREATE PUBLICATION {t}", count("pg_publication", "pubname"))
kind("ROLE", "CREATE ROLE {t}", count("pg_roles", "rolname"))
kind("ROLE", "CREATE USER {t}", count("pg_roles", "rolname"), alter="CREATEDB",
     altered="SELECT rolcreatedb FROM pg_roles WHERE rolname = '{t}'", label="USER")
add("ALTER ROLE", "ALTER ROLE {t} SET work_mem = '{n}kB'",
    "SELECT count(*) FROM pg_db_role_setting WHERE setrole = '{t}'::regrole", ROLE, label="ALTER ROLE SET")
kind("ROUTINE", "", count("pg_proc", "proname"), of="{t}()",
     before="CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
kind("RULE", "CREATE RULE {t} AS ON UPDATE TO {t}_b DO INSTEAD NOTHING", count("pg_rewrite", "rulename"),
     of="{t} ON {t}_b", before=BASE)
kind("SCHEMA", "CREATE SCHEMA {t}", count("pg_namespace", "nspname"))
kind("SEQUENCE", "CREATE SEQUENCE {t}", RELATION)
add("ALTER SEQUENCE", "ALTER SEQUENCE {t} RESTART WITH 50", ADVANCED, SEQUENCE, label="ALTER SEQUENCE RESTART")
kind("SERVER", "CREATE SERVER {t} FOREIGN DATA WRAPPER nothing", count("pg_foreign_server", "srvname"))
kind("STATISTICS", "CREATE STATISTICS {t} ON id, x FROM {t}_b", count("pg_statistic_ext", "stxname"), before=BASE)
kind("SUBSCRIPTION", "CREATE SUBSCRIPTION {t} CONNECTION 'host=none' PUBLICATION p WITH (connect = false, "
     "slot_name = NONE)", count("pg_subscription", "subname"))
kind("TABLE", "CREATE TABLE {t} (id int, x int)", RELATION, alter="ADD COLUMN y int",
     altered="SELECT relnatts FROM pg_class WHERE relname = '{t}'")
for what, rest, probe in (
        ("RENAME", "RENAME TO {t}_r", RELATION),
        ("RENAME COLUMN", "RENAME COLUMN x TO y", "SELECT attname FROM pg_attribute WHERE attrelid = '{t}'::regclass "
         "AND attnum = 2"),
        ("DROP COLUMN", "DROP COLUMN x", "SELECT count(*) FROM pg_attribute WHERE attrelid = '{t}'::regclass AND "
         "attisdropped"),
        ("OWNER TO", "OWNER TO stranger", "SELECT relowner FROM pg_class WHERE relname = '{t}'"),
        ("SET SCHEMA", "SET SCHEMA source", RELATION),
        ("TYPE", "ALTER COLUMN x TYPE bigint", FILENODE)):
    add("ALTER TABLE", f"ALTER TABLE {{t}} {rest}", probe, ROWS, label=f"ALTER TABLE {what}")
kind("TABLESPACE", "CREATE TABLESPACE {t} LOCATION ''", count("pg_tablespace", "spcname"))
kind("TEXT SEARCH CONFIGURATION", "CREATE TEXT SEARCH CONFIGURATION {t} (COPY = simple)",
     count("pg_ts_config", "cfgname"))
kind("TEXT SEARCH DICTIONARY", "CREATE TEXT SEARCH DICTIONARY {t} (TEMPLATE = simple)",
     count("pg_ts_dict", "dictname"))
kind("TEXT SEARCH PARSER", "CREATE TEXT SEARCH PARSER {t} (START = prsd_start, GETTOKEN = prsd_nexttoken, "
     "END = prsd_end, LEXTYPES = prsd_lextype)", count("pg_ts_parser", "prsname"))
kind("TEXT SEARCH TEMPLATE", "CREATE TEXT SEARCH TEMPLATE {t} (LEXIZE = dsimple_lexize)",
     count("pg_ts_template", "tmplname"))
kind("TRANSFORM", "CREATE TRANSFORM FOR {t} LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal))",
     "SELECT count(*) FROM pg_transform WHERE trftype = '{t}'::regtype", of="FOR {t} LANGUAGE sql",
     before=COMPOSITE, alter="")
kind("TRIGGER", "CREATE TRIGGER {t} BEFORE UPDATE ON {t}_b FOR EACH ROW EXECUTE FUNCTION "
     "suppress_redundant_updates_trigger()", count("pg_trigger", "tgname"), of="{t} ON {t}_b", before=BASE)
kind("TYPE", "CREATE TYPE {t} AS ENUM ('a')", count("pg_type", "typname"))
add("ALTER TYPE", "ALTER TYPE {t} ADD VALUE 'b'", "SELECT count(*) FROM pg_enum WHERE enumtypid = '{t}'::regtype",
    "CREATE TYPE {t} AS ENUM ('a');", label="ALTER TYPE ADD VALUE")
add("CREATE TYPE", "CREATE TYPE {t} AS (a int)", count("pg_type", "typname"), label="CREATE TYPE AS")
add("ALTER TYPE", "ALTER TYPE {t} ADD ATTRIBUTE b int", "SELECT relnatts FROM pg_class WHERE relname = '{t}'",
    COMPOSITE, label="ALTER TYPE ADD ATTRIBUTE")
kind("USER MAPPING", "CREATE USER MAPPING FOR PUBLIC SERVER {t}", count("pg_user_mappings", "srvname"),
     of="FOR PUBLIC SERVER {t}", before="CREATE SERVER {t} FOREIGN DATA WRAPPER nothing;", alter="OPTIONS (ADD a 'b')",
     altered="SELECT umoptions FROM pg_user_mappings WHERE srvname = '{t}'")
kind("VIEW", "CREATE VIEW {t} AS SELECT 1 AS a", RELATION)

# --- CREATE of what is there already, which takes no new object identifier ---------------------------------

FUNCTION = "CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT 1';"
SOURCE = "SELECT prosrc FROM pg_proc WHERE proname = '{t}'"


def replaces(tag, sql, probe, setup, label="OR REPLACE"):
    add(f"CREATE {tag}", sql, probe, setup, label=f"CREATE {label} {tag}" if label == "OR REPLACE" else label)


replaces("AGGREGATE", "CREATE OR REPLACE AGGREGATE {t}(int) (SFUNC = int4mi, STYPE = int)",
         "SELECT aggtransfn FROM pg_aggregate WHERE aggfnoid = '{t}'::regproc",
         "CREATE AGGREGATE {t}(int) (SFUNC = int4pl, STYPE = int);")
replaces("FUNCTION", "CREATE OR REPLACE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT 2'", SOURCE, FUNCTION)
replaces("PROCEDURE", "CREATE OR REPLACE PROCEDURE {t}() LANGUAGE sql AS 'SELECT 2'", SOURCE,
         "CREATE PROCEDURE {t}() LANGUAGE sql AS 'SELECT 1';")
replaces("LANGUAGE", "CREATE OR REPLACE LANGUAGE {t} HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler",
         "SELECT laninline FROM pg_language WHERE lanname = '{t}'",
         "CREATE LANGUAGE {t} HANDLER plpgsql_call_handler;")
replaces("RULE", "CREATE OR REPLACE RULE {t} AS ON UPDATE TO {t}_b WHERE false DO INSTEAD NOTHING",
         "SELECT ev_qual FROM pg_rewrite WHERE rulename = '{t}'",
         BASE + "CREATE RULE {t} AS ON UPDATE TO {t}_b DO INSTEAD NOTHING;")
replaces("TRANSFORM", "CREATE OR REPLACE TRANSFORM FOR {t} LANGUAGE sql (TO SQL WITH FUNCTION {t}_f(internal))",
         "SELECT trffromsql FROM pg_transform WHERE trftype = '{t}'::regtype", COMPOSITE +
         "CREATE FUNCTION {t}_f(internal) RETURNS {t} LANGUAGE internal IMMUTABLE AS 'record_in';"
         "CREATE TRANSFORM FOR {t} LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal));")
replaces("TRIGGER", "CREATE OR REPLACE TRIGGER {t} AFTER UPDATE ON {t}_b FOR EACH ROW EXECUTE FUNCTION "
         "suppress_redundant_updates_trigger()", "SELECT tgtype FROM pg_trigger WHERE tgname = '{t}'", BASE +
         "CREATE TRIGGER {t} BEFORE UPDATE ON {t}_b FOR EACH ROW EXECUTE FUNCTION "
         "suppress_redundant_updates_trigger();")
replaces("VIEW", "CREATE OR REPLACE VIEW {t} AS SELECT 2 AS a", "SELECT pg_get_viewdef('{t}'::regclass)",
         "CREATE VIEW {t} AS SELECT 1 AS a;")
replaces("OPERATOR", "CREATE OPERATOR @~@ (LEFTARG = {t}, RIGHTARG = {t}, FUNCTION = {t}_f)",
         "SELECT oprcode FROM pg_operator WHERE oprleft = '{t}'::regtype AND oprname = '@~@'", COMPOSITE +
         "CREATE FUNCTION {t}_f({t}, {t}) RETURNS bool LANGUAGE sql AS 'SELECT true';"
         "CREATE OPERATOR @#@ (LEFTARG = {t}, RIGHTARG = {t}, FUNCTION = {t}_f, COMMUTATOR = @~@);",
         label="CREATE OPERATOR that was a shell")
replaces("TYPE", "CREATE TYPE {t} (INPUT = {t}_in, OUTPUT = {t}_out, LIKE = int4)",
         "SELECT typisdefined FROM pg_type WHERE typname = '{t}'", "CREATE TYPE {t};"
         "CREATE FUNCTION {t}_in(cstring) RETURNS {t} LANGUAGE internal IMMUTABLE STRICT AS 'int4in';"
         "CREATE FUNCTION {t}_out({t}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';",
         label="CREATE TYPE that was a shell")
