"""Other people's connections through a router: a program that opens some every second, for so long.

    python crosstraffic.py SOURCE TARGET PORT PER_SECOND SECONDS

It binds to the address SOURCE and prints a line after the first connection attempt. To the NAT an
attempt that is refused is worth as much as one that is not: either gets a port of its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections import deque

HELD = 1.0
"""Seconds that an attempt stays open; twice the round trips that the lab is used with, and more."""
MOST = 1000
"""Attempts a second; with `HELD` this bounds the open sockets."""


def main(source: str, target: str, port: int, per_second: float, seconds: float) -> None:
    """Open connections at even distances in time until `seconds` have passed."""
    begin = time.monotonic()
    held: deque[tuple[float, socket.socket]] = deque()
    for number in range(int(per_second * seconds)):
        due = begin + number / per_second
        time.sleep(max(0.0, due - time.monotonic()))
        # Without resources, or on a port that is taken, an attempt is left out; the next may go.
        with contextlib.suppress(OSError):
            held.append((due + HELD, attempt(source, target, port)))
        if number == 0:
            print("begun", flush=True)
        while held and held[0][0] < time.monotonic():
            held.popleft()[1].close()
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def attempt(source: str, target: str, port: int) -> socket.socket:
    """Return a socket that has sent a SYN."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    sock.connect_ex((target, port))
    return sock


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
