"""How this machine reaches others: the value of ``--path``, ``--gentle`` and ``--port-mapping``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from p2pxfer.core.messages import PathPolicy


class Approach(Struct, frozen=True):
    """``policy`` is ``auto``, ``direct`` (never the relay) or ``relay`` (never a direct path).

    ``gentle`` forbids many dials at once, ``port_mapping`` asks the router for a port.  The fields are called what the
    parameters of the commands are, and the fields of the records that keep them.
    """

    policy: PathPolicy = "auto"
    gentle: bool = False
    port_mapping: bool = True
