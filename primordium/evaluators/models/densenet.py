"""A densely connected network (Huang et al., "Densely Connected Convolutional Networks", 2017)."""

import torch
from torch import Tensor, nn

from primordium.evaluators.models.parts import GlobalMean, Parts, StagePlan

_LAYERS = 2  # a block


class DenseLayer(nn.Module):
    """site, conv; what comes out is put behind the channels that went in."""

    def __init__(self, parts: Parts, channels: int, growth: int) -> None:
        super().__init__()
        self.site = parts.site(channels)
        self.conv = parts.conv(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.site(x))], dim=1)


def densenet(parts: Parts, input_shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """Stem, a block of two dense layers a stage, a last site, global mean, classifier.

    Each layer adds `width` channels. Between blocks a transition (site, 1x1 convolution, mean over 2x2)
    halves channels and sides.
    """
    plan = StagePlan.of(input_shape, width)
    layers: list[nn.Module] = [plan.stem(parts, input_shape[0])]
    channels = width
    for stage in range(len(plan.widths)):
        if stage > 0:
            layers += [parts.site(channels), parts.conv(channels, channels // 2, kernel=1)]
            layers.append(nn.AvgPool2d(2, ceil_mode=True))
            channels //= 2
        for _ in range(_LAYERS):
            layers.append(DenseLayer(parts, channels, growth=width))
            channels += width
    return nn.Sequential(*layers, parts.site(channels), GlobalMean(), parts.linear(channels, classes))
