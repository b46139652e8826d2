"""What every network is built from: seeded weights, norm-act sites, and a plan from the size of an image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primordium.errors import ConfigError

SiteFactory = Callable[[int, bool], nn.Module]
"""Makes the layer of one norm-act site from its number of channels and `apply_act`.

The layer maps [B, C, *S] to the same shape. `apply_act=False` marks a site that has a normalization
but no activation, such as the end of a linear bottleneck.
"""

HE_GAIN = math.sqrt(2.0)
"""The gain that keeps the second moment through ReLU (He et al., 2015)."""

_STEM_SIDE = 8  # the stem strides until its map is no larger,
_MAX_STEM_STRIDE = 4  # as far as its stride allows;
_LAST_SIDE = 4  # then stages are added until the last one's map is no larger


class Parts:
    """The supplier of one network: each convolution and linear layer draws from one generator in turn.

    So the weights depend on the seed and the order of the calls, not on the layers at the sites, and
    no global generator is used. Weights are normal with standard deviation `gain` / √fan-in, biases zero;
    another gain scales the same draws.

    Attributes:
        gain: that of weights behind a site.
    """

    def __init__(self, site: SiteFactory, seed: int, gain: float = HE_GAIN) -> None:
        self._site = site
        self.gain = gain
        self._generator = torch.Generator().manual_seed(seed)

    def conv(
        self, channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> nn.Conv2d:
        """A convolution without bias that divides the side of a map by `stride`, rounding up."""
        padding = (kernel - 1) // 2
        conv = nn.Conv2d(
            channels, out_channels, kernel, stride, padding, groups=groups, bias=False, device="meta"
        ).to_empty(device="cpu")
        self._draw(conv.weight, self.gain)
        return conv

    def linear(self, features: int, out_features: int, gain: float | None = None) -> nn.Linear:
        """A linear layer with a bias; its own `gain`, where given, takes the place of the sites'."""
        linear = nn.Linear(features, out_features, device="meta").to_empty(device="cpu")
        self._draw(linear.weight, self.gain if gain is None else gain)
        nn.init.zeros_(linear.bias)
        return linear

    def embedding(self, tokens: int, channels: int, deviation: float) -> nn.Embedding:
        """A normal vector of that standard deviation for each token."""
        embedding = nn.Embedding(tokens, channels, device="meta").to_empty(device="cpu")
        nn.init.normal_(embedding.weight, std=deviation, generator=self._generator)
        return embedding

    def site(self, channels: int, apply_act: bool = True) -> nn.Module:
        """The caller's layer for one site."""
        return self._site(channels, apply_act)

    def _draw(self, weight: Tensor, gain: float) -> None:
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=self._generator)
        if gain != HE_GAIN:
            with torch.no_grad():
                weight.mul_(gain / HE_GAIN)


@dataclass(frozen=True)
class StagePlan:
    """How a convolutional network of `width` goes down from an image to a small map."""

    stem_stride: int
    widths: tuple[int, ...]  # channels of each stage; each but the first halves the side of the map

    @classmethod
    def of(cls, input_shape: tuple[int, ...], width: int) -> "StagePlan":
        """The plan for one image shape: 8x8 after the stem if a stride of 4 gets there, 4x4 at the end.

        Raises ConfigError if `input_shape` is not (channels, height, width).
        """
        if len(input_shape) != 3:
            raise ConfigError(
                f"convolutional networks take inputs of shape (channels, height, width), not {input_shape}; "
                "reshape the inputs or use the mlp"
            )
        side, stem_stride, stages = max(input_shape[1:]), 1, 1
        while side > _STEM_SIDE and stem_stride < _MAX_STEM_STRIDE:
            side, stem_stride = math.ceil(side / 2), stem_stride * 2
        while side > _LAST_SIDE:
            side, stages = math.ceil(side / 2), stages + 1
        return cls(stem_stride, tuple(width * 2**stage for stage in range(stages)))

    def stem(self, parts: Parts, channels: int) -> nn.Conv2d:
        """The first convolution; its kernels overlap at any stride."""
        kernel = max(3, 2 * self.stem_stride - 1)
        return parts.conv(channels, self.widths[0], kernel, self.stem_stride)


class GlobalMean(nn.Module):
    """The mean over space: [B, C, H, W] to [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))
