"""Named axes and index sets: what a value varies over.

A value is a tensor that varies over a *set of axes*; the set is an ``int`` used as a bit mask, so that
union, difference and test are single machine operations in the screening loop.

Layers use ``B`` (batch), ``C`` (channel, which is two axes: ``G`` groups of ``c`` channels each) and ``S``
(all spatial or sequence positions). Update rules view a weight as ``L × R × K`` (leading, rows, columns;
``P`` enumerates the tensors of a parameter group). Attention uses ``H, Q, K`` (heads, queries, keys).
"""

from collections.abc import Iterable
from typing import TypeAlias

from primordium.errors import GraphError

AxisSet: TypeAlias = int

ATOMS: tuple[str, ...] = ("B", "G", "c", "S", "L", "R", "K", "H", "Q", "P")
BIT: dict[str, AxisSet] = {name: 1 << i for i, name in enumerate(ATOMS)}
NONE: AxisSet = 0

B, G, CHANNEL_IN_GROUP, S, L, R, K, H, Q, P = (BIT[name] for name in ATOMS)
C: AxisSet = G | CHANNEL_IN_GROUP

INDEX_SETS: dict[str, AxisSet] = {
    "batch": B | S,
    "instance": S,
    "layer": C | S,
    "group": CHANNEL_IN_GROUP | S,
    "channel": C,
    "row": K,
    "column": R,
    "tensor": L | R | K,
    "global": L | R | K | P,
    "keys": K,
}
"""What each named index set reduces over. ``row`` keeps one value a row, so it reduces the columns."""


def axis_set(names: str) -> AxisSet:
    """The axis set written as letters, commas and braces optional: ``"C"``, ``"{B,C,S}"``, ``""``.

    Raises:
        GraphError: a letter names no axis.
    """
    result = NONE
    for letter in names.strip("{}").replace(",", "").replace(" ", ""):
        if letter == "C":
            result |= C
        elif letter in BIT:
            result |= BIT[letter]
        else:
            raise GraphError(
                f"unknown axis {letter!r} in {names!r}; the axes are {', '.join(ATOMS)} and C (= G×c)"
            )
    return result


def index_set(over: str) -> AxisSet:
    """The axes that a statistic with attribute ``over`` reduces: a named index set or ``"{B,S}"``.

    Raises:
        GraphError: ``over`` is neither.
    """
    found = INDEX_SETS.get(over)
    if found is not None:
        return found
    if over.startswith("{") and over.endswith("}"):
        return axis_set(over)
    raise GraphError(
        f"unknown index set {over!r}; use one of {', '.join(INDEX_SETS)} or axes in braces such as '{{B,S}}'"
    )


def members(axes: AxisSet) -> tuple[str, ...]:
    """The atomic axes of a set, in the canonical order."""
    return tuple(name for name in ATOMS if axes & BIT[name])


def show(axes: AxisSet) -> str:
    """The set as letters in braces, ``G`` and ``c`` together written ``C``: ``{B,C,S}``."""
    names: Iterable[str] = members(axes)
    if axes & C == C:
        names = [("C" if name == "G" else name) for name in names if name != "c"]
    return "{" + ",".join(names) + "}"
