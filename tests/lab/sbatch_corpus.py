"""Generated sbatch scripts for differential tests: every option, every way to write it, and what goes wrong."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.lab.sbatch_samples import FLAG, NEEDS, ODDITIES, OPTIONAL, PRECEDENCE, SAMPLES, SHORT, VARIABLE, directives


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One submission: the bytes of a script, the options on its command line, and the SBATCH_ variables around it."""

    name: str
    script: bytes
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def scripts(seed: int, count: int) -> Iterator[Case]:
    """Yield `count` cases, always the same for one seed: each option once, each oddity once, then mixtures."""
    rng = random.Random(seed)
    makers: list[Callable[[], Case]] = [
        *(lambda name=name: _one_option(rng, name) for name in SAMPLES),
        *(lambda name=name: Case(name=f"oddity {name}", script=ODDITIES[name]) for name in ODDITIES),
        *(lambda name=name: _precedence(name) for name in PRECEDENCE),
    ]
    for number in range(count):
        case = makers[number]() if number < len(makers) else _mixture(rng, number)
        yield Case(name=f"{number:03} {case.name}", script=case.script, flags=case.flags, environment=case.environment)


def _precedence(name: str) -> Case:
    script, flags, environment = PRECEDENCE[name]
    return Case(name=f"precedence {name}", script=script, flags=flags, environment=environment)


def _one_option(rng: random.Random, name: str) -> Case:
    value = rng.choice(SAMPLES[name])
    needed = [NEEDS[name]] if name in NEEDS else []
    ways = ["script", "script", "script", "flag"] + ["variable"] * (name in VARIABLE)
    way = rng.choice(ways)
    if way == "flag":
        words = (*needed, *_words(rng, name, value))
        return Case(name=f"--{name} as a flag", script=directives(), flags=words)
    if way == "variable":
        said = {VARIABLE[name]: "" if value is FLAG else value or ""}
        return Case(name=f"--{name} in the environment", script=directives(*needed), environment=said)
    line = " ".join((*needed, *(_quoted(rng, word) for word in _words(rng, name, value))))
    return Case(name=f"--{name} in the script", script=directives(line))


def _words(rng: random.Random, name: str, value: str | None) -> tuple[str, ...]:
    """Write an option in one of the ways getopt_long knows."""
    long = f"--{_abbreviated(rng, name)}"
    letter = SHORT.get(name)
    if value is FLAG:
        return rng.choice([(long,), (f"-{letter}",) if letter else (long,)])
    if name in OPTIONAL:
        return rng.choice([(f"{long}={value}",), (f"-{letter}{value}",) if letter else (f"{long}={value}",)])
    ways: list[tuple[str, ...]] = [(f"{long}={value}",), (long, value)]
    if letter:
        ways += [(f"-{letter}", value), *([(f"-{letter}{value}",)] if value else [])]
    return rng.choice(ways)


def _abbreviated(rng: random.Random, name: str) -> str:
    """Cut a name now and then; whether that is still unambiguous is for sbatch to say."""
    return name if rng.random() < 0.8 or len(name) < 5 else name[: rng.randint(len(name) - 2, len(name))]


def _quoted(rng: random.Random, word: str) -> str:
    """Write a word so that sbatch reads it back: bare where it may be, in either quotes, or escaped."""
    plain = word and not set(word) & set(" \t#\"'\\") and not word.startswith(":")
    double = '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    single = "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return rng.choice([double, single] + [word] * 4 * bool(plain))


_SHAPE = (
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "cpus-per-task",
    "mem",
    "mem-per-cpu",
    "gres",
    "gpus",
    "gpus-per-node",
    "time",
    "array",
    "job-name",
    "partition",
    "comment",
    "exclusive",
    "time-min",
    "no-requeue",
    "hold",
    "mincpus",
)


def _mixture(rng: random.Random, number: int) -> Case:
    """A plausible script: some options that shape a job on some lines, now and then overridden from outside."""
    names = rng.sample(_SHAPE, rng.randint(2, 6))
    lines, words = [], []
    for name in names:
        line = " ".join(_quoted(rng, word) for word in _words(rng, name, rng.choice(SAMPLES[name])))
        words.append(line)
        if rng.random() < 0.7:
            lines.append(" ".join(words) + rng.choice(["", "", " # why", "   "]))
            words = []
    lines += [" ".join(words)] if words else []
    over = rng.choice(names)
    flags = _words(rng, over, rng.choice(SAMPLES[over])) if rng.random() < 0.25 else ()
    variable = rng.choice([name for name in names if name in VARIABLE] or [""])
    environment = {}
    if variable and rng.random() < 0.25:
        environment[VARIABLE[variable]] = rng.choice(SAMPLES[variable]) or ""
    return Case(name=f"mixture {number}", script=directives(*lines), flags=flags, environment=environment)
