"""Tests of the stability gate, on small networks that are as good or as bad as one likes."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from primordium.errors import ConfigError
from primordium.evaluators.gate import Progress, Trial
from primordium.evaluators.gates import make_gates
from primordium.evaluators.stability import ascend
from primordium.evaluators.stability_gate import StabilityGate
from primordium.kernels.module import GraphModule
from primordium.primitives.text import parse

STABLE, UNSTABLE = "layer[affine]: tanh(x)", "layer[affine]: x * x * x"


def network(text: str) -> Callable[[], nn.Module]:
    """Makes a perceptron with two sites and the same weights each time."""

    def build() -> nn.Module:
        sites = (GraphModule(parse(text), 8, backend="reference") for _ in range(2))
        net = nn.Sequential(nn.Linear(3, 8), next(sites), nn.Linear(8, 8), next(sites), nn.Linear(8, 2))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        return net

    return build


def progress(networks: Mapping[str, Callable[[], nn.Module]], sizes: list[int] | None = None) -> Progress:
    """What a candidate with these networks shows; the batch sizes that were asked for go into a list."""

    def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        if sizes is not None:
            sizes.append(size)
        inputs = torch.randn(size, 3, generator=torch.Generator().manual_seed(1))
        return inputs, torch.arange(size) % 2

    return Progress({}, {}, {}, None, Trial(networks, batch, F.cross_entropy))


def test_what_explodes_is_killed_with_the_step_and_the_architecture() -> None:
    """The reason is what the ascent of that network says; what lasts passes."""
    good, bad = network(STABLE), network(UNSTABLE)
    trial = progress({"a": bad}).trial
    assert trial is not None
    found = ascend(bad(), *trial.batch(16), F.cross_entropy)
    assert found.exploded
    assert found.steps > 1
    reason = f"gradient explodes after {found.steps} ascent steps on a"
    assert StabilityGate().check(progress({"a": bad, "b": good})) == reason
    assert StabilityGate().check(progress({"a": good, "b": bad})) is None
    assert StabilityGate(ascent=found.steps).check(progress({"a": bad})) == reason
    assert StabilityGate(ascent=found.steps - 1).check(progress({"a": bad})) is None


def test_it_looks_at_the_architecture_that_is_named_and_builds_no_other() -> None:
    """The first unless told otherwise; one ascent is what it costs."""

    def never() -> nn.Module:
        raise AssertionError("not asked for")

    assert StabilityGate(model="b").check(progress({"a": never, "b": network(STABLE)})) is None
    assert StabilityGate().check(progress({"a": network(STABLE), "b": never})) is None
    with pytest.raises(ConfigError, match="there is no model 'c'; the models are a, b"):
        StabilityGate(model="c").check(progress({"a": never, "b": never}))


def test_its_numbers_are_those_of_the_ascent() -> None:
    """Rate, limit and batch size reach it."""
    sizes: list[int] = []
    seen = progress({"a": network(STABLE)}, sizes)
    assert StabilityGate(batch_size=4).check(seen) is None
    assert sizes == [4]
    assert StabilityGate(limit=1e-9).check(seen) == "gradient explodes at the initial weights on a"
    assert StabilityGate(rate=1e9).check(progress({"a": network(UNSTABLE)})) == (
        "gradient explodes after 1 ascent step on a"
    )


def test_without_networks_it_cannot_judge() -> None:
    """A caller of another kind is told what is missing."""
    with pytest.raises(ConfigError, match="needs the networks before training"):
        StabilityGate().check(Progress({}, {}, {}, None))


def test_it_stands_behind_quality_and_asks_for_no_scores() -> None:
    """By name from a configuration, and dearer than the gates before it."""
    _, training = make_gates({"static": {}, "stability": {}, "quality": {}, "ten_step": {}})
    assert [gate.name for gate in training] == ["ten_step", "quality", "stability"]
    assert training[-1] == StabilityGate()
    assert not training[-1].needs_scores


@pytest.mark.parametrize(
    "options", [{"ascent": 0}, {"rate": 0.0}, {"limit": -1.0}, {"batch_size": 0}, {"steps": 0}, {"model": 3}]
)
def test_a_wrong_threshold_is_named(options: dict[str, Any]) -> None:
    """Mistakes in a configuration are found before the run."""
    (name,) = options
    with pytest.raises(ConfigError, match=f"gates.stability: {name} is"):
        make_gates({"static": {}, "stability": options})
