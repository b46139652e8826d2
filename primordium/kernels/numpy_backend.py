"""NumPy forward with forward-mode derivative, for screening: no torch, no compilation per candidate.

Arrays are in the canonical layout with one leading dimension of probes. Because a moment of a broadcast value
equals the moment of the value, statistics simply reduce every dimension of the index set.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from primordium.errors import GraphError
from primordium.kernels.layout import dims
from primordium.primitives import axes as ax
from primordium.primitives.domain import Domain
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import PRIMITIVES, Attrs
from primordium.primitives.scalar import numpy_function

Array: TypeAlias = npt.NDArray[np.float64]
Dual: TypeAlias = tuple[Any, Any]
"""A value with its tangent; a tangent of ``None`` is zero."""


def mean(x: Array, over: tuple[int, ...]) -> Array:
    """Mean over dimensions, kept with size 1."""
    total = np.add.reduce(x, over, keepdims=True)
    return total * (total.size / x.size)


def var(x: Array, over: tuple[int, ...]) -> Array:
    """Population variance over dimensions, in two passes."""
    centred = x - mean(x, over)
    return mean(centred * centred, over)


class NumpyOps:
    """The namespace of primitives on arrays, for derivative rules; knows the domain's dimensions and sizes.

    Args:
        domain: the domain whose canonical layout the arrays have.
        shape: the sizes of its axes (without the leading dimension of probes).
    """

    def __init__(self, domain: Domain, shape: tuple[int, ...]) -> None:
        self.domain = domain
        self.shape = shape
        self._over: dict[str, tuple[tuple[int, ...], float]] = {}

    def reduced(self, over: str) -> tuple[tuple[int, ...], float]:
        """Dimensions and number of positions of an index set."""
        found = self._over.get(over)
        if found is None:
            places = dims(self.domain, ax.index_set(over))
            count = 1.0
            for place in places:
                count *= self.shape[place]
            found = self._over[over] = tuple(p + 1 for p in places), count
        return found

    def array(self, x: Any) -> Array:
        """The value with all dimensions."""
        return x if isinstance(x, np.ndarray) and x.ndim else np.full((1,) * (len(self.shape) + 1), x)

    def statistic(self, op: str, x: Any, over: str, eps: float = 0.0) -> Any:
        """A statistic over an index set."""
        x = self.array(x)
        places, count = self.reduced(over)
        if op == "mean":
            return mean(x, places)
        if op == "std":
            return np.sqrt(var(x, places) + eps)
        if op == "rms":
            return np.sqrt(mean(x * x, places) + eps)
        if op == "var":
            return var(x, places)
        if op == "sum":
            return mean(x, places) * count
        reduce = np.maximum.reduce if op == "amax" else np.minimum.reduce
        return reduce(x, places, keepdims=True)

    def axes(self, x: Any) -> int:
        raise GraphError("array values have no static axes; this rule needs a traced graph")

    def size(self, *, over: str) -> float:
        """Number of positions of an index set."""
        return self.reduced(over)[1]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        primitive = PRIMITIVES[name]

        def call(*args: Any, **attrs: Any) -> Any:
            if primitive.kind == "statistic":
                return self.statistic(name, *args, **{**primitive.attrs, **attrs})
            complete = primitive.complete(attrs) if primitive.attrs else ()
            if primitive.kind == "along":
                return self.along(name, args, dict(complete))
            return numpy_function(name, complete)(*args)

        setattr(self, name, call)  # found at once the next time
        return call

    def along(self, op: str, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Array:
        """A primitive along one axis (its dimensions flattened in last place)."""
        places = tuple(d + 1 for d in dims(self.domain, ax.axis_set(attrs["axis"])))
        sizes = [self.shape[p - 1] for p in places]
        arrays = [self.array(a) for a in args] or [np.zeros((1,) * (len(self.shape) + 1))]
        full = list(np.broadcast_shapes(*(a.shape for a in arrays)))
        for place, size in zip(places, sizes, strict=True):
            full[place] = size
        last = tuple(range(-len(places), 0))
        flat = [np.moveaxis(np.broadcast_to(a, full), places, last) for a in arrays]
        lead = flat[0].shape[: flat[0].ndim - len(places)]
        result = _along(op, [f.reshape(*lead, -1) for f in flat], attrs)
        return np.moveaxis(result.reshape(*lead, *sizes), last, places)


def _along(op: str, flat: list[Array], attrs: Mapping[str, Any]) -> Array:
    x = flat[0]
    if op == "index":
        return np.broadcast_to(np.arange(x.shape[-1], dtype=np.float64), x.shape)
    if op == "cumsum":
        return x[..., ::-1].cumsum(-1)[..., ::-1] if attrs["reverse"] else x.cumsum(-1)
    if op == "argsort":
        return (-x if attrs["descending"] else x).argsort(-1, kind="stable").astype(np.float64)
    if op == "cumargmax":
        highest = np.maximum.accumulate(x, -1)
        previous = np.concatenate([np.full_like(highest[..., :1], -np.inf), highest[..., :-1]], -1)
        return np.maximum.accumulate(np.where(highest > previous, np.arange(x.shape[-1]), 0), -1).astype(
            np.float64
        )
    places = flat[1].astype(np.int64)
    if op == "gather":
        return np.take_along_axis(x, places, -1)
    result = np.zeros_like(x)
    rows = np.indices(x.shape)[:-1]
    np.add.at(result, (*rows, places), x)
    return result


@cache
def _partials(op: str, attrs: Attrs) -> tuple[Callable[..., Any] | None, ...]:
    given = dict(attrs)
    if not given:
        return PRIMITIVES[op].partials
    return tuple(
        None if rule is None else (lambda o, y, *args, _rule=rule: _rule(o, y, *args, **given))
        for rule in PRIMITIVES[op].partials
    )


Step: TypeAlias = Callable[[NumpyOps, list[Dual]], Dual]
"""Value and tangent of a node from those of its arguments."""


def _unary(op: str, attrs: Attrs) -> Step:
    function, (partial,) = numpy_function(op, attrs), _partials(op, attrs)

    def step(o: NumpyOps, args: list[Dual]) -> Dual:
        x, dx = args[0]
        y = function(x)
        if dx is None or partial is None:
            return y, None
        return y, _scaled(partial(o, y, x), dx)

    return step


def _elementwise(op: str, attrs: Attrs) -> Step:
    function, partials = numpy_function(op, attrs), _partials(op, attrs)

    def step(o: NumpyOps, args: list[Dual]) -> Dual:
        values = [a[0] for a in args]
        y = function(*values)
        tangent = None
        for (_, dx), partial in zip(args, partials, strict=True):
            if dx is None or partial is None:
                continue
            part = _scaled(partial(o, y, *values), dx)
            tangent = part if tangent is None else tangent + part
        return y, tangent

    return step


def _scaled(slope: Any, dx: Any) -> Any:
    if slope.__class__ is float:
        if slope == 1.0:
            return dx
        if slope == -1.0:
            return -dx
    return slope * dx


def _by_rule(op: str, attrs: Attrs) -> Step:
    """Statistics and primitives along an axis, by their forward-mode rules."""
    rule, given = PRIMITIVES[op].jvp, dict(attrs)
    if rule is None:
        raise GraphError(f"primitive {op!r} has no NumPy meaning; inline derived primitives first")

    def step(o: NumpyOps, args: list[Dual]) -> Dual:
        values, tangents = [a[0] for a in args], [a[1] for a in args]
        y = getattr(o, op)(*values, **given)
        if args and tangents[0] is None:
            return y, None
        return y, rule(o, y, values, tangents, **given)

    return step


@lru_cache(maxsize=65_536)
def dual_step(op: str, attrs: Attrs) -> Step:
    """What a node does to the values and tangents of its arguments.

    Raises:
        GraphError: the primitive has no NumPy meaning.
    """
    primitive = PRIMITIVES[op]
    if primitive.kind == "elementwise":
        return _unary(op, attrs) if primitive.arity == 1 else _elementwise(op, attrs)
    if op == "const":
        value = np.float64(dict(attrs)["value"])  # a Python float would raise where an array gives inf
        return lambda o, args: (value, None)
    if op == "running":
        return lambda o, args: args[0]
    if op == "detach":
        return lambda o, args: (args[0][0], None)
    if op == "surrogate":
        return lambda o, args: (args[0][0] + 0.0 * args[1][0], args[1][1])
    if primitive.kind in ("statistic", "along"):
        return _by_rule(op, attrs)
    raise GraphError(f"primitive {op!r} has no NumPy meaning; inline derived primitives first")


def run_dual(graph: Graph, o: NumpyOps, leaves: Mapping[str, Dual]) -> dict[str, Dual]:
    """Every output with its tangent, from leaves with theirs; ``running`` is its training value."""
    values: dict[int, Dual] = {}
    nodes = graph.nodes
    for index in graph.live:
        op, args, attrs = nodes[index]
        if not args and op in _LEAVES:
            values[index] = leaves[str(attrs[0][1])]
        else:
            values[index] = dual_step(op, attrs)(o, [values[a] for a in args])
    return {name: values[index] for name, index in graph.outputs}


_LEAVES = frozenset({"input", "param", "state", "hyper"})
