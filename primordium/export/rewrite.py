"""Drop some activation calls from one module's forward, by way of `torch.fx`.

Needed where no submodule can be swapped: the call is functional, or the activation module also serves
calls that must stay. The rewritten forward calls the module's children as they are, so only this one
module becomes a `torch.fx.GraphModule`.
"""

import inspect
from collections.abc import Mapping, Sequence, Set
from typing import Any

from torch import fx, nn

from primordium.export.tracing import ExactTracer, FlowTracer, Frame, Vocabulary, first_line, training_mode

_MODE = "_training_mode"
_REGISTRIES = ("_parameters", "_buffers", "_modules")


class RewriteRefused(Exception):
    """A forward that a graph cannot stand for; the message says why."""


class TrainingMode(nn.Module):
    """Returns whether it is in training: what `self.training` becomes in a rewritten forward."""

    def forward(self) -> bool:
        """`True` in training, `False` in evaluation."""
        return self.training


def rewrite_graph(
    module: nn.Module,
    names: Mapping[nn.Module, str],
    vocabulary: Vocabulary,
    frames: Sequence[Frame],
    drop: Set[int],
) -> fx.Graph:
    """The graph of a module's forward without its calls number `drop`, which are activations.

    `frames` are the runs of that forward within the whole model.

    Raises `RewriteRefused` unless the graph does all that the forward does: the same calls as in `frames`
    though every argument is given, nothing stored on the module, the same `state_dict` keys.
    """
    if "isinstance" in inspect.unwrap(type(module).forward).__code__.co_names:
        raise RewriteRefused("it tests types")
    before = _attributes(module)
    try:
        graph = FlowTracer(names, vocabulary, inline=False, given=True).trace(module)
    except Exception as error:
        raise RewriteRefused(f"alone, it cannot be traced ({first_line(error)})") from error
    stored = {name for name, value in _attributes(module).items() if before.get(name) is not value}
    if stored:
        raise RewriteRefused(f"it stores or creates a tensor ({', '.join(sorted(stored))})")
    alone: Frame = next(iter(graph.nodes)).meta["frame"]
    if any(frame.calls != alone.calls for frame in frames):
        raise RewriteRefused("alone, it makes other calls than within the model")
    for node in [node for node in graph.nodes if node.meta.get("ordinal") in drop]:
        node.replace_all_uses_with(node.all_input_nodes[0])
        graph.erase_node(node)
    graph = _portable(graph)
    if rewritten(module, graph).state_dict().keys() != module.state_dict().keys():
        raise RewriteRefused("it leaves parameters or buffers unused, which a rewritten module would lose")
    return graph


def rewritten(module: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """A module with the children and tensors of `module` and the forward of `graph`."""
    if any(node.target == _MODE for node in graph.nodes):
        module.add_module(_MODE, TrainingMode().train(module.training))
    return fx.GraphModule(module, graph, class_name=type(module).__name__)


def _portable(graph: fx.Graph) -> fx.Graph:
    """The graph without the tracer's notes, so that it pickles; the training flag becomes a module."""
    for node in list(graph.nodes):
        node.meta.clear()
        if node.target is training_mode and not node.users:
            graph.erase_node(node)
        elif node.target is training_mode:
            node.op, node.target = "call_module", _MODE
    # the class of tracer that rebuilds the graph when the module is unpickled
    portable = fx.Graph(tracer_cls=ExactTracer)
    portable.output(portable.graph_copy(graph, {}))
    return portable


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Every attribute, parameter, buffer and child of a module, its training flag excepted."""
    attributes = {
        name: value for name, value in vars(module).items() if name not in (*_REGISTRIES, "training")
    }
    for registry in _REGISTRIES:
        attributes.update(vars(module)[registry])
    return attributes
