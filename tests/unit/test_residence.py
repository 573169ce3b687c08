"""Which data that may not leave a job names: however it is spelled, and in doubt it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.decide.residence import leaves, led_to, resident
from hybridhpc.model import Bind, Checkpoint, Script, Work
from hybridhpc.points import Points
from tests.worlds.stage import site, spec

LAB, CLOUD = site("lab", resident_data=("/data//patients/",)), site("cloud")


def names(payload, *directories):
    keeper = replace(LAB, resident_data=directories or LAB.resident_data)
    return bool(leaves(resident(replace(spec(), payload=payload), [keeper, CLOUD]), CLOUD))


@pytest.mark.parametrize(
    "run",
    [
        "cat /data/patients/1",
        "cat /data//patients",
        "cat /data/./patients/",
        "cat /data/public/../patients/1",
        "cat //data/patients/1",
        "cat '/data/'patients/1",
        "cat /data/pat\\ients/1",
        "cat /data/pat*/1",
        "cat /data/patient?/1",
        "cat /data/{public,patients}/1",
        "cat /{tmp,data}/patients/1",
        "cat /data/$COHORT/1",
        "cat ${ROOT}/patients/1",
        "cat $ROOT/data/patients/1",
        "cat ../../data/patients/1",
        "cd /data && cat patients/1",
        "tar -C/data/patients -c .",
        "train --in=/data/patients",
        "curl -T@/data/patients/1",
        "rsync lab:/data/patients/ .",
        "cat file:///data/patients/1",
        "python -c 'open(\"/data/patients/1\")'",
        "A=/data/patients:/x",
    ],
)
def test_a_spelling_that_may_mean_the_data_names_it(run):
    assert names(Work(run=run))


@pytest.mark.parametrize(
    "run",
    [
        "cat /data/patients-public /data/patient /mnt/data/patients x/data/patients",
        "cat /data/patients/../public",
        "cat $ROOT/public/patients $HPC_JOB_DIR/patients $TMPDIR/patients ~/patients",
        "cat /data/$USER",
        "awk '/patients/ {print $1 / 2}' /database /",
        "[[ $x =~ ^data$ ]] && cd",
    ],
)
def test_what_cannot_be_the_data_goes_anywhere(run):
    assert not names(Work(run=run))


@pytest.mark.parametrize(
    "run",
    [
        "cat ~/study/1",
        "cat $HOME/study",
        "cat ${HOME}/x/../study",
        "cp -r ~ /tmp",
        "cat ~ann/study",
        "cat /home/$USER/study",
    ],
)
def test_a_home_is_whoever_s_it_may_be(run):
    assert names(Work(run=run), "/home/ann/study")
    assert not names(Work(run="cat ~/other $HOME/studying"), "/home/ann/study")


@pytest.mark.parametrize(
    "payload",
    [
        Work(run="x", binds=(Bind(source="/data", target="/d"),)),
        Work(run="x", binds=(Bind(source="/", target="/host"),)),
        Work(run="x", workdir="/data/patients/run"),
        Work(run="x", workdir="/data"),
        Work(run="x", env=(("IN", "/data/patients"),)),
        Work(run="x", slurm=(("bbf", "/data/patients/bb"),)),
        Work(run="x", checkpoint=Checkpoint(directory="/data/patients/ckpt")),
        Script(content=b"#!/bin/sh\ncat $1\n", path="/a", args=("/data/x/../patients/1",)),
        Script(content=b"#!/bin/sh\n#SBATCH -D /data/patients\n", path="/a"),
    ],
)
def test_all_that_a_job_is_given_counts(payload):
    assert names(payload)


def test_values_of_a_sweep_count():
    job = replace(spec(), payload=Work(run="cat $FILE"), points=Points(names=("FILE",), rows=(("/data/patients/1",),)))
    assert resident(job, [LAB])


def test_the_words_name_what_was_written():
    job = replace(spec(), payload=Work(run="cat /data/$COHORT/1"))
    said = leaves(resident(job, [LAB, CLOUD]), CLOUD)
    assert said.startswith(
        "it names /data/$COHORT/1, which may be in or around /data/patients, whose data may not leave lab"
    )
    assert leaves(resident(job, [LAB, CLOUD]), LAB) == ""


def test_links_and_the_home_of_this_machine_are_followed():
    links = {"/home/ann/mine/run": "/gpfs/7/patients/run", "/data/patients": "/gpfs/7/patients"}
    real = lambda path: links.get(path, path)  # noqa: E731
    for run in ("cat ~/mine/run", "cat /home/ann/mine/run", "cat /gpfs/7/patients/3"):
        job = replace(spec(), payload=Work(run=run))
        assert not resident(job, [LAB])
        led = led_to(job, [LAB], "/home/ann", real)
        assert led == ("/data/patients",)
        assert resident(replace(job, leads_to=led), [LAB])
    for run in ("cat ~/other", "cat $D/patients/1", "ls /"):
        assert led_to(replace(spec(), payload=Work(run=run)), [LAB], "/home/ann", real) == ()


@given(st.lists(st.sampled_from(["/", ".", "x", "..", "/data", "/patients", "*", "$A", "~", "'", " "]), max_size=12))
def test_any_text_is_judged(parts):
    assert names(Work(run="".join(parts) + " /data/patients"))
    assert names(Work(run="".join(parts))) in (True, False)
