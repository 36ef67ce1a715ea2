"""``p2pxfer contacts``: the verified peers of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, ListGroup
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PREFIX, parse_id
from p2pxfer.core.names import check_name, normalise_name
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError

if TYPE_CHECKING:
    from p2pxfer.inventory import ContactState
    from p2pxfer.net.private.home import Contact


@click.group("contacts", cls=ListGroup)
def command() -> None:
    """List the contacts; subcommands add, rename and remove them, and say what each may do here."""


@command.command("list")
@click.pass_obj
def show(options: Global) -> None:
    """List the contacts, which `contacts` alone does too."""
    contacts = options.open_home().contacts()
    if options.json:
        for contact in contacts:
            tell(contact, "known")
        return
    if not contacts:
        click.echo("no contacts yet: p2pxfer pair or the first transfer with a one-time code makes one", err=True)
        return
    click.echo(f"{'NAME':<24} {'ID':<69}  VERIFIED")
    for contact in contacts:
        denied = f"; denied: {', '.join(sorted(contact.denied))}" if contact.denied else ""
        click.echo(f"{safe_text(contact.name):<24} {contact.id}  by {contact.verified}, {contact.added}{denied}")


def tell(contact: Contact, state: ContactState) -> None:
    """Print the event of one contact."""
    from p2pxfer.cli.eventline import print_event
    from p2pxfer.inventory import ContactListed

    denied = tuple(sorted(contact.denied))
    print_event(ContactListed(contact.name, str(contact.id), contact.verified, contact.added, state, denied))


def say(options: Global, contact: Contact, state: ContactState, text: str) -> None:
    """What became of a contact: an event, or ``text`` for people."""
    if options.json:
        tell(contact, state)
    else:
        click.echo(text, err=True)


@command.command("add")
@click.argument("name")
@click.argument("peer_id")
@click.pass_obj
def add(options: Global, name: str, peer_id: str) -> None:
    """Store PEER_ID, which you got over a way you trust, as NAME."""
    from p2pxfer.cli.newcontact import today
    from p2pxfer.net.private.home import Contact

    if name.strip().lower().startswith(f"{PREFIX}-"):
        raise UsageError("NAME comes first: p2pxfer contacts add NAME PEER_ID")
    contact = Contact(check_name(normalise_name(name)), parse_id(peer_id), "id", today())
    options.open_home().add_contact(contact)
    say(options, contact, "added", f"added {contact.name}")


@command.command("rename")
@click.argument("old", shell_complete=contact_names)
@click.argument("new")
@click.pass_obj
def rename(options: Global, old: str, new: str) -> None:
    """Give the contact OLD the name NEW."""
    contact = options.open_home().rename_contact(normalise_name(old), check_name(normalise_name(new)))
    say(options, contact, "renamed", f"renamed to {contact.name}")


@command.command("remove")
@click.argument("name", shell_complete=contact_names)
@click.pass_obj
def remove(options: Global, name: str) -> None:
    """Forget a contact.

    Its key must be verified again before anything is sent or received.
    """
    contact = options.open_home().remove_contact(normalise_name(name))
    say(options, contact, "removed", f"removed {safe_text(contact.name)} {contact.id}")


what_argument = click.argument(
    "what", metavar="WHAT...", nargs=-1, required=True, type=click.Choice([*(right.value for right in Right), "all"])
)


@command.command("allow")
@click.argument("name", shell_complete=contact_names)
@what_argument
@click.pass_obj
def allow(options: Global, name: str, what: tuple[str, ...]) -> None:
    """Let a contact do WHAT again.

    WHAT is files, to send them, chat, pipe, services, to connect to what is exposed, or all of that.
    """
    change(options, name, what, allowed=True)


@command.command("deny")
@click.argument("name", shell_complete=contact_names)
@what_argument
@click.pass_obj
def deny(options: Global, name: str, what: tuple[str, ...]) -> None:
    """Let a contact no longer do WHAT.

    WHAT is files, to send them, chat, pipe, services, to connect to what is exposed, or all of that.
    It holds from the next time on that the contact tries.  Whoever shall not even be answered is removed.
    """
    change(options, name, what, allowed=False)


def change(options: Global, name: str, what: tuple[str, ...], *, allowed: bool) -> None:
    """Store which rights a contact has, and say so."""
    rights = list(Right) if "all" in what else [Right(word) for word in what]
    contact = options.open_home().set_rights(normalise_name(name), rights, allowed)
    denied = f"may not: {', '.join(sorted(contact.denied))}" if contact.denied else "may do everything"
    say(options, contact, "changed", f"{contact.name} {denied}")
