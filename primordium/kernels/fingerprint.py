"""Identity by behaviour: a tolerant fingerprint of outputs and input gradients on fixed probes.

Two shapes, three input scales each. Of every (shape, scale) block the output, and its derivative along a
fixed random direction of the input, are projected on a few fixed random vectors; projections are taken
relative to the block's size and rounded coarsely, in float64. Few coarse projections of many values are what
makes the fingerprint tolerant: rounding errors of 1e-12 move none of them, and functions that differ visibly
move many. Where an affine follows, a positive factor of the whole function is taken out.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np

from primordium.kernels.numpy_backend import Array, Dual, NumpyOps, run_dual
from primordium.primitives import axes as ax
from primordium.primitives.graph import Graph, Param
from primordium.primitives.identity import inline_derived
from primordium.primitives.passes import canonicalize

SHAPES: tuple[tuple[int, ...], ...] = ((3, 2, 2, 4), (2, 3, 2, 5))
"""Batch, groups, channels in a group, positions: chosen so that every index set differs from every other."""
SCALES = (0.25, 1.0, 4.0)
PROJECTIONS = 6
STEPS = 256
LOG_STEPS = 64
NEGLIGIBLE = 1e-11


@dataclass(frozen=True)
class Fingerprint:
    """What a function does on the probes.

    Attributes:
        digest: 16 bytes, equal for functions that behave alike.
        features: the numbers behind it, for distances to known methods.
        outputs: largest magnitude of the output over all probes.
        gradients: largest magnitude of the directional derivative over all probes.
    """

    digest: bytes
    features: Array
    outputs: float
    gradients: float


class _Probe:
    def __init__(self, domain: Any, shape: tuple[int, ...], seed: int) -> None:
        random = np.random.default_rng([0x5EED, seed])
        self.ops = NumpyOps(domain, shape)
        self.full = (len(SCALES), *shape)
        spread = random.uniform(0.5, 1.5, (1, shape[1], shape[2], 1))
        shift = random.normal(0.0, 0.4, (1, shape[1], shape[2], 1))
        scales = np.array(SCALES).reshape(-1, 1, 1, 1, 1)
        self.x = (random.normal(size=shape) * spread + shift) * scales
        self.dx = random.normal(size=(1, *shape)) * scales
        count = math.prod(shape)
        self.weights = random.normal(size=(count, PROJECTIONS)) / math.sqrt(count)
        self._random = random
        self.params = {
            axes: [random.normal(size=(1, *self._sizes(axes))) for _ in range(8)] for axes in (ax.NONE, ax.C)
        }
        self.shape = shape

    def _sizes(self, axes: int) -> tuple[int, ...]:
        return tuple(
            n if axes & ax.BIT[name] else 1
            for n, name in zip(self.ops.shape, self.ops.domain.axes, strict=True)
        )

    def param(self, param: Param, rank: int) -> Array:
        """A parameter's probe: its start and a spread around it."""
        known = self.params.setdefault(param.axes, [])
        while len(known) <= rank:
            known.append(
                np.random.default_rng([param.axes, len(known)]).normal(size=(1, *self._sizes(param.axes)))
            )
        return param.init + 0.3 * known[rank]


@lru_cache(maxsize=8)
def _probes(domain: str) -> tuple[_Probe, ...]:
    from primordium.primitives.domain import get_domain

    return tuple(_Probe(get_domain(domain), shape, seed) for seed, shape in enumerate(SHAPES))


def fingerprint(graph: Graph, *, canonical: bool = False) -> Fingerprint | None:
    """The behaviour of a layer or an activation in training; ``None`` where it is not finite.

    Args:
        graph: what is probed.
        canonical: it is in canonical form already.
    """
    graph = inline_derived(graph)
    if not canonical:
        graph = canonicalize(graph)
    blocks = []
    with np.errstate(all="ignore"):
        for probe in _probes(graph.domain):
            leaves: dict[str, Dual] = {"x": (probe.x, probe.dx)}
            ranks: dict[tuple[int, float], int] = {}
            for param in _by_first_use(graph):
                rank = ranks[param.axes, param.init] = ranks.get((param.axes, param.init), -1) + 1
                leaves[param.name] = (probe.param(param, rank), None)
            block = _block(run_dual(graph, probe.ops, leaves)["y"], probe)
            if block is None:
                return None
            blocks.append(block)
    return _combine(blocks, graph.affine)


def _by_first_use(graph: Graph) -> list[Param]:
    """Live parameters; those declared alike have their probes by order of use, whatever their names."""
    if len(graph.params) < 2:
        return list(graph.params)
    declared = {param.name: param for param in graph.params}
    return [declared[str(graph.nodes[i].attrs[0][1])] for i in graph.live if graph.nodes[i].op == "param"]


Block: TypeAlias = tuple[Array, Array, Array]
"""Of outputs and derivatives at each scale: projections, root mean squares, largest magnitudes."""


def _block(dual: Dual, probe: _Probe) -> Block | None:
    """What one probe says; ``None`` where it is not finite."""
    both = np.zeros((2, *probe.full))
    both[0] = dual[0]
    if dual[1] is not None:
        both[1] = dual[1]
    flat = both.reshape(2 * len(SCALES), -1)
    sizes = np.sqrt(np.einsum("ij,ij->i", flat, flat) / flat.shape[1])
    if not math.isfinite(sizes.sum()):
        return None
    return flat @ probe.weights, sizes, np.abs(flat).max(1)


def _combine(blocks: list[Block], affine: bool) -> Fingerprint:
    projections, sizes, largest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    present = sizes > NEGLIGIBLE
    safe = np.maximum(sizes, NEGLIGIBLE)
    reference = max(float(sizes[: len(SCALES)].max()), NEGLIGIBLE) if affine else 1.0
    relative = (projections / safe[:, None] * present[:, None]).ravel()
    logs = np.where(present, np.log2(safe / reference), -64.0)
    features = np.concatenate([relative, logs])
    digest = blake2b(np.rint(features * _STEPS).astype(np.int32).tobytes(), digest_size=16).digest()
    halves = largest.reshape(len(blocks), 2, len(SCALES)).max((0, 2))
    return Fingerprint(digest, features, float(halves[0]), float(halves[1]))


_ROWS = 2 * len(SCALES) * len(SHAPES)
_STEPS = np.repeat([float(STEPS), float(LOG_STEPS)], [_ROWS * PROJECTIONS, _ROWS])
"""How finely each feature is rounded."""


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """Root mean square difference of the features; 0 for functions that behave alike."""
    return float(np.sqrt(np.mean(np.square(a.features - b.features))))
