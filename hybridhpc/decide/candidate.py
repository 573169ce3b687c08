"""The values of a decision: Candidate, Forecast, Quote, Choice, Ranking. No arithmetic here."""

from __future__ import annotations

from hybridhpc.decide.promise import Promise
from hybridhpc.model import AT_ONCE, Gpus, Quantiles, Usd, UsdPerHour
from hybridhpc.sites.site import Site
from hybridhpc.values import dataclass

Effort = tuple[int, float]
"""How much changes take: their kinds (see OF_THE_JOB ...), then how far they move the figures of the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A site, a partition and a purchase option that might do, with the GPU alternative it would use."""

    site: Site
    partition: str
    purchase: str
    gpus: Gpus | None
    """Per node; None: no GPUs."""

    @property
    def name(self) -> str:
        """How it is called in tables; breaks ties in the ranking."""
        return f"{self.site.name}/{self.partition}" + (f"/{self.purchase}" if self.purchase != "owned" else "")

    @property
    def key(self) -> str:
        """What tells it from every other candidate of one decision: its name and its GPU alternative."""
        return f"{self.name} {self.gpus}" if self.gpus else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When the job would start and how long it would run, in seconds from now; `basis` says from what, in words."""

    start: Quantiles
    run: Quantiles
    basis: str
    boot: float = 0.0
    """Of the start's p50, the seconds in which nodes boot."""
    at_once: bool = False
    """Nothing stands before it: its scheduler's own opinion about the start would change nothing."""
    held: bool = False
    """It waits for its release: all times count from then."""
    after: Quantiles = AT_ONCE
    """It could not start before, whatever is free."""
    promise: Promise | None = None
    """The same for the ledger, with what it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What the job would cost at its p50 run time, and at most: to its walltime; infinite if it has none.

    `source` says whose price it is.
    """

    usd: Usd
    most: Usd
    per_hour: UsdPerHour
    """Dollars per hour of running, all tasks of an array together."""
    source: str
    blocked: float = 0.0
    """GPUs that it is charged for beyond those it gets, since its CPUs or memory keep them from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A candidate judged: forecast, quote and score if it may run there, else why it is refused."""

    candidate: Candidate
    forecast: Forecast | None = None
    quote: Quote | None = None
    score: float | None = None
    """Dollars: price plus the worth of the time until it is finished. Lower is better."""
    refused: str | None = None
    would_admit: str | None = None
    """For a near miss: the fewest and smallest changes that would admit it, in words."""
    effort: Effort = (0, 0.0)
    """How much those change; for telling which of several places the job misses by the least."""
    reason: str = ""
    """Why it won or lost against the winner, in words, and the remarks."""
    remarks: tuple[str, ...] = ()
    """What else a person should know of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All choices, best first, the refused ones last; sites that could not be asked beside them."""

    choices: tuple[Choice, ...]
    silent: tuple[tuple[str, str], ...] = ()
    """Site and why nothing is known of it."""
    unheard: tuple[str, ...] = ()
    """Those of them that were asked, gave no answer, and might run it for all that is known."""

    @property
    def winner(self) -> Choice | None:
        """The placement: the first choice that is not refused."""
        return self.choices[0] if self.choices and self.choices[0].refused is None else None
