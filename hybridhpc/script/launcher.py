"""Launchers: who starts how many tasks of a job on its nodes, as the words before them and the text each one runs."""

from __future__ import annotations

import re

from hybridhpc.model import Launcher, Resources, Work
from hybridhpc.values import dataclass

_PER_NODE = (
    # In 21.08 and later a number of CPUs per task implies --exact: the one task would get its share, not the node.
    *("env", "-u", "SLURM_CPUS_PER_TASK", "-u", "SRUN_CPUS_PER_TASK", "-u", "SLURM_TRES_PER_TASK"),
    "srun",
    "--cpu-bind=none",
)
# sbatch --export=NONE leaves SLURM_EXPORT_ENV=NONE, which srun obeys (srun(1), 20.11 to 26.05).
_ALL_OR_NOTHING = ("--export=ALL", "--kill-on-bad-exit=1")

_QUOTED = re.compile(
    r"""'[^']*'|"(?:\\.|[^"\\])*"|`[^`]*`|\\.|(?<!\S)\#[^\n]*"""  # what the shell reads as text, or not at all
    r"""|\$\(\([^()]*\)\)|\$\([^()]*\)|\$\{[^{}]*\}|[<>]&|&>|>\|""",  # expansions and redirections
    re.DOTALL,
)
_CONTROL = re.compile(r"[;&|()\n'\"`]")
_BEFORE = re.compile(r"(?:[ \t]*(?:\#[^\n]*)?\n)*[ \t]*")
_FIRST = re.compile(r"(?:[^\s'\"\\]|\"[^\"]*\"|'[^']*')+")
_OPTIONS = re.compile(r"(?:\s+-\S+)*")
_UNBUFFERED = re.compile(r"(?:\s|\\\n)+-u(?=\s|\\\n)")
_OURS = re.compile(r"\s--?(?:standalone|nnodes|nproc|node[-_]rank|master|rdzv|local[-_]addr)")
_RUN = "-m torch.distributed.run"
_HINT = "else write `launcher: none`, or `launcher: srun` with `tasks_per_node: 1`, and call torchrun yourself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the payload starts."""

    words: tuple[str, ...] = ()
    """What stands before the command of a task; nothing: it runs once, as it is."""
    text: str
    """The shell text of one task."""
    leads: bool = False
    """The first process passes TERM on to the others by itself."""
    exec: bool = False
    """The text is one command that replaces its shell."""


def per_node(nodes: int) -> tuple[str, ...]:
    """Return the words that run a command once on each node; none for a single node."""
    if nodes == 1:
        return ()
    return (*_PER_NODE, f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", *_ALL_OR_NOTHING)


def launch(work: Work, resources: Resources, tasks: int, *, scheduler: str, mpi: str | None) -> Launch:
    """Return how `run` is started with `tasks` tasks on each node. Raises ValueError if that is impossible."""
    nodes = resources.nodes
    if work.launcher is Launcher.NONE:
        return Launch(text=work.run)
    if work.launcher is Launcher.MPIRUN:
        return Launch(words=("mpirun", "-n", str(nodes * tasks)), text=work.run, leads=True)
    if work.launcher is Launcher.TORCHRUN:
        text = torchrun_text(work.run, nodes, tasks)
        return Launch(words=per_node(nodes), text=text, leads=True, exec=True)
    if scheduler == "slurm":
        return Launch(words=_srun(resources, tasks, mpi), text=work.run, leads=True)
    if tasks == 1:
        return Launch(text=work.run)
    raise ValueError(f"there is no srun to start {tasks} tasks; use torchrun or mpirun, or a Slurm site")


def torchrun_text(run: str, nodes: int, tasks: int) -> str:
    """Put torchrun before a training script: `python train.py ARGS`, `torchrun train.py ARGS` or `train.py ARGS`.

    Only the first word is replaced; the rest stays what it was, shell text. Raises ValueError if it is not one simple
    command of that form.
    """
    body = _BEFORE.sub("", run, count=1).rstrip()
    first = _FIRST.match(body)
    if first is None or _CONTROL.search(_QUOTED.sub("_", body)):
        raise ValueError(f"with torchrun, `run` must be one command, such as `python train.py --data /data`; {_HINT}")
    command, arguments = _first_words(first.group(), body[first.end() :])
    if not arguments.strip():
        raise ValueError(f"with torchrun, `run` must name a training script; {_HINT}")
    return f"{command} {_rendezvous(nodes, tasks)}{arguments}"


def _first_words(word: str, rest: str) -> tuple[str, str]:
    """Return the command that takes the place of the first word, and its arguments as they are."""
    name = word.replace('"', "").replace("'", "").rpartition("/")[2]
    options = _OPTIONS.match(rest.replace("\\\n", " "))[0]  # type: ignore[index]
    if name == "torchrun":
        if _OURS.search(options):
            raise ValueError("leave out --nnodes, --nproc-per-node, --rdzv-* and the like: hybridhpc gives them")
        return word, rest
    if name.endswith(".py"):
        return f"python3 {_RUN}", f" {word}{rest}"
    if not re.fullmatch(r"python[0-9.]*", name):
        raise ValueError(f"with torchrun, `run` must begin with python, torchrun or a .py file, not {word!r}; {_HINT}")
    wrong = [option for option in options.split() if option != "-u"][:1]
    if wrong and wrong != ["-m"]:
        raise ValueError(f"torchrun cannot start `python {wrong[0]}`; {_HINT}")
    # The same Python, so that torchrun need not be on PATH. Workers get -u from torchrun itself.
    return f"{word} {_RUN}", _UNBUFFERED.sub("", rest, count=1)


def _rendezvous(nodes: int, tasks: int) -> str:
    """Return torchrun's options (torch 2.0 to 2.13). The static rendezvous keeps rank 0 on MASTER_ADDR."""
    if nodes == 1:
        # The address, since --standalone alone asks for the host's own name, which need not be resolvable.
        return f"--standalone --local-addr=127.0.0.1 --nproc-per-node={tasks}"
    where = '--node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT"'
    return f"--nnodes={nodes} {where} --nproc-per-node={tasks}"


def _srun(resources: Resources, tasks: int, mpi: str | None) -> tuple[str, ...]:
    nodes = resources.nodes
    return (
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes * tasks}",
        f"--ntasks-per-node={tasks}",
        # 22.05 and 23.02 do not take it over from the job (srun(1), SRUN_CPUS_PER_TASK).
        *((f"--cpus-per-task={max(1, resources.cpus // tasks)}",) if resources.cpus else ()),
        *((f"--mpi={mpi}",) if mpi else ()),
        *_ALL_OR_NOTHING,
    )
