"""Known activations: elementwise functions, each written in a form that stays finite with its derivative.

Where torch has the function, values and derivatives agree with torch's, at kinks too; HardSwish is the
exception, whose derivative at exactly ±3 is the mean of both sides.
"""

import math
from typing import Any

from primordium.plugins.method import activation
from primordium.primitives import axes as ax
from primordium.primitives.graph import Param

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
GELU_CUBIC = 0.044715
SIREN_FREQUENCY = 30.0

_SURVEY = "activation_survey_400"


def _exponential_unit(o: Any, x: Any, alpha: float) -> Any:
    """x above 0, α·(eˣ - 1) below; the branch not taken sees 0, so that its slope cannot overflow."""
    positive = o.greater(x, 0.0)
    below = o.expm1(o.where(positive, 0.0, x))
    return o.where(positive, x, below if alpha == 1.0 else alpha * below)


@activation(paper="folklore", catalogue=_SURVEY, aliases=("linear",))
def identity(x: Any) -> Any:
    """Identity: x."""
    return x


@activation(paper="Nair, Hinton 2010, ICML", catalogue=_SURVEY)
def relu(o: Any, x: Any) -> Any:
    """ReLU: max(x, 0)."""
    return o.relu(x)


@activation(paper="Maas, Hannun, Ng 2013, ICML workshop", catalogue=_SURVEY, aliases=("lrelu",))
def leaky_relu(o: Any, x: Any) -> Any:
    """Leaky ReLU: x above 0, 0.01·x below."""
    return o.where(o.greater(x, 0.0), x, 0.01 * x)


@activation(paper="Clevert, Unterthiner, Hochreiter 2015, arXiv:1511.07289", catalogue=_SURVEY)
def elu(o: Any, x: Any) -> Any:
    """ELU with α = 1: x above 0, eˣ - 1 below."""
    return _exponential_unit(o, x, 1.0)


@activation(
    paper="Klambauer, Unterthiner, Mayr, Hochreiter 2017, arXiv:1706.02515",
    catalogue="selu_snn",
    traps=(
        "Self-normalizing only with weights drawn from N(0, 1/fan_in), zero bias and standardized inputs.",
        "Ordinary dropout breaks the fixed point; alpha dropout keeps it.",
    ),
)
def selu(o: Any, x: Any) -> Any:
    """SELU: the scaled ELU whose moments contract to mean 0 and variance 1."""
    return SELU_SCALE * _exponential_unit(o, x, SELU_ALPHA)


@activation(paper="Hendrycks, Gimpel 2016, arXiv:1606.08415", catalogue="gelu")
def gelu(o: Any, x: Any) -> Any:
    """GELU: x·Φ(x), exact through erf."""
    return 0.5 * x * (1.0 + o.erf(math.sqrt(0.5) * x))


@activation(
    paper="Hendrycks, Gimpel 2016, arXiv:1606.08415",
    catalogue="gelu",
    traps=(
        "Differs from the exact GELU by up to 5e-4: weights trained with one are not those of the other.",
    ),
)
def gelu_tanh(o: Any, x: Any) -> Any:
    """GELU by its tanh approximation."""
    return 0.5 * x * (1.0 + o.tanh(math.sqrt(2.0 / math.pi) * (x + GELU_CUBIC * o.cube(x))))


@activation(paper="Elfwing, Uchibe, Doya 2017, arXiv:1702.03118", catalogue=_SURVEY, aliases=("swish1",))
def silu(o: Any, x: Any) -> Any:
    """SiLU: x·σ(x), Swish with β fixed at 1."""
    return x * o.sigmoid(x)


@activation(
    paper="Ramachandran, Zoph, Le 2017, arXiv:1710.05941",
    catalogue="swish_search",
    params={"beta": 1.0},
    aliases=("swish_beta",),
    traps=("Weight decay on β pulls it towards x/2; leave it out of the decayed parameters.",),
)
def swish(o: Any, x: Any, beta: Any) -> Any:
    """Swish: x·σ(βx), β learned per channel from 1."""
    return x * o.sigmoid(beta * x)


@activation(paper="Misra 2019, arXiv:1908.08681", catalogue="mish")
def mish(o: Any, x: Any) -> Any:
    """Mish: x·tanh(softplus(x))."""
    return x * o.tanh(o.softplus(x))


@activation(paper="Dugas, Bengio, Bélisle, Nadeau, Garcia 2000, NIPS", catalogue=_SURVEY)
def softplus(o: Any, x: Any) -> Any:
    """Softplus: ln(1 + eˣ)."""
    return o.softplus(x)


@activation(paper="LeCun, Bottou, Orr, Müller 1998, Efficient BackProp", catalogue=_SURVEY)
def tanh(o: Any, x: Any) -> Any:
    """Hyperbolic tangent."""
    return o.tanh(x)


@activation(
    paper="So, Mańke, Liu, Dai, Shazeer, Le 2021, arXiv:2109.08668; Zhang et al. 2024, arXiv:2402.03804",
    catalogue="relu_squared",
    aliases=("relu2", "squared_relu", "requ"),
    traps=("Grows as x²: without a normalization before it, depth squares the scale layer by layer.",),
)
def relu_squared(o: Any, x: Any) -> Any:
    """Squared ReLU: max(x, 0)²."""
    return o.square(o.relu(x))


@activation(
    paper="Ziyin, Hartwig, Ueda 2020, arXiv:2006.08195",
    catalogue="snake",
    params={"a": 1.0},
    traps=("Start a near 5 to 50 for data known to be periodic, near 0.2 otherwise.",),
)
def snake(o: Any, x: Any, a: Any) -> Any:
    """Snake: x + sin²(ax)/a, a learned per channel from 1; the identity at a = 0."""
    # sin²(ax)/a = a·x²·sinc²(ax) holds at a = 0 as well.
    return x + a * o.square(x * o.sinc(a * x))


@activation(
    paper="Sitzmann, Martel, Bergman, Lindell, Wetzstein 2020, arXiv:2006.09661",
    catalogue="siren_sine",
    params={"w0": Param("w0", ax.NONE, SIREN_FREQUENCY, learnable=False)},
    aliases=("siren",),
    traps=(
        "Needs SIREN's weights: U(±1/n) in the first layer, U(±√(6/n)/w0) in the others, n the fan-in.",
        "Meant for implicit representations; after a normalization layer sin(30·x) is close to noise.",
    ),
)
def sine(o: Any, x: Any, w0: Any) -> Any:
    """Sine of SIREN: sin(w0·x), w0 fixed at 30."""
    return o.sin(w0 * x)


@activation(
    paper="Howard et al. 2019, arXiv:1905.02244",
    catalogue=_SURVEY,
    aliases=("hard_swish",),
    traps=("Exactly 0 below -3: a unit that lands there gets no gradient.",),
)
def hardswish(o: Any, x: Any) -> Any:
    """HardSwish: x·min(max(x + 3, 0), 6)/6."""
    return x * o.clip(x + 3.0, low=0.0, high=6.0) / 6.0


@activation(
    paper="Das, Safari, Adriaensen, Hutter 2025, arXiv:2502.03654",
    catalogue="golu",
    aliases=("expexpish",),
    traps=("The inner exponential overflows below -88 in float32; here its argument stops at 10.",),
)
def golu(o: Any, x: Any) -> Any:
    """GoLU: x·e^(-e^(-x)), gated by the Gompertz (Gumbel) distribution."""
    # e^(-e^10) is 0 in every precision, so stopping there changes nothing and keeps the slope finite.
    return x * o.exp(-o.exp(-o.max(x, -10.0)))


METHODS = (
    identity,
    relu,
    leaky_relu,
    elu,
    selu,
    gelu,
    gelu_tanh,
    silu,
    swish,
    mish,
    softplus,
    tanh,
    relu_squared,
    snake,
    sine,
    hardswish,
    golu,
)
