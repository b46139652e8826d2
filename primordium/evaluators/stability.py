"""Adversarial stability: how far the gradient of a network grows when its weights are moved to make it grow.

Liu et al. ("Evolving Normalization-Activation Layers", 2020, arXiv:2004.02967) reject a layer where such an
adversary makes the gradient explode: the data are frozen, the weights are its to move.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from primordium.errors import ConfigError, GraphError
from primordium.evaluators.task import Loss
from primordium.kernels.module import GraphModule
from primordium.primitives.analysis import gradient_order
from primordium.primitives.views import train_view

Tensors = Mapping[str, Tensor]

STEPS, RATE, LIMIT, BATCH_SIZE = 100, 0.1, 1e8, 16
"""100 steps and the limit of 1e8 are Liu et al.'s; how long their steps were is not known."""

_ONCE = "stability: the network, or its loss, cannot be differentiated twice"


@dataclass(frozen=True)
class Stability:
    """What came of an ascent.

    Attributes:
        steps: steps until the gradient norm exceeded the limit or was not finite (0: from the start); all the
            steps that were allowed if it never did. More is better.
        exploded: whether it did.
        norms: ‖∂loss/∂θ‖₂ before the first step and after each.
    """

    steps: int
    exploded: bool
    norms: tuple[float, ...]


def ascend(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    steps: int = STEPS,
    rate: float = RATE,
    limit: float = LIMIT,
) -> Stability:
    """Move all weights θ of a network so that ‖∂loss/∂θ‖₂ grows, until it explodes.

    A step moves each parameter tensor by ``rate`` times its initial norm along the gradient of ‖∂loss/∂θ‖₂; a
    tensor of zeros, such as a bias, counts as one of ones. Each step runs in training mode from the network's
    own buffers, and dropout draws the same mask every time. The network is left as it was, its buffers
    and ``.grad`` included, and so are global generators.

    Args:
        network: any module whose trainable parameters the loss depends on, differentiable twice.
        inputs: one batch, in the form that the network takes.
        targets: in the form that the loss takes.
        loss: a scalar from outputs and targets.
        steps: the most steps, 0 or more.
        rate: the length of a step, over the initial norm of each tensor.
        limit: the norm from which it has exploded.

    Source: the objective, the 100 steps and the limit of 1e8 are Liu et al.'s (2020, arXiv:2004.02967).

    Raises:
        GraphError: a layer has a primitive that can be differentiated only once.
        ConfigError: the network or the loss can be differentiated only once, or not at all; or a number is
            out of range.
    """
    _check_numbers(steps, rate, limit)
    _check_layers(network)
    theta = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    if not theta:
        raise ConfigError("stability: the network has no trainable parameter, so there is nothing to move")
    lengths = {name: rate * _initial_norm(tensor) for name, tensor in theta.items()}
    norms: list[float] = []
    with _training_mode(network):
        while True:
            theta = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
            gradients = _gradients(_value(network, theta, inputs, targets, loss), theta)
            norm = math.hypot(*(_norm(gradient) for gradient in gradients))
            norms.append(norm)
            if not norm <= limit or len(norms) > steps:
                break
            if len(norms) == 1:
                _check_twice(gradients)
            theta = _moved(theta, _uphill(gradients, norm, theta), lengths)
    return Stability(len(norms) - 1, not norms[-1] <= limit, tuple(norms))


def _check_numbers(steps: int, rate: float, limit: float) -> None:
    if steps < 0:
        raise ConfigError(f"stability: steps is {steps}; it must be 0 or more")
    for name, value in (("rate", rate), ("limit", limit)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"stability: {name} is {value}; it must be positive")


def _check_layers(network: nn.Module) -> None:
    for graph in {module.graph for module in network.modules() if isinstance(module, GraphModule)}:
        if gradient_order(train_view(graph)) < 2:
            raise GraphError(
                f"stability needs second derivatives, and a primitive of {graph} can be differentiated only "
                "once (its gradient_order)"
            )


def _check_twice(gradients: tuple[Tensor, ...]) -> None:
    """Autograd itself would leave out, without a word, what a function marked for one derivative adds."""
    pending = [gradient.grad_fn for gradient in gradients]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            raise ConfigError(f"{_ONCE}: a function in it is marked once_differentiable")
        seen.add(node)
        pending.extend(parent for parent, _ in node.next_functions)


def _initial_norm(tensor: Tensor) -> float:
    return _norm(tensor) or math.sqrt(tensor.numel())


def _norm(tensor: Tensor) -> float:
    """The Euclidean norm, in float64 so that it neither overflows nor vanishes before the elements do."""
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))


def _value(network: nn.Module, theta: Tensors, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The loss at other weights; what the forward pass writes into buffers is thrown away."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with _frozen_randomness({tensor.device for tensor in theta.values()}):
        value = loss(functional_call(network, {**theta, **buffers}, (inputs,)), targets)
    if value.numel() != 1 or not value.requires_grad:
        raise ConfigError(
            f"stability: the loss has shape {tuple(value.shape)}"
            + ("" if value.requires_grad else " and does not depend on the network's parameters")
            + "; a differentiable scalar is needed"
        )
    return value


def _gradients(value: Tensor, theta: Tensors) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, tuple(theta.values()), create_graph=True, materialize_grads=True)


def _uphill(gradients: tuple[Tensor, ...], norm: float, theta: Tensors) -> tuple[Tensor, ...]:
    """The gradient of the gradient's norm: the Hessian times the unit gradient; zeros where that is flat."""
    curved = [gradient for gradient in gradients if gradient.requires_grad]
    if norm == 0.0 or not curved:
        return tuple(torch.zeros_like(tensor) for tensor in theta.values())
    try:
        return torch.autograd.grad(
            curved,
            tuple(theta.values()),
            [gradient.detach() / norm for gradient in curved],
            materialize_grads=True,
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConfigError(f"{_ONCE}: {error}") from error


def _moved(theta: Tensors, directions: tuple[Tensor, ...], lengths: Mapping[str, float]) -> dict[str, Tensor]:
    moved: dict[str, Tensor] = {}
    for (name, tensor), direction in zip(theta.items(), directions, strict=True):
        norm = _norm(direction)
        flat = norm < torch.finfo(direction.dtype).tiny
        moved[name] = tensor.detach() if flat else tensor.detach() + direction * (lengths[name] / norm)
    return moved


@contextmanager
def _training_mode(network: nn.Module) -> Iterator[None]:
    """Training mode for a while; each module returns to the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _frozen_randomness(devices: set[torch.device]) -> Iterator[None]:
    """The same draws from global generators every time; the generators return to where they were."""
    gpus = sorted(device.index for device in devices if device.type == "cuda")
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(0)
        for index in gpus:
            torch.cuda.default_generators[index].manual_seed(0)
        yield
