"""Tests of the audit: its share, whom it draws, and that the search goes on as if it were not there."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_search import FULL, SETTINGS, SPACE, Pool, candidates, events, fold, make, run
from scipy.stats import chisquare

from primordium.errors import StoreError
from primordium.evaluators.evaluation import Evaluation
from primordium.evaluators.executors import Job, Outcome
from primordium.evaluators.gate import Subject
from primordium.primitives.serial import from_dict, to_json
from primordium.search.audit import Reservoir, draw, due
from primordium.search.progress import FAILURE, Killed, Progress, fitness
from primordium.search.proposer import Context, Proposal
from primordium.search.seeds import search_seed
from primordium.search.store import Event, Store

AUDITED = replace(SETTINGS, candidates=40, batch=2, window=3, audit=0.4)
GENOME = SPACE.random(Random(0))


def dead(gate: str, name: str) -> Killed:
    """A candidate that died at a gate, told apart by its reason."""
    return Killed(gate, name, GENOME)


def pool(gate: str, count: int) -> deque[Killed]:
    """So many that died at a gate."""
    return deque(dead(gate, str(place)) for place in range(count))


def audits(path: Path) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The audits of a run as they were sent out, with their results."""
    sent = [a for event in events(path, "proposal") for a in event.payload["audits"]]
    results = [a for event in events(path, "result") for a in event.payload["audits"]]
    return list(zip(sent, results, strict=True))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer run with audits, read by several tests."""
    path = tmp_path_factory.mktemp("long") / "run"
    run(path, replace(AUDITED, candidates=100))
    return path


# -------------------------------------------------------------------------------------------------- the share


@pytest.mark.parametrize("share", ["0.01", "0.05", "0.1", "0.3", "0.5", "0.9"])
def test_the_share_is_approached_from_below(share: str) -> None:
    """Whatever candidates cost, audits never have more than their share, and are never a whole one behind."""
    settings = replace(SETTINGS, audit=float(share))
    progress, random = Progress(), Random(1)
    part = Fraction(share)
    for _ in range(2_000):
        progress.steps += random.choice([0, 1, 5, FULL])
        progress.audits_sent += due(progress, settings)
        spent = progress.audits_sent * FULL
        assert spent <= part * (spent + progress.steps)
        assert spent + FULL > part * (spent + FULL + progress.steps)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_no_prefix_of_a_log_has_more_audits_than_its_share(tmp_path: Path, share: float) -> None:
    """A search keeps to it with what is in flight counted, and is short of it by what it cannot see yet."""
    settings = replace(AUDITED, candidates=80, audit=share)
    run(tmp_path / "run", settings)
    progress = Progress()
    for event in events(tmp_path / "run"):
        progress.apply(event)
        spent = progress.audits_sent * FULL
        assert spent <= share * (spent + progress.steps) + 1e-9
    assert len(progress.audits) == progress.audits_sent
    assert all(result["steps"] <= FULL for _, result in audits(tmp_path / "run"))
    seen = progress.steps - settings.window * settings.batch * FULL
    assert progress.audits_sent > share / (1 - share) * seen / FULL - 2


def test_without_a_share_nobody_is_audited(tmp_path: Path) -> None:
    """Audits that nobody asked for cost nothing and leave nothing."""
    progress = Progress()
    progress.steps = 10**9
    assert due(progress, SETTINGS) == 0
    run(tmp_path / "run")
    assert audits(tmp_path / "run") == []
    progress = fold(tmp_path / "run")
    assert (progress.audits, progress.audits_sent, progress.audits_by_gate) == ([], 0, {})
    assert "audit" not in progress.seconds


def test_an_audit_that_found_nobody_stays_due() -> None:
    """The share is made up for when there is somebody to draw."""
    progress, settings = Progress(), replace(SETTINGS, audit=0.5)
    progress.steps = 7 * FULL
    assert due(progress, settings) == 7
    assert draw(progress, 7, {}, Random(0)) == []
    progress.audits_sent += len(draw(progress, 7, {"static": dead("static", "a")}, Random(0)))
    assert due(progress, settings) == 6


# --------------------------------------------------------------------------------------------------- the draw


def test_a_reservoir_gives_everyone_the_same_chance() -> None:
    """First or last, among few or many: chi-square over many draws, gate by gate."""
    sizes = {"a": 7, "b": 3}
    counts: dict[str, Counter[str]] = {gate: Counter() for gate in sizes}
    for seed in range(4_000):
        reservoir = Reservoir(Random(seed))
        for place in range(max(sizes.values())):
            for gate, size in sizes.items():
                if place < size:
                    reservoir.offer(dead(gate, str(place)))
        for gate, killed in reservoir.kept.items():
            assert killed.gate == gate
            counts[gate][killed.reason] += 1
    for gate, size in sizes.items():
        assert len(counts[gate]) == size
        assert counts[gate].total() == 4_000
        assert chisquare(list(counts[gate].values())).pvalue > 0.01


def test_everyone_who_died_in_training_has_the_same_chance() -> None:
    """The draw among those that a training gate killed is uniform too."""
    progress = Progress()
    progress.unaudited["quality"] = pool("quality", 5)
    counts = Counter(draw(progress, 1, {}, Random(seed))[0].reason for seed in range(3_000))
    assert len(counts) == 5
    assert chisquare(list(counts.values())).pvalue > 0.01
    assert len(progress.unaudited["quality"]) == 5


def test_the_gate_that_was_audited_least_comes_first() -> None:
    """Rare killers are measured as well as common ones: each draw is from the least audited that has any."""
    random, progress = Random(3), Progress()
    times: Counter[str] = Counter()
    for _ in range(300):
        screened = {g: dead(g, "s") for g in ("static", "numeric", "duplicate") if random.random() < 0.6}
        progress.unaudited = {g: pool(g, random.randrange(3)) for g in ("quality", "ten_step")}
        left = Counter(screened.keys())
        left.update({gate: len(found) for gate, found in progress.unaudited.items()})
        count = random.randrange(5)
        chosen = draw(progress, count, screened, random)
        assert len(chosen) == min(count, left.total())
        assert len({(killed.gate, killed.reason) for killed in chosen}) == len(chosen)
        for killed in chosen:
            assert times[killed.gate] == min(times[gate] for gate, number in left.items() if number)
            times[killed.gate] += 1
            left[killed.gate] -= 1
        progress.audits_by_gate = dict(times)
    assert len(times) == 5
    assert max(times.values()) - min(times.values()) < 10


def test_gates_that_were_audited_alike_have_the_same_chance() -> None:
    """Ties are not broken by name."""
    screened = {gate: dead(gate, "x") for gate in ("static", "numeric", "gradient")}
    counts = Counter(draw(Progress(), 1, screened, Random(seed))[0].gate for seed in range(3_000))
    assert len(counts) == 3
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_a_search_audits_every_gate_that_kills(long: Path) -> None:
    """Screening and training gates, each about as often; what crashed was killed by no gate."""
    progress = fold(long)
    assert set(progress.audits_by_gate) == set(progress.killed) - {FAILURE}
    assert FAILURE in progress.killed
    assert Counter(audit.gate for audit in progress.audits) == progress.audits_by_gate
    assert min(progress.audits_by_gate[gate] for gate in ("static", "duplicate", "quality")) >= 6


# ------------------------------------------------------------------------------------- beside the search


def unaudited(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The events of a run without what they say of audits."""
    return [
        (event.kind, {name: value for name, value in event.payload.items() if name != "audits"})
        for event in events(path)
    ]


def test_the_search_does_not_notice_its_audits(tmp_path: Path) -> None:
    """With and without them: the same candidates, results, best, promotion and comparison, event by event."""
    without = replace(AUDITED, audit=0.0)
    run(tmp_path / "with", AUDITED)
    run(tmp_path / "without", without)
    assert unaudited(tmp_path / "with") == unaudited(tmp_path / "without")
    assert candidates(tmp_path / "with") == candidates(tmp_path / "without")
    audited, free = fold(tmp_path / "with"), fold(tmp_path / "without")
    assert audited.audits
    own = {"audits", "audits_sent", "audits_by_gate", "unaudited", "seconds"}
    for name in vars(free).keys() - own:
        assert getattr(audited, name) == getattr(free, name), name


def test_nobody_who_died_in_training_is_audited_twice(long: Path) -> None:
    """Each is a candidate of the run that its gate killed before, and leaves the pool it was drawn from."""
    rows = {row.id: row for row in candidates(long)}
    sent = [audit for audit, _ in audits(long) if audit["candidate"] is not None]
    assert len({audit["candidate"] for audit in sent}) == len(sent) > 5
    for audit in sent:
        row = rows[audit["candidate"]]
        assert row.gates == {audit["gate"]: audit["reason"]}
        assert row.genome == audit["genome"]
    left = {killed.candidate for killed in fold(long).unaudited["quality"]}
    killed = {row.id for row in rows.values() if "quality" in row.gates}
    assert left == killed - {audit["candidate"] for audit in sent}


def test_audits_are_logged_in_order_with_their_graphs(tmp_path: Path) -> None:
    """Ids of their own, the genome and the text of what was trained."""
    run(tmp_path / "run", AUDITED)
    sent = [audit for audit, _ in audits(tmp_path / "run")]
    assert [audit["id"] for audit in sent] == [f"a{number:05d}" for number in range(len(sent))]
    for audit in sent:
        assert audit["text"] == str(SPACE.express(from_dict(audit["genome"])))


class Recording(Pool):
    """An executor that remembers what it was sent and what came of it."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.sent: dict[int, Job] = {}
        self.outcomes: dict[int, Outcome] = {}

    def submit(self, job: Job) -> None:
        self.sent[job.id] = job
        super().submit(job)

    def next(self) -> Outcome:
        outcome = super().next()
        self.outcomes[outcome.id] = outcome
        return outcome

    def of(self, gated: bool) -> list[int]:
        """The jobs of the search that are gated or not."""
        return [
            id
            for id, job in self.sent.items()
            if job.payload.gated == gated and job.payload.seed == search_seed(AUDITED.seed)
        ]


def test_audits_are_trained_like_candidates_but_for_the_gates(tmp_path: Path) -> None:
    """The same seed and steps, no gate to end it, and no look at the held-out data."""
    executor = Recording()
    run(tmp_path / "run", AUDITED, executor=executor)
    sent = [executor.sent[id].payload for id in executor.of(gated=False)]
    graphs = [to_json(SPACE.express(from_dict(audit["genome"]))) for audit, _ in audits(tmp_path / "run")]
    assert [request.graph for request in sent] == graphs
    assert {(request.factor, request.held_out) for request in sent} == {(1, False)}


def test_the_seconds_of_audits_are_told_apart(tmp_path: Path) -> None:
    """They are under one name, and in no account of the ladder or of the search."""
    executor = Recording()
    run(tmp_path / "run", AUDITED, executor=executor)
    seconds = fold(tmp_path / "run").seconds
    spent = {gated: [executor.outcomes[id] for id in executor.of(gated)] for gated in (True, False)}
    assert seconds["audit"] == pytest.approx(sum(outcome.seconds for outcome in spent[False]))
    assert seconds["evaluate"] == pytest.approx(sum(outcome.seconds for outcome in spent[True]))
    for name in ("score", "quality"):
        values = [o.value.seconds.get(name, 0.0) for o in spent[True] if isinstance(o.value, Evaluation)]
        assert seconds[name] == pytest.approx(sum(values))
    assert any(isinstance(outcome.value, Evaluation) for outcome in spent[False])
    timed = [event.payload for event in events(tmp_path / "run", "result") if "audit" in event.timing]
    assert timed
    assert all(payload["audits"] for payload in timed)


def test_what_an_audit_found_is_what_was_measured(long: Path) -> None:
    """The fold keeps gate, reason and fitness; an evaluation that failed found nothing, which is 0."""
    found = fold(long).audits
    for (sent, result), audit in zip(audits(long), found, strict=True):
        assert (audit.gate, audit.reason) == (sent["gate"], sent["reason"])
        assert audit.fitness == fitness(result["scores"])
    failed = [result for _, result in audits(long) if result["gate"] == FAILURE]
    assert failed
    assert {fitness(result["scores"]) for result in failed} == {0.0}


# -------------------------------------------------------------------------------------------------- the twins


def test_duplicates_are_audited_beside_their_twins(long: Path) -> None:
    """The log names who a duplicate is like, the fold knows how that one fared; nobody else has a twin."""
    rows = {row.id: row for row in candidates(long)}
    found = fold(long).audits
    compared = 0
    for (sent, _), audit in zip(audits(long), found, strict=True):
        if sent["gate"] != "duplicate":
            assert (sent["twin"], audit.twin) == (None, None)
            continue
        twin = rows[sent["twin"]]
        assert audit.twin == (-float("inf") if twin.fitness is None else twin.fitness)
        a, b = (Subject(from_dict(genome)) for genome in (sent["genome"], twin.genome))
        if sent["reason"] == "same structure":
            assert a.key == b.key
        else:
            assert a.behaviour is not None
            assert b.behaviour is not None
            assert a.behaviour.digest == b.behaviour.digest
        compared += 1
    assert compared > 5


def test_a_twin_in_the_same_batch_is_named_too(tmp_path: Path) -> None:
    """When it was found it had no id yet; in the log it has, and its result is there when it is needed."""

    @dataclass(frozen=True)
    class Twice:
        """Every genome twice, and then another one."""

        def propose(self, context: Context) -> Proposal:
            """Proposals of a place repeat those of the place before."""
            if context.number % 4 and not context.attempt:
                return Proposal(SPACE.random(Random(context.number // 4 * 100)), "random")
            return Proposal(SPACE.random(Random(context.number // 4 * 100 + context.attempt)), "random")

    settings = replace(AUDITED, candidates=60, batch=4, window=2)
    run(tmp_path / "run", settings, Twice())
    rows = {row.id: row for row in candidates(tmp_path / "run")}
    batches = {row.id: row.batch for row in rows.values()}
    same = 0
    for event in events(tmp_path / "run", "proposal"):
        for sent in event.payload["audits"]:
            if sent["reason"] == "same batch":
                assert batches[sent["twin"]] == event.payload["batch"]
                assert Subject(from_dict(sent["genome"])).key == int(rows[sent["twin"]].key, 16)
                same += 1
    assert same > 2
    twins = [audit.twin for audit in fold(tmp_path / "run").audits if audit.reason == "same batch"]
    assert len(twins) == same


# -------------------------------------------------------------------------------------------------- the truth


def test_a_forged_audit_is_named(tmp_path: Path) -> None:
    """Whom the audit drew follows from the seed and the log before it; nobody can choose whom to measure."""
    settings = replace(AUDITED, candidates=12)
    run(tmp_path / "run", settings)
    place = next(event.seq for event in events(tmp_path / "run", "proposal") if event.payload["audits"])

    def forged(event: Event, name: str) -> Event:
        if event.seq != place:
            return event
        first, *others = event.payload["audits"]
        return replace(event, payload={**event.payload, "audits": [{**first, name: "x"}, *others]})

    for name in ("id", "gate", "reason", "twin", "candidate"):
        with Store.create(tmp_path / name, {}) as store:
            store.append([forged(event, name) for event in events(tmp_path / "run")])
            store.append([], candidates(tmp_path / "run"))
            with pytest.raises(StoreError, match=rf"event {place} \('proposal'\) .* different in audits"):
                make(store, settings).verify()
