"""Small models with norms and activations, and layers to put in their place."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from primordium.export.replace import Replacement


class Marker(nn.Module):
    """A layer with a learnable scale, and tanh where it holds the activation."""

    def __init__(self, channels: int, apply_act: bool) -> None:
        super().__init__()
        self.apply_act = apply_act
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale.view(-1, *[1] * (x.dim() - 2))
        return torch.tanh(y) if self.apply_act else y


class SameAsBatchNorm(nn.Module):
    """What it replaces: batch normalization with ReLU, or alone."""

    def __init__(self, channels: int, apply_act: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.apply_act = apply_act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return torch.relu(y) if self.apply_act else y


class BasicBlock(nn.Module):
    """ResNet's: one ReLU module for both calls, the second after the addition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        y: Tensor = self.relu(out)
        return y


class FunctionalNet(nn.Module):
    """Functional and method activations, functional dropout that follows the training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([BasicBlock(4), BasicBlock(4)])
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        x = self.bn2(x).relu()
        x = F.dropout(x.mean((2, 3)), 0.5, self.training)
        y: Tensor = self.fc(x * scale)
        return y


class InvertedResidual(nn.Module):
    """MobileNetV2's: two pairs with ReLU6, and a projection whose norm has no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.conv = nn.Sequential(
            *(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x)
        return y


class DataDependent(nn.Module):
    """A forward that fx cannot trace, around parts that it can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU())
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([BasicBlock(4)])
        self.tails = nn.ModuleList([nn.BatchNorm2d(4)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if x.sum() > 0:
            x = F.relu(self.norm(x))
        y: Tensor = self.tails[0](self.blocks[0](x))
        return y


class Around(nn.Module):
    """A traceable forward around one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(DataDependent(), nn.Identity())
        self.head = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.head(self.inner(x)))


def conv_pair(norm: nn.Module | None = None, act: nn.Module | None = None) -> nn.Sequential:
    """One convolution, norm and activation."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm or nn.BatchNorm2d(4), act or nn.ReLU())


def images(seed: int = 0) -> Tensor:
    """A batch of two images, `[2, 3, 7, 7]`."""
    return torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(seed))


def names(result: Replacement) -> tuple[list[str], list[str]]:
    """The names of the replaced and of the left norms."""
    return [s.name for s in result.replaced], [s.name for s in result.left if s.norm]


def reason(result: Replacement, name: str) -> str:
    """Why the site was left."""
    (site,) = [site for site in result.left if site.name == name]
    assert site.reason is not None
    return site.reason


def copy_statistics(model: nn.Module, result: Replacement) -> None:
    """Give each new batch normalization the parameters and statistics of the one it replaced."""
    for site in result.replaced:
        layer = result.model.get_submodule(site.name)
        assert isinstance(layer, SameAsBatchNorm)
        layer.norm.load_state_dict(model.get_submodule(site.name).state_dict())


def shuffle_statistics(model: nn.Module, seed: int) -> None:
    """Random affine parameters and running statistics, so that a wrong norm would show."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def assert_same_outputs(model: nn.Module, result: Replacement, x: Tensor) -> None:
    """The same numbers, in training (whose statistics then move) and in evaluation."""
    reference = copy.deepcopy(model)
    for mode in (True, False, True, False):
        reference.train(mode)
        result.model.train(mode)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            expected = reference(x.clone())
            torch.manual_seed(0)
            assert torch.equal(result.model(x.clone()), expected)
