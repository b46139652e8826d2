"""Each plugin keeps what Primordium asks of its kind, and does what it is for."""

from primordium.evaluators.gate import Subject
from primordium.plugins.methods import method
from primordium.search.space import get_space
from primordium.testing import check_gate, check_method, check_primitive, check_proposer, check_task
from primordium_smooth.gates import NoKinks
from primordium_smooth.methods import smooth_swish
from primordium_smooth.primitives import smooth_clip
from primordium_smooth.proposers import Boltzmann
from primordium_smooth.tasks import smooth_spirals


def test_the_primitive() -> None:
    """Declared algebra, derivatives, agreement of the back ends."""
    check_primitive(smooth_clip)


def test_the_method() -> None:
    """Finite in every precision, right derivatives, no input changed, and more."""
    check_method(smooth_swish)


def test_the_task() -> None:
    """Splits that do not overlap, batches that repeat; made twice, it holds the same data."""
    check_task(smooth_spirals(), again=smooth_spirals())


def test_the_gate() -> None:
    """The same verdict in any order, no exception; ReLU has a kink, SiLU has none."""
    check_gate(NoKinks())
    assert NoKinks().check(Subject(method("relu").graph)) == "not smooth"
    assert NoKinks().check(Subject(method("silu").graph)) is None


def test_the_proposer() -> None:
    """Sound genomes, the same ones where the context is the same."""
    space = get_space("swish")
    check_proposer(Boltzmann(space), space)
