"""Laws of where jobs go that come after each other, whatever the sites and their scores."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.decide.candidate import Candidate, Choice, Ranking
from hybridhpc.decide.together import Member, common_site, offered, tie
from tests.worlds.stage import site

laws = settings(max_examples=200, deadline=None)
SITES = ("ash", "beech", "cedar", "dogwood")
scores = st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, math.nan, math.inf])


@st.composite
def rankings(draw):
    """Some places, best first, and some that are refused."""
    places = draw(st.lists(st.tuples(st.sampled_from(SITES), st.sampled_from("pq")), unique=True, max_size=8))
    refused = draw(st.integers(0, len(places)))
    found = draw(st.lists(scores, min_size=len(places) - refused, max_size=len(places) - refused))
    found.sort(key=lambda score: math.inf if math.isnan(score) else score)
    candidates = [Candidate(site=site(name), partition=part, purchase="owned", gpus=None) for name, part in places]
    admitted = [Choice(candidate=each, score=score) for each, score in zip(candidates, found, strict=False)]
    return Ranking(choices=(*admitted, *(Choice(candidate=each, refused="no") for each in candidates[len(admitted) :])))


@st.composite
def chains(draw):
    """Jobs in an order in which each but the first comes after some before it."""
    members = []
    for number in range(draw(st.integers(1, 6))):
        after = draw(st.frozensets(st.integers(0, number - 1), min_size=1)) if number else frozenset()
        members.append(Member(name=f"job{number}", after=after, ranking=draw(rankings())))
    return members


def goes_to(member, tied):
    """Return the sites that are left to a job."""
    return offered(member.ranking).keys() - dict(tied.barred).keys()


@laws
@given(chains())
def test_all_that_fit_somewhere_are_left_one_site_the_same_or_none(chain):
    ties = tie(chain)
    placeable = [each for each in zip(chain, ties, strict=True) if offered(each[0].ranking)]
    left = [goes_to(member, tied) for member, tied in placeable]
    chosen = common_site([offered(member.ranking) for member, _ in placeable])
    if len(placeable) > 1:
        assert all(sites == ({chosen} if chosen else set()) for sites in left)
    else:
        assert not any(tied.barred for tied in ties)


@laws
@given(chains())
def test_it_is_the_lowest_sum_of_those_where_all_fit(chain):
    offers = [offers for member in chain if (offers := offered(member.ranking))]
    chosen = common_site(offers)
    shared = [name for name in SITES if offers and all(name in offer for offer in offers)]
    assert (chosen is None) == (not shared)
    sums = {name: sum(offer[name][0] for offer in offers) for name in shared}
    if chosen:
        assert all(sums[chosen] <= other * (1 + 1e-9) for other in sums.values())


@laws
@given(chains(), st.randoms())
def test_the_order_does_not_matter(chain, shuffle):
    offers = [offered(member.ranking) for member in chain if offered(member.ranking)]
    mixed = [dict(shuffle.sample(list(offer.items()), len(offer))) for offer in shuffle.sample(offers, len(offers))]
    assert common_site(mixed) == common_site(offers)


@laws
@given(chains())
def test_a_job_that_fits_nowhere_changes_nothing_for_the_others(chain):
    without = Member(name="lost", after=frozenset({0}), ranking=Ranking(choices=()))
    *others, lost = tie([*chain, without])
    assert tuple(others) == tie(chain)
    assert not lost.barred and not lost.because


@laws
@given(rankings(), st.integers(2, 5))
def test_jobs_that_go_to_one_place_alone_go_there_together_and_need_no_reason(ranking, count):
    chain = [Member(name="x", after=frozenset(range(number)), ranking=ranking) for number in range(count)]
    for tied in tie(chain):
        assert not tied.because
        if ranking.winner:
            assert goes_to(chain[0], tied) == {ranking.winner.candidate.site.name}


@laws
@given(chains())
def test_who_goes_elsewhere_than_alone_is_told_why_and_nobody_else(chain):
    ties = tie(chain)
    for member, tied in zip(chain, ties, strict=True):
        winner = member.ranking.winner
        barred = dict(tied.barred)
        moved = (
            winner is not None and winner.candidate.site.name in barred and len(barred) < len(offered(member.ranking))
        )
        assert bool(tied.because) == moved
        assert all(f"job{number}" not in tied.because for number in range(6) if chain.index(member) == number)
