"""Fingerprints by the machine: values and derivatives of a graph on all probes, in one call.

Every node is a few numbers that do not depend on the rest of the graph, so most are found in a table, and a
graph that is run only once costs little more than its arithmetic.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from struct import Struct
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from primordium.kernels.tape.values import (
    ALL,
    ELEMENTWISE,
    STATISTICS,
    Unsupported,
    elementwise_operation,
    index_set_and_eps,
)
from primordium.primitives.graph import Graph, Node

try:
    from primordium.kernels.tape import _tape
except ImportError:  # installed where there was no compiler
    _tape = None  # type: ignore[assignment]  # asked for before each use

Array: TypeAlias = npt.NDArray[np.float64]

# As in probing.h.
_INPUT, _LEAF, _CONSTANT, _SIZE, _SAME, _WITHOUT_SLOPE, _SURROGATE = range(-1, -8, -1)
_NODE = Struct("=6id")


class Piece(NamedTuple):
    """A probe.

    Attributes:
        x: points, of shape [copies, B, G, c, S]; copies share no statistic.
        dx: the direction of the derivative at each.
        weights: of the projections, [B·G·c·S, projections]; ``None`` for the last piece, the edges, where all
            that counts is whether values are finite.
    """

    x: Array
    dx: Array
    weights: Array | None


class Rounding(NamedTuple):
    """How features are rounded: steps to one, steps to a factor of two in size, and the least size."""

    steps: float
    log_steps: float
    negligible: float


class Measured(NamedTuple):
    """What a graph does on the probes.

    Attributes:
        rounded: the features in whole steps, int32.
        outputs: the largest magnitude of the output over all pieces but the last.
        gradients: the largest magnitude of the derivative.
        finite_at_edges: whether values and derivatives of the last piece are finite.
        features: of every piece and copy, values then derivatives: projections, all of them first, and the
            logarithms of root mean squares.
    """

    rounded: bytes
    outputs: float
    gradients: float
    finite_at_edges: bool
    features: Array


class Probes:
    """Points, directions and weights as the machine takes them.

    Args:
        pieces: the probes, the edges last.
        rounding: how features are rounded.
    """

    def __init__(self, pieces: Sequence[Piece], rounding: Rounding) -> None:
        weights = [piece.weights for piece in pieces if piece.weights is not None]
        rows = 2 * sum(piece.x.shape[0] for piece in pieces[:-1])
        self._features = rows * (weights[0].shape[1] + 1)
        self._pieces = np.array([piece.x.shape for piece in pieces], np.int32)
        points = [*(piece.x.ravel() for piece in pieces), *(piece.dx.ravel() for piece in pieces)]
        self._points = np.concatenate(points)
        self._weights = np.concatenate([w.T.ravel() for w in weights])
        self._rounding = rounding

    def measure(self, code: bytes, output: int, leaves: tuple[Array, ...], affine: bool) -> Measured | None:
        """Run the nodes of :func:`encoded`; ``None`` where not all is finite on the probes.

        Args:
            code: the nodes.
            output: the place of the output among them.
            leaves: a value for every point for each parameter, in the order of the nodes.
            affine: sizes count relative to the largest of the first piece's outputs.
        """
        features = np.empty(self._features)
        found = _tape.fingerprint(
            code, output, leaves, self._pieces, self._points, self._weights, features, affine, *self._rounding
        )
        return None if found is None else Measured(*found, features)


@cache
def _numbers() -> dict[str, int]:
    return {name: number for number, name in enumerate(_tape.OPERATIONS)}


def encoded(graph: Graph) -> bytes | None:
    """The nodes of a canonical graph for the machine; ``None`` where it is not there or does not know one."""
    if _tape is None:
        return None
    try:
        return b"".join([_encoded(node) for node in graph.nodes])
    except Unsupported:
        return None


@lru_cache(maxsize=65_536)
def _encoded(node: Node) -> bytes:
    op, args, attrs = node
    if op in ELEMENTWISE:
        name, constant = elementwise_operation(op, attrs)
        return _packed(_numbers()[name], args, constant or 0.0)
    if op in STATISTICS or op == "size":
        over, eps = index_set_and_eps(attrs)
        if over & ~ALL:
            raise Unsupported(op)
        return _packed(_numbers()[op] if args else _SIZE, args, eps, over)
    if op == "const":
        return _packed(_CONSTANT, (), float(attrs[0][1]))
    if op == "input" and attrs == (("name", "x"),):
        return _packed(_INPUT, ())
    if op == "param":
        return _packed(_LEAF, ())
    if op in _PASSED_ON:
        return _packed(_PASSED_ON[op], args)
    raise Unsupported(op)


_PASSED_ON = {"running": _SAME, "detach": _WITHOUT_SLOPE, "surrogate": _SURROGATE}


def _packed(operation: int, args: tuple[int, ...], constant: float = 0.0, over: int = 0) -> bytes:
    a, b, c = (*args, 0, 0, 0)[:3]
    return _NODE.pack(operation, a, b, c, over, 0, constant)
