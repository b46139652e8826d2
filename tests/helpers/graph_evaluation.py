"""Running plain graphs on random leaves: values, gradients by three ways, and what is ill-conditioned."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from primordium.kernels.numpy_backend import Dual, NumpyOps, run_dual
from primordium.kernels.reference import Reference
from primordium.primitives import axes as ax
from primordium.primitives.builder import Builder, Value
from primordium.primitives.differentiate import differentiate
from primordium.primitives.graph import Graph, Param
from primordium.primitives.primitive import PRIMITIVES, AttrValue
from primordium.primitives.views import train_view

Leaves: TypeAlias = dict[str, Tensor]
Program: TypeAlias = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

SHAPE = (2, 2, 3, 4)
STEP = 1e-11
UNSTABLE = 1e-6
AGREE = 1e-8
_COMPARE = ("sign", "greater", "equal", "max", "min", "amax", "amin", "relu", "abs", "where")
_MOVE = ("neg", "detach", "surrogate", "index", "size", "argsort", "cumargmax", "gather", "scatter")
_EXACT = frozenset((*_COMPARE, *_MOVE))
"""Operations that choose, compare, count or move values and do not round them."""


def full_shape(axes: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a value of these axes in the layer layout; ``()`` where it has none."""
    return (
        tuple(n if axes & ax.BIT[name] else 1 for n, name in zip(shape, "BGcS", strict=True)) if axes else ()
    )


def operation_graph(op: str, axes: Sequence[int], attrs: Mapping[str, AttrValue] | None = None) -> Graph:
    """The layer graph ``y = op(a, b, ...)`` of parameters of the given axes, as a plain view."""
    builder = Builder("layer")
    builder.input("x")
    operands = [builder.param(Param(name, axes_, 0.0)) for name, axes_ in zip("abc", axes, strict=False)]
    return train_view(builder.finish({"y": builder.apply(op, *operands, **(attrs or {}))}))


def named(*values: Tensor, shape: Sequence[int] = SHAPE) -> Leaves:
    """The leaves of an :func:`operation_graph`; the input, which it does not use, says the full shape."""
    return {"x": torch.zeros(*shape, dtype=torch.float64), **dict(zip("abc", values, strict=False))}


def evaluate_torch(graph: Graph, *values: Tensor, shape: Sequence[int] = SHAPE) -> Tensor:
    """The output of an :func:`operation_graph` by the reference back end, with all dimensions."""
    return Reference(graph)(named(*values, shape=shape))["y"].expand(*shape)


def evaluate_numpy(graph: Graph, *values: Tensor, shape: Sequence[int] = SHAPE) -> Tensor:
    """The same by the NumPy back end."""
    return first_probe(forward_mode(graph, named(*values, shape=shape), {})["y"][0], shape)


def random_leaves(view: Graph, shape: Sequence[int], seed: int) -> Leaves:
    """A float64 tensor for the input, every parameter and every state of a view."""
    random = np.random.default_rng([0x1EAF, seed])

    def tensor(axes: int) -> Tensor:
        return torch.from_numpy(np.asarray(random.normal(size=full_shape(axes, shape))))

    leaves = {"x": 1.3 * tensor(ax.B | ax.C | ax.S) + 0.2}
    leaves |= {p.name: p.init + 0.5 * tensor(p.axes) for p in view.params}
    return leaves | {s.name: 0.5 + tensor(s.axes).abs() for s in view.states}


def learnable(view: Graph) -> tuple[str, ...]:
    """What gradients are taken by: the input and every parameter."""
    return ("x", *(p.name for p in view.params))


def autograd(
    program: Program, leaves: Leaves, dy: Tensor, wrt: Sequence[str]
) -> tuple[dict[str, Tensor], Leaves]:
    """The outputs of a program and the gradients of Σ dy·y."""
    tracked = {name: value.clone().requires_grad_(name in wrt) for name, value in leaves.items()}
    outputs = dict(program(tracked))
    y = outputs["y"].expand_as(dy)
    found: Sequence[Tensor | None] = [None] * len(wrt)
    if y.requires_grad:
        found = torch.autograd.grad(y, [tracked[name] for name in wrt], dy, allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaves[name]) if g is None else g for name, g in zip(wrt, found, strict=True)
    }
    return {name: value.detach() for name, value in outputs.items()}, gradients


def symbolic(view: Graph, leaves: Leaves, dy: Tensor, wrt: Sequence[str]) -> Leaves:
    """The same gradients from the ``differentiate`` graph, run by the reference back end."""
    outputs = Reference(differentiate(view, wrt))({**leaves, "dy": dy})
    # A back end is free to give a scalar's gradient with all dimensions, each of size 1.
    return {
        name: outputs[f"grad_{name}"].expand(leaves[name].shape or (1,) * dy.ndim).reshape(leaves[name].shape)
        for name in wrt
    }


def forward_mode(view: Graph, leaves: Leaves, tangents: Leaves) -> dict[str, Dual]:
    """Outputs and tangents of the NumPy back end; the second of two probes is another input."""
    shape = tuple(leaves["x"].shape)

    def probes(value: Tensor, factor: float) -> np.ndarray:
        array = value.numpy().reshape(value.shape or (1,) * len(shape))
        return np.stack([array, factor * array])

    duals = {
        name: (probes(v, -0.7), probes(tangents[name], 1.0) if name in tangents else None)
        for name, v in leaves.items()
    }
    return run_dual(view, NumpyOps(view.spec, shape), duals)


def first_probe(value: object, shape: Sequence[int]) -> Tensor:
    """The first probe of a NumPy result, with all dimensions."""
    array = np.asarray(0.0 if value is None else value)
    return torch.from_numpy(np.broadcast_to(array, (2, *shape))[0].copy())


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the size of the values where they are large."""
    scale = 1.0 + max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 1.0
    return float((a - b).abs().max()) / scale if a.numel() else 0.0


def noisy(view: Graph) -> Graph:
    """The view with a factor ``1 + noise`` of its own behind every operation that rounds.

    A statistic has one before it too: it rounds while it sums.
    """
    builder = Builder(view.domain, view.groups)
    values: dict[int, Value] = {}

    def with_noise(value: Value) -> Value:
        return value * (1.0 + builder.param(Param(f"noise_{value.index}", value.axes)))

    for index in view.live:
        node = view.nodes[index]
        if PRIMITIVES[node.op].kind == "leaf":
            values[index] = builder.copy_leaf(view, node)
            continue
        exact, args = node.op in _EXACT, [values[a] for a in node.args]
        if PRIMITIVES[node.op].kind == "statistic" and not exact:
            args = [with_noise(arg) for arg in args]
        value = builder.emit(node.op, tuple(arg.index for arg in args), node.attrs)
        values[index] = value if exact else with_noise(value)
    for state in view.states:
        builder.state(state)
    return builder.finish({name: values[index] for name, index in view.outputs})


def ill_conditioned(view: Graph, leaves: Leaves, dy: Tensor, unstable: float = UNSTABLE) -> bool:
    """Whether eager evaluation itself is unstable: not finite, or moved far by errors in the eleventh digit.

    The errors are put into the leaves and behind every operation (what compares two roundings of the same
    number does not notice those of the leaves), twice, and with either sign (it may notice one only).
    """
    wrt = learnable(view)
    plain = autograd(Reference(view), leaves, dy, wrt)
    if not all(value.isfinite().all() for part in plain for value in part.values()):
        return True
    shaken = noisy(view)
    program = Reference(shaken)
    for draw, sign in itertools.product((0, 1), (STEP, -STEP)):
        random = torch.Generator().manual_seed(draw)
        errors = {p.name: full_shape(p.axes, dy.shape) for p in shaken.params} | {
            name: tuple(value.shape) for name, value in leaves.items()
        }
        noise = {
            name: sign * torch.randn(shape, dtype=dy.dtype, generator=random)
            for name, shape in errors.items()
        }
        nudged = {**noise, **{name: value * (1.0 + noise[name]) for name, value in leaves.items()}}
        moved = autograd(program, nudged, dy, wrt)
        if any(
            not difference(a[name], b[name]) < unstable
            for a, b in zip(plain, moved, strict=True)
            for name in a
        ):
            return True
    return False
