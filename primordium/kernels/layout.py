"""The canonical layout: one dimension per axis of the domain, size 1 where a value lacks the axis."""

from primordium.errors import GraphError
from primordium.primitives import axes as ax
from primordium.primitives.axes import AxisSet
from primordium.primitives.domain import Domain


def dims(domain: Domain, axes: AxisSet) -> tuple[int, ...]:
    """The dimensions of these axes in the canonical layout of the domain."""
    return tuple(place for place, name in enumerate(domain.axes) if axes & ax.BIT[name])


def group_count(groups: int, channels: int) -> int:
    """The largest number of groups, at most ``groups``, that divides the channel count.

    Source: the official EvoNorm-S0 code lowers 32 until it divides.

    Raises:
        GraphError: there is no channel.
    """
    if channels < 1:
        raise GraphError(f"a layer of {channels} channels; at least 1 is needed")
    return next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)
