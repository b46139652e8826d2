"""Tests of the sentence under a leaderboard: it claims what the seeds show and no more."""

import pytest

from primordium.cli.standings import correlation_lines, lead_data, verdict
from primordium.results import Comparison, Scores, standing
from primordium.search.comparison import RungCorrelation

TEXT = "layer[affine]: tanh(x)"


def scores(*values: float) -> Scores:
    """One architecture's scores by seed."""
    return {str(seed): {"net": value} for seed, value in enumerate(values)}


def compared(found: Scores, known: Scores, level: float = 0.95) -> Comparison:
    """A leaderboard of one candidate and two baselines, the second of them hopeless."""
    finals = {"c00001": found, "good": known, "bad": scores(0.1, 0.1, 0.1)}
    standings = [standing(name, TEXT, by_seed, name != "c00001") for name, by_seed in finals.items()]
    return Comparison(sorted(standings, key=lambda line: -line.mean), finals, level)


CASES = {
    "a clear lead": (scores(0.91, 0.92, 0.93), scores(0.81, 0.82, 0.83), "c00001 beats good"),
    "a lead within the noise": (scores(0.9, 0.8, 0.7), scores(0.6, 0.9, 0.7), "are not separated at 95 %"),
    "no difference": (scores(0.9, 0.8, 0.7), scores(0.9, 0.8, 0.7), "are not separated at 95 %"),
    "behind": (scores(0.71, 0.72, 0.73), scores(0.91, 0.92, 0.93), "No candidate beats good"),
    "wide intervals, paired": (scores(0.9, 0.5, 0.1), scores(0.89, 0.488, 0.091), "c00001 beats good"),
    "no common seeds": ({"8": {"net": 0.9}}, {"9": {"net": 0.2}}, "are not separated at 95 %"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_claims_what_the_seeds_show(case: str) -> None:
    """Protects users from believing a lead that is luck, and from missing one that pairing shows."""
    found, known, expected = CASES[case]
    comparison = compared(found, known)
    sentence = verdict(comparison)
    assert expected in sentence
    lead = lead_data(comparison)
    assert lead is not None
    assert lead["sentence"] == sentence
    assert lead["separated"] == ("not separated" not in sentence)
    assert (lead["candidate"], lead["baseline"]) == ("c00001", "good")


def test_without_a_comparison_nothing_is_claimed() -> None:
    """Protects runs without baselines or without a candidate."""
    only = [standing("good", TEXT, scores(0.1, 0.2), True)]
    assert (
        verdict(Comparison(only, {"good": scores(0.1, 0.2)})) == "No candidate was compared with a baseline."
    )
    assert lead_data(Comparison([], {})) is None


def test_who_has_looked_often_needs_more_to_claim_a_lead() -> None:
    """Protects from the lead that comes by itself when seeds are added until there is one."""
    found, known = scores(0.91, 0.93, 0.95), scores(0.86, 0.90, 0.90)
    assert "c00001 beats good" in verdict(compared(found, known))
    assert "are not separated" in verdict(compared(found, known, level=0.9875))


def test_a_weak_rank_correlation_is_warned_of() -> None:
    """Protects from trusting a proxy that ranks candidates as chance would."""
    strong = RungCorrelation("search", "10× training", 0.9, 8)
    weak = RungCorrelation("10× training", "fresh seeds", 0.1, 5)
    few = RungCorrelation("fresh seeds", "held-out data", None, 2)
    lines = correlation_lines([strong, weak, few])
    assert "search → 10× training 0.90 (8 candidates)" in lines[0]
    assert "held-out" not in lines[0]
    assert ["Warning: ranks by 10× training say little" in line for line in lines[1:]] == [True]
    assert correlation_lines([few]) == []
