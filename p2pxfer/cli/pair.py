"""``p2pxfer pair``: two machines become contacts of each other, without sending anything."""

from __future__ import annotations

import click

from p2pxfer.cli.completing import code_words
from p2pxfer.cli.settings import Global, Seconds, machine_of, mapping_option, path_option
from p2pxfer.core.approach import Approach
from p2pxfer.core.contact.codes import typed_code
from p2pxfer.core.contact.pairplace import OWN_CODE, place_in
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.names import check_name, normalise_name
from p2pxfer.core.ownnames import place_of
from p2pxfer.errors import UsageError


@click.command("pair")
@click.argument("words", metavar="[CODE]", nargs=-1, shell_complete=code_words)
@click.option("--as", "name", metavar="NAME", help="Register under this name (default: stored name, user name).")
@click.option("--call", "alias", metavar="NAME", help="Store the other machine as NAME (default: its own name).")
@click.option("--code-file", metavar="F", type=click.Path(readable=False), help="Read the code to enter from a file.")
@click.option("--qr", is_flag=True, help="Show the code as a QR code, too.")
@click.option(
    "--verify", is_flag=True,
    help="Compare eight words by voice before the other machine is stored.  It is asked to do so, too; give it on both"
    " where somebody in between may know the code.",
)  # fmt: skip
@path_option
@mapping_option
@click.option("--timeout", metavar="S", type=Seconds(), help="Longest time to wait for the other machine, seconds.")
@click.pass_obj
def command(
    options: Global, words: tuple[str, ...], name: str | None, alias: str | None, code_file: str | None, qr: bool,
    verify: bool, policy: PathPolicy, port_mapping: bool, timeout: float | None,
) -> None:  # fmt: skip
    """Show a one-time code and wait until it is entered on the other machine; or enter the CODE that that one shows.

    Without CODE a terminal offers both: the code of either machine is enough.  CODE may also come from P2PXFER_CODE or
    --code-file, which other users of this machine do not see.
    """
    from p2pxfer.cli.inputs import check_answerable, read_code

    check_answerable(verify)
    entered = typed_code(" ".join(words)) if words else read_code(code_file)
    home = options.open_home()
    line = options.server_line(home)
    # Where another machine has the same first place, its user is told to enter the code of this one, which it can.
    if entered is not None and place_in(entered) == place_of(home.identity().id.digest, 0):
        raise UsageError(f"{OWN_CODE}, or the code of that one here")
    from p2pxfer.cli.pairing import Pairing
    from p2pxfer.cli.run import run

    called = None if alias is None else check_name(normalise_name(alias))
    if any(contact.name == called for contact in home.contacts()):
        raise UsageError(
            f"a contact is called {called} already; choose another name, or leave --call out if it is the same"
            " machine, which keeps its name"
        )
    made = machine_of(options, home, line, Approach(policy, port_mapping=port_mapping), name=name)
    pairing = Pairing(options, entered, called, qr=qr, timeout=timeout, verify=verify)
    run(lambda reactor: pairing.run(made(reactor)), options.verbose)
