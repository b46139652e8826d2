"""Primitives along one axis: they keep it, and closed under differentiation.

``gather`` and ``scatter`` are each other's adjoints and take positions from ``argsort`` or ``cumargmax``,
which have no gradient; ``cumsum`` is its own adjoint reversed. Sorting, the cumulative maximum and the
k largest values are derived from these, so sparsemax, k-winners and ALiBi need no further rule.
A value that lacks the axis is taken as broadcast along it.
"""

from typing import Any

from primordium.primitives.axes import axis_set, show
from primordium.primitives.primitive import PRIMITIVES, Primitive


def _tangent_or_zero(o: Any, value: Any, tangent: Any) -> Any:
    return 0.0 * value if tangent is None else tangent


PRIMITIVES.add(
    Primitive(
        "index",
        0,
        "along",
        "position along the axis, from 0",
        attrs={"axis": "C"},
        sympy="index_{axis}",
        vjp=lambda o, y, g, *, axis: (),
        jvp=lambda o, y, args, tangents, *, axis: None,
    )
)
PRIMITIVES.add(
    Primitive(
        "cumsum",
        1,
        "along",
        "running sum along the axis",
        attrs={"axis": "C", "reverse": False},
        sympy="cumsum_{axis}({0})",
        vjp=lambda o, y, g, x, *, axis, reverse: (o.cumsum(g, axis=axis, reverse=not reverse),),
        jvp=lambda o, y, args, tangents, *, axis, reverse: o.cumsum(tangents[0], axis=axis, reverse=reverse),
    )
)
PRIMITIVES.add(
    Primitive(
        "argsort",
        1,
        "along",
        "positions that sort the value, ties in order of position; no gradient",
        attrs={"axis": "C", "descending": True},
        sympy="argsort_{axis}({0})",
        vjp=lambda o, y, g, x, *, axis, descending: (None,),
        jvp=lambda o, y, args, tangents, *, axis, descending: None,
    )
)
PRIMITIVES.add(
    Primitive(
        "cumargmax",
        1,
        "along",
        "position of the largest value so far, the first at ties; no gradient",
        attrs={"axis": "C"},
        sympy="cumargmax_{axis}({0})",
        vjp=lambda o, y, g, x, *, axis: (None,),
        jvp=lambda o, y, args, tangents, *, axis: None,
    )
)
PRIMITIVES.add(
    Primitive(
        "gather",
        2,
        "along",
        "the value at the given positions",
        attrs={"axis": "C"},
        sympy="gather_{axis}({0}, {1})",
        vjp=lambda o, y, g, x, at, *, axis: (o.scatter(g, at, axis=axis), None),
        jvp=lambda o, y, args, tangents, *, axis: (
            None if tangents[0] is None else o.gather(tangents[0], args[1], axis=axis)
        ),
    )
)
PRIMITIVES.add(
    Primitive(
        "scatter",
        2,
        "along",
        "adds each value into its given position, 0 elsewhere",
        attrs={"axis": "C"},
        sympy="scatter_{axis}({0}, {1})",
        vjp=lambda o, y, g, x, at, *, axis: (o.gather(g, at, axis=axis), None),
        jvp=lambda o, y, args, tangents, *, axis: (
            None if tangents[0] is None else o.scatter(tangents[0], args[1], axis=axis)
        ),
    )
)


def _sort(o: Any, x: Any, *, axis: str, descending: bool) -> Any:
    return o.gather(x, o.argsort(x, axis=axis, descending=descending), axis=axis)


def _cummax(o: Any, x: Any, *, axis: str) -> Any:
    return o.gather(x, o.cumargmax(x, axis=axis), axis=axis)


def _top(o: Any, x: Any, *, axis: str, k: int) -> Any:
    rank = o.scatter(o.index(axis=axis), o.argsort(x, axis=axis, descending=True), axis=axis)
    return o.where(o.greater(float(k), rank), x, 0.0)


PRIMITIVES.add(
    Primitive(
        "sort", 1, "derived", "sorted along the axis", attrs={"axis": "C", "descending": True}, derive=_sort
    )
)
PRIMITIVES.add(
    Primitive(
        "cummax", 1, "derived", "largest value so far along the axis", attrs={"axis": "C"}, derive=_cummax
    )
)
PRIMITIVES.add(
    Primitive(
        "top",
        1,
        "derived",
        "the k largest along the axis, 0 elsewhere",
        attrs={"axis": "C", "k": 1},
        derive=_top,
    )
)


def axis_over(axis: str) -> str:
    """The ``over`` attribute that reduces exactly this axis."""
    return show(axis_set(axis))
