"""What SPANK plugins add to sbatch's table of options. getopt_long sees one table of both.

Asked of the real programs 22.05.8, 24.11.5 and 26.05.5, with a plugin made for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridhpc.sites.plugins import PluginOptions
from hybridhpc.spec.sbatch_options import BY_NAME, Argument, Known

Added = Mapping[str, Known]
"""Options of plugins by name."""
NONE_ADDED: Added = {}
_ARGUMENTS = {"": Argument.NONE, "=": Argument.REQUIRED, "=?": Argument.OPTIONAL}


def added(options: PluginOptions) -> Added:
    """Return the options of plugins by name. sbatch ignores one that is called as one of its own."""
    return {name: Known(name, argument=_ARGUMENTS[mark]) for name, mark in options if name not in BY_NAME}
