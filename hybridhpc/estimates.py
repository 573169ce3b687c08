"""The schedulers' own opinion of when jobs would start: which are asked for, and asking all of them at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hybridhpc import registry
from hybridhpc.at_once import AtOnce
from hybridhpc.command import Errand
from hybridhpc.decide.candidate import Candidate, Ranking
from hybridhpc.errors import HpcError
from hybridhpc.schedulers.base import Scheduler
from hybridhpc.script.make import Draft
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import StartEstimate

MOST_OF_ONE = 8
"""Start estimates asked per site and decision: each costs the scheduler a job id (sbatch(1) --test-only)."""
MOST_OF_ALL = 24
"""The same for all decisions of one command: a scheduler answers one after the other."""
Question = tuple[Site, Errand]
Questions = Mapping[str, Question]
"""By Candidate.key, best first where that is known."""
Estimates = dict[str, StartEstimate]


def questions_about(
    candidates: Sequence[Candidate], drafts: Mapping[str, Draft], dialects: Mapping[str, Scheduler]
) -> Questions:
    """Return what every scheduler that has an opinion is asked about the drafts of one job, by Candidate.key."""
    found: dict[str, Question] = {}
    for candidate in candidates:
        site, made = candidate.site, drafts.get(candidate.key)
        asked = sum(other.name == site.name for other, _ in found.values())
        if made is None or asked >= MOST_OF_ONE:
            continue
        command = dialects[site.name].start_estimate_command(site, made.options, made.script)
        if command is not None:
            found[candidate.key] = site, Errand(command=command)
    return found


def within_bounds(questions: Sequence[Questions]) -> bool:
    """Whether all questions of several decisions may be asked."""
    asked = Counter(site.name for each in questions for site, _ in each.values())
    return max(asked.values(), default=0) <= (MOST_OF_ALL if len(questions) > 1 else MOST_OF_ONE)


def open_questions(questions: Questions, ranking: Ranking) -> Questions:
    """Return the questions whose answers could change a ranking that was made without any, the best place first."""
    certain = {choice.candidate.key for choice in ranking.choices if choice.forecast and choice.forecast.at_once}
    keys = [choice.candidate.key for choice in ranking.choices]
    return {key: questions[key] for key in keys if key in questions and key not in certain}


def chosen(questions: Sequence[Questions], judge: Callable[[int], Ranking]) -> tuple[list[Questions], frozenset[int]]:
    """Return as many questions of several decisions as may be asked: the open ones of one decision after the other.

    With them come the numbers of the decisions of which some may be open and are not asked. `judge` makes a decision,
    by its number, without any answer; it is not called once all its sites are asked enough.
    """
    left = {site.name: MOST_OF_ALL for each in questions for site, _ in each.values()}
    found: list[Questions] = []
    cut: set[int] = set()
    for number, each in enumerate(questions):
        kept: dict[str, Question] = {}
        may_ask = any(left[site.name] > 0 for site, _ in each.values())
        wanted = open_questions(each, judge(number)) if may_ask else each
        for key, question in wanted.items():
            name = question[0].name
            if left[name] > 0:
                left[name] -= 1
                kept[key] = question
        found.append(kept)
        if len(kept) < len(wanted):
            cut.add(number)
    return found, frozenset(cut)


def ask(questions: Sequence[Questions], dialects: Mapping[str, Scheduler], env: Mapping[str, str]) -> list[Estimates]:
    """Ask all sites at once, each in as few round trips as its transport can; no answer in time is no opinion."""
    sites = {site.name: site for each in questions for site, _ in each.values()}
    asked: dict[str, dict[tuple[int, str], Errand]] = {name: {} for name in sites}
    for number, each in enumerate(questions):
        for key, (site, errand) in each.items():
            asked[site.name][number, key] = errand
    calls = {name: partial(_ask_site, site, asked[name], dialects[name], env) for name, site in sites.items()}
    deadline = max((site.probe_deadline for site in sites.values()), default=0)
    answers: list[Estimates] = [{} for _ in questions]
    for found in AtOnce(calls, deadline).answers().values():
        for (number, key), estimate in found.items():
            answers[number][key] = estimate
    return answers


def _ask_site(
    site: Site, questions: Mapping[tuple[int, str], Errand], dialect: Scheduler, env: Mapping[str, str]
) -> dict[tuple[int, str], StartEstimate]:
    answers = registry.transport(site, env).run_all(tuple(questions.values()), within=site.probe_deadline)
    return {
        key: dialect.parse_start_estimate(answer)
        for key, answer in zip(questions, answers, strict=True)
        if not isinstance(answer, HpcError)
    }
