"""The command line of `here`: `python -P -m hybridhpc.here VERB --root DIR ...`; answers JSON.

survey | status ID... | submit --token T --attempt N --job-dir DIR [options] -- SCRIPT [ARG...] | cancel ID... |
withdraw ID | release ID... | find | check. Exit codes: see commands.Answer.
"""

from __future__ import annotations

import os
import sys

from hybridhpc.here.commands import answer


def main(words: list[str]) -> int:
    """Run one verb; print its answer, or why it is refused."""
    told = answer(words, os.environ)
    if told.output:
        sys.stdout.write(told.output + "\n")
    if told.complaint:
        sys.stderr.write(told.complaint + "\n")
    return told.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
