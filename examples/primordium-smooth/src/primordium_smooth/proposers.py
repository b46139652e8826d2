"""A proposer: which candidate comes next, a pure function of the context. Its fields are its options.

Yours: how a genome comes out of ``context.history``, by ``context.random`` alone. What it learns, it learns
each time from the history, so that a run which is resumed proposes the same.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from primordium.search.proposer import Context, Proposal
from primordium.search.space import Space


@dataclass(frozen=True)
class Boltzmann:
    """Boltzmann selection: parents are drawn by exp(fitness / temperature), and the temperature falls.

    Attributes:
        space: what genomes are drawn from.
        temperature: that of the first candidate, in units of fitness.
        half_life: candidates after which it has halved.
        fresh: probability of a random genome, and what is drawn where mutations keep being screened out.
    """

    name: ClassVar[str] = "smooth_boltzmann"
    space: Space
    temperature: float = 0.1
    half_life: float = 100.0
    fresh: float = 0.2

    def propose(self, context: Context) -> Proposal:
        """A mutation of a candidate that did well, or a random genome."""
        random = context.random
        if not context.history or context.attempt > 100 or random.random() < self.fresh:
            return Proposal(self.space.random(random), "random")
        temperature = self.temperature / (1.0 + context.number / self.half_life)
        best = max(one.fitness for one in context.history)
        weights = [math.exp((one.fitness - best) / temperature) for one in context.history]
        (parent,) = random.choices(context.history, weights)
        return Proposal(self.space.mutate(random, parent.genome), "mutation", (parent.id,))
