"""Statistics over an index set: the primitives that remove axes.

A statistic of a value that lacks an axis of the index set is the statistic of the *broadcast* value: the
mean of a per-channel parameter over space is the parameter, its variance is 0, its sum counts every
position. Variances are population variances; ε stands inside the root: std = √(var + ε) and
rms = √(mean x² + ε).

Templates see ``{dims}`` (the dimensions that the value has, a non-empty tuple) and ``{count}`` (the product
of the sizes of the reduced axes that it lacks). Where the value has none of the axes, the ``derive`` rule,
written in elementwise primitives, stands instead.
"""

from typing import Any

from primordium.primitives.axes import index_set, show
from primordium.primitives.primitive import PRIMITIVES, Algebra, Primitive

EPS = 1e-5


def _over(axes: int) -> str:
    return show(axes)


def _reduced(o: Any, x: Any, over: str) -> str:
    """The axes that ``x`` has and the statistic removes, as an ``over`` attribute."""
    return _over(o.axes(x) & index_set(over))


def _sum_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str) -> tuple[Any]:
    lacking = index_set(over) & ~o.axes(x)
    return (g * o.size(over=_over(lacking)) if lacking else g,)


def _mean_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str) -> tuple[Any]:
    return (g / o.size(over=_reduced(o, x, over)),)


def _var_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str) -> tuple[Any]:
    return (2.0 * (x - o.mean(x, over=over)) * (g / o.size(over=_reduced(o, x, over))),)


def _std_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str, eps: float) -> tuple[Any]:
    return ((x - o.mean(x, over=over)) * (g / (y * o.size(over=_reduced(o, x, over)))),)


def _rms_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str, eps: float) -> tuple[Any]:
    return (x * (g / (y * o.size(over=_reduced(o, x, over)))),)


def _extremum_vjp(o: Any, y: Any, g: Any, x: Any, *, over: str) -> tuple[Any]:
    at = o.equal(x, y)
    return (at * (g / o.sum(at, over=_reduced(o, x, over))),)


def _sum_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str) -> Any:
    return o.sum(tangents[0], over=over)


def _mean_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str) -> Any:
    return o.mean(tangents[0], over=over)


def _var_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str) -> Any:
    (x,), (dx,) = args, tangents
    return 2.0 * o.mean((x - o.mean(x, over=over)) * dx, over=over)


def _std_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str, eps: float) -> Any:
    (x,), (dx,) = args, tangents
    return o.mean((x - o.mean(x, over=over)) * dx, over=over) / y


def _rms_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str, eps: float) -> Any:
    return o.mean(args[0] * tangents[0], over=over) / y


def _extremum_jvp(o: Any, y: Any, args: Any, tangents: Any, *, over: str) -> Any:
    at = o.equal(args[0], y)
    return o.mean(at * tangents[0], over=over) / o.mean(at, over=over)


def _identity(o: Any, x: Any, *, over: str) -> Any:
    return x


PRIMITIVES.add(
    Primitive(
        "sum",
        1,
        "statistic",
        "Σ x over the index set",
        attrs={"over": "instance"},
        numpy="np.add.reduce({0}, {dims}, keepdims=True) * {count}",
        torch="torch.sum({0}, {dims}, keepdim=True) * {count}",
        sympy="Sum_{over}({0})",
        derive=lambda o, x, *, over: x * o.size(over=_over(index_set(over))),
        vjp=_sum_vjp,
        jvp=_sum_jvp,
        algebra=Algebra(parity="odd"),
    )
)
PRIMITIVES.add(
    Primitive(
        "mean",
        1,
        "statistic",
        "first moment",
        attrs={"over": "instance"},
        numpy="mean({0}, {dims})",
        torch="torch.mean({0}, {dims}, keepdim=True)",
        sympy="mean_{over}({0})",
        derive=_identity,
        vjp=_mean_vjp,
        jvp=_mean_jvp,
        algebra=Algebra(parity="odd"),
    )
)
PRIMITIVES.add(
    Primitive(
        "var",
        1,
        "statistic",
        "population variance",
        attrs={"over": "instance"},
        numpy="var({0}, {dims})",
        torch="torch.var({0}, {dims}, correction=0, keepdim=True)",
        sympy="var_{over}({0})",
        derive=lambda o, x, *, over: 0.0 * x,
        vjp=_var_vjp,
        jvp=_var_jvp,
        algebra=Algebra(parity="even", bounds=(0.0, float("inf"))),
    )
)
PRIMITIVES.add(
    Primitive(
        "std",
        1,
        "statistic",
        "second moment, centred: √(var + ε)",
        attrs={"over": "instance", "eps": EPS},
        numpy="np.sqrt(var({0}, {dims}) + {eps})",
        torch="torch.sqrt(torch.var({0}, {dims}, correction=0, keepdim=True) + {eps})",
        sympy="std_{over}({0})",
        derive=lambda o, x, *, over, eps: 0.0 * x + eps**0.5,
        vjp=_std_vjp,
        jvp=_std_jvp,
        algebra=Algebra(parity="even", bounds=(0.0, float("inf"))),
    )
)
PRIMITIVES.add(
    Primitive(
        "rms",
        1,
        "statistic",
        "second moment, not centred: √(mean x² + ε)",
        attrs={"over": "instance", "eps": EPS},
        numpy="np.sqrt(mean(np.square({0}), {dims}) + {eps})",
        torch="torch.sqrt(torch.mean(torch.square({0}), {dims}, keepdim=True) + {eps})",
        sympy="rms_{over}({0})",
        derive=lambda o, x, *, over, eps: o.sqrt(x * x + eps, eps=0.0),
        vjp=_rms_vjp,
        jvp=_rms_jvp,
        algebra=Algebra(parity="even", bounds=(0.0, float("inf"))),
    )
)
PRIMITIVES.add(
    Primitive(
        "amax",
        1,
        "statistic",
        "largest value, the gradient shared evenly at ties",
        attrs={"over": "instance"},
        numpy="np.maximum.reduce({0}, {dims}, keepdims=True)",
        torch="torch.amax({0}, {dims}, keepdim=True)",
        sympy="max_{over}({0})",
        derive=_identity,
        vjp=_extremum_vjp,
        jvp=_extremum_jvp,
    )
)
PRIMITIVES.add(
    Primitive(
        "amin",
        1,
        "statistic",
        "smallest value, the gradient shared evenly at ties",
        attrs={"over": "instance"},
        numpy="np.minimum.reduce({0}, {dims}, keepdims=True)",
        torch="torch.amin({0}, {dims}, keepdim=True)",
        sympy="min_{over}({0})",
        derive=_identity,
        vjp=_extremum_vjp,
        jvp=_extremum_jvp,
    )
)
PRIMITIVES.add(
    Primitive(
        "size",
        0,
        "statistic",
        "number of positions of the index set",
        attrs={"over": "instance"},
        numpy="{count}",
        torch="{count}",
        sympy="size_{over}",
        vjp=lambda o, y, g, *, over: (),
        jvp=lambda o, y, args, tangents, *, over: None,
        algebra=Algebra(bounds=(1.0, float("inf"))),
    )
)
