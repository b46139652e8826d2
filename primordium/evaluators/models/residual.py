"""A pre-activation residual network (He et al., "Identity Mappings in Deep Residual Networks", 2016)."""

from torch import Tensor, nn

from primordium.evaluators.models.parts import GlobalMean, Parts, StagePlan


class PreActivationBlock(nn.Module):
    """site, conv, site, conv, plus the input.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input, normalized at a
    site with `apply_act=False`.
    """

    def __init__(self, parts: Parts, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.site1 = parts.site(channels)
        self.conv1 = parts.conv(channels, out_channels, stride=stride)
        self.site2 = parts.site(out_channels)
        self.conv2 = parts.conv(out_channels, out_channels)
        self.shortcut = None
        if stride > 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                parts.conv(channels, out_channels, kernel=1, stride=stride),
                parts.site(out_channels, apply_act=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.site1(x)
        kept = x if self.shortcut is None else self.shortcut(activated)
        branch: Tensor = self.conv2(self.site2(self.conv1(activated)))
        return kept + branch


def residual(parts: Parts, input_shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """Stem, one block a stage, a last site, global mean, classifier."""
    plan = StagePlan.of(input_shape, width)
    layers: list[nn.Module] = [plan.stem(parts, input_shape[0])]
    channels = plan.widths[0]
    for stage, out_channels in enumerate(plan.widths):
        layers.append(PreActivationBlock(parts, channels, out_channels, stride=1 if stage == 0 else 2))
        channels = out_channels
    return nn.Sequential(*layers, parts.site(channels), GlobalMean(), parts.linear(channels, classes))
