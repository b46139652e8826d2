"""Each activation against torch, in value and derivative, and at the ends of the range."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from primordium.kernels.module import GraphModule
from primordium.plugins import activations
from primordium.plugins.method import Method

REFERENCES: dict[str, Callable[..., Tensor]] = {
    "identity": lambda x: x * 1.0,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "swish": lambda x, beta: x * torch.sigmoid(beta * x),
    "mish": F.mish,
    "softplus": lambda x: F.softplus(x, threshold=40),
    "tanh": torch.tanh,
    "relu_squared": lambda x: x.clamp(min=0) ** 2,
    "snake": lambda x, a: x + torch.sin(a * x) ** 2 / a,
    "sine": lambda x: torch.sin(30 * x),
    "hardswish": F.hardswish,
    "golu": lambda x: x * torch.exp(-torch.exp(-x)),
}
CHANNELS = 3


def inputs(dtype: torch.dtype = torch.float64) -> Tensor:
    """[8, 3, 50]: both tails, the neighbourhood of 0, 0 itself; not the kinks ±3 of HardSwish."""
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(8, CHANNELS, 50, generator=generator, dtype=torch.float64)
    drawn *= torch.logspace(-3, 1.3, 50, dtype=torch.float64)
    drawn[0, :, :3] = torch.tensor([0.0, 1e-9, -1e-9], dtype=torch.float64)
    return drawn.to(dtype)


def learned(module: GraphModule) -> dict[str, Tensor]:
    """The module's parameters, moved away from their starts, in float64 and in the shape of the inputs."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return {
        name: parameter.detach().double().reshape(1, -1, 1).requires_grad_()
        for name, parameter in module.named_parameters()
    }


def test_every_activation_has_a_reference() -> None:
    """An activation that is added without a reference is not tested."""
    assert set(REFERENCES) == {known.name for known in activations.METHODS}


@pytest.mark.parametrize("known", activations.METHODS, ids=lambda known: known.name)
@pytest.mark.parametrize("training", [True, False])
def test_agrees_with_torch(known: Method, training: bool) -> None:
    """Value, input gradient and parameter gradients in float64."""
    module = GraphModule(known.graph, CHANNELS).train(training)
    params = learned(module)
    x, expected_x = inputs().requires_grad_(), inputs().requires_grad_()
    y, expected = module(x), REFERENCES[known.name](expected_x, **params)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gradients = torch.autograd.grad((y * cotangent).sum(), [x, *module.parameters()])
    others = torch.autograd.grad((expected * cotangent).sum(), [expected_x, *params.values()])
    torch.testing.assert_close(gradients[0], others[0], rtol=1e-10, atol=1e-11)
    for found, right in zip(gradients[1:], others[1:], strict=True):
        torch.testing.assert_close(found.double(), right.flatten(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("known", activations.METHODS, ids=lambda known: known.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_far_out_stays_finite_with_its_gradient(known: Method, dtype: torch.dtype) -> None:
    """No inner exponential overflows into the value or the slope, and gated tails are exactly 0."""
    far = 200.0 if known.name == "relu_squared" else 1e4
    x = torch.tensor([[-far, -100.0, -88.5, 0.0, 88.5, far]] * CHANNELS, dtype=dtype).T.requires_grad_()
    y = GraphModule(known.graph, CHANNELS)(x)
    y.sum().backward()
    assert x.grad is not None
    assert y.dtype == dtype
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", ["silu", "mish", "gelu", "golu", "hardswish", "relu_squared"])
def test_gates_close_on_the_left(name: str) -> None:
    """Far to the left a gated unit is 0, in value and slope."""
    known = next(known for known in activations.METHODS if known.name == name)
    x = torch.full((1, CHANNELS), -200.0).requires_grad_()
    y = GraphModule(known.graph, CHANNELS)(x)
    y.sum().backward()
    torch.testing.assert_close(y, torch.zeros_like(y), rtol=0, atol=1e-30)
    torch.testing.assert_close(x.grad, torch.zeros_like(y), rtol=0, atol=1e-30)


def test_hardswish_at_its_kinks_is_the_mean_of_both_sides() -> None:
    """The convention of max and min: half the gradient each at a tie."""
    x = torch.tensor([[-3.0] * CHANNELS, [3.0] * CHANNELS], dtype=torch.float64).requires_grad_()
    y = GraphModule(activations.hardswish.graph, CHANNELS)(x)
    y.sum().backward()
    torch.testing.assert_close(y, F.hardswish(x))
    torch.testing.assert_close(x.grad, torch.tensor([[-0.25] * CHANNELS, [1.25] * CHANNELS]).double())


def test_snake_is_the_identity_where_its_frequency_is_zero() -> None:
    """The published convention at a = 0, with a finite gradient by a."""
    module = GraphModule(activations.snake.graph, CHANNELS)
    with torch.no_grad():
        next(module.parameters()).zero_()
    x = inputs()
    y = module(x)
    torch.testing.assert_close(y, x)
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_golu_agrees_with_published_numbers() -> None:
    """The gate at 0 is 1/e; the minimum is -0.0973 at -0.567."""
    x = torch.tensor([[1e-6, -0.567, 1.0]] * 1, dtype=torch.float64)
    y = GraphModule(activations.golu.graph, 3)(x)
    torch.testing.assert_close(
        y, torch.tensor([[0.36788e-6, -0.0973, 0.69220]], dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_selu_keeps_the_moments_of_a_standard_normal() -> None:
    """Mean 0 and variance 1 are its fixed point, checked by quadrature."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    y = GraphModule(activations.selu.graph, 1)(z.reshape(-1, 1)).flatten()
    assert float((density * y).sum()) == pytest.approx(0.0, abs=1e-9)
    assert float((density * y * y).sum()) == pytest.approx(1.0, abs=1e-8)


def test_without_activation_the_input_passes() -> None:
    """An activation at a site that wants none is the identity."""
    x = inputs()
    for known in activations.METHODS:
        assert torch.equal(GraphModule(known.graph, CHANNELS, apply_act=False)(x), x)


def test_frequency_of_sine_is_fixed_and_swish_learns() -> None:
    """w0 is a buffer of one scalar, β a parameter a channel."""
    sine = GraphModule(activations.sine.graph, CHANNELS)
    assert [tuple(b.shape) for b in sine.buffers()] == [()]
    assert list(sine.parameters()) == []
    assert [tuple(p.shape) for p in GraphModule(activations.swish.graph, CHANNELS).parameters()] == [
        (CHANNELS,)
    ]
