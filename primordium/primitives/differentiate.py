"""Reverse-mode differentiation, graph to graph, from the primitives' own derivative rules."""

from collections.abc import Iterable

from primordium.errors import GraphError
from primordium.primitives import axes as ax
from primordium.primitives.axes import AxisSet
from primordium.primitives.builder import Builder, Operand, Value
from primordium.primitives.domain import Domain
from primordium.primitives.graph import Graph, live_nodes
from primordium.primitives.primitive import PRIMITIVES


class _GradientBuilder(Builder):
    """A builder whose graph has the cotangent as a further input and free outputs."""

    def __init__(self, domain: Domain, groups: int) -> None:
        super().__init__(domain.name, groups)
        self.domain = domain


def gradient_domain(domain: Domain) -> Domain:
    """The domain of a graph's gradient: its inputs and the cotangent ``dy`` of its main output."""
    main, axes = next(iter(domain.outputs.items()))
    return Domain(
        domain.name,
        domain.axes,
        {**domain.inputs, f"d{main}": axes},
        domain.outputs,
        domain.optional,
        domain.param_axes,
        domain.index_sets or ("of a gradient",),
        domain.states,
    )


def differentiate(view: Graph, wrt: Iterable[str] = ("x",)) -> Graph:
    """The graph of the gradients of ``Σ dy · y`` by inputs and parameters.

    Args:
        view: a plain graph (:func:`train_view` or :func:`eval_view`).
        wrt: names of inputs, parameters or states. The gradient of ``x`` is the output ``grad_x``.

    Returns:
        A graph of the same leaves with the further input ``dy`` and one output ``grad_<name>`` each. It is
        not checked against the domain's outputs, since gradients have the axes of what they belong to.

    Raises:
        GraphError: the view holds ``running``, a derived or an opaque primitive, or no leaf of that name.
    """
    builder = _GradientBuilder(gradient_domain(view.spec), view.groups)
    main = next(iter(view.spec.outputs))
    live = live_nodes(view.nodes, [view.output])
    values: dict[int, Value] = {}
    for index in live:
        node = view.nodes[index]
        if PRIMITIVES[node.op].kind in ("derived", "opaque") or node.op == "running":
            raise GraphError(
                f"node {index} ({node.op}) has no derivative rule; differentiate a plain view of the graph"
            )
        values[index] = builder.copy_node(view, node, values)
    adjoints: dict[int, Value] = {view.output: _sum_to(builder, builder.input(f"d{main}"), view, view.output)}
    for index in reversed(live):
        if index in adjoints and view.nodes[index].args:
            _push(builder, view, index, values, adjoints)
    outputs = {f"grad_{name}": _gradient_of(builder, view, name, adjoints) for name in wrt}
    return _finish(builder, view, outputs)


def _push(
    builder: Builder, view: Graph, index: int, values: dict[int, Value], adjoints: dict[int, Value]
) -> None:
    """Hand a node's adjoint on to its arguments."""
    node = view.nodes[index]
    primitive, attrs = PRIMITIVES[node.op], dict(node.attrs)
    args, y, g = [values[a] for a in node.args], values[index], adjoints[index]
    contributions: list[Operand | None]
    if primitive.kind == "elementwise":
        contributions = [
            None if p is None else _scaled(g, p(builder.ops, y, *args, **attrs)) for p in primitive.partials
        ]
    elif node.op == "surrogate":
        contributions = [None, g]
    elif node.op == "detach":
        contributions = [None]
    elif primitive.vjp is not None:
        absent = primitive.kind == "statistic" and not ax.index_set(str(attrs["over"])) & args[0].axes
        if absent and primitive.derive is not None:
            contributions = [_through_derived(builder, index, view, values, g)]
        else:
            contributions = list(primitive.vjp(builder.ops, y, g, *args, **attrs))
    else:
        raise GraphError(f"node {index} ({node.op}) has no derivative rule")
    reached = y.axes if primitive.kind != "statistic" else None
    for arg, contribution in zip(node.args, contributions, strict=True):
        if contribution is None:
            continue
        part = builder.lift(contribution)
        if reached is not None:
            part = _reduce(builder, part, reached & ~view.axes[arg])
        adjoints[arg] = adjoints[arg] + part if arg in adjoints else part


def _through_derived(
    builder: Builder, index: int, view: Graph, values: dict[int, Value], g: Value
) -> Operand:
    """Gradient of a statistic whose argument has none of its axes."""
    node = view.nodes[index]
    x = values[node.args[0]]
    over = ax.index_set(str(node.attr("over")))
    if node.op == "sum":
        return g * builder.ops.size(over=ax.show(over))
    if node.op in ("var", "std"):
        return 0.0 * g
    if node.op == "rms":
        return g * x / values[index]
    return g


def _scaled(g: Value, partial: Operand) -> Operand:
    if isinstance(partial, float):
        if partial == 1.0:
            return g
        if partial == -1.0:
            return -g
    return g * partial


def _reduce(builder: Builder, value: Value, over: AxisSet) -> Value:
    return builder.ops.sum(value, over=ax.show(over)) if over else value


def _sum_to(builder: Builder, cotangent: Value, view: Graph, index: int) -> Value:
    return _reduce(builder, cotangent, cotangent.axes & ~view.axes[index])


def _gradient_of(builder: Builder, view: Graph, name: str, adjoints: dict[int, Value]) -> Value:
    declared = {*view.spec.inputs, *(p.name for p in view.params), *(s.name for s in view.states)}
    if name not in declared:
        raise GraphError(f"no input, parameter or state {name!r}; there are {', '.join(sorted(declared))}")
    total: Value | None = None
    for index, node in enumerate(view.nodes):
        if node.op in ("input", "param", "state") and node.attrs[0][1] == name and index in adjoints:
            total = adjoints[index] if total is None else total + adjoints[index]
    return builder.const(0.0) if total is None else total


def _finish(builder: Builder, view: Graph, outputs: dict[str, Value]) -> Graph:
    named = tuple(sorted((name, value.index) for name, value in outputs.items()))
    graph = Graph(
        view.domain,
        tuple(builder.nodes),
        named,
        tuple(builder.params),
        tuple(builder.states),
        tuple(builder.hypers),
        view.groups,
    )
    # The cotangent is an input that the plain domain does not have.
    graph.__dict__["spec"] = builder.domain
    return graph
