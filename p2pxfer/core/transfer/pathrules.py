"""The one judge of names in manifests: what may be created on the receiver's disk.

Laws:

- A path is refused or taken as it is; nothing is repaired, stripped or expanded.  ``%2e%2e``, ``~`` and ``$HOME`` are
  plain names.
- The rule is the same on every system: a name passes only if Linux, macOS and Windows can all hold it as one plain
  component (apart from ``< > " | ? *``, which are common elsewhere and which Windows refuses by itself).
- The rule looks at the text alone; links and races on the disk are the business of the code that creates files.
- Sentences in errors show names through :func:`p2pxfer.core.text.safe_text`.

Zero-width characters are refused although some scripts and emoji use them: two names that differ in them look the
same, and some file systems ignore them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import takewhile
from typing import Final

from p2pxfer.core.text import safe_text
from p2pxfer.errors import PathRefused

MAX_COMPONENT: Final = 255
"""Bytes of UTF-8 in one component."""
MAX_PATH: Final = 4096
"""Bytes of UTF-8 in a whole path."""
MAX_TARGET: Final = 4095
"""Bytes of UTF-8 in what a link points to."""
MAX_DEPTH: Final = 64
"""Components in a path."""
STAGING_PREFIX: Final = ".p2pxfer-"
"""Names that begin with it, in any case of letters, belong to the program itself."""
RESERVED: Final = f"names that begin with {STAGING_PREFIX} belong to this program"

SHOWN: Final = 200
"""Most characters of a path or name of the peer in a sentence."""
_STAYING: Final = frozenset({"", ".", ".."})
"""Components that name no entry."""
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Zero-width letters, marks and fillers outside the categories above.
_REFUSED_OTHERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
_ASCII_PLAIN: Final = re.compile(r"[ !-.0-9;-\[\]-~]+")
_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?", re.IGNORECASE
)
_DEVICE_INITIALS: Final = frozenset("aclnpACLNP")

# In a home directory every hidden name may be some program's start-up file or key store; these may be, too.
_HOME_TARGETS: Final = frozenset({"autorun.inf", "desktop.ini", "bin", "library/launchagents", "appdata"})


def check_path(path: str) -> None:
    """Judge a whole relative path, components joined with ``/``.

    Raises:
        PathRefused: with the reason.
    """
    if not path:
        raise PathRefused("an empty path")
    components = path.split("/")
    if len(components) > MAX_DEPTH:
        raise _refusal(path, f"it is more than {MAX_DEPTH} levels deep")
    if path.startswith("/"):
        raise _refusal(path, "it is an absolute path")
    for component in components:
        check_component(component)
    if len(path.encode()) > MAX_PATH:
        raise _refusal(path, f"it is longer than {MAX_PATH} bytes")


def check_target(path: str, target: str) -> None:
    """Judge what the symbolic link at ``path`` points to, as text that is kept as it is.

    It may go up first, not above the top-level directory that the link lies in, and then only down.  So wherever
    resolving it begins, each ``..`` leaves a real directory of the manifest and never one that a link stands for, and
    no chain of such links leads out of the top-level directory.

    Raises:
        PathRefused: with the reason.
    """
    if not target or len(target.encode(errors="surrogateescape")) > MAX_TARGET:
        raise _link_refusal(path, f"a link whose target has not 1 to {MAX_TARGET} bytes")
    components = target.split("/")
    ups = len(list(takewhile(lambda each: each in _STAYING, components)))
    levels = components[:ups].count("..")
    if target.startswith("/") or levels >= path.count("/") or ".." in components[ups:]:
        raise _link_refusal(path, f"a link to '{safe_text(target, SHOWN)}', which may lead out of what is sent")
    for component in components[ups:]:
        if component not in _STAYING:
            try:
                check_component(component)
            except PathRefused as error:
                raise _link_refusal(path, f"a link, and in its target {error.message}") from error


def check_component(name: str) -> None:
    """Judge one component of a path.

    Raises:
        PathRefused: with the reason.
    """
    if _ASCII_PLAIN.fullmatch(name) is None:
        _check_characters(name)
    if name[-1] in ". ":
        if name in {".", ".."}:
            raise _refusal(name, "'.' and '..' are not names")
        raise _refusal(name, "it ends with a dot or a space")
    if len(name) > MAX_COMPONENT // 4 and len(name.encode()) > MAX_COMPONENT:
        raise _refusal(name, f"it is longer than {MAX_COMPONENT} bytes")
    if name[0] in _DEVICE_INITIALS and _DEVICE.fullmatch(name):
        raise _refusal(name, "it is the name of a device on some systems")
    if is_reserved(name):
        raise _refusal(name, RESERVED)


def is_reserved(name: str) -> bool:
    """Whether a component, which is not empty, is one of those that belong to the program itself."""
    return name[0] == "." and collision_key(name).startswith(STAGING_PREFIX)


def check_dangerous(paths: Iterable[str], destination_is_home: bool) -> None:
    """Refuse targets that change how a home directory's owner logs in or what is started there.

    ``paths`` are relative to the destination.  Refused in a home directory: every hidden name at the top (``.ssh``,
    ``.bashrc``, ``.profile``, ``.config/autostart``, ``.git/hooks``: a list of such names is never complete) and
    places outside hidden directories that are started from.  Below another offered directory these names are
    ordinary, and so they are in every other destination.

    Raises:
        PathRefused: naming the first such path.
    """
    if not destination_is_home:
        return
    for path in paths:
        key = collision_key(path)
        if key.startswith(".") or any(key == target or key.startswith(f"{target}/") for target in _HOME_TARGETS):
            shown = safe_text(path, SHOWN)
            what = f"'{shown}' is not created in a home directory, where programs may run it or trust it"
            raise PathRefused(
                f"{what}; choose another directory to receive into",
                f"{what}; ask for another directory to be received into",
            )


def collision_key(path: str) -> str:
    """What is equal for two paths that are one on a file system that ignores case or composition of letters.

    Canonical caseless matching of the Unicode Standard (section 3.13, D145), composed at the end.
    """
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _check_characters(name: str) -> None:
    if not name:
        raise PathRefused("a path with an empty component")
    found = _refused_characters().search(name)
    if found is None:
        return
    character = found.group()
    if character == "/":
        raise _refusal(name, "a component contains '/'")
    if character == "\\":
        raise _refusal(name, "it contains a backslash")
    if character == ":":
        raise _refusal(name, "it contains a colon")
    if "\udc80" <= character <= "\udcff":
        raise _refusal(name, "it is not UTF-8")
    raise _refusal(name, f"it contains the character U+{ord(character):04X}")


@cache
def _refused_characters() -> re.Pattern[str]:
    """Every character that no name may contain, found once from the database of characters."""
    refused = {
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in _REFUSED_CATEGORIES or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    }
    refused.update(_REFUSED_OTHERS, "/\\:")
    return re.compile(f"[{_as_ranges(sorted(map(ord, refused)))}]")


def _as_ranges(codes: list[int]) -> str:
    pieces: list[str] = []
    at = 0
    while at < len(codes):
        behind = at + 1
        while behind < len(codes) and codes[behind] == codes[behind - 1] + 1:
            behind += 1
        pieces.append(f"\\U{codes[at]:08x}-\\U{codes[behind - 1]:08x}")
        at = behind
    return "".join(pieces)


def _link_refusal(path: str, reason: str) -> PathRefused:
    return PathRefused(f"'{safe_text(path, SHOWN)}': {reason}")


def _refusal(name: str, reason: str) -> PathRefused:
    return PathRefused(f"the name '{safe_text(name, SHOWN)}' is refused: {reason}")
