"""Primitives of other packages: added after a check, whole plugins or nothing."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from primordium.errors import PluginError
from primordium.plugins.methods import METHODS
from primordium.plugins.primitives import PARAMETER_NAMES, as_primitives, load_primitives
from primordium.primitives.domain import DOMAINS
from primordium.primitives.primitive import PRIMITIVES, Primitive
from primordium.primitives.text import parse

COSINE = Primitive(
    "cosine_wave",
    1,
    "elementwise",
    "cos x",
    numpy="np.cos({0})",
    torch="torch.cos({0})",
    partials=(lambda o, y, x: -o.sin(x),),
)
HALVED = Primitive("halved_wave", 1, "derived", "cos(x)/2", derive=lambda o, x: 0.5 * o.cosine_wave(x))
WRONG = replace(COSINE, name="wrong_wave", partials=(lambda o, y, x: o.sin(x),))


@pytest.fixture(autouse=True)
def _clean_table() -> Iterator[None]:
    before = set(PRIMITIVES)
    yield
    for name in set(PRIMITIVES) - before:
        PRIMITIVES.remove(name)


def test_a_sound_primitive_becomes_part_of_the_language() -> None:
    """Once added, graphs can be written with it."""
    assert as_primitives(COSINE) == (COSINE,)
    assert str(parse("activation: cosine_wave(x)")) == "activation: cosine_wave(x)"


def test_a_derived_primitive_may_use_those_before_it() -> None:
    """A plugin's primitives are added in order."""
    as_primitives([COSINE, HALVED])
    assert "halved_wave" in PRIMITIVES


def test_a_wrong_derivative_is_refused_by_name_and_with_a_reason() -> None:
    """And what the same plugin added before it is taken back."""
    with pytest.raises(PluginError, match=r"primitive 'wrong_wave' fails its conformance check: derivative:"):
        as_primitives([COSINE, WRONG])
    assert "cosine_wave" not in PRIMITIVES
    assert "wrong_wave" not in PRIMITIVES


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sigmoid", "registered already"),
        ("x", "name that graphs use"),
        ("no_act", "name that graphs use"),
        ("gamma", "name that graphs use"),
        ("t12", "name that graphs use"),
        ("running_0", "name that graphs use"),
        ("lambda", "name that graphs use"),
        ("two words", "must be an identifier"),
    ],
)
def test_a_name_that_graphs_need_is_refused(name: str, reason: str) -> None:
    """A primitive called like an input or a parameter would break every graph that has one."""
    with pytest.raises(PluginError, match=reason):
        as_primitives(replace(COSINE, name=name))


def test_a_kind_that_back_ends_would_have_to_know_is_refused() -> None:
    """A statistic needs code in every back end."""
    with pytest.raises(PluginError, match="kind 'statistic'; a plugin can add elementwise and derived"):
        as_primitives(replace(PRIMITIVES["mean"], name="other_mean"))


@pytest.mark.parametrize("loaded", [3, "sin", [3]])
def test_the_contract_refuses_what_is_no_primitive(loaded: object) -> None:
    """Only primitives, alone or in an iterable, pass."""
    with pytest.raises(PluginError, match="Primitive"):
        as_primitives(loaded)


def test_parameter_names_of_builtin_methods_are_kept_free() -> None:
    """Whoever adds a method with a new parameter name is told to reserve it."""
    inputs = {name for domain in DOMAINS.values() for name in domain.inputs}
    used = {
        name
        for method in METHODS
        if METHODS.origin(method.name).distribution == "primordium"
        for name in method.parameters
    }
    assert used <= PARAMETER_NAMES | inputs


def test_loading_without_plugins_finds_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing installed, nothing added."""
    before = set(PRIMITIVES)
    assert load_primitives() == ()
    assert set(PRIMITIVES) == before
