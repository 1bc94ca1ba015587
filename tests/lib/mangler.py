# SPDX-License-Identifier: Apache-2.0
"""
The slow way around: keeps each frame that comes out of a device for a moment and gives it back by the same device.
A program of its own, run inside the network namespace (netns.Mangler); tests/e2e/mangle.bpf.c puts frames in and takes them back.

    mangler.py DEVICE MICROSECONDS      ends with SIGTERM
"""
import heapq
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL = 263, 15, 3


def main():
    device, keep = sys.argv[1], int(sys.argv[2]) / 1e6
    # With the virtio header a packet that was not yet cut into segments, or has no checksum yet, comes and goes as it is.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    print("ready", flush=True)
    held = []  # (when to give it back, number, frame)
    number = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([sock], [], [], wait)[0]:
            frame, address = sock.recvfrom(131072)
            if address[2] != socket.PACKET_OUTGOING:
                number += 1
                heapq.heappush(held, (time.monotonic() + keep * random.uniform(0.5, 1.5), number, frame))
        while held and held[0][0] <= time.monotonic():
            sock.send(heapq.heappop(held)[2])


if __name__ == "__main__":
    main()
