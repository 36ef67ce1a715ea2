"""Words for programs about why two machines got the path that they got, and what would make it a better one."""

from __future__ import annotations

from typing import Literal

Where = Literal["", "here", "there", "both", "either"]
"""Which side is meant: this machine's, the peer's."""
Reason = Literal[
    "same-network", "ipv6", "mapped", "open", "kept", "let-in", "predicted", "searched", "met",
    "forbidden", "same-nat", "pooled", "unmeasured", "withheld", "closed", "blocked", "both-random", "both-change",
    "counted-and-random", "not-found", "overtaken", "no-crossing",
]  # fmt: skip
"""Why a pair got its path: the first row explains a direct one, the others the want of one."""
Change = Literal["none", "allow", "join", "permit", "unblock", "map"]
"""What would make a relayed pair direct."""
