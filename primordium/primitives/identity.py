"""Identity by structure: level 1 of three (2 is the behaviour fingerprint, 3 the score signature)."""

from primordium.primitives.graph import Graph
from primordium.primitives.passes import rewrite
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.views import write_out


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
    """The graph with derived primitives written out: a name for a formula does not make it another."""
    if PRIMITIVES.derived.isdisjoint([node.op for node in graph.nodes]):
        return graph
    derived = PRIMITIVES.derived.intersection(graph.nodes[i].op for i in graph.live)
    return write_out(graph, derived) if derived else graph
