"""From a wish to a Plan: look at the sites, decide, draft. Asks sites through probe; decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from hybridhpc import probe, registry
from hybridhpc.ceilings import Ceilings
from hybridhpc.clock import Clock, zone
from hybridhpc.decide.candidate import Candidate, Choice, Forecast, Ranking
from hybridhpc.decide.explain import no_place
from hybridhpc.decide.moment import Moment
from hybridhpc.decide.promise import Outcome
from hybridhpc.decide.residence import resident
from hybridhpc.decide.route import Sighting, candidates_that_fit, decide, decide_at, place
from hybridhpc.decide.seen import with_limits, with_own_gpu_words
from hybridhpc.decide.waits import Awaited, as_planned, queued, strangers
from hybridhpc.errors import HpcError, NoCandidate
from hybridhpc.estimates import Questions, ask, chosen, questions_about, within_bounds
from hybridhpc.model import JobSpec, Work
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.script.make import Draft, dependency_option, draft, make_plan, script_refusal
from hybridhpc.script.plan import Plan, is_comparable
from hybridhpc.sites.site import InvalidSite, Site
from hybridhpc.sites.snapshot import PastJob, Silence, Snapshot, StartEstimate
from hybridhpc.spec.sweep import per_hour, pieces, shape
from hybridhpc.values import dataclass

ONLY_IF_NAMED = "where there are other sites, this machine is used only if it is named: --where here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked for, and what it depends on. `request` is the same if the same is asked again."""

    spec: JobSpec
    request: str
    cwd: str
    dependencies: tuple[tuple[str, str, str], ...] = ()
    """Kind (ok, any ...), site and job id."""
    before: tuple[Awaited, ...] = ()
    """Jobs of the same command that it comes after."""
    barred: tuple[tuple[str, str], ...] = ()
    """Where it must not go now, by Candidate.key or the name of a site, and why."""


Standing = Sequence[tuple[JobSpec, Choice]]
"""Jobs that were placed, and submitted, since the sites were asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The decision and, if any site will do, exactly what would be submitted."""

    ranking: Ranking
    plans: tuple[Plan, ...]
    """One; several if a sweep has more points than an array of its site may have; none if no site will do."""
    because: str = ""
    """Why it goes where those go that it comes after, or that come after it; empty: it would go there alone, too."""
    unasked: bool = False
    """Some scheduler's opinion was not asked for, since so many jobs of one command ask for different things."""

    def chosen(self) -> tuple[Plan, ...]:
        """Return the plans. Raises NoCandidate with every refusal, Unheard if a site gave none that might run it."""
        if self.plans:
            return self.plans
        raise no_place(self.ranking)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is decided for all wishes that look alike."""

    wishes: Sequence[Wish]
    seen: Sequence[Sighting]
    drafts: Mapping[str, Draft]
    """By Candidate.key."""
    refusals: Mapping[str, str]
    questions: Questions

    @property
    def wish(self) -> Wish:
        """The first of them."""
        return self.wishes[0]


class Planner:
    """Plans one wish after another over sites that are asked once, as soon as it is made."""

    def __init__(
        self,
        sites: Sequence[Site | InvalidSite],
        env: Mapping[str, str],
        clock: Clock,
        *,
        outcomes: Callable[[], Sequence[Outcome]] = tuple,
        own_jobs: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._env = env
        self._clock = clock
        self._ask_outcomes = outcomes
        self._ask_own_jobs = own_jobs
        self._sites = sites
        self._usable = [site for site in sites if isinstance(site, Site)]
        # Where there are other sites, this machine is asked only for a wish that names it.
        self._spared = len(sites) > 1 and any(site.name == registry.HERE for site in self._usable)
        asked = [site for site in self._usable if not (self._spared and site.name == registry.HERE)]
        self._survey = probe.Survey(asked, env, clock)

    @cached_property
    def _outcomes(self) -> Sequence[Outcome]:
        return self._ask_outcomes()

    @cached_property
    def _dialects(self) -> dict[str, Scheduler]:
        return {site.name: registry.scheduler(site.scheduler) for site in self._usable}

    @cached_property
    def _ceilings(self) -> Ceilings:
        return Ceilings(self._dialects, self._env)

    @cached_property
    def _answers(self) -> dict[str, Snapshot | Silence]:
        return self._survey.answers()

    @cached_property
    def _here(self) -> Snapshot | Silence:
        here = [site for site in self._usable if site.name == registry.HERE]
        return probe.survey(here, self._env, self._clock)[registry.HERE]

    def look(self, spec: JobSpec) -> Sequence[Sighting]:
        """Return every site with what it answered."""
        return self._seen_with_here if self._spared and _names_here(spec) else self._seen

    @cached_property
    def _seen(self) -> Sequence[Sighting]:
        return self._look(here=Silence(site=registry.HERE, why=ONLY_IF_NAMED, asked=False))

    @cached_property
    def _seen_with_here(self) -> Sequence[Sighting]:
        return self._look(here=self._here)

    def _look(self, *, here: Snapshot | Silence) -> Sequence[Sighting]:
        answers = {name: with_limits(answer, self._ask_own_jobs) for name, answer in self._answers.items()}
        if self._spared:
            answers[registry.HERE] = here
        return [(with_own_gpu_words(site, answers.get(site.name)), answers.get(site.name)) for site in self._sites]

    def plan_all(
        self, wishes: Sequence[Wish], history: Sequence[PastJob], *, quick: bool = False, standing: Standing = ()
    ) -> tuple[Planned, ...]:
        """Decide where wishes are met and draft them.

        One decision holds for all that look alike to it, and each stands behind those before it. `quick`: where a job
        would start at once for certain, its scheduler's opinion is not waited for; what it refuses shows when it is
        submitted. What is `standing` stands before all of them.
        """
        keys = [self._look_of(wish) for wish in wishes]
        moment = self._moment(history)
        for spec, choice in standing:
            place(moment, spec, choice, self._snapshot(choice), 1)
        alike: dict[object, list[Wish]] = {}
        for key, wish in zip(keys, wishes, strict=True):
            alike.setdefault(key, []).append(wish)
        cases = [self._case(those, moment) for those in alike.values()]
        decided = dict(zip(alike, self._decided(cases, moment, quick), strict=True))
        return tuple(
            decided[key]
            if wish is alike[key][0]
            else replace(decided[key], plans=self._make(wish, decided[key].ranking))
            for wish, key in zip(wishes, keys, strict=True)
        )

    def plan(self, wish: Wish, history: Sequence[PastJob], *, quick: bool = False) -> Planned:
        """Decide where a single wish is met and draft it: see `plan_all`."""
        return self.plan_all((wish,), history, quick=quick)[0]

    def _look_of(self, wish: Wish) -> object:
        """Return what a decision sees of a wish."""
        ties = wish.dependencies, wish.before, wish.barred
        return shape(wish.spec), resident(wish.spec, self._usable), ties, wish.cwd

    def rank(self, spec: JobSpec, history: Sequence[PastJob]) -> Ranking:
        """Decide without drafting and without asking any scheduler's opinion: quick enough for many jobs."""
        return decide(spec, self.look(spec), history=history, now=self._clock())

    def _case(self, wishes: Sequence[Wish], moment: Moment) -> _Case:
        """Draft the first of wishes that look alike for every place that might do."""
        wish = wishes[0]
        seen = self.look(wish.spec)
        snapshots = {site.name: answer for site, answer in seen if isinstance(answer, Snapshot)}
        candidates = candidates_that_fit(wish.spec, seen, moment)
        drafts: dict[str, Draft] = {}
        refusals = {**dict(wish.barred), **self._elsewhere(wish)}
        for candidate in (each for each in candidates if not {each.site.name, each.key} & refusals.keys()):
            try:
                drafts[candidate.key] = self._draft(wish, candidate, snapshots[candidate.site.name])
            except HpcError as error:
                refusals[candidate.key] = error.message
        refusals |= self._ceilings.refusals(wish.spec, candidates, drafts)
        questions = questions_about(candidates, drafts, self._dialects)
        return _Case(wishes=wishes, seen=seen, drafts=drafts, refusals=refusals, questions=questions)

    def _decided(self, cases: Sequence[_Case], moment: Moment, quick: bool) -> Iterator[Planned]:
        """Decide cases, one behind the other."""
        known: dict[str, Forecast] = {}
        questions: Sequence[Questions] = [case.questions for case in cases]
        asked, cut = questions, frozenset[int]()
        if (quick and any(questions)) or not within_bounds(questions):
            asked, cut = chosen(questions, lambda number: self._decide(cases[number], moment))
        answers = ask(asked, self._dialects, self._env)
        for number, (case, estimates) in enumerate(zip(cases, answers, strict=True)):
            ranking = self._decide(case, moment, estimates, known)
            if ranking.winner and ranking.winner.forecast:
                known |= dict.fromkeys((wish.request for wish in case.wishes), ranking.winner.forecast)
            plans = self._make(case.wish, ranking, case.drafts)
            yield Planned(ranking=ranking, plans=plans, unasked=number in cut)
            if plans and ranking.winner is not None:
                place(moment, case.wish.spec, ranking.winner, self._snapshot(ranking.winner), len(case.wishes))

    def _moment(self, history: Sequence[PastJob]) -> Moment:
        """Return what is known once the sites have answered: what they say counts from then on."""
        outcomes, _ = self._outcomes, self._answers
        now = self._clock()
        return Moment(history=history, outcomes=outcomes, zone=zone(now), now=now)

    def _decide(
        self,
        case: _Case,
        moment: Moment,
        estimates: Mapping[str, StartEstimate] | None = None,
        known: Mapping[str, Forecast] = MappingProxyType({}),
    ) -> Ranking:
        """Decide a case, `known` being the forecasts of those before it by their requests."""
        wish = case.wish
        awaited = (*as_planned(wish.before, known), *queued(wish.dependencies))
        return decide_at(moment, wish.spec, case.seen, estimates=estimates, refusals=case.refusals, awaited=awaited)

    def _draft(self, wish: Wish, candidate: Candidate, snapshot: Snapshot) -> Draft:
        """Draft a candidate, of a sweep the first array. Raises NoCandidate if it lacks what the wish needs."""
        wish = replace(wish, spec=pieces(wish.spec, snapshot.max_array_size)[0])
        site = candidate.site.name
        _check_runtime(wish.spec, candidate, self._env)
        refusal = script_refusal(wish.spec, candidate, snapshot)
        if refusal:
            raise NoCandidate(refusal)
        return draft(wish.spec, candidate, self._dialects[site], snapshot, dependency_option(wish.dependencies))

    def _elsewhere(self, wish: Wish) -> dict[str, str]:
        """Return the sites that know nothing of a job which a wish comes after, and why it cannot go there."""
        after = [(f"{site}:{job_id}", site) for _, site, job_id in wish.dependencies]
        others = [(job, site.name) for job, place in after for site in self._usable if site.name != place]
        slurms = [site.name for site in self._usable if site.is_slurm]
        found = strangers(wish.spec, slurms, self._ask_own_jobs)
        return found | {name: f"it comes after {job}, and {name} knows nothing of that job" for job, name in others}

    def _snapshot(self, choice: Choice) -> Snapshot:
        """Return what the site of a choice answered. It did: it was chosen."""
        name = choice.candidate.site.name
        seen = self._seen_with_here if self._spared and name == registry.HERE else self._seen
        return next(answer for site, answer in seen if site.name == name and isinstance(answer, Snapshot))

    def _make(self, wish: Wish, ranking: Ranking, drafts: Mapping[str, Draft] | None = None) -> tuple[Plan, ...]:
        """Return what is submitted to the winner. Raises what drafting raises."""
        winner = ranking.winner
        if winner is None or winner.quote is None or winner.forecast is None:
            return ()
        candidate, price = winner.candidate, winner.quote.per_hour
        snapshot = self._snapshot(winner)
        found: list[Plan] = []
        for piece in pieces(wish.spec, snapshot.max_array_size):
            drafted = drafts.get(candidate.key) if drafts and piece is wish.spec else None
            made = drafted or self._draft(replace(wish, spec=piece), candidate, snapshot)
            found.append(make_plan(piece, candidate, made, per_hour(price, piece, wish.spec), wish.cwd))
        # Of many jobs only the first starts as forecast: the others were not in the queue that was looked at.
        if drafts and is_comparable(found[0]):
            found[0] = replace(found[0], promise=winner.forecast.promise)
        return tuple(found)


def _check_runtime(spec: JobSpec, candidate: Candidate, env: Mapping[str, str]) -> None:
    """Raise NoCandidate if a job needs a container runtime that the machine it would run on, this one, lacks."""
    runtime = candidate.site.container_runtime
    needed = isinstance(spec.payload, Work) and spec.payload.image is not None
    if not needed or candidate.site.name != registry.HERE:
        return
    from shutil import which

    if which(runtime, path=env.get("PATH")) is None:
        raise NoCandidate(f"the spec names an image, and {runtime} is not on PATH here")


def _names_here(spec: JobSpec) -> bool:
    """Whether a person asked for this machine: it may be a login node, which `auto` must not load with jobs."""
    return any(entry.partition("/")[0] == registry.HERE for entry in spec.where)
