"""A gate: a cheap test before the dear ones, a pure function of the graph. Its fields are its options.

Yours: what it kills, the reason it gives, and its rank. With ``steps`` and ``needs_scores`` in place of
``rank`` it is asked during training, and given losses and scores.
"""

from dataclasses import dataclass
from typing import ClassVar

from primordium.evaluators.gate import Subject
from primordium.primitives.primitive import PRIMITIVES

CHOICES = ("max", "min", "greater", "equal", "where")


@dataclass(frozen=True)
class NoKinks:
    """Kills what is not differentiable everywhere.

    Attributes:
        most: how many kinks are forgiven.
    """

    most: int = 0
    name: ClassVar[str] = "smooth_no_kinks"
    rank: ClassVar[int] = 10  # after `static` (0), before `numeric` (20)

    def check(self, subject: Subject) -> str | None:
        """The reason to kill the candidate, or ``None``."""
        operations = [node.op for node in subject.graph.nodes]
        kinks = sum(op in CHOICES or bool(PRIMITIVES[op].kinks) for op in operations)
        return "not smooth" if kinks > self.most else None
