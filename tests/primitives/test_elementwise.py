"""Every elementwise primitive against what it says: value, slope, declared algebra, safe form, convention."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import scipy.special
import torch
from graph_evaluation import (
    autograd,
    evaluate_numpy,
    evaluate_torch,
    first_probe,
    forward_mode,
    named,
    operation_graph,
    symbolic,
)
from torch import Tensor

from primordium.kernels.module import build_program
from primordium.kernels.reference import Reference
from primordium.primitives import axes as ax
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import PRIMITIVES, AttrValue

FULL = ax.B | ax.C | ax.S
NAMES = sorted(name for name, p in PRIMITIVES.items() if p.kind == "elementwise")
UNARY = [name for name in NAMES if PRIMITIVES[name].arity == 1]
BINARY = [name for name in NAMES if PRIMITIVES[name].arity == 2]
WITH_EPS = [name for name in NAMES if "eps" in PRIMITIVES[name].attrs]
BARE = {"sqrt", "log", "div", "pow"}
"""Primitives whose ε = 0 form has poles or corners at 0, which the tests of it keep away from."""

CASES: list[tuple[str, dict[str, AttrValue]]] = [(name, {}) for name in NAMES] + [
    (name, {"eps": eps}) for name in WITH_EPS for eps in (0.0, 0.1)
]


def _sign(x: float) -> float:
    return 0.0 if x == 0 else math.copysign(1.0, x)


def _sqrt(x: float, eps: float) -> float:
    return x / math.sqrt(abs(x) + eps) if eps else _sign(x) * math.sqrt(abs(x))


EXPECTED: dict[str, Callable[..., float]] = {
    "neg": lambda x: 0.0 - x,
    "abs": math.fabs,
    "sign": _sign,
    "square": lambda x: math.pow(x, 2),
    "cube": lambda x: math.pow(x, 3),
    "sqrt": _sqrt,
    "exp": math.exp,
    "expm1": math.expm1,
    "log": lambda x, eps: _sign(x) * math.log(abs(x) + eps),
    "log1p": lambda x: _sign(x) * math.log(1 + abs(x)),
    "sin": math.sin,
    "cos": math.cos,
    "sinh": lambda x: (math.exp(x) - math.exp(-x)) / 2,
    "cosh": lambda x: (math.exp(x) + math.exp(-x)) / 2,
    "tanh": lambda x: 1 - 2 / (math.exp(2 * x) + 1),
    "asinh": lambda x: math.log(x + math.sqrt(x * x + 1)),
    "atan": lambda x: math.atan2(x, 1.0),
    "sinc": lambda x: math.sin(x) / x if x else 1.0,
    "relu": lambda x: (x + abs(x)) / 2,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: -scipy.special.log_expit(-x),
    "gauss": lambda x: 1 / math.exp(x * x),
    "erf": lambda x: 1 - math.erfc(x),
    "add": lambda a, b: math.fsum((a, b)),
    "sub": lambda a, b: math.fsum((a, -b)),
    "mul": lambda a, b: math.prod((a, b)),
    "div": lambda a, b, eps: a * b / (b * b + eps * eps) if eps else a / b,
    "pow": lambda a, b, eps: _sign(a) * math.exp(b * math.log(abs(a) + eps)) if a else 0.0,
    "max": lambda a, b: a if a > b else b,
    "min": lambda a, b: b if a > b else a,
    "greater": lambda a, b: float(a > b),
    "equal": lambda a, b: float(a == b),
    "where": lambda c, a, b: a if c else b,
}


def _complete(name: str, attrs: Mapping[str, AttrValue]) -> dict[str, AttrValue]:
    return dict(PRIMITIVES[name].complete(attrs))


def _grid(name: str, attrs: Mapping[str, AttrValue], count: int = 60) -> list[Tensor]:
    """Random arguments as ``[1, 1, 1, n]`` tensors, away from the points where the slope is a convention."""
    random = np.random.default_rng([0xE1, *name.encode()])
    primitive = PRIMITIVES[name]
    columns = random.uniform(-3.0, 3.0, (4000, primitive.arity))
    away = [np.abs(columns[:, 0] - kink) > 0.05 for kink in primitive.kinks]
    if name in BARE and not attrs["eps"]:
        away.append(np.abs(columns).min(1) > 0.05)
    if primitive.arity == 2:
        away.append(np.abs(columns[:, 0] - columns[:, 1]) > 0.05)
    kept = columns[np.logical_and.reduce(away)] if away else columns
    return [torch.from_numpy(kept[:count, i].reshape(1, 1, 1, -1).copy()) for i in range(primitive.arity)]


def _operation(name: str, attrs: Mapping[str, AttrValue]) -> Graph:
    return operation_graph(name, (FULL,) * PRIMITIVES[name].arity, attrs)


def _values(graph: Graph, *values: Tensor) -> Iterator[Tensor]:
    """By torch and by NumPy."""
    shape = tuple(values[0].shape)
    yield evaluate_torch(graph, *values, shape=shape)
    with np.errstate(all="ignore"):
        yield evaluate_numpy(graph, *values, shape=shape)


def _row(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(1, 1, 1, -1)


def _one(name: str, *values: Tensor, **attrs: AttrValue) -> Tensor:
    """The primitive by the reference back end."""
    return evaluate_torch(_operation(name, attrs), *values, shape=tuple(values[0].shape))


def _slopes(graph: Graph, *values: Tensor) -> Iterator[list[Tensor]]:
    """Derivatives by each argument: autograd of both torch back ends, ``differentiate``, forward mode."""
    shape = tuple(values[0].shape)
    leaves, wrt = named(*values, shape=shape), "abc"[: len(values)]
    dy = torch.ones(shape, dtype=torch.float64)
    for program in (Reference(graph), build_program(graph, "torch_source")):
        found = autograd(program, leaves, dy, wrt)[1]
        yield [found[name] for name in wrt]
    derived = symbolic(graph, leaves, dy, wrt)
    yield [derived[name] for name in wrt]
    with np.errstate(all="ignore"):
        duals = [forward_mode(graph, leaves, {name: dy})["y"][1] for name in wrt]
    yield [first_probe(dual, shape) for dual in duals]


def test_every_primitive_has_an_independent_expression_here() -> None:
    """A primitive that is added without a value to compare it with is not tested."""
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize(("name", "attrs"), CASES)
def test_value(name: str, attrs: dict[str, AttrValue]) -> None:
    """Torch and NumPy give the formula's value, at random points and at small whole numbers."""
    given = _complete(name, attrs)
    whole = [(-2.0, -1.0, 1.0, 2.0), (-1.0, 0.5, 1.0), (0.5, 3.0)][: PRIMITIVES[name].arity]
    columns = zip(*itertools.product(*whole), strict=True)
    for args in (_grid(name, given), [_row(*column) for column in columns]):
        points = zip(*(arg.flatten().tolist() for arg in args), strict=True)
        expected = _row(*(float(EXPECTED[name](*point, **given)) for point in points))
        for value in _values(_operation(name, attrs), *args):
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "attrs"), CASES)
def test_slope(name: str, attrs: dict[str, AttrValue]) -> None:
    """The derivative rule, autograd of both torch back ends and forward mode match finite differences."""
    graph, args = _operation(name, attrs), _grid(name, _complete(name, attrs))
    shape = tuple(args[0].shape)
    step = 1e-5
    expected = []
    for place in range(len(args)):
        if name == "where" and place == 0:
            expected.append(torch.zeros(shape, dtype=torch.float64))
            continue
        ends = [[a + sign * step * (i == place) for i, a in enumerate(args)] for sign in (1, -1)]
        high, low = (evaluate_torch(graph, *end, shape=shape) for end in ends)
        expected.append((high - low) / (2 * step))
    for found in _slopes(graph, *args):
        for slope, difference in zip(found, expected, strict=True):
            torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-7)


POINTS = _row(-7.5, -2.0, -1.0, -0.4, -1e-3, 0.0, 1e-3, 0.3, 1.0, 1.7, 6.0)


@pytest.mark.parametrize("name", NAMES)
def test_declared_bounds_hold(name: str) -> None:
    """No value leaves the closed interval that range analysis relies on."""
    low, high = PRIMITIVES[name].algebra.bounds
    columns = zip(*itertools.product(POINTS.flatten().tolist(), repeat=PRIMITIVES[name].arity), strict=True)
    for value in _values(_operation(name, {}), *(_row(*column) for column in columns)):
        assert value.min() >= low
        assert value.max() <= high


@pytest.mark.parametrize("name", UNARY)
def test_declared_laws_of_one_argument_hold(name: str) -> None:
    """Parity, monotony, idempotence and involution, wherever they are declared."""
    algebra, attrs = PRIMITIVES[name].algebra, _complete(name, {})
    value = _one(name, POINTS)
    if algebra.parity:
        mirrored = _one(name, -POINTS)
        torch.testing.assert_close(
            mirrored, -value if algebra.parity == "odd" else value, rtol=1e-14, atol=0.0
        )
    if algebra.monotone:
        assert (algebra.monotone * value.diff() >= 0).all()
    if algebra.idempotent:
        torch.testing.assert_close(_one(name, value, **attrs), value, rtol=0.0, atol=0.0)
    if algebra.involution:
        torch.testing.assert_close(_one(name, value, **attrs), POINTS, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", BINARY)
def test_declared_laws_of_two_arguments_hold(name: str) -> None:
    """Commutativity, idempotence, cancellation and (in the bare form) neutral elements."""
    algebra = PRIMITIVES[name].algebra
    pairs = list(itertools.product(POINTS.flatten().tolist(), repeat=2))
    a, b = (_row(*column) for column in zip(*pairs, strict=True))
    if algebra.commutative:
        assert torch.equal(_one(name, a, b), _one(name, b, a))
    if algebra.idempotent:
        assert torch.equal(_one(name, a, a), a)
    if algebra.cancels is not None:
        assert (_one(name, a, a) == algebra.cancels).all()
    bare: dict[str, AttrValue] = {"eps": 0.0} if name in WITH_EPS else {}
    for place, value in algebra.neutral:
        args = [a, a]
        args[place] = torch.full_like(a, value)
        torch.testing.assert_close(_one(name, *args, **bare), a, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("name", UNARY)
def test_laws_that_hold_are_declared(name: str) -> None:
    """A law that is left undeclared leaves duplicates in every search."""
    algebra, value = PRIMITIVES[name].algebra, _one(name, POINTS)
    mirrored = _one(name, -POINTS)
    if torch.allclose(mirrored, -value, rtol=1e-12, atol=1e-12):
        assert algebra.parity == "odd"
    if torch.allclose(mirrored, value, rtol=1e-12, atol=1e-12):
        assert algebra.parity == "even"
    if torch.equal(_one(name, value), value):
        assert algebra.idempotent


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in WITH_EPS if name != "pow"])
def test_safe_forms_are_finite_everywhere(name: str, dtype: torch.dtype) -> None:
    """With ε, value and slope are finite at 0, at the smallest and at huge arguments of either sign."""
    info = torch.finfo(dtype)
    ends = (0.0, info.tiny, 1e-12, 1.0, info.max**0.45, info.max**0.6)
    numbers = sorted({sign * end for end in ends for sign in (-1.0, 1.0)})
    columns = list(zip(*itertools.product(numbers, repeat=PRIMITIVES[name].arity), strict=True))
    args = [_row(*column).to(dtype) for column in columns]
    graph, shape = _operation(name, {}), tuple(args[0].shape)
    leaves = {"x": torch.zeros(shape, dtype=dtype), **dict(zip("ab", args, strict=False))}
    wrt = "ab"[: len(args)]
    for program in (Reference(graph), build_program(graph, "torch_source")):
        outputs, gradients = autograd(program, leaves, torch.ones(shape, dtype=dtype), wrt)
        for result in (outputs["y"], *gradients.values()):
            assert result.isfinite().all()
    for gradient in symbolic(graph, leaves, torch.ones(shape, dtype=dtype), wrt).values():
        assert gradient.isfinite().all()


def test_a_safe_power_is_finite_for_moderate_exponents() -> None:
    """The signed power passes through 0 and has finite slopes there, down to the exponent -2."""
    a, b = _row(*([-1e3, -1.0, 0.0, 1e-300, 1.0, 1e3] * 5)), _row(*np.repeat([-2.0, -0.5, 0.0, 1.0, 2.5], 6))
    graph = _operation("pow", {})
    for value in _values(graph, a, b):
        assert value.isfinite().all()
        assert (value[a == 0.0] == 0.0).all()
    for found in _slopes(graph, a, b):
        assert all(slope.isfinite().all() for slope in found)


def test_a_bare_power_of_zero_has_slope_zero() -> None:
    """``relu(x) ** p`` with a learnable p > 1 has finite gradients in every back end."""
    for found in _slopes(_operation("pow", {"eps": 0.0}), _row(0.0, 0.0), _row(1.5, 3.0)):
        assert all((slope == 0.0).all() for slope in found)


@pytest.mark.parametrize(
    ("name", "slope"), [("sqrt", 1 / math.sqrt(1e-5)), ("log1p", 1.0), ("sinc", 0.0), ("log", 0.0)]
)
def test_slope_at_zero_of_a_safe_form(name: str, slope: float) -> None:
    """All back ends have the true slope at 0, where a form through |x| loses it."""
    for (found,) in _slopes(_operation(name, {}), _row(0.0)):
        torch.testing.assert_close(found, _row(slope), rtol=1e-9, atol=1e-12)


def test_safe_forms_are_near_the_bare_ones() -> None:
    """ε changes what it protects only near 0: to ε/2|x| for the root, (ε/b)² for the quotient."""
    x = _row(-4.0, -1.0, 1.0, 4.0)
    torch.testing.assert_close(_one("sqrt", x), _one("sqrt", x, eps=0.0), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(_one("log", x), _one("log", x, eps=0.0), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(_one("div", x, x), torch.ones_like(x), rtol=1e-9, atol=0.0)
    largest = _one("div", torch.ones_like(x), torch.full_like(x, 1e-5))
    torch.testing.assert_close(largest, torch.full_like(x, 0.5e5), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", ["sign", "abs", "relu"])
def test_zero_is_mapped_to_zero_with_slope_zero(name: str) -> None:
    """sign(0) = 0, |x|'(0) = 0 and relu'(0) = 0, in every back end."""
    graph = _operation(name, {})
    for value in _values(graph, _row(0.0, -0.0)):
        assert (value == 0.0).all()
    for (slope,) in _slopes(graph, _row(0.0, -0.0)):
        assert (slope == 0.0).all()


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient_half_and_half(name: str) -> None:
    """Both arguments of max and min get half at a tie, in every back end."""
    for found in _slopes(_operation(name, {}), _row(0.0, -1.5), _row(0.0, -1.5)):
        assert all((slope == 0.5).all() for slope in found)


@pytest.mark.parametrize("name", ["sign", "greater", "equal"])
def test_steps_have_no_gradient(name: str) -> None:
    """A step passes nothing on, at its jump neither."""
    args = (_row(-1.0, 0.0, 2.0),) * PRIMITIVES[name].arity
    for found in _slopes(_operation(name, {}), *args):
        assert all((slope == 0.0).all() for slope in found)


def test_the_untaken_branch_gets_exactly_zero() -> None:
    """where: an infinite slope behind the branch that is not taken does not become NaN in its gradient."""
    condition, a, b = _row(1.0, 0.0, -2.0), _row(1.0, 2.0, 3.0), _row(4.0, 5.0, 6.0)
    taken = condition != 0
    for by_condition, by_a, by_b in _slopes(_operation("where", {}), condition, a, b):
        assert (by_condition == 0.0).all()
        assert torch.equal(by_a, taken.to(by_a.dtype))
        assert torch.equal(by_b, (~taken).to(by_b.dtype))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_kept(name: str) -> None:
    """No template promotes its arguments."""
    args = [torch.full((1, 1, 1, 3), 0.5, dtype=torch.bfloat16) for _ in range(PRIMITIVES[name].arity)]
    leaves = {"x": torch.zeros(1, 1, 1, 3, dtype=torch.bfloat16), **dict(zip("abc", args, strict=False))}
    assert Reference(_operation(name, {}))(leaves)["y"].dtype == torch.bfloat16
