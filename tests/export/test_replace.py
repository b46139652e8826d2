"""Model surgery as a whole: the result means what it should, and the rest of the model stays what it was."""

import copy
import operator
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from norm_act_models import (
    Around,
    BasicBlock,
    FunctionalNet,
    InvertedResidual,
    Marker,
    SameAsBatchNorm,
    assert_same_outputs,
    conv_pair,
    copy_statistics,
    images,
    names,
    reason,
    shuffle_statistics,
)
from torch import Tensor, fx, nn

from primordium.errors import PrimordiumError
from primordium.export.replace import NORMS, replace_sites


def test_sequential_pair_keeps_the_container() -> None:
    """A plain stack keeps its class; the activation becomes an identity, the rest stays."""
    model = conv_pair()
    result = replace_sites(model, Marker, example=images())
    assert type(result.model) is nn.Sequential
    assert [type(part) for part in result.model.children()] == [nn.Conv2d, Marker, nn.Identity]
    assert result.replaced[0].activation == "ReLU"
    assert result.replaced[0].channels == 4
    assert result.left == ()


def test_basic_block_keeps_the_activation_after_the_addition() -> None:
    """A shared ReLU vanishes only where it stands behind a norm."""
    result = replace_sites(BasicBlock(3), Marker)
    layers = [result.model.get_submodule(name) for name in ("bn1", "bn2")]
    assert [layer.apply_act for layer in layers if isinstance(layer, Marker)] == [True, False]
    assert isinstance(result.model, fx.GraphModule)
    assert "iadd" in reason(result, "relu")
    block, x = result.model, images()
    inner = block.get_submodule("conv2")(layers[0](block.get_submodule("conv1")(x)))
    assert torch.equal(block(x.clone()), torch.relu(layers[1](inner) + x))


def test_mobilenet_projection_norm_gets_no_activation() -> None:
    """Norms before ReLU6 are pairs; the projection's norm is replaced without one, or left on request."""
    result = replace_sites(InvertedResidual(3), Marker, example=images())
    assert [site.activation for site in result.replaced] == ["ReLU6", "ReLU6", None]
    kept = replace_sites(InvertedResidual(3), Marker, lone_norms=False)
    assert names(kept) == (["conv.1", "conv.4"], ["conv.7"])
    assert "`add`" in reason(kept, "conv.7")


@pytest.mark.parametrize(
    ("norm", "act"),
    [
        (nn.GroupNorm(2, 4), nn.SiLU()),
        (nn.InstanceNorm2d(4), nn.GELU()),
        (nn.SyncBatchNorm(4), nn.PReLU()),
        (nn.BatchNorm2d(4, affine=False), nn.Hardswish()),
        (nn.InstanceNorm2d(4, affine=True), nn.Softplus()),
    ],
    ids=lambda part: type(part).__name__,
)
def test_each_norm_and_activation_class(norm: nn.Module, act: nn.Module) -> None:
    """The channel count is found for every recognised norm."""
    result = replace_sites(conv_pair(norm, act), Marker, example=images())
    (site,) = result.replaced
    assert (site.norm, site.activation, site.channels) == (type(norm).__name__, type(act).__name__, 4)


@pytest.mark.parametrize("dimensions", [0, 1, 3])
def test_norms_without_two_spatial_dimensions(dimensions: int) -> None:
    """Sites in multilayer perceptrons, sequences and volumes are replaced as well."""
    norm = {0: nn.BatchNorm1d, 1: nn.InstanceNorm1d, 3: nn.BatchNorm3d}[dimensions](4)
    model = nn.Sequential(norm, nn.Tanh())
    result = replace_sites(model, Marker, example=torch.ones(2, 4, *[3] * dimensions))
    assert names(result) == (["0"], [])


def test_the_input_model_is_untouched() -> None:
    """Weights, statistics, structure, modes and random state of the original stay."""
    model = nn.Sequential(FunctionalNet(), nn.Identity())
    model.get_submodule("0.bn1").eval()
    x = images()
    state = copy.deepcopy(model.state_dict())
    structure = [(name, type(part), part.training) for name, part in model.named_modules()]
    generator = torch.get_rng_state()
    result = replace_sites(model, Marker, example=x)
    assert torch.equal(torch.get_rng_state(), generator)
    result.model(x).sum().backward()
    assert structure == [(name, type(part), part.training) for name, part in model.named_modules()]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    shared = {id(parameter) for parameter in model.parameters()} & set(map(id, result.model.parameters()))
    assert not shared


def test_mode_dtype_and_other_state_are_kept() -> None:
    """New layers take the norm's dtype and mode; all keys outside the sites stay."""
    model = FunctionalNet().double()
    model.get_submodule("blocks.0.bn1").eval()
    result = replace_sites(model, Marker, example=images().double())
    first, second = (result.model.get_submodule(f"blocks.0.{name}") for name in ("bn1", "bn2"))
    assert (first.training, second.training) == (False, True)
    assert {parameter.dtype for parameter in result.model.parameters()} == {torch.float64}
    plain = replace_sites(conv_pair(nn.InstanceNorm2d(4)).double(), Marker).model
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float64}
    elsewhere = replace_sites(conv_pair().to("meta"), Marker).model
    assert {parameter.device.type for parameter in elsewhere.parameters()} == {"meta"}
    norms = {site.name for site in result.replaced}
    before, after = (
        {key for key in state if key.rpartition(".")[0] not in norms}
        for state in (model.state_dict(), result.model.state_dict())
    )
    assert before == after
    assert all(torch.equal(model.state_dict()[key], result.model.state_dict()[key]) for key in before)


MODELS = [
    FunctionalNet,
    Around,
    lambda: nn.Sequential(conv_pair(), InvertedResidual(4)),
    lambda: BasicBlock(3),
]


@pytest.mark.parametrize("make", MODELS, ids=["functional", "untraceable", "in place", "root block"])
def test_the_result_trains_copies_pickles_and_compiles(make: Callable[[], nn.Module]) -> None:
    """A replaced model is a model like any other, in training and in evaluation."""
    model = replace_sites(make(), Marker).model.eval()
    x = images()
    expected = model(x.clone())
    copies = copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(model))))
    assert torch.equal(copies(x.clone()), expected)
    assert copies.state_dict().keys() == model.state_dict().keys()
    torch.compiler.reset()
    assert torch.equal(torch.compile(model, backend="eager")(x.clone()), expected)
    model.train()
    model(x.clone()).square().sum().backward()
    missing = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert missing <= {"inner.0.norm.weight", "inner.0.norm.bias"}
    twice = replace_sites(nn.Sequential(model, nn.BatchNorm2d(4)), Marker)
    assert names(twice)[0] == ["1"]


@pytest.mark.parametrize("make", [BasicBlock, InvertedResidual], ids=["rewritten", "in place"])
def test_an_equivalent_layer_gives_the_same_numbers(make: Callable[[int], nn.Module]) -> None:
    """With batch normalization and ReLU for itself, nothing changes."""
    model = make(3)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.ReLU6):
            model.set_submodule(name, nn.ReLU())
    shuffle_statistics(model, 1)
    result = replace_sites(model, SameAsBatchNorm)
    copy_statistics(model, result)
    assert_same_outputs(model, result, images())


class RandomBlock(nn.Module):
    """A few convolutions with norms, joined and activated in ways that a seed picks."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        shared, norm = nn.ReLU(), nn.BatchNorm2d(3)
        self.relu = shared
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norms = nn.ModuleList(norm if rng.random() < 0.1 else nn.BatchNorm2d(3) for _ in range(3))
        functions: list[Callable[[Tensor], Tensor]] = [F.relu, lambda x: x.relu(), operator.pos, torch.abs]
        acts = [shared if rng.random() < 0.4 else nn.ReLU() for _ in range(3)]
        self.acts = nn.ModuleList(acts)
        self.functions = [rng.choice([None, *functions]) for _ in range(3)]
        self.residual = [rng.random() < 0.4 for _ in range(3)]
        self.branches = rng.random() < 0.15

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm, act, function, residual in zip(
            self.convs, self.norms, self.acts, self.functions, self.residual, strict=True
        ):
            y = norm(conv(x))
            if residual:
                y += x
            x = act(y) if function is None else function(y)
        return self.relu(x) if self.branches and x.sum() > -1e9 else x


def random_net(rng: random.Random, depth: int = 2) -> nn.Module:
    """A nest of random blocks and stacks; a block may stand in two places."""
    if depth == 0:
        relu = nn.ReLU()
        stack = nn.Sequential(nn.BatchNorm2d(3), relu, nn.Conv2d(3, 3, 1), rng.choice([relu, nn.ReLU()]))
        return rng.choice([RandomBlock(rng), stack])
    parts = [random_net(rng, depth - 1) for _ in range(2)]
    last = parts[0] if rng.random() < 0.1 else rng.choice([nn.BatchNorm2d(3), nn.Identity()])
    return nn.Sequential(*parts, last)


@pytest.mark.parametrize("seed", range(24))
def test_random_nets_are_covered_once_and_mean_the_same(seed: int) -> None:
    """Every norm is replaced or left, exactly once; an equivalent layer leaves every output as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = random_net(random.Random(seed))
        shuffle_statistics(model, seed)
        result = replace_sites(model, SameAsBatchNorm, example=images(seed))
    covered = Counter(site.name for site in (*result.replaced, *result.left) if site.norm)
    assert covered == Counter(name for name, part in model.named_modules() if isinstance(part, NORMS))
    assert all(site.reason for site in result.left)
    copy_statistics(model, result)
    assert_same_outputs(model, result, images(seed))


def test_report_names_every_site_and_reason() -> None:
    """The text says what was replaced, what was left, and why."""
    result = replace_sites(Around(), Marker)
    text = result.report()
    assert text.startswith("4 of 6 norms replaced")
    for site in (*result.replaced, *result.left):
        line = next(line for line in text.splitlines() if line.split()[:1] == [site.name])
        assert line.rstrip().endswith(site.reason or str(site.channels))


def test_errors_say_what_was_wrong() -> None:
    """No model, no norm, no initialization, no layer: each has its message."""
    with pytest.raises(PrimordiumError, match=r"needs a torch\.nn\.Module, not int"):
        replace_sites(3, Marker)  # type: ignore[arg-type]
    with pytest.raises(PrimordiumError, match=r"Linear has no norm.*BatchNorm2d.*LayerNorm"):
        replace_sites(nn.Linear(2, 2), Marker)
    with pytest.raises(PrimordiumError, match="not initialized; run the model once"):
        replace_sites(nn.Sequential(nn.LazyConv2d(3, 1), nn.BatchNorm2d(3)), Marker)
    with pytest.raises(PrimordiumError, match=r"factory\(4, True\) for '1' returned str"):
        replace_sites(conv_pair(), lambda channels, apply_act: "layer")  # type: ignore[arg-type,return-value]
    with pytest.raises(PrimordiumError, match=r"factory\(4, True\) for '1' failed: .*by zero"):
        replace_sites(conv_pair(), lambda channels, apply_act: nn.Linear(channels // 0, 1))
    locked = conv_pair()
    locked.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(PrimordiumError, match="Sequential cannot be copied, and only a copy is changed"):
        replace_sites(locked, Marker)
    with pytest.raises(PrimordiumError, match="norms: 3 is not a module class"):
        replace_sites(conv_pair(), Marker, norms=(3,))  # type: ignore[arg-type]
    with pytest.raises(PrimordiumError, match=r"activations: ReLU\(\) is not a module class"):
        replace_sites(conv_pair(), Marker, activations=(nn.ReLU(),))


def test_the_example_finds_a_layer_that_changes_the_shape() -> None:
    """The message names the site and both shapes; an unfit example is told apart."""
    with pytest.raises(
        PrimordiumError, match=r"AvgPool2d at '1' maps shape \(2, 4, 5, 5\) to \(2, 4, 2, 2\)"
    ):
        replace_sites(conv_pair(), lambda channels, apply_act: nn.AvgPool2d(2), example=images())
    with pytest.raises(PrimordiumError, match=r"fails before replacement on the example of shape \(3,\)"):
        replace_sites(conv_pair(), Marker, example=torch.ones(3))
    with pytest.raises(PrimordiumError, match="fails after replacement"):
        replace_sites(conv_pair(), lambda channels, apply_act: nn.Linear(3, 3), example=images())


def test_a_norm_alone_is_left() -> None:
    """A model that is itself a norm has no place to put a layer."""
    result = replace_sites(nn.BatchNorm2d(3), Marker)
    assert names(result) == ([], [""])
    assert "(model)" in result.report()
