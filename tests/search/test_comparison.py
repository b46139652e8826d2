"""Tests of the comparison's statistics against scipy and by simulation."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from fake_search import RICH, SETTINGS, fold, run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from primordium.search.comparison import (
    LEVEL,
    WEAK,
    Difference,
    RungCorrelation,
    difference,
    half_width,
    look_level,
    looks,
    mean_score,
    proportion_interval,
    rank_correlation,
    rung_correlations,
    unsettled,
)
from primordium.search.progress import Progress, fitness

unit = st.integers(0, 1000).map(lambda number: number / 1000)
levels = st.sampled_from([0.5, 0.9, 0.95, 0.99, look_level(3, 8)])


def entry(values: Sequence[float], first: int = 0) -> dict[str, dict[str, float]]:
    """Scores of one architecture with the seeds from ``first`` on."""
    return {str(first + place): {"a": value} for place, value in enumerate(values)}


# -------------------------------------------------------------------------------------------------- intervals


@given(st.lists(unit, min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1), levels)
def test_the_interval_of_a_mean_is_students(values: list[float], level: float) -> None:
    """Half of what scipy says, at every level and number of seeds."""
    mean, count = math.fsum(values) / len(values), len(values)
    low, high = stats.t.interval(level, count - 1, loc=mean, scale=stats.sem(values))
    assert half_width(values, level) == pytest.approx((high - low) / 2, rel=1e-6)


def test_below_two_values_there_is_no_interval() -> None:
    """One seed says nothing of the noise; two that agree say that there is none."""
    assert half_width([]) is None
    assert half_width([0.5]) is None
    assert half_width([0.5, 0.5]) == 0.0


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_of_a_proportion_is_clopper_and_pearsons(level: float) -> None:
    """As scipy's exact one for every outcome of up to 12 trials, and some of many."""
    pairs = [(k, n) for n in range(1, 13) for k in range(n + 1)] + [(3, 400), (399, 400), (700, 1000)]
    for successes, trials in pairs:
        expected = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
        found = proportion_interval(successes, trials, level)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert found[0] <= successes / trials <= found[1]


def test_without_trials_a_proportion_can_be_anything() -> None:
    """Nothing was audited, nothing is known."""
    assert proportion_interval(0, 0) == (0.0, 1.0)


# ------------------------------------------------------------------------------------------------ differences


@given(st.lists(st.tuples(unit, unit), min_size=2, max_size=8))
def test_a_difference_pairs_seed_by_seed(pairs: list[tuple[float, float]]) -> None:
    """The mean and the interval of the paired differences, whatever the order of the seeds; antisymmetric."""
    a, b = entry([pair[0] for pair in pairs]), entry([pair[1] for pair in pairs])
    values = [x - y for x, y in pairs]
    found = difference(a, dict(reversed(b.items())))
    assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-12)
    assert found.interval == pytest.approx(half_width(values), abs=1e-12)
    assert (found.seeds, found.level) == (len(pairs), LEVEL)
    back = difference(b, a)
    assert back.mean == pytest.approx(-found.mean, abs=1e-12)
    assert back.interval == pytest.approx(found.interval, abs=1e-12)


def test_what_seeds_have_in_common_does_not_blur_a_difference() -> None:
    """The point of pairing: seeds differ by more than the entries, which are told apart all the same."""
    random = Random(1)
    noise = [random.uniform(0.2, 0.8) for _ in range(4)]
    a = entry([value + 0.01 + 0.001 * place for place, value in enumerate(noise)])
    b = entry(noise)
    assert difference(a, b).separated
    assert difference(b, a).separated
    crossed = entry(noise[1:] + noise[:1])
    assert not difference(a, crossed).separated


def test_only_common_seeds_count() -> None:
    """Who was trained with more seeds is compared over those that both have; without any, not at all."""
    a, b = entry([0.1, 0.2, 0.3, 0.4, 0.5]), entry([0.1, 0.2, 0.9], first=2)
    assert difference(a, b) == difference(entry([0.3, 0.4, 0.5], first=2), b)
    assert difference(a, b).seeds == 3
    assert difference(a, entry([0.5], first=9)) == Difference(0.0, None, 0)
    assert not difference(a, entry([0.9], first=0)).separated


def test_scores_are_means_over_architectures_then_seeds() -> None:
    """A seed counts once, however many architectures; one that failed counts as nothing."""
    scores = {"1": {"a": 0.2, "b": 0.6}, "2": {"a": 0.8}, "3": {}}
    assert mean_score(scores) == pytest.approx((0.4 + 0.8 + 0.0) / 3)
    assert mean_score({}) == 0.0
    assert difference(scores, {seed: {} for seed in scores}).mean == pytest.approx(mean_score(scores))


def test_separation_is_strict_and_takes_the_level() -> None:
    """An interval that touches 0 does not leave it out; more confidence asks for more."""
    assert Difference(-0.2, 0.1, 3).separated
    assert not Difference(0.1, 0.1, 3).separated
    assert not Difference(0.0, 0.0, 3).separated
    assert not Difference(0.5, None, 1).separated
    a, b = entry([0.60, 0.64, 0.62]), entry([0.55, 0.55, 0.55])
    assert difference(a, b, 0.95).separated
    assert not difference(a, b, 0.99).separated
    assert difference(a, b, 0.99).level == 0.99


# ------------------------------------------------------------------------------------------------------ looks


def test_looks_grow_by_half() -> None:
    """What the manual says of the default, and one look where there is nothing to add."""
    assert looks(3, 8) == (3, 5, 8)
    assert looks(3, 30) == (3, 5, 8, 12, 18, 27, 30)
    assert looks(3, 3) == looks(3, 0) == (3,)


@given(st.integers(1, 40), st.integers(0, 60))
def test_looks_go_from_the_least_to_the_most(least: int, most: int) -> None:
    """Every look adds seeds, none by more than half again, and all that are allowed are used."""
    counts = looks(least, most)
    assert counts[0] == least
    assert counts[-1] == max(least, most)
    for before, after in pairwise(counts):
        assert before < after <= math.ceil(before * 1.5)
    assert 1 - look_level(least, most) == pytest.approx((1 - LEVEL) / len(counts))


def false_separations(trials: int, least: int, most: int, level: float) -> float:
    """How often two entries that are alike are called separated at one of the looks."""
    random = Random(11)
    false = 0
    for _ in range(trials):
        new, old = ([random.gauss(0.5, 0.1) for _ in range(most)] for _ in range(2))
        for count in looks(least, most):
            scores = {"new": entry(new[:count]), "old": entry(old[:count])}
            if not unsettled(scores, ("old",), level):
                false += 1
                break
    return false / trials


@pytest.mark.parametrize(("least", "most"), [(3, 8), (3, 30)])
def test_looking_again_and_again_does_not_separate_what_is_alike(least: int, most: int) -> None:
    """With the level of the looks, at most 5 % by chance over all of them; without it, clearly more."""
    trials = 1_000
    noise = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert false_separations(trials, least, most, look_level(least, most)) <= 0.05 + noise
    assert false_separations(trials, least, most, LEVEL) > 0.05 + noise


# -------------------------------------------------------------------------------------------------- unsettled


def test_what_is_unsettled_is_named_with_the_baseline_it_is_compared_with() -> None:
    """The best baseline is the rival; whoever is clearly ahead or behind it is settled."""
    wobble = [0.00, 0.02, 0.01]
    scores = {
        "close": entry([0.7 + w for w in reversed(wobble)]),
        "ahead": entry([0.9 + w for w in wobble]),
        "behind": entry([0.1 + w for w in wobble]),
        "good": entry([0.7 + w / 2 for w in wobble]),
        "bad": entry([0.3 + w for w in wobble]),
    }
    assert unsettled(scores, ("good", "bad"), LEVEL) == ["close", "good"]
    assert unsettled({n: s for n, s in scores.items() if n != "close"}, ("good", "bad"), LEVEL) == []
    twin = {**scores, "twin": scores["good"]}
    assert unsettled(twin, ("good", "bad", "twin"), LEVEL) == ["close", "twin", "good"]
    del twin["close"]
    assert unsettled(twin, ("good", "bad", "twin"), LEVEL) == []


def test_without_a_baseline_nothing_is_unsettled() -> None:
    """There is no rival, or none that was trained."""
    scores = {"one": entry([0.5, 0.5, 0.5]), "two": entry([0.5, 0.5, 0.5])}
    assert unsettled(scores, (), LEVEL) == []
    assert unsettled(scores, ("bn_relu",), LEVEL) == []
    assert unsettled(scores, ("two",), LEVEL) == ["one", "two"]
    assert unsettled({}, ("two",), LEVEL) == []


# ------------------------------------------------------------------------------------------ rank correlations


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, means of ranks at ties."""
    return [sum(v < value for v in values) + (values.count(value) + 1) / 2 for value in values]


few = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(few, few), max_size=9))
def test_a_rank_correlation_is_spearmans(pairs: list[tuple[float, float]]) -> None:
    """As scipy's, and as Pearson's of the ranks; ``None`` below four names or where all are tied."""
    before = {f"c{place}": pair[0] for place, pair in enumerate(pairs)}
    after = {f"c{place}": pair[1] for place, pair in reversed(list(enumerate(pairs)))}
    found = rank_correlation(before, after)
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(pairs) < 4 or len(set(a)) < 2 or len(set(b)) < 2:
        assert found is None
        return
    assert found == pytest.approx(float(stats.spearmanr(a, b).statistic))
    assert found == pytest.approx(float(stats.pearsonr(ranks(a), ranks(b)).statistic))


def test_a_rank_correlation_is_over_the_names_that_both_have() -> None:
    """Others do not count, not even towards the four that it takes."""
    before = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 0.0}
    after = {"f": 9.0, "d": 10.0, "c": 30.0, "b": 20.0, "a": 40.0}
    assert rank_correlation(before, after) == pytest.approx(-0.8)
    del after["a"]
    assert rank_correlation(before, after) is None


def test_a_weak_correlation_is_one_that_was_measured() -> None:
    """Too few candidates to say is no sign of weakness."""
    assert RungCorrelation("search", "3× training", WEAK - 0.01, 9).weak
    assert not RungCorrelation("search", "3× training", WEAK, 9).weak
    assert not RungCorrelation("search", "3× training", None, 3).weak


def test_each_rung_is_compared_with_the_next(tmp_path: Path) -> None:
    """From the search to the held-out data, over the candidates that both have trained; baselines apart."""
    run(tmp_path / "run", RICH)
    progress = fold(tmp_path / "run")
    found = rung_correlations(progress)
    assert [(line.before, line.after, line.candidates) for line in found] == [
        ("search", "3× training", 5),
        ("3× training", "9× training", 3),
        ("9× training", "fresh seeds", 2),
        ("fresh seeds", "held-out data", 2),
    ]
    rung = progress.stages[0]
    (seed,) = rung.seeds
    before = [progress.individual(name).fitness for name in rung.names]
    after = [fitness(rung.scores[name][str(seed)]) for name in rung.names]
    assert found[0].rho == pytest.approx(float(stats.spearmanr(before, after).statistic))
    assert [line.rho for line in found[1:]] == [None] * 3


def test_without_stages_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """A run that goes on has one rung; one without promotion goes from the search to fresh seeds."""
    assert rung_correlations(Progress()) == []
    run(tmp_path / "run")
    found = rung_correlations(fold(tmp_path / "run"))
    assert [(line.before, line.after) for line in found] == [
        ("search", "fresh seeds"),
        ("fresh seeds", "held-out data"),
    ]
    assert [line.candidates for line in found] == [SETTINGS.finalists] * 2
