"""Where a run stands: a fold of its events, and what the events hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from primordium.errors import StoreError
from primordium.primitives.graph import Graph
from primordium.primitives.serial import from_dict, to_dict
from primordium.primitives.text import to_text
from primordium.search.proposer import Individual
from primordium.search.store import Event

PROPOSAL, RESULT, FINALISTS, FINAL, END = "proposal", "result", "finalists", "final", "end"
FAILURE = "evaluation"
"""What stands for a gate in the outcome of an evaluation that crashed, raised or took too long."""


@dataclass(frozen=True)
class Candidate:
    """A screened proposal: what is sent out for training."""

    id: str
    genome: Graph
    key: str
    origin: str
    parents: tuple[str, ...]

    def payload(self, graph: Graph) -> dict[str, Any]:
        """What the log keeps."""
        return {
            "id": self.id,
            "key": self.key,
            "origin": self.origin,
            "parents": list(self.parents),
            "text": to_text(graph),
            "genome": to_dict(self.genome),
        }


class Progress:
    """Where a run stands: a fold of its events.

    Attributes:
        proposals: candidates by batch.
        history: candidates with committed results, in order.
        results: number of committed batches.
        finalists: entries of the final comparison (name, candidate id or ``None``), once chosen.
        finals: scores of the entries done: seed → architecture → score.
        ended: whether the run is complete.
        killed: by gate, by reason, how many; and ``seen`` raw proposals.
    """

    def __init__(self) -> None:
        self.proposals: list[list[Candidate]] = []
        self.history: list[Individual] = []
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.results = 0
        self.finalists: list[tuple[str, str | None]] | None = None
        self.finals: dict[str, dict[str, dict[str, float]]] = {}
        self.ended = False
        self.raw = 0
        self.killed: dict[str, dict[str, int]] = {}
        self.seconds: dict[str, float] = {}
        self.events = 0

    @property
    def accepted(self) -> int:
        """Candidates sent out so far."""
        return sum(len(batch) for batch in self.proposals)

    def apply(self, event: Event) -> None:
        """Fold one event in."""
        if event.seq != self.events:
            raise StoreError(f"event {event.seq} follows {self.events - 1}; the log has a gap")
        self.events += 1
        payload = event.payload
        for gate, seconds in event.timing.items():
            self.seconds[gate] = self.seconds.get(gate, 0.0) + seconds
        if event.kind == PROPOSAL:
            self._proposal(payload)
        elif event.kind == RESULT:
            self._result(payload)
        elif event.kind == FINALISTS:
            self.finalists = [(entry["name"], entry["candidate"]) for entry in payload["entries"]]
        elif event.kind == FINAL:
            self.finals[payload["name"]] = payload["scores"]
        elif event.kind == END:
            self.ended = True
        else:
            raise StoreError(
                f"event {event.seq} has the unknown kind {event.kind!r}; it is of a later version"
            )

    def _proposal(self, payload: Mapping[str, Any]) -> None:
        self.raw += payload["raw"]
        self._count(payload["killed"])
        self.proposals.append(
            [
                Candidate(c["id"], from_dict(c["genome"]), c["key"], c["origin"], tuple(c["parents"]))
                for c in payload["candidates"]
            ]
        )

    def _result(self, payload: Mapping[str, Any]) -> None:
        for candidate, outcome in zip(self.proposals[self.results], payload["results"], strict=True):
            scores = outcome["scores"]
            self.outcomes[candidate.id] = outcome
            self.history.append(Individual(candidate.id, candidate.genome, scores, fitness(scores)))
            if outcome["gate"] is not None:
                self._count({outcome["gate"]: {outcome["reason"]: 1}})
        self.results += 1

    def _count(self, killed: Mapping[str, Mapping[str, int]]) -> None:
        for gate, reasons in killed.items():
            account = self.killed.setdefault(gate, {})
            for reason, count in reasons.items():
                account[reason] = account.get(reason, 0) + count

    def individual(self, id: str) -> Individual:
        """The candidate of that id with its outcome."""
        return next(one for one in self.history if one.id == id)


def fitness(scores: Mapping[str, float]) -> float:
    """Mean score over architectures; 0 for a candidate that has none."""
    return sum(scores.values()) / len(scores) if scores else 0.0
