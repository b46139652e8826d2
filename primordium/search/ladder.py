"""The account of the gate ladder: what each gate saw, killed and why, and what it cost, saved and lost.

The log counts what was killed; how many came to a gate follows, since candidates meet the gates in one order.
How often a gate is wrong is measured: some of what it killed was trained all the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primordium.evaluators.gates import make_gates
from primordium.evaluators.screening import DUPLICATE
from primordium.search.comparison import proportion_interval
from primordium.search.progress import FAILURE, Audit, Progress

TOP = 0.1
"""A kill was false where the candidate would have been among this share of the scored ones."""

_SAME_STRUCTURE = "same structure"


@dataclass(frozen=True)
class Rung:
    """One step of the gate ladder.

    Attributes:
        gate: its name; duplicates are looked for twice, by structure and by behaviour.
        seen: how many candidates came to it.
        killed: how many it killed, by reason.
        seconds: what it spent; for a gate in training, the steps up to it.
        saved: seconds that those it killed would have cost further on, at the mean of those it let pass.
        audited: how many of those it killed were trained all the same.
        false_kills: how many of these were among the best tenth of the run; a duplicate counts only where
            the candidate that it is said to be like was not.
    """

    gate: str
    seen: int
    killed: Mapping[str, int]
    seconds: float
    saved: float = 0.0
    audited: int = 0
    false_kills: int = 0

    @property
    def false_kill_rate(self) -> tuple[float, float, float] | None:
        """The measured rate with its 95 % interval; ``None`` where nothing was audited."""
        if not self.audited:
            return None
        return (self.false_kills / self.audited, *proportion_interval(self.false_kills, self.audited))


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
    failed = [(FAILURE, killed[FAILURE], 0.0)] if FAILURE in killed else []
    trained = [(name, killed.get(name, {}), spent(name, 0.0)) for name in training]
    in_training = _descend(progress.trained, failed + trained, spent("score", 0.0), progress)
    downstream = spent("score", 0.0) + sum(rung.seconds for rung in in_training)
    return _descend(progress.raw, steps, downstream, progress) + in_training


def _descend(
    seen: int, steps: Sequence[tuple[str, Mapping[str, int], float]], after: float, progress: Progress
) -> list[Rung]:
    """The rungs of gates met one after the other, with ``after`` seconds spent on those that passed all."""
    further = after + sum(seconds for _, _, seconds in steps)
    bar = best_bar(progress.fitnesses)
    rungs = []
    for name, killed, seconds in steps:
        further -= seconds
        count = sum(killed.values())
        passed = seen - count
        saved = count * max(further, 0.0) / passed if passed else 0.0
        audits = [audit for audit in progress.audits if _rung_of(audit) == name]
        false = sum(is_false_kill(audit, bar) for audit in audits)
        rungs.append(Rung(name, seen, killed, seconds, saved, len(audits), false))
        seen = passed
    return rungs


def _rung_of(audit: Audit) -> str:
    if audit.gate != DUPLICATE:
        return audit.gate
    return f"{DUPLICATE} ({'structure' if audit.reason == _SAME_STRUCTURE else 'behaviour'})"


def best_bar(fitnesses: Iterable[float], top: float = TOP) -> float:
    """The least fitness of the best ``top`` share of the scored candidates; infinite where there is none."""
    scored = sorted((f for f in fitnesses if f > -math.inf), reverse=True)
    return scored[max(1, round(top * len(scored))) - 1] if scored else math.inf


def is_false_kill(audit: Audit, bar: float) -> bool:
    """Whether a kill cost the run a candidate of its best tenth."""
    lost = audit.fitness >= bar
    return lost and (audit.twin is None or audit.twin < bar)


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
