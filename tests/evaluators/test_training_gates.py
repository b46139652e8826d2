"""Tests of the training gates, on the progress of networks that never were."""

import math

import pytest

from primordium.evaluators.gate import Progress
from primordium.evaluators.training_gates import Quality, TenStep


def progress(
    losses: dict[str, tuple[float, ...]] | None = None,
    finite: dict[str, bool] | None = None,
    scores: dict[str, float] | None = None,
    chance: float | None = 0.1,
) -> Progress:
    """Two networks in training, well unless told otherwise."""
    names = ("a", "b")
    return Progress(
        losses or dict.fromkeys(names, (2.3, 2.0, 1.7)),
        {**dict.fromkeys(names, True), **(finite or {})},
        {**dict.fromkeys(names, 0.5), **(scores or {})},
        chance,
    )


def test_what_learns_passes() -> None:
    """Falling losses and scores above chance are all that is asked."""
    assert TenStep().check(progress()) is None
    assert Quality().check(progress()) is None


def test_a_loss_that_is_not_finite_kills_on_any_architecture() -> None:
    """The other network cannot make up for it, and the reason names the one that broke."""
    broken = progress(finite={"b": False})
    assert TenStep().check(broken) == "loss not finite on b"
    assert Quality().check(broken) == "loss not finite on b"
    at_once = progress(losses={"a": (), "b": (2.3,)}, finite={"a": False})
    assert TenStep().check(at_once) == "loss not finite on a"


@pytest.mark.parametrize(
    ("losses", "killed"),
    [
        ((2.3, 22.9, 1.0), False),  # at the bound
        ((2.3, 23.1, 1.0), True),  # beyond it at any step, though it recovered
        ((2.3, 1.0, 1e30), True),
        ((0.0, 1e-6, 0.0), False),  # nothing at first: a bound of its own
        ((0.0, 1e-3, 0.0), True),
        ((-5.0, 3.0, -8.0), False),  # a loss that may be negative
        ((-5.0, 51.0, -8.0), True),
        ((2.3,), False),
    ],
)
def test_a_loss_explodes_where_it_outgrows_the_first_ten_times(
    losses: tuple[float, ...], killed: bool
) -> None:
    """Growth is measured against the first loss, over all steps."""
    verdict = TenStep().check(progress(losses={"a": (2.3, 2.0), "b": losses}))
    assert verdict == ("loss explodes on b" if killed else None)
    assert TenStep(growth=1e40).check(progress(losses={"b": losses})) is None


@pytest.mark.parametrize("score", [0.2, 0.19, 0.0, math.nan])
def test_quality_is_a_multiple_of_chance_on_every_architecture(score: float) -> None:
    """Twice chance is enough, less is not, and what is no number is less."""
    verdict = Quality().check(progress(scores={"b": score}))
    assert verdict == (None if score == 0.2 else "below 2 × chance on b")
    assert Quality(factor=0.0).check(progress(scores={"b": 0.0})) is None
    assert Quality(factor=2.5).check(progress(scores={"a": 0.2})) == "below 2.5 × chance on a"


def test_without_classes_there_is_no_chance() -> None:
    """A task whose metric may be negative is not killed for being below a chance that nobody knows."""
    assert Quality().check(progress(scores={"a": -3.0}, chance=None)) is None
    assert Quality().check(progress(finite={"a": False}, chance=None)) == "loss not finite on a"


def test_gates_say_when_they_look_and_at_what() -> None:
    """Validation costs time: only the gate that needs it asks for it."""
    assert (TenStep().steps, TenStep.needs_scores) == (10, False)
    assert (Quality().steps, Quality.needs_scores) == (100, True)
