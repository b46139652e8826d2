"""Tests of canonical JSON: equal values are equal bytes, and what is not JSON is refused by name."""

import json
import math
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primordium.errors import StoreError
from primordium.search.canonical import canonical_json, parsed

_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
_VALUES = st.recursive(_LEAVES, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=20)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), _VALUES))
def test_text_reads_back_as_the_same_value(value: dict[str, Any]) -> None:
    """Protects replay: a value folded from the log is the value that was written, floats to the last bit."""
    text = canonical_json(value, "value")
    assert text.isascii()
    assert repr(parsed(text, "value")) == repr(json.loads(json.dumps(value, sort_keys=True)))
    assert canonical_json(parsed(text, "value"), "value") == text


def test_text_does_not_depend_on_the_order_or_kind_of_containers() -> None:
    """Protects the digest: dict order, tuples and read-only mappings make no difference."""
    text = canonical_json({"b": (1, 2.5), "a": MappingProxyType({"é": None})}, "value")
    assert text == canonical_json({"a": {"é": None}, "b": [1, 2.5]}, "value")
    assert text == '{"a":{"\\u00e9":null},"b":[1,2.5]}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"scores": [0.5, math.nan]}, r"payload\.scores\[1\] is nan"),
        ({"scores": {"loss": -math.inf}}, r"payload\.scores\.loss is -inf"),
        ({"scores": {3: "x"}}, r"payload\.scores has the key 3"),
        ({"scores": np.float32(1)}, r"payload\.scores is a numpy\.float32"),
        ({"scores": {1.0}}, r"payload\.scores is a builtins\.set"),
    ],
)
def test_what_is_not_json_is_refused_by_its_path(value: dict[str, Any], message: str) -> None:
    """Protects the author of an event: the error points at the part that cannot be written."""
    with pytest.raises(StoreError, match=message):
        canonical_json(value, "payload")


def test_a_damaged_text_is_refused_by_its_place() -> None:
    """Protects the reader of a damaged run from a bare parser error."""
    with pytest.raises(StoreError, match="event 3 is not JSON"):
        parsed('{"a":', "event 3")
