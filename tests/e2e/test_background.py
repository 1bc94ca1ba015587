# SPDX-License-Identifier: Apache-2.0
"""
Sessions without a client get no replies: that their statements ran is told by their entries, and by the next statement or
an orderly end. initdb and `postgres --single` are such sessions.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main, run, say  # noqa: E402

SINGLE = [
    ("CREATE TABLE alone (id int PRIMARY KEY, note text)", "executed"),
    ("INSERT INTO alone SELECT i, 'x' FROM generate_series(1, 10) i", "executed"),
    ("SELEC 1", "failed"),
    ("INSERT INTO alone VALUES (1, 'again')", "failed"),
    ("DO $$ BEGIN DELETE FROM alone WHERE id = 3; END $$", "executed"),
    ("DELETE FROM alone WHERE id = 3", "executed"),  # inside the DO block
    ("SELECT count(*) FROM alone", "executed"),
]


def statements_since(daemon, before):
    daemon.settle()
    return [r for r in daemon.journal("statement") if r["seq"] not in before]


def seen_so_far(daemon):
    daemon.settle()
    return {r["seq"] for r in daemon.journal("statement")}


def make_directory(cluster, name):
    path = os.path.join(cluster.dir, name)
    run([cluster.bin("initdb"), "-D", path, "-A", "trust", "-U", "postgres", "--no-sync"], cwd=cluster.dir,
        **cluster.owner)
    return path


@case
def what_initdb_runs_is_recorded_as_executed():
    with Cluster() as cluster, Daemon() as daemon:
        before = seen_so_far(daemon)
        make_directory(cluster, "second")
        found = statements_since(daemon, before)
    outcomes = [r["outcome"] for r in found]
    say(f"{len(found)} statements: " + ", ".join(f"{o} {outcomes.count(o)}" for o in sorted(set(outcomes))))
    check(len(found) > 200, f"only {len(found)} statements of initdb were recorded")
    check(set(outcomes) == {"executed"}, f"initdb succeeded, its statements: "
          f"{[(field(r, 'statement.text'), r['outcome']) for r in found if r['outcome'] != 'executed'][:5]}")


@case
def single_user_mode_tells_what_ran_and_what_failed():
    with Cluster() as cluster:
        data = make_directory(cluster, "single")
        with Daemon() as daemon:
            before = seen_so_far(daemon)
            text = "".join(text + "\n" for text, _ in SINGLE if not text.startswith("DELETE"))
            run([cluster.bin("postgres"), "--single", "-D", data, "postgres"], input=text, cwd=cluster.dir,
                **cluster.owner)
            found = statements_since(daemon, before)
    got = [(field(r, "statement.text").strip(), r["outcome"]) for r in found]
    check(got == SINGLE, f"recorded: {got}")
    check(all(r["outcome"] != "failed" or r.get("sqlstate") for r in found), "a failure without its SQLSTATE")


if __name__ == "__main__":
    main()
