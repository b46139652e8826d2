"""The plain views: running statistics, the trailing affine, and running averages inserted by rule."""

import numpy as np
import pytest
import torch
from graph_evaluation import random_leaves
from random_graphs import SHAPES, random_graph
from torch import Tensor

from primordium.kernels.reference import Reference
from primordium.primitives import axes as ax
from primordium.primitives.graph import Graph, State, check
from primordium.primitives.identity import key
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.text import parse
from primordium.primitives.views import eval_view, insert_running, train_view

SHAPE = (3, 2, 2, 4)


def _x(*seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([0xF1, *seed]).normal(size=SHAPE))


def _run(graph: Graph, **leaves: Tensor) -> dict[str, Tensor]:
    return Reference(graph)(leaves)


def test_views_of_random_graphs_are_plain() -> None:
    """No running, no derived node, no affine flag; checked; and a view of a view is itself."""
    for seed in range(150):
        graph = random_graph(seed)
        for make in (train_view, eval_view):
            view = make(graph)
            assert check(view) is view
            assert not view.affine
            ops = {view.nodes[i].op for i in view.live}
            assert "running" not in ops
            assert all(PRIMITIVES[op].kind != "derived" for op in ops)
            assert key(make(view)) == key(view)


def test_views_differ_only_where_something_runs() -> None:
    """Without running statistics training and evaluation are one graph."""
    for seed in range(100):
        graph = random_graph(seed)
        assert (train_view(graph) == eval_view(graph)) == (not graph.uses("running"))


def test_a_running_statistic_in_training_and_in_evaluation() -> None:
    """s ← decay·s + (1 - decay)·x·n/(n - correction); the value is the statistic, then the state."""
    graph = parse("layer: x - running(var(x, over=batch), decay=0.8, init=2, correction=1)")
    train, evaluate = train_view(graph), eval_view(graph)
    assert train.states == evaluate.states == (State("running_0", ax.C, 2.0),)
    assert [name for name, _ in train.outputs] == ["running_0", "y"]
    assert [name for name, _ in evaluate.outputs] == ["y"]
    x, state = _x(0), _x(1)[:1, :, :, :1]
    n = SHAPE[0] * SHAPE[3]
    var = x.var((0, 3), correction=0, keepdim=True)
    out = _run(train, x=x, running_0=state)
    torch.testing.assert_close(out["y"], x - var)
    torch.testing.assert_close(out["running_0"], 0.8 * state + 0.2 * var * n / (n - 1))
    torch.testing.assert_close(_run(evaluate, x=x, running_0=state)["y"], x - state)


def test_a_single_position_has_no_corrected_variance() -> None:
    """n - correction is at least 1, so one position gives 0 and not a division by 0."""
    graph = train_view(parse("layer: x - running(var(x, over=batch), decay=0.5, init=1, correction=1)"))
    out = _run(graph, x=torch.full((1, 1, 2, 1), 3.0), running_0=torch.ones(1, 1, 2, 1))
    assert (out["running_0"] == 0.5).all()


def test_the_moving_average_passes_no_gradient() -> None:
    """The next state is data: nothing is kept alive by it."""
    view = train_view(parse("layer: x - running(mean(x, over=batch))"))
    out = _run(view, x=_x(2).requires_grad_(), running_0=torch.zeros(1, 2, 2, 1, dtype=torch.float64))
    assert out["y"].requires_grad
    assert not out["running_0"].requires_grad


def test_running_statistics_have_names_in_order() -> None:
    """One state each, in the order of the nodes, with the axes of the statistic."""
    graph = parse("layer: x - running(mean(x, over=batch)) / running(rms(x, over='{B,C,S}'), init=1)")
    states = train_view(graph).states
    assert [(s.name, s.axes, s.init) for s in states] == [
        ("running_0", ax.C, 0.0),
        ("running_1", ax.NONE, 1.0),
    ]


def test_the_trailing_affine_is_written_out() -> None:
    """γ starts at 1, β at 0; without activation the affine of the input remains."""
    view = train_view(parse("layer[affine]: relu(x)"))
    assert [(p.name, p.axes, p.init, p.learnable) for p in view.params] == [
        ("gamma", ax.C, 1.0, True),
        ("beta", ax.C, 0.0, True),
    ]
    x, gamma, beta = _x(3), _x(4)[:1, :, :, :1], _x(5)[:1, :, :, :1]
    out = _run(view, x=x, gamma=gamma, beta=beta)
    torch.testing.assert_close(out["y"], gamma * x.relu() + beta)
    torch.testing.assert_close(out["no_act"], gamma * x + beta)


def test_states_of_an_update_rule_stay() -> None:
    """A rule's own states are declared in its view, the unused ones too."""
    view = train_view(parse("update_rule(state m: LRKP = 0.5, state n: {} = 0): m = 0.9 * m + g; w - m"))
    assert [s.name for s in view.states] == ["m", "n"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x - mean(x, over=batch)", "x - running(mean(x, over=batch), decay=0.7)"),
        ("x / var(x, over=batch)", "x / running(var(x, over=batch), decay=0.7, init=1)"),
        (
            "x / std(x, over=batch)",
            "x / sqrt(running(var(x, over=batch), decay=0.7, init=1) + 1e-05, eps=0)",
        ),
        (
            "x / rms(x, over=batch, eps=0.1)",
            "x / sqrt(running(mean(square(x), over=batch), decay=0.7, init=1) + 0.1, eps=0)",
        ),
        ("x - amax(x, over='{B,C,S}')", "x - running(amax(x, over='{B,C,S}'), decay=0.7)"),
        ("x - mean(x, over=instance)", "x - mean(x, over=instance)"),
        ("x - running(mean(x, over=batch), decay=0.3)", "x - running(mean(x, over=batch), decay=0.3)"),
        (
            "m = mean(x, over=batch); (x - m) / (1 + running(square(m))) + running(m, decay=0.3)",
            "m = running(mean(x, over=batch), decay=0.3); (x - m) / (1 + running(square(m))) + m",
        ),
        (
            "m = mean(x, over=batch); running(m, decay=0.3) * running(m, decay=0.4) - m",
            "m = mean(x, over=batch); r = running(m, decay=0.3); r * running(m, decay=0.4) - r",
        ),
        ("x * mean(v, over=batch)", "x * mean(v, over=batch)"),
        ("softmax(x, over=instance)", "softmax(x, over=instance)"),
        (
            "softmax(x, over=batch)",
            "w = exp(x - detach(running(amax(x, over=batch), decay=0.7))); "
            "w / running(sum(w, over=batch), decay=0.7)",
        ),
        ("x / size(over=batch)", "x / size(over=batch)"),
    ],
)
def test_running_averages_are_inserted_by_rule(body: str, expected: str) -> None:
    """Every statistic over the batch gets one, of its moment; nothing else does; once is enough."""
    graph = insert_running(parse(f"layer(v: C = 1): {body}"), decay=0.7)
    assert key(graph) == key(parse(f"layer(v: C = 1): {expected}"))
    assert key(insert_running(graph, decay=0.7)) == key(graph)


def test_inserted_averages_leave_training_alone() -> None:
    """On random graphs the training outputs stay; in evaluation no statistic sees other samples."""
    for seed in range(100):
        graph = random_graph(seed)
        averaged = insert_running(graph)
        before, after = train_view(graph), train_view(averaged)
        leaves = random_leaves(after, SHAPES[0], seed)
        leaves |= {s.name: torch.ones_like(leaves["x"][:1, :, :, :1]) for s in before.states}
        one, other = Reference(before)(leaves), Reference(after)(leaves)
        for name in ("y", "no_act"):
            if name in one:
                torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-6)
        view = eval_view(averaged)
        for index in view.live:
            node = view.nodes[index]
            if PRIMITIVES[node.op].kind == "statistic" and node.args:
                assert not ax.index_set(str(node.attr("over"))) & ax.B & view.axes[node.args[0]]
