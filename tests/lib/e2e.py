# SPDX-License-Identifier: Apache-2.0
"""
The harness of the end-to-end tests: a scratch PostgreSQL cluster, the daemon, and a registry of cases.

Everything a case starts is ended by process id when it leaves; the network is 127.0.0.1 and unix sockets
only; everything written lies in a fresh directory under /tmp. A case that needs what the machine does not
have raises Skip with the reason; a daemon that was not built is a failure, not a skip.

Knows how the programs are called (options, JSON field names). Knows nothing of any one test.
"""
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DBFENCE_BUILD", os.path.join(ROOT, "build"))
DBFENCED = os.path.join(BUILD, "bin", "dbfenced")
DBFENCE = os.path.join(BUILD, "bin", "dbfence")
# Of this test process alone: other daemons of the machine, and other tests, keep theirs.
PINS = f"/sys/fs/bpf/dbfence-test-{os.getpid()}"
TRANSPORTS = ("tcp", "unix", "tls")


class Skip(Exception):
    """This machine cannot run the case; the text says why."""


class Failure(AssertionError):
    """The case found something wrong; the text says what."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def wait_until(predicate, timeout, what, every=0.05):
    """The first true value of predicate(); Failure naming @what when @timeout seconds have passed."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failure(f"waited {timeout} s in vain for {what}")
        time.sleep(every)


def say(text):
    """A figure or remark of a case, printed under its name."""
    print(f"  {text}", flush=True)


# --- cases -----------------------------------------------------------------------------------------------

_cases = []


def case(function):
    """Register a case. It is named after the function; its doc string's first line says what it proves."""
    _cases.append(function)
    return function


def main():
    """Run the registered cases (those whose name contains an argument), print the total, exit."""
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
    for function in _cases:
        if wanted and not any(w in function.__name__ for w in wanted):
            continue
        start = time.monotonic()
        verdict, why = "PASS", ""
        try:
            function()
        except Skip as e:
            verdict, why = "SKIP", str(e)
        except Failure as e:
            verdict, why = "FAIL", str(e)
        except (Exception, KeyboardInterrupt):  # a broken test is a failed one, and the others still run
            verdict, why = "FAIL", traceback.format_exc()
        counts[verdict] += 1
        tail = f": {why}" if why else ""
        print(f"{verdict} {function.__name__} ({time.monotonic() - start:.1f} s){tail}", flush=True)
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped", flush=True)
    sys.exit(1 if counts["FAIL"] else 0)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def pg_bindir():
    """The folder of the newest installed PostgreSQL server that dbfence knows; Skip when there is none."""
    forced = os.environ.get("DBFENCE_PG_BINDIR")
    for major in [None] if forced else range(18, 12, -1):
        path = forced or f"/usr/lib/postgresql/{major}/bin"
        if os.access(os.path.join(path, "postgres"), os.X_OK):
            return path
    raise Skip("no PostgreSQL server is installed (tools/dev/deps test installs one)")


# --- processes -------------------------------------------------------------------------------------------

def task_state(pid):
    """The state letter of a task ('T' is stopped), or '' when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def kill_quietly(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def end_process(proc, signals, patience=10.0):
    """Send each of @signals in turn to @proc until it is gone."""
    for sig in signals:
        if proc.poll() is not None:
            break
        kill_quietly(proc.pid, sig)
        try:
            proc.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    return proc.wait(patience)


def run(argv, *, timeout=120, check_rc=True, **kw):
    """subprocess.run with text output, a timeout, and a Failure that shows what the program said."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    if "input" in kw:
        del kw["stdin"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="surrogateescape",
                              timeout=timeout, check=False, **kw)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"{argv[0]}: no end after {timeout} s") from e
    except FileNotFoundError as e:
        raise Failure(f"{argv[0]} does not exist") from e
    if check_rc and done.returncode != 0:
        raise Failure(f"{' '.join(argv[:4])} … exited with {done.returncode}: "
                      f"{(done.stderr or done.stdout)[-2000:].strip()}")
    return done


# --- a scratch PostgreSQL --------------------------------------------------------------------------------

_clusters = []  # the scratch servers that are running


class Cluster:
    """
    One PostgreSQL server in a temporary directory, with TLS, a unix socket and a port of its own.
    A context manager: started on entry, stopped and deleted on exit. @world (netns.World): where it and its clients live.
    """

    def __init__(self, *, preload=(), settings=None, log_all=False, name="e2e", bindir=None, world=None):
        self.bindir = bindir or pg_bindir()
        self.preload = list(preload)
        self.settings = dict(settings or {})
        self.log_all = log_all
        self.proc = None
        self.host = world.host if world else "127.0.0.1"
        self.server, self.client = (world.server, world.client) if world else (contextlib.nullcontext(),) * 2
        self.dir = tempfile.mkdtemp(prefix=f"dbfence-{name}-", dir="/tmp")
        self.data = os.path.join(self.dir, "data")
        self.sock = os.path.join(self.dir, "sock")
        self.logdir = os.path.join(self.dir, "log")
        self.csvlog = os.path.join(self.logdir, "server.csv")
        self.port = 0
        self.owner = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.owner = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def __enter__(self):
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def bin(self, name):
        """A program of this server; some builds have no clients: then one of the installed server's."""
        path = os.path.join(self.bindir, name)
        return path if os.access(path, os.X_OK) else os.path.join(pg_bindir(), name)

    def _make(self):
        os.chmod(self.dir, 0o755)
        for path in (self.sock, self.logdir):
            os.mkdir(path)
        for path in (self.dir, self.sock, self.logdir):
            if self.owner:
                os.chown(path, self.owner["user"], self.owner["group"])
        run([self.bin("initdb"), "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync"], cwd=self.dir, **self.owner)
        key, crt = os.path.join(self.data, "server.key"), os.path.join(self.data, "server.crt")
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-keyout", key, "-out", crt], cwd=self.dir, **self.owner)
        os.chmod(key, 0o600)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self._configure()

    def _configure(self):
        conf = {
            "listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.sock,
            "ssl": "on", "fsync": "off", "max_connections": 60, "shared_buffers": "64MB",
            "max_prepared_transactions": 4, "wal_level": "logical",
            "logging_collector": "on", "log_destination": "csvlog", "log_directory": self.logdir,
            "log_filename": "server.log", "log_rotation_size": 0, "log_rotation_age": 0,
            "log_file_mode": "0644", "log_parameter_max_length": 0,
            "log_parameter_max_length_on_error": 0, "log_timezone": "UTC", "timezone": "UTC",
        }
        if self.log_all:
            conf.update({"log_statement": "all", "log_error_verbosity": "verbose"})
        if self.preload:
            conf["shared_preload_libraries"] = ",".join(self.preload)
        conf.update(self.settings)
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
            for key, value in conf.items():
                quoted = str(value).replace("'", "''")
                f.write(f"{key} = '{quoted}'\n")
        with open(os.path.join(self.data, "pg_hba.conf"), "a", encoding="utf-8") as f:
            f.write("host all all samenet trust\n")

    def start(self):
        with open(os.path.join(self.dir, "start.log"), "ab") as log, self.server:
            self.proc = subprocess.Popen([self.bin("postgres"), "-D", self.data], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, cwd=self.dir, **self.owner)

        def up():
            if self.proc.poll() is not None:
                with open(os.path.join(self.dir, "start.log"), encoding="utf-8", errors="replace") as f:
                    raise Failure(f"PostgreSQL did not start: {f.read()[-2000:]}")
            return run([self.bin("pg_isready"), "-q", "-h", self.sock, "-p", str(self.port)],
                       check_rc=False).returncode == 0
        _clusters.append(self)
        wait_until(up, 30, "the scratch PostgreSQL to accept connections")

    def backends(self):
        return children_of(self.proc.pid) if self.proc and self.proc.poll() is None else []

    def stopped_backends(self):
        return [pid for pid in self.backends() if task_state(pid) == "T"]

    def stop(self):
        if self in _clusters:
            _clusters.remove(self)
        if not self.proc:
            return
        for pid in self.backends():  # a stopped backend would make a fast shutdown wait for ever
            kill_quietly(pid, signal.SIGCONT)
        end_process(self.proc, (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL))
        self.proc = None

    def close(self):
        self.stop()
        if os.environ.get("DBFENCE_E2E_KEEP"):
            say(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def env(self, transport="unix", database="postgres", user="postgres"):
        """Environment of a libpq client on @transport."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        env.update({"PGHOST": self.sock if transport == "unix" else self.host, "PGPORT": str(self.port),
                    "PGUSER": user, "PGDATABASE": database, "PGCONNECT_TIMEOUT": "10",
                    "PGSSLMODE": "require" if transport == "tls" else "disable", "PGGSSENCMODE": "disable",
                    "LC_ALL": "C.UTF-8"})
        return env

    def conninfo(self, transport="unix", database="postgres", user="postgres"):
        env = self.env(transport, database, user)
        return (f"host={env['PGHOST']} port={self.port} user={user} dbname={database} "
                f"sslmode={env['PGSSLMODE']} gssencmode=disable connect_timeout=10")

    def psql(self, sql, *, transport="unix", database="postgres", user="postgres", check_rc=True,
             options=("-v", "ON_ERROR_STOP=1"), timeout=60):
        """Run @sql from psql's standard input; returns the finished process."""
        return self.run_client([self.bin("psql"), "-X", "-q", "-A", "-t", *options, "-f", "-"], input=sql,
                               env=self.env(transport, database, user), check_rc=check_rc, timeout=timeout)

    def run_client(self, argv, **kw):
        """run(), where the clients of this server live."""
        with self.client:
            return run(argv, **kw)

    def value(self, sql, **kw):
        """The one value of a query, as text."""
        return self.psql(sql, **kw).stdout.rstrip("\n")

    def pgbench(self, *options, transport="unix", database="postgres", user="postgres", timeout=900):
        return self.run_client([self.bin("pgbench"), *options], env=self.env(transport, database, user), timeout=timeout)


# --- the daemon ------------------------------------------------------------------------------------------

class Daemon:
    """
    build/bin/dbfenced on scratch directories. A context manager; `start` waits for the line that says ready. On exit
    it is stopped, and whatever it left pinned is disarmed. @live: with a line per statement, as a person runs it;
    without, as a service does.
    """

    def __init__(self, policies=None, *, mode=None, text="full", args=(), state_dir=None, live=True):
        need_root()
        check(os.access(DBFENCED, os.X_OK), f"{DBFENCED} does not exist: run make")
        check(os.access(DBFENCE, os.X_OK), f"{DBFENCE} does not exist: run make")
        self.dir = tempfile.mkdtemp(prefix="dbfence-daemon-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.policy_dir = os.path.join(self.dir, "policies")
        self.state_dir = state_dir or os.path.join(self.dir, "state")
        self.socket = os.path.join(self.dir, "control.sock")
        self.stderr_path = os.path.join(self.dir, "stderr")
        self.mode, self.text, self.args = mode, text, [*args, *(["--foreground"] if live else [])]
        self.proc = None
        self.seen = set()  # process ids that were ours at some time
        self.lines = []
        os.mkdir(self.policy_dir)
        for name, yaml in (policies or {}).items():
            self.write_policy(name, yaml)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def write_policy(self, name, yaml):
        """Place a policy file at once (renamed into place, as an operator's tool would)."""
        path = os.path.join(self.policy_dir, name)
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            f.write(yaml)
        os.rename(path + ".tmp", path)

    def argv(self):
        argv = [DBFENCED, "--policy-dir", self.policy_dir, "--state-dir", self.state_dir,
                "--socket", self.socket, "--pin-dir", PINS]
        if self.mode:
            argv += ["--mode", self.mode]
        if self.text:
            argv += ["--text", self.text]
        # Never enforce on a server of the machine: on the scratch ones only, or, without one, on no port in use.
        for port in [c.port for c in _clusters] or [1]:
            argv += ["--only-port", str(port)]
        return argv + self.args

    def start(self, timeout=20):
        """Start, and wait for the line on standard error that says ready."""
        self.lines = []
        out = open(os.path.join(self.dir, "stdout"), "ab")
        self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=subprocess.PIPE, text=True, errors="replace", cwd=ROOT)
        out.close()
        ready = threading.Event()

        def read(stream, lines):
            with open(self.stderr_path, "a", encoding="utf-8") as log:
                for line in stream:
                    lines.append(line)
                    log.write(line)
                    log.flush()
                    if re.search(r"\bready\b", line):
                        ready.set()
            ready.set()  # the end of the stream: nothing more to wait for
        threading.Thread(target=read, args=(self.proc.stderr, self.lines), daemon=True).start()
        ready.wait(timeout)
        said_ready = any(re.search(r"\bready\b", line) for line in self.lines)
        if not said_ready or self.proc.poll() is not None:
            time.sleep(0.2)
            raise Failure(f"dbfenced did not say ready within {timeout} s "
                          f"(exit status {self.proc.poll()}); it said:\n{''.join(self.lines[-40:])}")

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self):
        """An orderly end; Failure when it had to be killed or ended with an error."""
        if not self.proc:
            return
        kill_quietly(self.proc.pid, signal.SIGTERM)
        try:
            rc = self.proc.wait(15)
        except subprocess.TimeoutExpired as e:
            self.kill_all()
            raise Failure("dbfenced did not end within 15 s of SIGTERM") from e
        self.proc = None
        check(rc == 0, f"dbfenced ended with status {rc} after SIGTERM: {''.join(self.lines[-10:])}")

    def family(self):
        """Process ids of the daemon and all its descendants that are alive."""
        found, todo = [], [self.proc.pid] if self.proc else []
        while todo:
            pid = todo.pop()
            if task_state(pid) not in ("", "Z"):
                found.append(pid)
            todo += children_of(pid)
        self.seen.update(found)
        return found

    def end_orphans(self):
        """kill -9 of what outlived its keeper and still runs our program."""
        for pid in self.seen:
            try:
                if os.readlink(f"/proc/{pid}/exe").startswith(os.path.realpath(DBFENCED)):
                    kill_quietly(pid, signal.SIGKILL)
            except OSError:
                pass

    def kill_all(self):
        """kill -9 of every process of the daemon, children first known, all before any is reaped."""
        for pid in self.family():
            kill_quietly(pid, signal.SIGKILL)
        if self.proc:
            self.proc.wait(10)
            self.proc = None

    def close(self):
        try:
            if self.proc:
                for pid in self.family():
                    kill_quietly(pid, signal.SIGCONT)
                end_process(self.proc, (signal.SIGTERM, signal.SIGKILL), patience=5)
                self.proc = None
            self.end_orphans()
        finally:
            if os.access(DBFENCE, os.X_OK):
                self.cli("disarm", check_rc=False)
            if os.environ.get("DBFENCE_E2E_KEEP"):
                say(f"kept {self.dir}")
            else:
                shutil.rmtree(self.dir, ignore_errors=True)

    # --- asking it ---------------------------------------------------------------------------------------

    def cli(self, *args, check_rc=True, timeout=60):
        if args[:1] == ("disarm",):
            args = ("disarm", "--pin-dir", PINS, "--state-dir", self.state_dir, *args[1:])
        return run([DBFENCE, "--socket", self.socket, *args], check_rc=check_rc, timeout=timeout)

    def status(self):
        reply = json.loads(self.cli("status", "--json").stdout)
        check(reply.get("ok") is True, f"status is not ok: {reply}")
        return reply

    def processes(self):
        """{role: pid} of the daemon's processes."""
        self.family()
        return {p["role"].replace("deadman", "dead-man"): p["pid"] for p in self.status()["processes"]}

    def records(self):
        """The journal's records, one dict each, streamed."""
        argv = [DBFENCE, "audit", "cat", "--json", "--state-dir", self.state_dir]
        with tempfile.TemporaryFile("w+", errors="replace") as err:
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL,
                                  text=True, errors="surrogateescape") as proc:
                for line in proc.stdout:
                    yield json.loads(line)
            err.seek(0)
            said = err.read()
        check(proc.returncode == 0, f"dbfence audit cat exited with {proc.returncode}: {said[-1000:]}")

    def journal(self, kind=None):
        return [r for r in self.records() if kind is None or r.get("kind") == kind]

    def wait_journal(self, predicate, timeout=10, what="a record"):
        """The records for which @predicate holds, once there is at least one."""
        return wait_until(lambda: [r for r in self.records() if predicate(r)], timeout, what, every=0.25)

    def settle(self, timeout=60):
        """Wait until the journal has stopped growing: for a second, four times what a record can take to get there."""
        def size():
            total = 0
            for folder, _, names in os.walk(self.state_dir):
                for name in names:
                    try:
                        total += os.stat(os.path.join(folder, name)).st_size
                    except OSError:
                        pass
            return total
        end = time.monotonic() + timeout
        last, same = size(), 0
        while same < 4:
            check(time.monotonic() < end, f"the journal was still growing after {timeout} s")
            time.sleep(0.25)
            now = size()
            same, last = (same + 1, last) if now == last else (0, now)

    def reload(self, *, accepted=True):
        """SIGHUP, and wait for the policy record that tells the new generation (or the refusal on stderr)."""
        before = len(self.journal("policy"))
        said = len(self.lines)
        os.kill(self.proc.pid, signal.SIGHUP)
        if accepted:
            wait_until(lambda: len(self.journal("policy")) > before, 10, "a policy record after SIGHUP", 0.2)
            return ""
        wait_until(lambda: len(self.lines) > said, 10, "a line about the refused policy after SIGHUP")
        time.sleep(0.3)
        return "".join(self.lines[said:])


def field(record, path, default=None):
    """record["a"]["b"] for path "a.b"; @default where any part is absent."""
    for key in path.split("."):
        if not isinstance(record, dict) or key not in record:
            return default
        record = record[key]
    return record


def is_top_level(record):
    """One execution that a client asked for: not nested, and more than parsed."""
    return (record.get("kind") == "statement" and not record.get("parent_statement_id")
            and not record.get("parent_seq") and field(record, "statement.form") in ("simple", "extended"))


# --- policies --------------------------------------------------------------------------------------------

def shipped_policy(name, *, mode, database):
    """A shipped policy with its mode replaced and its `match:` narrowed to one database."""
    path = os.path.join(ROOT, "policies", name)
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except OSError as e:
        raise Failure(f"the shipped policy cannot be read: {e}") from e
    match = f"  match:\n    engine: [postgresql]\n    database: [{database}]\n"
    text, found = re.subn(r"^  match:.*\n(?:(?:    .*|\s*#.*|\s*)\n)*", match, text, flags=re.M)
    if not found:
        text = re.sub(r"^spec:.*\n", lambda m: m.group(0) + match, text, flags=re.M)
    text, found = re.subn(r"^  mode:.*$", f"  mode: {mode}", text, flags=re.M)
    if not found:
        text = re.sub(r"^spec:.*\n", lambda m: m.group(0) + f"  mode: {mode}\n", text, flags=re.M)
    return text
