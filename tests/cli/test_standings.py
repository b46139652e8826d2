"""Tests of the sentence under a leaderboard: it claims what the seeds show and no more."""

import pytest

from primordium.cli.standings import lead_data, verdict
from primordium.results import Scores, Standing, standing

TEXT = "layer[affine]: tanh(x)"


def scores(*values: float) -> Scores:
    """One architecture's scores by seed."""
    return {str(seed): {"net": value} for seed, value in enumerate(values)}


def compared(found: Scores, known: Scores) -> tuple[list[Standing], dict[str, Scores]]:
    """A leaderboard of one candidate and two baselines, the second of them hopeless."""
    finals = {"c00001": found, "good": known, "bad": scores(0.1, 0.1, 0.1)}
    standings = [standing(name, TEXT, by_seed, name != "c00001") for name, by_seed in finals.items()]
    return sorted(standings, key=lambda line: -line.mean), finals


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
    standings, finals = compared(found, known)
    sentence = verdict(standings, finals)
    assert expected in sentence
    lead = lead_data(standings, finals)
    assert lead is not None
    assert lead["sentence"] == sentence
    assert lead["separated"] == ("not separated" not in sentence)
    assert (lead["candidate"], lead["baseline"]) == ("c00001", "good")


def test_without_a_comparison_nothing_is_claimed() -> None:
    """Protects runs without baselines or without a candidate."""
    only = [standing("good", TEXT, scores(0.1, 0.2), True)]
    assert verdict(only, {"good": scores(0.1, 0.2)}) == "No candidate was compared with a baseline."
    assert lead_data([], {}) is None
