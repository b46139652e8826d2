"""The built-in screening gates: static, numeric, gradient. (Duplicates need memory: see ``screening``.)"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from primordium.evaluators.gate import Subject
from primordium.kernels.numpy_backend import Dual, NumpyOps, run_dual
from primordium.primitives.domain import get_domain

HALF_MAX = 65504.0
"""The largest finite float16."""


@dataclass(frozen=True)
class Static:
    """Kills what is no function of the whole input: constant, or not varying over every axis of it.

    Attributes:
        max_nodes: cost bound: the most live operation nodes after canonicalization.
    """

    max_nodes: int = 24
    name: ClassVar[str] = "static"
    rank: ClassVar[int] = 0

    def check(self, subject: Subject) -> str | None:
        """See :class:`Static`."""
        done = subject.rewritten
        rewriter, output = done.rewriter, dict(done.outputs)["y"]
        node = rewriter.nodes[output]
        if node.op == "const":
            return "constant"
        if node.op == "input":
            return "identity"
        whole = next(iter(get_domain(subject.genome.domain).inputs.values()))
        if rewriter.axes[output] != whole:
            return "not a function of every position"
        if (
            len(rewriter.nodes) > self.max_nodes
            and sum(bool(n.args) for n in subject.graph.nodes) > self.max_nodes
        ):
            return "too many operations"
        return None


@dataclass(frozen=True)
class Numeric:
    """Kills what is not finite: on probes at three scales, on 1×1 maps with batch one, in half precision.

    Attributes:
        largest: the largest magnitude that an output may reach on the probes (float16's own limit).
    """

    largest: float = HALF_MAX
    name: ClassVar[str] = "numeric"
    rank: ClassVar[int] = 20

    def check(self, subject: Subject) -> str | None:
        """See :class:`Numeric`."""
        behaviour = subject.behaviour
        if behaviour is None:
            return "not finite"
        if behaviour.outputs > self.largest:
            return "overflows half precision"
        ops, leaves = _edges(subject.graph.domain)
        params = {p.name: (np.float64(p.init), None) for p in subject.graph.params}
        with np.errstate(all="ignore"):
            y, dy = run_dual(subject.graph, ops, {**leaves, **params})["y"]
            worst = np.abs(y).max() + (0.0 if dy is None else np.abs(dy).max())
        return None if worst < math.inf else "not finite at the edges"


@lru_cache(maxsize=8)
def _edges(domain: str) -> tuple[NumpyOps, dict[str, Dual]]:
    """A batch of one on 1×1 maps: ordinary values, zeros, and values of scale 30."""
    random = np.random.default_rng(0xED6E)
    shape = tuple(2 if axis in "Gc" else 1 for axis in get_domain(domain).axes)
    x = random.normal(size=(3, *shape)) * np.array([1.0, 0.0, 30.0]).reshape(3, *(1 for _ in shape))
    return NumpyOps(get_domain(domain), shape), {"x": (x, random.normal(size=x.shape))}


@dataclass(frozen=True)
class Gradient:
    """Kills what passes no gradient to its input, or too much.

    Attributes:
        least, most: bounds of the largest directional derivative on the probes.
    """

    least: float = 1e-7
    most: float = 1e7
    name: ClassVar[str] = "gradient"
    rank: ClassVar[int] = 30

    def check(self, subject: Subject) -> str | None:
        """See :class:`Gradient`."""
        behaviour = subject.behaviour
        if behaviour is None:
            return "not finite"
        if behaviour.gradients < self.least:
            return "no gradient"
        return "exploding gradient" if behaviour.gradients > self.most else None
