"""The body of a written formula: short, in one piece for training and evaluation, and in a simple layout."""

import pytest
import torch

from primordium.errors import GraphError
from primordium.export.straight_line import choose_layout, merged, straight_line
from primordium.primitives import axes as ax
from primordium.primitives.builder import trace
from primordium.primitives.graph import Param
from primordium.primitives.text import parse


def lines(text: str) -> list[str]:
    """The statements of a graph."""
    return list(straight_line(parse(text)).lines)


def test_only_what_feeds_an_average_is_of_training_alone() -> None:
    """A split of the whole formula, or a batch statistic that evaluation takes too."""
    assert lines(
        "layer[affine](v1: C = 1): s = sqrt(running(var(x * x, over=batch), init=1) + 1e-5, eps=0); "
        "x / max(s, v1 * x + std(x, over=instance))"
    ) == [
        "v1 = self._per_channel(self.v1, x)",
        "gamma = self._per_channel(self.gamma, x)",
        "beta = self._per_channel(self.beta, x)",
        "if self.training:",
        "    t1 = torch.var(x * x, (0, 2), correction=0, keepdim=True)",
        "    self._update(self.running_0, t1, 0.9)",
        "else:",
        "    t1 = self._per_channel(self.running_0, x)",
        "if not self.apply_act:",
        "    return gamma * x + beta",
        "t2 = v1 * x + torch.sqrt(torch.var(x, (2,), correction=0, keepdim=True) + 1e-05)",
        "return gamma * (x / torch.maximum(torch.sqrt(t1 + 1e-05), t2)) + beta",
    ]


def test_what_training_and_evaluation_share_is_written_once() -> None:
    """A value that feeds both an average and the output, and an average of an average's value."""
    assert lines(
        "layer: a = tanh(x); m = running(mean(a, over=batch)); "
        "b = sigmoid(a - m); n = running(var(b, over=batch), correction=1, decay=0.5); b / n"
    ) == [
        "t1 = torch.tanh(x)",
        "if self.training:",
        "    t2 = torch.mean(t1, (0, 2), keepdim=True)",
        "    self._update(self.running_0, t2, 0.9)",
        "else:",
        "    t2 = self._per_channel(self.running_0, x)",
        "t3 = torch.sigmoid(t1 - t2)",
        "if self.training:",
        "    t4 = torch.var(t3, (0, 2), correction=0, keepdim=True)",
        "    self._update(self.running_1, t4, 0.5, x.shape[0] * x.shape[2], 1.0)",
        "else:",
        "    t4 = self._per_channel(self.running_1, x)",
        "return t3 / t4",
    ]


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("activation(a: C = 1): surrogate(sign(a * x), x)", "given"),
        ("layer: tanh(x)", "given"),
        ("layer: x / std(x, over=layer)", "channels"),
        ("layer: x / size(over=instance)", "channels"),
        ("layer: sort(x, axis=C)", "channels"),
        ("layer: x / std(x, over=group)", "groups"),
        ("layer: x - mean(mean(x, over=group), over='{G}')", "groups"),
        ("layer: x + cumsum(x, axis=c)", "groups"),
    ],
)
def test_the_layout_is_the_simplest_that_does(text: str, layout: str) -> None:
    """Channels split into groups, or positions flattened, for nothing."""
    assert choose_layout(merged(parse(text))) == layout
    assert straight_line(parse(text)).layout == layout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("activation: 1 / (1 + exp(-x))", "return 1.0 / (1.0 + torch.exp(-x))"),
        ("activation: x - (x - -2)", "return x - (x - -2.0)"),
        ("activation: where(greater(x, 0), x, 0)", "return torch.where(torch.gt(x, 0.0), x, 0.0)"),
        (
            "activation: where(greater(x, 0) * equal(x, 1), x, 0)",
            "t1 = torch.gt(x, 0.0).to(x.dtype) * torch.eq(x, 1.0).to(x.dtype)\n"
            "return torch.where(torch.ne(t1, 0.0), x, 0.0)",
        ),
        ("activation: 3", "return x.new_full((), 3.0).expand_as(x)"),
        ("layer: mean(x, over=batch)", "return torch.mean(x, (0, 2), keepdim=True).expand_as(x)"),
        ("activation: max(x, 1)", "return torch.maximum(x, x.new_full((), 1.0))"),
        ("activation: x", "return x"),
        (
            "layer: no_act = tanh(x); tanh(x)",
            "if not self.apply_act:\n    return torch.tanh(x)\nreturn torch.tanh(x)",
        ),
        ("layer: t = 2 * x; no_act = t; t", "return 2.0 * x"),
    ],
)
def test_expressions_read_like_the_formula(text: str, expected: str) -> None:
    """Lost parentheses, tensors where numbers do, an output smaller than the input."""
    assert "\n".join(lines(text)) == expected


def test_long_expressions_are_broken_into_statements() -> None:
    """Lines that nobody reads: fifty nested calls."""
    depth = 50
    found = lines(f"activation: {'tanh(x * ' * depth}x{')' * depth}")
    assert 2 < len(found) < depth
    assert max(map(len, found)) <= 90
    x = torch.linspace(-2.0, 2.0, 5)
    expected = x
    for _ in range(depth):
        expected = torch.tanh(x * expected)
    body = "\n".join(f"    {line}" for line in found)
    namespace: dict[str, object] = {"torch": torch}
    exec(f"def formula(x):\n{body}\nresult = formula(x)", namespace | {"x": x}, namespace)
    torch.testing.assert_close(namespace["result"], expected)


def test_parameters_keep_clear_of_what_the_body_calls() -> None:
    """A parameter named as a module or a function that the body needs, or as a value that it makes."""
    graph = trace(
        lambda x, torch, t1, F, o: o.softplus(torch * x) * o.sort(t1 * x, axis="C") + F,
        "layer",
        params={"torch": 1.0, "t1": Param("", ax.NONE, 2.0), "F": 0.5},
    )
    found = straight_line(graph).lines
    assert "torch_ = self._per_channel(self.torch, x)" in found
    assert "F_ = self._per_channel(self.F, x)" in found
    assert "t1 = self.t1.to(x.dtype)" in found
    assert sum(line.startswith("t1 =") for line in found) == 1


@pytest.mark.parametrize("name", ["forward", "training", "formula", "_update", "lambda", "half"])
def test_names_that_no_module_can_have_are_refused(name: str) -> None:
    """A class that does not compile or whose methods are hidden by a parameter."""
    graph = trace(lambda x, a: x * a[0], "activation", params={"a": (Param("", ax.C, 1.0),)})
    renamed = graph.params[0]._replace(name=name)
    nodes = tuple(
        node._replace(attrs=(("name", name),)) if node.op == "param" else node for node in graph.nodes
    )
    with pytest.raises(GraphError, match=name):
        straight_line(type(graph)(graph.domain, nodes, graph.outputs, (renamed,)))
