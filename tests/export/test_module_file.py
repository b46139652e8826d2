"""Files that are written: they need only torch, mean what the graph means, and notice when they no longer do."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from random_graphs import random_graph
from torch import Tensor, nn

from primordium.errors import GraphError, PrimordiumError
from primordium.export.module_class import class_name
from primordium.export.module_file import Provenance, graph_of_file, module_source, write_module
from primordium.kernels.module import GraphModule
from primordium.primitives.graph import Graph
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

TEXTS: Mapping[str, str] = {
    "EvoNorm-S0": "layer[affine](v1: C = 1): x * sigmoid(v1 * x) / std(x, over=group)",
    "EvoNorm-B0": "layer[affine](v1: C = 1): s = sqrt(running(var(x, over=batch), init=1) + 1e-5, eps=0); "
    "x / max(s, v1 * x + std(x, over=instance))",
    "bn_relu": "layer(weight: C = 1, bias: C = 0): m = running(mean(x, over=batch)); "
    "v = running(var(x, over=batch), init=1, correction=1); "
    "y = weight * ((x - m) / sqrt(v + 1e-5, eps=0)) + bias; no_act = y; relu(y)".replace("y =", "n =")
    .replace("= y", "= n")
    .replace("relu(y)", "relu(n)"),
    "FRN+TLU": "layer(weight: C = 1, bias: C = 0, tau: C = 0): "
    "n = weight * (x / rms(x, over=instance, eps=1e-6)) + bias; no_act = n; max(n, tau)",
    "ln channel": "layer[groups=4](weight: C = 1): weight * (x - mean(x, over=channel)) / std(x, over=channel)",
    "SiLU": "activation: x * sigmoid(x)",
    "Swish-β": "activation(beta: C = 1): x * sigmoid(beta * x)",
    "sine": "activation(fixed w0: {} = 3, scale: {} = 1): scale * sin(w0 * x) + softplus(x) * sinc(x)",
    "leaky": "activation: where(greater(x, 0), x, 0.01 * x)",
    "binary": "layer(a: C = 0.5): surrogate(sign(x), tanh(a * x)) * rms(x, over=layer)",
    "winners": "layer: top(x, axis=C, k=2) + sort(x, axis=S) * cummax(x, axis=C) - cumsum(x, axis=C) / 9 + index(axis=S)",
    "2 running": "layer[groups=3](k: {} = 0.5): s = running(mean(x * sigmoid(x), over=batch), decay=0.8); "
    "s + div(log(x), x - running(mean(s, over={c}), init=0.3)) + sqrt(k * x) * running(var(k * x, over={B,C,S}))",
}


@dataclass(frozen=True)
class Written:
    """One graph, its file, and the class in it."""

    graph: Graph
    path: Path
    layer: type[nn.Module]


def load(path: Path) -> ModuleType:
    """The module of a file, under a name of its own."""
    name = "written_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Written]:
    """Every graph of TEXTS as a file."""
    folder = tmp_path_factory.mktemp("written")
    result = {}
    for place, (title, text) in enumerate(TEXTS.items()):
        graph, path = parse(text), folder / f"file_{place}.py"
        write_module(graph, Provenance(title, text, run="quick-17", scores={"digits": "0.97 ± 0.01"}), path)
        result[title] = Written(graph, path, getattr(load(path), class_name(title, graph.domain)))
    return result
