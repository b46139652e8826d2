"""The confirmation of a run: fresh seeds, held-out data, the same table."""

from __future__ import annotations

from collections.abc import Callable

import typer

from primordium.cli.live import on_terminal
from primordium.cli.output import Page
from primordium.cli.standings import lead_data, standing_data, standings_body
from primordium.results import Run, Standing, standing
from primordium.session import confirm


def confirmation_page(run: str, top: int, seeds: int) -> Page:
    """Train the best ``top`` candidates and the baselines again, and compare them on held-out data."""
    found = Run(run)
    total = seeds * (top + len(found.config["final"]["baselines"]))
    scores = confirm(run, top=top, seeds=seeds, report=_counter(total))
    standings = [_standing(found, name, scores[name]) for name in scores]
    standings.sort(key=lambda line: (-line.mean, line.name))
    data = {
        "run": run,
        "seeds": seeds,
        "split": "held_out",
        "leaderboard": [standing_data(line) for line in standings],
        "lead": lead_data(standings, scores),
    }
    return Page(data, standings_body(standings, scores, "Held-out"))


def _standing(run: Run, name: str, scores: dict[str, dict[str, float]]) -> Standing:
    baseline = name in run.config["final"]["baselines"]
    return standing(name, run.text(name), scores, baseline)


def _counter(total: int) -> Callable[[str, int], None]:
    """Counts trainings on standard error: in place on a terminal, by tenths elsewhere."""
    done = 0

    def count(name: str, seed: int) -> None:
        nonlocal done
        done += 1
        if on_terminal():
            typer.echo(f"\rtrained {done}/{total} ", err=True, nl=done == total)
        elif 10 * done // total > 10 * (done - 1) // total:
            typer.echo(f"trained {done}/{total}", err=True)

    return count
