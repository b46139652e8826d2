"""The audit of the gates: a share of the training goes to candidates that they killed.

What a killed candidate would have scored says how often its gate is wrong. Which are drawn is a pure function
of the run's seed, the batch and the prefix of the log that its proposals see.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from primordium.primitives.graph import Graph
from primordium.primitives.serial import to_dict
from primordium.primitives.text import to_text
from primordium.search.progress import Killed, Progress
from primordium.search.settings import Settings


class Reservoir:
    """One of the candidates that each gate killed, every one with the same chance."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._seen: dict[str, int] = {}
        self.kept: dict[str, Killed] = {}

    def offer(self, killed: Killed) -> None:
        """Look at one more."""
        seen = self._seen[killed.gate] = self._seen.get(killed.gate, 0) + 1
        if self._random.random() * seen < 1.0:
            self.kept[killed.gate] = killed


def due(progress: Progress, settings: Settings) -> int:
    """How many audits the share still allows, at the prices of a whole training each."""
    if not settings.audit:
        return 0
    allowed = progress.steps * settings.audit / (1.0 - settings.audit)
    return max(0, int(allowed // settings.full_steps) - progress.audits_sent)


def draw(progress: Progress, count: int, screened: Mapping[str, Killed], random: Random) -> list[Killed]:
    """Up to ``count`` killed candidates, each of the gate that was audited least.

    Args:
        progress: what the batch sees of the run; holds those that died in training.
        count: how many audits are due.
        screened: one candidate by screening gate.
        random: this batch's own.
    """
    pools: dict[str, list[Killed]] = {gate: [killed] for gate, killed in sorted(screened.items())}
    pools |= {gate: list(dead) for gate, dead in sorted(progress.unaudited.items()) if dead}
    times = {gate: progress.audits_by_gate.get(gate, 0) for gate in pools}
    chosen: list[Killed] = []
    while len(chosen) < count and pools:
        least = min(times[gate] for gate in pools)
        gate = random.choice([gate for gate in pools if times[gate] == least])
        chosen.append(pools[gate].pop(random.randrange(len(pools[gate]))))
        times[gate] += 1
        if not pools[gate]:
            del pools[gate]
    return chosen


def payload(number: int, killed: Killed, graph: Graph) -> dict[str, Any]:
    """What the log keeps of an audit."""
    return {
        "id": f"a{number:05d}",
        "gate": killed.gate,
        "reason": killed.reason,
        "twin": killed.twin,
        "candidate": killed.candidate,
        "text": to_text(graph),
        "genome": to_dict(killed.genome),
    }
