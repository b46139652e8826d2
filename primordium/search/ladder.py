"""The account of the gate ladder: how many candidates came to each gate, what it killed and why, its cost.

The log counts what was killed; how many came to a gate follows, since candidates meet the gates in one order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primordium.evaluators.gates import make_gates
from primordium.evaluators.screening import DUPLICATE
from primordium.search.progress import FAILURE, Progress

_SAME_STRUCTURE = "same structure"


@dataclass(frozen=True)
class Rung:
    """One step of the gate ladder.

    Attributes:
        gate: its name; duplicates are looked for twice, by structure and by behaviour.
        seen: how many candidates came to it.
        killed: how many it killed, by reason.
        seconds: what it spent; for a gate in training, the steps up to it.
    """

    gate: str
    seen: int
    killed: Mapping[str, int]
    seconds: float


def ladder(progress: Progress, screening: Sequence[str], training: Sequence[str]) -> list[Rung]:
    """The account of every gate in the order in which candidates meet them.

    Args:
        progress: a run.
        screening: names of its screening gates, in order.
        training: names of its training gates, in order.
    """
    killed = {gate: dict(reasons) for gate, reasons in progress.killed.items()}
    duplicates = killed.pop(DUPLICATE, {})
    structure = {r: n for r, n in duplicates.items() if r == _SAME_STRUCTURE}
    behaviour = {r: n for r, n in duplicates.items() if r != _SAME_STRUCTURE}
    spent = progress.seconds.get
    steps = [(name, killed.get(name, {}), spent(name, 0.0)) for name in screening]
    steps.insert(1, (f"{DUPLICATE} (structure)", structure, spent(DUPLICATE, 0.0)))
    steps.append((f"{DUPLICATE} (behaviour)", behaviour, 0.0))
    rungs = _descend(progress.raw, steps)
    failed = [(FAILURE, killed[FAILURE], 0.0)] if FAILURE in killed else []
    trained = [(name, killed.get(name, {}), spent(name, 0.0)) for name in training]
    return rungs + _descend(len(progress.history), failed + trained)


def _descend(seen: int, steps: Sequence[tuple[str, Mapping[str, int], float]]) -> list[Rung]:
    rungs = []
    for name, killed, seconds in steps:
        rungs.append(Rung(name, seen, killed, seconds))
        seen -= sum(killed.values())
    return rungs


def gate_names(gates: Mapping[str, Mapping[str, Any]], steps: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The screening gates and the training gates of a configuration, in order.

    Args:
        gates: thresholds by gate name.
        steps: how long candidates are trained; later gates never look.

    Raises:
        PluginError: there is no gate of one of these names.
    """
    screening, training = make_gates(gates)
    return tuple(g.name for g in screening), tuple(g.name for g in training if g.steps <= steps)
