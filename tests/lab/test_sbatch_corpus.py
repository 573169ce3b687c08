"""The reader of sbatch scripts against the real sbatch: generated scripts, submitted held, and what became of them."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybridhpc.errors import SpecError
from hybridhpc.spec.sbatch import merge, parse_flags, parse_script
from hybridhpc.spec.sbatch_routing import RoutingView, routing
from hybridhpc.spec.sbatch_values import parse_array, parse_gres, parse_memory, parse_time
from tests.lab.lab import Lab
from tests.lab.sbatch_corpus import Case, scripts

pytestmark = pytest.mark.lab

COUNT = 360
BY_THE_SITE = re.compile(
    r"Batch job submission failed|Invalid generic resource|Invalid Trackable RESource|Invalid GRES specification"
    r"|Invalid --nodefile|with Arbitrary distribution"
)
"""sbatch took the script; what was asked cannot be had here, or does not add up."""
BY_ITS_FORM = re.compile(r"Invalid job array specification")
"""The controller's to say, but of the form: we say it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What sbatch did with a case: its error, or the job's components as scontrol shows them."""

    case: Case
    error: str = ""
    shown: tuple[str, ...] = ()

    @property
    def refused_by_form(self) -> bool:
        return bool(self.error) and (not BY_THE_SITE.search(self.error) or bool(BY_ITS_FORM.search(self.error)))


@pytest.fixture(scope="module")
def outcomes(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Outcome]]:
    """Submit every case held with plain sbatch, look at the jobs, and cancel them by their ids."""
    directory = tmp_path_factory.mktemp("corpus")
    jobs: list[str] = []
    found = []
    for case in scripts(20261120, COUNT):
        done = submit(lab, case, directory)
        if done.returncode:
            found.append(Outcome(case=case, error=done.stderr.decode(errors="replace")))
            continue
        jobs.append(done.stdout.decode().strip().partition(";")[0])
        shown = lab.run("scontrol", "show", "job", jobs[-1])
        found.append(Outcome(case=case, shown=tuple(part for part in shown.split("\n\n") if part.strip())))
    yield found
    lab.run("scancel", *jobs)


def submit(lab: Lab, case: Case, directory: Path) -> subprocess.CompletedProcess[bytes]:
    script = Path(directory, "script.sh")
    script.write_bytes(case.script)
    argv = ["sbatch", "--hold", "--parsable", *case.flags, str(script)]
    return subprocess.run(
        argv, cwd=directory, env={**lab.environment(), **case.environment}, capture_output=True, timeout=60
    )


def asked_of(case: Case, version: str) -> list[tuple[RoutingView, dict[str, str]]]:
    """Return what each component asks for: as it is routed by, and its options by their names."""
    script = parse_script(case.script, "/somewhere/script.sh", version=version)
    flags = parse_flags(case.flags, version=version)
    merged = merge(script, flags=flags, environment=case.environment, version=version)
    return [(routing(options, script), {one.name: one.value or "" for one in options}) for options in merged]


def refusal(case: Case, version: str) -> str:
    try:
        asked_of(case, version)
    except SpecError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def version(lab: Lab) -> str:
    return lab.run("sbatch", "--version")


def test_the_corpus_is_worth_its_name(outcomes: list[Outcome]) -> None:
    assert len(outcomes) >= 300
    assert sum(outcome.refused_by_form for outcome in outcomes) >= 40
    assert sum(bool(outcome.shown) for outcome in outcomes) >= 200


def test_a_script_is_refused_if_and_only_if_sbatch_refuses_its_form(outcomes: list[Outcome], version: str) -> None:
    wrong = []
    for outcome in outcomes:
        ours = refusal(outcome.case, version)
        if outcome.refused_by_form and not ours:
            wrong.append(f"{outcome.case}: sbatch refuses: {outcome.error}")
        if outcome.shown and ours:
            wrong.append(f"{outcome.case}: sbatch takes it, we say: {ours}")
    assert not wrong, "\n".join(wrong)


def test_without_a_version_nothing_that_this_sbatch_takes_is_refused(outcomes: list[Outcome]) -> None:
    wrong = []
    for outcome in outcomes:
        try:
            script = parse_script(outcome.case.script, "/somewhere/script.sh")
            merge(script, flags=parse_flags(outcome.case.flags), environment=outcome.case.environment)
        except SpecError as error:
            wrong += [f"{outcome.case}: {error}"] if outcome.shown else []
    assert not wrong, "\n".join(wrong)


def test_the_routing_view_says_what_scontrol_says(outcomes: list[Outcome], version: str) -> None:
    wrong = []
    for outcome in outcomes:
        if not outcome.shown:
            continue
        seen = asked_of(outcome.case, version)
        assert len(seen) == len(outcome.shown), outcome.case
        if any("not counted" in why for view, _ in seen for why in view.approximate):
            continue
        for (view, asked), text in zip(seen, outcome.shown, strict=True):
            pairs = [(name, *pair) for name, pair in compared(view, asked, text).items()]
            wrong += [
                f"{outcome.case}: {name}: {ours!r} != {theirs!r}" for name, ours, theirs in pairs if ours != theirs
            ]
    assert not wrong, "\n".join(wrong)


def compared(view: RoutingView, asked: Mapping[str, str], text: str) -> dict[str, tuple[object, object]]:
    """Pair what we read with what scontrol shows, field by field, for what can be compared."""
    shown = fields(text)
    pairs: dict[str, tuple[object, object]] = {
        "JobName": (view.name, shown["JobName"]),
        "TimeLimit": (
            3600 if view.walltime is None and not view.unlimited else view.walltime,
            limit(shown["TimeLimit"]),
        ),
        "TimeMin": (limit(asked.get("time-min", "N/A")), limit(shown["TimeMin"])),
        "Partition": (view.native.partition or "batch", shown["Partition"]),
        "Account": (view.native.account, shown.get("Account")),
        "Features": (view.native.constraint, shown.get("Features")),
        "Licenses": (view.native.licenses, shown.get("Licenses")),
        "Comment": (asked.get("comment") or None, shown.get("Comment")),
        "Dependency": (asked.get("dependency") or None, (shown.get("Dependency") or "").partition("(")[0] or None),
        "OverSubscribe": (view.exclusive, EXCLUSIVE.get(shown["OverSubscribe"])),
        "array": (parse_array(asked.get("array", "")), parse_array(shown.get("ArrayTaskId", ""))),
        "throttle": (view.array.throttle or 0 if view.array else 0, int(shown.get("ArrayTaskThrottle", "0"))),
        "Requeue": ("no-requeue" not in asked, shown["Requeue"] == "1"),
        "gpus": (gpus_of(view), gpus_shown(shown, view)),
        "memory": (memory_of(view, asked), memory_shown(shown)),
        "MinCPUsNode": (True, view.cpus >= int(shown["MinCPUsNode"])),
    }
    if shown["NumNodes"] != "0":
        pairs["NumTasks"] = (view.tasks, int(shown["NumTasks"]))
    if view.chdir and view.chdir.startswith("/"):
        pairs["WorkDir"] = (view.chdir, shown["WorkDir"])
    if view.output and view.output.startswith("/"):
        pairs["StdOut"] = (view.output, shown["StdOut"])
    if view.most_nodes is not None:
        least, most = nodes_shown(shown)
        pairs["most nodes"] = (view.most_nodes, most)
        # Of a range scontrol shows an estimate, which may lie higher than the least that was asked for.
        exact = view.nodes == view.most_nodes
        pairs["least nodes"] = (view.nodes, least if exact else min(view.nodes, least))
    return pairs


EXCLUSIVE = {"NO": "exclusive", "USER": "user", "MCS": "mcs"}


def fields(text: str) -> dict[str, str]:
    """Read `scontrol show job`: one value to a line where it may hold spaces."""
    whole = re.findall(
        r"^\s*(JobName|Comment|WorkDir|StdOut|StdErr)=(.*?) ?$", text.replace(" JobName=", "\n JobName="), re.M
    )
    several = re.findall(r"(\S+?)=(\S*)", text)
    found = dict(several) | dict(whole)
    return {name: value for name, value in found.items() if value not in ("(null)", "")}


def limit(text: str) -> int | None:
    return None if text == "N/A" else parse_time(text)


def nodes_shown(shown: dict[str, str]) -> tuple[int, int]:
    least, _, most = shown["NumNodes"].partition("-")
    return max(1, int(least)), max(1, int(most or least))


def gpus_of(view: RoutingView) -> tuple[int, frozenset[str | None]]:
    return view.total_gpus, frozenset(kind for kind, _ in view.gpus)


def gpus_shown(shown: dict[str, str], view: RoutingView) -> tuple[int, frozenset[str | None]]:
    """Work out GPUs in all from Slurm's own words for the request."""
    times = {"TresPerJob": 1, "TresPerNode": view.nodes, "TresPerSocket": view.nodes * 2, "TresPerTask": view.tasks}
    for name, factor in times.items():
        asked = parse_gres(shown[name]) if name in shown else ()
        gpus = [gpu for gpu in asked if gpu.name == "gpu" and gpu.count]
        if gpus:
            return sum(gpu.count for gpu in gpus) * factor, frozenset(gpu.kind for gpu in gpus)
    return view.total_gpus if "NtasksPerTRES:" in shown else 0, frozenset(kind for kind, _ in view.gpus if not asked)


def memory_of(view: RoutingView, asked: Mapping[str, str]) -> tuple[str, int]:
    for kind in ("gpu", "cpu"):
        if amount := parse_memory(asked.get(f"mem-per-{kind}", "0")):
            return kind, amount
    return ("cpu", 1000) if view.memory is None and "mem" not in asked else ("node", view.memory or 0)


def memory_shown(shown: dict[str, str]) -> tuple[str, int]:
    if "MemPerTres" in shown:
        return "gpu", int(shown["MemPerTres"].rpartition(":")[2])
    if "MinMemoryCPU" in shown:
        return "cpu", parse_memory(shown["MinMemoryCPU"])
    return "node", parse_memory(shown["MinMemoryNode"])
