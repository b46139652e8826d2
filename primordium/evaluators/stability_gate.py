"""The gate of adversarial stability: small moves of the weights must not make the gradient explode."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from primordium.errors import ConfigError
from primordium.evaluators.gate import Progress
from primordium.evaluators.stability import BATCH_SIZE, LIMIT, RATE, ascend


@dataclass(frozen=True)
class StabilityGate:
    """Kills what an adversary can make explode in a few steps (Liu et al. 2020; see :func:`ascend`).

    It moves the initial weights of one architecture: what explodes there mostly explodes on the others. The
    defaults are calibrated on the residual network of width 8 on digits: known layers last for more than 60
    steps, and chains without a normalization for less than 16. Inverted bottlenecks and squeeze-excite,
    held out, agree. In a transformer EvoNorm-S0 does not last for 20.

    Attributes:
        steps: its place in the ladder, after the quality gate as in the paper; it takes no training steps.
        model: the architecture; the first if none is named.
        ascent: the ascent steps that a candidate must survive.
        rate: the length of a step, over the initial norm of each parameter tensor.
        limit: the gradient norm beyond which it has exploded.
        batch_size: examples in the frozen batch.
    """

    steps: Annotated[int, Field(ge=1)] = 100
    model: str | None = None
    ascent: Annotated[int, Field(ge=1)] = 20
    rate: Annotated[float, Field(gt=0)] = RATE
    limit: Annotated[float, Field(gt=0)] = LIMIT
    batch_size: Annotated[int, Field(ge=1)] = BATCH_SIZE
    name: ClassVar[str] = "stability"
    needs_scores: ClassVar[bool] = False

    def check(self, progress: Progress) -> str | None:
        """See :class:`StabilityGate`.

        Raises:
            ConfigError: there is no such architecture, or none to experiment on; or the network or the
                loss cannot be differentiated twice.
            GraphError: a primitive of the candidate cannot be differentiated twice.
        """
        if progress.trial is None:
            raise ConfigError("gates.stability: it needs the networks before training (Progress.trial)")
        networks = progress.trial.networks
        model = next(iter(networks)) if self.model is None else self.model
        if model not in networks:
            raise ConfigError(
                f"gates.stability: there is no model {model!r}; the models are {', '.join(networks)}"
            )
        inputs, targets = progress.trial.batch(self.batch_size)
        found = ascend(
            networks[model](), inputs, targets, progress.trial.loss, self.ascent, self.rate, self.limit
        )
        if not found.exploded:
            return None
        return f"gradient explodes {_after(found.steps)} on {model}"


def _after(steps: int) -> str:
    if steps == 0:
        return "at the initial weights"
    return f"after {steps} ascent {'step' if steps == 1 else 'steps'}"
