"""The values of a plain graph in the machine's terms: numbered, each different one once, with their axes.

Nothing is rewritten that would change a NaN or an infinity (``x · 0`` stays); what is dropped is exact:
equal nodes, ``detach`` and ``surrogate`` (which only say how a value is differentiated), factors of 1.
"""

from functools import lru_cache
from typing import NamedTuple

from primordium.primitives import axes as ax
from primordium.primitives.axes import AxisSet
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import Attrs
from primordium.primitives.ranges import graph_ranges

STATISTICS = frozenset({"sum", "mean", "var", "std", "rms", "amax", "amin"})
ELEMENTWISE = frozenset(
    {
        *("neg", "abs", "sign", "square", "cube", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos"),
        *("sinc", "sinh", "cosh", "tanh", "asinh", "atan", "relu", "sigmoid", "softplus", "gauss", "erf"),
        *("add", "sub", "mul", "div", "pow", "max", "min", "greater", "equal", "where"),
    }
)
ALONG = frozenset({"index", "cumsum", "argsort", "cumargmax", "gather", "scatter"})
ALL: AxisSet = ax.B | ax.C | ax.S
_LONG_WAYS = frozenset({"mul", "sub", "add"})
_NORMAL = 2e-38
"""What is larger is no subnormal number of float32, and the logarithm need not look for one."""
_LEAVES = frozenset({"input", "param", "state", "hyper"})


class Value(NamedTuple):
    """One value: an operation of the machine, or ``leaf``, ``const`` or ``size``.

    Attributes:
        op: the operation's name.
        args: numbers of its operands.
        axes: what it varies over.
        constant: the operation's constant, or the value of a ``const``.
        present: of a statistic, the axes that it reduces and its operand has; of a ``size`` or a primitive
            along an axis, the axes.
        lacking: of a statistic, the axes that it reduces and its operand lacks; of a primitive along an axis,
            1 if it runs backwards (``reverse``, ``descending``).
        leaf: the name of a leaf.
    """

    op: str
    args: tuple[int, ...] = ()
    axes: AxisSet = 0
    constant: float | None = None
    present: AxisSet = 0
    lacking: AxisSet = 0
    leaf: str = ""


class Unsupported(Exception):
    """The graph has a node that the machine does not know."""


@lru_cache(maxsize=65_536)
def elementwise_operation(op: str, attrs: Attrs) -> tuple[str, float | None]:
    """The machine's name and constant of an elementwise primitive."""
    eps = float(dict(attrs).get("eps", 0.0))
    if op == "div" and eps:
        return "div_safe", eps**2
    if op == "sqrt" and eps:
        return "sqrt_safe", eps
    if op == "log" and eps > _NORMAL:
        return "log_safe", eps
    return op, eps if op in ("log", "pow") else None


@lru_cache(maxsize=4096)
def index_set_and_eps(attrs: Attrs) -> tuple[AxisSet, float]:
    """What a statistic reduces, and its ε."""
    given = dict(attrs)
    return ax.index_set(str(given["over"])), float(given.get("eps", 0.0))


class Values:
    """The values of a graph and which of them its outputs are.

    Args:
        graph: a plain view, or a gradient graph.

    Raises:
        Unsupported: it has a node that the machine does not know.
    """

    def __init__(self, graph: Graph) -> None:
        self.values: list[Value] = []
        self._table: dict[Value, int] = {}
        self._leaves = dict(graph.spec.inputs)
        self._leaves |= {p.name: p.axes for p in graph.params}
        self._leaves |= {s.name: s.axes for s in graph.states}
        self._leaves |= {h.name: ax.NONE for h in graph.hypers}
        self._graph = graph
        self._positive: frozenset[int] | None = None
        place: dict[int, int] = {}
        nodes = graph.nodes
        for index in graph.live:
            op, args, attrs = nodes[index]
            place[index] = self._node(op, tuple([place[a] for a in args]), attrs, args)
        self.outputs: dict[str, int] = {}
        for name, index in graph.outputs:
            self.outputs[name] = self._own(place[index])

    def _add(self, value: Value) -> int:
        found = self._table.get(value)
        if found is None:
            found = self._table[value] = len(self.values)
            self.values.append(value)
        return found

    def _node(self, op: str, args: tuple[int, ...], attrs: Attrs, nodes: tuple[int, ...]) -> int:
        if op in ELEMENTWISE:
            name, constant = elementwise_operation(op, attrs)
            if op in ("log", "pow") and self._is_positive(nodes[0]):
                name = f"{op}_positive"
            return self._elementwise(name, args, constant)
        if op in _LEAVES:
            name = str(attrs[0][1])
            return self._add(Value("leaf", axes=self._leaves[name], leaf=name))
        if op == "const":
            return self._constant(float(attrs[0][1]))
        if op in STATISTICS:
            return self._reduced(op, args[0], attrs)
        if op == "size":
            return self._add(Value("size", present=index_set_and_eps(attrs)[0]))
        if op in ALONG:
            return self._along(op, args, attrs)
        if op in ("detach", "surrogate"):
            return args[0]
        raise Unsupported(op)

    def _is_positive(self, index: int) -> bool:
        """Whether a node's range is positive, as the torch templates ask it."""
        if self._positive is None:
            ranges = graph_ranges(self._graph)
            self._positive = frozenset(i for i, (low, _) in ranges.items() if low > 0.0)
        return index in self._positive

    def _constant(self, value: float) -> int:
        return self._add(Value("const", constant=value))

    def _is_one(self, value: int) -> bool:
        return self.values[value].op == "const" and self.values[value].constant == 1.0

    def _elementwise(self, op: str, args: tuple[int, ...], constant: float | None) -> int:
        values = self.values
        axes = 0
        for arg in args:
            axes |= values[arg].axes
        if op == "mul" and (self._is_one(args[0]) or self._is_one(args[1])):
            return args[1] if self._is_one(args[0]) else args[0]
        if op == "div" and self._is_one(args[1]):
            return args[0]
        if op in _LONG_WAYS:
            op, args = self._shorter(op, args)
        if op == "where":
            args = tuple([self._expanded(arg, axes) for arg in args])
        return self._add(Value(op, args, axes, constant))

    def _shorter(self, op: str, args: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """One operation for what derivative rules write with several: y(1 - y), 1 - y², a > b, half a tie."""
        first, second = self.values[args[0]], self.values[args[1]]
        if op == "mul" and second.op == "sub" and second.args[1] == args[0] and self._is_one(second.args[0]):
            return "sigmoid_slope", args[:1]
        if op == "sub" and second.op == "mul" and len({*second.args}) == 1 and self._is_one(args[0]):
            return "tanh_slope", second.args[:1]
        if op == "add" and first.op == "greater" and second.op == "mul":
            half, tie = (self.values[arg] for arg in second.args)
            if half.op == "const" and half.constant == 0.5 and tie.op == "equal" and tie.args == first.args:
                return "share", first.args
        return op, args

    def _expanded(self, arg: int, axes: AxisSet) -> int:
        return arg if self.values[arg].axes == axes else self._add(Value("expand", (arg,), axes))

    def _reduced(self, op: str, x: int, attrs: Attrs) -> int:
        over, eps = index_set_and_eps(attrs)
        axes = self.values[x].axes
        if over & ~ALL:
            raise Unsupported(op)
        if over & axes:
            constant = eps if op in ("std", "rms") else None
            return self._add(Value(op, (x,), axes & ~over, constant, over & axes, over & ~axes))
        if op == "sum":
            return self._elementwise("mul", (x, self._add(Value("size", present=over))), None)
        if op in ("var", "std"):
            zero = self._elementwise("mul", (x, self._constant(0.0)), None)
            return zero if op == "var" else self._elementwise("add", (zero, self._constant(eps**0.5)), None)
        return self._elementwise("magnitude", (x,), eps) if op == "rms" else x

    def _along(self, op: str, args: tuple[int, ...], attrs: Attrs) -> int:
        given = dict(attrs)
        axis = ax.axis_set(str(given["axis"]))
        if axis & ~ALL or axis & ax.B:
            raise Unsupported(op)
        axes = axis
        for arg in args:
            axes |= self.values[arg].axes
        dense = tuple([self._expanded(arg, axes) for arg in args])
        backwards = bool(given.get("reverse", given.get("descending", False)))
        return self._add(Value(op, dense, axes, None, axis, int(backwards)))

    def _own(self, value: int) -> int:
        """A value that can be an output: computed, and no other output yet."""
        if self.values[value].op in ("leaf", "const", "size") or value in self.outputs.values():
            # An equal copy may be there, so this one is not looked up.
            self.values.append(Value("copy", (value,), self.values[value].axes))
            return len(self.values) - 1
        return value
