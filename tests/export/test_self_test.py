"""The self-test of written files: what it takes for equal, and that its samples are the same everywhere."""

import math

import pytest
import torch
from torch import Tensor, nn

from primordium.export.self_test import SelfTest, distance, record, sample, summary


class Scale(nn.Module):
    """A layer with one scale a channel that does all that is asked of one."""

    def __init__(self, channels: int, *, apply_act: bool = True, channel_dim: int = 1) -> None:
        super().__init__()
        self.channel_dim = channel_dim
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[self.channel_dim] != len(self.scale):
            raise ValueError("another number of channels")
        moved = x.movedim(self.channel_dim, -1)
        wide = moved.float() if x.dtype in (torch.float16, torch.bfloat16) else moved
        return (torch.tanh(wide) * self.scale).movedim(-1, self.channel_dim).to(x.dtype)


class Broken(Scale):
    """Another formula, with the channels unchecked and half precision rounded at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) + 0.1 * x + 0.0 * self.scale.sum().to(x.dtype)


class Raising(Scale):
    """A layer that cannot be run."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no kernel")


SHAPES: tuple[tuple[int, ...], ...] = ((3, 4, 2), (2, 5, 3, 3))
GOLDEN = {shape: record(Scale, shape) for shape in SHAPES}


def run(make: type[nn.Module]) -> dict[str, str]:
    """The problems by label."""
    test = SelfTest(make, GOLDEN, tolerance=1e-7, single=1e-4)
    return {label: problem for label, problem in test.problems() if problem}


def test_a_right_layer_passes_and_a_wrong_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Checks that never or always fail, and an exit status that hides it."""
    assert run(Scale) == {}
    assert SelfTest(Scale, GOLDEN, tolerance=1e-7, single=None).main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all 10 checks passed"
    problems = run(Broken)
    assert {"golden values at [3, 4, 2]", "float16 computes in float32"} <= problems.keys()
    assert problems["another number of channels is refused"] == "it is accepted"
    assert SelfTest(Broken, GOLDEN, tolerance=1e-7, single=1e-4).main() == 1
    assert "checks failed" in capsys.readouterr().out


def test_a_check_that_cannot_run_has_failed() -> None:
    """One error that hides the other checks or passes for success."""
    problems = run(Raising)
    assert len(problems) == 11
    assert problems["channels last"] == "RuntimeError: no kernel"


def test_samples_are_fixed() -> None:
    """Golden values that no other machine can meet: samples use no generator and no global state."""
    torch.manual_seed(0)
    first = sample((4, 5), 0.3)
    torch.manual_seed(1)
    torch.testing.assert_close(sample((4, 5), 0.3), first, rtol=0.0, atol=0.0)
    assert first[0, 0] == pytest.approx(2.0 * math.sin(0.711 + 0.3))
    assert first[3, 4] == pytest.approx(2.0 * math.sin(20 * (0.7 + 0.22) + 0.3))
    assert sample((), 0.0).shape == ()


def test_distance_is_relative_and_knows_what_is_not_finite() -> None:
    """nan that equals everything or nothing; noise about 0 taken for a difference."""
    nan, inf = math.nan, math.inf
    assert distance((nan, inf, -inf, 1.0), (nan, inf, -inf, 1.0)) == 0.0
    assert distance((1.0, 2.0), (1.0, nan)) == inf
    assert distance((1.0, nan), (1.0, 2.0)) == inf
    assert distance((1.0, inf), (1.0, -inf)) == inf
    assert distance((100.0, 0.0), (100.0, 1e-3)) == pytest.approx(1e-5, rel=1e-2)
    assert distance((0.0, 0.0), (1e-15, 1e-15)) < 1e-10


def test_a_summary_sees_order_and_size() -> None:
    """Elements that changed places, which sums do not notice."""
    x = sample((6, 5), 0.0)
    assert distance(summary(x), summary(x.flip(1))) > 1e-2
    assert distance(summary(x), summary(1.001 * x)) > 1e-4
