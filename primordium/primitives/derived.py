"""Derived primitives: written in primitives and inlined before any back end, so they get every kernel."""

from typing import Any

from primordium.primitives.primitive import PRIMITIVES, Algebra, Primitive


def _add(name: str, arity: int, summary: str, derive: Any, **given: Any) -> None:
    PRIMITIVES.add(Primitive(name, arity, "derived", summary, derive=derive, **given))


# Swish's tables (Ramachandran, Zoph, Le 2017): what is not already a core primitive.
_add("min0", 1, "min(x, 0)", lambda o, x: -o.relu(-x), algebra=Algebra(idempotent=True, monotone=1))
_add(
    "log_abs",
    1,
    "ln(|x| + ε)",
    lambda o, x, *, eps: o.log(o.abs(x) + eps, eps=0.0),
    attrs={"eps": 1e-7},
    algebra=Algebra(parity="even"),
    kinks=(0.0,),
)
_add("gate", 2, "σ(a)·b", lambda o, a, b: o.sigmoid(a) * b)
_add("gaussian_distance", 3, "e^(-β(a - b)²)", lambda o, a, b, beta: o.exp(-(beta * o.square(a - b))))
_add("laplace_distance", 3, "e^(-β|a - b|)", lambda o, a, b, beta: o.exp(-(beta * o.abs(a - b))))
_add("lerp", 3, "β·a + (1 - β)·b", lambda o, a, b, beta: beta * a + (1.0 - beta) * b)

# What methods use often.
_add(
    "clip",
    1,
    "x limited to [low, high]",
    lambda o, x, *, low, high: o.min(o.max(x, low), high),
    attrs={"low": -1.0, "high": 1.0},
    algebra=Algebra(idempotent=True, monotone=1),
)
_add(
    "norm",
    1,
    "√(Σ x² + ε) over the index set",
    lambda o, x, *, over, eps: o.sqrt(o.sum(o.square(x), over=over) + eps, eps=0.0),
    attrs={"over": "tensor", "eps": 0.0},
    reduces=True,
    algebra=Algebra(parity="even"),
)
_add(
    "softmax",
    1,
    "e^x / Σ e^x over the index set, shifted by the largest value",
    lambda o, x, *, over: _shifted(o, x, over),
    attrs={"over": "keys"},
)


def _shifted(o: Any, x: Any, over: str) -> Any:
    weights = o.exp(x - o.detach(o.amax(x, over=over)))
    return weights / o.sum(weights, over=over)
