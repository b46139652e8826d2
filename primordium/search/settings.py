"""What shapes the log of a run, besides its proposer and its gates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from primordium.primitives.graph import Graph

BEST = 256
"""The most candidates that can be promoted or compared: how many a search remembers as its best."""


@dataclass(frozen=True)
class Rung:
    """A step of promotion: the best so far are trained again, for longer.

    Attributes:
        factor: how many times the search's training steps.
        keep: how many of the best of the rung before are promoted to this one.
    """

    factor: int
    keep: int


@dataclass(frozen=True)
class Settings:
    """What shapes the log.

    Attributes:
        seed: the run's seed; every generator derives from it.
        candidates: how many candidates are trained.
        batch: candidates a batch.
        window: batch ``n`` sees the results up to ``n - window``; ``window × batch`` are in flight at most.
        finalists: how many of the best are trained again with fresh seeds beside the baselines.
        seeds: seeds of that comparison to begin with.
        most_seeds: seeds of that comparison at most, for entries that are not separated with fewer.
        baselines: the graphs that stand in the same table, by name.
        rungs: promotion between the search and the comparison, in order.
        audit: share of the training steps that goes to killed candidates.
        full_steps: training steps of one whole evaluation, over all architectures.
    """

    seed: int
    candidates: int
    batch: int
    window: int
    finalists: int
    seeds: int
    most_seeds: int = 0
    baselines: Mapping[str, Graph] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    audit: float = 0.0
    full_steps: int = 1

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-self.candidates // self.batch)

    def size(self, batch: int) -> int:
        """How many candidates batch number ``batch`` has."""
        return min(self.batch, self.candidates - batch * self.batch)

    @property
    def final_factor(self) -> int:
        """How many times the search's training steps the final comparison takes: those of the last rung."""
        return self.rungs[-1].factor if self.rungs else 1
