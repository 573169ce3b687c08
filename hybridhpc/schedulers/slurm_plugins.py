"""Which options SPANK plugins add to a site's sbatch: a question and the parser of its answer. Pure."""

from __future__ import annotations

import re

from hybridhpc.command import Command
from hybridhpc.sites.plugins import PluginOptions

COMMAND = Command(argv=("sbatch", "--help"))
_HEADING = "Options provided by plugins:"
_OPTION = re.compile(r" {1,8}--([^\s=]+)(?:=(\S*))?")
_OPTIONAL = re.compile(r"\[[^][]*\]")


def parse_plugin_options(help_text: str) -> PluginOptions:
    """Read the options that `sbatch --help` lists as plugins' (seen: 22.05, 24.11, 26.05). None listed: there are none.

    It shows what a plugin calls the argument, not whether it must be given: `[...]` is taken for one that need not.
    """
    _, _, listed = help_text.partition(f"\n{_HEADING}\n")
    found: dict[str, str] = {}
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            break
        if option := _OPTION.match(line):
            found[option[1]] = "" if option[2] is None else "=?" if _OPTIONAL.fullmatch(option[2]) else "="
    return tuple(found.items())
