# SPDX-License-Identifier: Apache-2.0
"""
Many connections of one process, all open at once, each with a statement on its way: a program, for the tests of many.

    manyclient.py HOST PORT CONNECTIONS ROUNDS APPLICATION

Each statement is "SELECT 'PID CONNECTION ROUND'" with this process's id. Prints how many were answered when all are.
"""
import os
import selectors
import socket
import struct
import sys

READY = b"Z\0\0\0\5I"


def startup(application):
    body = struct.pack("!I", 196608)
    for word in ("user", "postgres", "database", "postgres", "application_name", application, ""):
        body += word.encode() + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(number, turn):
    text = f"SELECT '{os.getpid()} {number} {turn}'".encode() + b"\0"
    return b"Q" + struct.pack("!I", len(text) + 4) + text


def main():
    host, port, connections, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    hello = startup(sys.argv[5])
    selector = selectors.DefaultSelector()
    turns, tails = [0] * connections, [b""] * connections
    for number in range(connections):
        sock = socket.create_connection((host, port), 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(hello)
        selector.register(sock, selectors.EVENT_READ, number)
    greeted = answered = 0
    while answered < connections * rounds:
        events = selector.select(60)
        if not events:
            sys.exit(f"{answered} answers, then none for a minute")
        for key, _ in events:
            number, data = key.data, key.fileobj.recv(65536)
            if not data:
                sys.exit(f"connection {number} ended")
            tails[number] = (tails[number] + data)[-len(READY):]
            if tails[number] != READY:
                continue
            tails[number] = b""
            if turns[number]:
                answered += 1
                if turns[number] < rounds:
                    key.fileobj.sendall(query(number, turns[number]))
                turns[number] += 1
                continue
            greeted += 1
            turns[number] = 1
            if greeted == connections:  # all of them are open before the first one asks
                for other in list(selector.get_map().values()):
                    other.fileobj.sendall(query(other.data, 0))
    for key in list(selector.get_map().values()):
        key.fileobj.sendall(b"X\0\0\0\4")
        key.fileobj.close()
    print(answered)


if __name__ == "__main__":
    main()
