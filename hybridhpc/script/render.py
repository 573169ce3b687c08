"""From a spec and a placement to the text of the job script. Decisions are taken here and below; templates get finished
strings. docs/script.md says what the script does. Pure: the same wish gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hybridhpc.errors import Problem, SiteFileError, SpecError
from hybridhpc.model import Gpus, JobSpec, Launcher, Work
from hybridhpc.script.checkpoint import checkpoint_signal
from hybridhpc.script.container import DEFINITION, container_words, find_image
from hybridhpc.script.fabric import Fabric, fabric_of
from hybridhpc.script.launcher import Launch, launch, per_node
from hybridhpc.script.points import POINT
from hybridhpc.script.quote import assignment, home_path, sbatch_word, shell_word, shell_words
from hybridhpc.script.secret import secret_strings
from hybridhpc.script.task_files import TaskFile, digest_of, env_file, run_file, secrets_file, setup_file
from hybridhpc.script.templates import render
from hybridhpc.sites.site import Site
from hybridhpc.spec.fault import problem_of


def render_script(
    spec: JobSpec, site: Site, partition: str, gpus: Gpus | None, scheduler_name: str, options: tuple[str, ...]
) -> bytes:
    """Return the job script of a YAML spec. `gpus`: per node, as chosen; `options`: all that the scheduler gave.

    Raises SpecError for what cannot be rendered there, SiteFileError for an unknown fabric.
    """
    work = _work(spec)
    tasks = work.tasks_on_node(gpus, spec.resources.cpus)
    with _blame(spec, "launcher"):
        started = launch(work, spec.resources, tasks, scheduler=scheduler_name, mpi=site.mpi)
    fabric = _fabric(site, spec.resources.nodes)
    files = _files(spec, work, started, fabric)
    with _blame(spec, "slurm"):
        lines = [sbatch_word(option) for option in options]
    with _blame(spec, "secrets"):
        secrets = secret_strings(work.secrets, spec.array.tasks if spec.array else 1, options)
    context = {
        "place": _one_line(f"{site.name}/{partition}"),
        "options": lines,
        "nodes": str(spec.resources.nodes),
        "gpus": str(gpus.count if gpus else 0),
        "threads": _threads(work, spec.resources.cpus, tasks),
        "workdir": _directory(spec, work),
        "points": {"copied": work.workdir is not None} if spec.points else None,
        "preamble": site.preamble.strip("\n"),
        "fabric": _fabric_strings(fabric),
        "files": [{"name": file.name, "text": file.text, "end": file.end} for file in files],
        "digest": digest_of(files),
        "secrets": secrets,
        **_calls(spec, work, site, started, gpus),
    }
    return render(f"{scheduler_name}.sh.j2", context).encode()


def _directory(spec: JobSpec, work: Work) -> str:
    """Return the shell word of the directory in which setup and run are begun."""
    if spec.points:
        return f'"$HPC_JOB_DIR"/{POINT}"${{SLURM_ARRAY_TASK_ID:-0}}"'
    return '"$HPC_JOB_DIR"/work' if work.workdir else '"$HPC_JOB_DIR"'


def _work(spec: JobSpec) -> Work:
    if not isinstance(spec.payload, Work):
        raise TypeError("an sbatch script is submitted as it is, not rendered")
    return spec.payload


def _files(spec: JobSpec, work: Work, started: Launch, fabric: Fabric) -> list[TaskFile]:
    """Return the files for the tasks, in the order in which they are used."""
    with _blame(spec, "checkpoint"):
        signal = checkpoint_signal(work.checkpoint, started)
    with _blame(spec, "env"):
        files = [env_file(work.env, spec.points)]
    files += [secrets_file(name for name, _ in work.secrets)] if work.secrets else []
    with _blame(spec, "setup"):
        files += [setup_file(work, fabric.library_path)] if work.setup.strip() else []
    with _blame(spec, "run"):
        files.append(run_file(work, started, fabric.library_path, signal))
    return files


def _calls(spec: JobSpec, work: Work, site: Site, started: Launch, gpus: Gpus | None) -> dict[str, Any]:
    """Return the commands of the script: container, setup and payload, and how signals reach the payload."""
    with _blame(spec, "name"):
        name = shell_word(spec.name)
    container = '"${hpc_container[@]}" ' if work.image is not None else ""
    setup = f"{_before(per_node(spec.resources.nodes))}{container}" if work.setup.strip() else None
    signal = checkpoint_signal(work.checkpoint, started)
    return {
        "name": name,
        "container": _container(spec, work, site, gpus) if work.image is not None else None,
        "setup": setup,
        "payload": f"{_before(started.words)}{container}",
        "leads": started.leads,
        "signal": {"name": signal.name, "mask": signal.mask} if signal else None,
    }


def _container(spec: JobSpec, work: Work, site: Site, gpus: Gpus | None) -> dict[str, str]:
    with _blame(spec, "image"):
        image = find_image(work.image or "", site.image_dir)
        source = shell_word(image.source)
    with _blame(spec, "binds"):
        words = container_words(site.container_runtime, work.binds, gpus=bool(gpus and gpus.count))
        command = shell_words(words)
    folder = home_path(site.image_dir) if site.image_dir else '"$HPC_JOB_DIR"'
    runtime = shell_word(site.container_runtime)
    found = {"source": source, "verb": image.verb, "file": image.file, "definition": DEFINITION}
    return {**found, "folder": folder, "runtime": runtime, "command": command}


def _fabric(site: Site, nodes: int) -> Fabric:
    try:
        return fabric_of(site.fabric, nodes)
    except ValueError as error:
        problem = Problem(file=site.file or site.name, line=None, key="fabric", message=str(error))
        raise SiteFileError((problem,)) from error


def _fabric_strings(fabric: Fabric) -> dict[str, Any]:
    profile_env = "".join(f"{assignment(name, value)} " for name, value in fabric.profile_env)
    return {
        "template": f"fabric/{fabric.template}.sh.j2",
        "source": fabric.source,
        "exports": [assignment(name, value) for name, value in fabric.env],
        "binds": shell_words(word for path in fabric.binds for word in ("--bind", path)),
        "needs": shell_words((*fabric.binds, *((fabric.profile,) if fabric.profile else ()))),
        "profile": shell_word(fabric.profile) if fabric.profile else "",
        "profile_env": profile_env,
    }


def _threads(work: Work, cpus: int | None, tasks: int) -> str:
    """Return a value for OMP_NUM_THREADS, CPUs by tasks; nothing where only the person knows how many tasks run."""
    if work.launcher is Launcher.NONE and work.tasks_per_node is None:
        return ""
    if cpus:
        return str(max(1, cpus // tasks))
    return f"$(((${{SLURM_CPUS_ON_NODE:-1}} + {tasks - 1}) / {tasks}))"


def _before(words: tuple[str, ...]) -> str:
    return f"{shell_words(words)} " if words else ""


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


@contextmanager
def _blame(spec: JobSpec, key: str) -> Iterator[None]:
    """Turn a ValueError into a SpecError that names the key of the spec."""
    try:
        yield
    except ValueError as error:
        raise SpecError((problem_of(spec, key, str(error)),)) from error
