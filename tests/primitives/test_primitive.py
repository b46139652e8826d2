"""The table of primitives and the attributes of a node."""

from dataclasses import replace

import pytest

from primordium.errors import GraphError, PluginError
from primordium.primitives.primitive import PRIMITIVES, AttrValue, Primitive, PrimitiveTable, is_finite

ARGUMENTS: dict[str, AttrValue] = {"eps": 0.5, "over": "batch", "k": 3, "reverse": True}
SAMPLE = Primitive(
    "sample", 1, "elementwise", "a sample", attrs=ARGUMENTS, numpy="{0}", torch="{0}", partials=(None,)
)


@pytest.fixture
def table() -> PrimitiveTable:
    """An empty table."""
    return PrimitiveTable()


def test_every_primitive_says_what_it_is() -> None:
    """A summary of one line, a name that is its key, and complete default attributes."""
    for name, primitive in PRIMITIVES.items():
        assert primitive.name == name
        assert primitive.summary
        assert "\n" not in primitive.summary
        assert dict(primitive.complete({})) == dict(primitive.attrs)


def test_attributes_are_completed_sorted_and_typed() -> None:
    """Defaults are filled in, and a whole number given for a real one becomes real: equal nodes are equal."""
    assert SAMPLE.complete({}) == (("eps", 0.5), ("k", 3), ("over", "batch"), ("reverse", True))
    completed = dict(SAMPLE.complete({"eps": 2, "over": "layer"}))
    assert completed["over"] == "layer"
    assert repr(completed["eps"]) == "2.0"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", "small"),
        ("eps", float("nan")),
        ("eps", float("inf")),
        ("eps", 10**400),
        ("eps", True),
        ("over", 1),
        ("k", 1.5),
        ("k", False),
        ("k", "one"),
        ("reverse", 1),
        ("reverse", "yes"),
    ],
)
def test_an_attribute_of_the_wrong_kind_is_refused(key: str, value: AttrValue) -> None:
    """The message names the attribute, the primitive and what would be right."""
    with pytest.raises(GraphError, match=rf"attribute '{key}' of 'sample' is .* such as {ARGUMENTS[key]!r}"):
        SAMPLE.complete({key: value})


def test_an_unknown_attribute_is_refused() -> None:
    """The message lists those there are."""
    with pytest.raises(GraphError, match="no attribute 'esp'; its attributes: eps, over, k, reverse"):
        SAMPLE.complete({"esp": 1.0})


def test_an_unknown_primitive_is_refused() -> None:
    """The message lists the known ones; asking whether one is there does not raise."""
    with pytest.raises(GraphError, match=r"unknown primitive 'sigmoyd'; known: .*sigmoid"):
        PRIMITIVES["sigmoyd"]
    assert "sigmoyd" not in PRIMITIVES


def test_a_name_is_given_once(table: PrimitiveTable) -> None:
    """A plugin cannot replace a primitive; after removal the name is free."""
    table.add(SAMPLE)
    with pytest.raises(PluginError, match="'sample' is registered already"):
        table.add(SAMPLE)
    table.remove("sample")
    assert table.add(SAMPLE) is SAMPLE
    assert list(table) == ["sample"]
    assert len(table) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "identifier"),
        ({"name": "__import__('os')"}, "identifier"),
        ({"arity": 2}, "needs 2 derivative rules, has 1"),
        ({"torch": ""}, "numpy and torch templates"),
        ({"numpy": ""}, "numpy and torch templates"),
        ({"kind": "derived"}, "'derive' rule"),
    ],
)
def test_an_incomplete_primitive_is_refused(
    table: PrimitiveTable, changes: dict[str, str | int], message: str
) -> None:
    """What a back end would miss is said at registration."""
    with pytest.raises(PluginError, match=message):
        table.add(replace(SAMPLE, **changes))  # type: ignore[arg-type]
    assert len(table) == 0


def test_a_template_may_depend_on_attributes() -> None:
    """div writes a bare quotient only where ε is 0."""
    div = PRIMITIVES["div"]
    assert div.template("torch", {"eps": 0.0}) == "{0} / {1}"
    assert "{eps}" in div.template("torch", {"eps": 1e-5})


@pytest.mark.parametrize("value", [0, 1, -(10**300), 1.5, -0.0, 1e308])
def test_finite_numbers(value: float) -> None:
    """Whole numbers count as long as a float can hold them."""
    assert is_finite(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**309, -(10**400)])
def test_numbers_that_are_not_finite(value: float) -> None:
    """Too large a whole number is infinite as a float."""
    assert not is_finite(value)
