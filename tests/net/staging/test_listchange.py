"""A list that has become another one since an earlier run: what that run left on the disk is not taken for the new."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from p2pxfer.core.session.transferwire import Offer, Page
from p2pxfer.core.transfer.manifest import DIRECTORY, Manifest
from p2pxfer.core.transfer.receiveeffect import Listed
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.staging.staging import Staging
from tests.e2e.conftest import WITHOUT_OVERRIDE
from tests.net.disk_tools import NOW, SENDER, Content, open_staging, put, tree
from tests.net.staging.listruns import COUNT, LATER, content, first_page, named, received_whole, shut_file

pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


def publish_in_part(dest: Path, content: Content, names: int = 1) -> None:
    """A run that is cut behind the rename of the first ``names`` names."""

    def cut(point: str) -> None:
        nonlocal names
        names -= point == "rx.after_rename"
        if not names:
            raise KeyboardInterrupt

    staging = open_staging(dest, content, cut)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    with pytest.raises(KeyboardInterrupt):
        staging.finish(content.root, NOW)
    staging.close()


def go_on(dest: Path, new: Content, cut: int) -> list[str]:
    """The run after it, as :class:`~p2pxfer.net.transfer.incoming.IncomingTransfer` goes: the list is another one."""
    manifest = first_page(new.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    assert staging.begun
    staging.close()
    manifest.cut(cut)
    staging = Staging.open(str(dest), SENDER, manifest, relisted=True)
    for number in range(cut, new.manifest.pages):
        manifest.add(new.manifest.page(number), more=number + 1 < new.manifest.pages)
    staging.sync([], range(cut, new.manifest.pages))
    missing = [address for address in new.addresses() if address not in staging.have]
    put(staging, new, missing)
    staging.sync(map(new.claim, missing))
    names = staging.finish(new.root, NOW)
    staging.discard()
    return names


@pytest.mark.parametrize("names", [1, 2])
def test_a_file_that_changed_after_some_names_were_published_arrives(dest: Path, names: int) -> None:
    old, new = content(b"old", modes={"d": 0o555}), content(b"new!", modes={"d": 0o555})
    assert old.manifest.transfer_id == new.manifest.transfer_id
    publish_in_part(dest, old, names)
    cut = next(n for n in range(old.manifest.pages) if old.manifest.page(n) != new.manifest.page(n))
    published = go_on(dest, new, cut)
    assert published == ["d (1)", "e (1)" if names == 2 else "e"]
    assert (dest / "d" / named(COUNT - 1)[2:]).read_bytes() == b"old"
    assert (dest / "d (1)" / named(COUNT - 1)[2:]).read_bytes() == b"new!"
    assert len(tree(dest / "d (1)")) == COUNT
    assert not [name for name in os.listdir(dest) if name.startswith(".")]


def test_a_list_that_grew_behind_a_page_after_some_names_were_published_arrives(dest: Path) -> None:
    whole = content(b"old")
    pages = whole.manifest.pages - 1
    files = [entry.path for entry in whole.manifest.files][: whole.manifest.files_before(pages)]
    old = Content({path: whole.files[path] for path in files})
    assert [old.manifest.page(n) for n in range(old.manifest.pages)] == [whole.manifest.page(n) for n in range(pages)]
    publish_in_part(dest, old)
    assert go_on(dest, whole, pages) == ["d (1)", "e"]
    assert len(tree(dest / "d (1)")) == COUNT


def test_the_same_list_goes_on_where_some_names_were_published(dest: Path) -> None:
    old = content(b"old")
    publish_in_part(dest, old)
    staging = Staging.open(str(dest), SENDER, first_page(old.manifest))
    assert len(staging.have) == len(old.addresses())
    assert staging.finish(old.root, NOW) == ["d", "e"]
    staging.discard()


# -- a list of one page that has grown -------------------------------------------------------------------------------


def one_page() -> tuple[Content, Content]:
    """A list of one full page, and one that goes on behind it."""
    whole = content(b"old")
    paths = [entry.path for entry in whole.manifest.files][: whole.manifest.files_before(1)]
    short = Content(dict.fromkeys(paths, b"old"))
    assert short.manifest.pages == 1
    assert short.manifest.transfer_id == whole.manifest.transfer_id
    return short, whole


def offered(whole: Manifest) -> tuple[ReceiverCore, Manifest]:
    receiver = ReceiverCore(whole.transfer_id, b"i" * 16)
    files, size = len(whole.sizes), whole.total_bytes
    receiver.receive(1, Offer(1, whole.transfer_id, files=files, size=size, page=whole.page(0), more=True))
    assert receiver.manifest is not None
    return receiver, receiver.manifest


def next_page(whole: Manifest) -> Page:
    return Page(handle=1, page=1, digest=whole.digest(1), data=whole.page(1), more=whole.pages > 2)


def test_a_list_of_one_page_that_has_grown_goes_on(dest: Path) -> None:
    short, whole = one_page()
    earlier = open_staging(dest, short)
    put(earlier, short, [(0, 0)])
    earlier.sync([short.claim((0, 0))])
    earlier.close()
    receiver, manifest = offered(whole.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    receiver.accepted(staging.have)
    assert Listed(1) in receiver.receive(1, next_page(whole.manifest))
    assert receiver.have_bytes == 3
    staging.close()


def test_a_list_of_one_page_that_has_grown_since_it_was_published_is_begun_anew(dest: Path) -> None:
    short, whole = one_page()
    earlier = open_staging(dest, short)
    put(earlier, short, short.addresses())
    earlier.sync(map(short.claim, short.addresses()))
    earlier.finish(short.root, NOW)
    earlier.close()
    receiver, manifest = offered(whole.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    receiver.accepted(staging.have, published=staging.published_root is not None)
    with pytest.raises(ProtocolBreach):
        receiver.receive(1, next_page(whole.manifest))
    assert receiver.outdated
    staging.close()


# -- what pages of another list have left ----------------------------------------------------------------------------


def sweeping(dest: Path, old: Content, received: str, pages: int, new: Manifest) -> Path:
    """A run lists ``old``, journals so many pages, and is cut with a file here; the next one goes on with ``new``.

    The tree is returned.
    """
    manifest = first_page(old.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    for number in range(1, old.manifest.pages):
        manifest.add(old.manifest.page(number), more=number + 1 < old.manifest.pages)
    staging.sync([], range(1, pages))
    staging.sync([])
    put(staging, old, [([entry.path for entry in old.manifest.files].index(received), 0)])
    staging.close()
    same = next(n for n in range(pages) if n >= new.pages or old.manifest.page(n) != new.page(n))
    Staging.open(str(dest), SENDER, first_page(new, same), relisted=True).close()
    return next(dest.glob(".p2pxfer-*/tree"))


def test_a_directory_that_went_goes_with_what_no_page_of_the_journal_lists(dest: Path) -> None:
    inner = [f"d/g/{number:05d}-{'x' * 50}" for number in range(1500)]
    old, new = content(b"old", *inner), content(b"new!")
    page = next(n for n in range(old.manifest.pages) if "d/g" in {entry.path for entry in old.manifest.entries_of(n)})
    assert not (sweeping(dest, old, inner[-1], page + 1, new.manifest) / "d" / "g").exists()


def test_what_became_a_directory_and_went_goes_as_the_file_that_it_was(dest: Path) -> None:
    old, new = content(b"old", "d/g"), content(b"new!", "d/g/inner")
    pages = old.manifest.pages
    here = sweeping(dest, old, "d/g", pages, new.manifest)
    assert not (here / "d" / "g").exists()
    staging = open_staging(dest, new)
    (here / "d").mkdir(exist_ok=True)
    (here / "d" / "g").write_bytes(b"of a page that was not journalled")
    staging.close()
    same = next(n for n in range(pages) if old.manifest.page(n) != new.manifest.page(n))
    Staging.open(str(dest), SENDER, first_page(new.manifest, same), relisted=True).close()
    assert not (here / "d" / "g").exists()


# -- what no page of the journal has listed --------------------------------------------------------------------------


def killed_before_the_page(dest: Path, old: Content, *received: str) -> Path:
    """A run that writes files of the last page, of which its journal knows nothing when it is killed; its tree."""
    manifest = first_page(old.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    for number in range(1, old.manifest.pages):
        manifest.add(old.manifest.page(number), more=number + 1 < old.manifest.pages)
    files = [entry.path for entry in old.manifest.files]
    put(staging, old, [(files.index(path), 0) for path in received])
    staging.close()
    here = next(dest.glob(".p2pxfer-*/tree"))
    assert all((here / path).exists() for path in received)
    return here


def all_of(content: Content) -> dict[str, bytes | None]:
    links = {entry.path: b"-> " + entry.target.encode() for entry in content.manifest.entries if entry.target}
    folders: dict[str, bytes | None] = dict.fromkeys(
        entry.path for entry in content.manifest.entries if entry.kind is DIRECTORY
    )
    return {**folders, **links, **content.files}


def test_a_file_whose_page_was_never_journalled_is_not_published(dest: Path) -> None:
    old, new = content(b"old", "d/stray", "d/x/stray", "stray"), content(b"old")
    killed_before_the_page(dest, old, "d/stray", "d/x/stray", "stray")
    assert received_whole(dest, new) == all_of(new)


@pytest.mark.parametrize("strays", [("d/g",), ("d/g/inner",), ("d/g/deep/inner", "f")])
def test_what_lies_where_something_else_belongs_gives_way(dest: Path, strays: tuple[str, ...]) -> None:
    """A file in a directory's place, a directory in a file's: neither had a page in the journal."""
    old, new = content(b"old", *strays), content(b"old", "d/g/inner" if strays == ("d/g",) else "d/g")
    killed_before_the_page(dest, old, *strays)
    assert received_whole(dest, new) == all_of(new)


def test_what_is_listed_and_claimed_stays_and_the_rest_goes_whatever_it_is(dest: Path, tmp_path: Path) -> None:
    whole = content(b"old", "g/file", "z/file")
    staging = open_staging(dest, whole)
    put(staging, whole, whole.addresses())
    staging.sync(map(whole.claim, whole.addresses()))
    staging.close()
    here = next(dest.glob(".p2pxfer-*/tree"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"another's")
    os.mkfifo(here / "a fifo")
    (here / "d" / "a link").symlink_to(outside)
    (here / os.fsdecode(b"not \xff UTF-8")).write_bytes(b"")
    (here / "zz").mkdir(0)
    (here / "g" / "file").unlink()
    (here / "g" / "file").symlink_to(outside / "kept")
    (here / "z" / "file").unlink()
    (here / "z").rmdir()
    (here / "z").symlink_to(outside)
    staging = open_staging(dest, whole)
    lost = {("g/file", 0), ("z/file", 0)}
    claimed = {(whole.manifest.files[file].path, index) for file, index in staging.have}
    assert claimed == {(path, 0) for path in whole.files} - lost
    staging.close()
    assert tree(here).keys() == all_of(whole).keys() - {"g/file", "z", "z/file"}
    assert tree(outside) == {"kept": b"another's"}
    assert received_whole(dest, whole) == all_of(whole)


# -- directories whose modes somebody changed meanwhile ----------------------------------------------------------------

NEXT_RUN = """
import sys
from pathlib import Path
from tests.net.staging import listruns as tests

tests.received_whole(Path(sys.argv[1]), tests.content(b"old"))
"""


@pytest.mark.parametrize("mode", [0, 0o300, 0o500, 0o600])
@pytest.mark.parametrize("where", [".", "d", "d/x"])
def test_a_directory_that_shuts_its_owner_out_is_gone_through_all_the_same(dest: Path, where: str, mode: int) -> None:
    """By a process that heeds modes, as all but root's do: the tree, a listed directory and one that nothing lists."""
    here = killed_before_the_page(dest, content(b"old", "d/stray", "d/x/stray"), "d/stray", "d/x/stray")
    (here / where).chmod(mode)
    argv = [*WITHOUT_OVERRIDE, sys.executable, "-c", NEXT_RUN, str(dest)]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert tree(dest) == all_of(content(b"old"))


CHANGED_RUN = """
import sys
from pathlib import Path
from tests.net import disk_tools
from tests.net.staging import listruns as tests

disk_tools.run(Path(sys.argv[1]), tests.shut_file(tests.LATER, 0o644), batch=2000)
"""


@pytest.mark.parametrize("mode", [0, 0o400])
@pytest.mark.parametrize("earlier", [b"e", b"e" * 70_000])
def test_a_file_that_was_shut_for_publishing_and_changed_then_is_written_again(
    dest: Path, earlier: bytes, mode: int
) -> None:
    """By a process that heeds modes: what the new list says of the file tells nothing of the run before."""
    old, new = shut_file(earlier, mode), shut_file(LATER, 0o644)
    assert old.manifest.transfer_id == new.manifest.transfer_id

    def cut(point: str) -> None:
        if point == "rx.before_rename":
            raise KeyboardInterrupt

    staging = open_staging(dest, old, cut)
    put(staging, old, old.addresses())
    staging.sync(map(old.claim, old.addresses()))
    with pytest.raises(KeyboardInterrupt):
        staging.finish(old.root, NOW)
    staging.close()
    assert next(dest.glob(".p2pxfer-*/tree/e")).stat().st_mode & 0o777 == mode
    argv = [*WITHOUT_OVERRIDE, sys.executable, "-c", CHANGED_RUN, str(dest)]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert tree(dest) == all_of(new)
    assert (dest / "e").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_what_others_laid_into_a_directory_that_was_open_to_them_is_not_taken_for_received(
    dest: Path, tmp_path: Path
) -> None:
    """Under listed names: a file of theirs, a link of the disk to another file of this user, a directory of theirs."""
    whole = content(b"old", "f/g/h")
    staging = open_staging(dest, whole)
    received = [address for address in whole.addresses() if whole.manifest.files[address[0]].path != named(0)]
    put(staging, whole, received)
    staging.sync(map(whole.claim, received))
    staging.close()
    here = next(dest.glob(".p2pxfer-*/tree"))
    for folder in (here, here / "d"):
        folder.chmod(0o777)
    theirs, precious = here / named(1), tmp_path / "precious"
    theirs.unlink()
    theirs.write_bytes(b"bad")
    os.chown(theirs, 65534, 65534)
    precious.write_bytes(b"mine")
    (here / named(0)).hardlink_to(precious)
    os.chown(here / "f", 65534, 65534)
    staging = open_staging(dest, whole)
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in [here, *here.rglob("*")] if path.is_dir())
    assert not (here / named(0)).exists()
    assert not theirs.exists()
    missing = {whole.manifest.files[file].path for file, index in set(whole.addresses()) - set(staging.have)}
    assert missing == {named(0), named(1), "f/g/h"}
    staging.close()
    assert received_whole(dest, whole) == all_of(whole)
    assert precious.read_bytes() == b"mine"


OTHERS_RUN = """
import sys
from pathlib import Path
from p2pxfer.errors import DiskError
from tests.net import disk_tools

try:
    disk_tools.run(Path(sys.argv[1]), disk_tools.Content({"a": b"a", "f/g/h": b"x"}), batch=10)
except DiskError as error:
    sys.exit(error.message)
"""


def run_beside(dest: Path, mode: int, inside: str = "", tree_mode: int = 0o777) -> tuple[int, str]:
    """A run, by a process without rights over others', where the listed directory ``f`` is another user's."""
    whole = Content({"a": b"a", "f/g/h": b"x"})
    staging = open_staging(dest, whole)
    put(staging, whole, whole.addresses()[:1])
    staging.sync(map(whole.claim, whole.addresses()[:1]))
    staging.close()
    here = next(dest.glob(".p2pxfer-*/tree"))
    theirs = here / "f"
    theirs.mkdir()
    if inside:
        (theirs / inside).touch()
        os.chown(theirs / inside, 65534, 65534)
    theirs.chmod(mode)
    os.chown(theirs, 65534, 65534)
    here.chmod(tree_mode)
    argv = ["setpriv", "--bounding-set=-all", sys.executable, "-c", OTHERS_RUN, str(dest)]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give directories away")
@pytest.mark.parametrize("tree_mode", [0o700, 0o777])
@pytest.mark.parametrize(("mode", "inside"), [(0o700, ""), (0, ""), (0o755, ""), (0o777, "k")])
def test_a_directory_of_another_user_is_removed_where_the_system_lets_it(
    dest: Path, mode: int, inside: str, tree_mode: int
) -> None:
    assert run_beside(dest, mode, inside, tree_mode) == (0, "")
    assert tree(dest) == {"a": b"a", "f": None, "f/g": None, "f/g/h": b"x"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give directories away")
@pytest.mark.parametrize(("mode", "inside", "blamed"), [(0o700, "k", "f"), (0o755, "k", "f/k")])
def test_what_another_user_lets_nobody_remove_is_named(dest: Path, mode: int, inside: str, blamed: str) -> None:
    code, said = run_beside(dest, mode, inside)
    here = next(dest.glob(".p2pxfer-*"))
    assert code == 1
    assert re.fullmatch(
        rf"removing '{re.escape(str(here))}/tree/{blamed}' failed: (Permission denied|Operation not permitted); what "
        rf"arrived is kept in '{re.escape(str(here))}'; repair that, and let the sender run its command again to go "
        r"on\n",
        said,
    ), said
