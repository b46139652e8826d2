"""Inverted bottlenecks (MobileNetV2, Sandler et al., 2018), with squeeze-excite or without."""

from torch import Tensor, nn

from primordium.evaluators.models.parts import GlobalMean, Parts, StagePlan

_EXPANSION = 4
_SQUEEZE = 4


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in 0..1 computed from the means of all (Hu et al., 2018).

    Its own SiLU and sigmoid belong to the architecture and are no sites.
    """

    def __init__(self, parts: Parts, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            GlobalMean(),
            parts.linear(channels, squeezed),
            nn.SiLU(),
            parts.linear(squeezed, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x)
        return x * gate[:, :, None, None]


class InvertedBottleneck(nn.Module):
    """Expand 1x1, site, depthwise 3x3, site, project 1x1, site with `apply_act=False`.

    The input is added where the shape stays the same. `squeeze_excite` gates the expanded channels.
    """

    def __init__(
        self, parts: Parts, channels: int, out_channels: int, stride: int, squeeze_excite: bool
    ) -> None:
        super().__init__()
        expanded = _EXPANSION * channels
        layers: list[nn.Module] = [
            parts.conv(channels, expanded, kernel=1),
            parts.site(expanded),
            parts.conv(expanded, expanded, stride=stride, groups=expanded),
            parts.site(expanded),
        ]
        if squeeze_excite:
            layers.append(SqueezeExcite(parts, expanded, max(1, channels // _SQUEEZE)))
        layers += [parts.conv(expanded, out_channels, kernel=1), parts.site(out_channels, apply_act=False)]
        self.branch = nn.Sequential(*layers)
        self.adds_input = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.adds_input else branch


def inverted_bottleneck(
    parts: Parts, input_shape: tuple[int, ...], classes: int, width: int, squeeze_excite: bool = False
) -> nn.Module:
    """Stem and site, one block a stage, a 1x1 convolution and site, global mean, classifier."""
    plan = StagePlan.of(input_shape, width)
    channels = plan.widths[0]
    layers: list[nn.Module] = [plan.stem(parts, input_shape[0]), parts.site(channels)]
    for stage, out_channels in enumerate(plan.widths):
        stride = 1 if stage == 0 else 2
        layers.append(InvertedBottleneck(parts, channels, out_channels, stride, squeeze_excite))
        channels = out_channels
    head = _EXPANSION * channels
    layers += [parts.conv(channels, head, kernel=1), parts.site(head), GlobalMean()]
    return nn.Sequential(*layers, parts.linear(head, classes))


def squeeze_excite(parts: Parts, input_shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """The inverted-bottleneck network with a gate in every block (EfficientNet, Tan and Le, 2019)."""
    return inverted_bottleneck(parts, input_shape, classes, width, squeeze_excite=True)
