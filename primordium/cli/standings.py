"""The leaderboard of a run, and what may be said of its winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from primordium.cli.output import make_table, plus_minus
from primordium.plugins.novelty import nearest_method
from primordium.primitives.text import formula, parse
from primordium.results import Difference, Scores, Standing, difference

if TYPE_CHECKING:
    from rich.table import Table

    from primordium.primitives.graph import Graph
    from primordium.search.store import CandidateRow

Finals = Mapping[str, Scores]


def formula_of(text: str) -> str:
    """The formula of a graph's text, without its declarations."""
    return formula(parse(text))


def standing_data(line: Standing) -> dict[str, Any]:
    """A line of the leaderboard as plain data."""
    return {**asdict(line), "formula": formula_of(line.text)}


def leaderboard_table(standings: Sequence[Standing]) -> Table:
    """Finalists and baselines, best first, each with its interval over seeds and its mean by architecture."""
    models = list(standings[0].by_model)
    headings = [_stacked(model) for model in models]
    table = make_table("#", "name", "", "score", *headings, right=("#", "score", *headings))
    winner = _first_candidate(standings)
    for place, line in enumerate(standings, 1):
        by_model = (f"{line.by_model.get(model, 0.0):.4f}" for model in models)
        kind, style = ("known", "dim") if line.baseline else ("found", "bold" if line is winner else "")
        score = plus_minus(line.mean, line.interval)
        table.add_row(str(place), line.name, kind, score, *by_model, style=style)
    return table


def formula_table(standings: Sequence[Standing]) -> Table:
    """The formulas of what was found, each with the known method that it is most like."""
    table = make_table(
        "found", "formula", "nearest known method", folding=("formula", "nearest known method")
    )
    for line in standings:
        if not line.baseline:
            nearest = nearest_data(parse(line.text))
            table.add_row(line.name, formula_of(line.text), nearest_words(nearest) if nearest else "")
    return table


def nearest_data(graph: Graph) -> dict[str, Any] | None:
    """The known method that a graph behaves most like, as plain data."""
    found = nearest_method(graph)
    return None if found is None else asdict(found)


def nearest_words(nearest: Mapping[str, Any]) -> str:
    """The same in words."""
    name, distance = nearest["name"], nearest["distance"]
    return f"behaves exactly like {name}" if nearest["same"] else f"{name} (distance {distance:.2f})"


def _stacked(name: str) -> str:
    """An architecture's name as a narrow heading."""
    return name.replace("_", "\n")


def _first_candidate(standings: Sequence[Standing]) -> Standing | None:
    return next((line for line in standings if not line.baseline), None)


def lead(standings: Sequence[Standing], finals: Finals) -> tuple[Standing, Standing, Difference] | None:
    """The best candidate, the best baseline and how far the first is ahead; ``None`` where one is missing."""
    winner = _first_candidate(standings)
    rival = next((line for line in standings if line.baseline), None)
    if winner is None or rival is None:
        return None
    return winner, rival, difference(finals[winner.name], finals[rival.name])


def verdict(standings: Sequence[Standing], finals: Finals) -> str:
    """A sentence that claims no more than the seeds allow."""
    found = lead(standings, finals)
    if found is None:
        return "No candidate was compared with a baseline."
    winner, rival, gap = found
    how = f"difference {plus_minus(gap.mean, gap.interval)}, paired over {gap.seeds} seeds"
    if not gap.separated:
        return f"{winner.name} and {rival.name}, the best baseline, are not separated at 95 %: {how}."
    if gap.mean < 0:
        return f"No candidate beats {rival.name}, the best baseline; {winner.name} is behind at 95 %: {how}."
    return f"{winner.name} beats {rival.name}, the best baseline, at 95 %: {how}."


def lead_data(standings: Sequence[Standing], finals: Finals) -> dict[str, Any] | None:
    """What :func:`verdict` says, as plain data."""
    found = lead(standings, finals)
    if found is None:
        return None
    winner, rival, gap = found
    names = {"candidate": winner.name, "baseline": rival.name}
    return {**names, **asdict(gap), "separated": gap.separated, "sentence": verdict(standings, finals)}


def candidate_table(rows: Sequence[CandidateRow]) -> Table:
    """Candidates by search score: one seed each, the one that selected them."""
    table = make_table("#", "id", "score", "formula", right=("#", "score"), folding=("formula",))
    for place, row in enumerate(rows, 1):
        score = "" if row.fitness is None else f"{row.fitness:.4f}"
        table.add_row(str(place), row.id, score, formula_of(row.text))
    return table


def candidate_data(row: CandidateRow) -> dict[str, Any]:
    """A candidate as plain data, without its genome."""
    data = asdict(row)
    del data["genome"]
    return {**data, "formula": formula_of(row.text)}


def origin(row: CandidateRow) -> str:
    """How a candidate came to be: ``mutation of c00012``."""
    return f"{row.origin} of {', '.join(row.parents)}" if row.parents else row.origin


def standings_body(standings: Sequence[Standing], finals: Finals, what: str) -> list[Any]:
    """The leaderboard as it is printed: what its numbers are, the table, the sentence, the formulas.

    Args:
        standings: not empty, best first.
        finals: their scores by name, seed and architecture.
        what: names the data that was scored.
    """
    seeds = standings[0].seeds
    title = f"{what} score: mean over architectures, with the 95 % interval over {seeds} fresh seeds"
    return [title, leaderboard_table(standings), verdict(standings, finals), formula_table(standings)]
