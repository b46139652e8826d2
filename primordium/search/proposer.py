"""The contract of a proposer: which candidate comes next, as a pure function of what is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, runtime_checkable

from primordium.primitives.graph import Graph


@dataclass(frozen=True)
class Individual:
    """A candidate with its outcome.

    Attributes:
        id: its id in the run.
        genome: its graph, dead nodes included.
        scores: score by architecture, higher is better; empty if a training gate killed it.
        fitness: mean score, 0 if killed.
    """

    id: str
    genome: Graph
    scores: Mapping[str, float]
    fitness: float


@dataclass(frozen=True)
class Proposal:
    """A genome to screen.

    Attributes:
        genome: the graph.
        origin: how it came to be: ``random``, ``mutation``, ``method:<name>``.
        parents: ids of the candidates it comes from.
    """

    genome: Graph
    origin: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a proposer may look at.

    Attributes:
        random: the only source of randomness, seeded by the run's seed and the batch.
        history: candidates with committed results, oldest first.
        number: how many candidates were accepted before this one.
        attempt: how many proposals for this place were screened out.
    """

    random: Random
    history: Sequence[Individual]
    number: int
    attempt: int


@runtime_checkable
class Proposer(Protocol):
    """Proposes genomes; keeps no state of its own, so that a resumed run proposes the same."""

    def propose(self, context: Context) -> Proposal:
        """The next genome to screen, a pure function of the context."""
