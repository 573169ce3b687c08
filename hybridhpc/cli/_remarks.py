"""Remarks on an sbatch script that is right, and perhaps not what was meant. sbatch itself says nothing of these."""

from __future__ import annotations

from collections.abc import Sequence

from hybridhpc.cli._output import tell
from hybridhpc.cli._terminal import clean
from hybridhpc.model import Script
from hybridhpc.planning import Wish


def remark_scripts(wishes: Sequence[Wish]) -> None:
    """Say which options sbatch will not see: those behind the script, and #SBATCH lines behind the first command."""
    for payload in (wish.spec.payload for wish in wishes):
        if isinstance(payload, Script):
            _remark(payload)


def _remark(script: Script) -> None:
    from hybridhpc.spec.sbatch_options import BY_NAME
    from hybridhpc.spec.sbatch_words import lines_too_late

    meant = [word for word in script.args if word.startswith("--") and word[2:].partition("=")[0] in BY_NAME]
    if meant:
        tell(clean(f"note: {meant[0]} stands behind the script, which gets it; options of sbatch stand before it"))
    late = lines_too_late(script.content)
    if late:
        word = "line" if len(late) == 1 else "lines"
        numbers = ", ".join(map(str, late[:3])) + (" ..." if len(late) > 3 else "")
        tell(f"note: {word} {numbers}: #SBATCH behind the first command, which sbatch does not read")
