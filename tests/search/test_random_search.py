"""Tests of random search: every genome is drawn from the space, from nothing but the context's generator."""

from random import Random, getstate

from primordium.search.proposer import Context, Individual, Proposal
from primordium.search.random_search import RandomSearch
from primordium.search.space import SPACES

SPACE = SPACES["swish"]


def propose(seed: int, history: tuple[Individual, ...] = (), number: int = 0, attempt: int = 0) -> Proposal:
    """What random search proposes."""
    return RandomSearch(SPACE).propose(Context(Random(seed), history, number, attempt))


def test_it_is_the_spaces_own_draw() -> None:
    """The genome is the space's, whatever the history, the number and the attempt say."""
    seen = (Individual("c00000", SPACE.random(Random(9)), {"mlp": 1.0}, 1.0),)
    for seed in range(20):
        expected = Proposal(SPACE.random(Random(seed)), "random")
        assert propose(seed) == propose(seed, seen, 5, 17) == expected
    assert propose(0) != propose(1)


def test_it_leaves_the_global_generator_alone() -> None:
    """Randomness has a name: a run next to it is not disturbed."""
    before = getstate()
    propose(4)
    assert getstate() == before
