"""`p2pxfer pair`: a code makes two contacts without a file, whichever side enters it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.pairplace import slots_at
from p2pxfer.core.ownnames import place_of
from p2pxfer.net.private.home import Home
from scripts.product import Program, client
from tests.e2e.acquainting import contacts_of
from tests.e2e.conftest import Stage, check_failure, wait_until
from tests.e2e.terminal import Terminal
from tests.scene import last

pytestmark = pytest.mark.deadline(240)
SHOWN = re.compile(r"one-time code for the other machine: ([0-9]+-[a-z]+-[a-z]+-[a-z]+)")
SAME = re.compile(r"the same words\? \[y/n\] ")
ASKED = re.compile("or type the code that the other machine shows: ")


def ids(stage: Stage) -> tuple[str, str]:
    return str(Home(stage.alice).identity().id), str(Home(stage.bob).identity().id)


def showing(stage: Stage, *words: str) -> tuple[Program, str]:
    bob = stage.program("bob", stage.bob, "pair", "--as", "bob", *words)
    return bob, str(bob.wait_for("code")["code"])


def next_code(program: Program) -> str:
    """The code that it shows next, whatever it says of the last one before."""
    return next(str(event["code"]) for event in program.events(30) if event["event"] == "code")


def wrong(code: str) -> str:
    number, first, *rest = code.split("-")
    return "-".join([number, "acorn" if first != "acorn" else "zebra", *rest])


@pytest.mark.parametrize("how", ["argument", "environment", "file"])
@pytest.mark.parametrize("path", ["auto", "relay", "direct"])
def test_a_code_makes_contacts_of_both(stage: Stage, how: str, path: str) -> None:
    bob, code = showing(stage, "--path", path)
    words, env = ["pair", "--as", "alice", "--path", path], {}
    if how == "argument":
        words.append(code.upper())
    elif how == "environment":
        env["P2PXFER_CODE"] = code
    else:
        (stage.folder / "code").write_text(f" {code}\n")
        words += ["--code-file", str(stage.folder / "code")]
    joined = stage.run(*words, env=env, as_json=True)
    assert joined.status == 0, joined
    alice_id, bob_id = ids(stage)
    made = last(joined.events, "contact")
    assert made == made | {"name": "bob", "id": bob_id, "verified": "code", "state": "added", "denied": []}
    assert bob.wait_for("contact")["name"] == "alice"
    bob.succeed(20)
    assert contacts_of(stage.alice) == {"bob": (bob_id, "code")}
    assert contacts_of(stage.bob) == {"alice": (alice_id, "code")}


def test_a_wrong_code_is_burned_and_the_next_one_is_shown(stage: Stage) -> None:
    bob, code = showing(stage)
    check_failure(
        stage.run("pair", wrong(code)), 5, "it is spent; give the next code, which the other machine shows now"
    )
    fresh = next_code(bob)
    assert parse_code(fresh).slot == parse_code(code).slot + 1
    check_failure(stage.run("pair", code), 5, "code")
    assert contacts_of(stage.alice) == contacts_of(stage.bob) == {}
    # A number under which no code is open costs nothing.
    assert stage.run("pair", "--as", "alice", *fresh.upper().split("-")).status == 0
    bob.succeed(20)
    assert list(contacts_of(stage.bob)) == ["alice"]


def test_codes_that_nobody_shows(stage: Stage) -> None:
    stage.fails(3, "E_PEER_GONE", "nobody shows this code now", "pair", "123451-acorn-tulip-zebra")
    stage.fails(3, "E_PEER_GONE", "nobody shows this code now", "pair", "7-acorn-tulip-zebra")
    stage.fails(5, "E_CODE", "not in the word list", "pair", "123451-acorn-tulip-qwerty")
    stage.fails(5, "E_CODE", "a number and three words", "pair", "acorn")
    stage.fails(3, "E_PEER_GONE", "nobody paired within 1 seconds", "pair", "--timeout", "1")


def test_a_place_that_belongs_to_somebody_else(stage: Stage) -> None:
    """Bob's first place is taken; a code of the next one works."""
    bob_key = Home(stage.bob).identity().id.digest
    taken = stage.program("bob", stage.folder / "other-home", "receive", "--as", f"pair-{place_of(bob_key, 0)}")
    taken.wait_for("registered")
    bob, code = showing(stage)
    assert parse_code(code).slot in slots_at(place_of(bob_key, 1))
    assert stage.run("pair", "--as", "alice", code).status == 0
    bob.succeed(20)


def test_names_that_are_taken_and_names_that_are_chosen(pair: Stage) -> None:
    """Alice knows a bob with this key already; a third machine calls itself bob as well."""
    bob, code = showing(pair, "--call", "ally")
    joined = pair.run("pair", "--as", "carol", code, home=pair.folder / "carol-home")
    assert joined.status == 0, joined
    bob.succeed(20)
    assert set(contacts_of(pair.bob)) == {"alice", "ally"}
    carol, code = showing(pair)
    assert pair.run("pair", "--call", "robert", code).status == 0
    carol.succeed(20)
    assert set(contacts_of(pair.alice)) == {"bob"}
    check_failure(pair.run("pair", "--call", "../x", code), 2, "a name")
    check_failure(pair.run("pair", "--call", "Bob", code), 2, "a contact is called bob already")


def test_files_go_to_the_receiver_that_ran_before(pair: Stage) -> None:
    """Not to the newer connection of the same key, which only pairs."""
    receiver = pair.receive("--no-code")
    bob, _ = showing(pair)
    pair.send_good()
    receiver.stop()
    path = pair.folder / "letter"
    path.write_text("x")
    check_failure(pair.run("send", path, "bob"), 3, "bob is not here now")
    assert bob.poll() is None


def test_either_of_two_terminals_may_enter_the_other_ones_code(stage: Stage, terminals: list[Terminal]) -> None:
    bob, code = showing(stage)
    alice = Terminal(stage, "pair", "--as", "alice", "--qr")
    terminals.append(alice)
    alice.wait_for(ASKED, 1)
    own = SHOWN.findall(alice.text)
    assert len(own) == 1
    assert "▀" in alice.text
    alice.type(own[0])
    alice.wait_for(re.compile("that is the code of this machine"))
    alice.wait_for(ASKED, 2)
    alice.type("one two")
    alice.wait_for(re.compile("a code is a number and three words"))
    alice.wait_for(ASKED, 3)
    alice.type(wrong(code))
    fresh = next_code(bob)
    alice.wait_for(ASKED, 4)
    alice.type(fresh)
    assert alice.status() == 0, alice.text
    bob.succeed(20)
    assert list(contacts_of(stage.alice)) == ["bob"]
    assert list(contacts_of(stage.bob)) == ["alice"]


@pytest.mark.parametrize("typed_here", [True, False])
def test_a_terminal_with_verify_takes_a_code_too_and_then_the_answer(
    stage: Stage, terminals: list[Terminal], typed_here: bool
) -> None:
    """Whichever machine the code is entered on: the question for one is over before that about the words."""
    alice = Terminal(stage, "pair", "--as", "alice", "--verify")
    terminals.append(alice)
    alice.wait_for(ASKED, 1)
    words = ["pair", "--as", "bob"] + ([] if typed_here else SHOWN.findall(alice.text))
    log = stage.folder / "bob.said"  # its question is no failure
    bob = Program(stage.place, "bob", client(stage.address, stage.bob, *words), log, commanded=True)
    stage.callback(bob.stop)
    if typed_here:
        alice.type(str(bob.wait_for("code")["code"]))
    alice.wait_for(SAME, 1)
    bob.wait_for("words")
    alice.type("y")
    wait_until(lambda: SAME.search(log.read_text()) is not None, 60)
    bob.tell("y")
    assert alice.status() == 0, alice.text
    bob.succeed(60)
    assert [verified for _, verified in contacts_of(stage.alice).values()] == ["words"]


def test_a_terminal_that_shows_a_code_ends_when_it_is_entered_elsewhere(
    stage: Stage, terminals: list[Terminal]
) -> None:
    alice = Terminal(stage, "pair", "--as", "alice")
    terminals.append(alice)
    alice.wait_for(ASKED, 1)
    (code,) = SHOWN.findall(alice.text)
    assert stage.run("pair", "--as", "bob", code, home=stage.bob).status == 0
    assert alice.status() == 0, alice.text
    assert "bob is a contact now; bob knows this machine as alice" in alice.text
    assert len(re.findall(r"^peer bob ", alice.text, re.M)) == 1
    assert "path lost" not in alice.text
    assert not re.search(ASKED.pattern + r"[^\s]", alice.text)
    assert list(contacts_of(stage.alice)) == ["bob"]


def test_a_contact_of_another_key_keeps_its_name(stage: Stage, tmp_path: Path) -> None:
    stage.make_contacts()
    bob, code = showing(stage)
    joined = stage.run("pair", "--as", "alice", code, home=stage.folder / "other")
    assert joined.status == 0
    bob.succeed(20)
    assert set(contacts_of(stage.bob)) == {"alice", "alice-2"}
