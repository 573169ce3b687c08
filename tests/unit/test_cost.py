"""What a job costs: rates, whole nodes, boots, arrays, ceilings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hybridhpc.decide.cost import dollars, over_budget, quote
from hybridhpc.decide.fit import fits
from hybridhpc.decide.route import decide
from hybridhpc.model import Mebibytes, Quantiles, Seconds
from hybridhpc.sites.site import Partition, Price
from hybridhpc.sites.snapshot import QueuePartition
from tests.worlds.stage import DAY, HOUR, NOW, array, nodes, price, site, snapshot, spec

TASK = Quantiles(p50=2 * HOUR, p90=4 * HOUR)


def fit_of(job, cost, *, exclusive=False, **more):
    place = site("lab", cost=cost, **more)
    partition = QueuePartition(name="gpu", max_walltime=None, exclusive=exclusive)
    (fit,) = fits(job, place, snapshot("lab", nodes(4), partitions=(partition,)))
    return fit


def quoted(job, cost, *, boot=0.0, whole=TASK, **more):
    return quote(job, fit_of(job, cost, **more), TASK, whole, boot)


def test_gpus_nodes_and_cpus_add_up_over_all_nodes():
    cost = price(per_gpu=2.0, per_node=10.0, per_cpu=0.5)
    found = quoted(spec(count=2, gpus=("H100:4",), cpus=16, time=4 * HOUR), cost)
    assert found.per_hour == 2 * (4 * 2.0 + 10.0 + 16 * 0.5)
    assert (found.usd, found.most) == (2 * found.per_hour, 4 * found.per_hour)
    assert found.source == "list price 2026-11"


def test_whole_nodes_are_priced_whole():
    cost = price(per_gpu=2.0)
    assert quoted(spec(gpus=("H100:1",)), cost).per_hour == 2.0
    assert quoted(spec(gpus=("H100:1",)), cost, exclusive=True).per_hour == 16.0
    assert quoted(spec(gpus=("H100:1",), whole_nodes=True), cost).per_hour == 16.0


def test_boot_time_is_billed():
    assert quoted(spec(), price(per_gpu=1.0), boot=900).usd == pytest.approx(8 * 2.25)


def test_array_tasks_multiply_and_boot_once_per_task_that_runs_at_once():
    job = spec(array=array(10, 2), time=4 * HOUR)
    found = quoted(job, price(per_gpu=1.0), boot=900, whole=Quantiles(p50=10 * HOUR, p90=20 * HOUR))
    assert found.usd == pytest.approx(8 * (10 * 2 + 2 * 0.25))
    assert found.most == pytest.approx(8 * (10 * 4 + 2 * 0.25))
    assert found.per_hour == pytest.approx(16.0)


def test_nothing_bounds_the_price_of_a_job_without_walltime_but_a_price_of_nothing():
    assert quoted(spec(time=None), price(per_gpu=1.0)).most == math.inf
    assert quoted(spec(time=None), Price()).most == 0.0


def test_a_range_of_nodes_costs_what_the_most_that_slurm_may_give_cost():
    job = spec(count=2, most_nodes=3)
    assert quoted(job, price(per_gpu=1.0)).per_hour == 3 * quoted(spec(), price(per_gpu=1.0)).per_hour
    beyond = quoted(spec(count=2, most_nodes=16), price(per_gpu=1.0))
    assert beyond.per_hour == 4 * quoted(spec(), price(per_gpu=1.0)).per_hour, "there are only four nodes"
    most = 3 * 8 * 10
    assert [over_budget(job, fit_of(job, price(per_gpu=1.0)), quoted(job, price(per_gpu=1.0)), TASK, 0, ceiling) is None
            for ceiling in (most, most - 1)] == [True, False]  # fmt: skip


def test_a_price_nobody_gave_is_nothing_and_says_so():
    assert (quoted(spec(), Price()).usd, quoted(spec(), Price()).source) == (0, "no price given")


def test_the_embedded_site_is_this_machine_unless_its_file_has_a_price():
    assert quoted(spec(), Price(), scheduler="here").source == "this machine"
    assert quoted(spec(), price(per_node=1.0), scheduler="here").usd == 2.0


def test_a_partition_without_a_price_has_that_of_its_site():
    place = site("lab", cost=Price(), price=price(per_node=3.0))
    (fit,) = fits(spec(), place, snapshot("lab", nodes(1)))
    assert quote(spec(), fit, TASK, TASK, 0).usd == 6.0
    listed = Partition(name="gpu", price=price(per_node=1.0))
    (own,) = fits(spec(), site("lab", price=price(per_node=3.0), cost=listed.price), snapshot("lab", nodes(1)))
    assert quote(spec(), own, TASK, TASK, 0).usd == 2.0


def test_a_ceiling_counts_to_the_walltime_and_names_the_walltime_that_fits():
    job = spec(time=10 * HOUR)
    fit = fit_of(job, price(per_gpu=1.0))
    found = quote(job, fit, TASK, TASK, 0)
    assert over_budget(job, fit, found, TASK, 0, 80.0) is None
    refusal = over_budget(job, fit, found, TASK, 0, 60.0)
    assert refusal.reason == "may cost up to $80.00 to its walltime of 10:00:00; the ceiling is $60.00"
    assert refusal.ways[0].words == "time: 7h30m or less"
    assert over_budget(job, fit, found, TASK, 0, 20.0).ways[0].words == "max_cost: 80.00 USD"


def test_a_ceiling_refuses_a_job_without_any_walltime():
    job = spec(time=None)
    fit = fit_of(job, price(per_gpu=1.0))
    refusal = over_budget(job, fit, quote(job, fit, TASK, TASK, 0), TASK, 0, 80.0)
    assert refusal.reason == "has no walltime, so that nothing bounds its price; the ceiling is $80.00"
    assert refusal.ways[0].words == "time: 10h or less"
    assert over_budget(job, fit, quote(job, fit, TASK, TASK, 0), TASK, 0, 0.01).ways == ()
    free = fit_of(job, price())
    assert over_budget(job, free, quote(job, free, TASK, TASK, 0), TASK, 0, 0.0) is None


def test_the_limit_of_the_partition_bounds_a_job_without_walltime():
    job, place = spec(time=None), site("lab", cost=price(per_gpu=1.0))
    partition = QueuePartition(name="gpu", max_walltime=Seconds(DAY))
    (fit,) = fits(job, place, snapshot("lab", nodes(1), partitions=(partition,)))
    assert quote(job, fit, TASK, TASK, 0).most == 8 * 24


def test_amounts_are_spelled_for_people():
    spelled = [dollars(amount) for amount in (0, 0.001, 3.2, 99.99, 310, 12400.4, -5)]
    assert spelled == ["$0", "$0", "$3.20", "$99.99", "$310", "$12,400", "-$5.00"]


def test_cpus_and_memory_of_gpu_nodes_cost_the_gpus_that_they_keep_from_others():
    """The nodes have 64 CPUs, 1 TiB and 8 GPUs."""
    alone = price(per_gpu=2.0)
    assert quoted(spec(gpus=(), cpus=8), alone).per_hour == pytest.approx(2.0)
    assert quoted(spec(gpus=(), cpus=8, count=3), alone).blocked == pytest.approx(3.0)
    assert quoted(spec(gpus=(), memory=Mebibytes(512 * 1024)), alone).per_hour == pytest.approx(8.0)
    assert quoted(spec(gpus=("H100:1",), cpus=8), alone) == quoted(spec(gpus=("H100:1",)), alone)
    assert quoted(spec(gpus=("H100:1",), cpus=64), alone).per_hour == quoted(spec(), alone).per_hour == 16.0
    assert quoted(spec(gpus=(), cpus=8), alone, exclusive=True).blocked == 0


def test_who_prices_cpus_or_nodes_has_said_what_they_cost():
    assert quoted(spec(gpus=(), cpus=8), price(per_gpu=2.0, per_cpu=0.1)).per_hour == pytest.approx(0.8)
    assert quoted(spec(gpus=(), cpus=8), price(per_gpu=2.0, per_cpu=0.0)).per_hour == 0
    assert quoted(spec(gpus=(), cpus=8), price(per_gpu=2.0, per_node=1.0)).per_hour == 1.0


def test_on_nodes_without_gpus_a_price_for_gpus_alone_is_none_and_says_so():
    place, job = site("lab", cost=price(per_gpu=2.0)), spec(gpus=(), cpus=8)
    (fit,) = fits(job, place, snapshot("lab", nodes(2, gpus=0)))
    found = quote(job, fit, TASK, TASK, 0)
    assert (found.usd, found.source) == (0, "list price 2026-11, which prices GPUs alone")


def test_a_job_without_gpus_goes_to_the_nodes_without():
    gpu = Partition(name="gpu", price=price(per_gpu=2.0))
    cpu = Partition(name="cpu", price=price(per_cpu=0.012))
    place = replace(site("lab"), partitions=(gpu, cpu))
    seen = snapshot("lab", (*nodes(2), *nodes(2, prefix="c", partitions=("cpu",), gpus=0)))
    seen = replace(seen, partitions=(*seen.partitions, replace(seen.partitions[0], name="cpu")))
    first, second = decide(spec(gpus=(), cpus=8), [(place, seen)], now=NOW).choices
    assert (first.candidate.partition, second.candidate.partition) == ("cpu", "gpu")
    assert "keep 1.0 GPUs from others, which it is charged for" in second.reason
