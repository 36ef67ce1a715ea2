"""The run of ``p2pxfer chat`` under the reactor: lines in, lines out, what is kept, the exit code."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import cast

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.chatcommands import ChatCommands
from p2pxfer.cli.chatfiles import ChatFiles
from p2pxfer.cli.chatleft import KEPT, lines_text, unserved, waiting_text, with_lost
from p2pxfer.cli.chatmanners import Manners
from p2pxfer.cli.chatnotes import ChatNotes
from p2pxfer.cli.chatscreen import ChatScreen
from p2pxfer.cli.chattyping import ChatTyping
from p2pxfer.cli.chatwaiting import ChatWaiting
from p2pxfer.cli.chatwords import ChatWords
from p2pxfer.cli.displaced import displaced
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.ownnames import common_name
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.core.session.chatwire import SERVICE
from p2pxfer.core.session.conversation import ChatEvent, Conversation, Delivered, Heard, Line, PeerOver
from p2pxfer.core.text import safe_text
from p2pxfer.errors import DiskError, Incomplete, Interrupted, LimitReached, P2pxferError, Unreachable
from p2pxfer.net.services.chatstore import ChatStore
from p2pxfer.net.services.chatting import PATIENCE_S, ChatOwner, Chatting
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pairsession import PairSession, common_appointment
from p2pxfer.net.session.patience import STOPPED_S
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Event, Note


class ChatRoom(ChatOwner):
    """One run of the command."""

    log = Logger()

    def __init__(self, options: Global, store: ChatStore, peer: KnownPeer, manners: Manners) -> None:
        self._json = options.json
        self._peer = peer
        self._manners = manners
        self._report = Reporter(options.json, options.quiet)
        self._store = store
        self._conversation = Conversation(store.pending, store.seen)
        self._terminal = os.isatty(0)
        self._commands = self._terminal or manners.commands
        self._input_ended = False
        self._peer_over = False
        self._ending = False
        self._unserved: P2pxferError | None = None
        """Why this machine has no place at the server: nothing is delivered."""
        self._outcome: Deferred[P2pxferError | None] = Deferred()

    async def run(self, machine: Machine) -> None:
        """Talk until one of the ends that the options name.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        client = self._make(machine)
        talking: Deferred[None] | None = None
        try:
            await self._register(client)
            self._greet()
            # At once: an introduction may come right behind the registration.
            talking = Deferred.fromCoroutine(self._chatting.run(client)).addErrback(self._talk_ended)
            if not self._manners.verify:
                await self._start_files()
            self._typing.read()
            await self._until_the_end(client)
            await self._part()
        except (CancelledError, FailureGroup):  # the second is what a race makes of the first
            self._ending = True
            leaving = Deferred.fromCoroutine(self._chatting.leave())
            await leaving.addTimeout(STOPPED_S, self._reactor, lambda result, timeout: None)
            raise Interrupted(f"interrupted; {await self._last_try() or KEPT}") from None
        finally:
            self._ending = True
            if talking is not None:
                talking.cancel()
            await self._close(client)

    def _make(self, machine: Machine) -> RendezvousClient:
        """What the run consists of, and the client that is to be started."""
        machine = self._machine = structs.replace(machine, tell=self._tell, patience=PATIENCE_S)
        reactor = self._reactor = machine.reactor
        self._report.on_closed = self._unread
        self._waiting = ChatWaiting(reactor, self._peer.shown, self._note)
        chatting = self._chatting = Chatting(
            reactor, self._conversation, self._session, self, random.random, held=self._manners.verify
        )
        self._notes = ChatNotes(
            reactor, self._store, self._conversation, self._manners.history, self._note, self._noted
        )
        self._screen = ChatScreen(
            reactor, self._report, self._json, self._store, self._notes, self._peer.shown, self._unread
        )
        key = machine.identity.id.digest
        waits_as = common_name(SERVICE, key) if key > self._peer.key else None
        client = machine.client(waits_as, chatting.introduced)
        files = self._files = ChatFiles(
            machine,
            self._peer,
            destination=self._manners.destination,
            acceptance=self._manners.acceptance,
            tell=self._tell,
            on_idle=self._look,
            here=lambda: self._conversation.connected,
        )
        self._words = ChatWords(machine.home, self._peer, chatting, self._note, self.end, lambda: files.asking)
        self._chat_commands = ChatCommands(
            files, self._store, self._peer.shown, self._words, self._note, lambda: self.end(None)
        )
        self._typing = ChatTyping(
            reactor,
            self._conversation,
            self._manners,
            self._peer.shown,
            terminal=self._terminal,
            command=self._chat_commands.run,
            answer=self._words.answer,
            say=self.say,
            note=self._note,
            ended=self._end_of_input,
            end=self.end,
            fault=self._fault,
        )
        return client

    async def _register(self, client: RendezvousClient) -> None:
        """Have a place at the server; without one, what a program has to say is kept before that is raised."""
        try:
            await client.start()
        except P2pxferError as error:
            if self._terminal:
                raise
            raise await self._keep(error) from error

    async def _keep(self, error: P2pxferError) -> P2pxferError:
        """Keep what the input has, until its end or the timeout; returns how the chat ends without a server."""
        self._unserved = error
        self._files.stay_out()
        self._typing.read()
        late = self._reactor.callLater(self._manners.timeout, self.end, Incomplete("the input has not ended"))
        try:
            read = await self._outcome
        finally:
            if late.active():
                late.cancel()
        lost, whole = await self._last_try(), read is None or read is error
        if lost:
            return with_lost(error, lost)
        return unserved(error, self._peer.shown, len(self._conversation.pending), whole)

    async def _close(self, client: RendezvousClient) -> None:
        """Whatever goes wrong with one of them, the others are closed: what was said is written in any case."""
        self._waiting.stop()
        self._typing.stop()
        try:
            await self._files.close()
        finally:
            try:
                await self._notes.close()
            finally:
                self._screen.close()
                self._store.close()
                self._report.close()
                await client.leave()

    async def _start_files(self) -> None:
        await self._files.start(self._machine.client(self._files.waits_as, self._files.inbox.introduced))

    async def _part(self) -> None:
        """Tell the peer that nothing more comes; what it has not taken is kept."""
        await self._notes.settled()
        self._conversation.over()
        await self._chatting.leave()
        if lost := await self._last_try():
            raise DiskError(lost)
        waiting = len(self._conversation.pending)
        if waiting:
            self._note(f"{lines_text(waiting)} kept for {self._peer.shown}; the next chat delivers what is kept")

    def _session(self, on_event: Callable[[ChannelEvent], None], on_settled: Callable[[], None]) -> PairSession:
        return PairSession(
            self._machine,
            self._peer,
            on_event=on_event,
            on_settled=on_settled,
            appointment=common_appointment(SERVICE, self._machine.identity, self._peer),
        )

    async def _until_the_end(self, client: RendezvousClient) -> None:
        # Values and not failures, since a race waits for the first success.
        _, error = await race([cast("Deferred[P2pxferError | None]", client.failed), self._outcome])
        if error is not None:
            lost = await self._last_try()
            raise with_lost(displaced(error, f"the chat with {self._peer.shown}", lost or f"{KEPT} here"), lost)

    async def _last_try(self) -> str:
        return await self._notes.last_try(self._peer.shown)

    def end(self, error: P2pxferError | None) -> None:
        """The chat is over: not at once, since somebody may be in the middle of telling what came."""
        if not self._ending:
            self._ending = True
            self._waiting.stop()
            self._typing.stop()
            self._reactor.callLater(0, self._outcome.callback, error)

    def _unread(self) -> None:
        self.end(Interrupted("nobody reads the output any more"))

    def _noted(self) -> None:
        self._chatting.push()
        self._look()

    def _talk_ended(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("the chat ended", failure)
            error = Unreachable("the chat ended by a fault inside the program")
        self.end(self._words.denied(error) if self._chatting.denied else error)

    def _note(self, text: str) -> None:
        self._tell(Note(text))

    def _tell(self, event: Event, text: str | None = None) -> None:
        """The one way to the screen for all but the peer's lines."""
        self._words.told(event)
        self._report.tell(event, text)

    def _greet(self) -> None:
        # Before the input is read, so what waits is of before.
        kept = waiting_text(len(self._conversation.pending))
        self._note(f"chat with {self._peer.shown}{kept}" + "; /help names the commands" * self._commands)
        self._waiting.begin()

    # -- what is typed -----------------------------------------------------------------------------------------------

    def _end_of_input(self) -> None:
        self._input_ended = True
        if self._unserved is not None:
            self.end(self._unserved)
            return
        self._conversation.over()
        self._chatting.push()
        if not self._manners.stay and not self._all_gone:
            self._reactor.callLater(self._manners.timeout, self._not_delivered, self._files.moved)
        self._look()

    def _look(self) -> None:
        """Whether everything that was to be said is said, by the peer too where it is waited for."""
        done = self._input_ended and self._all_gone
        if done and (not self._manners.stay or (self._peer_over and not self._conversation.owes)):
            self.end(self._files.failed or self._typing.failed)

    @property
    def _all_gone(self) -> bool:
        return not self._conversation.pending and self._files.idle

    def _not_delivered(self, moved: int) -> None:
        timeout, waiting = self._manners.timeout, len(self._conversation.pending)
        if not waiting:
            if self._files.moved > moved:  # a large file takes as long as it takes
                self._reactor.callLater(timeout, self._not_delivered, self._files.moved)
            else:
                self.end(self._files.failed or Incomplete(f"a file is not sent within {timeout:g} seconds"))
            return
        self.end(
            Incomplete(
                f"{self._peer.shown} has not taken {lines_text(waiting)} within {timeout:g} seconds; what is"
                " kept is delivered by the next chat"
            )
        )

    def say(self, text: str) -> None:
        """Say a line."""
        line = Line(os.urandom(16), text, int(time.time()))
        try:
            self._conversation.say(line)
        except LimitReached as error:
            self._note(error.message)
            return
        if not self._conversation.connected and self._terminal:
            self._note(f"{self._peer.shown} is not here; the line waits")
        self._screen.tell(line, "waiting")
        self._notes.said(line)

    # -- what happens ------------------------------------------------------------------------------------------------

    def chat_stands(self) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        self._waiting.stop()
        self._words.ask()

    def chat_released(self) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        Deferred.fromCoroutine(self._start_files()).addErrback(self._fault)

    def chat_words(self, words: tuple[str, ...]) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        self._words.asked(words)

    def chat_parted(self) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        self._words.gone()

    def chat_here(self, here: bool) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        if self._ending:
            return
        if here:
            self._waiting.stop()
            self._peer_over = False
        shown = self._peer.shown
        self._note(f"{shown} is here" if here else f"{shown} has left; lines for {shown} wait")
        self._typing.take()

    def chat_event(self, event: ChatEvent) -> None:
        """See :class:`~p2pxfer.net.services.chatting.ChatOwner`."""
        match event:
            case Heard(line):
                self._words.heard()
                self._screen.hear(line)
            case Delivered(line):
                self._screen.tell(line, "delivered")
                if self._terminal and not self._json:
                    self._tell(Note("delivered"), f"    delivered: '{safe_text(line.text, 40)}'")
                self._notes.delivered()
                self._look()
                self._typing.delivered()
            case PeerOver():
                self._peer_over = True
                self._look()

    def _fault(self, failure: Failure) -> None:
        self.log.failure("the chat broke", failure)
        self.end(Unreachable("the chat ended by a fault inside the program"))
