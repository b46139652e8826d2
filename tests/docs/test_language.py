"""The manual of the graph language runs, and its ten methods compute what their papers say."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from primordium.kernels.module import Backend, GraphModule
from primordium.kernels.reference import Reference
from primordium.primitives import axes as ax
from primordium.primitives.differentiate import differentiate
from primordium.primitives.graph import Graph
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

MANUAL = Path(__file__).parents[2] / "docs" / "language.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRACED = re.compile(r"^([A-Z0-9_]+) = trace\(", re.MULTILINE)
TEN = ["BATCH_NORM_RELU", "EVONORM_B0", "ADAFACTOR", "LION", "LAMB"]
TEN += ["SOFTMAX", "SPARSEMAX", "PAU", "HELU", "MUON"]
BACKENDS: tuple[Backend, ...] = ("reference", "torch_source")
STEPS = 4
Manual: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def manual() -> Manual:
    """The namespace after every Python block of the page, run in order."""
    text = MANUAL.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "language"}
    for found in BLOCK.finditer(text):
        if found[1] == "python":
            line = text.count("\n", 0, found.start()) + 1
            code = "\n" * line + found[2]  # so that a failure names the line of the page
            exec(compile(code, str(MANUAL), "exec"), namespace)
    return namespace


@pytest.fixture
def random() -> torch.Generator:
    """The source of all data of a test."""
    return torch.Generator().manual_seed(7)


def normal(random: torch.Generator, *shape: int) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to rounding in float64."""
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=1e-9, atol=1e-12)


# ---- the page -----------------------------------------------------------------------------------------


def test_every_method_on_paper_is_traced(manual: Manual) -> None:
    """The section holds the ten methods that this file checks, each followed by its text."""
    section = MANUAL.read_text(encoding="utf-8").split("## Ten methods on paper")[1]
    traced = [name for found in BLOCK.finditer(section) for name in TRACED.findall(found[2])]
    assert [name for name in traced if not name.startswith("MASKED")] == TEN
    assert all(isinstance(manual[name], Graph) for name in TEN)


def test_text_of_each_method_is_what_its_python_gives(manual: Manual) -> None:
    """The line under each method parses to the graph that the block above it traces."""
    section = MANUAL.read_text(encoding="utf-8").split("## Ten methods on paper")[1]
    name, checked = "", []
    for found in BLOCK.finditer(section):
        if found[1] == "python":
            name = TRACED.findall(found[2])[0]
        else:
            assert str(parse(found[2])) == str(manual[name])
            checked.append(name)
    assert checked == TEN


# ---- layers and activations ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_norm_is_torchs(manual: Manual, random: torch.Generator, backend: Backend) -> None:
    """Output, gradients, running statistics and evaluation mode are those of nn.BatchNorm2d and ReLU."""
    ours = GraphModule(manual["BATCH_NORM_RELU"], 6, backend=backend).double()
    bare = GraphModule(manual["BATCH_NORM_RELU"], 6, backend=backend, apply_act=False).double()
    theirs = torch.nn.BatchNorm2d(6).double()
    with torch.no_grad():
        theirs.weight.copy_(normal(random, 6))
        for module in (ours, bare):
            module.get_parameter("gamma").copy_(theirs.weight)
    for _ in range(STEPS):
        x = (2.0 + 3.0 * normal(random, 4, 6, 3, 5)).requires_grad_()
        dy = normal(random, 4, 6, 3, 5)
        normalized = theirs(x)
        close(bare(x), normalized)
        actual, expected = ours(x), F.relu(normalized)
        close(actual, expected)
        gradients = torch.autograd.grad(actual, [x, *ours.parameters()], dy)
        rights = torch.autograd.grad(expected, [x, *theirs.parameters()], dy)
        for gradient, right in zip(gradients, rights, strict=True):
            close(gradient, right)
    close(ours.get_buffer("running_0"), theirs.get_buffer("running_mean"))
    close(ours.get_buffer("running_1"), theirs.get_buffer("running_var"))
    x = normal(random, 4, 6, 3, 5)
    close(bare.eval()(x), theirs.eval()(x))
    close(ours.eval()(x), F.relu(theirs(x)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_evonorm_b0_is_the_official_formula(
    manual: Manual, random: torch.Generator, backend: Backend
) -> None:
    """Training and evaluation equal the formula with a running average of the biased variance."""
    layer = GraphModule(manual["EVONORM_B0"], 4, backend=backend).double()
    running = torch.ones(4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(normal(random, 4))
    gamma, v1, beta = (layer.get_parameter(n).reshape(1, 4, 1, 1) for n in ("gamma", "v1", "beta"))

    def formula(x: Tensor, variance: Tensor) -> Tensor:
        instance = (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        batch = (variance + 1e-5).sqrt().reshape(1, 4, 1, 1)
        return gamma * x / torch.maximum(batch, v1 * x + instance) + beta

    for _ in range(STEPS):
        x = 3.0 * normal(random, 5, 4, 3, 3)
        variance = x.var((0, 2, 3), correction=0)
        close(layer(x), formula(x, variance))
        running = 0.9 * running + 0.1 * variance
    layer.eval()
    x = normal(random, 5, 4, 3, 3)
    close(layer(x), formula(x, running))


@pytest.mark.parametrize("backend", BACKENDS)
def test_pau_is_a_rational_function(manual: Manual, random: torch.Generator, backend: Backend) -> None:
    """Value and gradients by input and all ten coefficients; the start is close to leaky ReLU."""
    layer = GraphModule(manual["PAU"], 3, backend=backend).double()
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        **{f"a_{i}": () for i in range(6)}, **{f"b_{i}": () for i in range(4)}
    }  # fmt: skip
    x = normal(random, 8, 3, 4).requires_grad_()
    a = torch.tensor(manual["LEAKY_RELU_A"], dtype=torch.float64).float().double().requires_grad_()
    b = torch.tensor(manual["LEAKY_RELU_B"], dtype=torch.float64).float().double().requires_grad_()
    top = (a * x.unsqueeze(-1) ** torch.arange(6)).sum(-1)
    bottom = 1.0 + (b * x.unsqueeze(-1) ** torch.arange(1, 5)).abs().sum(-1)
    close(layer(x), top / bottom)
    expected = torch.autograd.grad((top / bottom).square().sum(), [x, a, b])
    actual = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    close(actual[0], expected[0])
    close(torch.stack(actual[1:]), torch.cat(expected[1:]))
    grid = torch.linspace(-3.0, 3.0, 601, dtype=torch.float64).reshape(1, 1, -1).expand(1, 3, -1)
    assert (layer(grid) - F.leaky_relu(grid, 0.01)).abs().max() < 0.031


@pytest.mark.parametrize("backend", BACKENDS)
def test_helu_has_the_gradient_of_a_shifted_threshold(manual: Manual, backend: Backend) -> None:
    """Forward is ReLU; backward passes what lies above -0.05, the gap below zero included."""
    layer = GraphModule(manual["HELU"], 1, backend=backend)
    x = torch.tensor([-1.0, -0.06, -0.04, -0.001, 0.0, 0.5]).reshape(1, 1, -1).requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y, x, 2.0 * torch.ones_like(y))
    assert y.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert gradient.flatten().tolist() == [0.0, 0.0, 2.0, 2.0, 2.0, 2.0]


# ---- attention ----------------------------------------------------------------------------------------


def by_bisection(x: Tensor) -> Tensor:
    """Sparsemax of the last dimension: the threshold at which the parts above it sum to 1."""
    low, high = x.amax(-1, keepdim=True) - 1.0, x.amax(-1, keepdim=True)
    for _ in range(200):
        middle = (low + high) / 2.0
        above = (x - middle).clamp_min(0.0).sum(-1, keepdim=True) > 1.0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (x - (low + high) / 2.0).clamp_min(0.0)


def by_sorting(x: Tensor) -> Tensor:
    """Sparsemax of the last dimension as in the paper, differentiable by autograd."""
    z = x.sort(-1, descending=True).values
    total = z.cumsum(-1)
    count = (1.0 + torch.arange(1, x.shape[-1] + 1) * z > total).sum(-1, keepdim=True)
    return (x - (total.gather(-1, count - 1) - 1.0) / count).clamp_min(0.0)


def attend(graph: Graph, x: Tensor, **leaves: Tensor) -> Tensor:
    """The normalizer's weights by the reference back end."""
    return Reference(train_view(graph))({"x": x, **leaves})["y"].expand_as(x)


NORMALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "SOFTMAX": lambda x: torch.softmax(x, -1),
    "SPARSEMAX": by_sorting,
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_attention_normalizer(manual: Manual, random: torch.Generator, name: str) -> None:
    """Value, gradient by autograd and gradient graph equal those of an independent implementation."""
    x = (2.0 * normal(random, 2, 3, 4, 6)).requires_grad_()
    dy = normal(random, 2, 3, 4, 6)
    expected = NORMALIZERS[name](x)
    actual = attend(manual[name], x)
    close(actual, expected)
    (right,) = torch.autograd.grad(expected, x, dy)
    (by_autograd,) = torch.autograd.grad(actual, x, dy)
    gradient = Reference(differentiate(train_view(manual[name])))({"x": x.detach(), "dy": dy})
    close(by_autograd, right)
    close(gradient["grad_x"], right)


def test_sparsemax_is_the_projection(manual: Manual, random: torch.Generator) -> None:
    """The weights are those of bisection, sum to 1, and some are exactly 0."""
    x = 2.0 * normal(random, 2, 3, 4, 6)
    y = attend(manual["SPARSEMAX"], x)
    close(y, by_bisection(x))
    close(y.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert (y == 0.0).any()


@pytest.mark.parametrize("name", NORMALIZERS)
def test_mask_removes_keys(manual: Manual, random: torch.Generator, name: str) -> None:
    """A causal mask gives the normalizer of the seen keys alone; a query that sees none gets zeros."""
    x = (3.0 * normal(random, 1, 2, 5, 5)).requires_grad_()
    mask = torch.ones(5, 5, dtype=torch.float64).tril(-1).expand(1, 2, 5, 5)
    y = attend(manual[f"MASKED_{name}"], x, mask=mask)
    assert (y[..., 0, :] == 0.0).all()
    for query in range(1, 5):
        close(y[..., query, :query], NORMALIZERS[name](x[..., query, :query].detach()))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.isfinite().all()
    assert (gradient[mask == 0.0] == 0.0).all()


# ---- update rules -------------------------------------------------------------------------------------


def run_rule(graph: Graph, w: Tensor, gradients: list[Tensor], ndim: list[float]) -> list[dict[str, Tensor]]:
    """The outputs of each step of an update rule on tensors laid out [P, L, R, K]."""
    view = train_view(graph)
    program = Reference(view)
    hypers = {h.name: torch.tensor(h.default, dtype=w.dtype) for h in view.hypers}
    states = {
        s.name: torch.full(
            [n if s.axes & ax.BIT[name] else 1 for n, name in zip(w.shape, "PLRK", strict=True)],
            s.init,
            dtype=w.dtype,
        )
        for s in view.states
    }
    fixed = {"ndim": torch.tensor(ndim, dtype=w.dtype).reshape(-1, 1, 1, 1), **hypers}
    history = []
    for t, g in enumerate(gradients, 1):
        out = program({"w": w, "g": g, "t": torch.tensor(float(t), dtype=w.dtype), **states, **fixed})
        history.append(out)
        w = out["w"]
        for name, state in states.items():
            assert out[name].shape == state.shape
            states[name] = out[name]
    return history


def test_lion_steps(manual: Manual, random: torch.Generator) -> None:
    """Sign of the interpolated momentum, decoupled decay, slower momentum kept."""
    w, gradients = normal(random, 2, 1, 3, 4), [normal(random, 2, 1, 3, 4) for _ in range(STEPS)]
    expected, m = w.clone(), torch.zeros_like(w)
    for out, g in zip(run_rule(manual["LION"], w, gradients, [2.0, 2.0]), gradients, strict=True):
        expected = expected - 1e-4 * torch.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
        close(out["w"], expected)
        close(out["m"], m)


@pytest.mark.parametrize("shape", [(5, 4), (4, 7), (2, 3, 4)])
def test_adafactor_is_torchs(manual: Manual, random: torch.Generator, shape: tuple[int, ...]) -> None:
    """Factored moments, clipping and relative step are those of torch.optim.Adafactor."""
    weight = torch.nn.Parameter(normal(random, *shape))
    optimizer = torch.optim.Adafactor([weight], lr=1e-2)
    layout = (1,) * (4 - len(shape)) + shape
    w = weight.detach().clone().reshape(layout)
    gradients = [normal(random, *layout) * 10.0**i for i in range(STEPS)]
    for out, g in zip(
        run_rule(manual["ADAFACTOR"], w, gradients, [float(len(shape))]), gradients, strict=True
    ):
        weight.grad = g.reshape(shape)
        optimizer.step()  # type: ignore[no-untyped-call]  # torch annotates this optimizer in part
        close(out["w"].reshape(shape), weight.detach())


def test_adafactor_of_a_vector_is_not_factored(manual: Manual, random: torch.Generator) -> None:
    """The product of a vector's row and column moments is its whole second moment."""
    w, gradients = normal(random, 1, 1, 1, 9), [normal(random, 1, 1, 1, 9) for _ in range(STEPS)]
    expected, v = w.clone(), torch.zeros_like(w)
    for t, (out, g) in enumerate(
        zip(run_rule(manual["ADAFACTOR"], w, gradients, [1.0]), gradients, strict=True), 1
    ):
        decay = 1.0 - t**-0.8
        v = decay * v + (1.0 - decay) * (g * g + 1e-30)
        step = g / v.sqrt()
        step = step / max(1.0, step.square().mean().sqrt().item())
        scale = max(1e-3, expected.square().mean().sqrt().item())
        expected = expected - min(1e-2, 1.0 / math.sqrt(t)) * scale * step
        close(out["w"], expected)


def test_lamb_after_a_global_clip(manual: Manual, random: torch.Generator) -> None:
    """One clip over both tensors, trust ratio and decay for the matrix, plain Adam for the vector."""
    w = normal(random, 2, 1, 3, 4)
    gradients = [normal(random, 2, 1, 3, 4) * scale for scale in (5.0, 0.01, 1.0, 3.0)]
    expected, m, v = w.clone(), torch.zeros_like(w), torch.zeros_like(w)
    history = run_rule(manual["LAMB"], w, gradients, [2.0, 1.0])
    for t, (out, g) in enumerate(zip(history, gradients, strict=True), 1):
        clipped = g * min(1.0, 1.0 / (g.flatten().norm().item() + 1e-6))
        m, v = 0.9 * m + 0.1 * clipped, 0.999 * v + 0.001 * clipped**2
        adam = (m / (1.0 - 0.9**t)) / ((v / (1.0 - 0.999**t)).sqrt() + 1e-6)
        matrix = adam[0] + 0.01 * expected[0]
        ratio = expected[0].flatten().norm() / matrix.flatten().norm()
        expected = expected - 1e-3 * torch.stack([ratio * matrix, adam[1]])
        close(out["w"], expected)
        close(out["m"], m)
        close(out["v"], v)


def test_lamb_of_zero_weights_takes_the_plain_step(manual: Manual, random: torch.Generator) -> None:
    """Weights of norm 0, as at a zero-initialized layer, move, and stay finite without a gradient."""
    w = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    moved, still = normal(random, 1, 1, 2, 3), torch.zeros_like(w)
    assert (run_rule(manual["LAMB"], w, [moved], [2.0])[0]["w"] != 0.0).all()
    assert (run_rule(manual["LAMB"], w, [still], [2.0])[0]["w"] == 0.0).all()


def newton_schulz(matrix: Tensor) -> Tensor:
    """Five quintic steps towards the nearest orthogonal matrix, applied to the singular values."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / (s.square().sum().sqrt() + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    result: Tensor = u @ torch.diag(s) @ v
    return result


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3)])
def test_muon_of_a_matrix(manual: Manual, random: torch.Generator, shape: tuple[int, int]) -> None:
    """The Nesterov momentum with its singular values driven to 1, scaled for tall matrices."""
    w, gradients = normal(random, 1, 1, *shape), [normal(random, 1, 1, *shape) for _ in range(STEPS)]
    expected, m = w.clone(), torch.zeros_like(w)
    for out, g in zip(run_rule(manual["MUON"], w, gradients, [2.0]), gradients, strict=True):
        m = 0.95 * m + 0.05 * g
        orthogonal = newton_schulz((0.95 * m + 0.05 * g)[0, 0])
        assert torch.linalg.svdvals(orthogonal).sub(1.0).abs().max() < 0.6
        expected = expected - 0.02 * math.sqrt(max(1.0, shape[0] / shape[1])) * orthogonal
        close(out["w"], expected)


def test_muon_of_a_vector_is_adam(manual: Manual, random: torch.Generator) -> None:
    """Tensors of one dimension take the other branch."""
    w, gradients = normal(random, 1, 1, 1, 5), [normal(random, 1, 1, 1, 5) for _ in range(STEPS)]
    weight = torch.nn.Parameter(w[0, 0, 0].clone())
    optimizer = torch.optim.Adam([weight], lr=3e-4, betas=(0.95, 0.95), eps=1e-8)
    for out, g in zip(run_rule(manual["MUON"], w, gradients, [1.0]), gradients, strict=True):
        weight.grad = g[0, 0, 0]
        optimizer.step()
        close(out["w"][0, 0, 0], weight.detach())


def test_average_starts_from_the_weights(manual: Manual, random: torch.Generator) -> None:
    """A state that is replaced at the first step gives an average without bias, as eval_w."""
    w, gradients = normal(random, 1, 1, 2, 2), [normal(random, 1, 1, 2, 2) for _ in range(STEPS)]
    stepped, average = w.clone(), torch.zeros_like(w)
    for t, (out, g) in enumerate(
        zip(run_rule(manual["AVERAGED_SGD"], w, gradients, [2.0]), gradients, strict=True), 1
    ):
        stepped = stepped - 0.1 * g
        average = stepped if t == 1 else 0.99 * average + 0.01 * stepped
        close(out["w"], stepped)
        close(out["eval_w"], average)


def test_schedule_warms_up_and_decays(manual: Manual) -> None:
    """Linear to 1 over the warm-up, then half a cosine to 0, and 0 afterwards."""
    program = Reference(train_view(manual["WARMUP_COSINE"]))

    def at(t: float) -> float:
        leaves = {"t": t, "total": 1000.0, "warmup": 100.0}
        return program({k: torch.tensor(v, dtype=torch.float64) for k, v in leaves.items()})["y"].item()

    assert [at(t) for t in (1.0, 50.0, 100.0)] == [0.01, 0.5, 1.0]
    assert at(325.0) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4.0))
    assert at(1000.0) == pytest.approx(0.0, abs=1e-15)
    assert at(2000.0) == pytest.approx(0.0, abs=1e-15)
