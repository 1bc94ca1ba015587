# SPDX-License-Identifier: Apache-2.0
"""
What the benchmark measures with: CPU time of groups of processes, pgbench runs with their p99, and the kernel's
own count of program runs. Owns the control groups that it makes; knows nothing of configurations.
"""
import glob
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

from e2e import Failure, check, children_of, end_process, run, wait_until


class CpuMeter:
    """
    CPU nanoseconds used by all processes put into one control group: cpuacct (v1) or cpu.stat (v2). Where neither
    can be had, the ticks in /proc of the processes and their children, which resolve 10 ms.
    """

    def __init__(self):
        self.pids = set()
        self.folder, self.kind = self._make()

    @staticmethod
    def _make():
        for base, usage, kind in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage", "cpuacct"),
                                  ("/sys/fs/cgroup", "cpu.stat", "cgroup2")):
            folder = os.path.join(base, f"dbfence-bench-{os.getpid()}")
            try:
                os.mkdir(folder)
            except OSError:
                continue
            if os.path.exists(os.path.join(folder, usage)):
                return folder, kind
            os.rmdir(folder)
        return "", "proc"

    def add(self, pid):
        self.pids.add(pid)
        if not self.folder:
            return
        try:
            with open(os.path.join(self.folder, "cgroup.procs"), "w", encoding="ascii") as f:
                f.write(str(pid))
        except OSError:
            pass  # it has just ended

    def wrap(self, argv):
        """@argv run from inside the group from its first instruction on."""
        if not self.folder:
            return argv
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', os.path.join(self.folder, "cgroup.procs"), *argv]

    def usage_ns(self):
        if self.kind == "cpuacct":
            with open(os.path.join(self.folder, "cpuacct.usage"), encoding="ascii") as f:
                return int(f.read())
        if self.kind == "cgroup2":
            with open(os.path.join(self.folder, "cpu.stat"), encoding="ascii") as f:
                return int(f.readline().split()[1]) * 1000
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        ticks = sum(self._ticks(pid) for pid in self.pids)
        return int((own.ru_utime + own.ru_stime) * 1e9) + ticks * (10 ** 9 // os.sysconf("SC_CLK_TCK"))

    @staticmethod
    def _ticks(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                return sum(int(n) for n in f.read().rpartition(")")[2].split()[11:15])
        except OSError:
            return 0

    def close(self):
        """Move what is left to the root of the hierarchy and remove the group."""
        if not self.folder:
            return
        root = os.path.join(os.path.dirname(self.folder), "cgroup.procs")
        with open(os.path.join(self.folder, "cgroup.procs"), encoding="ascii") as f:
            for pid in f.read().split():
                try:
                    with open(root, "w", encoding="ascii") as out:
                        out.write(pid)
                except OSError:
                    pass
        wait_until(self._removed, 5, "the benchmark's control group to be empty")

    def _removed(self):
        try:
            os.rmdir(self.folder)
        except OSError:
            return False
        return True


class Sample:
    """
    One pgbench run: how many transactions, per second, p99 in µs, CPU ns per transaction of all that was metered, and
    of them those of the daemon's own processes.
    """

    def __init__(self, count, tps, p99_us, cpu_ns):
        self.count, self.tps, self.p99_us, self.cpu_ns, self.own_ns = count, tps, p99_us, cpu_ns, 0


def pgbench(cluster, meter, *, env, mode, clients, seconds, pinned):
    """
    Run pgbench -S against where @env points. @pinned: one CPU for client and server, so that the CPU time of a
    query is not a matter of where the scheduler puts the two.
    """
    folder = tempfile.mkdtemp(prefix="dbfence-bench-", dir="/tmp")
    prefix = os.path.join(folder, "log")
    argv = [cluster.bin("pgbench"), "-n", "-S", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)),
            "-T", str(seconds), "--log", f"--log-prefix={prefix}"]
    if pinned:
        argv = ["taskset", "-c", "0", *argv]
    pin(cluster.proc.pid, {0} if pinned else all_cpus())
    try:
        before = meter.usage_ns()
        done = cluster.run_client(meter.wrap(argv), env=env, timeout=seconds + 60)
        used = meter.usage_ns() - before
        times = []
        for path in glob.glob(prefix + "*"):
            with open(path, encoding="ascii") as f:
                times += [int(line.split(" ", 3)[2]) for line in f]
        check(times, f"pgbench logged nothing: {done.stdout[-300:]}{done.stderr[-300:]}")
        times.sort()
        tps = next(float(line.split("=")[1].split()[0]) for line in done.stdout.splitlines()
                   if line.startswith("tps"))
        return Sample(len(times), tps, times[int(len(times) * .99)], used / len(times))
    finally:
        pin(cluster.proc.pid, all_cpus())
        shutil.rmtree(folder, ignore_errors=True)


def all_cpus():
    return set(range(os.cpu_count() or 1))


def pin(pid, cpus):
    """Affinity of every thread of @pid."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cpus)
    except OSError:
        pass


class BpfStats:
    """How often and for how long each BPF program ran, from the kernel's statistics while this is open."""

    PATH = "/proc/sys/kernel/bpf_stats_enabled"

    def __enter__(self):
        with open(self.PATH, encoding="ascii") as f:
            self.before = f.read()
        self._set("1")
        self.start = self._read()
        return self

    def __exit__(self, *exc):
        self._set(self.before)

    def _set(self, value):
        with open(self.PATH, "w", encoding="ascii") as f:
            f.write(value)

    @staticmethod
    def tool():
        found = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
        if not found:
            raise Failure("bpftool is not installed")
        return found

    @classmethod
    def _read(cls):
        shown = json.loads(run([cls.tool(), "-j", "prog", "show"]).stdout or "[]")
        return {p["id"]: (p.get("name", "?"), p.get("run_cnt", 0), p.get("run_time_ns", 0)) for p in shown}

    def ran(self, ignore=()):
        """[(name, runs, ns)] since entry, for programs that are not in @ignore."""
        rows = []
        for number, (name, runs, ns) in self._read().items():
            _, runs0, ns0 = self.start.get(number, ("", 0, 0))
            if runs > runs0 and number not in ignore:
                rows.append((name, runs - runs0, ns - ns0))
        return sorted(rows, key=lambda r: -r[1])

    @classmethod
    def program_ids(cls):
        return set(cls._read())


class Trace:
    """
    The kernel's own events of stops, continues, wake-ups and sends while this is open, in CLOCK_MONOTONIC: what a
    held statement waits for, told from outside. The recording itself adds a microsecond or two per event.
    """

    EVENTS = ("signal:signal_generate", "sched:sched_waking", "sched:sched_switch", "syscalls:sys_enter_sendto",
              "syscalls:sys_enter_sendmsg")
    LINE = re.compile(r"\s*(\d+)\s+(\d+)\.(\d{9}):\s+\w+:(\w+):\s+(.*)")

    def __enter__(self):
        tool = shutil.which("perf", path="/usr/sbin:/usr/bin:/sbin:/bin")
        check(tool, "perf is not installed (apt-get install linux-perf)")
        self.tool, self.dir = tool, tempfile.mkdtemp(prefix="dbfence-bench-", dir="/tmp")
        self.path = os.path.join(self.dir, "trace")
        argv = [tool, "record", "-q", "-a", "-k", "CLOCK_MONOTONIC", "-o", self.path]
        self.proc = subprocess.Popen(argv + [a for e in self.EVENTS for a in ("-e", e)], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.proc.poll() is not None or os.path.exists(self.path), 10, "perf to record")
        time.sleep(0.5)  # the file is there before the events are on
        return self

    def __exit__(self, *exc):
        end_process(self.proc, (2, 9))
        try:
            self.events = list(self._read()) if not exc[0] else []
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _read(self):
        shown = run([self.tool, "script", "-i", self.path, "--ns", "-F", "tid,time,event,trace"])
        for line in shown.stdout.splitlines():
            found = self.LINE.match(line)
            if found:
                tid, seconds, ns, event, rest = found.groups()
                yield int(seconds) * 10 ** 9 + int(ns), int(tid), event, dict(
                    part.split("=", 1) for part in rest.split() if "=" in part)


STAGES = ("client's send to stop sent: the server's read, the probe", "stop and ring to worker on a CPU",
          "worker: parse, judge, send", "sent to keeper on a CPU", "keeper: remember the verdict, continue",
          "continued to backend on a CPU", "the statement, and its reply to the client")


def hold_stages(events, asked, backend, worker, keeper):
    """
    Per statement of @asked, [(sent ns, answered ns)], the µs of each of STAGES, for those that were held. An event
    that did not happen (the worker was awake already) ends its stage where it began.
    """
    wanted = (lambda t, e, f: e == "signal_generate" and f["sig"] == "19" and f["pid"] == str(backend),
              lambda t, e, f: e == "sched_switch" and f["next_pid"] == str(worker),
              lambda t, e, f: e.startswith("sys_enter_send") and t == worker,
              lambda t, e, f: e == "sched_switch" and f["next_pid"] == str(keeper),
              lambda t, e, f: e == "signal_generate" and f["sig"] == "18" and f["pid"] == str(backend),
              lambda t, e, f: e == "sched_switch" and f["next_pid"] == str(backend))
    events = sorted(events, key=lambda e: e[0])
    held, at = [], 0
    for sent, answered in asked:
        while at < len(events) and events[at][0] < sent:
            at += 1
        end = at
        while end < len(events) and events[end][0] <= answered:
            end += 1
        marks = [sent]
        for test in wanted:
            marks.append(next((ns for ns, tid, event, fields in events[at:end]
                               if ns >= marks[-1] and test(tid, event, fields)), marks[-1]))
        marks.append(answered)
        if marks[1] > sent and marks[5] > marks[1]:
            held.append([(b - a) / 1000 for a, b in zip(marks, marks[1:])])
    return held
def cpu_of(pid):
    """Nanoseconds that the threads of @pid have run."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path, encoding="ascii") as f:
                total += int(f.read().split()[0])
        except OSError:
            pass  # it has just ended
    return total


def family_of(pid):
    found = [pid]
    for child in children_of(pid):
        found += family_of(child)
    return found


def spread(values):
    """Median, and the quartiles around it."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
