"""Axis sets: reading, showing, named index sets."""

import pytest

from primordium.errors import GraphError
from primordium.primitives import axes as ax


def test_every_set_reads_back_as_it_is_shown() -> None:
    """show and axis_set are inverse on all 2¹⁰ sets."""
    for axes in range(1 << len(ax.ATOMS)):
        assert ax.axis_set(ax.show(axes)) == axes
        assert ax.axis_set("".join(ax.members(axes))) == axes


def test_channels_are_groups_of_channels() -> None:
    """C is G × c, and is shown as C only where both are there."""
    assert ax.C == ax.G | ax.CHANNEL_IN_GROUP
    assert ax.show(ax.B | ax.C | ax.S) == "{B,C,S}"
    assert ax.show(ax.G | ax.S) == "{G,S}"
    assert ax.show(ax.NONE) == "{}"


def test_index_sets_reduce_what_their_names_say() -> None:
    """The named sets of layers, weights and attention."""
    expected = {
        "batch": "BS",
        "instance": "S",
        "layer": "CS",
        "group": "cS",
        "channel": "C",
        "row": "K",
        "column": "R",
        "tensor": "LRK",
        "global": "PLRK",
        "keys": "K",
    }
    assert {name: ax.index_set(name) for name in ax.INDEX_SETS} == {
        name: ax.axis_set(letters) for name, letters in expected.items()
    }


@pytest.mark.parametrize("text", ["BCS", "{B,C,S}", "B, C, S", "SCB", "{B, G, c, S}"])
def test_spellings_of_one_set(text: str) -> None:
    """Braces, commas, spaces and order are free."""
    assert ax.axis_set(text) == ax.B | ax.C | ax.S


def test_members_are_in_canonical_order() -> None:
    """The order of the atoms, whatever the order of writing."""
    assert ax.members(ax.axis_set("SB")) == ("B", "S")


@pytest.mark.parametrize("text", ["{B,X}", "b", "B;S"])
def test_an_unknown_letter_is_named(text: str) -> None:
    """The message says which letter, and which there are."""
    with pytest.raises(GraphError, match=r"unknown axis '[Xb;]'.*the axes are B, G, c, S"):
        ax.axis_set(text)


@pytest.mark.parametrize("over", ["batches", "", "BS", "{B,S", "{B,X}"])
def test_an_unknown_index_set_is_refused(over: str) -> None:
    """Neither a name nor axes in braces."""
    with pytest.raises(GraphError, match="unknown"):
        ax.index_set(over)
