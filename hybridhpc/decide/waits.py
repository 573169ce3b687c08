"""What a job waits for besides its turn: a moment (--begin), its release (--hold), other jobs (`after`). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo

from hybridhpc.decide.candidate import Forecast
from hybridhpc.decide.outlook import Outlook
from hybridhpc.decide.policy import finish
from hybridhpc.model import AT_ONCE, JobSpec, Quantiles, Script
from hybridhpc.sites.snapshot import StartEstimate
from hybridhpc.spec.sbatch_begin import is_relative, parse_begin
from hybridhpc.units import format_duration
from hybridhpc.values import dataclass

_JOB = re.compile(r"(\d+)(?:_(?:\d+|\*))?(?:\+(\d+))?")
_QUARTER, _DAY = 900.0, 86400.0
"""Seconds; zones of the world are quarters of an hour apart, and a day or so at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A job that another one comes after."""

    job: str
    """How it is called."""
    kind: str
    """Slurm's word without `after`; of `start` only its start is waited for."""
    site: str = ""
    job_id: str = ""
    """By which it may be found in the queue of its site; empty: it is only planned."""
    request: str = ""
    """Of its wish, if it is one of the same command; `start` and `finish` are then as it is planned."""
    start: Quantiles | None = None
    """As it is planned, in seconds from now; so is `finish`."""
    finish: Quantiles | None = None
    later: float = 0.0
    """So many seconds more are waited (after:12+5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindrance:
    """Before which moment a job does not start, whatever is free, in seconds from now; and why, in words."""

    until: Quantiles = AT_ONCE
    words: tuple[str, ...] = ()
    held: bool = False
    """It waits for its release: all times count from then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the person's own options ask a job to wait for; empty: nothing."""

    begin: str = ""
    dependency: str = ""
    hold: bool = False

    @property
    def anything(self) -> bool:
        """Whether its start depends on more than its turn."""
        return bool(self.begin or self.dependency or self.hold)


def asked_of(spec: JobSpec) -> Asked:
    """Return what the options of a job ask it to wait for: those of a script, or those below `slurm:`."""
    payload = spec.payload
    options = dict(payload.asked if isinstance(payload, Script) else payload.slurm)
    hold = payload.hold if isinstance(payload, Script) else "hold" in options
    return Asked(begin=options.get("begin") or "", dependency=options.get("dependency") or "", hold=hold)


def queued(dependencies: Sequence[tuple[str, str, str]]) -> tuple[Awaited, ...]:
    """Return what a job comes after that is submitted: kind, site and job id."""
    return tuple(Awaited(job=f"{site}:{job}", kind=kind, site=site, job_id=job) for kind, site, job in dependencies)


def as_planned(awaited: Sequence[Awaited], forecasts: Mapping[str, Forecast]) -> tuple[Awaited, ...]:
    """Return jobs of one command with what is forecast for them by now."""
    return tuple(
        replace(each, start=seen.start, finish=finish(seen.start, seen.run))
        if (seen := forecasts.get(each.request))
        else each
        for each in awaited
    )


def strangers(spec: JobSpec, sites: Sequence[str], own_jobs: Callable[[], frozenset[str]]) -> dict[str, str]:
    """Return the sites where a job id that the person's own options name (`-d afterok:12`) means another job, and why.

    Each site counts its jobs for itself. Of several sites it is that one where the person (`own_jobs`: refs) has such
    jobs; if that is none, or not one alone, a job goes nowhere until `where` names the site.
    """
    dependency = asked_of(spec).dependency
    ids = [match[1] for job in re.split("[,?:]", dependency) if (match := _JOB.fullmatch(job))]
    named = {entry.partition("/")[0] for entry in spec.where} & {*sites}
    if not ids or len(sites) < 2 or (len(named) == 1 and all(_is_at(entry, named) for entry in spec.where)):
        return {}
    refs = own_jobs()
    homes = [site for site in sites if all(f"{site}:{each}" in refs for each in ids)]
    if len(homes) == 1:
        why = f"it comes after {', '.join(ids)} (--dependency), which you have at {homes[0]}"
        return {site: why for site in sites if site != homes[0]}
    why = f"--dependency={dependency} names jobs by ids that each site counts for itself: --where SITE says whose"
    return dict.fromkeys(sites, why)


def _is_at(entry: str, sites: set[str]) -> bool:
    """Whether an entry of `where` brings a job to these sites alone, or leaves something out."""
    return entry.partition("/")[0] in sites or entry.startswith("!") or any(sign in entry for sign in "<>=")


OUR_ZONE = " (read in this machine's time zone: its scheduler gave no estimate to tell the site's by)"
"""Said of a moment that is read in our zone, as nothing tells the site's: only an estimate of its scheduler does."""


def hindrance(
    spec: JobSpec, awaited: Sequence[Awaited], view: Outlook, told: StartEstimate | None, at: float, zone: tzinfo
) -> Hindrance:
    """Return what keeps a job from starting at a site. `at`: what time it is there; `zone`: of this machine.

    `told`, the scheduler's own estimate, knows the zone of the site: it never lies before the moment of --begin.
    """
    asked = asked_of(spec)
    named = () if not asked.dependency else tuple(_named(asked.dependency, view.snapshot.site))
    until, words = [AT_ONCE], list[str]()
    if asked.begin:
        estimate = told.start if told else None
        moment = _begin(asked.begin, estimate, at, zone)
        until += [] if moment is None else [Quantiles(p50=moment - at, p90=moment - at)]
        when = "at a time that is not known" if moment is None else f"in {format_duration(moment - at)} at the soonest"
        ours = estimate is None and moment is not None and not is_relative(asked.begin)
        words.append(f"--begin={asked.begin}: it starts {when}{OUR_ZONE if ours else ''}")
    for each in (*awaited, *named):
        found, why = _after(each, view)
        until += [] if found is None else [found]
        words += [why] if why else []
    if asked.hold:
        words.append("it is held: all times count from its release")
    latest = Quantiles(p50=max(each.p50 for each in until), p90=max(each.p90 for each in until))
    return Hindrance(until=latest, words=tuple(dict.fromkeys(words)), held=asked.hold)


def _begin(text: str, told: float | None, at: float, zone: tzinfo) -> float | None:
    """Return the moment that a begin means at a site.

    A time of the day is that of the site's zone. Where the estimate is earlier, or later by nothing but a difference
    of zones, the site's zone is another one than ours, and the estimate is that moment.
    """
    own = parse_begin(text, at, zone)
    if told is None or is_relative(text):
        return own
    if own is None or told < own or ((told - own) % _QUARTER < 1.0 and told - own < 1.1 * _DAY):
        return max(at, told)
    return own


def _named(text: str, site: str) -> Iterator[Awaited]:
    """Yield the jobs that a dependency of a script names; either of several (`?`) cannot be told."""
    for part in re.split("[,?]", text):
        kind, _, jobs = part.partition(":")
        word = kind.removeprefix("after") or "start"
        for job in jobs.split(":") if jobs else ():
            match = _JOB.fullmatch(job)
            found = (match[1], 60.0 * int(match[2] or 0)) if match and "?" not in text else ("", 0.0)
            yield Awaited(job=f"{site}:{job}", kind=word, site=site, job_id=found[0], later=found[1])
        if not jobs:
            yield Awaited(job=f"others ({part})", kind=word)


def _after(each: Awaited, view: Outlook) -> tuple[Quantiles | None, str]:
    """Return when a dependency is met, None if that is not known, and what to say of it."""
    start, finish = each.start, each.finish
    if each.job_id:
        jobs = [job for job in view.snapshot.jobs if re.split("[_+]", job.job_id)[0] == each.job_id]
        if not jobs:
            return None, ""  # it has ended, as far as is seen
        spans = [span for job in jobs if (span := view.span_of(job)) is not None]
        if len(spans) == len(jobs):
            start, finish = (_latest([span[side] for span in spans]) for side in (0, 1))
    met, verb = (start, "starts") if each.kind == "start" else (finish, "ends")
    if met is None:
        return None, f"it comes after {each.job}: when that {verb} is not known, and not counted"
    met = Quantiles(p50=met.p50 + each.later, p90=met.p90 + each.later)
    return met, f"it comes after {each.job}, which {verb} in {format_duration(met.p50)}–{format_duration(met.p90)}"


def _latest(times: Sequence[Quantiles]) -> Quantiles:
    return Quantiles(p50=max(each.p50 for each in times), p90=max(each.p90 for each in times))
