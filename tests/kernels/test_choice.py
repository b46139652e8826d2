"""Which back end runs on the CPU: the tape for what is long and large enough, torch for the rest, by rule."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch

from primordium.kernels import choice
from primordium.kernels.choice import Choice
from primordium.kernels.module import GraphModule
from primordium.kernels.tape import available, program
from primordium.kernels.tape.function import Call, TapeLayer
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

pytestmark = pytest.mark.skipif(not available(), reason="the extension was not built")

LONG = (
    "layer[affine, groups=4](v: C = 1): t = x * sigmoid(v * x); "
    "u = max(t, v - square(x)) / std(t, over=group); exp(-(u * u)) + log(1 + square(u), eps=0)"
)
SHORT = "layer(v: C = 1): v * x / std(x, over=layer)"
LARGE, TINY = (128, 4, 8, 64), (2, 4, 2, 4)


def choice_of(text: str) -> Choice:
    """The rule of a layer in training."""
    layer = choice.chosen_layer(train_view(parse(text)), lambda leaves: leaves)
    assert isinstance(layer, TapeLayer)
    return Choice(layer.view, layer.program, layer.gradient_program)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_long_graphs_on_large_inputs_are_the_tapes(double: bool, backward: bool) -> None:
    """A dozen nodes on a quarter of a million elements with one thread, in every mode."""
    assert choice_of(LONG).prefers_tape(Call(LARGE, double, backward), 1)


@pytest.mark.parametrize("text", ["layer: tanh(x)", "layer: relu(x)", "activation: exp(x)"])
def test_single_operations_are_torchs(text: str) -> None:
    """Torch has the same loop, at any size."""
    rule = choice_of(text)
    assert not any(
        rule.prefers_tape(Call((n, 1, 8, 64), False, b), 1) for n in (1, 32, 1024) for b in (False, True)
    )


def test_tiny_inputs_are_torchs() -> None:
    """A call of the tape takes longer than some functions of torch."""
    assert not choice_of(SHORT).prefers_tape(Call(TINY, backward=True), 1)


def test_torchs_threads_count_where_there_are_elements_for_them() -> None:
    """With many threads large inputs are torch's; what is too small to be shared stays where it was."""
    rule = choice_of(LONG)
    large, small = Call(LARGE, backward=True), Call((32, 4, 4, 64), backward=True)
    assert not rule.prefers_tape(large, 64)
    assert rule.expected(small, 64) == rule.expected(small, 1)
    assert rule.prefers_tape(small, 64)


def test_copies_of_what_is_not_contiguous_count() -> None:
    """The machine reads contiguous arrays only."""
    rule, call = choice_of(SHORT), Call(LARGE)
    dense, strided = rule.expected(call, 1), rule.expected(call._replace(dense=False), 1)
    assert dense is not None
    assert strided is not None
    assert strided[0] > dense[0]
    assert strided[1] == dense[1]


def test_functions_of_the_c_library_are_torchs_in_double() -> None:
    """The machine has no vectorized sine in float64."""
    rule = choice_of("layer[affine](v: C = 1): sin(v * sin(x + sin(v * x)))")
    assert not rule.prefers_tape(Call(LARGE, True, True), 1)


def test_no_clock_decides() -> None:
    """Two rules of one graph expect the same to the last bit, however often they are asked."""
    asked = [
        (Call(sizes, double, backward), threads)
        for sizes, double, backward, threads in product((LARGE, TINY), (False, True), (False, True), (1, 8))
    ]
    one, other = choice_of(LONG), choice_of(LONG)
    assert [one.expected(*key) for key in asked] == [other.expected(*key) for key in reversed(asked)][::-1]


def test_decisions_are_forgotten_in_time() -> None:
    """Inputs of ever new sizes do not fill the memory."""
    rule = choice_of(LONG)
    for n in range(1, 600):
        rule.prefers_tape(Call((n, 4, 2, 4)), 1)
    assert len(rule._made) < 600


@pytest.fixture
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_auto_is_the_default_and_runs_what_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the tape above the crossover, in torch below it, and the same numbers on both sides."""
    module, other = GraphModule(parse(SHORT), 32), GraphModule(parse(SHORT), 32, backend="torch_source")
    assert module.backend == "auto"
    runs: list[str] = []
    run = program.TapeProgram.run

    def counted(self: program.TapeProgram, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs.append("run")
        return run(self, leaves)

    monkeypatch.setattr(program.TapeProgram, "run", counted)
    for shape, expected in (((2, 32, 1, 1), 0), ((64, 32, 8, 8), 2)):
        runs.clear()
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        found = torch.autograd.grad(module(x).square().sum(), [x, *module.parameters()])
        right = torch.autograd.grad(other(x).square().sum(), [x, *other.parameters()])
        for one, two in zip(found, right, strict=True):
            assert float((one - two).abs().max()) <= 1e-4 * float(two.abs().max())
        assert len(runs) == expected


def test_without_the_extension_auto_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install without a compiler."""
    monkeypatch.setattr(program, "_tape", None)
    module = GraphModule(parse("layer: sin(x) + 0.28125"), 4)  # of no other test: programs are cached
    assert not any(isinstance(one, TapeLayer) for one in module._programs.values())
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), x.sin() + 0.28125)
