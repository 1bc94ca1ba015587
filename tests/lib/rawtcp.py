# SPDX-License-Identifier: Apache-2.0
"""
A TCP of its own, for a client that does what no kernel's does: segments out of order, twice with other bytes, with a wrong
checksum, or with data in the handshake's last packet. IPv4 frames on one end of a veth pair, from an address that no kernel
has, so that nobody else answers. Knows one connection, sends nothing again by itself.
"""
import json
import random
import select
import socket
import struct
import time

from e2e import check, run

ADDRESS = "198.51.100.9"
ETH_IP, SYN, RST, PSH, ACK, FIN = 0x0800, 2, 4, 8, 16, 1


def _sum16(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _mac(place, device):
    link = json.loads(run(place.argv("ip", "-j", "link", "show", device)).stdout)[0]
    return bytes.fromhex(link["address"].replace(":", ""))


class RawClient:
    """One connection from ADDRESS to @port of @world's server. Usable as a context manager."""

    def __init__(self, world, port):
        self.ours, self.theirs = _mac(world.client, "v0"), _mac(world.server, "v0")
        mac = ":".join(f"{b:02x}" for b in self.ours)
        run(world.server.argv("ip", "route", "replace", f"{ADDRESS}/32", "dev", "v0"))
        run(world.server.argv("ip", "neigh", "replace", ADDRESS, "lladdr", mac, "dev", "v0"))
        with world.client:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_IP))
            self.sock.bind(("v0", ETH_IP))
        self.server = socket.inet_aton(world.host)
        self.ports = random.randrange(20000, 60000), port
        self.next, self.ack = random.getrandbits(32), 0
        self.got, self.ended = b"", ""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not self.ended:
            self.send(b"", flags=RST)
        self.sock.close()

    def send(self, data, *, at=0, flags=PSH | ACK, wrong_sum=False):
        """@data as the bytes that begin @at behind what was acknowledged last."""
        tcp = struct.pack("!HHIIBBHHH", *self.ports, (self.next + at) & 0xffffffff, self.ack, 5 << 4, flags, 60000, 0, 0)
        source = socket.inet_aton(ADDRESS)
        total = _sum16(source + self.server + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp) + len(data)) + tcp + data)
        tcp = tcp[:16] + struct.pack("!H", total ^ (0x5555 if wrong_sum else 0)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + len(data), 0, 0x4000, 64, socket.IPPROTO_TCP, 0, source,
                         self.server)
        ip = ip[:10] + struct.pack("!H", _sum16(ip)) + ip[12:]
        self.sock.send(self.theirs + self.ours + struct.pack("!H", ETH_IP) + ip + tcp + data)

    def _take(self, frame):
        ip = frame[14:]
        head = (ip[0] & 15) * 4
        if ip[9] != socket.IPPROTO_TCP or ip[12:16] != self.server or ip[16:20] != socket.inet_aton(ADDRESS):
            return
        tcp, length = ip[head:], struct.unpack("!H", ip[2:4])[0] - head
        source, port, seq, ack, off, flags = struct.unpack("!HHIIBB", tcp[:14])
        if (port, source) != self.ports:
            return
        if flags & RST:
            self.ended = "RST"
            return
        data = tcp[(off >> 4) * 4:length]
        if flags & SYN:
            self.ack = (seq + 1) & 0xffffffff
            self.acked = ack
            return
        self.acked = ack
        if seq == self.ack and (data or flags & FIN):
            self.got += data
            self.ack = (seq + len(data) + (flags & FIN)) & 0xffffffff
            self.ended = self.ended or ("FIN" if flags & FIN else "")
            self.send(b"", flags=ACK)

    def receive(self, seconds):
        """Whatever comes, until nothing has come for so long."""
        end = time.monotonic() + seconds
        while not self.ended and select.select([self.sock], [], [], max(0, end - time.monotonic()))[0]:
            self._take(self.sock.recv(65536))

    def connect(self, data=b"", at=0):
        """@data goes with the handshake's last packet, as what begins @at."""
        self.acked = None
        self.send(b"", flags=SYN)
        self.receive(0.3)
        check(self.acked == (self.next + 1) & 0xffffffff, "the server does not answer a SYN")
        self.next = (self.next + 1) & 0xffffffff
        self.send(data, at=at, flags=PSH | ACK if data else ACK)
        if data:
            self.settle()

    def settle(self, seconds=0.3):
        """What the server has taken by now is behind us. True: it took something."""
        before = self.next
        self.receive(seconds)
        self.next = self.acked if self.acked is not None else self.next
        return self.next != before
