"""Swap the norm and activation pairs of any torch model for another layer.

`replace_sites` finds each norm whose output goes to an activation alone and puts one layer in the place of
both; a norm with no activation behind it (before a residual addition, say) gets the layer without its
activation. What it leaves alone it reports, with the reason.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from primordium.errors import PrimordiumError
from primordium.export.rewrite import rewritten
from primordium.export.sites import Plan, Planner, Site
from primordium.export.tracing import CHANNEL_LAST, Activation, Vocabulary

LayerFactory = Callable[[int, bool], nn.Module]
"""`(channels, apply_act)` → a layer that maps `[B, C, *S]` to the same shape."""

NORMS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
"""The norms with their channels at dimension 1."""

_MODULES: tuple[Activation, ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink, nn.Softplus, nn.Softsign),
    *(nn.Softshrink, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Threshold),
)
_FUNCTIONS: tuple[Activation, ...] = (
    *(torch.relu, torch.relu_, torch.sigmoid, torch.sigmoid_, torch.tanh, torch.tanh_, torch.selu),
    *(torch.selu_, torch.celu, torch.celu_, torch.rrelu, torch.rrelu_, torch.threshold, torch.hardshrink),
    *(F.relu, F.relu_, F.relu6, F.leaky_relu, F.leaky_relu_, F.rrelu, F.rrelu_, F.elu, F.elu_, F.selu),
    *(F.selu_, F.celu, F.celu_, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.hardtanh_),
    *(F.hardshrink, F.softplus, F.softsign, F.softshrink, F.sigmoid, F.logsigmoid, F.tanh, F.tanhshrink),
    F.threshold,
)
_METHODS: tuple[Activation, ...] = ("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "hardshrink")

ACTIVATIONS: tuple[Activation, ...] = (*_MODULES, *_FUNCTIONS, *_METHODS)
"""Elementwise activations: module classes, functions, and names of `Tensor` methods."""


@dataclass(frozen=True)
class Replacement:
    """A model with new layers, the sites where they went, and the sites left alone."""

    model: nn.Module
    replaced: tuple[Site, ...]
    left: tuple[Site, ...]

    def report(self) -> str:
        """A text table of the replaced sites, and one of those left, with reasons."""
        norms = len(self.replaced) + sum(bool(site.norm) for site in self.left)
        lines = [f"{len(self.replaced)} of {norms} norms replaced"]
        if self.replaced:
            lines += ["", "replaced:", *_table(self.replaced)]
        if self.left:
            lines += ["", "left alone:", *_table(self.left)]
        return "\n".join(lines)


class ChannelLast(nn.Module):
    """A layer for `[B, C, *S]` in the place of a norm for `[B, *S, C]`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """`x`: `[B, *S, C]` → `[B, *S, C]`."""
        y: Tensor = self.layer(x.movedim(-1, 1))
        return y.movedim(1, -1)


def replace_sites(
    model: nn.Module,
    factory: LayerFactory,
    *,
    norms: tuple[type[nn.Module], ...] = NORMS,
    activations: tuple[Activation, ...] = ACTIVATIONS,
    lone_norms: bool = True,
    example: Tensor | None = None,
) -> Replacement:
    """Replace the norm and activation pairs of a model by layers that `factory` makes.

    A norm whose output only an activation uses becomes `factory(channels, True)`, and that call of the
    activation vanishes. Any other norm becomes `factory(channels, False)`, or is left where `lone_norms` is
    off. New layers take the training mode, device and dtype of the norms they replace.

    Left alone, with a reason: LayerNorm and RMSNorm, whose channels come last, unless `norms` names them (the
    layer then sees its input transposed); norms called more than once, or from a forward that cannot be
    traced; subclasses with a forward of their own that `norms` does not name; activations that stand behind
    no norm. Norms count as called within one call of the model with default arguments. Inside a forward that
    cannot be traced each child is analysed on its own, as if called once.

    What changes in the result, which is a deep copy: an activation module that serves only replaced norms
    becomes `nn.Identity`, and classes stay what they are. Where one call among several of an activation
    module, or a functional activation, has to vanish, the module whose forward makes that call becomes a
    `torch.fx.GraphModule`: same children, parameters and buffers, but attributes and methods of its class
    are gone, and parameters may come in another order. `state_dict` loses the keys of the replaced norms and
    of vanished activations (PReLU), gains those of the new layers under the norms' names, and keeps all
    others. Hooks on replaced modules are dropped.

    Args:
        model: any model; it is not changed.
        factory: makes one new layer a call.
        norms: classes of the norms to replace.
        activations: module classes, functions, and names of `Tensor` methods.
        lone_norms: whether norms with no activation behind them are replaced.
        example: an input on which the model is run in evaluation mode before and after, to check that every
            new layer keeps the shape of its input.

    Raises:
        PrimordiumError: `model` is not a module, has no norm, has parameters not yet initialized or cannot be
            copied; an entry of `norms` or `activations` is of the wrong kind; `factory` fails or returns no
            module; with `example`, the model does not run on it or a layer changes the shape.
    """
    _check_arguments(model, norms, activations)
    vocabulary = Vocabulary(norms, activations)
    if not any(vocabulary.is_norm(module) for module in model.modules()):
        names = ", ".join(kind.__name__ for kind in dict.fromkeys((*norms, *CHANNEL_LAST)))
        raise PrimordiumError(f"{type(model).__name__} has no norm to replace; looked for {names}")
    try:
        result = copy.deepcopy(model)
    except Exception as error:
        raise PrimordiumError(
            f"{type(model).__name__} cannot be copied, and only a copy is changed: {error}"
        ) from error
    plan = Planner(model, vocabulary, lone_norms).plan()
    replacement = Replacement(_apply(result, plan, factory), tuple(plan.replaced), tuple(plan.left))
    if example is not None:
        _check_shapes(model, replacement, example)
    return replacement


def _check_arguments(
    model: nn.Module, norms: tuple[type[nn.Module], ...], activations: tuple[Activation, ...]
) -> None:
    if not isinstance(model, nn.Module):
        raise PrimordiumError(f"replace needs a torch.nn.Module, not {type(model).__name__}")
    for norm in norms:
        if not (isinstance(norm, type) and issubclass(norm, nn.Module)):
            raise PrimordiumError(f"norms: {norm!r} is not a module class, such as torch.nn.BatchNorm2d")
    for activation in activations:
        is_class = isinstance(activation, type) and issubclass(activation, nn.Module)
        is_function = callable(activation) and not isinstance(activation, type | nn.Module)
        if not (is_class or is_function or isinstance(activation, str)):
            wanted = "a module class, a function or the name of a Tensor method"
            raise PrimordiumError(f"activations: {activation!r} is not {wanted}")
    lazy = next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None)
    if lazy is not None:
        raise PrimordiumError(f"parameter {lazy!r} is not initialized; run the model once on a batch first")


def _apply(model: nn.Module, plan: Plan, factory: LayerFactory) -> nn.Module:
    """Carry out a plan on a copy of the model that it was made for."""
    fallback = next(_floating(model), None)
    for site in plan.replaced:
        norm = model.get_submodule(site.name)
        like = next(_floating(norm), fallback)
        layer = _make_layer(site, factory)
        if isinstance(norm, CHANNEL_LAST) and type(norm).forward in {kind.forward for kind in CHANNEL_LAST}:
            layer = ChannelLast(layer)
        if like is not None:
            layer = layer.to(like.device, like.dtype)
        layer.train(norm.training)
        for name in plan.aliases[site.name]:
            model.set_submodule(name, layer)
    for name in plan.swaps:
        model.set_submodule(name, nn.Identity().train(model.get_submodule(name).training))
    for scope in sorted(plan.graphs, key=lambda name: name.count(".") + bool(name), reverse=True):
        module = rewritten(model.get_submodule(scope), plan.graphs[scope])
        if not scope:
            return module
        for name in plan.aliases[scope]:
            model.set_submodule(name, module)
    return model


def _floating(module: nn.Module) -> Any:
    """The floating-point parameters of a module, then its buffers."""
    tensors = chain(module.parameters(), module.buffers())
    return (tensor for tensor in tensors if tensor.is_floating_point())


def _make_layer(site: Site, factory: LayerFactory) -> nn.Module:
    apply_act = site.activation is not None
    call = f"factory({site.channels}, {apply_act}) for {site.name!r}"
    try:
        layer = factory(site.channels, apply_act)
    except Exception as error:
        raise PrimordiumError(f"{call} failed: {error}") from error
    if not isinstance(layer, nn.Module):
        raise PrimordiumError(f"{call} returned {type(layer).__name__}, not a torch.nn.Module")
    return layer


def _check_shapes(model: nn.Module, replacement: Replacement, example: Tensor) -> None:
    """Run copies of both models in evaluation mode; the caller's random state is kept."""
    after = copy.deepcopy(replacement.model).eval()

    def check(site: Site) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            given = tuple(inputs[0].shape)
            returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if given != returned:
                kind = type(layer).__name__
                raise PrimordiumError(
                    f"{kind} at {site.name!r} maps shape {given} to {returned}; must keep it"
                )

        return hook

    for site in replacement.replaced:
        after.get_submodule(site.name).register_forward_hook(check(site))
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        _run(copy.deepcopy(model).eval(), example, "before")
        _run(after, example, "after")


def _run(model: nn.Module, example: Tensor, when: str) -> None:
    try:
        model(example.clone())
    except PrimordiumError:
        raise
    except Exception as error:
        shape = tuple(example.shape)
        raise PrimordiumError(
            f"the model fails {when} replacement on the example of shape {shape}: {error}"
        ) from error


def _table(sites: tuple[Site, ...]) -> list[str]:
    rows = [("site", "norm", "activation", "channels", "reason" if sites[0].reason else "")]
    for site in sites:
        channels = str(site.channels) if site.channels else "-"
        rows.append(
            (site.name or "(model)", site.norm or "-", site.activation or "-", channels, site.reason or "")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  " + "  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows]
