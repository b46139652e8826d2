"""The contract of a gate: a cheap test that a candidate must pass before anything dearer is spent on it.

Screening gates look at the graph alone, in milliseconds or less, and are pure functions of it. Training gates
look at networks after some steps of training. Each gives a short reason when it kills.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from primordium.kernels.fingerprint import Fingerprint, fingerprint
from primordium.primitives.graph import Graph
from primordium.primitives.passes import Rewritten, rewrite


class Subject:
    """A candidate under screening: what gates ask about it, each computed once and only if asked.

    Args:
        genome: the graph as proposed, dead nodes included.
    """

    def __init__(self, genome: Graph) -> None:
        self.genome = genome

    @cached_property
    def rewritten(self) -> Rewritten:
        """The canonicalized nodes, not yet a graph."""
        return rewrite(self.genome)

    @cached_property
    def key(self) -> int:
        """64-bit identity by structure."""
        return self.rewritten.key

    @cached_property
    def graph(self) -> Graph:
        """The canonical live graph."""
        return self.rewritten.graph()

    @cached_property
    def behaviour(self) -> Fingerprint | None:
        """What it does on the probes; ``None`` where that is not finite."""
        return fingerprint(self.graph)


@runtime_checkable
class ScreeningGate(Protocol):
    """A gate that looks at the graph alone.

    ``rank`` is its place in the ladder: cheaper gates come first. Duplicates by structure are sorted out after
    the first gate, those by behaviour after the last.
    """

    name: str
    rank: int

    def check(self, subject: Subject) -> str | None:
        """The reason to kill the candidate, or ``None``."""


@dataclass(frozen=True)
class Progress:
    """Networks of one candidate after some steps, one per architecture.

    Attributes:
        losses: training losses so far by architecture.
        finite: whether all losses were finite.
        scores: validation metric by architecture.
        chance: the metric of guessing.
    """

    losses: Mapping[str, tuple[float, ...]]
    finite: Mapping[str, bool]
    scores: Mapping[str, float]
    chance: float


@runtime_checkable
class TrainingGate(Protocol):
    """A gate that looks at training after ``steps`` steps.

    ``needs_scores`` says whether it looks at validation scores, which cost a pass over the validation data.
    """

    name: str
    steps: int
    needs_scores: bool

    def check(self, progress: Progress) -> str | None:
        """The reason to kill the candidate, or ``None``."""
