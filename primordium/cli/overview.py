"""How far a run is, and what is best in it."""

import sqlite3
from dataclasses import asdict
from typing import Any

from primordium.cli.gates import ladder_body, ladder_data
from primordium.cli.output import Page, duration
from primordium.cli.standings import (
    candidate_data,
    candidate_table,
    formula_of,
    lead_data,
    standing_data,
    standings_body,
)
from primordium.errors import StoreError
from primordium.results import Run
from primordium.search.database import Database


def status_page(run: str) -> Page:
    """State, progress, best candidate and gate ladder of a run."""
    found = Run(run)
    progress, config = found.progress, found.config
    state = "complete" if progress.ended else "running" if is_written(run) else "stopped"
    rungs = found.ladder()
    data: dict[str, Any] = {
        "run": run,
        "state": state,
        "candidates": {
            "total": config["candidates"],
            "proposed": progress.accepted,
            "trained": progress.trained,
            "scored": progress.scored,
        },
        "screened": progress.raw,
        "finals": {"total": len(progress.finalists or ()), "trained": len(progress.finals)},
        "seconds": dict(progress.seconds),
        "best": _best(found),
        "ladder": ladder_data(rungs),
        "versions": found.header["versions"],
    }
    return Page(data, [*_status_lines(data), *ladder_body(rungs)])


def _status_lines(data: dict[str, Any]) -> list[str]:
    counts, finals, best = data["candidates"], data["finals"], data["best"]
    lines = [
        f"{data['run']} is {data['state']}: {counts['trained']} of {counts['total']} candidates trained, "
        f"{counts['scored']} scored, {data['screened']:,} screened, "
        f"{duration(data['seconds'].get('evaluate', 0.0))} of training"
    ]
    if finals["total"]:
        lines.append(f"final comparison: {finals['trained']} of {finals['total']}")
    if best:
        lines.append(f"best: {best['id']}  {best['fitness']:.4f}  {best['formula']}")
    if data["state"] == "stopped":
        lines.append(f"go on with: primordium resume {data['run']}")
    return lines


def _best(run: Run) -> dict[str, Any] | None:
    if not run.progress.scored:
        return None
    row = run.candidate(run.best)
    return {"id": row.id, "fitness": row.fitness, "formula": formula_of(row.text)}


def is_written(run: str) -> bool:
    """Whether a process has the run open for writing; on a database server nobody knows."""
    database = Database.at(run, timeout=0.0)
    try:
        with database.explained(), database.locked("a search"):
            return False
    except StoreError as error:
        return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def top_page(run: str, number: int) -> Page:
    """The final comparison, where there was one, and the best candidates by search score."""
    found = Run(run)
    comparison = found.comparison()
    rows = [row for row in found.candidates(number) if row.fitness is not None]
    data = {
        "run": run,
        "leaderboard": [standing_data(line) for line in comparison.standings],
        "lead": lead_data(comparison),
        "rank_correlations": [asdict(pair) for pair in comparison.correlations],
        "candidates": [candidate_data(row) for row in rows],
    }
    body: list[Any] = []
    if comparison.standings:
        body = standings_body(comparison, "Validation")
    if rows:
        body += ["Search score, on the one seed they were selected on", candidate_table(rows)]
    return Page(data, body or [f"no candidate of {run} has a score yet"])
