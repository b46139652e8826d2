"""Tests of the screening ladder: order, duplicates, the memory that changes nothing, and honest accounts."""

from dataclasses import dataclass, field
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primordium.evaluators.gate import ScreeningGate, Subject
from primordium.evaluators.screening import DUPLICATE, BoundedMap, Screen, Verdict
from primordium.evaluators.screening_gates import Gradient, Numeric, Static
from primordium.primitives.graph import Graph
from primordium.primitives.text import parse
from primordium.search.space import SPACES

GATES: tuple[ScreeningGate, ...] = (Static(), Numeric(), Gradient())


def layer(text: str) -> Graph:
    """A layer with a trailing affine."""
    return parse(f"layer[affine](v1: C = 1): {text}" if "v1" in text else f"layer[affine]: {text}")


def genomes(count: int, seed: int = 1, name: str = "evonorm_b") -> list[Graph]:
    """Random genomes, each with a mutation of it."""
    random, space = Random(seed), SPACES[name]
    found: list[Graph] = []
    while len(found) < count:
        found.append(space.random(random))
        found.append(space.mutate(random, found[-1]))
    return found[:count]


def told(verdict: Verdict) -> tuple[str | None, str | None]:
    """Gate and reason."""
    return verdict.gate, verdict.reason


def accept(screen: Screen, graph: Graph, name: str = "c00000") -> Verdict:
    """Judge a genome and remember it if it survives."""
    verdict = screen.judge(graph)
    if verdict.gate is None:
        screen.accept(verdict.subject, name)
    return verdict


# ------------------------------------------------------------------------------------------- a bounded memory


@given(st.lists(st.integers(0, 60)), st.integers(2, 40))
def test_a_bounded_map_keeps_the_newer_half_at_constant_size(keys: list[int], capacity: int) -> None:
    """It never holds more than its capacity, and never forgets what is among the last half of it."""
    bounded: BoundedMap[int, int] = BoundedMap(capacity)
    for time, key in enumerate(keys):
        bounded.put(key, time)
        assert len(bounded) <= capacity
        assert bounded.get(key) == time
    newest = {key: time for time, key in enumerate(keys)}
    for key in keys[-(capacity // 2) :]:
        assert bounded.get(key) == newest[key]


def test_a_bounded_map_forgets() -> None:
    """What is old is gone, so that a search of a billion candidates fits into memory."""
    bounded: BoundedMap[int, str] = BoundedMap(10)
    for key in range(10_000):
        bounded.put(key, "x")
    assert len(bounded) <= 10
    assert [key for key in range(10_000) if bounded.get(key)] == list(range(10_000 - len(bounded), 10_000))


# ------------------------------------------------------------------------------------------------- the ladder


@dataclass(frozen=True)
class Noting:
    """A gate that notes whom it sees, and kills graphs with a certain primitive."""

    name: str
    rank: int
    kills: str
    seen: list[int] = field(default_factory=list)

    def check(self, subject: Subject) -> str | None:
        """Kill by primitive."""
        self.seen.append(subject.key)
        return f"has {self.kills}" if subject.graph.uses(self.kills) else None


def test_gates_are_asked_in_order_until_one_kills() -> None:
    """What dies at one gate costs the next ones nothing, and duplicates cost only the first."""
    gates = [
        Noting(name, rank, kills)
        for rank, (name, kills) in enumerate([("a", "tanh"), ("b", "exp"), ("c", "abs")])
    ]
    screen = Screen(gates)
    assert told(accept(screen, layer("tanh(x) * exp(x)"))) == ("a", "has tanh")
    assert told(accept(screen, layer("exp(x) * abs(x)"))) == ("b", "has exp")
    assert told(accept(screen, layer("abs(x) * sigmoid(x)"))) == ("c", "has abs")
    assert told(accept(screen, layer("x * sigmoid(x)"))) == (None, None)
    assert told(accept(screen, layer("sigmoid(x) * x"))) == (DUPLICATE, "same structure")
    assert [len(gate.seen) for gate in gates] == [5, 3, 2]
    assert list(screen.accounts) == ["a", DUPLICATE, "b", "c"]


@pytest.mark.parametrize("gates", [GATES, GATES[:1], GATES[1:], ()])
def test_duplicates_are_found_with_any_gates(gates: tuple[ScreeningGate, ...]) -> None:
    """Turning gates off never lets one structure in twice, not even one that has no finite behaviour."""
    screen = Screen(gates)
    for text in ("x * sigmoid(x)", "exp(exp(square(x)))"):
        first = accept(screen, layer(text))
        again = accept(screen, layer(text))
        assert told(again) == ((DUPLICATE, "same structure") if first.gate is None else told(first))


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("x * sigmoid(x) / std(x, over=group)", "sigmoid(x) * x / std(x, over=group)", "same structure"),
        ("max(x, v1 * x)", "max(v1 * x, x)", "same structure"),
        ("x * x + 0 * exp(x)", "square(x)", "same structure"),
        ("sigmoid(x)", "0.5 * tanh(0.5 * x) + 0.5", "same behaviour"),
        ("tanh(x)", "3 * tanh(x)", "same behaviour"),  # the affine takes the factor out
        ("tanh(x) + sigmoid(-x)", "tanh(x) + 1 - sigmoid(x)", "same behaviour"),
        ("gate(x, x)", "x * sigmoid(x)", "same structure"),
    ],
)
def test_the_same_function_is_not_trained_twice(one: str, other: str, reason: str) -> None:
    """By structure where algebra sees it, by behaviour where only numbers do."""
    screen = Screen(GATES)
    assert told(accept(screen, layer(one))) == (None, None)
    assert told(accept(screen, layer(other), "c00001")) == (DUPLICATE, reason)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tanh(x)", "-tanh(x)"),
        ("tanh(x)", "tanh(2 * x)"),
        ("x / std(x, over=group)", "x / std(x, over=layer)"),
        ("x / rms(x, over=group)", "x / std(x, over=group)"),
        ("tanh(x)", "tanh(v1 * x)"),
        ("tanh(x)", "tanh(x) + 0.01 * x"),
    ],
)
def test_different_functions_are_both_trained(one: str, other: str) -> None:
    """The filter does not throw away what is near: sign, inner scale, index set, a learned parameter."""
    screen = Screen(GATES)
    assert told(accept(screen, layer(one))) == (None, None)
    assert told(accept(screen, layer(other), "c00001")) == (None, None)


def test_only_what_was_accepted_makes_duplicates() -> None:
    """Judging leaves no trace: what a full batch turned away can come again."""
    screen = Screen(GATES)
    graph = layer("x * sigmoid(x)")
    assert [told(screen.judge(graph)) for _ in range(3)] == [(None, None)] * 3
    screen.accept(Subject(graph), "c00000")
    assert told(screen.judge(graph)) == (DUPLICATE, "same structure")


# -------------------------------------------------------------------------------------------------- the twins


@pytest.mark.parametrize(
    ("text", "reason", "twin"),
    [
        ("sigmoid(x) * x", "same structure", "c00007"),
        ("0.5 * tanh(0.5 * x) + 0.5", "same behaviour", "c00042"),
        ("3 * tanh(x)", "same behaviour", "c00099"),
        ("abs(x) + tanh(x)", None, None),
        ("exp(exp(square(x)))", "not finite", None),
    ],
)
def test_a_duplicate_names_its_twin(text: str, reason: str | None, twin: str | None) -> None:
    """Who was accepted before and is the same; nobody else has a twin, survivors and other dead alike."""
    screen = Screen(GATES)
    for name, known in (("c00007", "x * sigmoid(x)"), ("c00042", "sigmoid(x)"), ("c00099", "tanh(x)")):
        assert told(accept(screen, layer(known), name)) == (None, None)
    for _ in range(2):  # what was killed is remembered, and still has no twin
        verdict = screen.judge(layer(text))
        assert (verdict.reason, verdict.twin) == (reason, twin)
        assert verdict.subject.genome == layer(text)


def test_the_twin_is_the_last_that_was_accepted_under_the_structure() -> None:
    """A structure that a full memory had forgotten has two candidates; the log's fold names the later."""
    screen = Screen(GATES)
    for name in ("c00001", "c00002"):
        screen.accept(Subject(layer("tanh(x)")), name)
    assert screen.judge(layer("tanh(x)")).twin == "c00002"


# ------------------------------------------------------------------------------------------ within one batch


@pytest.mark.parametrize(
    ("text", "reason", "twin"),
    [
        ("sigmoid(x) * x", "same batch", 1),  # by structure
        ("2 * tanh(x)", "same batch", 0),  # by behaviour
        ("x * x + 0 * exp(x)", "same structure", "c00003"),  # who is in the log goes first
        ("0.5 * tanh(0.5 * x) + 0.5", "same behaviour", "c00004"),
        ("abs(x) + tanh(x)", None, None),
    ],
)
def test_a_batch_is_compared_with_itself(text: str, reason: str | None, twin: str | int | None) -> None:
    """What is being sent out together is told apart too, and the twin is its place in the batch."""
    screen = Screen(GATES)
    accept(screen, layer("square(x)"), "c00003")
    accept(screen, layer("sigmoid(x)"), "c00004")
    batch = [Subject(layer("tanh(x)")), Subject(layer("x * sigmoid(x)")), Subject(layer("max(x, tanh(x))"))]
    verdict = screen.judge(layer(text), batch)
    assert told(verdict) == ((None, None) if reason is None else (DUPLICATE, reason))
    assert verdict.twin == twin
    killed = {reason: 1} if reason is not None else {}
    assert screen.accounts[DUPLICATE].killed == killed


def test_a_batch_leaves_no_trace() -> None:
    """Who was in a batch that was not sent out is not known to the next; nor is the batch changed."""
    screen = Screen(GATES)
    batch = [Subject(layer("tanh(x)"))]
    assert told(screen.judge(layer("tanh(x)"), batch)) == (DUPLICATE, "same batch")
    assert len(batch) == 1
    assert told(screen.judge(layer("tanh(x)"))) == (None, None)


@pytest.mark.parametrize("gates", [GATES, GATES[:1], ()])
def test_a_batch_without_finite_behaviour_is_compared_by_structure(gates: tuple[ScreeningGate, ...]) -> None:
    """With gates off, what has no fingerprint is one of a kind by its structure, and like nobody else."""
    batch = [Subject(layer("exp(exp(square(x)))"))]
    assert batch[0].behaviour is None
    verdict = Screen(gates).judge(layer("exp(exp(square(x)))"), batch)
    assert verdict.gate == ("numeric" if gates == GATES else DUPLICATE)
    assert verdict.twin == (None if gates == GATES else 0)
    other = Screen(gates).judge(layer("exp(exp(exp(square(x))))"), batch)
    assert told(other) == (("numeric", "not finite") if gates == GATES else (None, None))


@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_a_batch_lets_through_what_one_after_the_other_would(size: int) -> None:
    """Filling batches of any size or accepting each survivor at once: the same survivors, the same twins."""
    stream = genomes(300, 6)
    stream += Random(7).choices(stream, k=100)
    single, screen = Screen(GATES), Screen(GATES)
    names: list[str] = []
    batch: list[Subject] = []
    for graph in stream:
        expected = accept(single, graph, f"c{len(names) + len(batch):05d}")
        verdict = screen.judge(graph, batch)
        assert verdict.gate == expected.gate
        first = len(names)
        twin = f"c{first + verdict.twin:05d}" if isinstance(verdict.twin, int) else verdict.twin
        assert twin == expected.twin
        assert (verdict.reason == "same batch") == isinstance(verdict.twin, int)
        if verdict.gate is None:
            batch.append(verdict.subject)
        if len(batch) == size:
            for subject in batch:
                names.append(f"c{len(names):05d}")
                screen.accept(subject, names[-1])
            batch = []
    assert len(names) + len(batch) >= 10
    assert sum(single.accounts[DUPLICATE].killed.values()) > 5


# ------------------------------------------------------------------------------------------------- the memory


@pytest.mark.parametrize("name", list(SPACES))
def test_the_memory_of_the_killed_changes_no_verdict(name: str) -> None:
    """A fresh ladder, as a resumed run has it, and one that remembers judge alike, and count alike."""
    remembering, pool = Screen(GATES), genomes(600, 2, name)
    random = Random(3)
    accepted: list[Graph] = []
    for graph in pool + random.choices(pool, k=200):
        fresh = Screen(GATES)
        for other in accepted:
            fresh.accept(Subject(other), "c")
        before = {gate: sum(a.killed.values()) for gate, a in remembering.accounts.items()}
        verdict = remembering.judge(graph)
        assert told(verdict) == told(fresh.judge(graph))
        after = {gate: sum(a.killed.values()) for gate, a in remembering.accounts.items()}
        assert {g: after[g] - before[g] for g in after} == {g: int(g == verdict.gate) for g in after}
        if verdict.gate is None and len(accepted) < 20:
            remembering.accept(verdict.subject, "c")
            accepted.append(graph)


def test_a_known_bad_structure_is_not_measured_again() -> None:
    """The point of the memory: the dear gates see each killed structure once."""
    gates = [Noting("first", 0, "none"), Noting("second", 1, "exp")]
    screen = Screen(gates)
    for _ in range(5):
        assert told(screen.judge(layer("exp(x)"))) == ("second", "has exp")
    assert [len(gate.seen) for gate in gates] == [5, 1]
    assert screen.accounts["second"].killed == {"has exp": 5}
    assert screen.accounts["second"].seen == 5


def test_a_small_memory_forgets_and_still_judges_right() -> None:
    """Bounded memory costs time, and of a duplicate that is long ago only the second training."""
    small = Screen(GATES, capacity=4)
    texts = [f"x * sigmoid({factor} * x)" for factor in range(2, 12)]
    for number, text in enumerate(texts):
        assert told(accept(small, layer(text), f"c{number}")) == (None, None)
    assert told(small.judge(layer(texts[-1]))) == (DUPLICATE, "same structure")
    assert told(small.judge(layer(texts[0]))) == (None, None)
    assert told(small.judge(layer("exp(exp(square(x)))"))) == ("numeric", "not finite")


# ----------------------------------------------------------------------------------------------- the accounts


def test_accounts_add_up() -> None:
    """Everyone is seen by the first gate, and each gate sees what the ones before it let through."""
    screen = Screen(GATES)
    survivors = sum(accept(screen, graph).gate is None for graph in genomes(800, 4))
    static, duplicate = screen.accounts["static"], screen.accounts[DUPLICATE]
    numeric, gradient = screen.accounts["numeric"], screen.accounts["gradient"]
    assert static.seen == 800
    assert duplicate.seen == static.seen - sum(static.killed.values())
    assert gradient.seen <= numeric.seen <= duplicate.seen
    assert survivors == 800 - sum(sum(a.killed.values()) for a in screen.accounts.values())
    assert survivors > 20
    assert all(account.seconds > 0 for account in screen.accounts.values())


def test_fresh_accounts_share_the_memory() -> None:
    """Each batch is counted by itself, by a ladder that knows all earlier ones."""
    screen = Screen(GATES)
    accept(screen, layer("x * sigmoid(x)"))
    fresh = screen.fresh_accounts()
    assert all(account.seen == 0 and not account.killed for account in fresh.accounts.values())
    assert told(fresh.judge(layer("sigmoid(x) * x"))) == (DUPLICATE, "same structure")
    assert fresh.accounts[DUPLICATE].killed == {"same structure": 1}
    assert screen.accounts[DUPLICATE].killed == {}
    accept(fresh, layer("tanh(x)"))
    assert told(screen.judge(layer("tanh(x)"))) == (DUPLICATE, "same structure")


def test_screening_a_stream_in_any_split_gives_the_same_survivors() -> None:
    """Batches are an accident of the configuration: what survives is decided by the order alone."""
    stream = genomes(500, 5)
    whole = Screen(GATES)
    expected = [accept(whole, graph).gate for graph in stream]
    for size in (1, 7, 100):
        screen, found = Screen(GATES), []
        pieces = iter(stream)
        while piece := list(islice(pieces, size)):
            screen = screen.fresh_accounts()
            found += [accept(screen, graph).gate for graph in piece]
        assert found == expected
