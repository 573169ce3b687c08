"""What is said to admit a job admits it: typed into the spec or given to hpc, and read again."""

from __future__ import annotations

import re
from dataclasses import replace

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybridhpc.decide.route import decide
from hybridhpc.model import Seconds
from hybridhpc.sites.site import Partition
from hybridhpc.sites.snapshot import QueuePartition, Snapshot
from hybridhpc.spec.flags import parse_where
from hybridhpc.spec.read import read_script
from hybridhpc.spec.yaml import parse_spec
from tests.worlds.stage import DAY, HOUR, NOW, nodes, price, site

laws = settings(max_examples=300, deadline=None)
COUNTS = st.integers(1, 9)
SMALL = st.integers(1, 20)


@st.composite
def worlds(draw):
    """A site with two partitions, each of nodes of up to three makes, some of them down, with limits."""
    found = []
    for name in ("batch", "gpu"):
        for make in range(draw(st.integers(1, 3))):
            found += nodes(
                draw(st.integers(1, 4)),
                prefix=f"{name}{make}",
                partitions=(name,),
                cpus=draw(SMALL),
                memory=1000 * draw(SMALL),
                gpus=draw(st.integers(0, 8)),
                kind=draw(st.sampled_from(["h100", "a100"])),
                usable=draw(st.sampled_from([True, True, True, False])),
            )
    partitions = tuple(
        QueuePartition(
            name=name,
            max_walltime=draw(st.sampled_from([None, Seconds(HOUR), Seconds(90 * 60), Seconds(3 * DAY)])),
            max_nodes=draw(st.none() | st.integers(1, 6)),
            allowed_accounts=draw(st.sampled_from([(), ("ml", "bio")])),
        )
        for name in ("batch", "gpu")
    )
    cost = price(per_gpu=draw(st.sampled_from([0.0, 2.0])), per_node=draw(st.sampled_from([0.0, 1.337])))
    here = site("lab", cost=cost, labels=("eu",))
    listed = tuple(Partition(name=name, price=cost) for name in ("batch", "gpu"))
    seen = Snapshot(site="lab", taken_at=NOW, partitions=partitions, nodes=tuple(found), max_array_size=20)
    return type(here)(name="lab", file="lab.yaml", scheduler="slurm", transport="local", partitions=listed), seen


specs = st.fixed_dictionaries(
    {"run": st.just("x"), "nodes": COUNTS, "time": st.sampled_from(["30m", "2h", "5d"])},
    optional={
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "gpus": st.sampled_from(["8", "16", "H100:4", "A100:9", "v100:1", ["H100:8", "A100:2"]]),
                "cpus": st.integers(1, 25),
                "memory": st.integers(1, 25000).map("{}MiB".format),
            },
        ),
        "slurm": st.sampled_from([{"account": "ml"}, {"account": "hep"}]),
        "where": st.sampled_from(["lab", "lab/gpu", "cloud", ["!lab/batch"], ["onprem", "!lab"]]),
        "goal": st.integers(1, 500).map(lambda usd: {"max_cost": f"{usd} USD"}),
        "array": st.sampled_from(["0-4", "0-30"]),
    },
)


def parsed(written):
    return parse_spec(yaml.safe_dump(written).encode(), "/home/a/job.yaml", now=NOW)


def changes(words):
    """Take what is said apart; what is no key and no option (a line of a site file) is not tried here."""
    parts = [part.removesuffix(" or less").removesuffix(" or fewer") for part in words.split(" and ")]
    assume(not any("site file" in part for part in parts))
    return parts


def typed(written, part):
    """Type one change into a spec, as a person would; return the spec and the flag."""
    if part.startswith("--where="):
        return written, part.removeprefix("--where=")
    if part.endswith(" in where"):
        left_out = part.removesuffix(" in where").split("no ")[1:]
        where = written["where"] if isinstance(written["where"], list) else [written["where"]]
        return {**written, "where": [each for each in where if each not in left_out] or "auto"}, None
    if match := re.fullmatch(r"array indices up to (\d+)", part):
        return {**written, "array": f"0-{match[1]}"}, None
    ((key, value),) = yaml.safe_load(part).items()
    if key == "max_cost":
        return {**written, "goal": {"max_cost": value}}, None
    if key == "slurm":
        ((name, names),) = value.items()
        return {**written, "slurm": {**written.get("slurm", {}), name: names.split(" or ")[0]}}, None
    if key in ("gpus", "cpus", "memory"):
        return {**written, "resources": {**written.get("resources", {}), key: str(value)}}, None
    return {**written, key: value}, None


@laws
@given(worlds(), specs)
def test_a_spec_with_the_change_typed_into_it_is_admitted_there(world, written):
    for choice in decide(parsed(written), [world], now=NOW).choices:
        if not choice.would_admit:
            continue
        changed, flag = written, None
        for part in changes(choice.would_admit):
            changed, given_flag = typed(changed, part)
            flag = given_flag or flag
        spec = parsed(changed)
        spec = replace(spec, where=parse_where(flag, "--where")) if flag else spec
        again = decide(spec, [world], now=NOW).choices
        here = [each for each in again if each.candidate.name == choice.candidate.name]
        reasons = [each.refused for each in here]
        # A ceiling is judged last, when all else fits.
        assert any(not reason or reason.startswith("may cost") for reason in reasons), (choice.would_admit, reasons)


@laws
@given(worlds(), specs, st.sampled_from(["nodes", "cpus", "memory"]))
def test_a_single_figure_is_the_largest_that_is_admitted(world, written, what):
    for choice in decide(parsed(written), [world], now=NOW).choices:
        match = re.fullmatch(rf"{what}: (\d+)(MiB)?( or \w+)?", choice.would_admit or "")
        if not match or isinstance(written.get("resources", {}).get("gpus"), list):
            continue
        more, _ = typed(written, f"{what}: {int(match[1]) + 1}{match[2] or ''}")
        again = decide(parsed(more), [world], now=NOW).choices
        assert all(each.refused for each in again if each.candidate == choice.candidate), choice.would_admit


OPTIONS = st.fixed_dictionaries(
    {"--time": st.sampled_from(["30", "2:00:00", "5-0"])},
    optional={
        "--nodes": COUNTS,
        "--ntasks": st.integers(1, 30),
        "--ntasks-per-node": SMALL,
        "--cpus-per-task": st.integers(1, 25),
        "--mem": st.integers(1, 25000).map("{}M".format),
        "--mem-per-cpu": st.integers(1, 3000).map("{}M".format),
        "--gpus-per-node": st.sampled_from(["8", "h100:4", "a100:9", "v100:1"]),
        "--gres": st.sampled_from(["gpu:9", "gpu:h100:3", "gpu:2,licence:1"]),
        "--gpus": st.sampled_from(["3", "h100:20"]),
        "--partition": st.sampled_from(["gpu", "gpu,batch", "other"]),
        "--account": st.sampled_from(["ml", "hep"]),
        "--array": st.sampled_from(["0-4", "0-30"]),
    },
)


def read(given_options, flags):
    lines = [f"#SBATCH {option}={value}" for option, value in given_options.items()]
    return read_script("\n".join(["#!/bin/sh", *lines, "x"]).encode(), "/home/a/job.sbatch", flags=flags, env={})


@laws
@given(worlds(), OPTIONS)
def test_a_script_with_the_options_added_to_the_command_is_admitted_there(world, given_options):
    assume(not {"--mem", "--mem-per-cpu"} <= set(given_options))
    assume(not {"--gres", "--gpus-per-node"} <= set(given_options))
    try:
        spec = read(given_options, ())
    except Exception:  # sbatch itself refuses such a script
        assume(False)
    for choice in decide(spec, [world], now=NOW).choices:
        if not choice.would_admit:
            continue
        parts = changes(choice.would_admit)
        flags = [part.split(" or ")[0] for part in parts if part.startswith("--")]
        flags += [f"--array=0-{part.rpartition(' ')[2]}" for part in parts if part.startswith("array indices")]
        assert len(flags) == len(parts), choice.would_admit
        again = decide(read(given_options, flags), [world], now=NOW).choices
        reasons = [each.refused for each in again if each.candidate.name == choice.candidate.name]
        assert None in reasons, (choice.would_admit, reasons)
