# SPDX-License-Identifier: Apache-2.0
"""
200 connections that send endless first-seen statements, each of them a candidate that has to be held and judged,
do not make an innocent client's holds time out. The innocent client's p50 and p99 are printed. And one that keeps
thousands of long texts in the air does not take the worker's memory.
"""
import os
import signal
import subprocess
import sys
import tempfile
import threading
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
    check(not errors, f"{len(errors)} of the innocent client's statements failed: {errors[:3]}, undecided: {undecided}")
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


PIPELINED, LONG, AT_ONCE = 3000, 60000, 25


def pipeline_long_texts(conn, done):
    """Thousands of long statements before one Sync, no faster than the ring can take; how many were answered."""
    reader = threading.Thread(target=lambda: done.append(conn.read()), daemon=True)
    reader.start()
    for first in range(0, PIPELINED, AT_ONCE):
        conn.send(*(conn.parse(f"SELECT {i}, length('{'x' * LONG}')") + conn.bind() + conn.execute()
                    for i in range(first, first + AT_ONCE)))
        time.sleep(0.03)
    conn.send(conn.SYNC)
    reader.join(60)
    check(done, "the pipeline got no end")


def peak_memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


@case
def a_pipeline_of_long_texts_does_not_take_the_workers_memory():
    done, quiet = [], []
    with Cluster() as cluster, Daemon() as daemon:
        worker = daemon.processes()["worker"]
        with Connection(cluster, application="hog") as hog, Connection(cluster, application="quiet") as other:
            noise = threading.Thread(target=pipeline_long_texts, args=(hog, done), daemon=True)
            noise.start()
            while noise.is_alive():
                quiet.append(f"SELECT {len(quiet)} AS quiet")
                other.must(quiet[-1])
                time.sleep(0.005)
            noise.join()
        check(len(done[0].tags) == PIPELINED, f"{len(done[0].tags)} of {PIPELINED} answers")
        daemon.settle()
        counters = daemon.status()["counters"]
        records = [r for r in daemon.records() if r.get("kind") == "statement"]
        check(daemon.processes()["worker"] == worker, "the worker ended and was started again")
        peak = peak_memory(worker)
    hogs = [r for r in records if field(r, "server.pid") == hog.pid]
    limited = [r for r in hogs if "text_limit" in r.get("incomplete", [])]
    seen = [field(r, "statement.text") for r in records if field(r, "server.pid") == other.pid]
    lost = counters["kernel_lost_batches"]
    say(f"{len(hogs)} long statements recorded, {len(limited)} without text; {len(quiet)} quiet ones; "
        f"the worker's peak is {peak // 1024} MiB")
    check(lost == 0, f"{lost} batches did not find room in the ring: send slower")
    check(len(hogs) == PIPELINED, f"{len(hogs)} records of {PIPELINED} long statements")
    check(all(r["outcome"] == "executed" for r in hogs), "a long statement is not recorded as executed")
    check(limited and counters["texts_limited"] >= len(limited), f"{counters['texts_limited']} texts counted")
    check(all(field(r, "statement.text") == "" or "incomplete" in r for r in limited), "a cut text that says nothing")
    check(len(hogs) - len(limited) >= 8 * 1024 * 1024 // (LONG + 64) - 1, "texts that had room are gone")
    check(seen == quiet, f"{len(seen)} records of {len(quiet)} quiet statements")
    check(peak < 300 * 1024, f"the worker took {peak // 1024} MiB")


STOPS = POLICY.replace("name: fair", "name: stops")


def wide(tag, columns, order):
    """A text that no other equals, and that costs most to read for its length."""
    names = [f"c{i:x} AS d{tag}x{i:x}" for i in range(columns)]
    return f"SELECT {','.join(names)} FROM nosuch ORDER BY {','.join(f'd{tag}x{i:x}' for i in range(order))}"


def beside_floods(failure, sessions, text, batch):
    """
    What a forbidden DELETE and an innocent UPDATE meet while @sessions send texts without end, @batch in the air each:
    (forbidden that ran, innocent that were denied, the slowest of them in ms, counters).
    """
    stop = threading.Event()

    def flood(number):
        with Connection(cluster, user="noisy", timeout=60) as conn:
            round_ = 0
            while not stop.is_set():
                messages = [conn.message(b"Q", text(f"{number}r{round_ + k}").encode() + b"\0") for k in range(batch)]
                conn.send(*messages)
                for _ in messages:
                    conn.read()
                round_ += batch

    policy = STOPS.replace("on_failure: closed", f"on_failure: {failure}")
    with Cluster() as cluster, Daemon({"p.yaml": policy}, text="masked") as daemon:
        cluster.psql("CREATE TABLE victim AS SELECT g AS id FROM generate_series(1, 100) g;"
                     "CREATE ROLE noisy LOGIN; GRANT ALL ON victim TO PUBLIC;")
        threads = [threading.Thread(target=flood, args=(n,), daemon=True) for n in range(sessions)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(2)
            ran, denied, slowest = 0, 0, 0.0
            with Connection(cluster) as innocent_conn, Connection(cluster, user="noisy") as noisy_conn:
                for i in range(20):
                    start = time.monotonic()
                    result = innocent_conn.query(f"DELETE FROM victim WHERE id = -{i} AND id < {i}")
                    slowest = max(slowest, (time.monotonic() - start) * 1000)
                    denied += bool(result.errors)
                    ran += not noisy_conn.query(f"DELETE FROM victim /* {i} */").errors
                    time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        counters = daemon.status()["counters"]
        say(f"{sessions} sessions: innocent ones took {slowest:.0f} ms at most; {counters['sql_parses']} texts parsed, "
            f"{counters['sql_unread']} not, {counters['kernel_lost_batches']} batches lost")
        return ran, denied, counters


@case
def a_flood_of_long_texts_does_not_open_the_gate():
    """One session keeps twenty texts of 4 KB in the air that nothing holds: the next one's DELETE is judged all the same."""
    ran, denied, counters = beside_floods("open", 1, lambda tag: wide(tag, 190, 100)[:4090], 20)
    check(not ran, f"{ran} of 20 forbidden statements ran")
    check(not denied, f"{denied} of 20 innocent statements were denied")
    check(not counters["verdicts_late"], f"{counters['verdicts_late']} verdicts came late")


@case
def sessions_held_with_long_texts_leave_room_for_others():
    """Four sessions, each held with texts of 60 KB all the time, and a policy that denies what nobody judged."""
    ran, denied, _ = beside_floods("closed", 4, lambda tag: wide(tag, 2000, 1500)[:60000], 1)
    check(not ran, f"{ran} of 20 forbidden statements ran")
    check(not denied, f"{denied} of 20 innocent statements were denied")


if __name__ == "__main__":
    main()
