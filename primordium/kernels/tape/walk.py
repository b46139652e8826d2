"""The walk of canonicalization, compiled: most nodes of a proposal are known, and Python is not asked."""

from primordium.primitives.graph import Graph
from primordium.primitives.passes import LEAVES, Rewriter, Rewritten, make_leaf
from primordium.primitives.passes import walk as interpreted
from primordium.primitives.primitive import Attrs

try:
    from primordium.kernels.tape import _tape
except ImportError:  # installed where there was no compiler
    _tape = None  # type: ignore[assignment]  # asked for before each use


def walk(graph: Graph, rewriter: Rewriter, leaves: dict[Attrs, int]) -> Rewritten:
    """What :func:`primordium.primitives.passes.walk` finds, compiled where there was a compiler."""
    if _tape is None:
        return interpreted(graph, rewriter, leaves)
    outputs = _tape.walk(
        graph.nodes,
        graph.outputs,
        rewriter.table,
        leaves,
        LEAVES,
        rewriter.emit,
        make_leaf,
        graph,
        rewriter,
    )
    return Rewritten(graph, rewriter, outputs)
