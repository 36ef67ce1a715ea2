"""The two descriptors of a pipe: how their ends are passed on, and what goes wrong there."""

from __future__ import annotations

import os
import socket

from p2pxfer.net.pipe import close_output


def test_the_end_of_the_output_is_seen_where_input_and_output_are_one_socket() -> None:
    """As inetd and socat start a program: the descriptor for the input keeps the socket open."""
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(30)
        output = os.dup(here.fileno())
        close_output(output)
        assert there.recv(1) == b""
        there.send(b"x")
        assert here.recv(1) == b"x"
        os.close(output)


def test_the_end_of_the_output_is_seen_at_a_pipe_and_the_number_stays_taken() -> None:
    out, into = os.pipe()
    close_output(into)
    assert os.read(out, 1) == b""
    os.write(into, b"nobody gets this")
    assert os.read(out, 1) == b""
    os.close(into)
    os.close(out)


def test_an_output_whose_reader_is_gone_can_be_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as here:
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        there.close()
        here.settimeout(30)
        try:
            here.recv(1)
        except ConnectionResetError:
            pass
        output = os.dup(here.fileno())
        close_output(output)
        os.close(output)
