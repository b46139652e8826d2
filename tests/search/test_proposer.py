"""Tests of the proposer's contract: plain data that compares by value, and what counts as a proposer."""

from dataclasses import FrozenInstanceError
from random import Random

import pytest

from primordium.search.evolution import Evolution
from primordium.search.proposer import Context, Individual, Proposal, Proposer
from primordium.search.random_search import RandomSearch
from primordium.search.space import SPACES

SPACE = SPACES["evonorm_s"]


def test_proposals_and_individuals_are_values() -> None:
    """Replay compares proposals and folds individuals: equal parts make equals, and nothing changes them."""
    genome = SPACE.random(Random(1))
    assert Proposal(genome, "random") == Proposal(SPACE.random(Random(1)), "random")
    one = Individual("c00000", genome, {"mlp": 0.5}, 0.5)
    assert one == Individual("c00000", genome, {"mlp": 0.5}, 0.5)
    with pytest.raises(FrozenInstanceError):
        one.fitness = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("proposer", [RandomSearch(SPACE), Evolution(SPACE)])
def test_built_in_proposers_meet_the_contract(proposer: Proposer) -> None:
    """Both answer to the protocol and propose from an empty history, as every run starts with one."""
    assert isinstance(proposer, Proposer)
    proposal = proposer.propose(Context(Random(3), (), 0, 0))
    assert proposal == proposer.propose(Context(Random(3), (), 0, 0))
    assert proposal.origin == "random"
    assert proposal.parents == ()


def test_what_cannot_propose_is_no_proposer() -> None:
    """A plugin that forgets the method is told apart."""
    assert not isinstance(object(), Proposer)
