"""Statistics × index sets against independent formulas, of values that lack axes too."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from graph_evaluation import (
    SHAPE,
    autograd,
    difference,
    evaluate_numpy,
    evaluate_torch,
    first_probe,
    forward_mode,
    full_shape,
    named,
    operation_graph,
    symbolic,
)
from torch import Tensor

from primordium.kernels.module import build_program
from primordium.primitives import axes as ax
from primordium.primitives.domain import LAYER
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.text import parse

STATISTICS = sorted(n for n, p in PRIMITIVES.items() if p.kind == "statistic" and p.arity == 1)
DIMENSIONS = {"batch": (0, 3), "instance": (3,), "layer": (1, 2, 3), "group": (2, 3), "channel": (1, 2)}
VALUE_AXES = [ax.B | ax.C | ax.S, ax.C, ax.NONE, ax.B | ax.C, ax.S, ax.G, ax.B | ax.CHANNEL_IN_GROUP]
EPS = 1e-5

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda rows: rows.sum(-1),
    "mean": lambda rows: rows.sum(-1) / rows.shape[-1],
    "var": lambda rows: (rows**2).mean(-1) - rows.mean(-1) ** 2,
    "std": lambda rows: ((rows - rows.mean(-1, keepdim=True)) ** 2).mean(-1).add(EPS).sqrt(),
    "rms": lambda rows: ((rows**2).mean(-1) + EPS) ** 0.5,
    "amax": lambda rows: rows.sort(-1).values[..., -1],
    "amin": lambda rows: rows.sort(-1).values[..., 0],
}

CASES = list(itertools.product(STATISTICS, LAYER.index_sets, VALUE_AXES))


def _value(axes: int) -> Tensor:
    random = np.random.default_rng([0x57A7, axes])
    return torch.from_numpy(np.asarray(random.normal(size=full_shape(axes, SHAPE))))


def _expected(name: str, over: str, value: Tensor) -> Tensor:
    """The formula over the broadcast value, written with rows, broadcast back."""
    dims = DIMENSIONS[over]
    full = value.expand(SHAPE)
    rows = full.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
    result = FORMULAS[name](rows)
    for dim in dims:
        result = result.unsqueeze(dim)
    return result.expand(SHAPE)


def test_the_test_knows_every_statistic_and_index_set() -> None:
    """A statistic or an index set that is added without a formula to compare it with is not tested."""
    assert set(STATISTICS) == set(FORMULAS)
    assert set(LAYER.index_sets) == set(DIMENSIONS)


@pytest.mark.parametrize(("name", "over", "axes"), CASES)
def test_value(name: str, over: str, axes: int) -> None:
    """Torch, torch source and NumPy give the statistic of the broadcast value."""
    graph, value = operation_graph(name, (axes,), {"over": over}), _value(axes)
    expected = _expected(name, over, value)
    source = build_program(graph, "torch_source")(named(value))["y"].expand(SHAPE)
    for found in (evaluate_torch(graph, value), source, evaluate_numpy(graph, value)):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("name", "over", "axes"), CASES)
def test_gradient(name: str, over: str, axes: int) -> None:
    """The vjp rule and autograd of the back ends equal autograd of the formula over the broadcast value."""
    graph, value = operation_graph(name, (axes,), {"over": over}), _value(axes)
    dy = torch.from_numpy(np.random.default_rng(0xD7).normal(size=SHAPE))
    tracked = value.clone().requires_grad_()
    expected = torch.autograd.grad(_expected(name, over, tracked), tracked, dy)[0]
    leaves = named(value)
    found = [symbolic(graph, leaves, dy, "a")["a"]]
    found += [
        autograd(build_program(graph, backend), leaves, dy, "a")[1]["a"]
        for backend in ("reference", "torch_source")
    ]
    for gradient in found:
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "over", "axes"), CASES)
def test_tangent(name: str, over: str, axes: int) -> None:
    """The jvp rule equals the central difference of the formula."""
    graph, value = operation_graph(name, (axes,), {"over": over}), _value(axes)
    tangent = torch.from_numpy(np.asarray(np.random.default_rng(0xD8).normal(size=value.shape)))
    step = 1e-6
    high, low = (_expected(name, over, value + sign * step * tangent) for sign in (1, -1))
    found = first_probe(forward_mode(graph, named(value), {"a": tangent})["y"][1], SHAPE)
    torch.testing.assert_close(found, (high - low) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("over", LAYER.index_sets)
def test_size(over: str) -> None:
    """size counts the positions of the index set in every back end."""
    graph = operation_graph("size", (), {"over": over})
    expected = float(np.prod([SHAPE[d] for d in DIMENSIONS[over]]))
    source = build_program(graph, "torch_source")(named())["y"]
    for found in (evaluate_torch(graph), source, evaluate_numpy(graph)):
        assert (found == expected).all()


@pytest.mark.parametrize("name", STATISTICS)
def test_declared_laws_hold(name: str) -> None:
    """Parity and bounds, which rewriting and range analysis rely on."""
    algebra, value = PRIMITIVES[name].algebra, _value(ax.B | ax.C | ax.S)
    graph = operation_graph(name, (ax.B | ax.C | ax.S,), {"over": "group"})
    result, mirrored = evaluate_torch(graph, value), evaluate_torch(graph, -value)
    assert algebra.bounds[0] <= result.min()
    assert result.max() <= algebra.bounds[1]
    if algebra.parity:
        sign = -1.0 if algebra.parity == "odd" else 1.0
        torch.testing.assert_close(mirrored, sign * result, rtol=1e-14, atol=1e-15)
    else:
        assert difference(mirrored, result) > 0.1
        assert difference(mirrored, -result) > 0.1


def test_variance_is_of_the_population_and_epsilon_inside_the_root() -> None:
    """var divides by n; std and rms of a constant are √ε and √(c² + ε)."""
    value = torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    axes, shape = ax.B | ax.C | ax.S, (1, 1, 1, 2)

    def one(name: str, value: Tensor, **attrs: float) -> float:
        graph = operation_graph(name, (axes,), {"over": "instance", **attrs})
        return float(evaluate_torch(graph, value, shape=shape)[0, 0, 0, 0])

    constant = torch.full_like(value, 3.0)
    assert one("var", value) == 1.0
    assert one("std", value, eps=3.0) == 2.0
    assert one("std", constant, eps=4.0) == 2.0
    assert one("rms", constant, eps=16.0) == 5.0


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_extremes_share_the_gradient_evenly_at_ties(name: str) -> None:
    """Three equal extremes get a third each, in every back end."""
    value = torch.tensor([2.0, 2.0, 2.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    value[..., 3] += -1.0 if name == "amax" else 1.0
    graph = operation_graph(name, (ax.B | ax.C | ax.S,), {"over": "instance"})
    shape = (1, 1, 1, 4)
    dy = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).reshape(shape)
    expected = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0], dtype=torch.float64).reshape(shape)
    leaves = named(value, shape=shape)
    torch.testing.assert_close(symbolic(graph, leaves, dy, "a")["a"], expected)
    for backend in ("reference", "torch_source"):
        torch.testing.assert_close(autograd(build_program(graph, backend), leaves, dy, "a")[1]["a"], expected)
    for place, share in enumerate(expected.flatten()):
        tangent = torch.zeros_like(value)
        tangent[..., place] = 1.0
        dual = forward_mode(graph, leaves, {"a": tangent})["y"][1]
        torch.testing.assert_close(first_probe(dual, shape), share.expand(shape))


def test_any_axes_in_braces_are_an_index_set() -> None:
    """Sets without a name reduce exactly their axes, and the empty one none."""
    value = _value(ax.B | ax.C | ax.S)
    for letters, dims in (
        ("{B}", (0,)),
        ("{G}", (1,)),
        ("{c}", (2,)),
        ("{B,C}", (0, 1, 2)),
        ("{C,S,B}", (0, 1, 2, 3)),
    ):
        graph = operation_graph("mean", (ax.B | ax.C | ax.S,), {"over": letters})
        expected = value.mean(dims, keepdim=True).expand(SHAPE)
        for found in (evaluate_torch(graph, value), evaluate_numpy(graph, value)):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    nothing = operation_graph("mean", (ax.B | ax.C | ax.S,), {"over": "{}"})
    for found in (evaluate_torch(nothing, value), evaluate_numpy(nothing, value)):
        assert torch.equal(found, value)


def test_group_statistics_of_a_layer_are_within_groups() -> None:
    """Changing one group leaves another's statistic alone; the layer's moves."""
    x = _value(ax.B | ax.C | ax.S)
    moved = x.clone()
    moved[:, 0] += 1.0
    for over, within in (("group", True), ("layer", False)):
        program = build_program(parse(f"layer: x - mean(x, over={over})"), "reference")
        before, after = (program({"x": value})["y"] for value in (x, moved))
        assert torch.equal(before[:, 1], after[:, 1]) == within
