"""hpc completion: the shell's completion script."""

from __future__ import annotations

import sys

import click

INSTALL = {
    "bash": 'eval "$(hpc completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(hpc completion zsh)"   in ~/.zshrc',
    "fish": "hpc completion fish | source   in ~/.config/fish/config.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(INSTALL)))
def command(shell: str) -> None:
    """Print the completion script for SHELL (bash, zsh or fish).

    Example: eval "$(hpc completion bash)"
    """
    from click.shell_completion import get_completion_class

    from hybridhpc.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(cli, {}, "hpc", "_HPC_COMPLETE").source(), file=sys.stdout)
