"""Splitting a command line into our own options and what belongs to sbatch or to the script."""

from __future__ import annotations

import click


class PassThrough(click.Command):
    """A verb in front of an sbatch command line: `hpc submit [ours] [sbatch's] FILE [the script's]`.

    Behind an sbatch script, `--where` alone is still ours: every other word is the script's own, as with sbatch. Behind
    a YAML spec, which has no arguments, all our options are.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what is not ours in ctx.meta["rest"], and let click parse the others."""
        own, head, tail = self._cut(args)
        if head and head[-1].endswith((".yaml", ".yml")):
            more, rest = _split(tail, self._switches(), self._valued())
        else:
            more, rest = _split(tail, set(), {"--where"})
        ctx.meta["rest"] = head + rest
        return super().parse_args(ctx, own + more)

    def _cut(self, args: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Return our own options before the file, sbatch's with the file behind them, and what follows."""
        own, rest = _split(args, self._switches(), self._valued())
        position = _file_position(rest)
        if position is None:
            return own, rest, []
        for end in range(1, len(args) + 1):
            before, head = _split(args[:end], self._switches(), self._valued())
            if len(head) > position:
                return before, head, args[end:]
        return own, rest, []

    def _switches(self) -> set[str]:
        flags = {
            name for option in self._options() if option.is_flag for name in (*option.opts, *option.secondary_opts)
        }
        return flags | {"--help", "-h"}

    def _valued(self) -> set[str]:
        return {name for option in self._options() if not option.is_flag for name in option.opts}

    def _options(self) -> list[click.Option]:
        return [param for param in self.params if isinstance(param, click.Option)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the usage line."""
        return ["[OPTIONS]", "[SBATCH OPTIONS]", "FILE", "[ARGUMENTS]"]


def _file_position(words: list[str]) -> int | None:
    """Return where the file stands among words that are not ours. sbatch's table is read only if options come first.

    So are the site files: plugins of sites may add options with arguments.
    """
    if not words or not words[0].startswith("-"):
        return 0 if words else None
    from hybridhpc.cli._context import new_client, plugin_options
    from hybridhpc.spec.sbatch import script_position

    return script_position(words, plugin_options(new_client()))


def _split(args: list[str], switches: set[str], valued: set[str]) -> tuple[list[str], list[str]]:
    """Take our options out of a command line, up to a `--`, which stays where it is."""
    own: list[str] = []
    rest: list[str] = []
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return own, [*rest, word, *waiting]
        if word in switches or word.partition("=")[0] in valued:
            own.append(word)
            if word in valued and waiting:
                own.append(waiting.pop(0))
        else:
            rest.append(word)
    return own, rest
