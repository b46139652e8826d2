"""A multilayer perceptron: sites on [B, C], where statistics have no space to average over."""

import math

from torch import nn

from primordium.evaluators.models.parts import Parts

_HIDDEN_LAYERS = 3
_UNITS_PER_WIDTH = 8


def mlp(parts: Parts, input_shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """Three hidden layers of 8 x `width` units on the flattened input, a site after each."""
    layers: list[nn.Module] = [nn.Flatten()]
    features, units = math.prod(input_shape), _UNITS_PER_WIDTH * width
    for _ in range(_HIDDEN_LAYERS):
        layers += [parts.linear(features, units), parts.site(units)]
        features = units
    return nn.Sequential(*layers, parts.linear(features, classes))
