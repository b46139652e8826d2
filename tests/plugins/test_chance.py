"""A call under another global seed: what it drew from is named, and nothing of it remains."""

import random

import numpy as np
import pytest
import torch

from primordium.plugins.chance import under_global_seed


def draws() -> tuple[float, float, float]:
    """One number of every global generator."""
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.parametrize(
    ("call", "used"),
    [
        (lambda: 1.0, []),
        (lambda: random.Random(0).random(), []),
        (lambda: torch.rand((), generator=torch.Generator().manual_seed(0)), []),
        (lambda: random.random(), ["random"]),
        (lambda: np.random.random(), ["numpy.random"]),
        (lambda: torch.rand(()), ["torch"]),
        (draws, ["random", "numpy.random", "torch"]),
    ],
)
def test_the_generators_that_a_call_moves_are_named(call: object, used: list[str]) -> None:
    """Those of the call's own are its own affair."""
    assert callable(call)
    assert under_global_seed(1, call)[1] == used


def test_a_seed_decides_what_is_drawn() -> None:
    """The same seed gives the same numbers in all generators, another one others."""
    first, again, other = (under_global_seed(seed, draws)[0] for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


def seed_all(seed: int) -> None:
    """Seeds every global generator; a test that ends leaves them anywhere."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def fail() -> None:
    """Draws and raises."""
    draws()
    raise ValueError("no")


def test_nothing_of_it_remains() -> None:
    """The program's own draws go on as if there had been no call, even where that raised."""
    seed_all(5)
    expected = draws()
    seed_all(5)
    under_global_seed(1, draws)
    with pytest.raises(ValueError, match="no"):
        under_global_seed(1, fail)
    assert draws() == expected
