"""Identity by structure: what the key and the structure hash see, and what they do not."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from random_graphs import random_graph

from primordium.primitives.builder import Builder
from primordium.primitives.graph import Graph, Node
from primordium.primitives.identity import inline_derived, key, structure_hash
from primordium.primitives.passes import canonicalize
from primordium.primitives.primitive import PRIMITIVES
from primordium.primitives.serial import to_json
from primordium.primitives.text import parse

GRAPHS = 150


def _reordered(graph: Graph, rng: random.Random) -> Graph:
    """The same graph with its nodes in another topological order."""
    order: list[int] = []
    waiting = list(range(len(graph.nodes)))
    while waiting:
        ready = [i for i in waiting if all(arg in order for arg in graph.nodes[i].args)]
        chosen = rng.choice(ready)
        order.append(chosen)
        waiting.remove(chosen)
    place = {old: new for new, old in enumerate(order)}
    nodes = tuple(graph.nodes[i]._replace(args=tuple(place[a] for a in graph.nodes[i].args)) for i in order)
    return replace(graph, nodes=nodes, outputs=tuple((name, place[i]) for name, i in graph.outputs))


def _renamed(graph: Graph) -> Graph:
    """Every parameter under another name, declared in the opposite order."""
    names = {param.name: f"p{number}" for number, param in enumerate(graph.params)}
    nodes = tuple(
        node._replace(attrs=(("name", names[str(node.attr("name"))]),)) if node.op == "param" else node
        for node in graph.nodes
    )
    params = tuple(param._replace(name=names[param.name]) for param in reversed(graph.params))
    return replace(graph, nodes=nodes, params=params)


def _commuted(graph: Graph, rng: random.Random) -> Graph:
    """Arguments of commutative primitives exchanged at random."""
    nodes = tuple(
        node._replace(args=node.args[::-1])
        if PRIMITIVES[node.op].algebra.commutative and rng.random() < 0.5
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _with_dead_nodes(graph: Graph) -> Graph:
    """Raw material for mutation, in front and behind."""
    x = next(i for i, node in enumerate(graph.nodes) if node.op == "input")
    return replace(graph, nodes=(*graph.nodes, Node("tanh", (x,)), Node("neg", (len(graph.nodes),))))


def test_the_key_sees_the_function_and_not_its_writing() -> None:
    """Order of nodes and of commutative arguments, names of parameters and dead nodes do not matter."""
    rng = random.Random(0x1D)
    for seed in range(GRAPHS):
        graph = random_graph(seed)
        identity, structure = key(graph), structure_hash(graph)
        for other in (
            _reordered(graph, rng),
            _renamed(graph),
            _commuted(graph, rng),
            _with_dead_nodes(graph),
        ):
            assert key(other) == identity, str(graph)
            assert structure_hash(other) == structure, str(graph)


def test_different_graphs_have_different_keys() -> None:
    """Of many random graphs, those that share a key share the canonical form; keys are sixteen hex digits."""
    forms: dict[str, set[str]] = {}
    for seed in range(500):
        graph = random_graph(seed)
        forms.setdefault(key(graph), set()).add(str(canonicalize(inline_derived(graph))))
    assert all(len(form) == 1 for form in forms.values())
    assert len(forms) > 490
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in forms)


BASE = "layer(v: C = 1): x * sigmoid(v * x) / std(x, over=group)"


@pytest.mark.parametrize(
    "other",
    [
        "layer(v: C = 0.5): x * sigmoid(v * x) / std(x, over=group)",
        "layer(v: {} = 1): x * sigmoid(v * x) / std(x, over=group)",
        "layer(fixed v: C = 1): x * sigmoid(v * x) / std(x, over=group)",
        "layer[groups=8](v: C = 1): x * sigmoid(v * x) / std(x, over=group)",
        "layer[affine](v: C = 1): x * sigmoid(v * x) / std(x, over=group)",
        "layer(v: C = 1): x * sigmoid(v * x) / std(x, over=layer)",
        "layer(v: C = 1): x * sigmoid(v * x) / std(x, over=group, eps=0.1)",
        "layer(v: C = 1): x * sigmoid(v * x) / rms(x, over=group)",
        "layer(v: C = 1): x * tanh(v * x) / std(x, over=group)",
        "layer(v: C = 1): div(x * sigmoid(v * x), std(x, over=group))",
        "layer(v: C = 1): no_act = x; x * sigmoid(v * x) / std(x, over=group)",
    ],
)
def test_the_key_sees_every_part_of_the_meaning(other: str) -> None:
    """Initial values, axes, learnability, groups, affine, index sets, attributes, outputs."""
    assert key(parse(other)) != key(parse(BASE))


def test_a_negative_zero_is_zero() -> None:
    """-0.0 and 0.0 are one constant."""
    keys = set()
    for zero in (0.0, -0.0):
        builder = Builder("layer")
        keys.add(key(builder.finish({"y": builder.ops.max(builder.input("x"), zero)})))
    assert len(keys) == 1


def test_two_parameters_are_not_one() -> None:
    """v·x + w·sin(x) is not v·x + v·sin(x), though v and w are declared alike."""
    two = parse("layer(v: C = 1, w: C = 1): v * x + w * sin(x)")
    one = parse("layer(v: C = 1): v * x + v * sin(x)")
    assert key(two) != key(one)
    assert structure_hash(two) != structure_hash(one)


def _other_constants(graph: Graph) -> Graph:
    """Constants that no rule looks at, moved a little."""
    nodes = tuple(
        Node("const", (), (("value", float(node.attr("value")) * 1.0009765625),))
        if node.op == "const" and float(node.attr("value")) not in (0.0, 1.0, -1.0)
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def test_the_structure_hash_leaves_the_values_of_constants_out() -> None:
    """Graphs that differ in constants only share a structure, and the key tells them apart."""
    moved = 0
    for text in (
        "layer(v: C = 1): x * sigmoid(1.702 * v * x) / (std(x, over=group) + 0.3)",
        "layer: 0.5 * x * (1 + tanh(0.797 * (x + 0.0447 * cube(x))))",
        "layer: where(greater(x, 0.4), 2.5 * x, 0.2 * x) - mean(1.5 * sin(x), over=batch)",
        "activation: 1.05 * max(x, 0.7 * expm1(3.5 * min(x, 0.25)))",
    ):
        graph = parse(text)
        other = _other_constants(graph)
        assert structure_hash(other) == structure_hash(graph), text
        assert key(other) != key(graph)
        moved += other != graph
    assert moved == 4


def test_the_structure_hash_sees_attributes_and_structure() -> None:
    """An index set or another operation is another structure."""
    texts = [
        "tanh(2 * x)",
        "tanh(2 + x)",
        "sin(2 * x)",
        "tanh(x)",
        "x - 2 * mean(x, over=batch)",
        "x - 2 * mean(x, over=layer)",
    ]
    assert len({structure_hash(parse(f"layer: {text}")) for text in texts}) == len(texts)


SCRIPT = """
import sys
from primordium.primitives.identity import key, structure_hash
from primordium.primitives.serial import from_json
for line in sys.stdin:
    graph = from_json(line)
    print(key(graph), structure_hash(graph))
"""


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_identity_is_the_same_in_every_process(hash_seed: str) -> None:
    """Python's string hashing is salted per process; keys and structure hashes are not."""
    graphs = [random_graph(seed) for seed in range(40)]
    lines = "\n".join(to_json(graph) for graph in graphs)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=lines,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    expected = [f"{key(graph)} {structure_hash(graph)}" for graph in graphs]
    assert done.stdout.split("\n")[:-1] == expected


def test_names_of_parameters_declared_alike_do_not_matter() -> None:
    """Which of two equal parameters is called what is no part of a graph's identity; that they are two is."""
    one = key(parse("layer(a: C = 1, b: C = 1): a * x + b * abs(x)"))
    assert key(parse("layer(a: C = 1, b: C = 1): b * x + a * abs(x)")) == one
    assert key(parse("layer(a: C = 1): a * x + a * abs(x)")) != one


def test_a_difference_from_zero_is_a_negation() -> None:
    """Two ways to write the same function are one structure."""
    assert key(parse("layer: 0 - x")) == key(parse("layer: -x"))


def test_nothing_over_nothing_is_not_one() -> None:
    """Folding must not hide a value that is not finite from the gates."""
    assert key(parse("layer: x + 0 / 0")) != key(parse("layer: x + 1"))
