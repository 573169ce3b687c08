"""Who may run a job for reasons of place: labels, comparisons, residency, accounts. Checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridhpc.decide.route import candidates_that_fit, decide
from hybridhpc.errors import NoCandidate, Unheard
from hybridhpc.model import Bind, Mebibytes, Script, Work
from hybridhpc.planning import Planned
from hybridhpc.schedulers.slurm_options import directives
from hybridhpc.sites.site import Partition
from hybridhpc.sites.snapshot import Silence
from tests.worlds.stage import NOW, native, nodes, price, site, snapshot, spec

GIB = 1024


def world():
    """A lab and an institute at home, a cloud, and a lab's partition that buys its nodes."""
    lab = site("lab", labels=("eu",), gpu_memory=(("H100", Mebibytes(80 * GIB)),))
    bursting = replace(lab, partitions=(*lab.partitions, Partition(name="burst", purchase="on-demand")))
    institute = site("institute", labels=("us",), gpu_memory=(("A100", Mebibytes(40 * GIB)),))
    aws = site("aws", provider="aws", labels=("eu",), cost=price(per_gpu=6.0))
    seen = snapshot("lab", (*nodes(2), *nodes(2, prefix="b", partitions=("burst",))))
    seen = replace(seen, partitions=(*seen.partitions, replace(seen.partitions[0], name="burst")))
    return (
        (bursting, seen),
        (institute, snapshot("institute", nodes(2, kind="a100"))),
        (aws, snapshot("aws", nodes(2))),
    )


def admitted(job):
    found = decide(job, world(), now=NOW)
    return {choice.candidate.name for choice in found.choices if choice.refused is None}


ANY = {"gpus": ("H100:8", "A100:8")}
LAB, BURST, INSTITUTE, AWS = "lab/gpu", "lab/burst/on-demand", "institute/gpu", "aws/gpu"


@pytest.mark.parametrize(
    ("where", "who"),
    [
        (("auto",), {LAB, BURST, INSTITUTE, AWS}),
        (("lab",), {LAB, BURST}),
        (("lab/gpu", "aws"), {LAB, AWS}),
        (("cloud",), {BURST, AWS}),
        (("onprem",), {LAB, INSTITUTE}),
        (("eu",), {LAB, BURST, AWS}),
        (("eu", "!cloud"), {LAB}),
        (("auto", "!lab/burst"), {LAB, INSTITUTE, AWS}),
        (("!us",), {LAB, BURST, AWS}),
        (("gpu-memory>=80GiB",), {LAB, BURST}),
        (("onprem", "gpu-memory<80GiB"), {INSTITUTE}),
    ],
)
def test_where_admits(where, who):
    assert admitted(spec(where=where, **ANY)) == who


def reason(job, name, extra=()):
    found = decide(job, [*world(), *extra], now=NOW)
    return next(choice for choice in found.choices if choice.candidate.name == name and choice.refused)


def test_a_refusal_by_a_comparison_has_the_figure_or_says_that_there_is_none():
    job = spec(where=("gpu-memory>=80GiB",), gpus=("A100:8",))
    assert "gpu-memory>=80GiB: A100 has 40GiB" in reason(job, INSTITUTE).refused
    unknown = reason(spec(where=("gpu-memory>=80GiB",)), AWS)
    assert unknown.refused == "gpu-memory>=80GiB: the site file of aws does not say so of H100"
    assert unknown.would_admit == "`gpu_memory: {H100: 80GiB}` in the site file, if that is so"


def test_data_that_may_not_leave_stay_and_where_cannot_change_that():
    assert admitted(spec(residency="onprem", **ANY)) == {LAB, INSTITUTE}
    assert admitted(spec(residency="eu", **ANY)) == {LAB, BURST, AWS}
    assert admitted(spec(residency="onprem", where=("aws", "lab"), **ANY)) == {LAB}
    cloud = reason(spec(residency="onprem", where=("aws",)), AWS)
    assert cloud.refused == "its data may not leave (residency: onprem), and aws/gpu is cloud"
    label = reason(spec(residency="eu", gpus=("A100:8",)), INSTITUTE)
    assert label.refused == "its data may not leave (residency: eu), and institute has no label eu"


@pytest.mark.parametrize(
    "payload",
    [
        Work(run="python train.py --data /data/patients/2026"),
        Work(run="x", binds=(Bind(source="/data/patients", target="/data"),)),
        Work(run="x", workdir="/data/patients/code"),
        Work(run="x", env=(("DATA", "/data/patients"),)),
        Script(content=b"#!/bin/sh\ncat '/data/patients'/a\n", path="/home/a/j.sbatch"),
    ],
)
def test_a_job_that_names_data_which_a_site_keeps_runs_only_there(payload):
    (lab, seen), *others = world()
    keeping = (replace(lab, resident_data=("/data/patients",)), seen)
    job = replace(spec(**ANY), payload=payload)
    found = decide(job, [keeping, *others], now=NOW)
    assert {choice.candidate.site.name for choice in found.choices if choice.refused is None} == {"lab"}
    assert {candidate.site.name for candidate in candidates_that_fit(job, [keeping, *others])} == {"lab"}
    aws = next(choice for choice in found.choices if choice.candidate.site.name == "aws")
    assert "it names /data/patients, whose data may not leave lab (resident_data)" in aws.refused
    harmless = replace(job, payload=Work(run="ls /data/patients-public /mnt/data/patients"))
    free = decide(harmless, [keeping, *others], now=NOW)
    assert any(choice.candidate.site.name == "aws" and choice.refused is None for choice in free.choices)


def test_a_partition_s_own_account_counts_before_the_site_s():
    lab = site("lab", account="gen")
    listed = replace(lab.partitions[0], account="ml", qos="high")
    place = replace(lab, partitions=(listed,))
    closed = snapshot("lab", nodes(1), allowed_accounts=("ml",), allowed_qos=("high",))
    assert decide(spec(), [(place, closed)], now=NOW).winner is not None
    assert decide(spec(), [(lab, closed)], now=NOW).winner is None
    assert {"--account=ml", "--qos=high"} <= set(directives(spec(), place, "gpu", None))
    assert "--account=gen" in directives(spec(), lab, "gpu", None)


def test_a_script_that_names_what_only_one_site_has_is_refused_at_each_other_with_the_reason():
    home = site("home"), snapshot("home", nodes(2, features=("ib",)), allowed_accounts=("ml",))
    mapped = (
        site("mapped", names=(("account", "ml", "proj-42"), ("constraint", "ib", "efa"))),
        snapshot("mapped", nodes(2, features=("efa",)), allowed_accounts=("proj-42",)),
    )
    foreign = site("foreign"), snapshot("foreign", nodes(2), allowed_accounts=("other",))
    job = spec(script=True, native=native(account="ml", constraint="ib"))
    found = {c.candidate.site.name: c for c in decide(job, [home, mapped, foreign], now=NOW).choices}
    assert found["home"].refused is None and found["mapped"].refused is None
    assert "account ml may not use partition gpu (it admits other)" in found["foreign"].refused
    assert "partition gpu has no node with constraint ib" in found["foreign"].refused
    reserved = spec(script=True, native=native(reservation="course", licenses="matlab"))
    said = {c.candidate.site.name: c for c in decide(reserved, [home, foreign], now=NOW).choices}
    for name in ("home", "foreign"):
        assert f"nothing says that {name} has reservation course" in said[name].refused
        assert f"nothing says that {name} has licences matlab" in said[name].refused
    assert decide(replace(reserved, where=("home",)), [home, foreign], now=NOW).winner.candidate.site.name == "home"


MUTE = Silence(site="aws", why="gave no answer within 10 s")


@pytest.mark.parametrize(
    ("job", "unheard"),
    [
        (spec(count=9), ("aws",)),
        (spec(count=9, where=("aws",)), ("aws",)),
        (spec(count=9, where=("aws/gpu",)), ("aws",)),
        (spec(count=9, where=("cloud",)), ("aws",)),
        (spec(count=9, where=("eu", "gpu-memory>=80GiB")), ("aws",)),
        (spec(count=9, where=("lab",)), ()),
        (spec(count=9, where=("onprem",)), ()),
        (spec(count=9, where=("!aws",)), ()),
        (spec(count=9, where=("auto", "!cloud")), ()),
        (spec(count=9, residency="onprem"), ()),
    ],
)
def test_a_site_that_gave_no_answer_and_might_do_is_not_a_site_where_nothing_fits(job, unheard):
    lab, institute, (aws, _) = world()
    ranking = decide(job, (lab, institute, (aws, MUTE)), now=NOW)
    assert ranking.unheard == unheard
    with pytest.raises(Unheard if unheard else NoCandidate) as told:
        Planned(ranking=ranking, plans=()).chosen()
    assert told.value.exit_code == (6 if unheard else 5)


def test_a_site_that_was_not_asked_on_purpose_or_holds_none_of_the_data_would_not_do():
    lab, _, (aws, _) = world()
    unasked = replace(MUTE, asked=False)
    assert decide(spec(count=9), (lab, (aws, unasked)), now=NOW).unheard == ()
    keeper = (replace(lab[0], resident_data=("/patients",)), lab[1])
    reads = replace(spec(count=9), payload=Work(run="cat /patients/x"))
    assert decide(reads, (keeper, (aws, MUTE)), now=NOW).unheard == ()
    only = replace(aws, only_listed=True)
    assert decide(spec(count=9, where=("aws/other",)), (lab, (only, MUTE)), now=NOW).unheard == ()


def test_the_words_tell_who_answered_and_who_did_not():
    lab, _, (aws, _) = world()
    with pytest.raises(Unheard) as told:
        Planned(ranking=decide(spec(count=9), (lab, (aws, MUTE)), now=NOW), plans=()).chosen()
    assert told.value.message.startswith("no site that answered can run this job, and aws could not be asked\n")
    with pytest.raises(Unheard) as told:
        Planned(ranking=decide(spec(), ((aws, MUTE),), now=NOW), plans=()).chosen()
    assert told.value.message.startswith("aws could not be asked\n")


def test_the_least_change_is_named_with_its_place():
    with pytest.raises(NoCandidate) as told:
        Planned(ranking=decide(spec(count=3, where=("cloud", "institute")), world(), now=NOW), plans=()).chosen()
    assert told.value.hint == "it would fit at aws/gpu with nodes: 2"
