"""The search engine: proposes, screens, sends out, commits; its event log is the truth of a run.

Two promises. *Replay*: batch ``n`` of proposals is a pure function of the run's seed, of ``n`` and of the
prefix of the log whose length is written with it. *Schedule*: batch ``n`` sees exactly the results of the
batches up to ``n - window``, committed in order through a reorder buffer; so the same run with any number of
workers, delayed, killed and resumed, writes the same log, times apart. A proposal is logged before it is sent
out, a batch of results commits in one transaction, and what was in flight when the driver died runs again
under the same seed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from time import perf_counter
from typing import Any

from primordium.errors import StoreError
from primordium.evaluators.evaluation import Evaluation, Request
from primordium.evaluators.executors import Executor, Job, Outcome
from primordium.evaluators.gate import ScreeningGate, Subject
from primordium.evaluators.screening import DUPLICATE, Screen
from primordium.primitives.graph import Graph
from primordium.primitives.serial import to_dict, to_json
from primordium.primitives.text import to_text
from primordium.search.progress import (
    END,
    FAILURE,
    FINAL,
    FINALISTS,
    PROPOSAL,
    RESULT,
    Candidate,
    Progress,
    fitness,
)
from primordium.search.proposer import Context, Individual, Proposer
from primordium.search.seeds import derived_seed, search_seed, training_seed
from primordium.search.store import CandidateRow, Event, Store

_STRIDE = 1_000_000
_MOST_ATTEMPTS = 20_000


@dataclass(frozen=True)
class Settings:
    """What shapes the log.

    Attributes:
        seed: the run's seed; every generator derives from it.
        candidates: how many candidates are trained.
        batch: candidates a batch.
        window: batch ``n`` sees the results up to ``n - window``; at least the number of workers.
        finalists: how many of the best are trained again with fresh seeds beside the baselines.
        seeds: seeds of that comparison, at least three.
        baselines: the graphs that stand in the same table, by name.
    """

    seed: int
    candidates: int
    batch: int
    window: int
    finalists: int
    seeds: int
    baselines: Mapping[str, Graph] = field(default_factory=dict)

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-self.candidates // self.batch)

    def size(self, batch: int) -> int:
        """How many candidates batch number ``batch`` has."""
        return min(self.batch, self.candidates - batch * self.batch)


Observer = Callable[[Event, Progress], None]


class Engine:
    """Runs a search to its end, from wherever its log stands.

    Args:
        settings: what shapes the log.
        proposer: where genomes come from.
        gates: the screening gates.
        express: the graph that a genome stands for.
        store: the run's log, open for writing (or reading, for :meth:`verify`).
        observer: called after each committed event.
        known: whether a graph behaves like a known method.
    """

    def __init__(
        self,
        settings: Settings,
        proposer: Proposer,
        gates: Sequence[ScreeningGate],
        express: Callable[[Graph], Graph],
        store: Store,
        observer: Observer | None = None,
        known: Callable[[Graph], bool] = lambda graph: False,
    ) -> None:
        self.settings = settings
        self.store = store
        self.progress = Progress()
        self._proposer = proposer
        self._gates = tuple(gates)
        self._express = express
        self._observer = observer
        self._known = known
        self._screen = Screen(gates)
        self._done: dict[int, Outcome] = {}

    # ---- the loop --------------------------------------------------------------------------------------

    def run(self, executor: Executor) -> Progress:
        """Go on until the run has ended; whatever was in flight is sent out again.

        Raises:
            StoreError: the log cannot be read or written.
        """
        for event in self.store.events():
            self._fold(event)
        for batch in range(self.progress.results, len(self.progress.proposals)):
            self._send_batch(executor, batch)
        while (kind := self._due()) in (PROPOSAL, RESULT):
            if kind == PROPOSAL:
                self._propose(executor)
            else:
                self._commit_batch(executor)
        if not self.progress.ended:
            self._finals(executor)
            self._append(END, self._derived(END), {})
        return self.progress

    def _due(self) -> str | None:
        """The kind of the next event: the schedule leaves no choice."""
        progress = self.progress
        number = len(progress.proposals)
        # A batch that could not be filled is the last: no proposal passed the screen for a long time.
        more = not number or len(progress.proposals[-1]) == self.settings.size(number - 1)
        if more and number < self.settings.batches and progress.results > number - self.settings.window:
            return PROPOSAL
        if progress.results < number:
            return RESULT
        if progress.finalists is None:
            return FINALISTS
        if len(progress.finals) < len(progress.finalists):
            return FINAL
        return None if progress.ended else END

    def _append(
        self,
        kind: str,
        payload: dict[str, Any],
        timing: Mapping[str, float],
        rows: Sequence[CandidateRow] = (),
    ) -> None:
        event = Event(self.progress.events, kind, payload, timing)
        self.store.append([event], rows)
        self._fold(event)
        if self._observer is not None:
            self._observer(event, self.progress)

    def _fold(self, event: Event) -> None:
        self.progress.apply(event)
        if event.kind == PROPOSAL:
            for candidate in self.progress.proposals[-1]:
                self._screen.accept(Subject(candidate.genome), candidate.id)

    # ---- proposals -------------------------------------------------------------------------------------

    def _propose(self, executor: Executor) -> None:
        payload, timing = self.next_proposal()
        self._append(PROPOSAL, payload, timing)
        self._send_batch(executor, len(self.progress.proposals) - 1)

    def next_proposal(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The next batch as the log keeps it, with its timing: a pure function of seed, number and prefix."""
        batch = len(self.progress.proposals)
        visible = max(0, batch - self.settings.window + 1)
        history = self.progress.history[: sum(len(b) for b in self.progress.proposals[:visible])]
        random = Random(derived_seed(self.settings.seed, "batch", batch))
        screen = self._screen.fresh_accounts()
        start = perf_counter()
        chosen, raw = self._fill(screen, random, history, batch)
        timing = {name: account.seconds for name, account in screen.accounts.items() if account.seen}
        timing["propose"] = perf_counter() - start - sum(timing.values())
        payload = {
            "batch": batch,
            "prefix": self.progress.events,
            "raw": raw,
            "killed": {
                n: dict(sorted(a.killed.items())) for n, a in sorted(screen.accounts.items()) if a.killed
            },
            "candidates": chosen,
        }
        return payload, timing

    def _fill(
        self, screen: Screen, random: Random, history: Sequence[Individual], batch: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Screen proposals until the batch is full; the chosen ones and how many were looked at."""
        chosen: list[dict[str, Any]] = []
        raw = attempt = 0
        taken: list[Subject] = []
        first = self.progress.accepted
        while len(chosen) < self.settings.size(batch) and attempt < _MOST_ATTEMPTS:
            proposal = self._proposer.propose(Context(random, history, first + len(chosen), attempt))
            raw += 1
            attempt += 1
            verdict = screen.judge(proposal.genome)
            subject = verdict.subject
            if verdict.gate is not None:
                continue
            if any(_alike(subject, other) for other in taken):
                screen.accounts[DUPLICATE].killed["same batch"] += 1
                continue
            attempt = 0
            taken.append(subject)
            candidate = Candidate(
                f"c{first + len(chosen):05d}",
                proposal.genome,
                f"{subject.key:016x}",
                proposal.origin,
                proposal.parents,
            )
            chosen.append(candidate.payload(self._express(proposal.genome)))
        return chosen, raw

    # ---- results ---------------------------------------------------------------------------------------

    def _send_batch(self, executor: Executor, batch: int) -> None:
        for place, candidate in enumerate(self.progress.proposals[batch]):
            graph = to_json(self._express(candidate.genome))
            request = Request(graph, search_seed(self.settings.seed))
            executor.submit(Job(batch * _STRIDE + place, request))

    def _collect(self, executor: Executor, ids: Sequence[int]) -> Iterator[Outcome]:
        """The outcomes of these jobs in order, whatever order they end in."""
        for id in ids:
            while id not in self._done:
                outcome = executor.next()
                self._done[outcome.id] = outcome
        for id in ids:
            yield self._done.pop(id)

    def _commit_batch(self, executor: Executor) -> None:
        batch = self.progress.results
        candidates = self.progress.proposals[batch]
        timing: dict[str, float] = {}
        results, rows = [], []
        ids = [batch * _STRIDE + place for place in range(len(candidates))]
        for candidate, outcome in zip(candidates, self._collect(executor, ids), strict=True):
            result = result_payload(outcome)
            _add_seconds(timing, outcome)
            results.append(result)
            rows.append(self._row(candidate, batch, result))
        self._append(RESULT, {"batch": batch, "results": results}, timing, rows)

    def _row(self, candidate: Candidate, batch: int, result: Mapping[str, Any]) -> CandidateRow:
        killed = result["gate"] is not None
        return CandidateRow(
            candidate.id,
            batch,
            candidate.key,
            to_text(self._express(candidate.genome)),
            to_dict(candidate.genome),
            candidate.parents,
            candidate.origin,
            f"killed by {result['gate']}" if killed else "scored",
            {result["gate"]: result["reason"]} if killed else {},
            result["scores"],
            None if killed else fitness(result["scores"]),
        )

    # ---- the final comparison --------------------------------------------------------------------------

    def best(self) -> list[Individual]:
        """The finalists: the best new candidates by mean score, the earlier first at ties.

        What behaves like a known method (a warm start, above all) stands in the table as a baseline or not
        at all: it is no discovery.
        """
        scored = [one for one in self.progress.history if one.scores]
        ordered = sorted(scored, key=lambda one: -one.fitness)
        new = (one for one in ordered if not self._known(self._express(one.genome)))
        return list(islice(new, self.settings.finalists))

    def _finals(self, executor: Executor) -> None:
        if self.progress.finalists is None:
            self._append(FINALISTS, self._derived(FINALISTS), {})
        waiting = [e for e in self.progress.finalists or [] if e[0] not in self.progress.finals]
        jobs: dict[str, list[int]] = {}
        for place, (name, id) in enumerate(waiting):
            graph = (
                self.settings.baselines[name]
                if id is None
                else self._express(self.progress.individual(id).genome)
            )
            jobs[name] = []
            for number, seed in enumerate(self.final_seeds()):
                job = -(1 + place * _STRIDE + number)
                jobs[name].append(job)
                executor.submit(Job(job, Request(to_json(graph), seed, gated=False)))
        for name, ids in jobs.items():
            timing: dict[str, float] = {}
            scores = {}
            for seed, outcome in zip(self.final_seeds(), self._collect(executor, ids), strict=True):
                scores[str(seed)] = result_payload(outcome)["scores"]
                _add_seconds(timing, outcome)
            self._append(FINAL, {"name": name, "scores": scores}, timing)

    def final_seeds(self) -> list[int]:
        """Seeds that the search did not use: a score that was selected on is not shown as evidence."""
        return [training_seed(self.settings.seed, "final", k) for k in range(self.settings.seeds)]

    # ---- verification ----------------------------------------------------------------------------------

    def verify(self) -> int:
        """Replay the log: all that is not measured must come out again. Returns the number of proposals.

        Raises:
            StoreError: the log is damaged, or an event or a candidate's row differs; names the first.
        """
        self.store.check()
        for event in self.store.events():
            if event.kind != self._due():
                raise StoreError(
                    f"event {event.seq} is a {event.kind!r} where the next is a {self._due()!r}; "
                    "the log was made by another version or configuration"
                )
            given = event.payload
            expected = self._derived(event.kind) if event.kind in (PROPOSAL, FINALISTS, END) else given
            if expected != given:
                different = sorted(k for k in {*expected, *given} if expected.get(k) != given.get(k))
                raise StoreError(
                    f"event {event.seq} ({event.kind!r}) comes out different in {', '.join(different)}; "
                    "the log was made by another version or configuration"
                )
            self._fold(event)
        self._verify_rows()
        return len(self.progress.proposals)

    def _derived(self, kind: str) -> dict[str, Any]:
        """What an event of that kind holds at this point of the log."""
        if kind == PROPOSAL:
            return self.next_proposal()[0]
        if kind == FINALISTS:
            entries: list[dict[str, str | None]] = [{"name": o.id, "candidate": o.id} for o in self.best()]
            entries += [{"name": name, "candidate": None} for name in self.settings.baselines]
            return {"entries": entries, "seeds": self.final_seeds()}
        return {"candidates": len(self.progress.history)}

    def _verify_rows(self) -> None:
        """The table of candidates is kept for queries; the log says what must be in it."""
        rows = {row.id: row for row in self.store.candidates("id")}
        for number, batch in enumerate(self.progress.proposals[: self.progress.results]):
            for candidate in batch:
                expected = self._row(candidate, number, self.progress.outcomes[candidate.id])
                if rows.get(candidate.id) != expected:
                    raise StoreError(f"the row of candidate {candidate.id} is not what the log says of it")


def _alike(a: Subject, b: Subject) -> bool:
    return a.key == b.key or (
        a.behaviour is not None and b.behaviour is not None and a.behaviour.digest == b.behaviour.digest
    )


def result_payload(outcome: Outcome) -> dict[str, Any]:
    """What the log keeps of an evaluation, times apart."""
    value = outcome.value
    if isinstance(value, Evaluation):
        return value.payload()
    return {"scores": {}, "gate": FAILURE, "reason": outcome.reason}


def _add_seconds(timing: dict[str, float], outcome: Outcome) -> None:
    timing["evaluate"] = timing.get("evaluate", 0.0) + outcome.seconds
    if isinstance(outcome.value, Evaluation):
        for name, seconds in outcome.value.seconds.items():
            timing[name] = timing.get(name, 0.0) + seconds
