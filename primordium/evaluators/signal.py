"""Signal propagation: what random weights around a function do to the size of values and gradients.

Before any training: the mean-field theory of activations (Poole et al. 2016, arXiv:1606.05340; Schoenholz et
al. 2017, arXiv:1611.01232), the initialization that suits a candidate, and the size of values and tangents
layer by layer through a deep plain net.

Expectations over a normal variable z are sums over 1,024 midpoints from -10 to 10. For smooth functions that
is exact to rounding. A kink costs about 1e-5 of the change of slope; a jump (of the slope of hard tanh, say)
up to 0.004 of its height, nothing where it is at 0; what is narrower than the spacing of 0.02 (the slope of
tanh(1000 x), and all of that of sign) goes unseen. Gauss-Hermite nodes are further apart near 0, and NumPy's
overflow beyond some 300: for the slope of hard tanh at q = 30 they err by 0.01 to 0.1.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from primordium.errors import ConfigError, GraphError
from primordium.kernels.numpy_backend import Array, Dual, NumpyOps, run_dual
from primordium.plugins.methods import method
from primordium.primitives.domain import get_domain
from primordium.primitives.graph import Graph
from primordium.primitives.identity import inline_derived

_NODES, _REACH = 1024, 10.0
_LEAST_GAIN, _MOST_GAIN = 0.1, 10.0
_SAMPLE = {"B": 16, "G": 4, "c": 4, "S": 16}
_BATCH = {"B": 8, "G": 4, "c": 4, "S": 16}
_VARIANCES = np.geomspace(1e-4, 1e2, 121)
"""Where fixed points at the edge of chaos are looked for."""
_BISECTIONS = 50


class Edge(NamedTuple):
    """A point at the edge of chaos.

    Attributes:
        weight_variance: fan-in times the variance of the weights.
        q: second moment of the pre-activations, a fixed point of the variance map.
    """

    weight_variance: float
    q: float


class Gains(NamedTuple):
    """The size of signals behind each layer of a deep net; both are 1 in front of the first.

    Attributes:
        moments: second moments of the layers' outputs, times the squared gain of the weights that follow.
        tangents: mean squared tangents there, along a random direction of the input: the mean over
            directions is the squared Frobenius norm of the Jacobian, so it is the growth of gradients too.
    """

    moments: Array
    tangents: Array

    @property
    def growth(self) -> tuple[float, float]:
        """The factor a layer of moments and of tangents: geometric means over the depth."""
        depth = len(self.moments)
        return float(self.moments[-1]) ** (1.0 / depth), float(self.tangents[-1]) ** (1.0 / depth)


class PlainNet(NamedTuple):
    """What a plain net has besides its layers: inputs, a direction, and the mixing in front of each layer.

    Attributes:
        ops: the NumPy back end of its shape.
        x, dx: inputs and a direction, each ``[1, B, G, c, S]``, standard normal.
        mixings: ``[depth, C, C]``, normal of variance 1/C.
    """

    ops: NumpyOps
    x: Array
    dx: Array
    mixings: Array


def variance_map(
    graph: Graph, q: npt.ArrayLike, weight_variance: float = 1.0, bias_variance: float = 0.0
) -> Array:
    """The second moment of the next layer's pre-activations from that of this one's (Poole et al. 2016).

    That is σ_w²·E[f(√q·z)²] + σ_b² of a standard normal z, with parameters at their initial values.

    Args:
        graph: an activation f.
        q: second moments, of any shape.
        weight_variance: σ_w², fan-in times the variance of the weights.
        bias_variance: σ_b².

    Raises:
        GraphError: the graph is no activation, or ``q`` is negative.
    """
    return weight_variance * _moments(graph, q)[0] + bias_variance


def slope(graph: Graph, q: npt.ArrayLike, weight_variance: float = 1.0) -> Array:
    """How much a layer multiplies squared gradients: χ = σ_w²·E[f'(√q·z)²] (Schoenholz et al. 2017).

    Above 1 nearby inputs part and gradients explode with depth (chaos), below 1 they vanish (order).
    Arguments and errors are those of :func:`variance_map`.
    """
    return weight_variance * _moments(graph, q)[1]


def edge_of_chaos(graph: Graph, bias_variance: float = 0.0) -> Edge | None:
    """The weight variance at which gradients keep their size at the fixed point of the variance map.

    That is V(q) = q with χ(q) = 1, where V does not lead away from q. Of several such q the least; 0
    where all are, as for ReLU without bias. ``None`` where there is none from 1e-4 to 100.

    Raises:
        GraphError: the graph is no activation.
    """
    if bias_variance == 0.0 and (edge := _edge_at_zero(graph)) is not None:
        return edge
    excess = _excess(graph, _VARIANCES, bias_variance)
    for place in np.flatnonzero(excess[:-1] * excess[1:] < 0.0):
        q = _root(graph, bias_variance, float(_VARIANCES[place]), float(_VARIANCES[place + 1]))
        edge = Edge(1.0 / float(slope(graph, q)), q)
        below, above = variance_map(graph, [0.99 * q, 1.01 * q], edge.weight_variance, bias_variance)
        if above - below <= 0.02 * q:
            return edge
    return None


def _root(graph: Graph, bias_variance: float, low: float, high: float) -> float:
    """Where the excess changes its sign, by bisection."""
    start = float(_excess(graph, low, bias_variance))
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        same = float(_excess(graph, middle, bias_variance)) * start > 0.0
        low, high = (middle, high) if same else (low, middle)
    return low


def _excess(graph: Graph, q: npt.ArrayLike, bias_variance: float) -> Array:
    """V(q) - q with the weight variance at which χ(q) = 1."""
    moments, slopes = _moments(graph, q)
    with np.errstate(all="ignore"):
        excess = np.asarray(moments / slopes + bias_variance - np.asarray(q))
    return np.where(np.isfinite(excess), excess, np.nan)


def _edge_at_zero(graph: Graph) -> Edge | None:
    """Without bias 0 is a fixed point of what passes through 0."""
    near, moderate = 1e-16, 1e-2
    moments, slopes = _moments(graph, [0.0, near, moderate])
    if moments[0] > near or not near < slopes[1] < math.inf:
        return None
    weight_variance = 1.0 / float(slopes[1])
    return Edge(weight_variance, 0.0) if weight_variance * moments[2] <= moderate * (1.0 + 1e-9) else None


@lru_cache(maxsize=1)
def _normal() -> tuple[Array, Array]:
    """Nodes and weights of the expectation over a standard normal variable."""
    z = np.asarray((np.arange(_NODES) + 0.5) * (2.0 * _REACH / _NODES) - _REACH, dtype=np.float64)
    weights = np.exp(-0.5 * z * z)
    return z, weights / weights.sum()


def _moments(graph: Graph, q: npt.ArrayLike) -> tuple[Array, Array]:
    """E[f(√q·z)²] and E[f'(√q·z)²], each of the shape of ``q``."""
    if graph.domain != "activation":
        raise GraphError(f"a variance map of a graph of domain {graph.domain!r}; an activation is needed")
    q = np.asarray(q, dtype=np.float64)
    if (q < 0.0).any():
        raise GraphError(f"a variance map at q = {q.min()}; second moments are 0 or larger")
    z, weights = _normal()
    x = (np.sqrt(q)[..., None] * z).reshape(-1, 1, 1, 1, 1)
    with np.errstate(all="ignore"):
        ops = NumpyOps(get_domain(graph.domain), (1, 1, 1, 1))
        both = _apply(inline_derived(graph), ops, x, np.ones_like(x))
        squares = [np.square(np.broadcast_to(part, x.shape)).reshape(*q.shape, -1) for part in both]
        return squares[0] @ weights, squares[1] @ weights


def _apply(graph: Graph, ops: NumpyOps, x: Array, dx: Array | None) -> tuple[Array, Array | float]:
    """Output and tangent of a graph without derived primitives, in training, parameters at their start."""
    leaves: dict[str, Dual] = {p.name: (np.float64(p.init), None) for p in graph.params}
    y, dy = run_dual(graph, ops, {"x": (x, dx), **leaves})["y"]
    return y, 0.0 if dy is None else dy


@lru_cache(maxsize=256)
def initialization_gain(graph: Graph) -> float:
    """The standard deviation, over 1/√fan-in, of weights behind this layer that keeps the second moment.

    That is 1/√E[y²] for standard normal inputs: √2 for ReLU (He et al., 2015), within 0.1 and 10. Activations
    stand behind a normalization, so for them it is :func:`variance_map` at 1.

    Raises:
        GraphError: the graph is neither a layer nor an activation.
    """
    graph = _site(graph)
    with np.errstate(all="ignore"):
        if graph.domain == "activation":
            moment = float(_moments(graph, 1.0)[0])
        else:
            ops, x = _sample(graph.domain)
            moment = float(np.mean(np.square(_apply(graph, ops, x, None)[0])))
    if not 0.0 < moment < math.inf:
        return _MOST_GAIN if moment == 0.0 else _LEAST_GAIN
    return float(np.clip(moment**-0.5, _LEAST_GAIN, _MOST_GAIN))


def _site(graph: Graph) -> Graph:
    """The graph without derived primitives, if it can stand at a norm-act site."""
    if graph.domain not in ("layer", "activation"):
        raise GraphError(
            f"a graph of domain {graph.domain!r} has no gain; a layer or an activation is needed"
        )
    return inline_derived(graph)


@lru_cache(maxsize=8)
def _sample(domain: str) -> tuple[NumpyOps, Array]:
    """Normal inputs whose second moment is 1 and whose odd moments are 0, since each has its negative."""
    shape = tuple(_SAMPLE[axis] for axis in get_domain(domain).axes)
    half = np.random.default_rng(0x6A1A).normal(size=(1, shape[0] // 2, *shape[1:]))
    half /= np.sqrt(np.mean(np.square(half)))
    return NumpyOps(get_domain(domain), shape), np.concatenate([half, -half], axis=1)


@lru_cache(maxsize=8)
def plain_net(domain: str, depth: int) -> PlainNet:
    """The net of a domain, the same for every candidate; a deeper one begins as a shallower one does."""
    axes = get_domain(domain).axes
    shape = tuple(_BATCH[axis] for axis in axes)
    channels = _BATCH["G"] * _BATCH["c"]
    inputs, weights = (np.random.default_rng([0x516A, part]) for part in range(2))
    x, dx = inputs.normal(size=(2, 1, *shape))
    mixings = weights.normal(size=(depth, channels, channels)) / math.sqrt(channels)
    return PlainNet(NumpyOps(get_domain(domain), shape), x, dx, mixings)


def layer_gains(graph: Graph, depth: int = 12) -> Gains:
    """Values and tangents through a deep plain net of this layer, before training.

    Each layer mixes channels at random and applies the candidate, an activation behind a batch
    normalization as in training. The weights behind a candidate have its :func:`initialization_gain`.
    Sizes are not finite from where a value overflows float64.

    Args:
        graph: a layer or an activation.
        depth: number of layers, at least 1.

    Raises:
        GraphError: the graph is neither a layer nor an activation.
        ConfigError: there is no layer.
    """
    if depth < 1:
        raise ConfigError(f"a net of depth {depth}; at least 1 layer is needed")
    gain, site = initialization_gain(graph), _site(graph)
    layers = (site,) if site.domain == "layer" else (inline_derived(method("bn").graph), site)
    net = plain_net(graph.domain, depth)
    both = np.stack([net.x, net.dx])
    sizes = np.empty((depth, 2))
    with np.errstate(all="ignore"):
        for place, mixing in enumerate(net.mixings):
            x, dx = _mixed(both, mixing)
            for layer in layers:
                x, dx = _apply(layer, net.ops, x, dx)
            both[0], both[1] = gain * x, gain * dx
            sizes[place] = np.mean(np.square(both.reshape(2, -1)), axis=1)
    return Gains(sizes[:, 0], sizes[:, 1])


def _mixed(both: Array, mixing: Array) -> Array:
    """Values and tangents with their channels mixed."""
    flat = both.reshape(2, both.shape[2], len(mixing), -1)
    mixed: Array = (mixing @ flat).reshape(both.shape)
    return mixed
