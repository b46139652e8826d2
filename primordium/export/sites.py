"""Which norms of a model can be replaced together with the activation behind them, and which cannot.

Pairs are found by data flow: an activation belongs to a norm when it is the only user of its output.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, fx, nn

from primordium.export.dataflow import quote, scratch_copy, trace_model
from primordium.export.rewrite import RewriteRefused, rewrite_graph
from primordium.export.tracing import CHANNEL_LAST, Vocabulary, function_name


@dataclass(frozen=True)
class Site:
    """A norm with the activation behind it, or an activation alone.

    `name`: the norm's qualified name; for an activation alone, the activation's, or the calling module's
    with the function. `norm`: the norm's class, `""` for an activation alone. `activation`: the class or
    function behind the norm, `None` where there is none. `channels`: 0 where unknown. `reason`: why the
    site was left, `None` where it was replaced.
    """

    name: str
    norm: str
    activation: str | None
    channels: int
    reason: str | None = None


@dataclass
class Plan:
    """What to do to a copy of the model.

    `swaps`: names at which an activation module becomes an identity. `graphs`: name of a module → the graph
    of its forward without the activations that go. `aliases`: first name of a module → all its names.
    """

    aliases: Mapping[str, list[str]]
    replaced: list[Site] = field(default_factory=list)
    left: list[Site] = field(default_factory=list)
    swaps: set[str] = field(default_factory=set)
    graphs: dict[str, fx.Graph] = field(default_factory=dict)


class Planner:
    """Finds the sites of one model and decides about each."""

    def __init__(self, model: nn.Module, vocabulary: Vocabulary, lone_norms: bool) -> None:
        self._model = scratch_copy(model)
        self._vocabulary = vocabulary
        self._lone_norms = lone_norms
        self._flow = trace_model(self._model, vocabulary)
        self._plan = Plan(self._flow.aliases)
        self._behind: dict[str, fx.Node] = {}
        self._paired: dict[fx.Node, str] = {}

    def plan(self) -> Plan:
        """Every norm appears exactly once, in the model's order, in `replaced` or in `left`."""
        sites = [
            self._judge(name, module)
            for name, module in self._model.named_modules()
            if self._vocabulary.is_norm(module)
        ]
        refused = self._remove_activations()
        for site in sites:
            reason = site.reason or refused.get(site.name)
            (self._plan.left if reason else self._plan.replaced).append(replace(site, reason=reason))
        behind = set(self._behind.values())
        self._plan.left += [self._lone_activation(n) for n in self._flow.activations if n not in behind]
        return self._plan

    def _judge(self, name: str, norm: nn.Module) -> Site:
        """The site of one norm, with the reason to leave it as far as the norm alone gives one."""
        calls = self._flow.calls.get(name, [])
        behind = _activation_behind(calls[0]) if len(calls) == 1 else None
        channels = _channels(norm)
        reason = _unsuitable(norm, self._vocabulary) or self._unreachable(name, calls)
        if reason is None and channels == 0:
            reason = "its number of channels is unknown"
        if reason is None and behind is None and not self._lone_norms:
            reason = f"no activation behind it: {_uses(calls[0])}"
        activation = None
        if behind is not None:
            self._behind[name] = behind
            activation = behind.meta["activation"]
            if reason is None:
                self._paired[behind] = name
        return Site(name, type(norm).__name__, activation, channels, reason)

    def _unreachable(self, name: str, calls: list[fx.Node]) -> str | None:
        """Why the calls of a norm do not allow to replace it."""
        holder = self._flow.holder(name)
        if holder is not None or not name:
            return self._flow.unseen[holder or ""]
        if len(calls) != 1:
            return f"called {len(calls)} times" if calls else "not called in the forward"
        if name in self._flow.read:
            return "a forward reads its parameters or buffers"
        if len(calls[0].args) != 1 or calls[0].kwargs:
            return "called with more than its input, or by keyword"
        return None

    def _remove_activations(self) -> dict[str, str]:
        """Plan how each paired activation vanishes; returns the norms where it cannot, with the reason."""
        rewrites: dict[str, set[int]] = defaultdict(set)
        for node in self._paired:
            module = node.meta.get("module")
            if module is None or not self._is_only_paired(module):
                rewrites[node.meta["frame"].scope].add(node.meta["ordinal"])
            else:
                self._plan.swaps.update(self._flow.aliases[module])
        refused = {}
        for scope, ordinals in rewrites.items():
            try:
                self._rewrite(scope, ordinals)
            except RewriteRefused as refusal:
                for node, name in self._paired.items():
                    frame = node.meta["frame"]
                    if frame.scope == scope and node.meta["ordinal"] in ordinals:
                        refused[name] = f"its activation is called by {quote(scope)}: {refusal}"
        return refused

    def _is_only_paired(self, activation: str) -> bool:
        """Whether each call of an activation module stands behind a norm that is replaced."""
        calls = self._flow.calls[activation]
        return all(node in self._paired for node in calls) and self._flow.holder(activation) is None

    def _rewrite(self, scope: str, ordinals: set[int]) -> None:
        """Plan to drop the activation calls number `ordinals` from the forward of `scope`."""
        frames = self._flow.frames[scope]
        here = [node for node in self._flow.activations if node.meta["frame"] in frames]
        if any(node.meta["ordinal"] in ordinals and node not in self._paired for node in here):
            raise RewriteRefused("the same call also serves where no norm goes before")
        module = self._model.get_submodule(scope)
        if type(module).forward is nn.Sequential.forward:
            entries = list(module._modules)  # each entry is one call
            self._plan.swaps.update(f"{scope}.{entries[ordinal]}".lstrip(".") for ordinal in ordinals)
            return
        self._plan.graphs[scope] = rewrite_graph(module, self._flow.names, self._vocabulary, frames, ordinals)

    def _lone_activation(self, node: fx.Node) -> Site:
        """An activation that stays because no norm stands before it alone."""
        scope = node.meta["frame"].scope
        name = node.meta.get("module") or f"{scope}.{function_name(node)}()".lstrip(".")
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None:
            reason = "its input is a constant"
        elif self._is_norm_call(source):
            reason = f"the norm {quote(source.meta['module'])} before it is also used elsewhere"
        else:
            reason = f"its input is {_describe(source)}, not a norm"
        return Site(name, "", node.meta["activation"], 0, reason)

    def _is_norm_call(self, node: fx.Node) -> bool:
        return "module" in node.meta and self._vocabulary.is_norm(
            self._model.get_submodule(node.meta["module"])
        )


def _activation_behind(norm: fx.Node) -> fx.Node | None:
    """The activation that is the only user of a norm's output, identities looked through."""
    node = norm
    while len(node.users) == 1:
        (user,) = node.users
        if user.all_input_nodes != [node]:
            return None
        if "activation" in user.meta:
            return user
        if not _is_identity(user):
            return None
        node = user
    return None


def _is_identity(node: fx.Node) -> bool:
    return node.op == "call_module" and node.meta.get("identity", False)


def _uses(node: fx.Node) -> str:
    users = [_describe(user) for user in node.users]
    return f"its output goes to {' and '.join(users)}" if users else "its output is not used"


def _describe(node: fx.Node) -> str:
    """A node in the words of a reason."""
    if node.op == "call_module":
        return quote(node.meta["module"])
    if node.op == "placeholder":
        return "an argument of the forward"
    return "the result of the forward" if node.op == "output" else f"`{function_name(node)}`"


def _unsuitable(norm: nn.Module, vocabulary: Vocabulary) -> str | None:
    """Why a norm cannot be replaced wherever it stands."""
    kind = type(norm).__name__
    shape = getattr(norm, "normalized_shape", ())
    if isinstance(norm, CHANNEL_LAST) and not (isinstance(norm, vocabulary.norms) and len(shape) == 1):
        dimensions = "dimension" if len(shape) == 1 else f"{len(shape)} dimensions"
        return f"{kind} normalizes the last {dimensions}; layers expect the channels at dimension 1"
    bases = [base for base in (*vocabulary.norms, *CHANNEL_LAST) if isinstance(norm, base)]
    inherited = type(norm) in bases or any(type(norm).forward is base.forward for base in bases)
    if "forward" in vars(norm) or not inherited:
        return f"{kind} has a forward of its own"
    return None


def _channels(norm: nn.Module) -> int:
    """The number of channels a norm is built for, 0 where it does not say."""
    for attribute in ("num_features", "num_channels"):
        value = getattr(norm, attribute, None)
        if isinstance(value, int):
            return value
    shape = getattr(norm, "normalized_shape", None)
    if shape:
        return int(shape[-1])
    weight = getattr(norm, "weight", None)
    return weight.numel() if isinstance(weight, Tensor) else 0
