"""The gates of sequence models agree with torch: who looks ahead, and who feels padding."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import pytest
import torch
from random_graphs import random_graph
from torch import Tensor, nn

from primordium.errors import ConfigError
from primordium.evaluators.evaluation import Site
from primordium.evaluators.gate import ScreeningGate, Subject
from primordium.evaluators.models.registry import build_model
from primordium.evaluators.screening_gates import Static
from primordium.evaluators.sequence_gates import Causality, Padding, leaks, works_along_positions
from primordium.kernels.module import GraphModule
from primordium.plugins.methods import METHODS
from primordium.primitives.builder import trace
from primordium.primitives.graph import Graph
from primordium.primitives.text import parse
from primordium.search.space import SPACES

LAYERS = {m.name: m.graph for m in METHODS if m.graph.domain == "layer"}


@dataclass(frozen=True)
class Sequences:
    """What a network needs to know of a task of tokens."""

    input_shape: tuple[int, ...] = (8,)
    classes: int = 5
    tokens: int = 5


def tokens(length: int = 8) -> Tensor:
    """Random sequences."""
    return torch.randint(0, 5, (3, length), generator=torch.Generator().manual_seed(0))


def candidates(space: str, seed: int) -> Iterator[Graph]:
    """Random layers of a space that a search would train, with groups of more than one channel."""
    random = Random(seed)
    while True:
        genome = SPACES[space].random(random)
        if Static().check(Subject(genome)) is None:
            yield replace(SPACES[space].express(genome), groups=2)


def chosen(space: str, seed: int, each: int) -> list[Graph]:
    """Random layers, half of which work along positions where a space has such."""
    with_positions: list[Graph] = []
    without: list[Graph] = []
    for _, graph in zip(range(400), candidates(space, seed), strict=False):
        (with_positions if works_along_positions(Subject(graph).graph) else without).append(graph)
    return with_positions[:each] + without[:each]


def passes_causality(graph: Graph) -> bool:
    """The verdict of the gate."""
    return Causality().check(Subject(graph)) is None


def looks_ahead(graph: Graph) -> bool:
    """Whether any transformer with this layer at its sites does."""
    networks = (
        build_model(name, Sequences(), Site(graph), width=2)
        for name in ("transformer_pre", "transformer_post")
    )
    return any(leaks(network, tokens()) is not None for network in networks)


def feels_padding(graph: Graph) -> bool:
    """Whether torch gives other outputs at the first five positions when there are more of them."""
    random = torch.Generator().manual_seed(1)
    for apply_act in (True, False) * 4:
        layer = GraphModule(graph, 6, apply_act=apply_act, backend="reference").double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
            for scale in (0.3, 1.0, 5.0, 20.0):
                x = scale * torch.randn((3, 6, 9), generator=random, dtype=torch.float64)
                alone = layer(x[..., :5])
                for padding in (x[..., 5:], torch.zeros_like(x[..., 5:])):
                    y = layer(torch.cat([x[..., :5], padding], -1))[..., :5]
                    if not torch.allclose(alone, y, rtol=1e-9, atol=1e-9, equal_nan=True):
                        return True
    return False


# -------------------------------------------------------------------------------------- gates and torch agree


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_verdicts_on_known_layers_are_those_of_torch(name: str) -> None:
    """The normalizations of transformers pass; whatever reduces positions, the batch's too, does not."""
    graph = LAYERS[name]
    assert passes_causality(graph) == (not looks_ahead(graph))
    assert (Padding().check(Subject(graph)) is None) == (not feels_padding(graph))


@pytest.mark.parametrize(
    ("space", "each", "verdicts"), [("evonorm_b", 10, {True, False}), ("tokens", 20, {True})]
)
def test_verdicts_on_candidates_are_those_of_torch(space: str, each: int, verdicts: set[bool]) -> None:
    """A space without statistics over positions is causal by construction; the others need the gates."""
    graphs = chosen(space, 1, each)
    assert len(graphs) == 20
    assert {passes_causality(graph) for graph in graphs} == verdicts
    for graph in graphs:
        assert passes_causality(graph) == (not looks_ahead(graph)), str(graph)
        assert (Padding().check(Subject(graph)) is None) == (not feels_padding(graph)), str(graph)


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 6, 10, 18, 28, 39, 59, 64, 73])
def test_verdicts_on_any_layer_are_those_of_torch(seed: int) -> None:
    """Every primitive there is, along positions and across channels; seeds of which half look back only."""
    graph = random_graph(seed)
    assert (Padding().check(Subject(graph)) is None) == (not feels_padding(graph))
    assert passes_causality(graph) == (not looks_ahead(graph))


# ----------------------------------------------------------------------------------------- one case at a time


@pytest.mark.parametrize(
    ("text", "causality", "padding"),
    [
        ("layer: x / rms(x, over=channel)", None, None),
        ("layer: cumsum(x, axis=S)", None, None),
        ("layer: cummax(x, axis=S) - x", None, None),
        ("layer: x + index(axis=S)", None, None),
        ("layer: cumsum(x, axis=S, reverse=True)", "looks ahead", "depends on padding"),
        ("layer: sort(x, axis=S)", "looks ahead", "depends on padding"),
        ("layer: softmax(x, over=instance)", "looks ahead", "depends on padding"),
        ("layer: x - running(mean(x, over=batch))", "looks ahead", "depends on padding"),
        ("layer: cumsum(x, axis=S) / size(over=instance)", None, "depends on padding"),
        ("layer: max(x, mean(x, over=instance) - 20)", "looks ahead", "depends on padding"),
        ("layer(v: C = 0): x + v * mean(x, over=instance)", "looks ahead", "depends on padding"),
        ("layer: no_act = x - mean(x, over=layer); tanh(x)", "looks ahead", "depends on padding"),
        ("layer(v: C = 1): x + mean(v, over=instance)", None, None),
        ("activation: x * sigmoid(x)", None, None),
        ("activation(v: C = 1): max(v * x, 0)", None, None),
    ],
)
def test_verdicts_and_their_words(text: str, causality: str | None, padding: str | None) -> None:
    """What looks back only passes; neither a parameter at zero nor a site without activation hides a leak."""
    subject = Subject(parse(text))
    assert (Causality().check(subject), Padding().check(subject)) == (causality, padding)


@pytest.mark.parametrize("gate", [Causality(), Padding()])
def test_update_rules_have_no_positions(gate: ScreeningGate) -> None:
    """A domain without sequences passes."""
    rule = trace(lambda w, g: w - 0.1 * g, "update_rule")
    assert gate.check(Subject(rule)) is None


def test_the_gates_are_in_the_ladder_before_what_costs_more() -> None:
    """They come after static and before the probes of finiteness."""
    assert (Causality().name, Causality().rank, Padding().name, Padding().rank) == (
        "causality",
        10,
        "padding",
        11,
    )
    assert isinstance(Causality(), ScreeningGate)
    assert isinstance(Padding(), ScreeningGate)


# --------------------------------------------------------------------------------------------- whole networks


class Peeking(nn.Module):
    """Shows each position the token `ahead` positions later, where there is one, in the modes told."""

    def __init__(self, ahead: int, modes: tuple[bool, ...] = (True, False)) -> None:
        super().__init__()
        self.ahead, self.modes = ahead, modes
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        seen = torch.zeros_like(tokens)
        if self.training in self.modes:
            seen[:, : -self.ahead] = tokens[:, self.ahead :]
        return (self.weight * seen + torch.rand(tokens.shape))[..., None]


@pytest.mark.parametrize("modes", [(True, False), (True,), (False,)])
@pytest.mark.parametrize(("ahead", "position"), [(1, 0), (7, 0), (8, None)])
def test_a_look_ahead_of_any_distance_is_found_in_either_mode(
    ahead: int, position: int | None, modes: tuple[bool, ...]
) -> None:
    """A weight of zero hides nothing, and noise that both answers share is no leak."""
    network = Peeking(ahead, modes)
    assert leaks(network, tokens()) == position


def test_asking_changes_nothing() -> None:
    """The network asked, its mode, its running statistics and the global generator stay as they were."""
    network = Peeking(1).eval()
    before = torch.get_rng_state()
    leaks(network, tokens())
    assert torch.equal(before, torch.get_rng_state())
    assert (float(network.get_buffer("calls")), float(network.weight.detach()), network.training) == (
        0.0,
        0.0,
        False,
    )
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(2, 8), torch.zeros(8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64), tokens(1)],
)
def test_inputs_that_can_tell_nothing_are_refused(inputs: Tensor) -> None:
    """Numbers, one token, or equal tokens would say that nothing leaks."""
    with pytest.raises(ConfigError, match=r"integers \[N, L\], L at least 2, of two kinds"):
        leaks(Peeking(1), inputs)


def test_a_network_that_gives_one_answer_for_all_positions_is_refused() -> None:
    """A classifier has no positions to compare."""
    network = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(24, 2))
    with pytest.raises(
        ConfigError, match=r"gives outputs \[N, L, ...\], here \[3, 8, ...\]; this one gives \(3, 2\)"
    ):
        leaks(network, tokens())
