"""Forecasts against what then happened, on a loaded lab: `make forecast-lab`.

`python -m tests.lab.forecast_outcomes [JOBS]` fills the clusters of the lab with made-up jobs of random lengths,
submits half of JOBS (default 60) with `hpc submit` behind them, waits for all, and does so again with the other half,
which can learn from the first. It prints a row for each forecast and what `hpc sites --accuracy` makes of them, and
fails if forecasts are a constant, if p50 = p90 throughout, or if outcomes are missing. Takes about five minutes.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hybridhpc.decide.promise import Outcome
from hybridhpc.ledger.sqlite import SqliteLedger
from hybridhpc.units import format_duration
from tests.lab.install import RefusedError
from tests.lab.lab import Lab
from tests.lab.place import from_environment, is_made
from tests.lab.up import down, find, up
from tests.people import Person

SEED = 20261125
PLACES = {
    "onprem/batch": "gpus: H100:8",
    "onprem/cpu": "cpus: 64",
    "onprem/ada": "gpus: rtx6000ada:4",
    "aws/c7i": "cpus: 96",
    "azure/htc": "cpus: 64",
    "gcp/c2": "cpus: 60",
}
"""Where jobs are sent, and what fills a node there."""
CROWD = {"onprem/batch": 36, "onprem/cpu": 14, "onprem/ada": 9, "aws/c7i": 12, "azure/htc": 12, "gcp/c2": 12}
"""Made-up jobs submitted beforehand, a node each."""
LENGTHS = {"prep": (5, 10), "train": (15, 30), "sweep": (4, 40), "eval": (10, 14)}
"""What the jobs are called and how many seconds they run."""
PATIENCE = 240.0


def main(words: Sequence[str]) -> int:
    """Load the lab, submit, wait, print and judge. Exit status: 0 all well, 1 a fault, 77 no lab."""
    place = from_environment()
    try:
        was_there = is_made(place)
        labs = find(place) if was_there else up(place)
    except RefusedError as refused:
        print(f"no lab: {refused}", file=sys.stderr)
        return 77
    try:
        with tempfile.TemporaryDirectory(prefix="hpc-forecast-", dir="/tmp") as home, _no_limit_per_person(labs):
            return _run({lab.cluster.name: lab for lab in labs}, Path(home), int(words[0]) if words else 60)
    finally:
        if not was_there:
            down(place)


@contextlib.contextmanager
def _no_limit_per_person(labs: Sequence[Lab]) -> Iterator[None]:
    """Let one user be a crowd: the limit of GPUs per person would hold it, and the person's own jobs with it."""
    homes = [lab for lab in labs if lab.cluster.name == "onprem" and lab.cluster.accounting]
    words = ("sacctmgr", "-i", "-Q", "modify", "qos", "normal", "set")
    for lab in homes:
        lab.run(*words, "MaxTRESPerUser=gres/gpu=-1")
    try:
        yield
    finally:
        for lab in homes:
            lab.run(*words, "MaxTRESPerUser=gres/gpu=64")


def _run(labs: Mapping[str, Lab], home: Path, jobs: int) -> int:
    dice = random.Random(SEED)
    places = {place: asks for place, asks in PLACES.items() if place.partition("/")[0] in labs}
    person = Person(home / "person")
    _point(person, labs)
    todo = list(enumerate(_rounds(tuple(places), jobs)))
    for wave in (todo[: jobs // 2], todo[jobs // 2 :]):
        for place in places:
            _crowd(labs[place.partition("/")[0]], place.partition("/")[2], CROWD[place], dice)
        print(f"{sum(CROWD[place] for place in places)} made-up jobs wait; submitting {len(wave)} more", flush=True)
        for number, place in wave:
            _submit(person, number, place, places[place], dice)
        _wait(person)
    outcomes = SqliteLedger(home / "person/state/ledger.sqlite").outcomes()
    print("\n".join(_rows(outcomes)))
    print(person.hpc("sites", "--accuracy"))
    faults = list(_faults(outcomes, jobs))
    print("\n".join(faults) or "all well", flush=True)
    return 1 if faults else 0


def _submit(person: Person, number: int, place: str, asks: str, dice: random.Random) -> None:
    name = dice.choice(tuple(LENGTHS))
    text = f"name: {name}\ntime: 1m\nresources: {{{asks}}}\nrun: sleep {dice.randint(*LENGTHS[name])}\n"
    person.hpc("submit", person.spec(text, f"job-{number}.yaml"), "--where", place, "--again", "--quiet")


def _point(person: Person, labs: Mapping[str, Lab]) -> None:
    """Give the person a site file of each cluster: direct where its Slurm is this machine's, else over ssh."""
    folder = person.home / "config/sites"
    folder.mkdir(parents=True)
    for name, lab in labs.items():
        file = lab.ssh_site_path if lab.cluster.tree else lab.site_path
        (folder / f"{name}.yaml").write_text(file.read_text())


def _rounds(places: Sequence[str], jobs: int) -> Iterator[str]:
    """Yield where each job goes: half of them to the fullest place, the others in turn."""
    for number in range(jobs):
        yield places[0] if number % 2 else places[(number // 2) % len(places)]


def _crowd(lab: Lab, partition: str, jobs: int, dice: random.Random) -> None:
    """Fill a partition with jobs of a node each, by one array per length."""
    for _ in range(3):
        seconds = dice.randint(8, 35)
        words = ("--parsable", f"--partition={partition}", "--exclusive", "--time=1", f"--array=1-{jobs // 3}")
        lab.run("sbatch", *words, "--output=/dev/null", f"--wrap=sleep {seconds}")


def _wait(person: Person) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        states = person.hpc("status", "--json")
        if '"PENDING"' not in states and '"RUNNING"' not in states:
            return
        time.sleep(5)


def _rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"{'place':<14}{'start p50':>10}{'p90':>8}{'came':>8}  {'':<4}{'run p50':>9}{'p90':>8}{'took':>8}"
    for each in reversed(outcomes):
        promise = each.promise
        start = _against(promise.start.p90, each.waited)
        run = _against(promise.run.p90, each.ran)
        spans = [format_duration(value) for value in (promise.start.p50, promise.start.p90)]
        took = [format_duration(value) for value in (promise.run.p50, promise.run.p90)]
        place = f"{promise.site}/{promise.partition}"
        yield f"{place:<14}{spans[0]:>10}{spans[1]:>8}{start}{took[0]:>9}{took[1]:>8}{run}".rstrip()


def _against(p90: float, seen: float | None) -> str:
    if seen is None:
        return f"{'-':>8}  {'':<4}"
    return f"{format_duration(seen):>8}  {'' if seen <= p90 else 'late':<4}"


def _faults(outcomes: Sequence[Outcome], jobs: int) -> Iterator[str]:
    met = [each for each in outcomes if each.waited is not None]
    if len(met) < 0.9 * jobs:
        yield f"only {len(met)} of {jobs} forecasts met their outcome"
    for what in ("start", "run"):
        spans = [getattr(each.promise, what) for each in met]
        if len({(span.p50, span.p90) for span in spans}) < 5:
            yield f"the forecast of the {what} is a constant"
        if all(span.p50 == span.p90 for span in spans):
            yield f"p50 = p90 throughout for the {what}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
