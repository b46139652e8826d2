"""The networks: what reaches their sites, and weights that no site can change."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from primordium.errors import ConfigError
from primordium.evaluators.models.densenet import DenseLayer
from primordium.evaluators.models.parts import HE_GAIN
from primordium.evaluators.models.registry import MODELS, TOKEN_MODELS, build_model

NUMERIC = sorted(set(MODELS) - TOKEN_MODELS)
CONVOLUTIONAL = sorted(set(NUMERIC) - {"mlp"})


@dataclass(frozen=True)
class Shape:
    """What a network needs to know of a task."""

    input_shape: tuple[int, ...]
    classes: int = 10


class Site(nn.Module):
    """A site that remembers how it was made and what shapes went through it."""

    def __init__(self, channels: int, apply_act: bool) -> None:
        super().__init__()
        self.channels, self.apply_act = channels, apply_act
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x.relu() if self.apply_act else x


def random_site(channels: int, apply_act: bool) -> nn.Module:
    """A site with random initial weights, a convolution and a linear layer of its own."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


def sites_of(model: nn.Module) -> list[Site]:
    """The sites of a model, in the order they were made."""
    return [module for module in model.modules() if isinstance(module, Site)]


def own_weights(model: nn.Module, *, site: type[nn.Module]) -> list[Tensor]:
    """The parameters of a model outside its sites."""
    inside = {id(p) for module in model.modules() if isinstance(module, site) for p in module.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in inside]


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize(
    "input_shape", [(1, 8, 8), (1, 32, 32), (3, 32, 32), (3, 24, 20), (2, 1, 1), (1, 5, 7)]
)
def test_any_image_shape_gives_class_outputs(name: str, input_shape: tuple[int, ...]) -> None:
    """Protects that a net takes any image and shows each site the channels that it was made for."""
    model = build_model(name, Shape(input_shape, classes=7), Site)
    outputs = model(torch.ones(2, *input_shape))
    assert outputs.shape == (2, 7)
    for site in sites_of(model):
        assert [shape[:2] for shape in site.shapes] == [(2, site.channels)]
        assert len(site.shapes[0]) == (2 if name == "mlp" else 4)


@pytest.mark.parametrize("name", NUMERIC)
def test_each_parameter_gets_a_gradient(name: str) -> None:
    """Protects against layers that are made but not used."""
    model = build_model(name, Shape((1, 8, 8)), Site)
    model(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_large_images_cost_no_larger_maps(name: str) -> None:
    """Protects the cheap proxy: the sites of 32x32 images see the same maps as those of 8x8 ones."""
    maps = []
    for side in (8, 32):
        model = build_model(name, Shape((1, side, side)), Site)
        model(torch.ones(1, 1, side, side))
        maps.append([site.shapes for site in sites_of(model)])
    assert maps[0] == maps[1]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_sites_without_activation_end_linear_branches(name: str) -> None:
    """Protects where `apply_act=False` is: after 1x1 convolutions that feed an addition or a bottleneck."""
    model = build_model(name, Shape((1, 8, 8)), Site)
    after_kernel = []
    for block in model.modules():
        if isinstance(block, nn.Sequential):
            after_kernel += [
                conv.kernel_size
                for conv, site in pairwise(block)
                if isinstance(site, Site) and not site.apply_act and isinstance(conv, nn.Conv2d)
            ]
    without_activation = [site for site in sites_of(model) if not site.apply_act]
    assert len(without_activation) == {"residual": 1, "densenet": 0}.get(name, 2)
    assert after_kernel == [(1, 1)] * len(without_activation)


def test_dense_layers_hand_on_all_that_came_before() -> None:
    """Protects dense connectivity: a layer's input is the head of its output, and channels add up."""
    model = build_model("densenet", Shape((1, 8, 8)), Site, width=6)
    layers = [module for module in model.modules() if isinstance(module, DenseLayer)]
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert len(seen) == 4
    for before, after in seen:
        assert torch.equal(after[:, :-6], before)
    assert [site.channels for site in sites_of(model)] == [6, 12, 18, 9, 15, 21]


def test_mlp_activates_everywhere() -> None:
    """Protects that the MLP has three sites, all with an activation."""
    assert [site.apply_act for site in sites_of(build_model("mlp", Shape((4,)), Site))] == [True] * 3


def test_mlp_sites_may_see_plain_features() -> None:
    """Protects that the MLP takes inputs that are no images."""
    assert build_model("mlp", Shape((5,), classes=2), Site)(torch.ones(3, 5)).shape == (3, 2)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_weights_do_not_depend_on_the_sites(name: str) -> None:
    """Protects common random numbers: a site that draws weights of its own leaves the net's alone."""
    plain = own_weights(build_model(name, Shape((1, 8, 8)), Site, seed=3), site=Site)
    model = build_model(name, Shape((1, 8, 8)), lambda c, act: Wrapped(c, act), seed=3)
    for left, right in zip(plain, own_weights(model, site=Wrapped), strict=True):
        assert torch.equal(left, right)


class Wrapped(nn.Module):
    """A site around `random_site`, to tell its weights from the net's."""

    def __init__(self, channels: int, apply_act: bool) -> None:
        super().__init__()
        self.inner = random_site(channels, apply_act)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_seed_decides_all_initial_values(name: str) -> None:
    """Protects repeatability, random sites among the rest, and that seeds differ."""
    states = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        states.append(build_model(name, Shape((1, 8, 8)), random_site, seed=seed).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if first[key].ndim >= 2]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


@pytest.mark.parametrize("name", NUMERIC)
def test_weights_are_he_normal(name: str) -> None:
    """Protects the scale of the initial weights: variance 2 / fan-in, biases zero."""
    standardized = []
    for seed in range(4):
        for parameter in build_model(name, Shape((1, 8, 8)), Site, seed=seed).parameters():
            if parameter.ndim == 1:
                assert not parameter.any()
            else:
                fan_in = parameter[0].numel()
                standardized.append(parameter.detach().flatten() * (fan_in / 2) ** 0.5)
    values = torch.cat(standardized)
    assert abs(values.mean().item()) < 0.03
    assert abs(values.std().item() - 1) < 0.03


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_another_gain_scales_the_same_draws(name: str, gain: float) -> None:
    """Protects common random numbers between candidates of different gains; what sites draw is theirs."""

    plain, scaled = (
        build_model(name, Shape((1, 8, 8)), Wrapped, seed=3, gain=factor * HE_GAIN) for factor in (1.0, gain)
    )
    for left, right in zip(own_weights(plain, site=Wrapped), own_weights(scaled, site=Wrapped), strict=True):
        assert torch.equal(right, left * gain)
    inside, same = (
        [p for module in model.modules() if isinstance(module, Wrapped) for p in module.parameters()]
        for model in (plain, scaled)
    )
    assert inside
    assert all(map(torch.equal, inside, same))


def test_global_generator_is_left_alone() -> None:
    """Protects the caller's random numbers, also where building fails."""
    before = torch.get_rng_state()
    numpy_before = pickle.dumps(np.random.get_state())
    build_model("residual", Shape((1, 8, 8)), random_site)
    with pytest.raises(ConfigError):
        build_model("residual", Shape((8,)), random_site)
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == pickle.dumps(np.random.get_state())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_model("resnet", Shape((1, 8, 8)), Site), "no model 'resnet'; .*mlp, residual"),
        (lambda: build_model("residual", Shape((64,)), Site), r"\(channels, height, width\), not \(64,\)"),
        (lambda: build_model("mlp", Shape((64,)), Site, width=0), "'mlp': width=0"),
        (lambda: build_model("mlp", Shape((64,)), Site, seed=-1), "seed=-1"),
    ],
)
def test_impossible_requests_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    """Protects that an error names the model and what would be right."""
    with pytest.raises(ConfigError, match=message):
        build()
