"""Native scheduler options as people write them in YAML: one spelling, nothing that the spec's own keys derive.

Which options sbatch has, and what arguments they take, is not known here: whoever reads a file brings a judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hybridhpc.readers import Fault, Plain, kind, quoted
from hybridhpc.schema import Schema, before, either, plain, several, table, then, word
from hybridhpc.sites.plugins import PluginOptions, argument_fault
from hybridhpc.values import dataclass

Options = tuple[tuple[str, str | None], ...]
"""Long names; None: the flag has no value."""
Judge = Callable[..., None]
"""Is called with a long name, or with a name and its value; raises Fault for what no sbatch takes."""

LONG_NAMES = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help", "i": "input",
    "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks",
    "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec",
    "s": "oversubscribe", "t": "time", "V": "version", "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
"""sbatch(1), 20.11 to 26.05."""

_LOG = "leave it out: hpc logs shows the output, wherever the job ran"
_ANSWER = "leave it out: it changes what sbatch answers, and hybridhpc reads that"
_TASKS = "write tasks_per_node: 8"
_GPUS = "write resources: {gpus: H100:8}"
_MEMORY = "write resources: {memory: 64GiB}"
_CPUS = "write resources: {cpus: 16}"
_RETRIES = "write retries: {preempted: 20}"
_WHERE = "write where: SITE/PARTITION"
_ENV = "write env: {NAME: value}"
DERIVED = {
    "nodes": "write nodes: 2", "ntasks": _TASKS, "ntasks-per-node": _TASKS, "tasks-per-node": _TASKS,
    "ntasks-per-core": _TASKS, "ntasks-per-gpu": _TASKS, "ntasks-per-socket": _TASKS,
    "gres": _GPUS, "gpus": _GPUS, "gpus-per-node": _GPUS,
    "gpus-per-task": _GPUS, "gpus-per-socket": _GPUS, "cpus-per-task": _CPUS, "cpus-per-gpu": _CPUS, "mincpus": _CPUS,
    "mem": _MEMORY, "mem-per-cpu": _MEMORY, "mem-per-gpu": _MEMORY, "time": "write time: 12h",
    "time-min": "write time: 12h", "array": "write array: 0-99%10", "dependency": "write after: {ok: [prep]}",
    "job-name": "write name: train", "chdir": "write workdir: .", "partition": _WHERE, "clusters": _WHERE,
    "cluster": _WHERE, "signal": "write checkpoint: {dir: ckpt, signal: USR1, grace: 2m}", "requeue": _RETRIES,
    "no-requeue": _RETRIES, "export": _ENV, "export-file": _ENV, "wrap": "write run: python train.py",
    "container": "write image: docker://nvcr.io/nvidia/pytorch:25.10-py3", "output": _LOG, "error": _LOG, "input": _LOG,
    "open-mode": _LOG, "parsable": _ANSWER, "quiet": _ANSWER, "verbose": _ANSWER, "wait": _ANSWER, "help": _ANSWER,
    "usage": _ANSWER, "version": _ANSWER, "test-only": _ANSWER,
    "hold": "leave it out: every job is submitted held and released once it is recorded",
    "sbatch-options": "write the options directly below slurm:",
}  # fmt: skip
"""Options that would contradict a key of the spec, or the way a job is submitted, and what to write instead."""

_NAME = r"[a-z][a-z0-9-]{1,40}"
_GLUED = r"-[A-Za-z][^=\s]"
_PARTS = r"(?s)([^=\s]*)(\s*=|\s+)?(.*)"
_ON = object()
_DROPPED = object()
_FLAGS = {"true": _ON, "false": _DROPPED, "null": _DROPPED, "~": _DROPPED}
_MAX_VALUE = 4000


def take_all(name: str, *value: str | None) -> None:
    """Judge nothing: whatever is written is passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithPlugins:
    """A judge of native options that knows those of plugins, too; equal ones are one to a cache."""

    judge: Judge
    options: PluginOptions

    def __call__(self, name: str, *value: str | None) -> None:
        """Raise Fault for what neither sbatch nor a plugin takes."""
        mark = dict(self.options).get(name)
        if mark is None:
            self.judge(name, *value)
        elif value and (fault := argument_fault(mark, value[0])):
            raise Fault(f"--{name} {fault}", f"write {name}: {'...' if mark else 'true'}")


def options(own: Mapping[str, str] | None = None, judge: Judge = take_all) -> Schema:
    """Return the schema of native options: a mapping, or a list of them as on the command line.

    `own` names options that this file has keys of its own for, and what to write instead.
    """
    name = _name_reader({**DERIVED, **(own or {})}, judge)

    def value(entry: Any) -> object:  # noqa: ANN401 -- a key and what is written for it
        key, written = entry
        found = _value(written)
        try:
            known = name(key)
        except ValueError:
            return found  # what is wrong with the key is said where it stands
        return _judged(known, found, judge)

    def word_of(text: str) -> tuple[str, object]:
        known, found = _split(text, name)
        return known, _judged(known, found, judge)

    written = word(word_of, longest=_MAX_VALUE)
    keyed = before(lambda found: {key: (key, each) for key, each in found.items()}, table(name, plain(value)))
    pairs = then(keyed, lambda found: tuple(found.items()))
    return then(either(mapping=pairs, list=several(written), text=several(written)), _collected)


def _judged(name: str, value: object, judge: Judge) -> object:
    if value is not _DROPPED:
        judge(name, None if value is _ON else value)
    return value


def _name_reader(derived: Mapping[str, str], judge: Judge) -> Callable[[str], str]:
    """Return a reader of an option's name: `A`, `-A`, `account`, `--account`; `_` counts as `-`."""

    def read(text: str) -> str:
        bare = text.lstrip("-").replace("_", "-")
        name = LONG_NAMES.get(bare, bare)
        if not re.fullmatch(_NAME, name):
            raise Fault(f"{quoted(text)} is no option of sbatch", "write its long name, as in account: ml")
        if name in derived:
            raise Fault(f"--{name} is set by a key of its own or by hybridhpc", derived[name])
        judge(name)
        return name

    return read


def _split(text: str, name: Callable[[str], str]) -> tuple[str, object]:
    """Read `--account=ml`, `--account ml`, `-A ml`, `-Aml`, `account=ml` or `--exclusive`."""
    words = text.strip()
    if re.match(_GLUED, words):
        return name(words[:2]), _value(words[2:])
    parts = re.fullmatch(_PARTS, words)
    key, mark, value = parts.groups() if parts else (words, None, "")
    return name(key), _value(_unquoted(value.strip())) if mark else _ON


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _value(value: Plain) -> object:
    if value is None:
        return _DROPPED
    if not isinstance(value, str):
        raise Fault(f"must be one value, not {kind(value)}")
    if not value.isprintable() or len(value) > _MAX_VALUE:
        raise Fault(f"must be one line of printable text, at most {_MAX_VALUE:,} characters")
    return _FLAGS.get(value.lower(), value)


def _collected(entries: Iterable[tuple[str, Any]]) -> Options:
    kept: dict[str, Any] = {}
    for name, value in entries:
        if name in kept:
            raise Fault(f"--{name} stands twice", "keep one of its spellings")
        kept[name] = value
    return tuple((name, None if value is _ON else value) for name, value in kept.items() if value is not _DROPPED)
