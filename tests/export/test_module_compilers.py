"""Written files under torch.compile, torch.export and the ONNX exporter."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping

import onnxruntime
import pytest
import torch
from torch import nn

from primordium.export.module_class import class_name
from primordium.export.module_file import Provenance, write_module
from primordium.primitives.text import parse

TEXTS: Mapping[str, str] = {
    "EvoNormS0": "layer[affine](v1: C = 1): x * sigmoid(v1 * x) / std(x, over=group)",
    "BNReLU": "layer(weight: C = 1, bias: C = 0): m = running(mean(x, over=batch)); "
    "v = running(var(x, over=batch), init=1, correction=1); "
    "n = weight * ((x - m) / sqrt(v + 1e-5, eps=0)) + bias; no_act = n; relu(n)",
    "Swish": "activation(beta: C = 1): x * sigmoid(beta * x) + softplus(x)",
    "Ranks": "layer: top(relu(x), axis=C, k=2) + sort(x, axis=S, descending=False) * cummax(x, axis=C) "
    "- surrogate(sign(x), tanh(x)) * cumsum(where(greater(x, 0), x, sinc(x)), axis=C) / 9 + index(axis=S)",
}
DYNAMIC = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")},)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, type[nn.Module]]:
    """The class of each graph, from its file."""
    found = {}
    for title, text in TEXTS.items():
        graph, path = parse(text), tmp_path_factory.mktemp("written") / f"compiled_{title}.py"
        write_module(graph, Provenance(title, text), path)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[title] = getattr(module, class_name(title, graph.domain))
    return found


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def sample(*shape: int) -> torch.Tensor:
    """A batch that is the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("title", TEXTS)
def test_compile_takes_the_whole_graph(layers: Mapping[str, type[nn.Module]], title: str) -> None:
    """A graph break, or a running statistic that the compiled layer does not move."""
    plain, layer = layers[title](6), layers[title](6)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for training in (True, False):
        plain.train(training)
        layer.train(training)
        x, y = sample(4, 6, 5, 3).requires_grad_(), sample(4, 6, 5, 3).requires_grad_()
        expected, found = plain(x), compiled(y)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(out.square().sum(), leaf) for out, leaf in ((found, y), (expected, x)))
        )
        torch.testing.assert_close(layer.state_dict(), plain.state_dict())


@pytest.mark.parametrize("title", TEXTS)
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_dynamic_sizes(layers: Mapping[str, type[nn.Module]], title: str, strict: bool) -> None:
    """A size of the example that is baked into the exported program."""
    layer = layers[title](6).eval()
    program = torch.export.export(layer, (sample(4, 6, 5, 3),), dynamic_shapes=DYNAMIC, strict=strict)
    x = sample(2, 6, 4, 7)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", TEXTS)
def test_onnx_gives_the_same_values(layers: Mapping[str, type[nn.Module]], title: str) -> None:
    """An operator without an ONNX form, ties sorted another way, or fixed sizes."""
    layer = layers[title](6).eval()
    program = torch.onnx.export(
        layer, (sample(4, 6, 5, 3),), dynamo=True, opset_version=18, dynamic_shapes=DYNAMIC, verbose=False
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    x = sample(2, 6, 4, 7).round(decimals=1)  # ties
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), layer(x).detach(), rtol=1e-4, atol=1e-4)
