"""Job scripts for tests: rendering one in a line, and running it under bash in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridhpc.model import Gpus, JobSpec, Resources, Work
from hybridhpc.script.render import render_script
from hybridhpc.sites.site import Site

RESOURCES = {"nodes", "cpus", "memory"}


def render(
    *,
    scheduler: str = "here",
    gpus: Gpus | None = None,
    options: tuple[str, ...] = (),
    name: str = "job",
    site: Mapping[str, Any] | None = None,
    **keys: Any,
) -> bytes:
    """Render a spec given by the fields of Resources and Work."""
    resources = Resources(gpus=(gpus,) if gpus else (), **{key: keys[key] for key in keys if key in RESOURCES})
    work = Work(**{"run": ":", **{key: keys[key] for key in keys if key not in RESOURCES}})
    spec = JobSpec(name=name, file="/home/me/job.yaml", digest="", resources=resources, payload=work)
    place = Site(**{"name": "site", "file": None, "scheduler": scheduler, "transport": "local", **(site or {})})
    return render_script(spec, place, "batch", gpus, scheduler, options)


class JobDir:
    """A job's directory, and what runs in it."""

    def __init__(self, path: Path, **env: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "HPC_", "OMP_"))}
        self.env = {**kept, "HPC_JOB_DIR": str(path), **env}

    def start(self, script: bytes, *, own_session: bool = True, again: bool = False) -> subprocess.Popen[bytes]:
        """Begin a script; its output goes to the file `log`. `again`: the very same run a second time."""
        file = self.path / "script"
        for marker in () if again else (*self.path.glob("start.*"), *self.path.glob("exit.*")):
            marker.unlink()
        # bash reads a script as it goes: one that runs already must not be written over.
        if not file.exists() or file.read_bytes() != script:
            file.write_bytes(script)
        with (self.path / "log").open("wb") as log:
            return subprocess.Popen(
                ["/bin/bash", str(file)],
                env=self.env,
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=own_session,
            )

    def run(self, script: bytes) -> int:
        """Run a script to its end and return its exit code."""
        return self.start(script).wait(60)

    @property
    def log(self) -> str:
        """What the script has written so far."""
        return (self.path / "log").read_text(errors="replace")

    def marker(self, name: str) -> list[str]:
        """Return the words of a marker."""
        return (self.path / name).read_text().split()

    def await_log(self, text: str) -> None:
        """Wait until the script has written something."""
        await_true(lambda: text in self.log, lambda: f"{text!r} is not in the log:\n{self.log}")


def await_true(condition: Callable[[], bool], complaint: Callable[[], str], seconds: float = 20) -> None:
    """Wait for a condition, and fail if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, complaint()
        time.sleep(0.02)
