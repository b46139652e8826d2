"""Sound proposers pass; each kind of unsound one is caught by the check that is for it."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from primordium.plugins.methods import method
from primordium.primitives.graph import Graph, Node
from primordium.search.proposer import Context, Proposal
from primordium.search.proposer_conformance import check_proposer
from primordium.search.proposers import make_proposer
from primordium.search.space import SPACES, Space, get_space


def failed(problems: list[str]) -> set[str]:
    """The names of the checks that failed."""
    return {problem.split(":")[0] for problem in problems}


@dataclass(frozen=True)
class Sound:
    """Draws at random, by the context's own dice; the others are made from it."""

    space: Space

    def genome(self, context: Context) -> Graph:
        """A random genome."""
        return self.space.random(context.random)

    def propose(self, context: Context) -> Any:
        """The genome, with what has to be said of it."""
        return Proposal(self.genome(context), "random")


class Global(Sound):
    """Uses the program's dice."""

    def genome(self, context: Context) -> Graph:
        """A genome by the global generator."""
        return self.space.random(random.Random(random.random()))


@dataclass(frozen=True)
class Stateful(Sound):
    """Remembers how often it was asked."""

    asked: list[int] = field(default_factory=list)

    def genome(self, context: Context) -> Graph:
        """Another one each time."""
        self.asked.append(1)
        return self.space.random(random.Random(len(self.asked)))


class Stubborn(Sound):
    """Has one idea."""

    def genome(self, context: Context) -> Graph:
        """Always the same."""
        return self.space.random(random.Random(0))


class Hopeful(Sound):
    """Takes it that something has been scored."""

    def genome(self, context: Context) -> Graph:
        """A mutation of the best."""
        best = max((one for one in context.history if one.scores), key=lambda one: one.fitness)
        return self.space.mutate(context.random, best.genome)


class Sorter(Sound):
    """Puts the history in order, for everyone."""

    def genome(self, context: Context) -> Graph:
        """A mutation of the best."""
        context.history.sort(key=lambda one: -one.fitness)  # type: ignore[attr-defined]
        return self.space.random(context.random)


class Stranger(Sound):
    """Proposes what the space knows nothing of."""

    def genome(self, context: Context) -> Graph:
        """An activation, where layers are searched."""
        return replace(method("silu").graph, groups=1 + int(30 * context.random.random()))


class Malformed(Sound):
    """Writes nodes that do not type."""

    def genome(self, context: Context) -> Graph:
        """A node whose argument comes after it."""
        genome = super().genome(context)
        return replace(genome, nodes=(*genome.nodes[:-1], Node("tanh", (len(genome.nodes),))))


class Bare(Sound):
    """Gives a genome without what has to be said of it."""

    def propose(self, context: Context) -> Any:
        """A graph."""
        return self.genome(context)


class Nameless(Sound):
    """Says nothing of where it comes from."""

    def propose(self, context: Context) -> Any:
        """An empty origin."""
        return Proposal(self.genome(context), "")


class Invented(Sound):
    """Names parents that there are not."""

    def propose(self, context: Context) -> Any:
        """A parent from another run."""
        return Proposal(self.genome(context), "mutation", ("c99999",))


class Local(Sound):
    """Cannot be sent anywhere."""

    def __reduce__(self) -> Any:
        raise TypeError("stays at home")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ["random", "evolution"])
def test_built_in_proposers_pass(name: str, space: str) -> None:
    """What a stranger's proposer must do, ours do in every space."""
    assert check_proposer(make_proposer(name, get_space(space), {}), get_space(space)) == []


def test_a_sound_proposer_passes() -> None:
    """The one that the others are made from."""
    assert check_proposer(Sound(get_space("evonorm_s")), get_space("evonorm_s")) == []


@pytest.mark.parametrize(
    ("kind", "check", "reason"),
    [
        (Global, "purity", "it draws from the global generators: random; context.random is the one to use"),
        (Stateful, "purity", "the same context gives another proposal the second time"),
        (Stubborn, "attempts", "it proposes one genome 30 times in a row"),
        (Hopeful, "proposal", "it raises ValueError"),
        (Sorter, "history", "it changes the history, with 24 results"),
        (Stranger, "proposal", "the genome is of domain 'activation'; the space's is 'layer'"),
        (Malformed, "proposal", "the genome is malformed"),
        (Bare, "proposal", "a Proposal with a Graph is needed"),
        (Nameless, "proposal", "the origin is ''"),
        (Invented, "proposal", "the parents ('c99999',) are not in the history"),
        (Local, "pickle", "stays at home"),
    ],
)
def test_an_unsound_proposer_is_caught(kind: type[Sound], check: str, reason: str) -> None:
    """By the check that is for it, with a sentence that says what to mend."""
    problems = check_proposer(kind(get_space("evonorm_s")), get_space("evonorm_s"))
    assert check in failed(problems)
    assert reason in "; ".join(problems)
    assert check != "proposal" or failed(problems) == {"proposal"}


def test_what_is_no_proposer_is_caught() -> None:
    """One sentence, and nothing is tried on it."""
    nothing: Any = object()
    assert check_proposer(nothing, get_space("swish")) == ["kind: it has no propose(context)"]
