"""``p2pxfer completion``: the script that lets a shell complete commands, options, contacts and codes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, names of contacts and the words of codes.

    \b
    bash   in ~/.bashrc:  eval "$(p2pxfer completion bash)"
    zsh    in ~/.zshrc, behind compinit:  eval "$(p2pxfer completion zsh)"
    fish   p2pxfer completion fish > ~/.config/fish/completions/p2pxfer.fish
    """
    from p2pxfer.cli.completing import prepare
    from p2pxfer.cli.main import cli

    prepare()
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "p2pxfer", "_P2PXFER_COMPLETE").source(), nl=False)
