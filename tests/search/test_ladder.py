"""Tests of the gate ladder's account: what gates saw, saved and lost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from fake_search import RICH, fold, run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from primordium.errors import PluginError
from primordium.search.ladder import Rung, best_bar, gate_names, is_false_kill, ladder
from primordium.search.progress import FAILURE, Audit, Progress

SCREENING, TRAINING = ("static", "numeric"), ("ten_step", "quality")


def progress_of(killed: dict[str, dict[str, int]], raw: int, trained: int) -> Progress:
    """A run of so many proposals and results."""
    progress = Progress()
    progress.raw, progress.trained, progress.killed = raw, trained, killed
    progress.seconds = {"static": 2.0, "quality": 30.0}
    return progress


def test_what_a_gate_lets_through_is_what_the_next_one_sees() -> None:
    """Protects the account: seen less killed is handed on, duplicates are counted where they are found."""
    killed = {
        "static": {"constant": 50, "too large": 10},
        "duplicate": {"same structure": 5, "same behaviour": 3, "same batch": 1},
        "numeric": {"not finite": 11},
        "ten_step": {"loss explodes": 4},
        "quality": {"below chance": 6},
        FAILURE: {"timeout": 1},
    }
    rungs = ladder(progress_of(killed, raw=100, trained=18), SCREENING, TRAINING)
    assert [(rung.gate, rung.seen, sum(rung.killed.values())) for rung in rungs] == [
        ("static", 100, 60),
        ("duplicate (structure)", 40, 5),
        ("numeric", 35, 11),
        ("duplicate (behaviour)", 24, 4),
        (FAILURE, 18, 1),
        ("ten_step", 17, 4),
        ("quality", 13, 6),
    ]
    assert [rung.seconds for rung in rungs] == [2.0, 0, 0, 0, 0, 0, 30.0]
    for before, after in pairwise(rungs[:4]):
        assert after.seen == before.seen - sum(before.killed.values())


def test_a_run_that_has_not_begun_has_an_account_of_zeros() -> None:
    """Protects the display in the first seconds, and one without failures from a line for them."""
    rungs = ladder(Progress(), SCREENING, TRAINING)
    assert [rung.seen for rung in rungs] == [0] * 6
    assert FAILURE not in [rung.gate for rung in rungs]


def test_gates_are_named_in_the_order_in_which_candidates_meet_them() -> None:
    """Protects the account's order from that of a configuration, and leaves out gates after the last step."""
    gates = {"quality": {"steps": 100}, "ten_step": {}, "numeric": {}, "static": {}}
    assert gate_names(gates, steps=200) == (("static", "numeric"), ("ten_step", "quality"))
    assert gate_names(gates, steps=99) == (("static", "numeric"), ("ten_step",))
    with pytest.raises(PluginError, match="unknown gate 'nothing'"):
        gate_names({"static": {}, "nothing": {}}, steps=1)


# ---------------------------------------------------------------------------------------------- what is saved

SECONDS = {
    "static": 2.0,
    "duplicate": 1.0,
    "numeric": 4.0,
    "ten_step": 30.0,
    "quality": 50.0,
    "score": 100.0,
    # none of these is spent on candidates on their way through the ladder
    "propose": 1_000.0,
    "audit": 2_000.0,
    "evaluate": 4_000.0,
    "rung": 8_000.0,
    "final": 16_000.0,
}
KILLED = {
    "static": {"constant": 300},
    "duplicate": {"same structure": 150, "same behaviour": 40, "same batch": 10},
    "numeric": {"not finite": 100},
    "ten_step": {"loss explodes": 100},
    "quality": {"below chance": 150},
    FAILURE: {"timeout": 20, "crashed": 30},
}


def test_a_kill_saves_what_those_that_passed_cost_further_on() -> None:
    """By hand, from a thousand proposals: each gate's kills at the mean price of all that comes after it."""
    progress = progress_of(KILLED, raw=1_000, trained=400)
    progress.seconds = dict(SECONDS)
    saved = {rung.gate: rung.saved for rung in ladder(progress, SCREENING, TRAINING)}
    assert saved == pytest.approx(
        {
            "static": 300 * (1 + 4 + 30 + 50 + 100) / 700,
            "duplicate (structure)": 150 * (4 + 30 + 50 + 100) / 550,
            "numeric": 100 * (30 + 50 + 100) / 450,
            "duplicate (behaviour)": 50 * (30 + 50 + 100) / 400,
            FAILURE: 50 * (30 + 50 + 100) / 350,
            "ten_step": 100 * (50 + 100) / 250,
            "quality": 150 * 100 / 100,
        }
    )


def test_a_gate_that_kills_nobody_saves_nothing_and_one_that_kills_all_cannot_say() -> None:
    """No price is known of what nobody came to."""
    progress = progress_of({"static": {"constant": 10}}, raw=10, trained=0)
    assert [rung.saved for rung in ladder(progress, SCREENING, TRAINING)] == [0.0] * 6
    progress = progress_of({}, raw=10, trained=10)
    assert [rung.saved for rung in ladder(progress, SCREENING, TRAINING)] == [0.0] * 6


def test_the_account_of_a_run_adds_up(tmp_path: Path) -> None:
    """From a log: proposals in, candidates out of the screen, scored ones out of training; and the audits."""
    run(tmp_path / "run", replace(RICH, candidates=90))
    progress = fold(tmp_path / "run")
    rungs = ladder(progress, ("static", "numeric", "gradient"), ("quality",))
    assert rungs[0].seen == progress.raw
    for before, after in pairwise(rungs):
        assert after.seen == before.seen - sum(before.killed.values())
    assert [rung.seen for rung in rungs if rung.gate == FAILURE] == [progress.trained]
    assert rungs[-1].seen - sum(rungs[-1].killed.values()) == progress.scored
    assert sum(rung.audited for rung in rungs) == len(progress.audits)
    duplicates = {rung.gate: rung.audited for rung in rungs if rung.gate.startswith("duplicate")}
    assert sum(duplicates.values()) == progress.audits_by_gate["duplicate"]


# ----------------------------------------------------------------------------------------------- what is lost


def with_audits(fitnesses: Sequence[float], audits: Sequence[Audit]) -> Mapping[str, Rung]:
    """The rungs by gate of a run with these scores and audits."""
    progress = progress_of({}, raw=len(fitnesses), trained=len(fitnesses))
    progress.fitnesses.extend(fitnesses)
    progress.audits.extend(audits)
    return {rung.gate: rung for rung in ladder(progress, SCREENING, TRAINING)}


TWENTY = [place / 20 for place in range(1, 21)]
"""Scores of which 0.95 is the second best: the bar of the best tenth."""


@given(st.lists(st.sampled_from([-inf, 0.1, 0.2, 0.3, 0.4]), max_size=60))
def test_the_bar_is_the_least_of_the_best_tenth(fitnesses: list[float]) -> None:
    """Of those with scores, at least one; infinite where nobody has any."""
    scored = [value for value in fitnesses if value > -inf]
    bar = best_bar(fitnesses)
    if not scored:
        assert bar == inf
        return
    assert bar in scored
    count = max(1, round(0.1 * len(scored)))
    assert sum(value > bar for value in scored) < count <= sum(value >= bar for value in scored)


def test_a_kill_was_false_where_it_cost_one_of_the_best_tenth() -> None:
    """At the bar is in it; deaths do not raise or lower the bar."""
    audits = [
        Audit("quality", "below chance", 0.95, None),
        Audit("quality", "below chance", 1.2, None),
        Audit("quality", "below chance", 0.949, None),
        Audit("ten_step", "loss explodes", 0.0, None),
        Audit("static", "constant", 0.96, None),
    ]
    rungs = with_audits([*TWENTY, *[-inf] * 30], audits)
    assert {gate: (rung.audited, rung.false_kills) for gate, rung in rungs.items() if rung.audited} == {
        "static": (1, 1),
        "ten_step": (1, 0),
        "quality": (3, 2),
    }


@pytest.mark.parametrize(
    ("fitness", "twin", "false"),
    [
        (0.97, 0.97, False),  # the run has its like among the best
        (0.97, 0.95, False),
        (0.97, 0.94, True),  # they are not alike after all
        (0.97, -inf, True),
        (0.94, 0.2, False),
        (0.0, -inf, False),
    ],
)
def test_a_duplicate_is_lost_only_if_its_twin_is_not_among_the_best(
    fitness: float, twin: float, false: bool
) -> None:
    """What the run has already, it cannot lose."""
    for reason, gate in (
        ("same structure", "duplicate (structure)"),
        ("same behaviour", "duplicate (behaviour)"),
        ("same batch", "duplicate (behaviour)"),
    ):
        audit = Audit("duplicate", reason, fitness, twin)
        assert is_false_kill(audit, 0.95) == false
        rungs = with_audits(TWENTY, [audit])
        assert [rung.gate for rung in rungs.values() if rung.audited] == [gate]
        assert rungs[gate].false_kills == false


def test_nobody_is_lost_by_a_run_without_scores() -> None:
    """There is no best tenth to belong to."""
    rungs = with_audits([-inf] * 5, [Audit("quality", "below chance", 0.9, None)])
    assert (rungs["quality"].audited, rungs["quality"].false_kills) == (1, 0)


def test_a_false_kill_rate_has_its_interval_and_none_without_audits() -> None:
    """Nothing measured is not the same as nothing lost."""
    rungs = with_audits(TWENTY, [Audit("quality", "x", 0.1 + 0.3 * place, None) for place in range(4)])
    rate = rungs["quality"].false_kill_rate
    exact = stats.binomtest(1, 4).proportion_ci(method="exact")
    assert rate == pytest.approx((0.25, exact.low, exact.high))
    assert rungs["ten_step"].false_kill_rate is None
    assert Rung("static", 10, {}, 0.0, audited=3).false_kill_rate == pytest.approx((0.0, 0.0, 0.7075982))
