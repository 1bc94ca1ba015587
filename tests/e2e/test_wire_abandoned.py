#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client that gives up while its statement is held on the wire: what is in its socket is thrown away, and never runs."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main, wait_until  # noqa: E402
from pgwire import Connection  # noqa: E402

POLICY = """apiVersion: dbfence.dev/v1
kind: Policy
metadata: {name: no-drop}
spec:
  mode: enforce
  on_failure: closed
  rules:
    - {name: rule, action: deny, when: {effects: [schema_destroy]}}
"""


def sockets(port):
    out = subprocess.run(["ss", "-Htan", f"( dport = :{port} )"], capture_output=True, text=True, check=True).stdout
    return [line for line in out.splitlines() if "TIME-WAIT" not in line]


@case
def its_socket_is_ended_and_the_attempt_recorded():
    """Held alone, while nobody judges: nothing else is on hold that would make the keeper look."""
    with Cluster() as cluster:
        cluster.psql("CREATE TABLE t (a int)")
        with Daemon({"p.yaml": POLICY}, args=("--vantage", "wire", "--hold-ms", "3000")) as daemon:
            conn = Connection(cluster, "tcp", application="gives-up")
            conn.must("SELECT 1")
            worker = daemon.processes()["worker"]
            os.kill(worker, signal.SIGSTOP)
            try:
                conn.send(Connection.message(b"Q", b"DROP TABLE t\0"))
                wait_until(lambda: daemon.status()["counters"]["kernel_wire_holds"] == 1, 2, "the hold")
                conn.close()
                wait_until(lambda: daemon.status()["counters"]["kernel_wire_abandoned"] == 1, 3, "the client to be gone")
                wait_until(lambda: not sockets(cluster.port), 2, "its socket to be ended")
            finally:
                os.kill(worker, signal.SIGCONT)
            counters = daemon.status()["counters"]
            check(counters["wire_sockets_destroyed"] == 1, f"{counters['wire_sockets_destroyed']} sockets destroyed")
            record = daemon.wait_journal(lambda r: "DROP TABLE" in field(r, "statement.text", ""), what="the record")[0]
            check(record["outcome"] == "prevented" and "never_sent" in record["evidence"], f"{record}")
        check(cluster.value("SELECT count(*) FROM t") == "0", "the table is gone")


if __name__ == "__main__":
    main()
