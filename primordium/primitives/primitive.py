"""What a primitive is, and the table of the known ones.

A primitive is data: its name, class, attributes, declared algebra, derivative rule written in primitives,
and its meaning as expression templates (``numpy``, ``torch``) in which ``{0}``, ``{1}`` stand for the
arguments and ``{eps}`` and the like for attributes. Back ends compile the templates; nothing here
imports torch. Templates come from code (the built-in tables or an installed plugin), never from a graph
file, so loading a graph runs no code.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from primordium.errors import GraphError, PluginError

AttrValue: TypeAlias = float | int | str | bool
Attrs: TypeAlias = tuple[tuple[str, AttrValue], ...]
Kind: TypeAlias = Literal["leaf", "elementwise", "statistic", "along", "derived", "opaque", "structural"]

Rule: TypeAlias = Callable[..., Any]
"""A function of an operation namespace ``ops`` and values: it works on traced values and on arrays alike."""

Template: TypeAlias = str | Callable[[Mapping[str, AttrValue]], str]


def is_finite(value: float) -> bool:
    """Whether a number is finite as a float; a whole number may be too large for one."""
    return -sys.float_info.max <= value <= sys.float_info.max


@dataclass(frozen=True)
class Algebra:
    """Declared laws of a primitive, each checked numerically by the tests.

    Attributes:
        commutative: f(a, b) = f(b, a).
        idempotent: f(a, a) = a for two arguments, f(f(a)) = f(a) for one.
        involution: f(f(a)) = a.
        parity: ``"odd"`` f(-a) = -f(a) or ``"even"`` f(-a) = f(a); one argument.
        monotone: +1 nondecreasing, -1 nonincreasing in its only argument.
        bounds: closed interval that holds every value.
        neutral: ``(position, value)``: with that constant at that place, f returns the other argument.
        cancels: the value of f(a, a), where that is a constant.
    """

    commutative: bool = False
    idempotent: bool = False
    involution: bool = False
    parity: Literal["odd", "even"] | None = None
    monotone: Literal[-1, 0, 1] = 0
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    neutral: tuple[tuple[int, float], ...] = ()
    cancels: float | None = None


@dataclass(frozen=True)
class Primitive:
    """One operation of the graph language.

    Attributes:
        name: the name in graphs, text and JSON.
        arity: number of arguments.
        kind: ``elementwise`` (varies over the union of its arguments' axes), ``statistic`` (removes the
            axes it reduces), ``along`` (works along one axis and keeps it), ``derived`` (defined in
            primitives and inlined before any back end), ``opaque`` (declares the back ends it has),
            ``structural`` (running, surrogate, detach) or ``leaf``.
        summary: one line: the formula and what is done where it would not be finite.
        attrs: attribute names with their defaults; the defaults are the safe form.
        numpy, torch: expression templates, or a function from attributes to one.
        sympy: template of a sympy expression, for printing.
        torch_positive, sympy_positive: simpler templates where the range of the first argument is positive.
        partials: derivative by each argument, ``rule(ops, y, *args, **attrs)``; ``None`` passes nothing on.
        vjp: for statistics and primitives along an axis: ``rule(ops, y, gradient, *args, **attrs)`` gives the
            tuple of gradients by each argument (``None``: passes nothing on).
        jvp: the same forward: ``rule(ops, y, args, tangents, **attrs)``; a tangent may be ``None`` (zero).
        derive: for ``derived``: ``rule(ops, *args, **attrs)`` that builds it from primitives.
        algebra: declared laws.
        kinks: points where the derivative is a convention (tests stay away from them).
        gradient_order: how often the torch meaning can be differentiated, 2 for as often as asked.
        reduces: a ``derived`` primitive whose ``over`` removes axes.
        backends: for ``opaque``: the back ends that have it.
    """

    name: str
    arity: int
    kind: Kind
    summary: str
    attrs: Mapping[str, AttrValue] = field(default_factory=dict)
    numpy: Template = ""
    torch: Template = ""
    sympy: str = ""
    torch_positive: Template = ""
    sympy_positive: str = ""
    partials: tuple[Rule | None, ...] = ()
    derive: Rule | None = None
    vjp: Rule | None = None
    jvp: Rule | None = None
    algebra: Algebra = Algebra()
    kinks: tuple[float, ...] = ()
    reduces: bool = False
    gradient_order: int = 2
    backends: frozenset[str] = frozenset({"reference", "torch_source", "numpy"})

    def complete(self, given: Mapping[str, AttrValue]) -> Attrs:
        """The sorted attribute tuple of a node: the defaults overlaid with ``given``.

        Raises:
            GraphError: an attribute is unknown, has the wrong type, or is not finite.
        """
        for key, value in given.items():
            if key not in self.attrs:
                known = ", ".join(self.attrs) or "none"
                raise GraphError(f"primitive {self.name!r} has no attribute {key!r}; its attributes: {known}")
            default = self.attrs[key]
            if isinstance(default, bool) or isinstance(value, bool):
                right = isinstance(default, bool) and isinstance(value, bool)
            elif isinstance(default, int | float):
                kind = int if isinstance(default, int) else int | float
                right = isinstance(value, kind) and is_finite(value)
            else:
                right = isinstance(value, str)
            if not right:
                raise GraphError(
                    f"attribute {key!r} of {self.name!r} is {value!r}; "
                    f"a finite {type(default).__name__} such as {default!r} is needed"
                )
        merged = {
            key: (float(given[key]) if isinstance(default, float) else given[key])
            if key in given
            else default
            for key, default in self.attrs.items()
        }
        return tuple(sorted(merged.items()))

    def template(
        self, language: Literal["numpy", "torch", "torch_positive"], attrs: Mapping[str, AttrValue]
    ) -> str:
        """The expression template in ``language`` for these attributes."""
        source: Template = getattr(self, language)
        return source if isinstance(source, str) else source(attrs)


class PrimitiveTable(Mapping[str, Primitive]):
    """The known primitives by name; refuses a name that is taken."""

    def __init__(self) -> None:
        self._table: dict[str, Primitive] = {}
        self.derived: set[str] = set()
        """Names of the derived primitives: asked for every candidate, so kept."""

    def add(self, primitive: Primitive) -> Primitive:
        """Register one primitive.

        Raises:
            PluginError: the name is taken or is no identifier, or a derivative rule or meaning is missing.
        """
        problem = _problem(primitive)
        if problem:
            raise PluginError(f"primitive {primitive.name!r}: {problem}")
        if primitive.name in self._table:
            raise PluginError(f"primitive {primitive.name!r} is registered already; choose another name")
        self._table[primitive.name] = primitive
        if primitive.kind == "derived":
            self.derived.add(primitive.name)
        return primitive

    def remove(self, name: str) -> None:
        """Forget a primitive (a plugin that failed its conformance check)."""
        del self._table[name]
        self.derived.discard(name)

    def __getitem__(self, name: str) -> Primitive:
        try:
            return self._table[name]
        except KeyError:
            raise GraphError(f"unknown primitive {name!r}; known: {', '.join(sorted(self._table))}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _problem(primitive: Primitive) -> str | None:
    if not primitive.name.isidentifier():
        return "the name must be a Python identifier"
    if primitive.kind == "elementwise" and len(primitive.partials) != primitive.arity:
        return f"needs {primitive.arity} derivative rules, has {len(primitive.partials)}"
    if primitive.kind in ("elementwise", "statistic") and not (primitive.numpy and primitive.torch):
        return "needs numpy and torch templates"
    if primitive.kind == "derived" and primitive.derive is None:
        return "needs a 'derive' rule written in primitives"
    return None


PRIMITIVES = PrimitiveTable()
