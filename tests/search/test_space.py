"""Tests of search spaces: what is drawn, what mutation may change, and how methods become genomes."""

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch

import primordium
from primordium.errors import ConfigError
from primordium.kernels.fingerprint import fingerprint
from primordium.kernels.module import GraphModule
from primordium.plugins.methods import METHODS, method
from primordium.primitives.graph import Graph, check
from primordium.primitives.identity import inline_derived, key
from primordium.primitives.passes import canonicalize
from primordium.primitives.serial import from_json, to_json
from primordium.primitives.text import parse, to_text
from primordium.primitives.views import insert_running
from primordium.search.space import SPACES, Space, get_space

EVONORM = {"evonorm_b0", "evonorm_s0", "evonorm_s1", "evonorm_s2"}
FITTING = {
    "evonorm_b": EVONORM,
    "evonorm_s": EVONORM - {"evonorm_b0"},
    "swish": {"relu", "silu", "swish", "mish", "softplus", "tanh", "relu_squared", "x_asinh_squared"},
    "tokens": {"ln_channel", "rms_channel"},
}


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    """Each of the spaces."""
    return SPACES[request.param]


def stream(space: Space, seed: int) -> Iterator[Graph]:
    """Random genomes, and as many mutations of a drifting pool of them."""
    random = Random(seed)
    pool = [space.random(random) for _ in range(20)]
    while True:
        yield space.random(random)
        child = space.mutate(random, random.choice(pool), 1 + random.randrange(3))
        pool[random.randrange(len(pool))] = child
        yield child


# --------------------------------------------------------------------------------------------- random genomes


def test_a_random_genome_has_the_stated_nodes(space: Space) -> None:
    """Initial nodes first, then exactly the stated number of operations; the last node is the output."""
    known = {(o.op, attrs) for o in space.operations for attrs in o.variants}
    random = Random(1)
    for _ in range(200):
        genome = check(space.random(random))
        assert genome.nodes[: len(space.leaves)] == space.leaves
        drawn = genome.nodes[len(space.leaves) :]
        assert len(drawn) == space.size
        assert {(node.op, node.attrs) for node in drawn} <= known
        assert genome.output == len(genome.nodes) - 1
        assert (genome.domain, genome.affine) == (space.domain, space.affine)


def test_a_seed_gives_one_genome_in_every_process(space: Space) -> None:
    """Protects replay: the stream of a seed does not depend on hash randomization or the process."""
    source = (
        "import sys; from random import Random; from primordium.search.space import SPACES\n"
        "from primordium.primitives.serial import to_json\n"
        "r = Random(7); s = SPACES[sys.argv[1]]\n"
        "g = s.random(r); print(to_json(g)); print(to_json(s.mutate(r, g, 3)))"
    )
    command = [sys.executable, "-c", source, space.name]
    path = str(Path(primordium.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    random = Random(7)
    genome = space.random(random)
    assert done.stdout.split() == [to_json(genome), to_json(space.mutate(random, genome, 3))]
    assert to_json(space.random(Random(8))) != to_json(genome)


def test_every_primitive_is_drawn_alike_and_every_variant_of_it(space: Space) -> None:
    """Uniform over primitives, then over index sets: chi-square of both stays within six deviations."""
    random = Random(2)
    drawn = Counter((node.op, node.attrs) for _ in range(30_000) for node in [space.draw(random, 20)])
    operations = Counter({o.op: sum(drawn[o.op, attrs] for attrs in o.variants) for o in space.operations})
    assert set(drawn) == {(o.op, attrs) for o in space.operations for attrs in o.variants}
    assert chi_square(list(operations.values())) < 6.0
    for o in space.operations:
        if len(o.variants) > 1:
            assert chi_square([drawn[o.op, attrs] for attrs in o.variants]) < 6.0


def chi_square(counts: list[int]) -> float:
    """How many standard deviations the statistic of uniform counts is above its mean."""
    expected, freedom = sum(counts) / len(counts), len(counts) - 1
    statistic = sum((count - expected) ** 2 / expected for count in counts)
    return float((statistic - freedom) / math.sqrt(2.0 * freedom))


def test_arguments_are_drawn_from_all_earlier_nodes_alike(space: Space) -> None:
    """Initial nodes, constants included, are arguments as often as any other."""
    random = Random(3)
    place = len(space.leaves) + 4
    counts = Counter(arg for _ in range(20_000) for arg in space.draw(random, place).args)
    assert sorted(counts) == list(range(place))
    assert chi_square(list(counts.values())) < 6.0


def test_choices_are_the_nodes_of_the_space_as_often_as_they_are_likely(space: Space) -> None:
    """Each primitive has one share, of which its variants, and of those their arguments, have equal parts."""
    place = len(space.leaves) + 2
    choices = space.choices(place)
    counts = Counter(choices)
    for o in space.operations:
        for attrs in o.variants:
            of_variant = [n for node, n in counts.items() if (node.op, node.attrs) == (o.op, attrs)]
            assert len(of_variant) == place**o.arity
            assert set(of_variant) == {
                len(choices) // len(space.operations) // len(o.variants) // place**o.arity
            }
    assert {arg for node in counts for arg in node.args} == set(range(place))


def test_a_space_too_large_for_a_table_draws_the_same(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the choices are written down or made when drawn shows only in the time it takes."""
    written = [space.random(Random(seed)) for seed in range(20)]
    monkeypatch.setattr("primordium.search.space._MOST_CHOICES", 0)
    large = replace(space)
    assert [large.random(Random(seed)) for seed in range(20)] == written
    choices = large.choices(5)
    assert not isinstance(choices, tuple)
    assert list(choices[:30]) == list(space.choices(5)[:30])
    with pytest.raises(IndexError):
        choices[len(choices)]


# --------------------------------------------------------------------------------------------------- mutation


def test_mutation_redraws_operation_nodes_only(space: Space) -> None:
    """At most as many nodes change as asked; initial nodes, count, output and validity stay."""
    random = Random(4)
    changed = Counter[int]()
    for _ in range(300):
        genome = space.random(random)
        times = 1 + random.randrange(3)
        child = check(space.mutate(random, genome, times))
        differing = [i for i, (a, b) in enumerate(zip(genome.nodes, child.nodes, strict=True)) if a != b]
        assert len(differing) <= times
        assert child.nodes[: len(space.leaves)] == space.leaves
        assert child.outputs == genome.outputs
        changed.update(differing)
    assert sorted(changed) == list(range(len(space.leaves), len(space.leaves) + space.size))


def test_dead_nodes_stay_in_the_genome(space: Space) -> None:
    """What does not reach the output is raw material: the log keeps it and mutation can bring it back."""
    random = Random(5)
    genomes = [space.random(random) for _ in range(50)]
    assert any(len(genome.live) < len(genome.nodes) for genome in genomes)
    for genome in genomes:
        assert from_json(to_json(genome)) == genome
        children = [space.mutate(random, genome) for _ in range(20)]
        assert all(len(child.nodes) == len(genome.nodes) for child in children)
    revived = (
        set(child.live) & set(range(len(space.leaves), len(child.nodes))) - set(genome.live)
        for genome in genomes
        for child in [space.mutate(random, genome)]
    )
    assert any(revived)


# ------------------------------------------------------------------------------------------------- expression


@pytest.mark.parametrize("count", [1_700])
def test_five_thousand_genomes_pass_through_every_form(space: Space, count: int) -> None:
    """Text, types, canonical form, JSON, identity and fingerprint: no crash, one key, one behaviour."""
    moved = 0
    for genome in islice(stream(space, 6), count):
        name = key(genome)
        assert key(check(parse(to_text(genome)))) == name
        assert from_json(to_json(genome)) == genome
        check(canonicalize(genome))
        canonical = check(canonicalize(inline_derived(genome)))
        assert key(canonical) == name
        assert key(from_json(to_json(canonical))) == name
        assert canonicalize(canonical) == canonical
        expressed = check(space.express(genome))
        assert key(parse(to_text(expressed))) == key(expressed) == key(from_json(to_json(expressed)))
        here, there = fingerprint(genome), fingerprint(expressed)
        moved += here != there if here is None or there is None else here.digest != there.digest
    assert moved <= count // 200  # rounding at the edge of a step of the fingerprint


def test_expressed_genomes_run_as_modules(space: Space) -> None:
    """Every expressed graph trains and evaluates on feature maps and on vectors, its parameters included."""
    for genome in islice(stream(space, 7), 60):
        module = GraphModule(space.express(genome), 6)
        for shape in ((4, 6, 3, 3), (4, 6)):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
            y = module.train()(x)
            assert y.shape == x.shape
            if y.requires_grad:
                y.sum().backward()
            assert module.eval()(x).shape == x.shape


def test_batch_statistics_have_moving_averages() -> None:
    """In evaluation no example of an expressed layer sees the others of its batch."""
    space = SPACES["evonorm_b"]
    averaged = 0
    for genome in islice(stream(space, 8), 1_200):
        graph = space.express(genome)
        averaged += graph.uses("running")
        module = GraphModule(graph, 4).double().eval()
        x = torch.randn((5, 4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            whole, alone = module(x)[:1], module(x[:1])
        assert torch.allclose(whole, alone, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert averaged > 20


# ----------------------------------------------------------------------------------------- methods as genomes


def fits(space: Space, name: str) -> bool:
    """Whether a method can be written in a space."""
    return space.embed(method(name).graph) is not None


def test_methods_fit_the_spaces_they_come_from(space: Space) -> None:
    """The layers that a space was built to find can start a search in it; other domains cannot."""
    assert {name for name in FITTING[space.name] if fits(space, name)} == FITTING[space.name]
    foreign = [m.name for m in METHODS if m.graph.domain != space.domain]
    assert not any(fits(space, name) for name in foreign)
    assert not fits(space, "bn_relu")
    assert not fits(space, "golu")


def outputs(graph: Graph, training: bool, parameters: int) -> list[torch.Tensor]:
    """What a graph gives in float64 after two training batches, and the gradient of its input."""
    torch_random = torch.Generator().manual_seed(parameters)
    module = GraphModule(graph, 8, backend="reference").double()
    with torch.no_grad():
        for parameter in sorted(module.parameters(), key=lambda p: float(p.detach().mean())):
            shift = torch.randn(parameter.shape, generator=torch_random, dtype=torch.float64)
            parameter.add_(0.3 * parameters * shift)
    batches = [torch.randn((3, 8, 4, 4), generator=torch_random, dtype=torch.float64) for _ in range(3)]
    for batch in batches[:2]:
        module.train()(batch)
    x = batches[2].requires_grad_()
    y = module.train(training)(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    return [y.detach(), gradient]


@pytest.mark.parametrize(("name", "fitting"), [(s, name) for s in FITTING for name in sorted(FITTING[s])])
def test_an_embedded_method_computes_the_same(name: str, fitting: str) -> None:
    """A warm start is the method itself, in training and in evaluation, at its start and anywhere else."""
    space, graph = SPACES[name], method(fitting).graph
    genome = space.embed(graph)
    assert genome is not None
    assert len(check(genome).nodes) == len(space.leaves) + space.size
    expressed = space.express(genome)
    for training in (True, False):
        for parameters in (0, 1):
            found, known = outputs(expressed, training, parameters), outputs(graph, training, parameters)
            for a, b in zip(found, known, strict=True):
                assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "layer[affine]: x * sigmoid(x) / std(x, over=batch)",
        "layer[affine](v1: C = 1): max(x, v1 * tanh(x)) / rms(x, over=instance, eps=0.1)",
        "layer[affine](a: C = 1, b: C = 0): max(a * x, b) / sqrt(var(x, over=layer) + 0.01, eps=0)",
    ],
)
def test_a_layer_of_ones_own_can_be_embedded(text: str) -> None:
    """What is in the space's primitives fits, its ε kept, its parameters found by what they start at."""
    graph = parse(text)
    genome = SPACES["evonorm_b"].embed(graph)
    assert genome is not None
    expressed = SPACES["evonorm_b"].express(genome)
    for a, b in zip(outputs(expressed, True, 0), outputs(graph, True, 0), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "layer: x / std(x, over=batch)",  # without the trailing affine
        "layer[affine]: sin(x)",  # a primitive that is not there
        "layer[affine]: x + 2.0",  # a constant that is not there
        "layer[affine]: x / std(x, over=channel)",  # an index set that is not there
        "layer[groups=4, affine]: x / std(x, over=group)",  # another number of groups
        "layer[affine](a: C = 1, b: C = 1): max(a * x, b)",  # two parameters for one
        "layer[affine](fixed a: C = 1): a * x",  # one that does not learn
        "layer[affine](a: {} = 1): a * x",  # one for all channels
        "layer[affine]: x",  # no operation at all
        "layer[affine]: tanh(tanh(tanh(tanh(tanh(tanh(tanh(tanh(tanh(tanh(tanh(x)))))))))))",  # too long
    ],
)
def test_what_does_not_fit_is_not_forced(text: str) -> None:
    """A warm start never begins from a layer other than the one that was named."""
    assert SPACES["evonorm_b"].embed(parse(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "layer[affine]: relu(x - mean(x, over=batch)) / std(x, over=batch)",
        "layer[affine]: x / ((x + 1) * rms(x, over=instance))",
    ],
)
def test_what_the_space_has_no_operation_for_is_said_in_others(text: str) -> None:
    """A difference, a rectifier and the constant 1 are in EvoNorm's space in other words."""
    graph = parse(text)
    genome = SPACES["evonorm_b"].embed(graph)
    assert genome is not None
    expressed = SPACES["evonorm_b"].express(genome)
    for a, b in zip(outputs(expressed, True, 0), outputs(insert_running(graph), True, 0), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_layers_of_tokens_see_one_position_and_stand_everywhere() -> None:
    """Causal by construction: nothing leaves its position; and sites without activation get the layer."""
    space = SPACES["tokens"]
    varied = 0
    for genome in islice(stream(space, 9), 300):
        graph = space.express(genome)
        assert dict(graph.outputs)["no_act"] == graph.output
        x = torch.randn((3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        whole, without = (GraphModule(graph, 4, apply_act=act).double() for act in (True, False))
        with torch.no_grad():
            y = whole(x)
            alone = torch.cat([whole(x[b : b + 1, :, s : s + 1]) for b in range(3) for s in range(5)])
            assert torch.equal(without(x).nan_to_num(), y.nan_to_num())
        positions = y.movedim(1, 2).reshape(15, 4, 1)
        assert torch.allclose(positions, alone, rtol=1e-9, atol=1e-9, equal_nan=True)
        varied += bool(y.std() > 0)
    assert varied > 100


@pytest.mark.parametrize(
    "text",
    [
        "layer: tanh(x)",  # the identity at sites without activation
        "layer: t = x / rms(x, over=channel); no_act = t; max(t, 0)",  # another layer there
        "layer[affine]: x / rms(x, over=channel)",  # a trailing affine
        "layer: t = x / rms(x, over=instance); no_act = t; t",  # a statistic over positions
    ],
)
def test_tokens_take_layers_that_stand_everywhere_alone(text: str) -> None:
    """What another layer does at sites without activation is not dropped in silence."""
    assert SPACES["tokens"].embed(parse(text)) is None


def test_an_unknown_space_is_an_error_that_names_the_known_ones() -> None:
    """Protects the one who mistypes a space."""
    with pytest.raises(
        ConfigError, match="unknown search space 'evonorm'; known: evonorm_b, evonorm_s, swish"
    ):
        get_space("evonorm")
    assert get_space("swish") is SPACES["swish"]
