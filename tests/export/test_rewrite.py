"""A rewritten forward does all that it did, but for the activations; where it could not, it is left."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from norm_act_models import (
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
)
from torch import Tensor, fx, nn

from primordium.export.replace import Replacement, replace_sites


def test_only_the_module_that_calls_a_vanishing_activation_is_rewritten() -> None:
    """Blocks with a shared activation become graph modules; what contains them keeps its class."""
    model = nn.Sequential(conv_pair(), nn.Sequential(BasicBlock(4), InvertedResidual(4)))
    result = replace_sites(model, Marker, example=images())
    rewritten = [name for name, part in result.model.named_modules() if isinstance(part, fx.GraphModule)]
    assert rewritten == ["1.0"]
    assert isinstance(result.model.get_submodule("1.1"), InvertedResidual)


def test_functional_activations_follow_the_training_mode() -> None:
    """`F.relu` and `x.relu()` vanish, and dropout in the rewritten forward is still off in evaluation."""
    model = FunctionalNet()
    result = replace_sites(model, SameAsBatchNorm, example=images())
    assert [site.activation for site in result.replaced] == ["relu", "ReLU", None, "ReLU", None, "relu"]
    copy_statistics(model, result)
    assert torch.equal(result.model.eval()(images(), 2.0), model.eval()(images(), 2.0))
    assert_same_outputs(model.train(), result, images())
    result.model.train()
    assert not torch.equal(result.model(images()), result.model(images()))
    frozen = replace_sites(model.eval(), Marker).model
    assert torch.equal(frozen(images()), frozen(images()))


def _reads_statistics(self: Any, x: Tensor) -> Tensor:
    y: Tensor = F.relu(self.norm(x)) - self.norm.running_mean.view(-1, 1, 1)
    return y


def _keyword(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.norm(input=x))


def _no_grad(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = self.norm(x)
        return y.relu()


def _draws(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.norm(x)) if torch.rand(()) < 2 else x


def _stores(self: Any, x: Tensor) -> Tensor:
    y: Tensor = F.relu(self.norm(x))
    self.last = y
    return y


def _optional(self: Any, x: Tensor, skip: Tensor | None = None) -> Tensor:
    y = F.relu(self.norm(x))
    return y if skip is None else y + skip


def _optional_module(self: Any, x: Tensor, twice: bool | None = None) -> Tensor:
    y: Tensor = F.relu(self.norm(x))
    return y if twice is None else self.spare(y)


def _mode_of_a_child(self: Any, x: Tensor) -> Tensor:
    return F.dropout(F.relu(self.norm(x)), 0.5, self.norm.training)


def _tests_type(self: Any, x: Tensor | list[Tensor]) -> Tensor:
    return F.relu(self.norm(x if isinstance(x, Tensor) else x[0]))


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (_reads_statistics, "reads its parameters or buffers"),
        (_keyword, "by keyword"),
        (_no_grad, "gradient or autocast mode"),
        (_draws, "random numbers"),
        (_stores, "stores or creates a tensor (last)"),
        (_optional, "other calls than within the model"),
        (_optional_module, "other calls than within the model"),
        (_mode_of_a_child, "training mode of a submodule"),
        (_tests_type, "tests types"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_graph_would_lose_is_left(forward: Callable[..., Tensor], expected: str) -> None:
    """A forward that does more than a graph can say is never rewritten silently."""
    model = type("Model", (nn.Module,), {"forward": forward})()
    model.norm, model.spare = nn.BatchNorm2d(3), nn.Identity()
    state = torch.get_rng_state()
    result = replace_sites(model, Marker)
    assert result.replaced == ()
    assert expected in reason(result, "norm")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(result.model) is type(model)


def test_an_argument_given_as_none_is_not_rewritten() -> None:
    """A forward that its caller hands `None` is not traced as if it were handed a tensor."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
            y = F.relu(self.norm(x))
            return y if skip is None else y + skip

    class Caller(nn.Module):
        def __init__(self, given: bool) -> None:
            super().__init__()
            self.skip = Skip()
            self.given = given

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.skip(x, x if self.given else None)
            return y

    assert names(replace_sites(Caller(False), Marker, example=images())) == ([], ["skip.norm"])
    assert names(replace_sites(Caller(True), Marker, example=images())) == (["skip.norm"], [])


class Taps(nn.Module):
    """Returns two tensors, and fills a list with a third where it is handed one."""

    def forward(self, x: Tensor, taps: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if taps is not None:
            taps.append(2 * x)
        return x + 1, x - 1


@pytest.mark.parametrize("fills", [False, True])
def test_what_a_submodule_returns_and_what_it_fills(fills: bool) -> None:
    """A submodule may return a tuple; one that may change a list keeps the forward from being rewritten."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Taps()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            taps: list[Tensor] = []
            y, z = self.inner(x, taps) if fills else self.inner(x)
            return F.relu(self.norm(y * z)) + (taps[-1] if taps else x)

    model = Outer()
    result = replace_sites(model, SameAsBatchNorm)
    assert names(result) == (([], ["norm"]) if fills else (["norm"], []))
    assert_same_outputs(model, result, images())


def test_a_forward_replaced_on_the_instance_is_left() -> None:
    """What runs then is not the forward of the class, which is all that can be traced."""
    model = BasicBlock(3)
    model.forward = lambda x: x  # type: ignore[method-assign]
    assert "on the instance" in reason(replace_sites(model, Marker), "bn1")
    stack = conv_pair()
    stack[1].forward = lambda x: x
    assert "a forward of its own" in reason(replace_sites(stack, Marker), "1")


def test_an_activation_made_in_the_forward() -> None:
    """`nn.ReLU()(x)` is a call like `F.relu(x)`."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = nn.ReLU()(self.norm(x))
            return y

    result = replace_sites(Made(), Marker, example=images())
    assert result.replaced[0].activation == "relu"
    assert torch.equal(result.model(images()), result.model.get_submodule("norm")(images()))


class Halve(nn.Module):
    """A functional activation that does not come alone."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) / 2


@pytest.mark.parametrize("both", [True, False])
def test_a_functional_activation_in_a_shared_module(both: bool) -> None:
    """It vanishes where every call of the module stands behind a norm, and else stays."""
    halve = Halve()
    model = nn.Sequential(nn.BatchNorm2d(3), halve, nn.BatchNorm2d(3) if both else nn.Conv2d(3, 3, 1), halve)
    result = replace_sites(model, SameAsBatchNorm)
    assert names(result) == ((["0", "2"], []) if both else ([], ["0"]))
    assert_same_outputs(model, result, images())


def test_a_module_with_state_is_not_swapped_for_an_identity() -> None:
    """A module that only calls an activation but owns parameters keeps them."""

    class Owner(Halve):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    model = nn.Sequential(nn.BatchNorm2d(3), Owner())
    assert replace_sites(model, Marker).model.state_dict().keys() == model.state_dict().keys()


def test_other_names_of_a_module_follow() -> None:
    """A norm or a block registered under two names and called once is replaced under both."""

    class Registered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = nn.Sequential(conv_pair(), BasicBlock(4))
            self.names = nn.ModuleList([self.stack.get_submodule(name) for name in ("0.1", "1")])

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.stack(x)
            return y

    model = replace_sites(Registered(), Marker, example=images()).model
    assert isinstance(model.get_submodule("names.0"), Marker)
    assert model.get_submodule("names.0") is model.get_submodule("stack.0.1")
    assert isinstance(model.get_submodule("names.1"), fx.GraphModule)
    assert model.get_submodule("names.1") is model.get_submodule("stack.1")


def test_unused_parameters_keep_their_module() -> None:
    """A graph module would drop a child that the forward does not call, and its `state_dict` keys."""
    model = FunctionalNet()
    model.spare = nn.Linear(2, 2)
    result = replace_sites(model, Marker)
    assert names(result)[1] == ["bn1", "bn2"]
    assert "unused" in reason(result, "bn1")
    assert isinstance(result.model, FunctionalNet)
    assert names(result)[0] == [f"blocks.{i}.bn{k}" for i in (0, 1) for k in (1, 2)]


def test_mutation_of_an_input_survives_a_rewrite() -> None:
    """`x += y` on a tensor with another name is not turned into `x = x + y`."""

    class Alias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            z = y
            y *= 2
            return F.relu(self.norm(z)) + z

    model = Alias()
    result = replace_sites(model, SameAsBatchNorm)
    assert isinstance(result.model, fx.GraphModule)
    assert_same_outputs(model, result, images())
    again = Replacement(pickle.loads(pickle.dumps(result.model)), (), ())
    again.model.load_state_dict(result.model.state_dict())
    assert torch.equal(again.model.eval()(images()), result.model.eval()(images()))
