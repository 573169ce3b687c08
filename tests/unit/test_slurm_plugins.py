"""What sbatch --help says of options that plugins add: as 22.05, 24.11 and 26.05 print it, and pyxis's own text."""

from __future__ import annotations

import pytest

from hybridhpc.schedulers.slurm_plugins import parse_plugin_options

HEAD = """\
Affinity/Multi-core options: (when the task/affinity plugin is enabled)
      --ntasks-per-core=n     number of tasks to invoke on each core

"""
PLUGINS = """\
Options provided by plugins:
      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH
                              the image to use
      --container-name=NAME   the name, which --container-save=PATH may keep

      --no-container-mount-home
                              [demo] do not mount the home directory whatever it
                              may be called in this long text
      --quick=[LEVEL]         optional
"""
TAIL = """
GPU scheduling options:
      --cpus-per-gpu=n        number of CPUs required per allocated GPU
"""
FOUND = (("container-image", "="), ("container-name", "="), ("no-container-mount-home", ""), ("quick", "=?"))


@pytest.mark.parametrize(
    ("text", "found"),
    [(HEAD + PLUGINS + TAIL, FOUND), (HEAD + PLUGINS, FOUND), (HEAD + TAIL, ()), ("", ())],
)
def test_the_options_below_their_heading_are_read(text: str, found: tuple[tuple[str, str], ...]) -> None:
    assert parse_plugin_options(text) == found
