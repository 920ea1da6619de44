"""`batcher completion`: in: a shell's name; out: its completion script on stdout."""

from __future__ import annotations

import click

from .. import cli
from ..shells import SHELLS, script


@click.command("completion", short_help="print a completion script")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands, flags, manifests and names of flows in SHELL.

    \b
    bash:  echo 'eval "$(batcher completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(batcher completion zsh)"' >> ~/.zshrc   (after compinit)
    fish:  batcher completion fish > ~/.config/fish/completions/batcher.fish
    """
    click.echo(script(cli, shell), nl=False)
