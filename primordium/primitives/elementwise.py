"""The elementwise primitives: EvoNorm's table, Swish's unary and binary tables, and what methods need.

Conventions, decided once and tested: sign(0) = 0; |x|' (0) = 0; relu'(0) = 0; max and min share the
gradient half and half at a tie; ``greater`` and ``equal`` are 1 or 0 and have no gradient.
Protected forms, ε an attribute (0 gives the bare function):

* ``div``   a·b / (b² + ε²): equals a/b up to (ε/b)², passes through 0 where b does, never exceeds |a|/2ε;
* ``sqrt``  x / √(|x| + ε): the signed root s(x)·√|x| up to ε/2|x|, with a finite slope 1/√ε at 0;
* ``log``   s(x)·ln(|x| + ε): the signed logarithm of EvoNorm's table, 0 at 0;
* ``pow``   s(a)·(|a| + ε)^b: the signed power, of which ``sqrt`` is the case b = 1/2; 0 where a is.
"""

from collections.abc import Mapping
from typing import Any

from primordium.primitives.primitive import PRIMITIVES, Algebra, AttrValue, Primitive, Template


def _bare_or_safe(bare: str, safe: str) -> Template:
    def choose(attrs: Mapping[str, AttrValue]) -> str:
        return safe if attrs["eps"] else bare

    return choose


def _sinc_slope(o: Any, y: Any, x: Any) -> Any:
    # (cos x - sinc x) / x cancels near 0, where its Taylor series is exact to the last digits.
    near = o.greater(0.03, o.abs(x))
    square = x * x
    series = x * (-1 / 3 + square * (1 / 30 - square / 840))
    return o.where(near, series, (o.cos(x) - y) / o.where(near, 1.0, x))


def _div_by_numerator(o: Any, y: Any, a: Any, b: Any, *, eps: float) -> Any:
    return b / (b * b + eps * eps) if eps else 1.0 / b


def _div_by_denominator(o: Any, y: Any, a: Any, b: Any, *, eps: float) -> Any:
    if not eps:
        return -y / b
    return (a - 2.0 * b * y) / (b * b + eps * eps)


def _sqrt_slope(o: Any, y: Any, x: Any, *, eps: float) -> Any:
    if not eps:
        return 0.5 / o.abs(y)
    shifted = o.abs(x) + eps
    return (0.5 * o.abs(x) + eps) / (shifted * o.sqrt(shifted, eps=0.0))


def _pow_by_base(o: Any, y: Any, a: Any, b: Any, *, eps: float) -> Any:
    return b * o.pow(o.abs(a), b - 1.0, eps=eps)


def _pow_by_exponent(o: Any, y: Any, a: Any, b: Any, *, eps: float) -> Any:
    # At a = 0 the power is 0 whatever the exponent, and the logarithm is kept finite.
    return y * o.log(o.abs(a) + o.equal(a, 0.0), eps=eps)


def _half_where_equal(o: Any, a: Any, b: Any) -> Any:
    return o.greater(a, b) + 0.5 * o.equal(a, b)


def _unary(name: str, summary: str, **given: Any) -> None:
    PRIMITIVES.add(Primitive(name, 1, "elementwise", summary, **given))


def _binary(name: str, summary: str, **given: Any) -> None:
    PRIMITIVES.add(Primitive(name, 2, "elementwise", summary, **given))


_unary(
    "neg",
    "-x",
    numpy="-{0}",
    torch="-{0}",
    sympy="-{0}",
    partials=(lambda o, y, x: -1.0,),
    algebra=Algebra(involution=True, parity="odd", monotone=-1),
)
_unary(
    "abs",
    "|x|, slope 0 at 0",
    numpy="np.abs({0})",
    torch="torch.abs({0})",
    sympy="Abs({0})",
    partials=(lambda o, y, x: o.sign(x),),
    algebra=Algebra(idempotent=True, parity="even", bounds=(0.0, float("inf"))),
    kinks=(0.0,),
)
_unary(
    "sign",
    "-1, 0 or 1; no gradient",
    numpy="np.sign({0})",
    torch="torch.sign({0})",
    sympy="sign({0})",
    partials=(None,),
    algebra=Algebra(idempotent=True, parity="odd", monotone=1, bounds=(-1.0, 1.0)),
    kinks=(0.0,),
)
_unary(
    "square",
    "x²",
    numpy="np.square({0})",
    torch="torch.square({0})",
    sympy="{0}**2",
    partials=(lambda o, y, x: 2.0 * x,),
    algebra=Algebra(parity="even", bounds=(0.0, float("inf"))),
)
_unary(
    "cube",
    "x³",
    numpy="{0} * {0} * {0}",
    torch="{0} * {0} * {0}",
    sympy="{0}**3",
    partials=(lambda o, y, x: 3.0 * o.square(x),),
    algebra=Algebra(parity="odd", monotone=1),
)
_unary(
    "sqrt",
    "signed root x / √(|x| + ε); ε = 0: s(x)·√|x|",
    attrs={"eps": 1e-5},
    numpy=_bare_or_safe("np.sign({0}) * np.sqrt(np.abs({0}))", "{0} / np.sqrt(np.abs({0}) + {eps})"),
    torch=_bare_or_safe(
        "torch.sign({0}) * torch.sqrt(torch.abs({0}))", "{0} / torch.sqrt(torch.abs({0}) + {eps})"
    ),
    torch_positive=_bare_or_safe("torch.sqrt({0})", "{0} / torch.sqrt({0} + {eps})"),
    sympy="sign({0})*sqrt(Abs({0}))",
    sympy_positive="sqrt({0})",
    partials=(_sqrt_slope,),
    algebra=Algebra(parity="odd", monotone=1),
    kinks=(0.0,),
)
_unary(
    "exp",
    "e^x, unprotected: overflow is the numeric gate's to find",
    numpy="np.exp({0})",
    torch="torch.exp({0})",
    sympy="exp({0})",
    partials=(lambda o, y, x: y,),
    algebra=Algebra(monotone=1, bounds=(0.0, float("inf"))),
)
_unary(
    "expm1",
    "e^x - 1, exact near 0",
    numpy="np.expm1({0})",
    torch="torch.expm1({0})",
    sympy="exp({0}) - 1",
    partials=(lambda o, y, x: o.exp(x),),
    algebra=Algebra(monotone=1, bounds=(-1.0, float("inf"))),
)
_unary(
    "log",
    "signed logarithm s(x)·ln(|x| + ε)",
    attrs={"eps": 1e-5},
    numpy=_bare_or_safe("np.sign({0}) * np.log(np.abs({0}))", "np.sign({0}) * np.log(np.abs({0}) + {eps})"),
    torch=_bare_or_safe(
        "torch.sign({0}) * torch.log(torch.abs({0}))", "torch.sign({0}) * torch.log(torch.abs({0}) + {eps})"
    ),
    torch_positive=_bare_or_safe("torch.log({0})", "torch.log({0} + {eps})"),
    sympy="sign({0})*log(Abs({0}))",
    sympy_positive="log({0})",
    partials=(lambda o, y, x, *, eps: o.square(o.sign(x)) / (o.abs(x) + eps),),
    algebra=Algebra(parity="odd"),
    kinks=(0.0,),
)
_unary(
    "log1p",
    "ln(1 + |x|)·s(x): exact near 0, defined everywhere",
    numpy="np.sign({0}) * np.log1p(np.abs({0}))",
    # Through clamp, whose slope at its end is 1: sign · log1p(|x|) would have slope 0 at 0.
    torch="torch.where({0} < 0.0, -torch.log1p(-torch.clamp({0}, max=0.0)), "
    "torch.log1p(torch.clamp({0}, min=0.0)))",
    torch_positive="torch.log1p({0})",
    sympy="sign({0})*log(1 + Abs({0}))",
    sympy_positive="log(1 + {0})",
    partials=(lambda o, y, x: 1.0 / (1.0 + o.abs(x)),),
    algebra=Algebra(parity="odd", monotone=1),
)
_unary(
    "sin",
    "sin x",
    numpy="np.sin({0})",
    torch="torch.sin({0})",
    sympy="sin({0})",
    partials=(lambda o, y, x: o.cos(x),),
    algebra=Algebra(parity="odd", bounds=(-1.0, 1.0)),
)
_unary(
    "cos",
    "cos x",
    numpy="np.cos({0})",
    torch="torch.cos({0})",
    sympy="cos({0})",
    partials=(lambda o, y, x: -o.sin(x),),
    algebra=Algebra(parity="even", bounds=(-1.0, 1.0)),
)
_unary(
    "sinh",
    "sinh x",
    numpy="np.sinh({0})",
    torch="torch.sinh({0})",
    sympy="sinh({0})",
    partials=(lambda o, y, x: o.cosh(x),),
    algebra=Algebra(parity="odd", monotone=1),
)
_unary(
    "cosh",
    "cosh x",
    numpy="np.cosh({0})",
    torch="torch.cosh({0})",
    sympy="cosh({0})",
    partials=(lambda o, y, x: o.sinh(x),),
    algebra=Algebra(parity="even", bounds=(1.0, float("inf"))),
)
_unary(
    "tanh",
    "tanh x",
    numpy="np.tanh({0})",
    torch="torch.tanh({0})",
    sympy="tanh({0})",
    partials=(lambda o, y, x: 1.0 - y * y,),
    algebra=Algebra(parity="odd", monotone=1, bounds=(-1.0, 1.0)),
)
_unary(
    "asinh",
    "arsinh x",
    numpy="np.arcsinh({0})",
    torch="torch.asinh({0})",
    sympy="asinh({0})",
    partials=(lambda o, y, x: 1.0 / o.sqrt(1.0 + x * x, eps=0.0),),
    algebra=Algebra(parity="odd", monotone=1),
)
_unary(
    "atan",
    "arctan x",
    numpy="np.arctan({0})",
    torch="torch.atan({0})",
    sympy="atan({0})",
    partials=(lambda o, y, x: 1.0 / (1.0 + x * x),),
    algebra=Algebra(parity="odd", monotone=1, bounds=(-1.5707963267948966, 1.5707963267948966)),
)
_unary(
    "sinc",
    "sin(x)/x, 1 at 0 (not the normalized sin(πx)/πx)",
    numpy="np.sinc({0} / np.pi)",
    torch="torch.sinc({0} / math.pi)",
    sympy="sinc({0})",
    partials=(_sinc_slope,),
    algebra=Algebra(parity="even", bounds=(-0.21723362821122166, 1.0)),
)
_unary(
    "relu",
    "max(x, 0), slope 0 at 0",
    numpy="np.maximum({0}, 0.0)",
    torch="torch.relu({0})",
    sympy="Max({0}, 0)",
    partials=(lambda o, y, x: o.greater(x, 0.0),),
    algebra=Algebra(idempotent=True, monotone=1, bounds=(0.0, float("inf"))),
    kinks=(0.0,),
)
_unary(
    "sigmoid",
    "1/(1 + e^-x)",
    numpy="sigmoid({0})",
    torch="torch.sigmoid({0})",
    sympy="1/(1 + exp(-({0})))",
    partials=(lambda o, y, x: y * (1.0 - y),),
    algebra=Algebra(monotone=1, bounds=(0.0, 1.0)),
)
_unary(
    "softplus",
    "ln(1 + e^x), linear above 40 where float64 can't tell",
    numpy="np.logaddexp({0}, 0.0)",
    torch="F.softplus({0}, 1.0, 40.0)",
    sympy="log(1 + exp({0}))",
    partials=(lambda o, y, x: o.sigmoid(x),),
    algebra=Algebra(monotone=1, bounds=(0.0, float("inf"))),
)
_unary(
    "gauss",
    "e^(-x²)",
    numpy="np.exp(-np.square({0}))",
    torch="torch.exp(-torch.square({0}))",
    sympy="exp(-({0})**2)",
    partials=(lambda o, y, x: -2.0 * x * y,),
    algebra=Algebra(parity="even", bounds=(0.0, 1.0)),
)
_unary(
    "erf",
    "error function",
    numpy="erf({0})",
    torch="torch.erf({0})",
    sympy="erf({0})",
    partials=(lambda o, y, x: 1.1283791670955126 * o.gauss(x),),
    algebra=Algebra(parity="odd", monotone=1, bounds=(-1.0, 1.0)),
)
_binary(
    "add",
    "a + b",
    numpy="{0} + {1}",
    torch="{0} + {1}",
    sympy="{0} + {1}",
    partials=(lambda o, y, a, b: 1.0, lambda o, y, a, b: 1.0),
    algebra=Algebra(commutative=True, neutral=((0, 0.0), (1, 0.0))),
)
_binary(
    "sub",
    "a - b",
    numpy="{0} - {1}",
    torch="{0} - {1}",
    sympy="{0} - ({1})",
    partials=(lambda o, y, a, b: 1.0, lambda o, y, a, b: -1.0),
    algebra=Algebra(neutral=((1, 0.0),), cancels=0.0),
)
_binary(
    "mul",
    "a·b",
    numpy="{0} * {1}",
    torch="{0} * {1}",
    sympy="({0})*({1})",
    partials=(lambda o, y, a, b: b, lambda o, y, a, b: a),
    algebra=Algebra(commutative=True, neutral=((0, 1.0), (1, 1.0))),
)
_binary(
    "div",
    "a·(b/(b² + ε²)); ε = 0: a/b",
    attrs={"eps": 1e-5},
    # b before a: where b² overflows the value is 0, not ∞/∞.
    numpy=_bare_or_safe("{0} / {1}", "{0} * ({1} / (np.square({1}) + {eps} ** 2))"),
    torch=_bare_or_safe("{0} / {1}", "{0} * ({1} / (torch.square({1}) + {eps} ** 2))"),
    sympy="({0})/({1})",
    partials=(_div_by_numerator, _div_by_denominator),
    algebra=Algebra(neutral=((1, 1.0),)),
)
_binary(
    "pow",
    "signed power s(a)·(|a| + ε)^b; ε = 0: s(a)·|a|^b",
    attrs={"eps": 1e-5},
    numpy="np.sign({0}) * np.power(np.abs({0}) + {eps}, {1})",
    torch="torch.sign({0}) * torch.pow(torch.abs({0}) + {eps}, {1})",
    torch_positive=_bare_or_safe("torch.pow({0}, {1})", "torch.pow({0} + {eps}, {1})"),
    sympy="sign({0})*Abs({0})**({1})",
    sympy_positive="({0})**({1})",
    partials=(_pow_by_base, _pow_by_exponent),
    algebra=Algebra(neutral=((1, 1.0),)),
    kinks=(0.0,),
)
_binary(
    "max",
    "max(a, b), half the gradient each at a tie",
    numpy="np.maximum({0}, {1})",
    torch="torch.maximum({0}, {1})",
    sympy="Max({0}, {1})",
    partials=(lambda o, y, a, b: _half_where_equal(o, a, b), lambda o, y, a, b: _half_where_equal(o, b, a)),
    algebra=Algebra(commutative=True, idempotent=True),
)
_binary(
    "min",
    "min(a, b), half the gradient each at a tie",
    numpy="np.minimum({0}, {1})",
    torch="torch.minimum({0}, {1})",
    sympy="Min({0}, {1})",
    partials=(lambda o, y, a, b: _half_where_equal(o, b, a), lambda o, y, a, b: _half_where_equal(o, a, b)),
    algebra=Algebra(commutative=True, idempotent=True),
)
_binary(
    "greater",
    "1 where a > b, else 0; no gradient",
    numpy="np.where(np.greater({0}, {1}), 1.0, 0.0)",
    torch="torch.gt({0}, {1}).to({0}.dtype)",
    sympy="Heaviside(({0}) - ({1}), 0)",
    partials=(None, None),
    algebra=Algebra(bounds=(0.0, 1.0), cancels=0.0),
)
_binary(
    "equal",
    "1 where a = b, else 0; no gradient",
    numpy="np.where(np.equal({0}, {1}), 1.0, 0.0)",
    torch="torch.eq({0}, {1}).to({0}.dtype)",
    sympy="Piecewise((1, Eq({0}, {1})), (0, True))",
    partials=(None, None),
    algebra=Algebra(commutative=True, bounds=(0.0, 1.0)),
)
PRIMITIVES.add(
    Primitive(
        "where",
        3,
        "elementwise",
        "a where the condition is not 0, else b; the branch not taken gets gradient 0",
        numpy="np.where(np.not_equal({0}, 0.0), {1}, {2})",
        torch="torch.where(torch.ne({0}, 0.0), {1}, {2})",
        sympy="Piecewise(({1}, Ne({0}, 0)), ({2}, True))",
        partials=(
            None,
            lambda o, y, c, a, b: o.where(c, 1.0, 0.0),
            lambda o, y, c, a, b: o.where(c, 0.0, 1.0),
        ),
    )
)
