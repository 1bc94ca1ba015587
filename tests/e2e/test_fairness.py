# SPDX-License-Identifier: Apache-2.0
"""
200 connections that send endless first-seen statements, each of them a candidate that has to be held and judged,
do not make an innocent client's holds time out. The innocent client's p50 and p99 are printed.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, Failure, case, check, end_process, field, main, say  # noqa: E402
from pgwire import Connection  # noqa: E402

NOISY = 200
SECONDS = float(os.environ.get("DBFENCE_E2E_FAIRNESS_SECONDS", "8"))

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: fair
spec:
  mode: enforce
  on_failure: closed
  rules:
    - name: deletes-need-where
      when:
        effects: [delete]
        selective: false
      action: deny
"""


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@case
def an_innocent_client_is_served_beside_200_noisy_ones():
    script = ("\\set a random(1, 1000000000)\n\\set b random(1, 1000000000)\n"
              "DELETE FROM noise WHERE id = :a AND id = :b;\n")
    with Cluster(settings={"max_connections": NOISY + 30}) as cluster, tempfile.NamedTemporaryFile("w") as file:
        file.write(script)
        file.flush()
        cluster.psql("CREATE TABLE noise (id int); CREATE TABLE quiet (id int);"
                     "CREATE ROLE noisy SUPERUSER LOGIN; CREATE ROLE innocent SUPERUSER LOGIN;")
        with Daemon({"fair.yaml": POLICY}, text="masked") as daemon:
            noise = subprocess.Popen(
                [cluster.bin("pgbench"), "-n", "-c", str(NOISY), "-j", "1", "-T", str(int(SECONDS) + 4), "-f", file.name],
                env=cluster.env("unix", user="noisy"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True)
            try:
                time.sleep(2)
                times, errors, pid = innocent(cluster)
                check(noise.poll() is None, f"the noise ended early: {noise.poll()}")
                said = "".join(noise.communicate(timeout=60))
            except subprocess.TimeoutExpired as e:
                raise Failure("the 200 connections did not come to their end") from e
            finally:
                end_process(noise, (signal.SIGINT, signal.SIGKILL), patience=15)
            daemon.settle()
            mine = [r for r in daemon.records() if field(r, "server.pid") == pid and r.get("kind") == "statement"]
    undecided = [field(r, "decision.undecided_reason") for r in mine if field(r, "decision.by_fail_mode")]
    held = [field(r, "hold.held_us", 0) / 1000 for r in mine if field(r, "hold.held_us", 0)]
    tps = next((line for line in said.splitlines() if line.startswith("tps")), "noise: no total printed")
    say(f"innocent: {len(times)} first-seen statements, p50 {percentile(times, .5):.1f} ms, "
        f"p99 {percentile(times, .99):.1f} ms, worst {max(times):.1f} ms; {tps}")
    if held:
        say(f"held: {len(held)}, p50 {percentile(held, .5):.2f} ms, p99 {percentile(held, .99):.2f} ms")
    check(len(times) >= 20, f"the innocent client got only {len(times)} statements through in {SECONDS} s")
    check(not errors, f"{len(errors)} of the innocent client's statements failed: {errors[:3]}")
    check(len(held) > len(times) // 2, f"only {len(held)} of {len(times)} statements were held: nothing was tried")
    check(not undecided, f"{len(undecided)} verdicts came too late: {set(undecided)}")


def innocent(cluster):
    times, errors = [], []
    with Connection(cluster, user="innocent", application="innocent") as conn:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            start = time.perf_counter()
            result = conn.query(f"DELETE FROM quiet WHERE id = {time.monotonic_ns()}")
            times.append((time.perf_counter() - start) * 1000)
            errors += result.errors
            time.sleep(0.01)
        return times, errors, conn.pid


if __name__ == "__main__":
    main()
