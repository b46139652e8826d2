"""Tests of the gate ladder's account."""

from itertools import pairwise

import pytest

from primordium.errors import PluginError
from primordium.search.ladder import gate_names, ladder
from primordium.search.progress import FAILURE, Progress
from primordium.search.proposer import Individual
from primordium.search.space import get_space

SCREENING, TRAINING = ("static", "numeric"), ("ten_step", "quality")


def progress_of(killed: dict[str, dict[str, int]], raw: int, trained: int) -> Progress:
    """A run of so many proposals and results."""
    progress = Progress()
    progress.raw, progress.killed, progress.seconds = raw, killed, {"static": 2.0, "quality": 30.0}
    genome = get_space("evonorm_s").genome(get_space("evonorm_s").leaves)
    progress.history = [Individual(f"c{n}", genome, {}, 0.0) for n in range(trained)]
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
