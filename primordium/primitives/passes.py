"""Passes over graphs: small pure functions Graph → Graph, and the canonical form they make together.

All of them are one walk over the live nodes with a :class:`Rewriter`, which hash-conses (so common
subexpressions are shared) and applies the rules it is given. Each node carries a stable 64-bit key that does
not depend on numbering, order of commutative arguments, process or machine; the key of the outputs is the
graph's identity in the screening loop.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from hashlib import blake2b

from primordium.primitives import axes as ax
from primordium.primitives.axes import AxisSet
from primordium.primitives.domain import get_domain
from primordium.primitives.graph import Graph, Hyper, Node, Param, State, live_nodes, node_axes
from primordium.primitives.primitive import PRIMITIVES, Attrs
from primordium.primitives.ranges import ALL, Range, node_range
from primordium.primitives.rules import Args, RewriteRule, rules_for

_LEAVES = frozenset({"input", "param", "state", "hyper", "const"})
_MASK = (1 << 64) - 1
_MIX = 0x9E3779B97F4A7C15


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=65_536)
def _seed(op: str, attrs: Attrs) -> int:
    """The key of an operation without its arguments."""
    return _digest(f"{op}{attrs!r}")


def _mix(seed: int, keys: list[int]) -> int:
    for key in keys:
        seed = ((seed ^ key) * _MIX) & _MASK
        seed ^= seed >> 29
    return seed


@cache
def _no_rules(op: str) -> tuple[RewriteRule, ...]:
    return ()


@lru_cache(maxsize=65_536)
def _axes_rule(op: str, attrs: Attrs) -> tuple[AxisSet, AxisSet]:
    """Which axes a node keeps of its arguments' union, and which it adds."""
    given = dict(attrs)
    everything = ~ax.NONE
    return node_axes(op, given, (everything,)), node_axes(op, given, (ax.NONE,))


class Rewriter:
    """Hash-consed nodes of one graph under construction, with axes, ranges and keys.

    Args:
        rules: the rules that may apply to a primitive.
        constants_as_slots: leave the values of constants out of the keys.
    """

    def __init__(
        self, rules: Callable[[str], tuple[RewriteRule, ...]] = rules_for, constants_as_slots: bool = False
    ) -> None:
        self.nodes: list[Node] = []
        self.axes: list[AxisSet] = []
        self._ranges: list[Range] = []
        self.keys: list[int] = []
        self.constants: dict[int, float] = {}
        self._rules = rules
        self._slots = constants_as_slots
        self.twins = False
        self._table: dict[tuple[str, Args, Attrs], int] = {}

    def const(self, value: float) -> int:
        """The node of a constant."""
        attrs: Attrs = (("value", value + 0.0),)  # -0.0 and 0.0 are one constant
        index = self._table.get(("const", (), attrs))
        if index is None:
            key = _seed("const", () if self._slots else attrs)
            index = self._append("const", (), attrs, ax.NONE, key)
            self.constants[index] = value
        return index

    def leaf(self, node: Node, axes: AxisSet, key: int) -> int:
        """A leaf that is no constant; ``key`` says what it is, whatever its name."""
        index = self._table.get((node.op, (), node.attrs))
        if index is not None:
            return index
        if node.op == "param" and key in self.keys:
            self.twins = True  # two parameters declared alike: told apart once the graph is there
        return self._append(node.op, (), node.attrs, axes, key)

    def emit(self, op: str, args: Args, attrs: Attrs) -> int:
        """The node ``op(*args)``, or an equal one that a rule or the table knows."""
        index = self._table.get((op, args, attrs))
        if index is not None:
            return index
        for rule in self._rules(op):
            found = rule(self, op, args, attrs)
            if found is not None:
                self._table[op, args, attrs] = found
                return found
        keys = self.keys
        ordered = args
        if len(args) == 2 and keys[args[0]] > keys[args[1]] and PRIMITIVES[op].algebra.commutative:
            ordered = (args[1], args[0])
            index = self._table.get((op, ordered, attrs))
            if index is not None:
                return index
        keep, add = _axes_rule(op, attrs)
        union = 0
        for arg in args:
            union |= self.axes[arg]
        key = _mix(_seed(op, attrs), [keys[a] for a in ordered])
        return self._append(op, ordered, attrs, (union & keep) | add, key)

    def range_of(self, index: int) -> Range:
        """The range of a node; computed when a rule first asks, since most graphs have no such rule."""
        for at in range(len(self._ranges), index + 1):
            op, args, attrs = self.nodes[at]
            if op == "const":
                value = self.constants[at]
                self._ranges.append((value, value))
            elif not args and op in _LEAVES:
                self._ranges.append(ALL)
            else:
                self._ranges.append(node_range(op, attrs, tuple([self._ranges[a] for a in args])))
        return self._ranges[index]

    def _append(self, op: str, args: Args, attrs: Attrs, axes: AxisSet, key: int) -> int:
        index = len(self.nodes)
        self.nodes.append(Node(op, args, attrs))
        self.axes.append(axes)
        self.keys.append(key)
        self._table[op, args, attrs] = index
        return index


class Rewritten:
    """The result of a rewriting walk: its key at once, its graph when asked."""

    def __init__(self, source: Graph, rewriter: Rewriter, outputs: tuple[tuple[str, int], ...]) -> None:
        self._source = source
        self.rewriter = rewriter
        self.outputs = outputs

    @property
    def key(self) -> int:
        """64-bit identity of the outputs."""
        keys = self._told_apart() if self.rewriter.twins else self.rewriter.keys
        return _mix(
            _seed(self._source.domain, (("affine", self._source.affine), ("groups", self._source.groups))),
            [k for name, index in self.outputs for k in (_seed(name, ()), keys[index])],
        )

    def _order(self) -> dict[int, int]:
        """Places of the live nodes, numbered from the outputs in canonical order."""
        order: dict[int, int] = {}
        for _, output in self.outputs:
            _number(self.rewriter.nodes, output, order)
        return order

    def _told_apart(self) -> dict[int, int]:
        """Keys in which parameters declared alike differ by the order of their first use."""
        nodes, keys, ranks = self.rewriter.nodes, dict[int, int](), dict[int, int]()
        for index in self._order():
            node, key = nodes[index], self.rewriter.keys[index]
            if node.op == "param":
                ranks[key] = rank = ranks.get(key, -1) + 1
                keys[index] = _mix(key, [rank]) if rank else key  # alone, it needs no rank
            elif node.args:
                keys[index] = _mix(_seed(node.op, node.attrs), [keys[a] for a in node.args])
            else:
                keys[index] = key
        return keys

    def graph(self) -> Graph:
        """The rewritten graph, its nodes numbered from the outputs in canonical order."""
        nodes, order = self.rewriter.nodes, self._order()
        ordered = tuple(nodes[i]._replace(args=tuple(order[a] for a in nodes[i].args)) for i in order)
        return _of_nodes(self._source, ordered, tuple((name, order[index]) for name, index in self.outputs))


def _of_nodes(source: Graph, nodes: tuple[Node, ...], outputs: tuple[tuple[str, int], ...]) -> Graph:
    """The graph of these nodes, with those of the source's parameters and hyper-parameters that they use."""
    names = {(n.op, n.attrs[0][1]) for n in nodes if n.op in ("param", "hyper")}
    return replace(
        source,
        nodes=nodes,
        outputs=outputs,
        params=tuple(p for p in source.params if ("param", p.name) in names),
        hypers=tuple(h for h in source.hypers if ("hyper", h.name) in names),
    )


def _number(nodes: list[Node], output: int, order: dict[int, int]) -> None:
    stack = [output]
    while stack:
        index = stack[-1]
        if index in order:
            stack.pop()
            continue
        waiting = [a for a in reversed(nodes[index].args) if a not in order]
        if waiting:
            stack.extend(waiting)
        else:
            order[index] = len(order)
            stack.pop()


@lru_cache(maxsize=1024)
def _declared(
    domain: str, params: tuple[Param, ...], states: tuple[State, ...], hypers: tuple[Hyper, ...]
) -> dict[Attrs, tuple[AxisSet, tuple[object, ...]]]:
    """Axes and what identifies it, for every leaf that is no constant, by its attributes (its name)."""
    leaves: dict[str, tuple[AxisSet, tuple[object, ...]]] = {
        name: (axes, (name,)) for name, axes in get_domain(domain).inputs.items()
    }
    leaves |= {p.name: (p.axes, (p.axes, p.init, p.learnable)) for p in params}
    leaves |= {s.name: (s.axes, (s.name,)) for s in states}
    leaves |= {h.name: (ax.NONE, (h.name,)) for h in hypers}
    return {(("name", name),): what for name, what in leaves.items()}


@lru_cache(maxsize=4096)
def _digest_leaf(op: str, what: tuple[object, ...]) -> int:
    return _digest(f"{op}:{what!r}")


def rewrite(
    graph: Graph,
    rules: Callable[[str], tuple[RewriteRule, ...]] = rules_for,
    *,
    constants_as_slots: bool = False,
) -> Rewritten:
    """Walk the live nodes once, applying rules and sharing equal nodes."""
    rewriter = Rewriter(rules, constants_as_slots)
    declared = _declared(graph.domain, graph.params, graph.states, graph.hypers)
    nodes = graph.nodes
    place: dict[int, int] = {}
    for index in live_nodes(nodes, [index for _, index in graph.outputs]):
        op, args, attrs = nodes[index]
        if args or op not in _LEAVES:
            place[index] = rewriter.emit(op, tuple([place[a] for a in args]), attrs)
        elif op == "const":
            place[index] = rewriter.const(float(attrs[0][1]))
        else:
            axes, what = declared[attrs]
            place[index] = rewriter.leaf(nodes[index], axes, _digest_leaf(op, what))
    return Rewritten(graph, rewriter, tuple((name, place[index]) for name, index in graph.outputs))


def remove_dead_code(graph: Graph) -> Graph:
    """Only the nodes, parameters and hyper-parameters that the outputs depend on."""
    place = {old: new for new, old in enumerate(graph.live)}
    nodes = tuple(
        graph.nodes[i]._replace(args=tuple(place[a] for a in graph.nodes[i].args)) for i in graph.live
    )
    return _of_nodes(graph, nodes, tuple((name, place[index]) for name, index in graph.outputs))


def share_common_subexpressions(graph: Graph) -> Graph:
    """Equal nodes made one, commutative arguments in canonical order; nothing else changes."""
    return rewrite(graph, _no_rules).graph()


def canonicalize(graph: Graph) -> Graph:
    """The canonical form: dead code gone, constants folded, algebra applied, arguments and nodes in order."""
    return rewrite(graph).graph()
