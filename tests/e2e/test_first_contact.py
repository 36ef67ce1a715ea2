"""The first meeting of two people with a one-time code, and what it leaves behind."""

from __future__ import annotations

import os

import pytest

from p2pxfer.core.ids import parse_id
from p2pxfer.net.private.home import Home
from tests.e2e.acquainting import CODE, contacts_of, pair_up, send_with_code
from tests.e2e.conftest import MIB, Stage, Words, check_failure, end_of, names_in
from tests.scene import WORDS, events_of, file_hash, last, random_file


@pytest.mark.parametrize("how", ["environment", "file"])
def test_a_code_makes_contacts_and_then_the_name_is_enough(stage: Stage, how: str) -> None:
    assert stage.run("init", "--as", "alice").status == 0
    bob = stage.receive("--code", WORDS)
    assert bob.wait_for("code")["code"] == CODE
    source = stage.folder / "first.bin"
    digest = random_file(source, MIB)
    sent = send_with_code(stage, source, how, as_json=True)
    assert sent.status == 0, sent
    assert file_hash(stage.inbox / "first.bin") == digest
    alice_id, bob_id = (str(Home(home).identity().id) for home in (stage.alice, stage.bob))
    assert last(sent.events, "peer") == last(sent.events, "peer") | {"name": "bob", "id": bob_id, "verified": "code"}
    assert bob.wait_for("peer").items() >= {"name": "alice", "id": alice_id, "verified": "code"}.items()
    assert contacts_of(stage.alice) == {"bob": (bob_id, "code")}
    assert contacts_of(stage.bob) == {"alice": (alice_id, "code")}
    # From now on without a code, while bob offers none.
    bob.stop()
    bob = stage.receive("--no-code")
    stage.send_good("second.bin")
    assert bob.wait_for("peer")["verified"] == "contact"
    bob.stop()
    answer_by_name(stage)


def answer_by_name(stage: Stage) -> None:
    """Bob sends to alice by the name that the pairing gave her."""
    inbox = stage.folder / "alice-inbox"
    inbox.mkdir()
    alice = stage.program("alice", stage.alice, "receive", "--to", inbox, "--once", "--no-code")
    assert alice.wait_for("registered")["name"] == "alice"
    source = stage.folder / "answer.bin"
    digest = random_file(source, MIB)
    assert stage.run("send", source, "alice", home=stage.bob).status == 0
    alice.succeed(40)
    assert file_hash(inbox / "answer.bin") == digest


def test_without_a_code_a_name_is_not_enough(stage: Stage) -> None:
    source = stage.folder / "x.txt"
    source.write_text("x")
    stage.receive("--code", WORDS)
    line = stage.fails(2, "E_USAGE", "one-time code", "send", source, "bob")
    assert "P2PXFER_CODE" in line
    assert "--code-file" in line
    stage.fails_plainly(5, "code", "send", source, "bob", env={"P2PXFER_CODE": "not a code"})
    stage.fails_plainly(2, "missing' does not exist", "send", source, "bob", "--code-file", stage.folder / "missing")
    assert not contacts_of(stage.alice)
    assert send_with_code(stage, source, "environment").status == 0


def test_contacts_are_listed_renamed_and_removed(stage: Stage) -> None:
    pair_up(stage)
    bob_id = str(Home(stage.bob).identity().id)
    listed = stage.run("contacts")
    assert listed.status == 0
    header, line = listed.out.splitlines()
    assert header.split() == ["NAME", "ID", "VERIFIED"]
    assert line.split()[:2] == ["bob", bob_id]
    assert line.index(bob_id) == header.index("ID")
    assert stage.run("contacts", "list").out == listed.out
    (row,) = stage.run("contacts", as_json=True).events
    assert row == row | {"event": "contact", "name": "bob", "id": bob_id, "verified": "code", "state": "known"}
    check_failure(stage.run("contacts", "rename", "nobody", "robert"), 2, "no contact nobody")
    check_failure(stage.run("contacts", "remove", "nobody"), 2, "no contact nobody")
    assert stage.run("contacts", "rename", "bob", "robert").status == 0
    assert contacts_of(stage.alice) == {"robert": (bob_id, "code")}
    bob = stage.receive("--no-code")
    random_file(stage.folder / "good.bin", MIB)
    sent = stage.run("send", stage.folder / "good.bin", "robert", as_json=True)
    assert sent.status == 0, sent
    # Not what that machine calls itself.
    assert [event["name"] for event in sent.events if event["event"] == "peer"] == ["robert"]
    bob.stop()
    assert stage.run("contacts", "remove", "robert").status == 0
    assert not contacts_of(stage.alice)
    assert stage.run("contacts").out == ""
    check_failure(stage.run("send", stage.folder / "good.bin", "robert"), 2, "robert is not a contact")


def test_who_this_machine_and_its_contacts_are_as_events(stage: Stage) -> None:
    bob_id = str(Home(stage.bob).identity().id)
    (made,) = stage.run("init", "--as", "alice", as_json=True).events
    alice = {
        "id": str(Home(stage.alice).identity().id),
        "name": "alice",
        "server": stage.address,
        "home": str(stage.alice),
    }
    assert made == made | {"event": "identity"} | alice
    (shown,) = stage.run("id", as_json=True).events
    assert shown == shown | {"event": "identity"} | alice
    for words, name, state in (
        (("add", "bob", bob_id), "bob", "added"),
        (("rename", "bob", "robert"), "robert", "renamed"),
        (("remove", "robert"), "robert", "removed"),
    ):
        (event,) = stage.run("contacts", *words, as_json=True).events
        assert event == event | {"event": "contact", "name": name, "id": bob_id, "verified": "id", "state": state}
    assert stage.run("contacts", as_json=True).events == []


@pytest.mark.deadline(90)
def test_a_removed_contact_is_refused_in_words(stage: Stage) -> None:
    """Bob forgot alice while he received: she may prove a code, and nothing else."""
    pair_up(stage)
    bob = stage.receive("--code", WORDS)
    stage.send_good("before.bin")
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0
    source = stage.folder / "again.bin"
    random_file(source, MIB)
    before = names_in(stage.inbox)
    stage.fails(4, "E_UNKNOWN", "does not know this key", "send", source, "bob")
    assert names_in(stage.inbox) == before
    assert contacts_of(stage.bob) == {}
    # The code is still good: a refusal is not a try.
    sent = send_with_code(stage, source, "environment")
    assert sent.status == 0
    assert sent.err.count("bob does not know this machine any more; the code is used") == 1
    assert "lost" not in sent.err
    assert list(contacts_of(stage.bob)) == ["alice"]
    bob.stop()


def test_a_peer_id_needs_no_code_where_everybody_may_send(stage: Stage) -> None:
    bob = stage.receive("--no-code", "--accept", "all", "--once")
    bob_id = stage.run("id", home=stage.bob).out.strip()
    source = stage.folder / "free.bin"
    digest = random_file(source, MIB)
    sent = stage.run("send", source, bob_id, as_json=True)
    assert sent.status == 0, sent
    assert last(sent.events, "peer")["verified"] == "id"
    status, events = end_of(bob)
    assert status == 0
    assert last(events, "peer")["verified"] == "id"
    assert file_hash(stage.inbox / "free.bin") == digest
    assert contacts_of(stage.alice) == contacts_of(stage.bob) == {}


def test_a_code_counts_also_where_nobody_needs_one(stage: Stage) -> None:
    bob = stage.receive("--accept", "all", "--once", "--code", WORDS)
    source = stage.folder / "free.bin"
    random_file(source, MIB)
    sent = stage.run("send", source, "bob", as_json=True, env={"P2PXFER_CODE": bob.wait_for("code")["code"]})
    status, events = end_of(bob)
    assert (sent.status, status) == (0, 0), sent
    assert [last(said, "peer")["verified"] for said in (sent.events, events)] == ["code", "code"]
    assert [contact[1] for home in (stage.alice, stage.bob) for contact in contacts_of(home).values()] == ["code"] * 2


@pytest.mark.parametrize(("answer", "status"), [("n\n", 4), ("\n", 4), ("", 4), ("y\n", 0)])
def test_the_receiver_is_asked(pair: Stage, answer: str, status: int) -> None:
    """Over a pipe as over a terminal; what is not a yes is a no."""
    pair.run("init", "--as", "alice")
    source = pair.folder / "asked.bin"
    digest = random_file(source, MIB)
    reader, writer = os.pipe()
    bob = pair.asking_receiver(reader, "--once", "--no-code")
    os.close(reader)
    os.write(writer, answer.encode())
    os.close(writer)
    sent = pair.run("send", source, "bob", as_json=True)
    assert sent.status == status, sent
    assert bob.wait(40).status == status
    bob.stop()
    asked = (pair.folder / "asking.log").read_text()
    assert "take asked.bin (1.0 MiB, " in asked
    assert "from alice? [y/N]" in asked
    (pair.folder / "asking.log").unlink()
    if status == 0:
        assert file_hash(pair.inbox / "asked.bin") == digest
    else:
        assert not list(pair.inbox.iterdir())
        error = last(sent.events, "error")
        assert error["code"] == "E_DENIED"
        assert "said no" in error["message"]
        assert not error["retry"]
        assert last(events_of(bob), "refused")["why"]


def test_init_and_id(stage: Stage) -> None:
    home = stage.folder / "new" / "home"
    made = stage.run("init", "--as", "Carol", home=home)
    assert made.status == 0
    shown = stage.run("id", home=home, server="").out.strip()
    assert parse_id(shown) == Home(home).identity().id
    for part in (shown, "carol", stage.address, str(home)):
        assert part in made.out
    assert Home(home).settings().name == "carol"
    assert home.stat().st_mode & 0o777 == 0o700
    again = stage.run("init", home=home, server="")
    assert again.status == 0
    assert stage.run("id", home=home, server="").out.strip() == shown
    assert Home(home).settings().server == stage.address
    check_failure(stage.run("init", "--as", "x y", home=home), 2, "a name consists of")
    new = stage.folder / "newer"
    for server, says in {
        "not an address": "not an address is not a server address; its form is HOST:PORT#PIN",
        "bob": "bob is not a server address: it has neither a port nor a pin; its form is HOST:PORT#PIN",
        "http://a.org:1": "it begins with http://",
    }.items():
        check_failure(stage.run("init", home=new, server=server), 2, says)
        check_failure(stage.run("init", home=new, server="", env={"P2PXFER_SERVER": server}), 2, says)
    assert not new.exists()
    assert Home(home).settings().name == "carol"


def test_the_environment_names_home_and_server(stage: Stage) -> None:
    """And what ``init`` stored stands behind both."""
    pair_up(stage)
    bob = stage.receive("--no-code")
    source = stage.folder / "by-environment.txt"
    source.write_text("environment\n")
    words: Words = ["send", source, "bob"]
    bare: Words = [stage.binary, *words]
    home, server = {"P2PXFER_HOME": str(stage.alice)}, {"P2PXFER_SERVER": stage.address}
    assert stage.run_bare(bare, env=home | server).status == 0
    assert stage.run_bare(bare, env=home).status == 0  # the stored server
    wrong = stage.run_bare(bare, env=home | {"P2PXFER_SERVER": "127.0.0.1:1"})
    check_failure(wrong, 3, "cannot be reached")
    right = stage.run_bare([stage.binary, "--server", stage.address, *words], env=home | {"P2PXFER_SERVER": "::bad"})
    assert right.status == 0, right
    assert names_in(stage.inbox) == [
        "by-environment (1).txt", "by-environment (2).txt", "by-environment.txt", "first.txt"
    ]  # fmt: skip
    assert bob.poll() is None
