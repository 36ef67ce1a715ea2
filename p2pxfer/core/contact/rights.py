"""What a contact may do with this machine.

Denials are stored, not permissions: whoever was verified may do everything until somebody says otherwise, and that
stays so for rights that later versions add.
"""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """One thing that a contact may be allowed or denied; the value is the word of the command line and of the file."""

    FILES = "files"
    """Offering files to ``receive``, or within a chat."""
    CHAT = "chat"
    PIPE = "pipe"
    SERVICES = "services"
    """Connecting to what this machine exposes."""
