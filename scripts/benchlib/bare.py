"""The work of a copy without a protocol: what the product's libraries and the kernel take, whoever calls them.

Two programs with two threads each: one reads and hashes, seals and sends; the other receives and opens, verifies and
writes.  Every piece has its hash beside it, and stays in the processor's second-level cache from one call to the next.
Nobody is introduced, judged or acknowledged, and nothing is durable, so no product is as quick; what p2pxfer takes
beyond it is its own.

``python bare.py receive PORT FILE``, then ``send PORT FILE``; both on loopback, and files are of whole MiB.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PIECE = 512 * 1024
"""Bytes that are read, sealed and sent at once; with pieces of 4 MiB it takes a fifth more of the processors' time."""
WAITING = 4
"""Pieces between the two threads of a program."""
HASH = 32
SEALED = HASH + PIECE + 16
_KEY = bytes(16)

Filled = tuple[memoryview, bytes]
"""A piece, and its hash."""


class _Threads:
    """What two threads hand each other: memory that is free, and memory that holds a piece; ``None`` is the end."""

    def __init__(self, other: Callable[[_Threads], None]) -> None:
        """``other`` runs in a second thread; when it ends, whoever waits here goes on with ``None``."""
        self.free: SimpleQueue[memoryview | None] = SimpleQueue()
        self.filled: SimpleQueue[Filled | None] = SimpleQueue()
        for _ in range(WAITING):
            self.free.put(memoryview(bytearray(PIECE)))
        self._other = other
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._other(self)
        finally:
            self.free.put(None)
            self.filled.put(None)

    def join(self) -> None:
        """Wait for the end of the second thread."""
        self._thread.join()


def send(port: int, source: Path) -> None:
    """Read, hash, seal and send a file of whole pieces."""

    def read(threads: _Threads) -> None:
        with source.open("rb", buffering=0) as file:
            while (memory := threads.free.get()) is not None and file.readinto(memory) == PIECE:
                threads.filled.put((memory, blake3(memory).digest()))

    with socket.create_connection(("127.0.0.1", port)) as connection:
        cipher, number, out = AESGCM(_KEY), 0, memoryview(bytearray(SEALED))
        threads = _Threads(read)
        while (filled := threads.filled.get()) is not None:
            piece, out[:HASH] = filled
            cipher.encrypt_into(number.to_bytes(12, "big"), piece, out[:HASH], out[HASH:])
            connection.sendall(out)
            threads.free.put(piece)
            number += 1
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the other end has written everything


def receive(port: int, target: Path) -> None:
    """Receive, open, verify and write a file; prints how long it took from the first piece on."""
    written = 0

    def write(threads: _Threads) -> None:
        nonlocal written
        with target.open("xb", buffering=0) as file:
            while (filled := threads.filled.get()) is not None:
                piece, digest = filled
                if blake3(piece).digest() != digest:
                    return
                written += file.write(piece)
                threads.free.put(piece)

    with socket.create_server(("127.0.0.1", port)) as listener, listener.accept()[0] as connection:
        cipher, number, came = AESGCM(_KEY), 0, memoryview(bytearray(SEALED))
        threads = _Threads(write)
        began = time.monotonic()
        while connection.recv_into(came, SEALED, socket.MSG_WAITALL) == SEALED:
            piece = threads.free.get()
            if piece is None:
                sys.exit("what came is not what was sent, or there is no room for it")
            cipher.decrypt_into(number.to_bytes(12, "big"), came[HASH:], came[:HASH], piece)
            threads.filled.put((piece, bytes(came[:HASH])))
            number += 1
        threads.filled.put(None)
        threads.join()
        if written != number * PIECE:
            sys.exit("not everything was written")
        print(json.dumps({"event": "done", "rate": written / (time.monotonic() - began)}), flush=True)


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
