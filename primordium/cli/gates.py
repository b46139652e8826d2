"""The account of a run's gates, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from primordium.cli.output import make_table

if TYPE_CHECKING:
    from rich.table import Table

    from primordium.search.ladder import Rung

_MOST_REASONS = 3


def ladder_body(rungs: Sequence[Rung]) -> list[Any]:
    """The gate ladder as it is printed: the table, and why each gate killed."""
    reasons = [f"    {rung.gate}: {_reasons(rung.killed)}" for rung in rungs if rung.killed]
    return ["Gate ladder", ladder_table(rungs), *(["Killed", *reasons, ""] if reasons else [])]


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """What every gate saw, killed and spent."""
    numbers = ("seen", "killed", "share", "seconds", "per second")
    table = make_table("gate", *numbers, right=numbers)
    for rung in rungs:
        killed = sum(rung.killed.values())
        share = f"{100 * killed / rung.seen:.0f} %" if rung.seen else ""
        rate = _rate(rung.seen / rung.seconds) if rung.seen and rung.seconds > 0 else ""
        seconds = f"{rung.seconds:.2f}" if rung.seconds else ""
        table.add_row(rung.gate, f"{rung.seen:,}", f"{killed:,}", share, seconds, rate)
    return table


def ladder_data(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    """The gate ladder as plain data."""
    return [asdict(rung) for rung in rungs]


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2f}"


def _reasons(killed: Mapping[str, int]) -> str:
    """The commonest reasons with their counts."""
    ordered = sorted(killed.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{reason} {count:,}" for reason, count in ordered[:_MOST_REASONS]]
    rest = sum(count for _, count in ordered[_MOST_REASONS:])
    return ", ".join([*shown, f"others {rest:,}"] if rest else shown)
