"""The manifest's one encoding."""

from __future__ import annotations

import hashlib
import struct
import time
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.transfer import listcodec
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, MAX_MANIFEST, Entry, Manifest
from p2pxfer.errors import LimitReached, ManifestRefused, NameCollision, P2pxferError, PathRefused
from tests.core.paths_corpus import Row, cases

MAGIC = b"P2PXMAN\x02"


def raw(*entries: tuple[int, int, bytes, int], mtime: int = 0, mode: int = 0) -> bytes:
    """The layout written out by hand: (kind, parent, name, size) each, right or wrong."""
    pieces = [MAGIC]
    for kind, parent, name, size in entries:
        pieces.append(struct.pack(">BBHIq", kind, len(name), mode, parent, mtime))
        pieces += [name] if kind == 1 else [struct.pack(">Q", size), name]
    return b"".join(pieces)


def raw_row(row: Row, first: bytes = b"") -> bytes | None:
    """A hostile manifest with the paths of a row; None if a name does not even fit into the layout."""
    ordered = sorted(row.paths, key=lambda path: path.split(b"/"))
    entries = [(0, 0, first, 1)] if first else []
    places: dict[bytes, int] = {}
    for path in ordered:
        parent, slash, name = path.rpartition(b"/")
        if not slash or parent not in places:
            parent, name = b"", path
        if len(name) > 255:
            return None
        entries.append((1 if row.is_directory(path) else 0, places.get(parent, 0), name, 1))
        places.setdefault(path, len(entries))
    return raw(*entries)


def entries_of(row: Row) -> list[Entry]:
    pairs = zip(row.paths, row.texts(), strict=True)
    return [Entry(text, DIRECTORY if row.is_directory(path) else FILE) for path, text in pairs]


TREE = [
    Entry("photos/b.jpg", FILE, 70_000, 1_700_000_000_123_456_789),
    Entry("photos", DIRECTORY, mtime_ns=5),
    Entry("photos a", FILE, 1),
    Entry("run.sh", FILE, 0, -1, 0o755),
    Entry("photos/empty", DIRECTORY, 0, 0, 0o700),
    Entry("photos/last", LINK, 0, 9, 0, "b.jpg"),
]


def test_order_and_numbers() -> None:
    tree = Manifest(TREE)
    paths = ["photos", "photos/b.jpg", "photos/empty", "photos/last", "photos a", "run.sh"]
    assert [entry.path for entry in tree.entries] == paths
    assert [entry.path for entry in tree.files] == ["photos/b.jpg", "photos a", "run.sh"]
    assert tree.top_names == ["photos", "photos a", "run.sh"]
    assert tree.total_bytes == 70_001
    assert tree.transfer_id == hashlib.sha256(tree.encode()).digest()
    assert Manifest(reversed(TREE)) == tree
    assert hash(Manifest(reversed(TREE))) == hash(tree)
    assert Manifest(TREE[1:]) != tree


def test_the_documented_layout() -> None:
    expected = MAGIC
    expected += struct.pack(">BBHIq", 1, 1, 0o711, 0, 7) + b"d"
    expected += struct.pack(">BBHIqH", 2, 1, 0, 1, 3, 2) + b"l" + "\u00e9".encode()
    expected += struct.pack(">BBHIqQ", 0, 2, 0o777, 1, -1, 9) + "\u00e9".encode()
    expected += struct.pack(">BBHIqQ", 0, 1, 0, 0, 2**63 - 1, 2**40) + b"x"
    entries = [
        Entry("d", DIRECTORY, 0, 7, 0o711),
        Entry("d/l", LINK, 0, 3, 0, "\u00e9"),
        Entry("d/\u00e9", FILE, 9, -1, 0o777),
        Entry("x", FILE, 2**40, 2**63 - 1),
    ]
    assert Manifest(entries).encode() == expected
    assert list(Manifest.decode(expected).entries) == entries


# -- the corpus ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", cases())
def test_corpus_when_built(row: Row) -> None:
    if row.expect == "ok":
        assert {entry.path for entry in Manifest(entries_of(row)).entries} == set(row.texts())
        return
    with pytest.raises(P2pxferError) as caught:
        Manifest(entries_of(row))
    assert caught.value.word == row.expect
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("first", [pytest.param(b"", id="alone"), pytest.param(b" ok.txt", id="second")])
@pytest.mark.parametrize("row", cases())
def test_corpus_when_received(row: Row, first: bytes) -> None:
    encoded = raw_row(row, first)
    if encoded is None:
        assert row.expect == "E_PATH"
        return
    if row.expect == "ok":
        assert Manifest.decode(encoded).encode() == encoded
        return
    with pytest.raises(ManifestRefused) as caught:
        Manifest.decode(encoded)
    assert caught.value.word == row.expect
    assert caught.value.message.isprintable()


A = (0, 0, b"a", 1)
DIR = (1, 0, b"d", 0)
TOP = Entry("d", DIRECTORY)


@pytest.mark.parametrize(
    ("encoded", "error"),
    [
        pytest.param(raw((0, 0, b"a", 2**64 - 1)), ManifestRefused, id="M01 M03"),
        pytest.param(raw((0, 0, b"a", 2**63)), ManifestRefused, id="M02"),
        pytest.param(raw((0, 0, b"a", 2**63 - 1), (0, 0, b"b", 2**63 - 1)), ManifestRefused, id="M09"),
        pytest.param(raw(), ManifestRefused, id="M10"),
        pytest.param(raw(A) + bytes(MAX_MANIFEST + 1 - len(raw(A))), LimitReached, id="M12"),
        pytest.param(raw((3, 0, b"a", 1)), ManifestRefused, id="M15 device"),
        pytest.param(raw((255, 0, b"a", 1)), ManifestRefused, id="M15 unknown"),
        pytest.param(raw(A, mode=0o4777), ManifestRefused, id="M16 setuid"),
        pytest.param(raw(A, mode=0o100644), ManifestRefused, id="M16 type"),
        pytest.param(raw((0x81, 0, b"a", 1)), ManifestRefused, id="M16 kind"),
        pytest.param(raw((0, 0, b"b", 1), A), ManifestRefused, id="M18"),
        pytest.param(raw(A) + b"\0", ManifestRefused, id="M19"),
        pytest.param(raw(A) + raw(A), ManifestRefused, id="M20"),
        pytest.param(b"", ManifestRefused, id="nothing"),
        pytest.param(MAGIC, ManifestRefused, id="magic only"),
        pytest.param(b"P2PXMAN\x01" + raw(A)[8:], ManifestRefused, id="version"),
        pytest.param(raw(A, (0, 1, b"b", 1)), NameCollision, id="parent is a file"),
        pytest.param(raw((0, 1, b"a", 1)), ManifestRefused, id="its own parent"),
        pytest.param(raw(DIR, (0, 3, b"a", 1), (1, 0, b"e", 0)), ManifestRefused, id="parent comes later"),
        pytest.param(raw(DIR, (0, 2**32 - 1, b"a", 1)), ManifestRefused, id="parent far away"),
        pytest.param(raw((0, 0, b"", 1)), PathRefused, id="no name"),
        pytest.param(raw((0, 0, b"d/a", 1)), PathRefused, id="slash in a name"),
        pytest.param(raw(DIR, (0, 1, b"..", 1)), PathRefused, id="dots below a directory"),
        pytest.param(raw(DIR, (1, 0, b"d", 0)), NameCollision, id="a directory twice"),
        pytest.param(raw((0, 0, b"d", 1), (1, 0, b"d", 0)), NameCollision, id="file and directory"),
    ],
)
def test_hostile_encodings(encoded: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Manifest.decode(encoded)
    assert type(caught.value) is error


@pytest.mark.parametrize("mtime", [-(2**63), 2**63 - 1])
def test_m17_any_time_is_only_a_number(mtime: int) -> None:
    assert Manifest.decode(raw(A, mtime=mtime)).files[0].mtime_ns == mtime


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        pytest.param(Entry("a", FILE, -1), ManifestRefused, id="M01"),
        pytest.param(Entry("a", FILE, 2**63), ManifestRefused, id="M02"),
        pytest.param(Entry("a", FILE, 1, 2**63), ManifestRefused, id="M17"),
        pytest.param(Entry("a", DIRECTORY, 1), ManifestRefused, id="directory with a size"),
        pytest.param(Entry("a", FILE, 0, 0, 0o1777), ManifestRefused, id="sticky"),
        pytest.param(Entry("a", DIRECTORY, 0, 0, -1), ManifestRefused, id="mode below zero"),
        pytest.param(Entry("a/b", FILE), ManifestRefused, id="no parent"),
    ],
)
def test_impossible_entries(entry: Entry, error: type[Exception]) -> None:
    with pytest.raises(error):
        Manifest([entry])


INSIDE = ["f", "./f", "in/", "in//deep/.", "..", "../d", "../../d/in", ".././../x y", "nowhere", ".", "no/such/place"]
OUTSIDE = ["/", "/etc/passwd", "../../..", "../../../d", "in/..", "./in/../../..", "../in/../..", "..//..//..", "/.."]


@pytest.mark.parametrize("target", INSIDE)
def test_a_link_that_stays_inside(target: str) -> None:
    """Kept to the letter, whether or not anything is there."""
    tree = [TOP, Entry("d/in", DIRECTORY), Entry("d/in/deep", DIRECTORY), Entry("d/in/deep/l", LINK, target=target)]
    assert Manifest.decode(Manifest(tree).encode()).entries[-1].target == target


@pytest.mark.parametrize("target", [*OUTSIDE, "", "a\\b", "a\nb", "a:b", "x" * 4096, "a\udcff", "\u202e", "nul"])
def test_a_link_that_may_lead_outside_is_refused(target: str) -> None:
    raw_target = target.encode(errors="surrogateescape")
    entries = [TOP, Entry("d/in", DIRECTORY), Entry("d/in/l", LINK, target=target)]
    with pytest.raises(PathRefused) as caught:
        Manifest(entries)
    assert caught.value.message.isprintable()
    link = struct.pack(">BBHIqH", 2, 1, 0, 2, 0, len(raw_target)) + b"l" + raw_target
    encoded = raw(DIR, (1, 1, b"in", 0)) + link
    with pytest.raises(PathRefused):
        Manifest.decode(encoded)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "l", "m"]), min_size=1, max_size=6), st.data())
@settings(max_examples=300, deadline=None)
def test_links_that_pass_never_lead_out_whatever_else_is_linked(parts: list[str], data: st.DataObject) -> None:
    """Resolved step by step as a kernel does, through other links that passed."""
    links: dict[str, str] = {}
    for place in ("t/l", "t/a/l", "t/a/b/m", "t/a/m"):
        target = "/".join(data.draw(st.permutations(parts)))
        entries = [Entry("t", DIRECTORY), Entry("t/a", DIRECTORY), Entry("t/a/b", DIRECTORY)]
        try:
            Manifest([*entries, Entry(place, LINK, target=target)])
        except PathRefused:
            continue
        links[place] = target
    for place, target in links.items():
        at, todo, steps = place.split("/")[:-1], target.split("/"), 0
        while todo and steps < 200:
            steps += 1
            part = todo.pop(0)
            if part == "..":
                at.pop()
            elif part not in ("", "."):
                at.append(part)
            assert at[:1] == ["t"], (place, links)
            if "/".join(at) in links:
                todo = links["/".join(at)].split("/") + todo
                at.pop()


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (Entry("l", LINK, target="d"), PathRefused),
        (Entry("d/l", LINK, 1, target="x"), ManifestRefused),
        (Entry("d/l", LINK, mode=0o777, target="x"), ManifestRefused),
    ],
)
def test_impossible_links(extra: Entry, error: type[Exception]) -> None:
    with pytest.raises(error):
        Manifest([TOP, extra])


def test_nothing_lies_in_a_link() -> None:
    with pytest.raises(NameCollision):
        Manifest([TOP, Entry("d/l", LINK, target="x"), Entry("d/l/file", FILE)])
    link = struct.pack(">BBHIqH", 2, 1, 0, 1, 0, 1) + b"lx"
    inside = struct.pack(">BBHIqQ", 0, 1, 0, 2, 0, 0) + b"f"
    with pytest.raises(NameCollision):
        Manifest.decode(raw(DIR) + link + inside)


def test_truncated_at_every_byte() -> None:
    """Between two entries a shorter list ends, which is another transfer."""
    whole = Manifest(TREE)
    encoded = whole.encode()
    shorter = 0
    for length in range(len(encoded)):
        try:
            cut = Manifest.decode(encoded[:length])
        except ManifestRefused:
            continue
        shorter += 1
        assert list(cut.entries) == list(whole.entries)[: len(cut.entries)]
        assert cut.transfer_id != whole.transfer_id
    assert shorter == len(TREE) - 1


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for encoded in (data, raw(A)[:8] + data):
        try:
            decoded = Manifest.decode(encoded)
        except (ManifestRefused, LimitReached):
            continue
        assert Manifest(decoded.entries).encode() == encoded


@given(st.data())
@settings(max_examples=300)
def test_one_changed_byte_changes_the_manifest_or_is_refused(data: st.DataObject) -> None:
    tree = Manifest(TREE)
    encoded = bytearray(tree.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = Manifest.decode(bytes(encoded))
    except (ManifestRefused, LimitReached):
        return
    assert list(changed.entries) != list(tree.entries)
    assert Manifest(changed.entries).encode() == bytes(encoded)


NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=6)
TREES = st.recursive(st.integers(0, 2**40), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)
Tree: TypeAlias = "int | dict[str, Tree]"
"""A file's size, or what is in a directory."""


def flatten(tree: dict[str, Tree], prefix: str = "") -> list[Entry]:
    found: list[Entry] = []
    for name, inner in tree.items():
        if isinstance(inner, dict):
            found += [Entry(prefix + name, DIRECTORY), *flatten(inner, f"{prefix}{name}/")]
        else:
            found.append(Entry(prefix + name, FILE, inner, mode=inner % 0o1000))
    return found


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_decoding_undoes_encoding(tree: dict[str, Tree]) -> None:
    entries = flatten(tree)
    try:
        built = Manifest(entries)
    except ManifestRefused:
        return
    again = Manifest.decode(built.encode())
    assert again.encode() == built.encode()
    assert list(again.entries) == sorted(entries, key=lambda entry: entry.path.encode().split(b"/"))


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listcodec, "MAX_ENTRIES", 2)
    assert len(Manifest([Entry("a", FILE), Entry("b", FILE)]).files) == 2
    with pytest.raises(LimitReached):
        Manifest([Entry("a", FILE), Entry("b", FILE), Entry("c", FILE)])


def test_many_entries_decode_in_good_time() -> None:
    entries = [(1, 0, b"top", 0), *((0, 1, b"file %06d" % number, number) for number in range(100_000))]
    encoded = raw(*entries)
    start = time.process_time()
    assert len(Manifest.decode(encoded).files) == 100_000
    assert time.process_time() - start < 2 * 2, "1,000,000 entries are to take less than 20 s"


def test_pages_are_hashed_without_letting_go_of_the_interpreters_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 20 microseconds, and to get the lock back milliseconds where other threads compute."""
    sizes: list[int] = []
    real = hashlib.sha256

    class Hash:
        def __init__(self) -> None:
            self._real = real()

        def update(self, data: bytes) -> None:
            sizes.append(len(data))
            self._real.update(data)

        def digest(self) -> bytes:
            return self._real.digest()

    whole = Manifest([Entry(f"file-{number:05d}", FILE, number) for number in range(2000)])
    monkeypatch.setattr(hashlib, "sha256", Hash)
    assert Manifest.decode(whole.encode()).digest() == whole.digest() == real(whole.encode()).digest()
    assert sum(sizes) == whole.size
    assert max(sizes) < 2048
