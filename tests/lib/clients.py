# SPDX-License-Identifier: Apache-2.0
"""
The clients of the differential tests, and what they were told: psql, pgbench, libpq's pipeline mode, psycopg2, node-postgres
and JDBC. Each is client(cluster, transport, tags, volume) and makes about @volume executions, or some more.

Their sources are in tests/e2e. Knows nothing of the daemon.
"""
import json
import os
import re
import shutil
from collections import Counter, defaultdict

from e2e import BUILD, ROOT, Failure, Skip, check, run
from pgwire import Connection

HERE = os.path.join(ROOT, "tests", "e2e")
MADE = os.path.join(BUILD, "tests", "e2e")


class ClientTags:
    """What the clients were told: (backend pid, text) → tags, and rows of portals fetched in pieces."""

    def __init__(self):
        self.tags = defaultdict(Counter)
        self.pieces = []

    def add(self, pid, text, tag):
        self.tags[int(pid)][(text, tag)] += 1

    def rename(self, log):
        """Sessions by the names that @log has for them, which need not be backend pids."""
        names = {pid: name for name, session in log.items() for pid in session.pids}
        renamed = ClientTags()
        for pid, counter in self.tags.items():
            renamed.tags[names.get(pid, pid)].update(counter)
        renamed.pieces = [(names.get(pid, pid), text, rows) for pid, text, rows in self.pieces]
        return renamed

    def differences(self, journal):
        found = []
        for pid, want in self.tags.items():
            have = journal.tags.get(pid, Counter())
            for (text, tag), count in (want - have).items():
                others = [t for (x, t) in have if x == text][:3]
                found.append(f"backend {pid}: {count} × {text[:60]!r}: the client was told {tag!r}, "
                             f"the journal says {others}")
        return found[:12]

    def rows_differences(self, journal):
        """Rows against the record's own tag; against the client's count where a portal was fetched in pieces."""
        found = []
        pieces = {(pid, text) for pid, text, _ in self.pieces}
        for pid, text, tag, rows in journal.uneven:
            if (pid, text) not in pieces:
                found.append(f"backend {pid}: {text[:60]!r}: the tag is {tag!r}, the record says {rows} rows")
        for pid, text, rows in self.pieces:
            have = [r for p, t, _, r in journal.uneven if (p, t) == (pid, text)]
            if not have or set(have) != {rows}:
                found.append(f"backend {pid}: {text[:60]!r}: {rows} rows were fetched in pieces, the records say {have}")
        return found[:12]


def psql_scripts(cluster, transport, _tags, _volume):
    with open(os.path.join(HERE, "sql", "script.sql"), encoding="utf-8") as f:
        script = f.read()
    long_text = "SELECT length('" + "long " * 6000 + "');\n"
    cluster.psql(script + long_text, transport=transport, options=("-v", "ON_ERROR_STOP=0"))
    cluster.psql("SELECT 1;\n;\n", transport=transport)
    cluster.run_client([cluster.bin("psql"), "-X", "-q", "-c", "SELECT 1; SELECT 2; SELEC 3", "-c", "SELECT 4"],
                       env=cluster.env(transport), check_rc=False)


def pgbench_modes(cluster, transport, _tags, volume):
    """Half of the volume as -S, half as TPC-B (seven statements each), over the three query modes."""
    share = volume // (3 * 2)
    for mode in ("simple", "extended", "prepared"):
        for options, per_transaction in ((["-S"], 1), ([], 7)):
            each = max(1, share // per_transaction // 4)
            cluster.pgbench("-n", "-c", "4", "-j", "2", "-t", str(each), "-M", mode, *options,
                            transport=transport, user="bench")


def built(name, source, argv):
    """Where @argv, a compiler's command, has put what it makes of a source of tests/e2e; called when that is newer."""
    path, source = os.path.join(MADE, name), os.path.join(HERE, source)
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        run(argv(source, path))
    return path


def libpq_pipeline(cluster, transport, tags, volume):
    flags = run(["pkg-config", "--cflags", "--libs", "libpq"]).stdout.split()
    binary = built("pipeline", "pipeline.c", lambda source, path: [
        "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", source, "-o", path, *flags])
    source = os.path.join(HERE, "pipeline.c")
    with open(source, encoding="utf-8") as f:
        table = f.read().split("queries[QUERY_CNT] = {")[1].split("};")[0]
    texts = re.findall(r'"(.*)",', table)
    rounds = max(20, volume // 333)
    done = cluster.run_client([binary, cluster.conninfo(transport) + " application_name=pipeline", str(rounds)])
    for line in done.stdout.splitlines():
        pid, index, tag = line.split("\t")
        tags.add(pid, texts[int(index)], tag)
    check(len(done.stdout.splitlines()) >= rounds * 5, "the pipeline client got too few answers")


def psycopg2_client(cluster, transport, tags, volume):
    try:
        import psycopg2
    except ImportError as e:
        raise Skip("python3-psycopg2 is not installed") from e
    with cluster.client:
        conn = psycopg2.connect(cluster.conninfo(transport) + " application_name=psycopg2")
    pid = conn.info.backend_pid
    cur = conn.cursor()

    def ask(text, args=None):
        cur.execute(text, args)
        sent = (cur.query or b"").decode("utf-8")
        tags.add(pid, sent, cur.statusmessage)

    def refused(text, sqlstate):
        try:
            cur.execute(text)
        except psycopg2.Error as e:
            check(e.pgcode == sqlstate, f"{text!r} failed with {e.pgcode}, not {sqlstate}")
        else:
            raise Failure(f"{text!r} was expected to fail with {sqlstate}")

    ask("CREATE TEMP TABLE py_t (id int PRIMARY KEY, v text)")
    for i in range(max(10, volume // 667)):
        ask("INSERT INTO py_t VALUES (%s, %s)", (i, f"it's {i} ünicode"))
        ask("SELECT * FROM py_t WHERE id <= %s", (i,))
        ask("UPDATE py_t SET v = %s", ("all",))
        conn.commit()
        refused(f"INSERT INTO py_t VALUES ({i}, NULL)", "23505")
        refused("SELECT 1", "25P02")
        conn.rollback()
        refused("SELECT FROM WHERE", "42601")
        conn.rollback()
    with conn.cursor(name="server_side") as named:
        named.itersize = 7
        named.execute("SELECT generate_series(1, 40)")
        check(len(list(named)) == 40, "the server-side cursor lost rows")
    conn.commit()
    conn.close()


def node_modules():
    """The folder of node-postgres, installed into build/npm from the npm registry on first use."""
    if not shutil.which("node"):
        raise Skip("node is not installed")
    prefix = os.path.join(BUILD, "npm")
    modules = os.path.join(prefix, "node_modules")
    if not os.path.isdir(os.path.join(modules, "pg")):
        if not shutil.which("npm"):
            raise Skip("npm is not installed")
        os.makedirs(prefix, exist_ok=True)
        done = run(["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", prefix, "pg@8"],
                   timeout=180, check_rc=False)
        if done.returncode:
            raise Skip(f"npm could not install pg: {done.stderr.strip()[-200:]}")
    return modules


def node_postgres(cluster, transport, tags, volume):
    env = cluster.env(transport)
    env.update({"NODE_PATH": node_modules(), "PGAPPNAME": "node"})
    rounds = str(max(10, volume // 1333))
    done = cluster.run_client(["node", os.path.join(HERE, "node_client.js"), rounds], env=env)
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        if answer["tag"] is None:
            tags.pieces.append((answer["pid"], answer["text"], answer["rows"]))
        else:
            tags.add(answer["pid"], answer["text"], answer["tag"])


DRIVER = "/usr/share/java/postgresql.jar"


def jdbc_class():
    """The folder of the compiled client."""
    compiler = ["javac"] if shutil.which("javac") else ["ecj", "-proc:none", "-11"] if shutil.which("ecj") else []
    if not (compiler and shutil.which("java") and os.path.exists(DRIVER)):
        raise Skip("java, a compiler for it or libpostgresql-jdbc-java is not installed")
    return os.path.dirname(built("java/JdbcClient.class", "JdbcClient.java", lambda source, path: [
        *compiler, "-classpath", DRIVER, "-d", os.path.dirname(path), source]))


def jdbc(cluster, transport, tags, volume):
    if transport == "unix":
        return  # which it does not have
    host = f"[{cluster.host}]" if ":" in cluster.host else cluster.host
    url = (f"jdbc:postgresql://{host}:{cluster.port}/postgres?user=postgres&ApplicationName=jdbc&gssEncMode=disable"
           f"&sslmode={'require' if transport == 'tls' else 'disable'}")
    done = cluster.run_client(["java", "-cp", f"{DRIVER}:{jdbc_class()}", "JdbcClient", url, str(max(5, volume // 1333))])
    for line in done.stdout.splitlines():
        pid, rows, text = line.split("\t")
        tags.pieces.append((int(pid), text, int(rows)))


def long_statements(cluster, transport, _tags, volume):
    """Texts and answers of many segments, over TCP several at once; none longer than what is always captured."""
    at_once = 5 if transport == "tcp" else 1
    with Connection(cluster, transport, application="long") as conn:
        for i in range(max(25, volume // 200) // at_once):
            texts = [f"SELECT {i * 10 + n} AS n, repeat('answer', 5000), '{'long ' * 11000}'" for n in range(at_once)]
            result = conn.pipeline(*(m for text in texts for m in (conn.parse(text), conn.bind(), conn.execute())))
            check(len(result.rows) == at_once and not result.errors, f"long statements: {result.errors}")


EVERY = (psql_scripts, pgbench_modes, libpq_pipeline, psycopg2_client, node_postgres, jdbc, long_statements)
