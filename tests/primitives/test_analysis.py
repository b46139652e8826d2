"""What is read off a graph before it runs: host scalars, phases, order of differentiability."""

from dataclasses import replace

import pytest
import torch

from primordium.kernels.reference import Reference
from primordium.primitives.analysis import gradient_order, host_nodes, phases
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.text import parse
from primordium.primitives.views import train_view


def operations(graph: Graph) -> set[str]:
    """The primitives of the host nodes, leaves by their names."""
    shown = set()
    for index in host_nodes(graph):
        node = graph.nodes[index]
        shown.add(str(node.attrs[0][1]) if not node.args else node.op)
    return shown


def test_bias_correction_runs_on_the_host() -> None:
    """Adam's 1 - beta**t depends on the step and a hyper-parameter alone; the moment does not."""
    text = "update_rule(state m: LRKP = 0, hyper beta1 = 0.9): w - m / (1 - pow(beta1, t, eps=0))"
    graph = train_view(parse(text))
    assert operations(graph) == {"beta1", "t", "1.0", "pow", "sub"}
    assert graph.output not in host_nodes(graph)


def test_schedule_runs_on_the_host() -> None:
    """Every node of a schedule is a host node, clip written out included."""
    graph = train_view(parse("schedule(hyper floor = 0.1): max(floor, cos(clip(t / total, low=0)))"))
    assert host_nodes(graph) == frozenset(graph.live)


def test_values_of_tensors_are_not_on_the_host() -> None:
    """Per-tensor inputs, states and parameters without axes, sizes and statistics stay with the tensors."""
    graph = train_view(
        parse(
            "update_rule(scale: {} = 1, state s: {} = 0): s = s + 1; "
            "w - scale * s * greater(ndim, 1) * size(over=row) * mean(2, over=tensor)"
        )
    )
    assert operations(graph) == {"1.0", "2.0"}


def test_dead_nodes_are_not_listed() -> None:
    """A scalar that no output needs is not computed."""
    graph = parse("update_rule: unused = exp(t); w - g * 2")
    assert operations(graph) == {"2.0"}


def test_structural_nodes_follow_their_arguments() -> None:
    """detach of a host value is one; running keeps a state and never is."""
    graph = parse("schedule: detach(t / total)")
    assert host_nodes(graph) == frozenset(graph.live)
    kept = parse("layer: x * running(exp(2))")
    assert operations(kept) == {"2.0", "exp"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("activation: x * sigmoid(x)", 1),
        ("layer: x / std(x, over=group)", 2),
        ("layer: x / std(x - mean(x, over=batch), over=layer)", 3),
        ("layer: mean(x, over=batch) * x + std(x, over=layer)", 2),
        (
            "update_rule(hyper lr = 0.1): c = g / max(1, norm(g, over='global')); "
            "w - lr * c * norm(w, over=tensor) / norm(c, over=tensor)",
            3,
        ),
    ],
)
def test_phases_are_the_nesting_of_statistics(text: str, expected: int) -> None:
    """Statistics side by side share a pass; one of another needs a further one (clip before LAMB: three)."""
    assert phases(parse(text)) == expected


@pytest.mark.parametrize("name", [p.name for p in PRIMITIVES.values() if p.kind == "elementwise"])
def test_what_claims_two_derivatives_has_them(name: str) -> None:
    """The second derivative that torch takes of a primitive is that of its first, by finite differences."""
    primitive = PRIMITIVES[name]
    assert primitive.gradient_order == 2
    arguments = ", ".join(["x", "a", "b"][: primitive.arity])
    graph = train_view(parse(f"activation(a: C = 1, b: C = 1): {name}({arguments})"))
    run = Reference(graph)
    x = torch.linspace(0.31, 1.73, 8, dtype=torch.float64).reshape(1, 1, 1, 8).requires_grad_()
    leaves = {"a": torch.tensor(0.6, dtype=torch.float64), "b": torch.tensor(0.45, dtype=torch.float64)}

    def slope(at: torch.Tensor) -> torch.Tensor:
        y = run({"x": at, **leaves})["y"].expand(at.shape).sum()
        if not y.requires_grad:
            return torch.zeros_like(at)
        return torch.autograd.grad(y, at, create_graph=True)[0]

    first = slope(x)
    second = torch.autograd.grad(first.sum(), x)[0] if first.requires_grad else torch.zeros_like(x)
    h = 1e-5
    above, below = (slope((x.detach() + s * h).requires_grad_()).detach() for s in (1, -1))
    torch.testing.assert_close(second, (above - below) / (2 * h), rtol=1e-5, atol=1e-5)


def test_the_order_of_a_graph_is_that_of_its_weakest_primitive() -> None:
    """A primitive whose torch meaning has one derivative limits every graph that uses it."""
    once = replace(PRIMITIVES["sin"], name="sin_once", gradient_order=1)
    PRIMITIVES.add(once)
    try:
        assert gradient_order(parse("activation: cos(x) + sin_once(x)")) == 1
        assert gradient_order(parse("activation: cos(x) + sin(x)")) == 2
    finally:
        PRIMITIVES.remove("sin_once")
