"""What can be read off a graph before anything runs: host scalars, phases, order of differentiability."""

from primordium.primitives.graph import Graph
from primordium.primitives.primitive import PRIMITIVES


def host_nodes(graph: Graph) -> frozenset[int]:
    """The scalar subgraphs of a plain view: live nodes of constants, hyper-parameters and host inputs only.

    A host input has no axes: the step, the number of steps. Bias corrections and schedules are of this kind.
    A back end may compute them once a step on the host in float64 and pass the results to its kernels as
    arguments. What depends on the sizes of tensors is not among them.
    """
    result: set[int] = set()
    for index in graph.live:
        node = graph.nodes[index]
        kind = PRIMITIVES[node.op].kind
        if kind == "leaf":
            scalar = node.op in ("const", "hyper") or (node.op == "input" and not graph.axes[index])
        else:
            pointwise = kind in ("elementwise", "structural") and node.op != "running"
            scalar = pointwise and result.issuperset(node.args)
        if scalar:
            result.add(index)
    return frozenset(result)


def phases(graph: Graph) -> int:
    """How many passes over the data a graph needs: one more than the nesting depth of its statistics.

    An elementwise graph has one phase, EvoNorm-S0 two, a global clip before LAMB's trust ratio three.
    """
    depth: dict[int, int] = {}
    for index in graph.live:
        node = graph.nodes[index]
        primitive = PRIMITIVES[node.op]
        reduces = primitive.kind == "statistic" or primitive.reduces or "over" in dict(node.attrs)
        below = max((depth[arg] for arg in node.args), default=0)
        depth[index] = below + (1 if reduces and node.args else 0)
    return 1 + max((depth[index] for _, index in graph.outputs), default=0)


def gradient_order(graph: Graph) -> int:
    """How many times the reference back end can differentiate the main output: the least of its nodes."""
    return min(PRIMITIVES[graph.nodes[i].op].gradient_order for i in graph.live)
