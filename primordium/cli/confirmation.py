"""The confirmation of a run: fresh seeds, held-out data, the same table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from primordium.cli.live import on_terminal
from primordium.cli.output import Page
from primordium.cli.standings import lead_data, standing_data, standings_body
from primordium.confirmation import confirm
from primordium.results import Comparison, Run, Standing, standing


def confirmation_page(run: str, top: int, seeds: int, models: Sequence[str] | None) -> Page:
    """Train the best ``top`` candidates and the baselines again, and compare them on held-out data."""
    found = Run(run)
    total = seeds * (top + len(found.config["final"]["baselines"]))
    confirmation = confirm(run, top=top, seeds=seeds, models=models, report=_counter(total))
    scores, unseen = confirmation.scores, confirmation.unseen
    standings = [_standing(found, name, scores[name]) for name in scores]
    standings.sort(key=lambda line: (-line.mean, line.name))
    comparison = Comparison(standings, scores)
    data = {
        "run": run,
        "seeds": seeds,
        "split": "held_out",
        "unseen_models": list(unseen),
        "leaderboard": [standing_data(line) for line in standings],
        "lead": lead_data(comparison),
    }
    body = standings_body(comparison, "Held-out")
    if unseen:
        body.append(f"The search did not use {', '.join(unseen)}.")
    return Page(data, body)


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
