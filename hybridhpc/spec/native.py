"""What sbatch says of a native option that stands below `slurm:`, before anything is submitted. Pure.

The table of options is read only where there are any: most files have none.
"""

from __future__ import annotations

from hybridhpc.readers import Fault, nearest
from hybridhpc.sites.plugins import PYXIS, how_to_admit


def judge(name: str, *value: str | None) -> None:
    """Raise Fault for a name that no sbatch knows (20.11 to 26.05), or an argument that none takes.

    `value` is nothing if the name alone is asked about, None for an option without argument. What SPANK plugins add is
    sites/plugins.py's.
    """
    from hybridhpc.spec.sbatch_options import BY_NAME, Argument

    known = BY_NAME.get(name)
    if known is None:
        raise Fault(f"--{name} is no option of sbatch", mended(name, value[0] if value else ""))
    if not value:
        return
    argument = known.argument_in(None)
    if value[0] is None and argument is Argument.REQUIRED:
        raise Fault(f"--{name} needs an argument", f"write {name}: ...")
    if value[0] is not None and argument is Argument.NONE:
        raise Fault(f"--{name} takes no argument", f"write {name}: true")
    _judge_value(name, value[0])


def mended(name: str, value: str | None, dashes: str = "") -> str:
    """Say what may have been meant by a name that no sbatch knows: another one, or a plugin's."""
    from hybridhpc.spec.sbatch_options import BY_NAME

    plugin = how_to_admit(name, value)
    meant = None if name in dict(PYXIS) else nearest(name, (*BY_NAME, *dict(PYXIS)))
    if meant is None:
        return plugin or "`sbatch --help` lists them"
    return f"did you mean {dashes}{meant}?" + (f" Else {plugin}" if plugin else "")


def _judge_value(name: str, value: str | None) -> None:
    from hybridhpc.spec.sbatch_checks import value_problem
    from hybridhpc.spec.sbatch_getopt import Option

    problem = value_problem(Option(name=name, value=value, line=None, origin="command line"), None)
    if problem is not None:
        message, _, how = problem.partition("; write ")
        raise Fault(message, f"write {name}: {how}" if how else "")
