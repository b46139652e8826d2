"""When each value is computed: phases that batch statistics end, and what each phase computes again.

A value that varies over samples is computed tile by tile, in every phase that needs it; kept between phases
are outputs and values without positions (statistics of a sample), which are small. All else is computed once.
"""

from dataclasses import dataclass, field

from primordium.kernels.tape.values import STATISTICS, Value
from primordium.primitives import axes as ax

_GIVEN = frozenset({"leaf", "const", "size"})


@dataclass
class Phase:
    """One pass over the data.

    Attributes:
        whole: values without a sample axis, computed (or finished, if batch statistics) before the pass.
        tiled: values computed tile by tile.
        gathered: batch statistics that the pass gathers.
    """

    whole: list[int] = field(default_factory=list)
    tiled: list[int] = field(default_factory=list)
    gathered: list[int] = field(default_factory=list)


@dataclass
class Schedule:
    """The phases, and the values that one phase keeps for later ones."""

    phases: list[Phase]
    kept: set[int]


def is_gathered(value: Value) -> bool:
    """Whether it is a statistic over samples."""
    return bool(value.op in STATISTICS and value.present & ax.B)


def schedule(values: list[Value], outputs: set[int]) -> Schedule:
    """Put the values that the outputs need into phases."""
    live = _live(values, outputs)
    levels = _levels(values)
    phases = [Phase() for _ in range(max(levels[v] for v in outputs) + 1)]
    needed: list[set[int]] = [set() for _ in phases]
    for index in live:
        value, level = values[index], levels[index]
        if value.op in _GIVEN:
            continue
        if value.axes & ax.B:
            if index in outputs:
                needed[level].add(index)
            continue
        phases[level].whole.append(index)
        if is_gathered(value):
            phases[level - 1].gathered.append(index)
            needed[level - 1].add(value.args[0])
    kept: set[int] = set()
    for number in range(len(phases) - 1, -1, -1):
        phases[number].tiled = _tiled(values, levels, outputs, needed, kept, number)
    return Schedule(phases, kept)


def _live(values: list[Value], outputs: set[int]) -> list[int]:
    needed = set(outputs)
    for index in range(len(values) - 1, -1, -1):
        if index in needed:
            needed.update(values[index].args)
    return sorted(needed)


def _levels(values: list[Value]) -> list[int]:
    """The phase in which a value can first be there."""
    levels: list[int] = []
    for value in values:
        level = 0
        for arg in value.args:
            level = max(level, levels[arg])
        levels.append(level + is_gathered(value))
    return levels


def _tiled(
    values: list[Value],
    levels: list[int],
    outputs: set[int],
    needed: list[set[int]],
    kept: set[int],
    number: int,
) -> list[int]:
    """What one phase computes tile by tile, in order; what it wants kept is put to the phase that can."""
    waiting = [v for v in needed[number] if values[v].op not in _GIVEN]
    found = set(waiting)
    while waiting:
        for arg in values[waiting.pop()].args:
            value = values[arg]
            if arg in found or not value.axes & ax.B or value.op in _GIVEN:
                continue
            if levels[arg] < number:
                if arg in outputs:
                    continue
                if not value.axes & ax.S:
                    kept.add(arg)
                    needed[levels[arg]].add(arg)
                    continue
            found.add(arg)
            waiting.append(arg)
    return sorted(found)
