"""Splitting a command line into our own options and what belongs to sbatch or to the script."""

from __future__ import annotations

import click


class PassThrough(click.Command):
    """A verb in front of an sbatch command line: `hpc submit [ours] [sbatch's] FILE [the script's]`.

    Our options are taken wherever they stand, until `--`; everything else is kept in its order, as sbatch would get it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what is not ours in ctx.meta["rest"], and let click parse the others."""
        own, rest = _split(args, self._switches(), self._valued())
        ctx.meta["rest"] = rest
        return super().parse_args(ctx, own)

    def _switches(self) -> set[str]:
        flags = {name for option in self._options() if option.is_flag for name in option.opts}
        return flags | {"--help", "-h"}

    def _valued(self) -> set[str]:
        return {name for option in self._options() if not option.is_flag for name in option.opts}

    def _options(self) -> list[click.Option]:
        return [param for param in self.params if isinstance(param, click.Option)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the usage line."""
        return ["[OPTIONS]", "[SBATCH OPTIONS]", "FILE", "[ARGUMENTS]"]


def _split(args: list[str], switches: set[str], valued: set[str]) -> tuple[list[str], list[str]]:
    own: list[str] = []
    rest: list[str] = []
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return own, rest + waiting
        if word in switches or word.partition("=")[0] in valued:
            own.append(word)
            if word in valued and waiting:
                own.append(waiting.pop(0))
        else:
            rest.append(word)
    return own, rest
