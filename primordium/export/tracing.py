"""Tracing one module's forward with `torch.fx`, down to its norms and activations, losing nothing silently.

What a graph could not say (control flow on data or on the training mode, a change of the gradient mode, a
random draw on the host) ends the trace of the module that does it, and of no other.
"""

import inspect
import operator
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument
from torch.fx.proxy import TraceError

Activation = type[nn.Module] | Callable[..., Tensor] | str
"""A module class, a function such as `F.relu`, or the name of a `Tensor` method such as `"relu"`."""

CHANNEL_LAST: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.RMSNorm)
"""Norms over the last dimension: always seen, replaced only on request."""


class Vocabulary:
    """What counts as a norm and what as an activation."""

    def __init__(self, norms: tuple[type[nn.Module], ...], activations: tuple[Activation, ...]) -> None:
        self.norms = norms
        self._modules = tuple(a for a in activations if isinstance(a, type))
        self._methods = frozenset(a for a in activations if isinstance(a, str))
        self._functions = frozenset(a for a in activations if not isinstance(a, type | str))
        self._wrappers: set[nn.Module] = set()

    def is_norm(self, module: nn.Module) -> bool:
        """Whether the module is a norm, wanted or channel-last."""
        return isinstance(module, (*self.norms, *CHANNEL_LAST))

    def is_activation(self, module: nn.Module) -> bool:
        """Whether the module is an activation, or was found to do nothing but call one."""
        return isinstance(module, self._modules) or module in self._wrappers

    def is_site(self, module: nn.Module) -> bool:
        """Whether the module is a norm or an activation."""
        return self.is_norm(module) or self.is_activation(module)

    def add_wrapper(self, module: nn.Module) -> None:
        """Remember a module whose whole forward is one activation."""
        self._wrappers.add(module)

    def activation(self, node: fx.Node, module: nn.Module | None) -> str | None:
        """The name of the activation that a node calls, `None` where it calls none."""
        if module is not None:
            return type(module).__name__ if self.is_activation(module) else None
        if node.op == "call_method":
            return str(node.target) if node.target in self._methods else None
        if node.op == "call_function" and node.target in self._functions:
            return function_name(node)
        return None


@dataclass(eq=False)
class Frame:
    """One run of a module's forward: the module's name, and what the forward itself calls, in order.

    A call is a kind of node (`"call_module"`, `"call_function"`, `"call_method"`) with its target. Taking an
    item or an attribute is none: a submodule that is traced into returns a tuple, one that is not a proxy.
    """

    scope: str
    calls: list[tuple[str, Any]] = field(default_factory=list)


def in_place(operation: str, x: Any, y: Any) -> Any:
    """`x += y` where `operation` is `"iadd"`, and so on for the other in-place operators."""
    return getattr(operator, operation)(x, y)


class InPlaceProxy(fx.Proxy):
    """Records `x += y` as the mutation that it is on tensors, where fx would record `x = x + y`."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place("iadd", other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place("isub", other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place("imul", other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place("itruediv", other)

    def _in_place(self, operation: str, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", in_place, (operation, self, other), {})


class ExactTracer(fx.Tracer):
    """A tracer that neither loses mutations nor folds buffers into constants."""

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The proxy of a node, with in-place operators."""
        return InPlaceProxy(node, self)


class FlowTracer(ExactTracer):
    """Records the calls of norms and activations, with the forward that makes them.

    `inline=True` traces into every module that is neither a norm, an activation nor of `torch.nn`;
    `inline=False` records every module as one call. Arguments that have a default take it, the first one
    and, with `given=True`, all of them excepted.

    Nodes carry `meta["frame"]`, and where they apply `meta["module"]` (the name of the called module),
    `meta["identity"]` (whether it is an `nn.Identity`), `meta["activation"]` (its name), `meta["ordinal"]`
    (its place among the frame's calls), `meta["opaque"]` (why a module was not traced into).
    """

    def __init__(
        self, names: Mapping[nn.Module, str], vocabulary: Vocabulary, *, inline: bool, given: bool = False
    ) -> None:
        super().__init__()
        self._names = names
        self._vocabulary = vocabulary
        self._inline = inline
        self._given = given
        self._frames: list[Frame] = []
        self._modes = _modes()

    def trace(
        self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None
    ) -> fx.Graph:
        """The graph of one module's forward.

        Raises whatever the forward raises on proxies; `TraceError` where a graph could not say what it does.
        """
        assert isinstance(root, nn.Module)
        if "forward" in vars(root):
            raise TraceError("its forward was replaced on the instance")
        self._frames = [Frame(self._names[root])]
        modes = {module: module.training for module in root.modules()}
        try:
            for module in modes:
                vars(module)["training"] = _Unreadable()
            with warnings.catch_warnings(), _no_draws():
                warnings.simplefilter("ignore")
                graph = super().trace(root, concrete_args)
        finally:
            for module, mode in modes.items():
                vars(module)["training"] = mode
        return graph

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Norms, activations and the modules of `torch.nn` are not traced into."""
        leaf = self._vocabulary.is_site(m) or super().is_leaf_module(m, module_qualified_name)
        return leaf or not self._inline

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Proxies for the arguments, defaults where there are any, and a proxy for the training mode."""
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        if not self._given:
            analysed = inspect.unwrap(root_fn)
            parameters = inspect.signature(analysed).parameters
            code = analysed.__code__
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            for position, name in enumerate(names[2:], start=2):
                if parameters[name].default is not inspect.Parameter.empty:
                    args[position] = parameters[name].default
        self._proxy_mode(self.root)
        return function, args

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One node for a leaf; otherwise the module's own trace, or an opaque node where that fails."""
        try:
            path = self.path_of_module(m)
        except NameError:  # a module made inside a forward: it has no name to be called by
            return forward(*args, **kwargs)
        self._frames[-1].calls.append(("call_module", self._names[m]))
        if self.is_leaf_module(m, path):
            if not self._inline and any(isinstance(a, list | dict | set) for a in (*args, *kwargs.values())):
                raise TraceError("it hands a submodule a container, which that may change")
            return self.create_proxy("call_module", path, args, kwargs)
        mark = next(iter(reversed(self.graph.nodes)))
        reason: str | None = None
        self._frames.append(Frame(self._names[m]))
        try:
            with _no_draws():
                self._proxy_mode(m)
                output = forward(*args, **kwargs)
        except Exception as error:
            self._erase_after(mark)
            reason = f"cannot be traced ({first_line(error)})"
        finally:
            self._frames.pop()
        if reason is not None:
            opaque = self.create_proxy("call_module", path, args, kwargs)
            opaque.node.meta["opaque"] = reason
            return opaque
        if not self._is_wrapper(m, mark, args, output):
            return output
        self._erase_after(mark)
        self._vocabulary.add_wrapper(m)
        return self.create_proxy("call_module", path, args, kwargs)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A node with the notes that the class docstring lists."""
        if _modes() != self._modes:
            raise TraceError("it switches the gradient or autocast mode")
        node = super().create_node(kind, target, *args, **kwargs)
        frame = node.meta["frame"] = self._frames[-1]
        module = self.root.get_submodule(target) if kind == "call_module" else None
        if module is not None:
            node.meta["module"] = self._names[module]
            node.meta["identity"] = isinstance(module, nn.Identity)
            if next(module.children(), None) is not None and not self._vocabulary.is_site(module):
                node.meta["opaque"] = "is not traced into"
        elif kind in ("call_function", "call_method") and target not in _NOT_CALLS:
            frame.calls.append((kind, target))
        activation = self._vocabulary.activation(node, module)
        if activation is not None:
            node.meta.update(activation=activation, ordinal=len(frame.calls) - 1)
        return node

    def _proxy_mode(self, module: nn.Module) -> None:
        """Make `module.training` a proxy: what depends on it must not be frozen into the graph."""
        vars(module)["training"] = self.create_proxy("call_function", training_mode, (), {})

    def _erase_after(self, mark: fx.Node) -> None:
        """Forget a module's trace. Reads of tensors stay: the tracer hands the same node out again."""
        for node in reversed(list(_nodes_after(self.graph, mark))):
            if node.op != "get_attr":
                self.graph.erase_node(node)

    def _is_wrapper(self, module: nn.Module, mark: fx.Node, args: tuple[Any, ...], output: Any) -> bool:
        """Whether the nodes after `mark` are one activation of the only argument of a stateless module."""
        nodes = [node for node in _nodes_after(self.graph, mark) if node.target is not training_mode]
        if len(nodes) != 1 or "activation" not in nodes[0].meta or len(args) != 1 or _has_state(module):
            return False
        given, returned = (value.node if isinstance(value, fx.Proxy) else None for value in (args[0], output))
        return returned is nodes[0] and nodes[0].all_input_nodes == [given]


def training_mode() -> bool:
    """Stands in a graph for the traced module's `training` flag."""
    raise AssertionError("a graph with this node is not run")


_NOT_CALLS = (training_mode, getattr, operator.getitem)


def function_name(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return str(node.args[0] if node.target is in_place else getattr(node.target, "__name__", node.target))


def first_line(error: BaseException) -> str:
    """The first line of an error, for a reason that fits in a table."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120].rstrip(". ")


def _has_state(module: nn.Module) -> bool:
    return next(chain(module.parameters(), module.buffers()), None) is not None


def _nodes_after(graph: fx.Graph, mark: fx.Node) -> Iterator[fx.Node]:
    node = mark.next
    while node.op != "root":
        yield node
        node = node.next


def _modes() -> tuple[bool, ...]:
    """The modes that fx does not record: a graph would lose a `with torch.no_grad()` silently."""
    autocast = (torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)


@contextmanager
def _no_draws() -> Iterator[None]:
    """Restore the random generators, and refuse what drew from them: a graph would freeze the draw."""
    python, cpu = random.getstate(), torch.get_rng_state()
    try:
        yield
        if random.getstate() != python or not torch.equal(torch.get_rng_state(), cpu):
            raise TraceError("it draws random numbers on the host")
    finally:
        random.setstate(python)
        torch.set_rng_state(cpu)


class _Unreadable:
    """The training flag of a module while a forward other than its own is traced."""

    def __bool__(self) -> bool:
        raise TraceError("it reads the training mode of a submodule")

    def __fx_create_arg__(self, tracer: fx.Tracer) -> Argument:
        """What fx calls to put the flag into a graph."""
        return bool(self)
