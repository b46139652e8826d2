"""Whether a call keeps off the global random generators, and whether it depends on them."""

import pickle
import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")

_GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "random": (random.getstate, random.setstate),
    "numpy.random": (np.random.get_state, np.random.set_state),
    "torch": (
        lambda: torch.get_rng_state().numpy(),
        lambda state: torch.set_rng_state(torch.from_numpy(state)),
    ),
}


def under_global_seed(seed: int, call: Callable[[], Result]) -> tuple[Result, list[str]]:
    """What a call gives under one seed of every global generator, and which of them it moved.

    The generators are as before afterwards, whether or not the call raises.
    """
    before = _states()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        start = _states()
        result = call()
        end = _states()
    finally:
        for name, (_, restore) in _GENERATORS.items():
            restore(before[name])
    return result, [name for name in _GENERATORS if pickle.dumps(start[name]) != pickle.dumps(end[name])]


def _states() -> dict[str, Any]:
    return {name: read() for name, (read, _) in _GENERATORS.items()}
