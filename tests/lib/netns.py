# SPDX-License-Identifier: Apache-2.0
"""
Places for the processes of a wire test: network namespaces made by the test, joined by a veth pair, and cgroup v2 leaves
that tell the client's side from the server's; and a path between them that drops, doubles and reorders segments.

Owns every namespace, device, control group and pin it makes, all named after this process, and removes them by name. What is
outside of them, but for loopback, is left alone. Knows nothing of servers and the daemon.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys

from e2e import BUILD, ROOT, Skip, check, end_process, kill_quietly, need_root, run, wait_until

CLONE_NEWNET = 0x40000000
SERVER = {4: "198.51.100.1", 6: "2001:db8::1"}  # documentation addresses: nothing else has them
CLIENT = {4: "198.51.100.2", 6: "2001:db8::2"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_libc = ctypes.CDLL(None, use_errno=True)


def cgroup_mount():
    """Where the cgroup v2 hierarchy is mounted, beside which others there may be."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields[2] == "cgroup2":
                return fields[1]
    raise Skip("no cgroup v2 hierarchy is mounted")


def own_cgroup():
    with open("/proc/self/cgroup", encoding="utf-8") as f:
        return next(line.strip()[len("0::"):] for line in f if line.startswith("0::"))


def join_cgroup(folder):
    with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as f:
        f.write("0")


class Place:
    """
    A network namespace (None: the one we are in) and a cgroup leaf. `with place:` what the calling thread opens and starts
    is there. May be entered again inside itself.
    """

    def __init__(self, netns, cgroup):
        self.netns, self.cgroup = netns, cgroup
        self.depth = 0

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            self.home = os.path.join(cgroup_mount(), own_cgroup().lstrip("/"))
            self.home_net = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            join_cgroup(self.cgroup)
            if self.netns:
                self._setns(os.open(f"/run/netns/{self.netns}", os.O_RDONLY))
        return self

    def __exit__(self, *exc):
        self.depth -= 1
        if not self.depth:
            self._setns(self.home_net)
            join_cgroup(self.home)

    @staticmethod
    def _setns(fd):
        failed = _libc.setns(fd, CLONE_NEWNET)
        os.close(fd)
        check(not failed, f"setns: {os.strerror(ctypes.get_errno())}")

    def argv(self, *argv):
        """@argv in this place's namespace, without entering it; the mounts stay ours, as with `ip netns exec` they do not."""
        return [*(["nsenter", f"--net=/run/netns/{self.netns}"] if self.netns else []), *argv]

    def netstat(self):
        """The TCP counters of the namespace: {"TCPOFOQueue": 3, …, "RetransSegs": 5, …}."""
        with self, contextlib.ExitStack() as files:
            found = {}
            for name in ("snmp", "netstat"):
                f = files.enter_context(open(f"/proc/thread-self/net/{name}", encoding="ascii"))
                lines = f.read().splitlines()
                for head, values in zip(lines[::2], lines[1::2]):
                    if head.startswith(("Tcp:", "TcpExt:")):
                        found.update(zip(head.split()[1:], map(int, values.split()[1:])))
        return found


class World:
    """
    Where a server and its clients live: `server` and `client` are Places, `host` the address between them.
    @kind: "here" (this namespace's loopback), "lo" (loopback of a namespace) or "veth" (two namespaces and a veth pair).
    @mangle: the path between the two is disturbed. @segments: packets leave one by one, not as super-packets. @patient: TCP
    waits for an answer as long as it does by default.
    """

    def __init__(self, kind, *, family=4, mangle=False, segments=False, patient=False):
        need_root()
        self.kind, self.mangle, self.segments, self.patient = kind, mangle, segments, patient
        self.host = (SERVER if kind == "veth" else LOOPBACK)[family]
        self.client_host = (CLIENT if kind == "veth" else LOOPBACK)[family]
        self.undo = contextlib.ExitStack()
        self.manglers = []

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *exc):
        self.undo.close()

    def _make(self):
        names = {"here": (None, None), "lo": ("s", "s"), "veth": ("s", "c")}[self.kind]
        spaces = [n and f"dbf{os.getpid()}{n}" for n in names]
        for name in dict.fromkeys(filter(None, spaces)):
            run(["ip", "netns", "add", name])
            self.undo.callback(run, ["ip", "netns", "del", name], check_rc=False)
        self.server, self.client = (Place(name, self._leaf(side)) for name, side in zip(spaces, ("server", "client")))
        for name in dict.fromkeys(filter(None, spaces)):
            self._prepare(name)
        if self.kind == "veth":
            self._join(*spaces)
        if self.mangle:
            for place in [self.server] if self.kind == "lo" else [self.server, self.client]:
                self.manglers.append(self.undo.enter_context(Mangler(place, "lo" if self.kind == "lo" else "v0")))

    def _leaf(self, side):
        leaf = os.path.join(cgroup_mount(), f"dbfence-test-{os.getpid()}", side)
        os.makedirs(leaf, exist_ok=True)
        self.undo.callback(remove_leaf, leaf)
        return leaf

    def _prepare(self, name):
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        if self.segments:
            run(["ip", "-n", name, "link", "set", "lo", "mtu", "1500", "gso_max_segs", "1"])
        settings = {
                # What comes in anew by lo has lost its route, and is looked at as if a stranger had sent it.
                "net.ipv4.conf.lo.route_localnet": 1, "net.ipv4.conf.lo.accept_local": 1, "net.ipv4.conf.all.rp_filter": 0,
                "net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.accept_dad": 0}
        if not self.patient:
            settings["net.ipv4.tcp_rto_min_us"] = 5000  # a lost segment costs 5 ms, not 200: where the kernel can
        for key, value in settings.items():
            run(["nsenter", f"--net=/run/netns/{name}", "sysctl", "-q", "-w", f"{key}={value}"], check_rc=False)

    def _join(self, server, client):
        made = run(["ip", "-n", server, "link", "add", "name", "v0", "type", "veth", "peer", "name", "v0", "netns", client],
                   check_rc=False)
        if made.returncode:
            raise Skip(f"no veth pair can be made: {made.stderr.strip()}")
        for name, addresses in ((server, SERVER), (client, CLIENT)):
            run(["ip", "-n", name, "address", "add", f"{addresses[4]}/30", "dev", "v0"])
            run(["ip", "-n", name, "address", "add", f"{addresses[6]}/64", "dev", "v0", "nodad"])
            if self.segments:
                run(["ip", "-n", name, "link", "set", "v0", "gso_max_segs", "1"])
            run(["ip", "-n", name, "link", "set", "v0", "up"])

    def netstat(self):
        """The sum over its namespaces."""
        total = {}
        for place in {p.netns: p for p in (self.server, self.client)}.values():
            for key, value in place.netstat().items():
                total[key] = total.get(key, 0) + value
        return total


def _rmdir(path):
    with contextlib.suppress(OSError):  # the other side's leaf is still in it
        os.rmdir(path)


def remove_leaf(leaf):
    """Whoever is left in it was started in it."""
    def removed():
        try:
            with open(os.path.join(leaf, "cgroup.procs"), encoding="ascii") as f:
                for pid in f.read().split():
                    kill_quietly(int(pid), signal.SIGKILL)
            os.rmdir(leaf)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
    wait_until(removed, 10, f"the control group {leaf} to be empty")
    _rmdir(os.path.dirname(leaf))


# --- the disturbed path ----------------------------------------------------------------------------------

KEYS = ("seen", "dropped", "doubled", "held", "back", "drop", "double", "hold", "device", "side")


def mangle_object():
    """tests/e2e/mangle.bpf.c, compiled when it is newer than what is there."""
    source = os.path.join(ROOT, "tests", "e2e", "mangle.bpf.c")
    built = os.path.join(BUILD, "tests", "e2e", "mangle.bpf.o")
    if not os.path.exists(built) or os.path.getmtime(built) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(built), exist_ok=True)
        run(["clang", "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-idirafter",
             f"/usr/include/{os.uname().machine}-linux-gnu", "-c", source, "-o", built])
    return built


class Mangler:
    """Of the segments that come in by @device, @permille each are dropped, doubled, and held back for some @keep_us."""

    def __init__(self, place, device, *, permille=10, keep_us=2000):
        self.place, self.device, self.permille, self.keep_us = place, device, permille, keep_us
        self.pins = f"/sys/fs/bpf/dbfence-mangle-{os.getpid()}-{place.netns}-{device}"
        self.proc = None

    def __enter__(self):
        check(self.place.netns, "only a namespace that the test made is disturbed")
        try:
            self._attach()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def _run(self, *argv):
        return run(self.place.argv(*argv)).stdout

    def _attach(self):
        run(["bpftool", "prog", "loadall", mangle_object(), self.pins, "pinmaps", self.pins])
        self._run("ip", "link", "add", "name", "m0", "type", "veth", "peer", "name", "m1")
        for side in ("m0", "m1"):
            self._run("sysctl", "-q", "-w", f"net.ipv6.conf.{side}.disable_ipv6=1")
            self._run("ip", "link", "set", side, "mtu", "65535", "up")
        index = {name: _ifindex(self.place, name) for name in (self.device, "m0")}
        for key, value in {"drop": self.permille, "double": self.permille, "hold": self.permille,
                           "device": index[self.device], "side": index["m0"]}.items():
            words = (" ".join(str(b) for b in number.to_bytes(size, sys.byteorder))
                     for number, size in ((KEYS.index(key), 4), (value, 8)))
            run(["bpftool", "map", "update", "pinned", f"{self.pins}/mangle", "key", *next(words).split(), "value",
                 *next(words).split()])
        for device, program in ((self.device, "mangle_in"), ("m0", "mangle_back")):
            self._run("tc", "qdisc", "add", "dev", device, "clsact")
            self._run("tc", "filter", "add", "dev", device, "ingress", "bpf", "direct-action", "object-pinned",
                      f"{self.pins}/{program}")

    def _start(self):
        argv = self.place.argv(sys.executable, os.path.join(ROOT, "tests", "lib", "mangler.py"), "m1", str(self.keep_us))
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        check(self.proc.stdout.readline() == "ready\n", "the mangler did not start")

    def counts(self):
        shown = json.loads(run(["bpftool", "-j", "map", "dump", "pinned", f"{self.pins}/mangle"]).stdout)
        values = [int.from_bytes(bytes(int(b, 16) for b in entry["value"]), sys.byteorder) for entry in shown]
        return dict(zip(KEYS[:5], values))

    def close(self):
        if self.proc:
            end_process(self.proc, (15, 9))
            self.proc.stdout.close()
            self.proc = None
        shutil.rmtree(self.pins, ignore_errors=True)


def _ifindex(place, device):
    shown = json.loads(run(place.argv("ip", "-j", "link", "show", "dev", device)).stdout)
    return shown[0]["ifindex"]
