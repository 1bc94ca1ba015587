# SPDX-License-Identifier: Apache-2.0
"""
Holding is bounded, and a bound never decides about what it was not made for: how many statements may be held, by which
fail mode each falls, and what goes on being judged when a reload fails.
"""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main, say, wait_until  # noqa: E402
from pgwire import Connection  # noqa: E402

HEAD = "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata:\n  name: {name}\nspec:\n  mode: enforce\n" \
       "  on_failure: {failure}\n  rules:\n"


def policy(name, failure, when, unless=""):
    """One rule that denies @when (YAML flow), but for @unless."""
    text = HEAD.format(name=name, failure=failure) + f"    - name: rule\n      action: deny\n      when: {when}\n"
    return text + (f"      unless: {unless}\n" if unless else "")


SLEEPS = policy("no-sleep", "closed", "{functions: [pg_sleep]}", "{identity: {db_user: [postgres]}}")
DROPS = policy("no-drop", "closed", "{effects: [schema_destroy]}")


def record_of(daemon, conn, text):
    found = daemon.wait_journal(lambda r: field(r, "server.pid") == conn.pid and
                                text in field(r, "statement.text", ""), what=f"the record of {text}")
    return found[0]


@case
def statements_that_were_allowed_and_run_on_take_nobody_elses_hold():
    """More of them than may be held at once; what comes next is held and judged, not left to the fail mode."""
    with Cluster() as cluster, Daemon({"s.yaml": SLEEPS, "d.yaml": DROPS}) as daemon:
        runners = [Connection(cluster, timeout=60) for _ in range(20)]
        threads = []
        for i, conn in enumerate(runners):
            thread = threading.Thread(target=conn.query, args=(f"SELECT pg_sleep(6) /* {i} */",), daemon=True)
            thread.start()
            threads.append(thread)
            time.sleep(0.03)
        wait_until(lambda: cluster.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "20", 4,
                   "20 statements to run at once")
        with Connection(cluster) as conn:
            start = time.monotonic()
            result = conn.query("SELECT pg_sleep(0) /* one more */")
            check(result.tags == ["SELECT 1"], f"an allowed statement was denied: {result.errors}")
            check(conn.query("DROP TABLE nowhere /* held */").sqlstate == "57014", "a DROP was not denied")
            say(f"two first-seen statements beside 20 runners: {(time.monotonic() - start) * 1000:.1f} ms")
            for text in ("one more", "held"):
                record = record_of(daemon, conn, text)
                check(field(record, "hold.resolved_by") == "keeper", f"'{text}' was not judged: {record.get('decision')}")
        for thread in threads:
            thread.join(20)
        for conn in runners:
            conn.close()
        counters = daemon.status()["counters"]
        check(not counters["kernel_fail_closed"], f"the fail mode decided {counters['kernel_fail_closed']} times")


if __name__ == "__main__":
    main()
