"""Canonical JSON: one value, one text, so that equal logs are equal bytes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from primordium.errors import StoreError


def canonical_json(value: Mapping[str, Any] | Sequence[Any], where: str) -> str:
    """The one text of a JSON value: sorted keys, no spaces, ASCII, floats that read back exactly.

    Raises:
        StoreError: a part of it is not JSON (NaN is not); names the part, counting from `where`.
    """
    return json.dumps(_plain(value, where), sort_keys=True, separators=(",", ":"), allow_nan=False)


def parsed(text: str, where: str) -> Any:
    """The value of a text of `canonical_json`; StoreError that names `where` if it is not one any more."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is not JSON: the run was edited or damaged; restore a copy") from error


def require_finite(value: float, where: str) -> float:
    """`value`; StoreError that names `where` if it is NaN or infinite."""
    if not math.isfinite(value):
        raise StoreError(f"{where} is {value}: a log holds finite numbers, and None where there is none")
    return value


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's own types, or a StoreError naming the first part that would not come back equal."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return require_finite(value, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}: keys in a log are strings")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise StoreError(f"{where} is a {kind}: a log holds dict, list, str, int, float, bool and None")
