"""Which norms are found, which pair with an activation, and which are left for what reason."""

import pytest
import torch
import torch.nn.functional as F
from norm_act_models import (
    Around,
    BasicBlock,
    DataDependent,
    Marker,
    SameAsBatchNorm,
    conv_pair,
    images,
    names,
    reason,
)
from torch import Tensor, nn

from primordium.export.replace import replace_sites


def test_identity_between_norm_and_activation_is_looked_through() -> None:
    """A switched-off dropout or drop-block does not hide a pair."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Identity(), nn.ReLU())
    assert replace_sites(model, Marker).replaced[0].activation == "ReLU"


def test_a_norm_with_other_users_keeps_its_activation() -> None:
    """What is also used before its activation is a lone norm, and the activation stays."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.act = nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(x)
            return y.mul(self.act(y))

    result = replace_sites(Gate(), Marker)
    assert result.replaced[0].activation is None
    assert isinstance(result.model.get_submodule("act"), nn.Sigmoid)
    assert "`norm`" in reason(result, "act")


def test_a_shared_norm_is_left() -> None:
    """One norm for two inputs has two sets of statistics to be: it stays, and so do its activations."""
    norm, relu = nn.BatchNorm2d(3), nn.ReLU()
    model = nn.Sequential(norm, relu, nn.BatchNorm2d(3), nn.ReLU(), norm, relu)
    result = replace_sites(model, Marker, example=images())
    assert names(result) == (["2"], ["0"])
    assert "called 2 times" in reason(result, "0")
    kinds = [type(result.model.get_submodule(str(place))).__name__ for place in range(6)]
    assert kinds == ["BatchNorm2d", "ReLU", "Marker", "Identity", "BatchNorm2d", "ReLU"]


def test_a_shared_activation_in_a_sequential_goes_entry_by_entry() -> None:
    """A stack that shares one activation stays a stack."""
    relu = nn.ReLU()
    model = nn.Sequential(nn.BatchNorm2d(3), relu, nn.Conv2d(3, 3, 1), relu)
    result = replace_sites(model, Marker, example=images())
    assert [type(part).__name__ for part in result.model.children()] == [
        "Marker",
        "Identity",
        "Conv2d",
        "ReLU",
    ]


def test_a_block_called_twice_is_left() -> None:
    """Norms inside a shared block are shared norms, whether or not the block can be traced."""
    block = BasicBlock(3)
    result = replace_sites(nn.Sequential(block, block, conv_pair()), Marker)
    assert names(result) == (["2.1"], ["0.bn1", "0.bn2"])
    opaque = DataDependent()
    result = replace_sites(nn.Sequential(opaque, nn.Conv2d(4, 3, 1), opaque), Marker)
    assert result.replaced == ()
    assert "called 2 times" in reason(result, "0.stem.1")


@pytest.mark.parametrize("outer", [False, True], ids=["alone", "inside a traceable model"])
def test_data_dependent_control_flow_loses_only_its_own_sites(outer: bool) -> None:
    """Children of a forward that cannot be traced, and what is around it, are analysed all the same."""
    model = Around() if outer else DataDependent()
    at = "inner.0." if outer else ""
    result = replace_sites(model, Marker, example=images())
    expected = [at + name for name in ("stem.1", "blocks.0.bn1", "blocks.0.bn2")] + ["head"] * outer
    assert names(result) == (expected, [at + "norm", at + "tails.0"])
    for name in ("norm", "tails.0"):
        assert "control flow" in reason(result, at + name)
        assert ("`inner.0`" if outer else "the model") in reason(result, at + name)


def test_control_flow_on_the_training_mode_is_not_frozen() -> None:
    """A forward that branches on `self.training` is not judged by the mode it happens to be in."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            y: Tensor = self.act(x + 1 if self.training else x)
            return y

    for mode in (True, False):
        result = replace_sites(nn.Sequential(Branch(), conv_pair()).train(mode), Marker)
        assert names(result) == (["1.1"], ["0.norm"])


def test_an_activation_that_an_untraced_forward_may_call_stays() -> None:
    """A pair takes its activation away at its own call, not from an opaque module that shares it."""

    class Opaque(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            self.act = act

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.act(x) if x.sum() > -1e9 else x
            return y

    relu = nn.ReLU()
    model = nn.Sequential(nn.BatchNorm2d(3), relu, Opaque(relu))
    result = replace_sites(model, Marker, example=images()).model
    assert isinstance(result.get_submodule("1"), nn.Identity)
    assert isinstance(result.get_submodule("2.act"), nn.ReLU)


def test_a_pair_may_span_two_modules() -> None:
    """A norm that ends one module pairs with the activation that its caller puts behind it."""

    class Tail(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(F.dropout(x, 0.5, self.training))
            return y

    result = replace_sites(nn.Sequential(Tail(), nn.ReLU()), SameAsBatchNorm, example=images())
    assert [(site.name, site.activation) for site in result.replaced] == [("0.norm", "ReLU")]
    assert isinstance(result.model.get_submodule("0"), Tail)


class Scaled(nn.Module):
    """Reads a parameter, normalizes, and then decides by data or by a draw."""

    def __init__(self, draws: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(3)
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x * self.scale)
        return x if (torch.rand(()) if self.draws else x.sum()) > 0.5 else -x


@pytest.mark.parametrize("draws", [False, True])
def test_one_untraced_forward_does_not_spoil_the_trace_around_it(draws: bool) -> None:
    """A functional activation next to an opaque module still vanishes, whatever that module had read."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Scaled(draws)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.norm(self.inner(x) / self.inner.scale))

    result = replace_sites(Outer(), Marker, example=images())
    assert names(result) == (["norm"], ["inner.norm"])
    assert ("random" if draws else "control flow") in reason(result, "inner.norm")


def test_transformer_layer_norms_are_left() -> None:
    """Channel-last norms stay, in torch's own layers too, with the layout as the reason."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), layer, nn.RMSNorm(8))
    result = replace_sites(model, Marker, example=torch.ones(2, 5, 4))
    assert names(result) == ([], ["1", "3.norm1", "3.norm2", "4"])
    assert all("last dimension" in (site.reason or "") for site in result.left if site.norm)


def test_layer_norm_is_replaced_on_request() -> None:
    """Named in `norms`, a channel-last norm gives way to the layer on the transposed input."""
    model = nn.Sequential(nn.LayerNorm(4), nn.GELU())
    result = replace_sites(model, Marker, norms=(nn.LayerNorm,), example=torch.ones(2, 5, 4))
    x = images()[..., :4]
    assert torch.equal(result.model(x), torch.tanh(x * torch.linspace(0.5, 1.5, 4)))


def test_a_subclass_with_its_own_forward_is_left_unless_named() -> None:
    """A norm that also applies its activation must not lose it."""

    class NormAct(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return torch.relu(super().forward(input))

    model = nn.Sequential(NormAct(3), nn.Conv2d(3, 3, 1))
    assert "NormAct has a forward of its own" in reason(replace_sites(model, Marker), "0")
    assert names(replace_sites(model, Marker, norms=(NormAct,))) == (["0"], [])


def test_an_activation_of_the_users_own() -> None:
    """Classes and functions given as activations pair; a module that only calls one is seen through."""

    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x)

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    model = nn.Sequential(nn.BatchNorm2d(3), Wrapped(), nn.BatchNorm2d(3), Own())
    assert [site.activation for site in replace_sites(model, Marker).replaced] == ["Wrapped", None]
    own = replace_sites(model, Marker, activations=(Own,))
    assert [site.activation for site in own.replaced] == [None, "Own"]


def test_a_second_tensor_into_the_activation_keeps_it() -> None:
    """An activation that takes more than the norm's output is more than the norm's activation."""

    class Clipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.maximum(self.norm(x), x)

    (site,) = replace_sites(Clipped(), Marker, activations=(torch.maximum,)).replaced
    assert site.activation is None


def test_a_norm_that_is_never_called_is_left() -> None:
    """An unused norm is reported, not replaced."""
    model = BasicBlock(3)
    model.spare = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert "not called" in reason(replace_sites(model, Marker), "spare")
