"""What users and strangers do wrong: one clear line, the documented status, nothing lost, and everything goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from p2pxfer.core.ids import PeerId
from p2pxfer.core.ownnames import place_of
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.private.identity import Identity
from scripts.product import BIN, Program
from tests.e2e.conftest import (
    MIB,
    WITHOUT_OVERRIDE,
    Stage,
    Words,
    check_failed_event,
    check_failure,
    end_of,
    mounted,
    names_in,
    needs_mounts,
    staging_of,
    until_bytes,
    wait_until,
)
from tests.net.tlskit import Authority, dns
from tests.scene import WORDS, events_of, file_hash, last, random_file

OTHER = str(PeerId(bytes(range(32))))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small file to send."""
    path = tmp_path / "source.bin"
    random_file(path, MIB)
    return path


# -- the command line ----------------------------------------------------------------------------------------------


def test_commands_that_make_no_sense(tmp_path: Path, source: Path) -> None:
    """Found before any network use: there is no server here."""
    with Stage(tmp_path) as stage:
        stage.address = f"127.0.0.1:1#{OTHER}"
        there, missing, escape = tmp_path, tmp_path / "missing", tmp_path / "a\x1b[31mb"
        wrong: dict[str, Words] = {
            "Missing argument": ["send"],
            "at least one PATH": ["send", "bob"],
            "a device": ["send", "/dev/zero", "bob"],
            "is named twice": ["send", source, source, "bob"],
            "typing error": ["send", source, OTHER[:-1] + ("a" if OTHER[-1] != "a" else "b")],
            r"a\x1b[31mb' does not exist": ["send", escape, "bob"],
            "the destination": ["receive", "--to", missing],
            "is not a directory": ["receive", "--to", source],
            "contradict each other": ["receive", "--to", there, "--code", WORDS, "--no-code"],
            "Invalid value": ["receive", "--to", there, "--timeout", "nan"],
            "'x' is not a number of seconds": ["receive", "--to", there, "--timeout", "x"],
            "'NUMBER': 'x' is not a whole number from -1000 to 1000": ["jobs", "priority", "ab", "x"],
            "'NUMBER': '1001' is not a whole number from -1000 to 1000": ["jobs", "priority", "ab", "1001"],
            "'WHAT...': 'fils' is not one of 'files', 'chat', 'pipe', 'services'": ["contacts", "deny", "caz", "fils"],
            "No such command": ["fetch"],
            "No such option": ["receive", "--nothing"],
        }
        for says, words in wrong.items():
            stage.fails_plainly(2, says, *words)
        stage.fails(2, "E_CONFIG", "no rendezvous server is set", "send", source, "bob", server="")
        stage.fails(2, "E_USAGE", "does not exist", "send", missing, "bob")
        stage.fails(2, "E_NAME", "a name consists of", "send", source, "b\x1bb")
        stage.fails_plainly(2, "no rendezvous server is set", "receive", "--to", there, server="")
        stage.fails_plainly(2, "not a server address", "send", source, "bob", server="a b:1")
        stage.fails_plainly(5, "code", "receive", "--to", there, "--code", "no-such-words")
        stage.fails_plainly(2, "home", "id", home=source)
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        stage.fails_plainly(2, "a FIFO", "send", fifo, "bob")


def test_who_names_this_very_machine(tmp_path: Path, source: Path) -> None:
    """Found before any network use: there is no server here."""
    with Stage(tmp_path) as stage:
        stage.address = f"127.0.0.1:1#{OTHER}"
        own = stage.run("id").out.strip()
        assert stage.run("init", "--as", "alice").status == 0
        for peer in ("alice", "Alice", own):
            for words in (
                ["send", source, peer],
                ["send", "--queue", source, peer],
                ["pipe", peer],
                ["chat", peer],
                ["connect", f"{peer}:web", "--listen", "0"],
                ["expose", "127.0.0.1:80", "--to", peer],
                ["netcheck", peer],
            ):
                says = f"{peer} is this machine itself; to try both sides on one machine give each a private directory"
                stage.fails_plainly(2, says, *words)
        code = f"{10 * place_of(Home(stage.alice).identity().id.digest, 0) + 1}-{WORDS}"
        stage.fails_plainly(2, "that is the code of this machine; it is to be entered on the other one", "pair", code)


def test_a_name_that_only_the_server_knows_as_this_machines(stage: Stage, source: Path) -> None:
    """As where both sides have the user's name, which each may have."""
    stage.receive("--code", WORDS)
    env = {"P2PXFER_CODE": f"1-{WORDS}"}
    outcome = stage.run("send", source, "bob", home=stage.bob, env=env)
    check_failure(outcome, 2, "bob is this machine itself; to try both sides")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        stage.address = f"127.0.0.1:1#{OTHER}"
        Home(stage.alice).add_contact(Contact("bob", PeerId(bytes(32)), "id", "2026-01-01"))
        folder = tmp_path / "here"
        folder.mkdir()
        for name in ("Report.pdf", "my file.txt", "notes"):
            (folder / name).write_text(name)
        for words, says in {
            ("report.pdf", "bob"): "'report.pdf' does not exist; did you mean 'Report.pdf'?",
            ("my", "file.txt", "bob"): "'my' does not exist; 'my file.txt' does: put a name with spaces in quotes",
            ("nofile", "bob"): f"'nofile' does not exist; it was looked for in '{folder}'",
            ("*.txt.gz", "bob"): "'*.txt.gz' does not exist; nothing there matches it",
            ("gone/x", "bob"): "'gone/x' does not exist; nor does the directory 'gone'",
            ("bob", "notes"): "PEER comes last: p2pxfer send PATH... bob",
        }.items():
            check_failure(stage.run("send", *words, cwd=folder), 2, says)


def test_names_that_are_not_sent(tmp_path: Path) -> None:
    """They cannot be created everywhere, and on a terminal they would do harm: refused, escaped, before any network."""
    with Stage(tmp_path) as stage:
        stage.address = f"127.0.0.1:1#{OTHER}"
        for number, (name, shown) in enumerate(
            {
                b"new\nline": r"new\x0aline",
                b"esc\x1b]0;title\x07": r"esc\x1b]0;title\x07",
                "right\u202eto-left".encode(): r"right\u202eto-left",
                b"not utf-8 \xff": r"not utf-8 \udcff",
                b"back\\slash": r"back\slash",
                b"con.txt": "con.txt",
                b".p2pxfer-00": ".p2pxfer-00",
            }.items()
        ):
            folder = os.fsencode(tmp_path) + b"/%d" % number
            os.mkdir(folder)
            with open(folder + b"/" + name, "w") as file:
                file.write("x")
            if name.startswith(b".p2pxfer"):
                # The program's own; inside a directory it is left out, by itself it is refused.
                outcome = stage.run("send", os.fsdecode(folder + b"/" + name), "bob")
            else:
                outcome = stage.run("send", os.fsdecode(folder), "bob", env={"P2PXFER_CODE": f"1-{WORDS}"})
            check_failure(outcome, 2, shown)


def test_a_file_that_may_not_be_read(pair: Stage, source: Path) -> None:
    source.chmod(0)
    pair.receive("--no-code")
    line = pair.fails(8, "E_IO", "Permission denied", "send", source, "bob", prefix=WITHOUT_OVERRIDE)
    assert "make it readable or leave it out" in line
    assert not list(pair.inbox.iterdir())
    pair.send_good()


def test_f13_of_a_directory_all_arrives_but_what_may_not_be_read(pair: Stage, source: Path) -> None:
    folder = pair.folder / "folder"
    (folder / "shut").mkdir(parents=True)
    (folder / "good").write_text("good")
    (folder / "shut" / "inner").write_text("inner")
    shutil.copy(source, folder / "locked")
    (folder / "locked").chmod(0)
    (folder / "shut").chmod(0)
    pair.receive("--no-code")
    sent = pair.run("send", folder, source, "bob", as_json=True, prefix=WITHOUT_OVERRIDE)
    assert sent.status == 8, sent
    done = last(sent.events, "done")
    assert (done["files"], done["left_out"]) == (2, ["folder/locked", "folder/shut"])
    said = last(sent.events, "error")["message"]
    assert "2 files changed or could not be read" in said
    assert "everything else has arrived" in said
    assert sorted(str(path.relative_to(pair.inbox)) for path in pair.inbox.rglob("*")) == [
        "folder", "folder/good", source.name,
    ]  # fmt: skip
    shutil.rmtree(pair.inbox / "folder")
    line = pair.fails_plainly(8, "Permission denied", "send", folder / "locked", "bob", prefix=WITHOUT_OVERRIDE)
    assert "locked" in line


# -- the server ----------------------------------------------------------------------------------------------------


def test_the_server_is_not_there(tmp_path: Path, source: Path) -> None:
    with Stage(tmp_path) as stage:
        stage.make_contacts()
        stage.address = f"127.0.0.1:{stage.ports[0]}#{OTHER}"
        started = time.monotonic()
        stage.fails(3, "E_PEER_GONE", f"127.0.0.1:{stage.ports[0]} cannot be reached", "send", source, "bob")
        stage.fails_plainly(3, "cannot be reached", "receive", "--to", stage.inbox)
        assert time.monotonic() - started < 25
        server = stage.start_server()
        server.stop()
        stage.fails_plainly(3, "cannot be reached", "send", source, "bob")
        stage.start_server()
        stage.good_transfer()


def test_a_server_with_another_key(pair: Stage, source: Path) -> None:
    pinned = pair.address.split("#")[0] + "#" + OTHER
    line = pair.fails(5, "E_TLS", f"{OTHER} is pinned", "send", source, "bob", server=pinned)
    assert pair.address.split("#")[1] in line
    pair.fails_plainly(5, f"{OTHER} is pinned", "receive", "--to", pair.inbox, server=pinned)
    pair.good_transfer()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority that nobody trusts but by ``SSL_CERT_FILE``."""
    return Authority(tmp_path)


def save(identity: Identity, path: Path) -> Path:
    """Key and certificate in one PEM file."""
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + identity.certificate.public_bytes(Encoding.PEM))
    path.chmod(0o600)
    return path


def test_a_server_with_a_certificate(tmp_path: Path, authority: Authority, source: Path) -> None:
    """Its host name and its authority count; a client that cannot check them says what is wrong."""
    trusting = {"SSL_CERT_FILE": str(authority.roots)}
    with Stage(tmp_path) as stage:
        stage.make_contacts()
        stage.start_server("--certificate", save(authority.issue(dns("localhost")), tmp_path / "server.pem"))
        assert stage.address == f"localhost:{stage.ports[0]}"
        words: Words = ["send", source, "bob"]
        stage.fails(5, "E_TLS", "authority that this machine does not trust", *words)
        stage.fails_plainly(5, "does not trust", "receive", "--to", stage.inbox)
        by_address = f"127.0.0.1:{stage.ports[0]}"
        stage.fails_plainly(5, "for another host", *words, env=trusting, server=by_address)
        bob = stage.receive("--no-code", env=trusting)
        assert stage.run("send", source, "bob", env=trusting).status == 0
        bob.stop()
    stage.check_logs()


def test_a_server_with_the_certificate_of_another_host(tmp_path: Path, authority: Authority, source: Path) -> None:
    trusting = {"SSL_CERT_FILE": str(authority.roots)}
    with Stage(tmp_path) as stage:
        stage.make_contacts()
        stage.start_server("--certificate", save(authority.issue(dns("other.example")), tmp_path / "server.pem"))
        stage.address = f"localhost:{stage.ports[0]}"
        stage.fails(5, "E_TLS", "for another host", "send", source, "bob", env=trusting)
        stage.fails_plainly(5, "for another host", "receive", "--to", stage.inbox, env=trusting)
    stage.check_logs()


def test_a_certificate_without_a_host_name(tmp_path: Path, authority: Authority, source: Path) -> None:
    """The server does not start with one, and a client does not take it from another server."""
    nameless = save(authority.issue(san=False, subject="localhost"), tmp_path / "nameless.pem")
    with Stage(tmp_path) as stage:
        stage.make_contacts()
        words: Words = [
            stage.binary.with_name("twist"),
            "p2pxfer-rendezvous",
            "--state",
            tmp_path / "s",
            "--certificate",
        ]
        refused = stage.run_bare([*words, nameless], cwd=tmp_path)
        assert refused.status == 2
        assert "carries no host name" in refused.err.splitlines()[-1]
        with tls_server(nameless) as port:
            stage.fails(
                5, "E_TLS", "without a usable host name", "send", source, "bob",
                server=f"localhost:{port}", env={"SSL_CERT_FILE": str(authority.roots)},
            )  # fmt: skip


@contextlib.contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """A TLS 1.3 server that is not of this project; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["p2pxfer/1"])
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                with contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as secured:
                    secured.settimeout(5)
                    secured.recv(1000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_a_name_that_belongs_to_somebody_else(pair: Stage) -> None:
    bob = pair.receive("--no-code")
    stranger = pair.folder / "stranger"
    words: Words = ["receive", "--as", "bob", "--to", pair.inbox]
    pair.fails(4, "E_NAME", "belongs to another key", *words, home=stranger)
    bob.stop()
    pair.fails_plainly(4, "the name bob belongs to another key on this server", *words, home=stranger)
    pair.good_transfer()


def test_the_peer_is_not_there(pair: Stage, source: Path) -> None:
    pair.fails(3, "E_PEER_GONE", "not here", "send", source, "bob")
    pair.fails_plainly(3, "not here", "send", source, "nobody", env={"P2PXFER_CODE": f"1-{WORDS}"})
    pair.good_transfer()


# -- who the peer is -----------------------------------------------------------------------------------------------


def test_a_wrong_code_burns_the_right_one(stage: Stage, source: Path) -> None:
    bob = stage.receive()
    code = bob.wait_for("code")["code"]
    slot, _, words = code.partition("-")
    wrong = f"{slot}-{WORDS}" if words != WORDS else f"{slot}-cable-bacon-apple"
    tried = stage.run("send", source, "bob", env={"P2PXFER_CODE": wrong}, as_json=True)
    check_failed_event(tried, 5, "E_CODE", "code")
    burned = stage.run("send", source, "bob", env={"P2PXFER_CODE": code})
    check_failure(burned, 5, "code")
    assert not Home(stage.alice).contacts()
    assert not Home(stage.bob).contacts()
    assert not list(stage.inbox.iterdir())
    new = next_code(bob, code)
    assert stage.run("send", source, "bob", env={"P2PXFER_CODE": new}).status == 0
    assert file_hash(stage.inbox / source.name) == file_hash(source)
    bob.stop()
    errors = [event for event in events_of(bob) if event["event"] == "error"]
    assert {error["code"] for error in errors} <= {"E_CODE", "E_INTERRUPTED"}


def next_code(bob: Program, old: str) -> str:
    """The code that bob shows after the old one was used up."""
    for event in bob.events(40):
        if event["event"] == "code" and event["code"] != old:
            return str(event["code"])
    raise AssertionError("no new code")


@pytest.mark.deadline(90)
def test_a_code_of_the_command_line_is_good_for_one_try(stage: Stage, source: Path) -> None:
    bob = stage.receive("--code", WORDS)
    tried = stage.run("send", source, "bob", env={"P2PXFER_CODE": "1-cable-bacon-apple"})
    check_failure(tried, 5, "code")
    # Without an open code the receiver answers no stranger at all; so it is the sender's patience that ends.
    started = time.monotonic()
    again = stage.run("send", source, "bob", "--timeout", "3", env={"P2PXFER_CODE": f"1-{WORDS}"})
    check_failure(again, 3, "no connection to bob came about")
    assert time.monotonic() - started < 25
    assert bob.poll() is None
    assert not Home(stage.bob).contacts()
    assert not list(stage.inbox.iterdir())


def test_a_contact_that_has_another_key(pair: Stage, source: Path) -> None:
    old = str(Home(pair.bob).identity().id)
    shutil.rmtree(pair.bob)
    new = str(Home(pair.bob).identity().id)
    bob = pair.receive("--code", WORDS)
    before = Home(pair.alice).contacts()
    for env in ({}, {"P2PXFER_CODE": f"1-{WORDS}"}):
        line = pair.fails_plainly(5, "nothing was sent", "send", source, "bob", env=env)
        assert old in line
        assert new in line
    check_failed_event(pair.run("send", source, "bob", as_json=True), 5, "E_PIN", "nothing was sent")
    assert Home(pair.alice).contacts() == before
    assert not list(pair.inbox.iterdir())
    # The way out that the message names.
    assert pair.run("contacts", "remove", "bob").status == 0
    assert pair.run("send", source, "bob", env={"P2PXFER_CODE": f"1-{WORDS}"}).status == 0
    assert str(Home(pair.alice).contacts()[0].id) == new
    bob.stop()


# -- disks ---------------------------------------------------------------------------------------------------------


@needs_mounts
@pytest.mark.deadline(90)
def test_the_disk_is_full_in_the_middle(pair: Stage) -> None:
    """Both say so, what arrived is kept, and with room again the same commands go on."""
    big = pair.folder / "big.bin"
    digest = random_file(big, 256 * MIB)
    with mounted(pair.inbox, "size=320m"):
        bob = pair.receive("--once", "--no-code")
        alice = pair.send(big, "--limit", "60M")  # else it may be through before the disk is full
        until_bytes(bob, 16 * MIB)
        filler = pair.inbox / "filler"
        fill(filler)
        (status, received), (other, sent) = end_of(bob), end_of(alice)
        assert (status, other) == (8, 4), (received, sent)
        error = last(received, "error")
        assert error["code"] == "E_SPACE"
        assert error["retry"]
        assert "free some space" in last(received, "error")["message"]
        assert "refused" in last(sent, "error")["message"]
        assert len(staging_of(pair.inbox)) == 1
        assert names_in(pair.inbox) == ["filler"]
        check_failure(pair.run("send", big, "bob"), 3, "not here")
        filler.unlink()
        again = pair.receive("--once", "--no-code")
        alice = pair.send(big)
        status, received = end_of(again)
        assert status == 0, received
        alice.succeed(40)
        assert last(received, "resumed")["have_bytes"] >= 8 * MIB
        assert file_hash(pair.inbox / "big.bin") == digest
        assert names_in(pair.inbox) == ["big.bin"]
        assert not staging_of(pair.inbox)


def fill(path: Path) -> None:
    """Leave no room on the file system."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(MIB))


@needs_mounts
def test_the_disk_is_too_small_from_the_start(pair: Stage) -> None:
    big = pair.folder / "big.bin"
    random_file(big, 16 * MIB)
    with mounted(pair.inbox, "size=8m"):
        bob = pair.receive("--no-code")
        pair.fails(4, "E_DENIED", "the receiver refused", "send", big, "bob")
        assert not list(pair.inbox.iterdir())
        pair.send_good()
        assert bob.poll() is None


@needs_mounts
def test_a_destination_that_is_read_only(pair: Stage) -> None:
    with mounted(pair.inbox, "ro"):
        line = pair.fails(8, "E_IO", "cannot be written", "receive", "--to", pair.inbox, home=pair.bob)
        assert "--to" in line
    pair.good_transfer()


def test_a_destination_without_permission(pair: Stage) -> None:
    pair.inbox.chmod(0o500)
    words: Words = ["receive", "--to", pair.inbox]
    pair.fails(8, "E_IO", "cannot be written", *words, home=pair.bob, prefix=WITHOUT_OVERRIDE)
    pair.inbox.chmod(0o700)
    pair.good_transfer()


def test_the_destination_disappears(pair: Stage, source: Path) -> None:
    bob = pair.receive("--no-code")
    pair.inbox.rmdir()
    pair.fails(4, "E_DENIED", "the receiver refused", "send", source, "bob")
    assert not pair.inbox.exists()
    pair.inbox.mkdir()
    pair.send_good()
    assert bob.poll() is None


def test_a_receiver_that_may_not_go_on_names_no_place_of_its_own_to_the_sender(pair: Stage) -> None:
    """Another process of bob's has the transfer in hand: his user learns where, and alice's only that."""
    big = pair.folder / "big.bin"
    random_file(big, 4 * MIB)
    bob = pair.receive("--no-code")
    alice = pair.send(big, "--limit", "1M")
    until_bytes(alice, MIB)
    for program in (alice, bob):
        os.kill(program.pid, signal.SIGKILL)
        program.wait(20)
    (kept,) = staging_of(pair.inbox)
    bob = pair.receive("--no-code")
    held = os.open(kept, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = pair.fails_plainly(4, "another process there is at work on the same", "send", big, "bob")
    finally:
        os.close(held)
    assert str(pair.folder) not in line
    said = next(event for event in bob.events(20) if event["event"] == "error")
    assert (said["code"], str(kept) in said["message"]) == ("E_CONFIG", True)
    pair.send(big).succeed(40)


# -- interruptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "signum"), [("sender", signal.SIGINT), ("receiver", signal.SIGINT), ("receiver", signal.SIGTERM)]
)
def test_an_interruption_keeps_what_arrived(pair: Stage, who: str, signum: signal.Signals) -> None:
    big = pair.folder / "big.bin"
    digest = random_file(big, 32 * MIB)
    bob = pair.receive("--once", "--no-code")
    alice = pair.send(big, "--limit", "16M")  # else it may be through before the signal comes
    until_bytes(bob, 8 * MIB)
    victim = alice if who == "sender" else bob
    os.kill(victim.pid, signum)
    status, events = end_of(victim, 40)
    assert status == 130, events
    error = last(events, "error")
    assert error["code"] == "E_INTERRUPTED"
    assert "kept" in error["message"]
    assert names_in(pair.inbox) == []
    assert len(staging_of(pair.inbox)) == 1
    if who == "sender":
        alice = pair.send(big)
    else:
        bob = pair.receive("--once", "--no-code")
    (status, received), (other, sent) = end_of(bob), end_of(alice)
    assert (status, other) == (0, 0), (received, sent)
    assert last(sent if who == "sender" else received, "resumed")["have_bytes"] >= 8 * MIB
    assert file_hash(pair.inbox / "big.bin") == digest
    assert [path.name for path in pair.inbox.iterdir()] == ["big.bin"]


def test_a_receiver_says_what_the_end_of_its_sender_means(pair: Stage) -> None:
    """One that was killed says nothing of itself."""
    big = pair.folder / "big.bin"
    digest = random_file(big, 16 * MIB)
    bob = pair.receive("--once", "--no-code")
    alice = pair.send(big, "--limit", "4M")
    until_bytes(bob, 4 * MIB)
    os.kill(alice.pid, signal.SIGKILL)
    said = bob.wait_for("note")["message"]
    while "alice is gone" not in said:
        said = bob.wait_for("note")["message"]
    assert "of 16.0 MiB are kept" in said
    pair.send(big)
    bob.succeed(60)
    assert file_hash(pair.inbox / "big.bin") == digest


@pytest.mark.parametrize("words", [["receive", "--no-code"], ["send", "--wait"]], ids=["receive", "send"])
def test_an_interruption_while_nobody_is_there(pair: Stage, source: Path, words: list[str]) -> None:
    argv: list[str | Path] = (
        ["receive", "--to", pair.inbox] if words[0] == "receive" else ["send", source, "bob", "--wait"]
    )
    waiting = pair.program("waiting", pair.alice, *argv)
    waiting.wait_for("registered")
    if words[0] == "send":
        waiting.wait_for("note")  # for whom it waits
    os.kill(waiting.pid, signal.SIGINT)
    status, events = end_of(waiting, 40)
    assert status == 130
    error = last(events, "error")
    assert error["code"] == "E_INTERRUPTED"
    if words[0] == "receive":
        assert error["message"] == "interrupted; no transfers received"


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_nobody_reads_the_output_any_more(pair: Stage, who: str) -> None:
    """It ends as if it had been interrupted, without a word, and the transfer can go on."""
    big = pair.folder / "big.bin"
    digest = random_file(big, 16 * MIB)
    reader, writer = os.pipe()
    bob_words = pair.command_line(pair.bob, "receive", "--as", "bob", "--to", pair.inbox, "--once", "--no-code")
    # Slowly: it is under way when nobody reads any more.
    alice_words = pair.command_line(pair.alice, "send", big, "bob", "--wait", "--limit", "8M")
    victim_words, other_words = (alice_words, bob_words) if who == "sender" else (bob_words, alice_words)
    victim = pair.start(*victim_words, stdout=writer, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    os.close(writer)
    other = pair.start(*other_words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    seen = b""
    while b'"progress"' not in seen:
        assert select.select([reader], [], [], 20)[0]
        seen += os.read(reader, 4096)
    os.close(reader)
    _, complaint = victim.communicate(timeout=40)
    assert victim.returncode == 130
    assert complaint == b""
    assert other.poll() is None
    again = pair.start(*victim_words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    for each in (again, other):
        _, complaint = each.communicate(timeout=30)
        assert (each.returncode, complaint) == (0, b"")
    assert file_hash(pair.inbox / "big.bin") == digest


def test_streams_that_are_closed_from_the_start(pair: Stage, source: Path) -> None:
    """No file or connection of the program takes their numbers."""
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    bob = pair.start(*closed, *pair.command_line(pair.bob, "receive", "--as", "bob", "--to", pair.inbox, "--no-code"))
    wait_until(lambda: pair.run("send", source, "bob", prefix=closed).status == 0, 20)
    assert file_hash(pair.inbox / source.name) == file_hash(source)
    assert bob.poll() is None
    assert pair.run("id", prefix=["sh", "-c", 'exec "$@" <&- >/dev/full', "sh"]).status == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["recieve"], "did you mean 'receive'?"),
        (["receive", "--server", "x"], "--server stands before the command: p2pxfer --server ... receive"),
        (["completion"], "Choose from: bash, zsh, fish"),
    ],
)
def test_what_a_newcomer_mistypes(words: list[str], says: str, stage: Stage) -> None:
    outcome = stage.run_bare([BIN / "p2pxfer", *words], timeout=60)
    check_failure(outcome, 2, says)


@needs_mounts
def test_a_private_directory_on_a_full_disk_is_a_disk_that_failed(stage: Stage) -> None:
    """The settings are given as they should be."""
    with mounted(stage.folder / "small", "size=16k") as disk:
        (disk / "filler").write_bytes(bytes(16384))
        refused = stage.run("init", "--as", "alice", home=disk / "home")
        check_failure(refused, 8, "No space left on device; make room and run the command again")
        (disk / "filler").unlink()
        assert stage.run("init", "--as", "alice", home=disk / "home").status == 0
