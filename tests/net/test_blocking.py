"""Descriptors that threads read and write: blocks that are worth it, and memory that is used again."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import struct
import threading
import tracemalloc
from collections import deque
from pathlib import Path

import pytest

from p2pxfer.net import blocking
from p2pxfer.net.blocking import MOST_VIEWS, READ, SMALL, ReadBlocks, keep, make_roomy, read_block, write_all


@pytest.fixture
def ends() -> tuple[int, int]:
    return os.pipe()


def test_one_read_takes_all_that_is_there_and_waits_for_no_more(ends: tuple[int, int]) -> None:
    out, into = ends
    make_roomy(out)
    for number in range(10):
        os.write(into, bytes([number]) * 30_000)
    memory = memoryview(bytearray(READ))
    assert read_block(out, memory) == 300_000
    assert memory[299_999] == 9
    os.write(into, b"tail")
    os.close(into)
    assert read_block(out, memory[:3]) == 3
    assert read_block(out, memory) == 1
    assert read_block(out, memory) == 0
    os.close(out)


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (READ + 5))
    source = os.open(path, os.O_RDONLY)
    memory = memoryview(bytearray(READ))
    assert [read_block(source, memory) for _ in range(3)] == [READ, 5, 0]
    os.close(source)


def test_a_pipe_is_made_roomy_and_nothing_else_is_touched(ends: tuple[int, int], tmp_path: Path) -> None:
    out, into = ends
    before = fcntl.fcntl(into, fcntl.F_GETPIPE_SZ)
    make_roomy(into)
    # The user may have as many pages for pipes as the administrator says.
    assert fcntl.fcntl(out, fcntl.F_GETPIPE_SZ) >= before
    with (tmp_path / "file").open("wb") as file:
        make_roomy(file.fileno())
    os.close(out)
    os.close(into)


def test_a_pipe_that_holds_more_is_left_alone(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = ends
    monkeypatch.setattr(blocking, "READ", 4096)
    before = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 16384)
    make_roomy(out)
    assert fcntl.fcntl(into, fcntl.F_GETPIPE_SZ) == before == 16384
    os.close(out)
    os.close(into)


def test_a_socket_that_was_reset_behind_its_last_bytes_is_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    with receiver:
        sender.sendall(b"x" * 1000)
        assert len(receiver.recv(1000, socket.MSG_PEEK | socket.MSG_WAITALL)) == 1000
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sender.close()
        poll = select.poll()
        poll.register(receiver, 0)
        assert poll.poll(30_000)  # the reset is there
        memory = memoryview(bytearray(READ))
        with pytest.raises(ConnectionResetError):
            while read_block(receiver.fileno(), memory):
                pass


def test_the_end_that_is_typed_behind_a_line_is_met() -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"line\n\x04")
    memory = memoryview(bytearray(READ))
    assert select.select([terminal], [], [], 30)[0]
    assert read_block(terminal, memory) == 5
    assert select.select([terminal], [], [], 30)[0]
    assert read_block(terminal, memory) == 0
    os.close(keyboard)
    os.close(terminal)


def test_many_views_are_written_whole_and_in_order(ends: tuple[int, int]) -> None:
    out, into = ends
    pieces = [bytes([number % 251]) * (number % 7 + 1) for number in range(3 * MOST_VIEWS)]
    pieces.append(bytes(range(256)) * 2000)
    heard = bytearray()

    def hear() -> None:
        while data := os.read(out, 10_000):
            heard.extend(data)

    listener = threading.Thread(target=hear)
    listener.start()
    assert write_all(into, [memoryview(piece) for piece in pieces]) == sum(map(len, pieces))
    os.close(into)
    listener.join(30)
    os.close(out)
    assert bytes(heard) == b"".join(pieces)


def test_memory_is_used_again_when_the_peer_has_what_was_in_it() -> None:
    blocks = ReadBlocks()
    first = blocks.take(READ)
    assert blocks.read(first, READ) == first
    second = blocks.take(READ)
    assert second.obj is not first.obj
    blocks.read(second, READ - 1)
    blocks.received(READ)
    assert blocks.take(READ).obj is not first.obj  # a byte of it is missing
    blocks.received(READ - 1)
    assert blocks.take(READ).obj is first.obj
    blocks.received(0)
    assert blocks.take(10).obj is second.obj


def test_a_little_that_was_read_does_not_hold_a_whole_block() -> None:
    blocks = ReadBlocks()
    memory = blocks.take(READ)
    memory[:5] = b"hello"
    kept = blocks.read(memory, 5)
    again = blocks.take(READ)
    assert again.obj is memory.obj
    again[:5] = b"other"
    assert kept == b"hello"


def test_what_waits_takes_no_more_than_it_has_bytes() -> None:
    """A peer that sends single bytes may send as many of them as the window has."""
    waiting: deque[bytes | bytearray | memoryview] = deque()
    pieces = [bytes([number % 251]) for number in range(20_000)]
    pieces[10_000:10_000] = [b"l" * SMALL, b"m" * SMALL]
    tracemalloc.start()
    for piece in pieces:
        keep(waiting, memoryview(bytearray(piece)))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 500_000
    assert b"".join(waiting) == b"".join(pieces)
    large = [view for view in waiting if isinstance(view, memoryview)]
    assert [bytes(view) for view in large] == [b"l" * SMALL, b"m" * SMALL]
