"""Reading a run: candidates, the leaderboard with intervals, graphs and modules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from primordium.configs.schema import check_config
from primordium.errors import StoreError
from primordium.kernels.module import GraphModule
from primordium.plugins.methods import method
from primordium.plugins.primitives import load_primitives
from primordium.primitives.graph import Graph
from primordium.primitives.serial import from_dict
from primordium.search.ladder import Rung, gate_names, ladder
from primordium.search.progress import Progress, fitness
from primordium.search.space import Space, get_space
from primordium.search.store import CandidateRow, Store
from primordium.session import ranked

Scores = Mapping[str, Mapping[str, float]]
"""Score by seed and architecture."""

_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228}
_Z95 = 1.959964


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        name: candidate id or method name.
        text: the graph's one-line text.
        mean: mean score over architectures and seeds.
        interval: half the width of the 95 % interval over seeds (Student's t), ``None`` below two seeds.
        seeds: number of seeds.
        by_model: mean score by architecture.
        baseline: whether it is a known method.
    """

    name: str
    text: str
    mean: float
    interval: float | None
    seeds: int
    by_model: Mapping[str, float]
    baseline: bool


def standing(name: str, text: str, scores: Scores, baseline: bool) -> Standing:
    """Summarize scores by seed; a run that diverged counts as 0 on its architecture."""
    means = [fitness(by_model) for by_model in scores.values()]
    mean = sum(means) / len(means) if means else 0.0
    models = sorted({model for by_model in scores.values() for model in by_model})
    by_model = {m: sum(s.get(m, 0.0) for s in scores.values()) / len(scores) for m in models}
    return Standing(name, text, mean, half_width(means), len(means), by_model, baseline)


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % t-interval of a mean."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    return _student(count - 1) * deviation / math.sqrt(count)


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t; beyond the table by its expansion in 1/freedom (error < 0.003)."""
    if freedom in _T95:
        return _T95[freedom]
    first = (_Z95**3 + _Z95) / 4
    second = (5 * _Z95**5 + 16 * _Z95**3 + 3 * _Z95) / 96
    return _Z95 + first / freedom + second / freedom**2


@dataclass(frozen=True)
class Difference:
    """How far one entry of the leaderboard is ahead of another, paired seed by seed.

    Attributes:
        mean: mean over common seeds of the difference of scores.
        interval: half the width of its 95 % interval, ``None`` below two common seeds.
        seeds: number of common seeds.
    """

    mean: float
    interval: float | None
    seeds: int

    @property
    def separated(self) -> bool:
        """Whether the 95 % interval leaves out 0."""
        return self.interval is not None and abs(self.mean) > self.interval


def difference(a: Scores, b: Scores) -> Difference:
    """By how much ``a`` is ahead of ``b``: the same seed means the same weights and batches, so they pair."""
    values = [fitness(a[seed]) - fitness(b[seed]) for seed in a if seed in b]
    mean = sum(values) / len(values) if values else 0.0
    return Difference(mean, half_width(values), len(values))


class Run:
    """A run on disk, read without disturbing who writes it.

    Args:
        path: its directory, or a database URL.
    """

    def __init__(self, path: Path | str) -> None:
        load_primitives()
        self.path = path
        with Store.open(path, read_only=True) as store:
            self.header: dict[str, Any] = store.header
            self.progress = Progress()
            for event in store.events():
                self.progress.apply(event)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration it was started with."""
        return dict(self.header["config"])

    @cached_property
    def _space(self) -> Space:
        return get_space(self.config["space"])

    def candidates(self, limit: int | None = None) -> list[CandidateRow]:
        """Candidates by search score, best first."""
        with Store.open(self.path, read_only=True) as store:
            return store.candidates("fitness", limit)

    def candidate(self, id: str) -> CandidateRow:
        """One candidate.

        Raises:
            StoreError: there is none of that id.
        """
        with Store.open(self.path, read_only=True) as store:
            return store.candidate(id)

    def graph(self, id: str | None = None) -> Graph:
        """The graph of a candidate (the best if not named)."""
        return self._space.express(from_dict(self.candidate(id or self.best).genome))

    def text(self, name: str) -> str:
        """The one-line text of a candidate or of a baseline's graph."""
        if name in self.config["final"]["baselines"]:
            return str(replace(method(name).graph, groups=self.config["groups"]))
        return str(self.graph(name))

    @property
    def best(self) -> str:
        """Id of the best candidate: by the final comparison where there was one.

        Raises:
            StoreError: none has a score yet.
        """
        order = ranked(self.progress)
        if not order:
            raise StoreError(f"run {str(self.path)!r} has no candidate with a score yet; resume it first")
        return order[0]

    def layer(self, channels: int, id: str | None = None, **options: Any) -> nn.Module:
        """A candidate as a module, with fresh parameters."""
        return GraphModule(self.graph(id), channels, **options)

    def leaderboard(self) -> list[Standing]:
        """Finalists and baselines, trained alike with fresh seeds, best first; none before the comparison."""
        entries = dict(self.progress.finalists or ())
        lines = [
            standing(name, self.text(name), scores, entries[name] is None)
            for name, scores in self.progress.finals.items()
        ]
        return sorted(lines, key=lambda line: (-line.mean, line.name))

    def ladder(self) -> list[Rung]:
        """The account of every gate, in the order in which candidates meet them."""
        config = check_config(self.config, "the run's configuration")
        return ladder(self.progress, *gate_names(config.gates, config.training.steps))
