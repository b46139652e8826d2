"""Rewrite rules: each fires where it should, keeps the value, and stays away where it would not."""

import numpy as np
import pytest
import torch

from primordium.kernels.reference import Reference
from primordium.primitives.identity import key
from primordium.primitives.passes import canonicalize
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.rules import rules_for
from primordium.primitives.text import parse, to_text
from primordium.primitives.views import train_view

EQUAL = [
    # neutral and absorbing elements
    ("x + 0", "x"),
    ("0 + x", "x"),
    ("x - 0", "x"),
    ("1 * x", "x"),
    ("x / 1", "x"),
    ("sin(x) * 0 + x", "x"),
    # constants
    ("x + 2 * 3", "x + 6"),
    ("tanh(0.5) * x", f"{float(np.tanh(0.5))!r} * x"),
    ("x - (1 - 1)", "x"),
    # the same argument twice
    ("x - x + tanh(x)", "tanh(x)"),
    ("x * x", "square(x)"),
    ("sin(x) / sin(x) + x", "x + 1"),
    ("max(x, x)", "x"),
    ("min(x, x)", "x"),
    ("x + greater(x, x)", "x"),
    ("where(x, tanh(x), tanh(x))", "tanh(x)"),
    # idempotence, involution, parity
    ("relu(relu(x))", "relu(x)"),
    ("abs(abs(x))", "abs(x)"),
    ("sign(sign(x))", "sign(x)"),
    ("-(-x)", "x"),
    ("cos(-x)", "cos(x)"),
    ("cos(abs(x))", "cos(x)"),
    ("abs(-x)", "abs(x)"),
    ("square(-x)", "square(x)"),
    ("-tanh(-x)", "tanh(x)"),
    ("sin(-x) + x", "x - sin(x)"),
    ("var(-x, over=batch)", "var(x, over=batch)"),
    ("-mean(-x, over=batch)", "mean(x, over=batch)"),
    ("rms(-x, over=batch)", "rms(x, over=batch)"),
    # signs
    ("x + -v", "x - v"),
    ("-x + v", "v - x"),
    ("-x - v", "-(x + v)"),
    ("x - -v", "x + v"),
    ("-(x - v)", "v - x"),
    ("-x * v", "-(x * v)"),
    ("-x * -v", "x * v"),
    ("x / -v", "-(x / v)"),
    ("div(-x, v)", "-div(x, v)"),
    # what the ranges decide
    ("relu(exp(x))", "exp(x)"),
    ("abs(sigmoid(x))", "sigmoid(x)"),
    ("x + relu(-exp(x))", "x"),
    ("x * sign(std(x, over=batch))", "x"),
    ("max(tanh(x), 2)", "2"),
    ("min(tanh(x), 2)", "tanh(x)"),
    ("max(softplus(x), -1)", "softplus(x)"),
    ("x + greater(exp(x), -1)", "x + 1"),
    ("x + greater(-1, exp(x))", "x"),
    ("where(1, x, tanh(x))", "x"),
    ("where(0, x, tanh(x))", "tanh(x)"),
    # statistics of what does not vary
    ("x - mean(v, over=batch)", "x - v"),
    ("x - amax(v, over=instance)", "x - v"),
    ("x + var(v, over=batch)", "x"),
    ("x / std(v, over=batch, eps=0.25)", "x / 0.5"),
    ("x / rms(3, over=batch, eps=16)", "x / 5"),
    # order, and names for formulas
    ("(x + v) * tanh(x)", "tanh(x) * (v + x)"),
    ("gate(x, v)", "v * sigmoid(x)"),
]

DIFFERENT = [
    ("x / v", "v / x"),
    ("x - v", "v - x"),
    ("div(x, 1)", "x"),
    ("div(x, x)", "1"),
    ("relu(-x)", "-relu(x)"),
    ("exp(-x)", "exp(x)"),
    ("tanh(abs(x))", "tanh(x)"),
    ("std(abs(x), over=batch)", "std(x, over=batch)"),
    ("amax(-x, over=batch)", "-amax(x, over=batch)"),
    ("sum(v, over=batch)", "v"),
    ("relu(sqrt(x))", "sqrt(x)"),
    ("max(tanh(x), 0.5)", "tanh(x)"),
    ("mean(v, over=layer)", "v"),
    ("sqrt(x)", "sqrt(x, eps=0)"),
    ("std(x, over=group)", "std(x, over=layer)"),
    ("surrogate(x, tanh(x))", "x"),
    ("detach(x)", "x"),
    ("running(mean(x, over=batch))", "mean(x, over=batch)"),
    ("min(running(mean(tanh(x), over=batch), init=2), 1.5)", "running(mean(tanh(x), over=batch), init=2)"),
    ("x * log(0, eps=0)", "x"),
]


def _values(body: str) -> torch.Tensor:
    view = train_view(parse(f"layer(v: C = 1): {body}"))
    random = np.random.default_rng(0xB0)
    x = torch.from_numpy(random.normal(size=(2, 2, 2, 3)))
    v = torch.from_numpy(random.normal(size=(1, 2, 2, 1)))
    leaves = {"x": x, "v": v, **{s.name: torch.zeros(1, 2, 2, 1) for s in view.states}}
    return Reference(view)(leaves)["y"].expand_as(x)


@pytest.mark.parametrize(("body", "expected"), EQUAL)
def test_equal_expressions_become_one(body: str, expected: str) -> None:
    """The canonical form is that of the plainer expression, with the same value."""
    found, plain = (parse(f"layer(v: C = 1): {each}") for each in (body, expected))
    assert key(found) == key(plain), to_text(canonicalize(found))
    torch.testing.assert_close(_values(body), _values(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("body", "other"), DIFFERENT)
def test_different_expressions_stay_two(body: str, other: str) -> None:
    """No rule oversteps its condition."""
    found, plain = (parse(f"layer(v: C = 1): {each}") for each in (body, other))
    assert key(found) != key(plain)


@pytest.mark.parametrize("body", ["1 / 0", "log(0, eps=0)", "exp(1000)", "sqrt(-1 - 1e308 * 10)"])
def test_what_is_not_finite_is_not_folded(body: str) -> None:
    """A constant expression without a finite value stays for the numeric gate to find."""
    canonical = canonicalize(parse(f"layer: x + {body}"))
    constants = [float(n.attr("value")) for n in canonical.nodes if n.op == "const"]
    assert all(np.isfinite(constants))
    assert len(canonical.nodes) > 3


def test_a_rewritten_graph_keeps_gradients_at_ties() -> None:
    """max(a, a) = a has slope 1, as the halves of a tie add up to."""
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    for body in ("max(x, x)", "min(tanh(x), 2)", "relu(exp(x))"):
        graph = parse(f"layer: {body}")
        slopes = []
        for each in (graph, canonicalize(graph)):
            y = Reference(train_view(each))({"x": x})["y"]
            slopes.append(torch.autograd.grad(y.sum(), x)[0])
        torch.testing.assert_close(*slopes, rtol=1e-14, atol=0.0)


def test_rules_are_read_off_the_declared_algebra() -> None:
    """Every law that has a rule brings it in; primitives of other kinds have none."""
    for name, primitive in PRIMITIVES.items():
        names = {rule.__name__ for rule in rules_for(name)}
        if primitive.kind not in ("elementwise", "statistic"):
            assert not names
            continue
        algebra = primitive.algebra
        if primitive.kind == "elementwise":
            assert "fold_constants" in names
            assert ("neutral_element" in names) == bool(algebra.neutral)
            assert ("repeated" in names) == (
                primitive.arity == 1 and (algebra.idempotent or algebra.involution)
            )
        if algebra.parity and name != "neg":
            assert "parity" in names
