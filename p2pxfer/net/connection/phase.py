"""What a connection on a socket of its own is doing (:mod:`p2pxfer.net.connection.fasttls`)."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """It only moves down this list."""

    HANDSHAKE = "TLS is being set up"
    OPEN = "the other end is verified"
    LINGERING = "the goodbye and FIN were sent, and what still comes is read and dropped"
    ENDED = "nothing is read or written any more"
