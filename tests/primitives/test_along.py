"""Primitives along one axis: values against torch, gradients, and that scatter is the adjoint of gather."""

import itertools

import numpy as np
import pytest
import torch
from graph_evaluation import (
    SHAPE,
    autograd,
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

from primordium.errors import GraphError
from primordium.kernels.module import build_program
from primordium.primitives import axes as ax
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import AttrValue
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

FULL = ax.B | ax.C | ax.S
AXES = ("C", "S", "c", "B")
DIMENSIONS = {"C": (1, 2), "S": (3,), "c": (2,), "B": (0,), "G": (1,)}
OPERATIONS: list[tuple[str, dict[str, AttrValue]]] = [
    ("cumsum", {"reverse": False}),
    ("cumsum", {"reverse": True}),
    ("cummax", {}),
    ("sort", {"descending": True}),
    ("sort", {"descending": False}),
    ("top", {"k": 1}),
    ("top", {"k": 2}),
]


def _random(shape: tuple[int, ...], *seed: int) -> Tensor:
    return torch.from_numpy(np.asarray(np.random.default_rng([0xA1, *seed]).normal(size=shape)))


def _flat(x: Tensor, axis: str) -> Tensor:
    """The axis in last place: an independent writing of it, by permutation."""
    on = DIMENSIONS[axis]
    rest = [d for d in range(4) if d not in on]
    full = x.expand(SHAPE).permute(*rest, *on)
    return full.reshape(*full.shape[: len(rest)], -1)


def _unflat(rows: Tensor, axis: str) -> Tensor:
    on = DIMENSIONS[axis]
    rest = [d for d in range(4) if d not in on]
    full = rows.reshape([SHAPE[d] for d in (*rest, *on)])
    return full.permute(*np.argsort([*rest, *on]).tolist())


def _expected(op: str, attrs: dict[str, AttrValue], axis: str, x: Tensor) -> Tensor:
    rows = _flat(x, axis)
    if op == "cumsum":
        matrix = torch.ones(rows.shape[-1], rows.shape[-1], dtype=rows.dtype)
        result = rows @ (matrix.tril() if attrs["reverse"] else matrix.triu())
    elif op == "cummax":
        result = torch.stack([rows[..., : i + 1].amax(-1) for i in range(rows.shape[-1])], -1)
    elif op == "sort":
        result = rows.sort(-1, descending=bool(attrs["descending"])).values
    else:
        kept = rows.topk(min(int(attrs["k"]), rows.shape[-1]), -1)
        result = torch.zeros_like(rows).scatter(-1, kept.indices, kept.values)
    return _unflat(result, axis)


@pytest.mark.parametrize(("operation", "axis"), list(itertools.product(OPERATIONS, AXES)))
def test_value_and_gradients(operation: tuple[str, dict[str, AttrValue]], axis: str) -> None:
    """Values, autograd twice, ``differentiate`` and forward mode equal torch on permuted rows."""
    op, attrs = operation
    graph = operation_graph(op, (FULL,), {"axis": axis, **attrs})
    x, dy, dx = (_random(SHAPE, place) for place in range(3))
    tracked = x.clone().requires_grad_()
    expected = _expected(op, attrs, axis, tracked)
    (gradient,) = torch.autograd.grad(expected, tracked, dy)
    for value in (evaluate_torch(graph, x), evaluate_numpy(graph, x)):
        torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=1e-13)
    leaves = named(x)
    found = [symbolic(graph, leaves, dy, "a")["a"]]
    for backend in ("reference", "torch_source"):
        found.append(autograd(build_program(graph, backend), leaves, dy, "a")[1]["a"])
    for each in found:
        torch.testing.assert_close(each, gradient, rtol=1e-12, atol=1e-12)
    tangent = first_probe(forward_mode(graph, leaves, {"a": dx})["y"][1], SHAPE)
    torch.testing.assert_close((dy * tangent).sum(), (gradient * dx).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("operation", "axes"), list(itertools.product(OPERATIONS, [ax.C, ax.NONE, ax.B | ax.S]))
)
def test_a_value_that_lacks_the_axis_is_broadcast_along_it(
    operation: tuple[str, dict[str, AttrValue]], axes: int
) -> None:
    """Along positions, a per-channel value is the same everywhere: its gradient sums what each place gets."""
    op, attrs = operation
    axis = "C" if axes & ax.S else "S"
    graph = operation_graph(op, (axes,), {"axis": axis, **attrs})
    x, dy = _random(full_shape(axes, SHAPE), 3), _random(SHAPE, 4)
    full = operation_graph(op, (FULL,), {"axis": axis, **attrs})
    wide = x.expand(SHAPE).contiguous()
    torch.testing.assert_close(evaluate_torch(graph, x), evaluate_torch(full, wide), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(evaluate_numpy(graph, x), evaluate_torch(full, wide), rtol=1e-13, atol=1e-13)
    by_place = symbolic(full, named(wide), dy, "a")["a"]
    expected = by_place.sum_to_size(x.shape or (1,)).reshape(x.shape)
    torch.testing.assert_close(symbolic(graph, named(x), dy, "a")["a"], expected, rtol=1e-12, atol=1e-12)
    reference = autograd(build_program(graph, "reference"), named(x), dy, "a")[1]["a"]
    torch.testing.assert_close(reference, expected, rtol=1e-12, atol=1e-12)


def _positions(axis: str, *seed: int) -> Tensor:
    """Random positions, some more than once."""
    length = int(np.prod([SHAPE[d] for d in DIMENSIONS[axis]]))
    return torch.from_numpy(np.random.default_rng([0xA2, *seed]).integers(0, length, SHAPE)).double()


@pytest.mark.parametrize("axis", AXES)
def test_scatter_is_the_adjoint_of_gather(axis: str) -> None:
    """<scatter(g, at), v> = <g, gather(v, at)> for any positions, repeated ones too."""
    at, g, v = _positions(axis, 0), _random(SHAPE, 5), _random(SHAPE, 6)
    gather, scatter = (operation_graph(op, (FULL, FULL), {"axis": axis}) for op in ("gather", "scatter"))
    taken = _unflat(torch.take_along_dim(_flat(v, axis), _flat(at, axis).long(), -1), axis)
    for evaluate in (evaluate_torch, evaluate_numpy):
        torch.testing.assert_close(evaluate(gather, v, at), taken, rtol=0.0, atol=0.0)
        scattered = evaluate(scatter, g, at)
        torch.testing.assert_close((scattered * v).sum(), (g * taken).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", ["gather", "scatter"])
def test_gradients_of_gather_and_scatter(op: str) -> None:
    """Autograd, ``differentiate`` and forward mode agree; positions get none."""
    graph = operation_graph(op, (FULL, FULL), {"axis": "S"})
    leaves = named(_random(SHAPE, 7), _positions("S", 1))
    dy, dx = _random(SHAPE, 8), _random(SHAPE, 9)
    derived = symbolic(graph, leaves, dy, "ab")
    assert (derived["b"] == 0.0).all()
    for backend in ("reference", "torch_source"):
        gradients = autograd(build_program(graph, backend), leaves, dy, "ab")[1]
        torch.testing.assert_close(gradients["a"], derived["a"], rtol=1e-13, atol=1e-13)
        assert (gradients["b"] == 0.0).all()
    tangent = first_probe(forward_mode(graph, leaves, {"a": dx})["y"][1], SHAPE)
    torch.testing.assert_close((dy * tangent).sum(), (derived["a"] * dx).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", AXES)
def test_index_counts_from_zero(axis: str) -> None:
    """Channels count through the groups."""
    graph = operation_graph("index", (), {"axis": axis})
    length = int(np.prod([SHAPE[d] for d in DIMENSIONS[axis]]))
    expected = torch.arange(length, dtype=torch.float64)
    for value in (evaluate_torch(graph), evaluate_numpy(graph)):
        assert (_flat(value, axis) == expected).all()


def _along(text: str, rows: list[float]) -> tuple[list[float], list[float]]:
    graph: Graph = parse(text)
    x = torch.tensor(rows, dtype=torch.float64).reshape(1, 1, 1, -1)
    by_torch = build_program(graph, "torch_source")({"x": x})["y"]
    by_numpy = first_probe(forward_mode(graph, {"x": x}, {})["y"][0], tuple(x.shape))
    return by_torch.flatten().tolist(), by_numpy.flatten().tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer: argsort(x, axis=S)", [0.0, 2.0, 4.0, 1.0, 3.0]),
        ("layer: argsort(x, axis=S, descending=False)", [1.0, 3.0, 0.0, 2.0, 4.0]),
        ("layer: cumargmax(x, axis=S)", [0.0, 0.0, 0.0, 0.0, 0.0]),
        ("layer: cumargmax(-x, axis=S)", [0.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_ties_go_by_position(text: str, expected: list[float]) -> None:
    """Equal values keep their order in either direction, and the first largest stays."""
    for found in _along(text, [1.0, 0.0, 1.0, 0.0, 1.0]):
        assert found == expected


def test_top_keeps_exactly_k_at_ties() -> None:
    """Of equal values the first ones win: k-winners has exactly k winners."""
    graph = train_view(parse("layer: top(x, axis=S, k=2)"))
    x = torch.ones(1, 1, 1, 4, dtype=torch.float64)
    assert build_program(graph, "reference")({"x": x})["y"].flatten().tolist() == [1.0, 1.0, 0.0, 0.0]


def test_sparsemax_is_the_projection_on_the_simplex() -> None:
    """Sort, cumulative sum and threshold give the nearest point of the simplex: what the class is for."""
    graph = train_view(
        parse(
            "layer: z = sort(x, axis=C); t = cumsum(z, axis=C) - 1; k = index(axis=C) + 1; "
            "support = greater(k * z, t); n = sum(support, over=channel); "
            "relu(x - sum(support * z, over=channel) / n + 1 / n)"
        )
    )
    x = _random((2, 1, 6, 3), 10)
    p = build_program(graph, "torch_source")({"x": x})["y"]
    torch.testing.assert_close(p.sum((1, 2)), torch.ones(2, 3, dtype=torch.float64))
    # Optimality of a projection: <x - p, q - p> ≤ 0 for every corner q of the simplex.
    residual = x - p
    best = residual.amax((1, 2)) - (residual * p).sum((1, 2))
    assert (best <= 1e-12).all()


@pytest.mark.parametrize(
    ("axis", "message"), [("K", "along 'K'"), ("''", "along no axis"), ("Z", "unknown axis")]
)
def test_an_axis_that_is_not_there_is_refused(axis: str, message: str) -> None:
    """The error comes while typing, not from a back end."""
    with pytest.raises(GraphError, match=message):
        parse(f"layer: cumsum(x, axis={axis})")
