"""Identity by structure: level 1 of three (2 is the behaviour fingerprint, 3 the score signature)."""

from primordium.primitives.graph import Graph
from primordium.primitives.passes import rewrite
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.views import InliningBuilder


def key(graph: Graph) -> str:
    """Sixteen hex digits that say which graph it is after canonicalization, constants included."""
    return f"{rewrite(inline_derived(graph)).key:016x}"


def structure_hash(graph: Graph) -> str:
    """Sixteen hex digits that say which *structure* it is: constants count as slots.

    Graphs of one structure share one compiled kernel, their constants being its arguments.
    """
    canonical = rewrite(inline_derived(graph)).graph()
    return f"{rewrite(canonical, constants_as_slots=True).key:016x}"


def inline_derived(graph: Graph) -> Graph:
    """The graph with derived primitives written out, so that a name for a formula does not make it another."""
    if not any(PRIMITIVES[graph.nodes[i].op].kind == "derived" for i in graph.live):
        return graph
    builder = InliningBuilder(graph.domain, graph.groups)
    values = {}
    for index in graph.live:
        node = graph.nodes[index]
        leaf = PRIMITIVES[node.op].kind == "leaf"
        args = () if leaf else tuple(values[a].index for a in node.args)
        values[index] = builder.copy_leaf(graph, node) if leaf else builder.emit(node.op, args, node.attrs)
    for state in graph.states:
        builder.state(state)
    return builder.finish({name: values[index] for name, index in graph.outputs}, affine=graph.affine)
