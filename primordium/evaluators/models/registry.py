"""The networks by name."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import nn

from primordium.errors import ConfigError
from primordium.evaluators.models.bottleneck import inverted_bottleneck, squeeze_excite
from primordium.evaluators.models.mlp import mlp
from primordium.evaluators.models.parts import Parts, SiteFactory
from primordium.evaluators.models.residual import residual

Builder = Callable[[Parts, tuple[int, ...], int, int], nn.Module]
"""Makes a network from its parts, the shape of one input, the number of classes and a width."""

MODELS: dict[str, Builder] = {
    "residual": residual,
    "inverted_bottleneck": inverted_bottleneck,
    "squeeze_excite": squeeze_excite,
    "mlp": mlp,
}


class HasShape(Protocol):
    """What a network needs to know about its task."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @property
    def classes(self) -> int:
        """The number of outputs."""


def build_model(name: str, task: HasShape, site: SiteFactory, width: int = 8, seed: int = 0) -> nn.Module:
    """The network `name` for one task, with the caller's layer at every norm-act site.

    The weights of its own layers are the same for every `site`. A site that draws random initial
    values draws them from another generator, derived from `seed`; the global one stays as it was.

    Raises ConfigError for an unknown name, a width or seed out of range, or inputs it cannot take.
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}; the models are {', '.join(sorted(MODELS))}")
    if width < 1 or seed < 0:
        raise ConfigError(f"model {name!r}: width={width}, seed={seed}; the least are width 1 and seed 0")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return MODELS[name](Parts(site, seed), task.input_shape, task.classes, width)
