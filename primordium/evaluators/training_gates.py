"""The built-in training gates: ten steps that must not explode, and a quality threshold at 100 steps."""

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
