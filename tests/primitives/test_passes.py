"""Passes keep what a graph computes: dead code, common subexpressions, the canonical form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from graph_evaluation import AGREE, Leaves, difference, ill_conditioned, random_leaves
from random_graphs import SHAPES, random_graph
from torch import Tensor

from primordium.kernels.reference import Reference
from primordium.primitives.graph import Graph, check
from primordium.primitives.identity import key
from primordium.primitives.passes import canonicalize, remove_dead_code, share_common_subexpressions
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

CHUNKS = 4
GRAPHS = 100
SET_ASIDE = 0.05


def _outputs(graph: Graph, leaves: Leaves) -> dict[str, Tensor]:
    """The outputs in training, without the next states (their names follow the order of nodes)."""
    view = train_view(graph)
    ones = {s.name: torch.ones_like(leaves["x"][:1]) for s in view.states}
    values = Reference(view)({**leaves, **ones})
    return {name: values[name].expand_as(leaves["x"]) for name in ("y", "no_act") if name in values}


def _with_duplicates(graph: Graph) -> Graph:
    """The same graph with a copy of every operation, used by every second reader."""
    nodes, place, copies = list[object](), dict[int, int](), dict[int, int]()
    for index, node in enumerate(graph.nodes):
        for number, target in enumerate((place, copies)):
            if number and not node.args:
                copies[index] = place[index]
                continue
            source = copies if number else place
            nodes.append(node._replace(args=tuple(source[a] for a in node.args)))
            target[index] = len(nodes) - 1
    outputs = tuple((name, copies[index]) for name, index in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_canonical_form_of_random_graphs(chunk: int) -> None:
    """It computes what the graph does, as far as that is well conditioned, and is its own canonical form."""
    smaller = set_aside = 0
    for seed in range(chunk * GRAPHS, (chunk + 1) * GRAPHS):
        graph = random_graph(seed)
        canonical = canonicalize(graph)
        assert check(canonical) is canonical
        assert canonicalize(canonical) == canonical
        assert key(canonical) == key(graph)
        smaller += len(canonical.nodes) < len(graph.live)
        shape = SHAPES[seed % len(SHAPES)]
        view = train_view(graph)
        leaves = random_leaves(view, shape, seed)
        dy = torch.from_numpy(np.random.default_rng([0xC4, seed]).normal(size=shape))
        if ill_conditioned(view, leaves, dy):
            set_aside += 1
            continue
        before, after = _outputs(graph, leaves), _outputs(canonical, leaves)
        assert before.keys() == after.keys()
        for name in before:
            assert difference(before[name], after[name]) <= AGREE, (name, str(graph), str(canonical))
    assert smaller > GRAPHS // 4
    assert set_aside <= SET_ASIDE * GRAPHS


def test_dead_code_goes_and_nothing_else() -> None:
    """Exactly the live nodes remain, in their order; values are the same bit for bit."""
    for seed in range(100):
        graph = random_graph(seed)
        clean = remove_dead_code(graph)
        assert check(clean) is clean
        assert [n.op for n in clean.nodes] == [graph.nodes[i].op for i in graph.live]
        assert {p.name for p in clean.params} == {
            str(graph.nodes[i].attr("name")) for i in graph.live if graph.nodes[i].op == "param"
        }
        assert remove_dead_code(clean) == clean
        leaves = random_leaves(train_view(graph), SHAPES[0], seed)
        before, after = _outputs(graph, leaves), _outputs(clean, leaves)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_common_subexpressions_are_shared_and_nothing_else() -> None:
    """A graph whose every operation stands twice becomes what it was, and computes the same bit for bit."""
    for seed in range(100):
        graph = random_graph(seed)
        shared = share_common_subexpressions(graph)
        assert share_common_subexpressions(_with_duplicates(graph)) == shared
        assert share_common_subexpressions(shared) == shared
        seen = {(n.op, n.args, n.attrs) for n in shared.nodes}
        assert len(seen) == len(shared.nodes)
        assert {n.op for n in shared.nodes} == {graph.nodes[i].op for i in graph.live}
        leaves = random_leaves(train_view(graph), SHAPES[0], seed)
        before, after = _outputs(graph, leaves), _outputs(shared, leaves)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_canonical_form_keeps_what_is_declared() -> None:
    """Domain, groups, affine, and the parameters that are used, with their names."""
    graph = parse("layer[groups=4, affine](dead: C = 2, fixed v: {} = 0.5): v * x + 0 * dead")
    canonical = canonicalize(graph)
    assert (canonical.domain, canonical.groups, canonical.affine) == ("layer", 4, True)
    assert [p.name for p in canonical.params] == ["v"]


def test_the_canonical_form_has_no_commuted_twin() -> None:
    """Whatever order the arguments of commutative primitives had, the nodes are the same."""
    for op in sorted(n for n, p in PRIMITIVES.items() if p.algebra.commutative):
        one, other = (parse(f"layer: {op}({args})") for args in ("sin(x), exp(x)", "exp(x), sin(x)"))
        assert canonicalize(one).nodes == canonicalize(other).nodes
