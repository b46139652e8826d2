"""Reverse mode from graph to graph: what the random graphs of the back ends do not show."""

import numpy as np
import pytest
import torch
from graph_evaluation import autograd, full_shape
from torch import Tensor

from primordium.errors import GraphError
from primordium.kernels.module import build_program
from primordium.kernels.reference import Reference
from primordium.primitives import axes as ax
from primordium.primitives.differentiate import differentiate, gradient_domain
from primordium.primitives.domain import ACTIVATION, LAYER
from primordium.primitives.graph import Graph, Node, infer_axes
from primordium.primitives.passes import canonicalize, remove_dead_code
from primordium.primitives.text import parse
from primordium.primitives.views import eval_view, train_view

SHAPE = (3, 2, 2, 4)


def _random(axes: int, *seed: int) -> Tensor:
    return torch.from_numpy(
        np.asarray(np.random.default_rng([0xD1F, *seed]).normal(size=full_shape(axes, SHAPE)))
    )


X, DY = _random(ax.B | ax.C | ax.S, 0), _random(ax.B | ax.C | ax.S, 1)


def _gradients(view: Graph, wrt: tuple[str, ...], **leaves: Tensor) -> dict[str, Tensor]:
    outputs = Reference(differentiate(view, wrt))({"x": X, "dy": DY, **leaves})
    return {name: outputs[f"grad_{name}"] for name in wrt}


def test_evonorm_by_the_input_and_its_parameter() -> None:
    """Gradients have the axes of what they belong to, and equal autograd of plain torch."""
    view = train_view(parse("layer(v: C = 1): x * sigmoid(v * x) / std(x, over=group)"))
    v = _random(ax.C, 2)
    x_, v_ = X.clone().requires_grad_(), v.clone().requires_grad_()
    y = x_ * (v_ * x_).sigmoid() / (x_.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = torch.autograd.grad(y, (x_, v_), DY)
    found = _gradients(view, ("x", "v"), v=v)
    torch.testing.assert_close(found["x"], expected[0])
    torch.testing.assert_close(found["v"], expected[1])


def test_the_gradient_is_a_graph_like_any_other() -> None:
    """It types, has the cotangent as an input, survives passes and runs as generated source."""
    view = train_view(parse("layer(v: C = 1): tanh(v * x) - mean(x, over=batch)"))
    gradient = differentiate(view, ("x", "v"))
    assert [name for name, _ in gradient.outputs] == ["grad_v", "grad_x"]
    assert gradient.axes == infer_axes(gradient)
    by_name = dict(gradient.outputs)
    assert gradient.axes[by_name["grad_v"]] == ax.C
    leaves = {"x": X, "dy": DY, "v": _random(ax.C, 3)}
    program = build_program(gradient, "torch_source")(leaves)
    for name, value in Reference(gradient)(leaves).items():
        torch.testing.assert_close(program[name], value, rtol=0.0, atol=0.0)


def test_what_does_not_reach_the_output_has_gradient_zero() -> None:
    """A dead parameter, a detached input and a step give 0, not an error."""
    view = parse("layer(v: C = 1, w: C = 1): detach(x * v) + sign(x)")
    found = _gradients(view, ("x", "v", "w"), v=_random(ax.C, 4))
    assert all((value == 0.0).all() for value in found.values())


def test_states_can_be_differentiated() -> None:
    """In evaluation the running mean is a leaf."""
    view = eval_view(parse("layer: x * running(mean(x, over=batch))"))
    found = _gradients(view, ("running_0",), running_0=_random(ax.C, 5))
    torch.testing.assert_close(found["running_0"], (DY * X).sum((0, 3), keepdim=True))


def test_only_the_main_output_is_differentiated() -> None:
    """Next states and no_act pass nothing on."""
    view = train_view(parse("layer: no_act = 5 * x; x - running(mean(x, over=batch))"))
    expected = DY - DY.mean((0, 3), keepdim=True)
    torch.testing.assert_close(_gradients(view, ("x",))["x"], expected)


def test_a_surrogate_has_the_derivative_of_its_proxy() -> None:
    """Straight-through, with a proxy of more axes than the value and of fewer."""
    view = train_view(parse("layer(v: C = 1): surrogate(sign(x), v * x) + surrogate(x, 2 * v)"))
    v = _random(ax.C, 6)
    found = _gradients(view, ("x", "v"), v=v)
    torch.testing.assert_close(found["x"], DY * v)
    torch.testing.assert_close(found["v"], (DY * X + 2 * DY).sum((0, 3), keepdim=True))


def test_a_value_used_twice_collects_both_gradients() -> None:
    """Fan-out adds up, through different axes."""
    view = train_view(parse("layer(v: C = 1): t = v * v; t * x + t * mean(x, over=instance)"))
    v = _random(ax.C, 7)
    expected = (DY * 2 * v * (X + X.mean(3, keepdim=True))).sum((0, 3), keepdim=True)
    torch.testing.assert_close(_gradients(view, ("v",), v=v)["v"], expected)


def test_a_leaf_that_stands_twice_collects_both_gradients() -> None:
    """A genome may hold one parameter in two nodes."""
    leaf, param = Node("input", (), (("name", "x"),)), Node("param", (), (("name", "v"),))
    nodes = (leaf, param, param, Node("mul", (0, 1)), Node("mul", (3, 2)))
    view = Graph("layer", nodes, (("y", 4),), params=parse("layer(v: C = 1): v * x").params)
    v = _random(ax.C, 8)
    torch.testing.assert_close(_gradients(view, ("v",), v=v)["v"], (DY * 2 * v * X).sum((0, 3), keepdim=True))


def test_scalars_sum_over_everything() -> None:
    """A parameter without axes gets one number."""
    view = train_view(parse("layer(k: {} = 1): k * x"))
    found = _gradients(view, ("k",), k=torch.tensor(2.0, dtype=torch.float64))["k"]
    torch.testing.assert_close(found.reshape(()), (DY * X).sum())


def test_an_output_that_lacks_axes_collects_the_cotangent() -> None:
    """y is broadcast to the full shape, so dy is summed."""
    view = train_view(parse("layer: mean(x, over=layer)"))
    expected = DY.sum((1, 2, 3), keepdim=True) / (2 * 2 * 4)
    torch.testing.assert_close(_gradients(view, ("x",))["x"].expand(SHAPE), expected.expand(SHAPE))


def test_passes_keep_a_gradient() -> None:
    """The canonical form and the live part of a gradient graph compute the same numbers."""
    view = train_view(parse("layer: x * sigmoid(x) / (std(x, over=group) + 1)"))
    gradient = differentiate(view)
    live = remove_dead_code(gradient)
    live.__dict__["spec"] = gradient.spec
    value, other = (Reference(each)({"x": X, "dy": DY})["grad_x"] for each in (gradient, live))
    torch.testing.assert_close(other, value, rtol=0.0, atol=0.0)
    plain = autograd(Reference(canonicalize(view)), {"x": X}, DY, ("x",))[1]["x"]
    torch.testing.assert_close(value, plain)


def test_an_activation_may_need_sums_in_its_gradient() -> None:
    """The gradient of a per-channel slope sums over batch and positions, in a domain without statistics."""
    view = train_view(parse("activation(a: C = 0.25): where(greater(x, 0), x, a * x)"))
    found = _gradients(view, ("x", "a"), a=torch.full((1, 2, 2, 1), 0.25, dtype=torch.float64))
    torch.testing.assert_close(found["x"], torch.where(X > 0, DY, 0.25 * DY))
    torch.testing.assert_close(found["a"], (DY * X.clamp(max=0)).sum((0, 3), keepdim=True))
    assert gradient_domain(ACTIVATION).index_sets
    assert gradient_domain(LAYER).inputs["dy"] == LAYER.outputs["y"]


def test_a_learning_rate_can_be_differentiated() -> None:
    """Update rules differentiate by parameters; the cotangent is that of the new weight."""
    view = train_view(parse("update_rule(k: {} = 0.1): w - k * g"))
    shape = (1, 1, 3, 4)
    g, dw = torch.randn(2, *shape, dtype=torch.float64)
    leaves = {"w": torch.zeros(shape, dtype=torch.float64), "g": g, "dw": dw}
    found = Reference(differentiate(view, ("k", "w")))(
        {**leaves, "k": torch.tensor(0.1, dtype=torch.float64)}
    )
    torch.testing.assert_close(found["grad_k"].reshape(()), -(dw * g).sum())
    torch.testing.assert_close(found["grad_w"], dw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "layer: running(mean(x, over=batch)) * x",
            r"\(running\) has no derivative rule; differentiate a plain view",
        ),
        ("layer: softmax(x, over=layer)", r"\(softmax\) has no derivative rule; differentiate a plain view"),
        ("update_rule: w - orthogonalize(g)", r"\(orthogonalize\) has no derivative rule"),
    ],
)
def test_a_graph_that_is_no_plain_view_is_refused(text: str, message: str) -> None:
    """The message names the node and says what to do."""
    with pytest.raises(GraphError, match=message):
        differentiate(parse(text))


def test_an_unknown_leaf_is_refused() -> None:
    """The message lists the leaves."""
    with pytest.raises(GraphError, match="no input, parameter or state 'z'; there are v, x"):
        differentiate(parse("layer(v: C = 1): v * x"), ("z",))
