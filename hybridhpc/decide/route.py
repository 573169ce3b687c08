"""The decision: every candidate of every site judged, ranked by one score, each with its reason. Pure and total."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hybridhpc.decide.candidate import Candidate, Choice, Forecast, Ranking
from hybridhpc.decide.cost import over_budget, quote
from hybridhpc.decide.explain import remarks, why_it_lost, why_it_won
from hybridhpc.decide.fit import Fit, fits
from hybridhpc.decide.forecast import Run, Start, forecast_run, forecast_start, makespan
from hybridhpc.decide.moment import Moment, View
from hybridhpc.decide.nearest import Near, distance, nearest
from hybridhpc.decide.places import may_go
from hybridhpc.decide.policy import Policy, apart, ran_apart, weigh
from hybridhpc.decide.promise import Outcome, Promise
from hybridhpc.decide.residence import Kept, leaves, resident
from hybridhpc.decide.waits import Awaited, hindrance
from hybridhpc.model import Goal, JobSpec, Quantiles
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import NO_PARTITIONS, PastJob, Silence, Snapshot, StartEstimate
from hybridhpc.spec.places import unknown_names
from hybridhpc.values import dataclass

Sighting = tuple[Site | InvalidSite, Snapshot | Silence | None]
"""A site and what it answered; None: it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What every candidate is judged by."""

    spec: JobSpec
    goal: Goal
    estimates: Mapping[str, StartEstimate]
    refusals: Mapping[str, str]
    moment: Moment
    awaited: Sequence[Awaited]
    kept: tuple[Kept, ...]
    sites: Mapping[str, Site]


def decide(
    spec: JobSpec,
    sites: Sequence[Sighting],
    *,
    estimates: Mapping[str, StartEstimate] | None = None,
    refusals: Mapping[str, str] | None = None,
    history: Sequence[PastJob] = (),
    outcomes: Sequence[Outcome] = (),
    policy: Policy | None = None,
    awaited: Sequence[Awaited] = (),
    now: float,
) -> Ranking:
    """Rank every candidate of every site for a job: best first, refused ones last, silent sites beside them.

    `estimates` (the scheduler's own) go by Candidate.key, `refusals` (by whoever drafted the script) by it or by the
    name of a site; `now` is in seconds since the epoch. `outcomes` of earlier forecasts (latest first) correct this
    one. `awaited` are the jobs that it comes after. The order of `sites` does not matter. Raises nothing.
    """
    moment = Moment(history=history, outcomes=outcomes, policy=policy, now=now)
    return decide_at(moment, spec, sites, estimates=estimates, refusals=refusals, awaited=awaited)


def decide_at(
    moment: Moment,
    spec: JobSpec,
    sites: Sequence[Sighting],
    *,
    estimates: Mapping[str, StartEstimate] | None = None,
    refusals: Mapping[str, str] | None = None,
    awaited: Sequence[Awaited] = (),
) -> Ranking:
    """Rank every candidate of every site for a job, as `decide` does, behind what was placed in a moment before."""
    known = {site.name: site for site, _ in sites if isinstance(site, Site)}
    question = _Question(
        spec=spec,
        goal=spec.goal or moment.policy.goal,
        estimates=estimates or {},
        refusals=refusals or {},
        moment=moment,
        awaited=awaited,
        kept=resident(spec, known.values()),
        sites=known,
    )
    choices = [choice for site, snapshot in _answering(sites) for choice in _judge_site(question, site, snapshot)]
    admitted = [choice for choice in choices if choice.refused is None]
    refused = [choice for choice in choices if choice.refused is not None]
    ordered = _explained(sorted(admitted, key=_by_score), question.goal)
    return Ranking(
        choices=(*ordered, *sorted(refused, key=_by_name)),
        silent=_silent(spec, sites),
        unheard=_unheard(question, sites),
    )


def place(moment: Moment, spec: JobSpec, choice: Choice, snapshot: Snapshot, jobs: int) -> None:
    """Let so many jobs like this one stand at their place before all that is decided later, unless they are held."""
    tasks = jobs * (spec.array.tasks if spec.array else 1)
    if choice.forecast is not None and not choice.forecast.held:
        found = moment.fits(spec, choice.candidate.site, snapshot)
        fit = next(fit for fit in found if fit.candidate == choice.candidate)
        moment.place(fit, snapshot, tasks, choice.forecast.after)


def candidates_that_fit(
    spec: JobSpec, sites: Sequence[Sighting], moment: Moment | None = None
) -> tuple[Candidate, ...]:
    """Return the candidates worth asking their scheduler about, by name: no limit and no capacity rules them out."""
    kept = resident(spec, [site for site, _ in sites if isinstance(site, Site)])
    found = [
        fit.candidate
        for site, snapshot in _answering(sites)
        if not leaves(kept, site)
        for fit in (moment.fits if moment else fits)(spec, site, snapshot)
        if all(refusal.doubtful for refusal in fit.refusals)
    ]
    return tuple(sorted(found, key=lambda candidate: candidate.key))


def _answering(sites: Iterable[Sighting]) -> list[tuple[Site, Snapshot]]:
    return [(site, answer) for site, answer in sites if isinstance(site, Site) and isinstance(answer, Snapshot)]


def _silent(spec: JobSpec, sites: Sequence[Sighting]) -> tuple[tuple[str, str], ...]:
    """Return every site of which nothing is known, and every name in `where` that is no site."""
    lines = {(site.name, why) for site, answer in sites if (why := _silence(site, answer))}
    known = sorted({site.name for site, _ in sites})
    labels = {label for site, _ in sites if isinstance(site, Site) for label in site.labels}
    there = ", ".join(known) or "none"
    for name in unknown_names(spec.where, known, labels):
        lines.add((name, f"named in where, but there is no such site or label (there is {there})"))
    return tuple(sorted(lines))


def _unheard(question: _Question, sites: Sequence[Sighting]) -> tuple[str, ...]:
    """Return the sites that gave no answer and to which nothing that is known forbids the job to go."""
    asked = [site for site, answer in sites if isinstance(site, Site) and isinstance(answer, Silence) and answer.asked]
    return tuple(sorted(site.name for site in asked if may_go(question.spec, site) and not leaves(question.kept, site)))


def _silence(site: Site | InvalidSite, answer: Snapshot | Silence | None) -> str:
    if isinstance(site, InvalidSite):
        return f"its file is wrong: {site.problems[0] if site.problems else site.file}"
    if isinstance(answer, Silence):
        return "; ".join(filter(None, (answer.why, answer.fix))) or "gave no answer"
    if answer is None:
        return "it was not asked"
    return "" if answer.partitions else NO_PARTITIONS


def _judge_site(question: _Question, site: Site, snapshot: Snapshot) -> list[Choice]:
    """Judge a site's candidates; its queue is planned only if one of them may run."""
    choices = []
    for fit in question.moment.fits(question.spec, site, snapshot):
        why = _refused(question, fit, snapshot)
        if why is not None:
            choices.append(why)
            continue
        choices.append(_judge(question, fit, question.moment.view(site, snapshot)))
    return choices


def _refused(question: _Question, fit: Fit, snapshot: Snapshot) -> Choice | None:
    """Return the refusal of a candidate that cannot run the job; None if it can."""
    key = fit.candidate.key
    told = question.estimates.get(key)
    accepted = told is not None and told.start is not None
    standing = [refusal for refusal in fit.refusals if not (refusal.doubtful and accepted)]
    reasons = [refusal.reason for refusal in standing]
    if leaving := leaves(question.kept, fit.candidate.site):
        reasons.append(leaving)
    reasons += [question.refusals[barred] for barred in (key, fit.candidate.site.name) if barred in question.refusals]
    if told is not None and told.start is None and told.refusal:
        reasons.append(f"the scheduler refuses it: {told.refusal}{_given(question.spec, fit.candidate, told.refusal)}")
    if not reasons:
        return None
    near = nearest(question.spec, fit, snapshot) if len(reasons) == len(standing) else None
    return _refusal(fit, "; ".join(reasons), near)


def _refusal(fit: Fit, reason: str, near: Near | None) -> Choice:
    words, effort = (near.words, near.effort) if near else (None, (0, 0.0))
    return Choice(candidate=fit.candidate, refused=reason, would_admit=words, effort=effort)


def _given(spec: JobSpec, candidate: Candidate, words: str) -> str:
    """Say of an account or QOS that the scheduler complains of and the job does not name whence it is."""
    site, partition, native = candidate.site, candidate.partition, spec.native
    own = {"account": (native.account, site.account_for(partition)), "qos": (native.qos, site.qos_for(partition))}
    said = [f"{key} {there}" for key, (named, there) in own.items() if there and not named and key in words.lower()]
    return f" ({' and '.join(said)}, as {site.file} says)" if said else ""


def _judge(question: _Question, fit: Fit, view: View) -> Choice:
    """Forecast, price and weigh a candidate that can run the job."""
    spec, moment, goal = question.spec, question.moment, question.goal
    policy, now = moment.policy, moment.now
    at = now + view.future.snapshot.ahead
    told = question.estimates.get(fit.candidate.key)
    stopped = hindrance(spec, question.awaited, view.future, told, at, moment.zone)
    start = forecast_start(fit, view.future, _told(question, fit, view), moment.history, policy, at, stopped.until)
    if start is None:
        return Choice(candidate=fit.candidate, refused="our plan of its queue finds no time at which the job fits")
    run = forecast_run(spec, fit, moment.history, moment.fraction, question.sites, policy)
    when, task, basis = _corrected(question, fit, start, run)
    whole = makespan(spec, fit, task)
    quoted = quote(spec, fit, task, whole, start.boot)
    if goal.max_cost is not None:
        refusal = over_budget(spec, fit, quoted, task, start.boot, goal.max_cost)
        if refusal is not None:
            near = [Near(words=way.words, effort=(way.effort, distance(spec, way.spec))) for way in refusal.ways]
            return _refusal(fit, refusal.reason, next(iter(near), None))
    score, late = weigh(goal, policy, when, whole, quoted.usd, run.overrun, now)
    promise = _promise(question, fit, view, start, run)
    forecast = Forecast(
        start=when,
        run=whole,
        basis=basis,
        boot=min(start.boot, when.p50),
        at_once=start.at_once and not stopped.words,
        held=stopped.held,
        after=stopped.until,
        promise=replace(promise, start=when, run=whole),
    )
    said = Choice(candidate=fit.candidate, forecast=forecast, quote=quoted, score=score)
    words = (*stopped.words, *remarks(said, goal, late, run.overrun, now), *fit.notes)
    return replace(said, reason="; ".join(words), remarks=words)


def _told(question: _Question, fit: Fit, view: View) -> StartEstimate | None:
    """Return the scheduler's estimate of a start, while nothing stands there of which it does not know."""
    return None if view.placed else question.estimates.get(fit.candidate.key)


def _corrected(question: _Question, fit: Fit, start: Start, run: Run) -> tuple[Quantiles, Quantiles, str]:
    """Return start and run time (of one task) as outcomes there correct them, and what both rest on in words.

    Boots are learned, not corrected; what it waits for besides its turn is neither.
    """
    site, partition, policy = fit.candidate.site.name, fit.candidate.partition, question.moment.policy
    learned, soft = question.moment.lessons, policy.softening
    soon, late = start.after.p50 + start.boot, start.after.p90 + start.late_boot
    wait = Quantiles(p50=max(0.0, start.when.p50 - soon), p90=max(0.0, start.when.p90 - late))
    at_once = learned.is_at_once(wait)
    starts = learned.start(site, partition, at_once=at_once)
    runs = learned.run(site, partition, known=run.past_runs > 0)
    wait, task = starts.applied(wait, soft), runs.applied(run.task, soft)
    limit, least = float(fit.walltime or math.inf), run.task.p50 / 20
    rest = apart(wait.p50 + start.boot, wait.p90 + start.late_boot, policy)
    when = Quantiles(p50=start.after.p50 + rest.p50, p90=start.after.p90 + rest.p90)
    basis = f"start from {start.basis}{starts}; run time from {run.basis}{runs}"
    return when, ran_apart(max(least, task.p50), task.p90, limit, policy), basis


def _promise(question: _Question, fit: Fit, view: View, start: Start, run: Run) -> Promise:
    """Return what the ledger keeps of a forecast, with start and run as they were before their correction."""
    told, now = _told(question, fit, view), question.moment.now + view.future.snapshot.ahead
    whole = makespan(question.spec, fit, run.task)
    return Promise(
        site=fit.candidate.site.name,
        partition=fit.candidate.partition,
        start=start.when,
        run=whole,
        plain_start=start.when,
        plain_run=whole,
        boot=start.boot,
        queued=view.queued.get(fit.candidate.partition, 0) + view.placed,
        told=None if told is None or told.start is None else max(0.0, told.start - now),
        past_runs=run.past_runs,
        tasks=question.spec.array.tasks if question.spec.array else 1,
        version=view.future.snapshot.version,
    )


def _explained(ordered: list[Choice], goal: Goal) -> list[Choice]:
    """Say of each admitted choice why it won or lost, before what else there is to say of it."""
    if not ordered:
        return []
    winner, *others = ordered
    words = [why_it_won(winner, others, goal.value_of_time)]
    words += [why_it_lost(choice, winner, goal.value_of_time) for choice in others]
    return [
        replace(choice, reason="; ".join(filter(None, (why, choice.reason))))
        for choice, why in zip(ordered, words, strict=True)
    ]


def _by_score(choice: Choice) -> tuple[float, float, str]:
    """Order by score, then by who finishes sooner, then by name; GPU alternatives that tie keep the person's order."""
    score, ends = choice.score, choice.forecast
    soonest = ends.start.p50 + ends.run.p50 if ends else math.inf
    return math.inf if score is None or math.isnan(score) else score, soonest, choice.candidate.name


def _by_name(choice: Choice) -> str:
    return choice.candidate.name
