"""The built-in training gates: ten steps that must not explode, a hurdle at 25, a threshold at 100."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from primordium.evaluators.gate import Progress


@dataclass(frozen=True)
class TenStep:
    """Kills what has a non-finite or exploding loss in its first steps, on any architecture.

    Attributes:
        steps: when it looks.
        growth: the largest loss allowed, as a multiple of the first.
    """

    steps: Annotated[int, Field(ge=1)] = 10
    growth: float = 10.0
    name: ClassVar[str] = "ten_step"
    needs_scores: ClassVar[bool] = False

    def check(self, progress: Progress) -> str | None:
        """See :class:`TenStep`."""
        for model, losses in progress.losses.items():
            if not progress.finite[model]:
                return f"loss not finite on {model}"
            if losses and max(losses) > self.growth * max(abs(losses[0]), 1e-6):
                return f"loss explodes on {model}"
        return None


@dataclass(frozen=True)
class Hurdle:
    """Kills what has learned far less than a known layer on the same batches, on any architecture.

    Learning is the fall of the training loss, from the known layer's first loss to the mean of the last few.
    Where there is nothing to compare with, or the known layer learns nothing, it kills nothing.

    Attributes:
        steps: when it looks.
        share: the least share of the known layer's fall.
        mean_of: over how many of the last losses the mean is.
    """

    steps: Annotated[int, Field(ge=1)] = 25
    share: float = 0.2
    mean_of: Annotated[int, Field(ge=1)] = 5
    name: ClassVar[str] = "hurdle"
    needs_scores: ClassVar[bool] = False

    def check(self, progress: Progress) -> str | None:
        """See :class:`Hurdle`."""
        for model, known in progress.reference.items():
            first, reached = known[0], self._level(known)
            if not reached < first:
                continue
            losses = progress.losses[model]
            if not progress.finite[model]:
                return f"loss not finite on {model}"
            if not first - self._level(losses) >= self.share * (first - reached):
                return f"learns too slowly on {model}"
        return None

    def _level(self, losses: tuple[float, ...]) -> float:
        last = losses[-self.mean_of :]
        return sum(last) / len(last)


@dataclass(frozen=True)
class Quality:
    """Kills what is not clearly better than chance on any architecture (Liu et al. 2020: 20 % at 100 steps).

    Where chance is unknown it asks for finite losses only.

    Attributes:
        steps: when it looks.
        factor: the least validation score, as a multiple of chance.
    """

    steps: Annotated[int, Field(ge=1)] = 100
    factor: float = 2.0
    name: ClassVar[str] = "quality"
    needs_scores: ClassVar[bool] = True

    def check(self, progress: Progress) -> str | None:
        """See :class:`Quality`."""
        for model, score in progress.scores.items():
            if not progress.finite[model]:
                return f"loss not finite on {model}"
            if progress.chance is not None and not score >= self.factor * progress.chance:
                return f"below {self.factor:g} × chance on {model}"
        return None
