"""Where the norms and activations of a model are called, and what flows between them.

A module whose forward cannot be traced becomes one opaque node of the trace around it, and its children are
traced as regions of their own, so that one such module does not hide the rest.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import fx, nn
from torch.fx.proxy import TraceError

from primordium.export.tracing import FlowTracer, Frame, Vocabulary, first_line


@dataclass(frozen=True)
class Flow:
    """Every traced region of a model, and what was not traced.

    `names`: module → its first name. `aliases`: first name → all its names. `calls`: name of a norm or
    activation module → the nodes that call it, once for each time its region runs. `activations`: all calls
    of activations, functional ones among them. `frames`: name of a module → the runs of its forward.
    `unseen`: name of a module whose forward was not traced, or of a container in it → why. `read`: modules
    whose parameters or buffers a forward reads itself.
    """

    names: Mapping[nn.Module, str]
    aliases: Mapping[str, list[str]]
    calls: dict[str, list[fx.Node]] = field(default_factory=dict)
    activations: list[fx.Node] = field(default_factory=list)
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def holder(self, name: str) -> str | None:
        """The module that owns `name` and whose forward was not traced, so that calls may be unseen."""
        parents = (alias.rpartition(".")[0] for alias in self.aliases[name] if alias)
        return next((parent for parent in parents if parent in self.unseen), None)


def trace_model(model: nn.Module, vocabulary: Vocabulary) -> Flow:
    """Trace a model region by region. `model` should be a `scratch_copy`: forwards run on proxies."""
    aliases: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(module, []).append(name)
    names = {module: first[0] for module, first in aliases.items()}
    flow = Flow(names, {first[0]: first for first in aliases.values()})
    regions: list[tuple[nn.Module, int, str]] = [(model, 1, "")]
    for module, times, holder_reason in regions:  # grows while it is walked
        name = names[module]
        if name in flow.unseen or (vocabulary.is_site(module) and name):
            continue
        if _has_no_forward(module):
            flow.unseen[name] = holder_reason
            regions += [(child, times, holder_reason) for child in module.children()]
            continue
        try:
            if vocabulary.is_site(module):
                raise TraceError("it is itself the norm or activation")
            graph = FlowTracer(names, vocabulary, inline=True).trace(module)
        except Exception as error:
            opaque = [(module, 1, f"cannot be traced ({first_line(error)})")]
        else:
            opaque = _record(flow, graph, model, name, times)
        for hidden, calls, reason in opaque:
            if any(vocabulary.is_site(part) for part in hidden.modules()):
                unseen = flow.unseen[names[hidden]] = f"the forward of {quote(names[hidden])} {reason}"
                regions += [(child, times * calls, unseen) for child in hidden.children()]
    return flow


def scratch_copy(model: nn.Module) -> nn.Module:
    """A copy to trace: shares the parameters; modules, buffers and attributes are its own."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def quote(name: str) -> str:
    """A module's name in the words of a reason."""
    return f"`{name}`" if name else "the model"


def _record(
    flow: Flow, graph: fx.Graph, model: nn.Module, region: str, times: int
) -> list[tuple[nn.Module, int, str]]:
    """Enter one region's graph into the flow; returns its opaque modules, their calls, and reasons."""
    opaque: dict[str, list[str]] = {}
    for node in graph.nodes:
        frame: Frame = node.meta["frame"]
        runs = flow.frames.setdefault(frame.scope, [])
        if frame not in runs:
            runs.append(frame)
        if "activation" in node.meta:
            flow.activations.append(node)
        if node.op == "get_attr":
            owner = _join(region, str(node.target).rpartition(".")[0])
            flow.read.add(flow.names[model.get_submodule(owner)])
        elif node.op == "call_module":
            name = node.meta["module"]
            flow.calls.setdefault(name, []).extend([node] * times)
            if "opaque" in node.meta:
                opaque.setdefault(name, []).append(node.meta["opaque"])
    return [(model.get_submodule(name), len(reasons), reasons[0]) for name, reasons in opaque.items()]


def _has_no_forward(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
