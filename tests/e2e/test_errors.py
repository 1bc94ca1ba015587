# SPDX-License-Identifier: Apache-2.0
"""
What goes wrong is said in a plain sentence that tells what to do, and nothing is half-applied: a policy with a typo
or that cannot be met, an unreadable file, a missing directory, not root, no BTF, no cgroup v2, a full disk.
"""
import os
import re
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (DBFENCE, PINS, Cluster, Daemon, Skip, case, check, field, main,  # noqa: E402
                 need_root, run, wait_until)
from pgwire import Connection  # noqa: E402

GOOD = """apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: no-drop
spec:
  mode: enforce
  rules:
    - name: drop
      when:
        effects: [schema_destroy]
      action: deny
"""
TYPO = GOOD.replace("schema_destroy", "schema_destory")
NOT_YAML = "apiVersion: dbfence.dev/v1\nkind: [Policy\n"
UNKNOWN_KEY = GOOD.replace("      action: deny", "      acton: deny")
IMPOSSIBLE = GOOD.replace("  mode: enforce\n", "  mode: enforce\n  guarantee: prevent\n  match:\n    engine: [mysql]\n")


def pins():
    return sorted(os.listdir(PINS)) if os.path.isdir(PINS) else []


def refuses_to_start(daemon, *words, prefix=()):
    """The daemon exits by itself, not with 0, without a stack trace, naming @words, and pins nothing."""
    done = run([*prefix, *daemon.argv()], timeout=20, check_rc=False)
    said = done.stderr.strip()
    check(done.returncode > 0, f"exit status {done.returncode}; it said: {said[-500:]}")
    check(not re.search(r"\bready\b", said), f"it said ready: {said[-500:]}")
    check(0 < len(said.splitlines()) <= 12, f"{len(said.splitlines())} lines instead of a plain sentence: {said[-800:]}")
    check("libbpf:" not in said, f"the library's own noise is shown: {said[-500:]}")
    for word in words:
        check(re.search(word, said, re.I), f"it does not say {word!r}: {said[-500:]}")
    check(not pins(), f"half-applied: {pins()}")


def not_started(policies=None):
    """A Daemon object that was not started, for its scratch directories; nothing pinned before."""
    daemon = Daemon(policies)
    daemon.cli("disarm", check_rc=False)
    check(not pins(), f"pins from before: {pins()}")
    return daemon


def start_with(name, yaml, *words):
    daemon = not_started({name: yaml})
    try:
        refuses_to_start(daemon, *words)
        done = run([DBFENCE, "policy", "check", daemon.policy_dir], check_rc=False)
        check(done.returncode == 1, f"policy check exits with {done.returncode}")
        check(re.search(words[0], done.stdout + done.stderr), f"policy check says {done.stdout + done.stderr!r}")
    finally:
        daemon.close()


@case
def a_policy_with_a_typo_is_refused_by_file_line_and_column():
    start_with("typo.yaml", TYPO, r"typo\.yaml:10:\d+:", "schema_destory", "schema_destroy")


@case
def an_unknown_key_is_refused_by_file_line_and_column():
    start_with("key.yaml", UNKNOWN_KEY, r"key\.yaml:11:\d+:", "acton")


@case
def a_file_that_is_not_yaml_is_refused():
    start_with("broken.yaml", NOT_YAML, r"broken\.yaml:\d+:\d+:")


@case
def an_unreadable_policy_file_is_named():
    daemon = not_started({"good.yaml": GOOD})
    try:
        os.symlink("/nonexistent/policy.yaml", os.path.join(daemon.policy_dir, "dangling.yaml"))
        refuses_to_start(daemon, r"dangling\.yaml")
    finally:
        daemon.close()


@case
def a_missing_policy_directory_is_named():
    daemon = not_started()
    try:
        shutil.rmtree(daemon.policy_dir)
        refuses_to_start(daemon, re.escape(daemon.policy_dir))
    finally:
        daemon.close()


@case
def a_policy_that_no_vantage_can_meet_is_reported():
    need_root()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "impossible.yaml"), "w", encoding="utf-8") as f:
            f.write(IMPOSSIBLE)
        done = run([DBFENCE, "policy", "check", folder], check_rc=False)
    said = done.stdout + done.stderr
    check("impossible.yaml" in said and re.search("prevent|mysql", said), f"policy check says nothing of it: {said!r}")


@case
def a_bad_reload_changes_nothing():
    with Cluster() as cluster, Daemon({"p.yaml": GOOD}) as daemon:
        cluster.psql("CREATE TABLE stays (id int);")
        daemon.write_policy("p.yaml", TYPO)
        said = daemon.reload(accepted=False)
        check(re.search(r"p\.yaml:10:\d+:", said), f"SIGHUP with a typo: {said!r}")
        with Connection(cluster) as conn:
            check(conn.query("DROP TABLE stays").sqlstate == "57014", "the old policy went with the bad file")
        daemon.write_policy("p.yaml", GOOD.replace("schema_destroy", "schema_create"))
        daemon.reload()
        with Connection(cluster) as conn:
            check(not conn.query("DROP TABLE stays").errors, "the good file was not taken after the bad one")
            check(conn.query("CREATE TABLE again ()").sqlstate == "57014", "the new policy does not act")


@case
def not_root_is_told_so():
    daemon = not_started({"p.yaml": GOOD})
    try:
        os.chmod(daemon.dir, 0o777)
        os.chmod(daemon.policy_dir, 0o755)
        refuses_to_start(daemon, r"root|capabilit", prefix=("setpriv", "--reuid=65534", "--regid=65534",
                                                            "--clear-groups", "--inh-caps=-all"))
    finally:
        daemon.close()


@case
def policy_tools_work_without_root_and_daemon():
    need_root()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "p.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(GOOD)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        copy = os.path.join(folder, "dbfence")
        shutil.copy(DBFENCE, copy)
        done = run([*nobody, copy, "policy", "check", path], check_rc=False)
        check(done.returncode == 0, f"policy check as nobody: {done.stdout}{done.stderr}")


@case
def an_unreachable_daemon_is_exit_status_3():
    for command in (["status"], ["doctor"], ["tail"], ["policy", "show"]):
        done = run([DBFENCE, "--socket", "/tmp/dbfence-no-such.sock", *command], check_rc=False)
        check(done.returncode == 3, f"{command}: exit status {done.returncode}")
        check("/tmp/dbfence-no-such.sock" in done.stderr and "--socket PATH" in done.stderr, f"it says {done.stderr!r}")


@case
def every_subcommand_explains_itself():
    for command in ("status", "doctor", "tail", "audit cat", "policy check", "policy test", "policy explain",
                    "policy show", "policy reload", "disarm"):
        done = run([DBFENCE, *command.split(), "--help"], check_rc=False)
        check(done.returncode == 0 and not done.stderr, f"{command} --help: {done.returncode}, {done.stderr!r}")
        check("exit status: 0" in done.stdout, f"{command} --help does not tell its exit status: {done.stdout!r}")


def in_private_mounts(command):
    """Arguments that run the rest in a mount namespace of its own, after @command."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{command} && exec "$@"', "sh")


@case
def a_kernel_without_btf_is_named():
    daemon = not_started({"p.yaml": GOOD})
    try:
        refuses_to_start(daemon, "BTF", prefix=in_private_mounts("mount -t tmpfs none /sys/kernel/btf"))
    finally:
        daemon.close()


@case
def a_machine_without_cgroup_v2_is_named():
    daemon = not_started({"p.yaml": GOOD})
    try:
        with open("/proc/self/mounts", encoding="ascii", errors="replace") as f:
            mounts = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
        if not mounts:
            raise Skip("this machine has no cgroup v2 mount to hide")
        hide = " && ".join(f"umount {path}" for path in mounts)
        refuses_to_start(daemon, "cgroup", prefix=in_private_mounts(hide))
    finally:
        daemon.close()


@case
def a_second_daemon_on_the_same_state_is_refused():
    with Daemon({"p.yaml": GOOD}) as daemon:
        done = run(daemon.argv(), timeout=20, check_rc=False)
        check(done.returncode > 0, f"a second daemon ran: {done.stderr[-300:]}")
        check(done.stderr.strip(), "it says nothing")
        check(daemon.status()["ok"], "the first one was disturbed")


class SmallDisk:
    """A tmpfs of @size as a directory."""

    def __init__(self, size):
        need_root()
        self.path = tempfile.mkdtemp(prefix="dbfence-disk-", dir="/tmp")
        run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", self.path])

    def __enter__(self):
        return self.path

    def __exit__(self, *exc):
        wait_until(lambda: run(["umount", self.path], check_rc=False).returncode == 0, 10, "the tmpfs to be unmounted")
        os.rmdir(self.path)


@case
def a_disk_that_is_full_at_the_start_is_named():
    with SmallDisk("64k") as disk:
        with open(os.path.join(disk, "filler"), "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        state = os.path.join(disk, "state")
        daemon = Daemon({"p.yaml": GOOD}, state_dir=state)
        try:
            daemon.cli("disarm", check_rc=False)
            refuses_to_start(daemon, r"space|full", re.escape(disk))
        finally:
            daemon.close()


@case
def a_disk_that_fills_up_stops_recording_and_not_the_database():
    """Enforcement and the database go on; status says it; what was lost is a gap once there is room."""
    with SmallDisk("2m") as disk, Cluster() as cluster:
        state = os.path.join(disk, "state")
        with Daemon({"p.yaml": GOOD}, state_dir=state) as daemon:
            cluster.psql("CREATE TABLE stays (id int);")
            filler = os.path.join(disk, "filler")
            with open(filler, "wb") as f:
                f.write(b"x" * (1 << 20))
            cluster.pgbench("-i", "-I", "tgvp", "-q", "-s", "1")
            cluster.pgbench("-n", "-S", "-t", "20000", "-c", "1")
            with Connection(cluster) as conn:
                check(conn.query("DROP TABLE stays").sqlstate == "57014", "enforcement ended with the disk")
            check(daemon.alive(), "the daemon ended with the disk")
            said = wait_until(lambda: [x for x in daemon.lines if re.search("space|full", x)], 5,
                              "a line about the full disk")
            check(len(said) < 50, f"{len(said)} lines about the full disk")
            os.unlink(filler)
            time.sleep(1)
            cluster.psql("SELECT 'after the disk was full';")
            daemon.settle()
            check(any(field(r, "statement.text", "").startswith("SELECT 'after") for r in daemon.records()),
                  "recording did not go on when there was room again")
            lost = [r["gap"] for r in daemon.records() if r.get("kind") == "gap"]
            check(sum(int(g.get("records", 0)) for g in lost) > 0, f"the journal does not tell what it lost: {lost}")


if __name__ == "__main__":
    main()
