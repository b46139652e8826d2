"""The account of a run's gates, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from primordium.cli.output import Page, duration, make_table
from primordium.results import Run
from primordium.search.ladder import TOP, Rung

if TYPE_CHECKING:
    from rich.table import Table

_MOST_REASONS = 3
_KERNELS = ("compiled", "found", "seconds")


def gates_page(run: str) -> Page:
    """The ladder of a run with everything that is known of each gate."""
    found = Run(run)
    rungs = found.ladder()
    audited = sum(rung.audited for rung in rungs)
    share = found.config["audit"]
    words = (
        f"Audited: {audited} killed candidates were trained all the same ({100 * share:g} % of the training "
        f"budget). A kill was false where the candidate would have been among the best "
        f"{100 * TOP:g} % of the run; of a duplicate, where its twin was not."
    )
    kernels = {name: found.progress.seconds.get(f"kernels {name}", 0.0) for name in _KERNELS}
    data = {"run": run, "ladder": ladder_data(rungs)}
    if not any(kernels.values()):
        return Page(data, [*ladder_body(rungs), words])
    compiled, there, seconds = kernels.values()
    cost = f"Fused kernels: {compiled:,.0f} compiled in {duration(seconds)}, {there:,.0f} found in the cache."
    return Page({**data, "kernels": kernels}, [*ladder_body(rungs), words, cost])


def ladder_body(rungs: Sequence[Rung]) -> list[Any]:
    """The gate ladder as it is printed: the table, and why each gate killed."""
    reasons = [f"    {rung.gate}: {_reasons(rung.killed)}" for rung in rungs if rung.killed]
    return ["Gate ladder", ladder_table(rungs), *(["Killed", *reasons, ""] if reasons else [])]


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """What every gate saw, killed, spent and saved, and how often it is wrong."""
    numbers = ("seen", "killed", "share", "seconds", "per second", "saved")
    audited = any(rung.audited for rung in rungs)
    further = ("audited", "false kills (95 %)") if audited else ()
    table = make_table("gate", *numbers, *further, right=(*numbers, *further))
    for rung in rungs:
        killed = sum(rung.killed.values())
        share = f"{100 * killed / rung.seen:.0f} %" if rung.seen else ""
        rate = _rate(rung.seen / rung.seconds) if rung.seen and rung.seconds > 0 else ""
        seconds = f"{rung.seconds:.2f}" if rung.seconds else ""
        saved = duration(rung.saved) if rung.saved >= 0.5 else ""
        cells = (f"{rung.seen:,}", f"{killed:,}", share, seconds, rate, saved)
        table.add_row(rung.gate, *cells, *((_audited(rung), _false_kills(rung)) if audited else ()))
    return table


def ladder_data(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    """The gate ladder as plain data."""
    return [{**asdict(rung), "false_kill_rate": rung.false_kill_rate} for rung in rungs]


def _audited(rung: Rung) -> str:
    return f"{rung.audited:,}" if rung.audited else ""


def _false_kills(rung: Rung) -> str:
    """The rate and its interval: ``4 % (0-20)``."""
    found = rung.false_kill_rate
    if found is None:
        return ""
    rate, low, high = (100 * value for value in found)
    return f"{rate:.0f} % ({low:.0f}-{high:.0f})"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2f}"


def _reasons(killed: Mapping[str, int]) -> str:
    """The commonest reasons with their counts."""
    ordered = sorted(killed.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{reason} {count:,}" for reason, count in ordered[:_MOST_REASONS]]
    rest = sum(count for _, count in ordered[_MOST_REASONS:])
    return ", ".join([*shown, f"others {rest:,}"] if rest else shown)
