"""Tests of the gates' contracts: what a subject knows of itself, and what counts as a gate."""

from random import Random
from typing import Any

import pytest

from primordium.evaluators import gate as gate_module
from primordium.evaluators.gate import ScreeningGate, Subject, TrainingGate
from primordium.evaluators.screening_gates import Gradient, Numeric, Static
from primordium.evaluators.training_gates import Quality, TenStep
from primordium.kernels.fingerprint import fingerprint
from primordium.primitives.identity import inline_derived, key
from primordium.primitives.passes import canonicalize
from primordium.primitives.text import parse
from primordium.search.space import SPACES


@pytest.mark.parametrize("name", list(SPACES))
def test_a_subject_is_known_by_the_keys_that_everyone_else_uses(name: str) -> None:
    """The key in a log is the one that `identity.key` gives, for graphs with derived primitives too."""
    random = Random(1)
    for _ in range(200):
        genome = SPACES[name].random(random)
        subject = Subject(genome)
        assert f"{subject.key:016x}" == key(genome)
        assert subject.graph == canonicalize(inline_derived(genome))
        assert len(subject.graph.live) == len(subject.graph.nodes)


def test_a_subject_computes_only_what_it_is_asked_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most candidates die on their types: no fingerprint may be taken of them, and never two of one."""
    calls = []

    def counted(graph: Any, **options: Any) -> Any:
        calls.append(graph)
        return fingerprint(graph, **options)

    monkeypatch.setattr(gate_module, "fingerprint", counted)
    subject = Subject(parse("layer[affine]: x * sigmoid(x)"))
    assert (subject.key, Static().check(subject), calls) == (subject.key, None, [])
    assert subject.behaviour is subject.behaviour
    assert [Numeric().check(subject), Gradient().check(subject), len(calls)] == [None, None, 1]


def test_what_a_candidate_does_is_none_where_it_is_not_finite() -> None:
    """Gates and duplicates are told apart from a behaviour that cannot be compared."""
    assert Subject(parse("activation: exp(exp(exp(x)))")).behaviour is None
    assert Subject(parse("activation: exp(x)")).behaviour is not None


@pytest.mark.parametrize("gate", [Static(), Numeric(), Gradient()])
def test_screening_gates_meet_their_contract(gate: ScreeningGate) -> None:
    """Built-in gates are told apart by what they have, as a stranger's are."""
    assert isinstance(gate, ScreeningGate)
    assert not isinstance(gate, TrainingGate)


@pytest.mark.parametrize("gate", [TenStep(), Quality()])
def test_training_gates_meet_their_contract(gate: TrainingGate) -> None:
    """Built-in gates are told apart by what they have, as a stranger's are."""
    assert isinstance(gate, TrainingGate)
    assert not isinstance(gate, ScreeningGate)
