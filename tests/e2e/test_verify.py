"""`--verify`: two people read words to each other before anything is sent, stored, or made a contact."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pxfer.cli.deciding import DIFFER_HERE
from p2pxfer.cli.newcontact import today
from p2pxfer.net.private.home import Contact, Home
from scripts.product import Program, client
from tests.e2e.conftest import MIB, Stage, check_failure, names_in, staging_of, wait_until
from tests.scene import events_of, file_hash, last, random_file

pytestmark = pytest.mark.deadline(240)


class Person:
    """A command and whoever answers its questions."""

    def __init__(self, stage: Stage, role: str, home: Path, *words: str | Path) -> None:
        argv = client(stage.address, home, *words)
        self.log = stage.folder / f"{role}-{words[0]}.log"
        self.program = Program(stage.place, role, argv, self.log, commanded=True)
        self.heard: list[str] = []
        stage.callback(self.program.stop)

    def words(self) -> str:
        """The words that are shown next."""
        for event in self.program.events(60):
            self.heard.append(event["event"])
            if event["event"] == "words":
                return " ".join(event["words"])
        raise AssertionError(f"no words were shown{self.program.last_words()}")

    def answer(self, line: str, about: str = "") -> None:
        """Answer the question, which is there, ``about`` these words."""
        asked = f"{about}\ndoes the other one read the same words? [y/n]"
        wait_until(lambda: asked in self.log.read_text(), 60)
        self.program.tell(line)


def alice_sends(stage: Stage, *words: str) -> Person:
    return Person(stage, "alice", stage.alice, "send", stage.folder / "some.bin", "bob", *words)


def bob_receives(stage: Stage, *words: str) -> Person:
    bob = Person(stage, "bob", stage.bob, "receive", "--as", "bob", "--no-code", "--to", stage.inbox, *words)
    bob.program.wait_for("registered")
    return bob


@pytest.fixture
def digest(room: Stage) -> str:
    return random_file(room.folder / "some.bin", MIB)


def how(home: Path) -> list[tuple[str, str]]:
    return [(contact.verified, contact.added) for contact in Home(home).contacts()]


def long_ago(stage: Stage) -> None:
    """Both became contacts by a code, on another day."""
    for home in (stage.alice, stage.bob):
        (known,) = Home(home).contacts()
        Home(home).remove_contact(known.name)
        Home(home).add_contact(Contact(known.name, known.id, "code", "2026-01-02"))


def test_a_sender_compares_before_anything_is_offered(room: Stage, digest: str) -> None:
    long_ago(room)
    bob, alice = bob_receives(room, "--once"), alice_sends(room, "--verify")
    words = alice.words()
    assert len(words.split()) == 8
    assert bob.words() == words
    assert "offer" not in bob.heard
    assert names_in(room.inbox) == []
    alice.answer("y")
    for person in (alice, bob):
        person.program.succeed(60)
    assert file_hash(room.inbox / "some.bin") == digest
    assert how(room.alice) == [("words", today())]
    assert how(room.bob) == [("code", "2026-01-02")]  # nobody was asked there
    assert f"by words, {today()}" in room.run("contacts").out


@pytest.mark.parametrize("said", ["n", " No "])
def test_a_sender_that_hears_other_words_sends_nothing(room: Stage, digest: str, said: str) -> None:
    bob, alice = bob_receives(room), alice_sends(room, "--verify")
    assert alice.words() == bob.words()
    alice.answer(said)
    assert alice.program.wait(60).status == 5
    error = last(events_of(alice.program), "error")
    assert error["code"] == "E_PIN"
    assert "Nothing was sent. Remove the contact and pair again: p2pxfer contacts remove, then" in error["message"]
    heard = []
    for event in bob.program.events(60):
        if event["event"] == "path" and "words" in str(event.get("why")):
            break
        heard.append(event.get("message", ""))
    assert "differ" in event["why"]
    assert sum("alice's user says that the words differ" in text for text in heard) == 1
    assert names_in(room.inbox) == []
    assert not staging_of(room.inbox)
    assert [verified for verified, _ in how(room.alice)] == ["code"]


def test_with_once_a_receiver_ends_with_the_no_of_the_sender(room: Stage, digest: str) -> None:
    bob, alice = bob_receives(room, "--once"), alice_sends(room, "--verify")
    assert alice.words() == bob.words()
    alice.answer("n")
    assert alice.program.wait(60).status == 5
    assert bob.program.wait(60).status == 5
    events = events_of(bob.program)
    error = last(events, "error")
    assert (error["code"], error["retry"]) == ("E_PIN", False)
    assert "alice's user says that the words differ: nothing was taken" in error["message"]
    assert not [event for event in events if event["event"] == "note" and "differ" in event["message"]]


def test_a_receiver_compares_before_anything_is_stored(room: Stage, digest: str) -> None:
    bob, alice = bob_receives(room, "--once", "--verify"), alice_sends(room)
    words = bob.words()
    assert alice.words() == words
    assert names_in(room.inbox) == []
    bob.answer("yes")
    for person in (alice, bob):
        person.program.succeed(60)
    assert file_hash(room.inbox / "some.bin") == digest
    assert how(room.bob) == [("words", today())]


@pytest.mark.parametrize("once", [True, False])
def test_a_receiver_that_hears_other_words_takes_nothing_and_ends(room: Stage, digest: str, once: bool) -> None:
    bob, alice = bob_receives(room, "--verify", *(["--once"] if once else [])), alice_sends(room)
    assert alice.words() == bob.words()
    bob.answer("n")
    assert bob.program.wait(60).status == 5
    assert alice.program.wait(60).status == 5
    events = events_of(bob.program)
    error = last(events, "error")
    assert "Nothing of this was taken. Remove the contact and pair again" in error["message"]
    assert not [event for event in events if event["event"] == "refused"]
    heard = last(events_of(alice.program), "error")
    assert heard["code"] == "E_PIN"
    assert heard["message"] == f"the receiver refused: {DIFFER_HERE}"
    assert names_in(room.inbox) == []
    assert not staging_of(room.inbox)
    assert [verified for verified, _ in how(room.bob)] == ["code"]


def test_where_both_compare_they_compare_the_same(room: Stage, digest: str) -> None:
    bob, alice = bob_receives(room, "--once", "--verify"), alice_sends(room, "--verify")
    words = alice.words()
    assert bob.words() == words
    alice.answer("y")
    assert bob.words() == words
    bob.answer("y")
    for person in (alice, bob):
        person.program.succeed(60)
    assert file_hash(room.inbox / "some.bin") == digest
    assert how(room.alice) == how(room.bob) == [("words", today())]


def test_a_receiver_that_runs_on_shows_the_words_of_every_run_of_the_sender(room: Stage, digest: str) -> None:
    bob, first = bob_receives(room), alice_sends(room, "--verify")
    words = first.words()
    assert bob.words() == words
    first.program.stop()
    second = alice_sends(room, "--verify")
    other = second.words()
    assert other != words
    assert bob.words() == other
    second.answer("y")
    second.program.succeed(60)
    assert file_hash(room.inbox / "some.bin") == digest


def test_a_receiver_is_asked_about_the_words_of_the_run_that_it_hears(room: Stage, digest: str) -> None:
    """Also where it was being asked about those of an earlier one."""
    bob, first = bob_receives(room, "--once", "--verify"), alice_sends(room, "--verify")
    words = first.words()
    assert bob.words() == words
    first.answer("y")
    assert bob.words() == words  # in the question
    first.program.stop()
    second = alice_sends(room, "--verify")
    other = second.words()
    second.answer("y")
    while bob.words() != other:
        pass  # whoever is not asked any more may have seen words of the first run's last moment
    bob.answer("y", about=other)
    for person in (second, bob):
        person.program.succeed(60)
    assert file_hash(room.inbox / "some.bin") == digest
    assert how(room.alice) == how(room.bob) == [("words", today())]


@pytest.mark.parametrize("same", [True, False])
def test_a_code_makes_no_contact_before_the_words(tmp_path: Path, same: bool) -> None:
    with Stage(tmp_path) as stage:
        stage.start_server()
        compare_after_a_code(stage, same)


def compare_after_a_code(stage: Stage, same: bool) -> None:
    """Bob shows a code, alice sends with it; both are asked for the words."""
    random_file(stage.folder / "some.bin", MIB)
    bob = Person(stage, "bob", stage.bob, "receive", "--as", "bob", "--to", stage.inbox, "--once", "--verify")
    code = stage.folder / "code"
    code.write_text(str(bob.program.wait_for("code")["code"]))
    alice = alice_sends(stage, "--verify", "--code-file", str(code))
    words = alice.words()
    assert bob.words() == words
    assert how(stage.alice) == how(stage.bob) == []
    alice.answer("y" if same else "n")
    if same:
        assert bob.words() == words
        assert how(stage.alice) == [("words", today())]
        assert how(stage.bob) == []
        bob.answer("y")
        bob.program.succeed(60)
    assert alice.program.wait(60).status == (0 if same else 5)
    assert how(stage.alice) == how(stage.bob) == ([("words", today())] if same else [])


VERIFY = "--verify"


def pairing(stage: Stage, alice_too: str = VERIFY, bob_too: str = VERIFY) -> tuple[Person, Person]:
    """Bob shows the code, alice enters it; each with or without `--verify`."""
    bob = Person(stage, "bob", stage.bob, "pair", "--as", "bob", *bob_too.split())
    code = str(bob.program.wait_for("code")["code"])
    return Person(stage, "alice", stage.alice, "pair", "--as", "alice", *alice_too.split(), code), bob


SIDES = pytest.mark.parametrize(
    ("alice_too", "bob_too"), [(VERIFY, VERIFY), (VERIFY, ""), ("", VERIFY)], ids=["both", "alice", "bob"]
)


@SIDES
def test_two_that_pair_compare_before_they_are_contacts(tmp_path: Path, alice_too: str, bob_too: str) -> None:
    """Where one of them asks for it both do, and the first yes alone makes no contact."""
    with Stage(tmp_path) as stage:
        stage.start_server()
        alice, bob = pairing(stage, alice_too, bob_too)
        words = alice.words()
        assert bob.words() == words
        alice.answer("y")
        bob.answer("maybe")
        wait_until(lambda: "please answer y or n\n" in bob.log.read_text(), 60)
        bob.program.tell("n")
        assert bob.program.wait(60).status == 5
        assert alice.program.wait(60).status == 5
        assert how(stage.alice) == how(stage.bob) == []

        alice, bob = pairing(stage, alice_too, bob_too)
        words = bob.words()
        assert alice.words() == words
        bob.answer("y")
        assert how(stage.alice) == how(stage.bob) == []
        alice.answer("y")
        for person in (alice, bob):
            person.program.succeed(60)
        assert how(stage.alice) == how(stage.bob) == [("words", today())]


@SIDES
@pytest.mark.parametrize("denies", ["alice", "bob"])
def test_a_no_of_either_ends_the_pairing_of_both(tmp_path: Path, alice_too: str, bob_too: str, denies: str) -> None:
    with Stage(tmp_path) as stage:
        stage.start_server()
        alice, bob = pairing(stage, alice_too, bob_too)
        assert alice.words() == bob.words()
        {"alice": alice, "bob": bob}[denies].answer("n")
        for person in (alice, bob):
            assert person.program.wait(60).status == 5
            error = last(events_of(person.program), "error")
            assert error["code"] == "E_PIN"
            assert error["message"].count("Nothing was stored here") == 1
        assert how(stage.alice) == how(stage.bob) == []


@pytest.mark.parametrize("stops", ["alice", "bob"])
def test_who_is_left_alone_with_the_words_hears_why(tmp_path: Path, stops: str) -> None:
    """Alice entered the code, Bob shows it."""
    with Stage(tmp_path) as stage:
        stage.start_server()
        alice, bob = pairing(stage)
        assert alice.words() == bob.words()
        stopped, other = {"alice": (alice, bob), "bob": (bob, alice)}[stops]
        other.answer("y")
        stopped.program.stop()
        assert other.program.wait(60).status == 4
        assert "the comparison was stopped there" in last(events_of(other.program), "error")["message"]
        assert how(stage.alice) == how(stage.bob) == []


@pytest.mark.parametrize("shows", [True, False], ids=["shown", "entered"])
def test_who_pairs_with_nobody_there_makes_no_contact_that_is_to_be_compared(tmp_path: Path, shows: bool) -> None:
    nobody = ["sh", "-c", 'exec "$@" </dev/null', "sh"]
    with Stage(tmp_path) as stage:
        stage.start_server()
        if shows:
            argv = client(stage.address, stage.bob, "pair", "--as", "bob")
            bob = Program(stage.place, "bob", [*nobody, *argv], stage.folder / "bob.log")
            stage.callback(bob.stop)
            code = str(bob.wait_for("code")["code"])
            alice = Person(stage, "alice", stage.alice, "pair", "--as", "alice", VERIFY, code).program
        else:
            bob = Person(stage, "bob", stage.bob, "pair", "--as", "bob", VERIFY).program
            code = str(bob.wait_for("code")["code"])
            argv = client(stage.address, stage.alice, "pair", "--as", "alice", code)
            alice = Program(stage.place, "alice", [*nobody, *argv], stage.folder / "alice.log")
            stage.callback(alice.stop)
        for program in (alice, bob):
            assert program.wait(60).status == 4
            assert "nobody" in last(events_of(program), "error")["message"]
        assert how(stage.alice) == how(stage.bob) == []


def test_who_cannot_compare(room: Stage, digest: str) -> None:
    needs = "--verify needs somebody who compares words"
    sending = ["send", "--verify", str(room.folder / "some.bin"), "bob"]
    for words in (sending, ["receive", "--verify"], ["pair", "--verify"]):
        check_failure(room.run(*words, prefix=["sh", "-c", 'exec "$@" </dev/null', "sh"]), 2, needs)
    check_failure(room.run(*sending, "--queue", typed="y"), 2, "with --queue nobody is there")
    check_failure(room.run("send", "--verify", "-", "bob", typed="x"), 2, "which is what is sent here")
