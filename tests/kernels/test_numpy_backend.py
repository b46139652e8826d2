"""The NumPy back end with its forward-mode derivative: probes, broadcasting, and the namespace of rules."""

import numpy as np
import pytest
from graph_evaluation import SHAPE, random_leaves
from random_graphs import random_graph

from primordium.errors import GraphError
from primordium.kernels.numpy_backend import Array, Dual, NumpyOps, mean, run_dual, var
from primordium.primitives.domain import LAYER
from primordium.primitives.graph import Graph
from primordium.primitives.text import parse
from primordium.primitives.views import eval_view, train_view

PROBES = 3


def _random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([0x4B, seed]).normal(size=shape)


def _leaves(view: Graph, seed: int) -> dict[str, Dual]:
    """One value and tangent a probe for every leaf."""
    result: dict[str, Dual] = {}
    for place, (name, value) in enumerate(random_leaves(view, SHAPE, seed).items()):
        array = value.numpy().reshape(value.shape or (1,) * len(SHAPE))
        spread = _random(PROBES, *array.shape, seed=seed + place)
        result[name] = (array + 0.1 * spread, None if name.startswith("running") else spread)
    return result


def _run(view: Graph, leaves: dict[str, Dual]) -> Dual:
    with np.errstate(all="ignore"):
        return run_dual(view, NumpyOps(view.spec, SHAPE), leaves)["y"]


def test_probes_do_not_see_each_other() -> None:
    """Many probes at once give what each gives alone, values and tangents, on random graphs."""
    for seed in range(100):
        graph = random_graph(seed)
        view = train_view(graph) if seed % 2 else eval_view(graph)
        leaves = _leaves(view, seed)
        together = _run(view, leaves)
        for probe in range(PROBES):
            alone = _run(
                view,
                {
                    n: (v[probe : probe + 1], None if t is None else t[probe : probe + 1])
                    for n, (v, t) in leaves.items()
                },
            )
            for one, many in zip(alone, together, strict=True):
                assert (one is None) == (many is None)
                if one is not None:
                    full = np.broadcast_to(many, np.broadcast_shapes(np.shape(many), (PROBES, 1, 1, 1, 1)))
                    expected = np.broadcast_to(one, np.broadcast_shapes(np.shape(one), (1, 1, 1, 1, 1)))
                    np.testing.assert_allclose(full[probe : probe + 1], expected, rtol=1e-9, atol=1e-12)


def test_inputs_are_not_changed() -> None:
    """Read-only arrays are enough: nothing is computed in place."""
    for seed in range(60):
        view = train_view(random_graph(seed))
        leaves = _leaves(view, seed)
        for pair in leaves.values():
            for array in pair:
                if array is not None:
                    array.flags.writeable = False
        _run(view, leaves)


def test_a_tangent_of_none_is_zero() -> None:
    """None and an array of zeros give the same derivative; with nothing to move, there is none."""
    view = train_view(
        parse("layer(v: C = 1): x * sigmoid(v * x) / std(v * x, over=group) + cumsum(v, axis=C)")
    )
    leaves = _leaves(view, 1)
    zeros: dict[str, Dual] = {"x": leaves["x"], "v": (leaves["v"][0], np.zeros_like(leaves["v"][0]))}
    none: dict[str, Dual] = {"x": leaves["x"], "v": (leaves["v"][0], None)}
    np.testing.assert_allclose(_run(view, none)[1], _run(view, zeros)[1], rtol=1e-13)
    still: dict[str, Dual] = {name: (value, None) for name, (value, _) in leaves.items()}
    assert _run(view, still)[1] is None


def test_running_is_its_training_value_and_detach_has_no_tangent() -> None:
    """Screening looks at training; a surrogate moves as its proxy does."""
    x, dx = _random(1, *SHAPE), _random(1, *SHAPE, seed=1)
    leaves: dict[str, Dual] = {"x": (x, dx)}

    def run(body: str) -> Dual:
        return _run(parse(f"layer: {body}"), leaves)

    y, dy = run("x - running(mean(x, over=batch), init=7)")
    np.testing.assert_allclose(y, x - x.mean((1, 4), keepdims=True), atol=1e-14)
    np.testing.assert_allclose(dy, dx - dx.mean((1, 4), keepdims=True), atol=1e-14)
    y, dy = run("x * detach(x)")
    np.testing.assert_allclose(dy, dx * x)
    y, dy = run("surrogate(sign(x), cube(x))")
    np.testing.assert_allclose(y, np.sign(x))
    np.testing.assert_allclose(dy, 3 * x**2 * dx)


@pytest.mark.parametrize("over", LAYER.index_sets)
def test_the_namespace_of_rules_reduces_and_counts(over: str) -> None:
    """Derivative rules call statistics and sizes on arrays as they do on traced values."""
    o = NumpyOps(LAYER, SHAPE)
    x = _random(PROBES, *SHAPE)
    dims = {"batch": (1, 4), "instance": (4,), "layer": (2, 3, 4), "group": (3, 4), "channel": (2, 3)}[over]
    np.testing.assert_allclose(o.mean(x, over=over), x.mean(dims, keepdims=True), atol=1e-15)
    np.testing.assert_allclose(o.sum(x, over=over), x.sum(dims, keepdims=True), atol=1e-13)
    assert o.size(over=over) == np.prod([SHAPE[d - 1] for d in dims])


def test_moments_of_arrays() -> None:
    """Population moments, exact for a constant far from 0."""
    x = np.full((2, 3, 4), 1e8) + _random(2, 3, 4)
    np.testing.assert_allclose(mean(x, (1, 2)), x.mean((1, 2), keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(var(x, (1, 2)), x.var((1, 2), keepdims=True), rtol=1e-6)


def test_what_has_no_numpy_meaning_is_named() -> None:
    """Opaque and derived primitives are refused with what to do."""
    for text in ("layer: softmax(x, over=layer)", "layer: gate(x, x)"):
        with pytest.raises(GraphError, match="has no NumPy meaning; inline derived primitives first"):
            _run(parse(text), {"x": (_random(1, *SHAPE), None)})


def test_array_values_have_no_static_axes() -> None:
    """A rule that asks for axes works on traced graphs only, and says so."""
    with pytest.raises(GraphError, match="no static axes"):
        NumpyOps(LAYER, SHAPE).axes(_random(1, *SHAPE))
