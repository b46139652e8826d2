"""The NumPy meaning of elementwise primitives, compiled from their templates: on floats and on arrays alike.

Used for constant folding, ranges and, above, by the screening back end. NumPy is imported on first use.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from primordium.primitives.primitive import PRIMITIVES, Attrs


@cache
def _namespace() -> dict[str, Any]:
    import numpy as np

    elementwise_erf: Callable[[Any], Any] = np.frompyfunc(math.erf, 1, 1)

    def erf(x: Any) -> Any:
        return elementwise_erf(x).astype(np.float64) if isinstance(x, np.ndarray) else math.erf(x)

    def sigmoid(x: Any) -> Any:
        # Through tanh: never overflows, and one call.
        return 0.5 * np.tanh(0.5 * x) + 0.5

    return {"np": np, "erf": erf, "sigmoid": sigmoid}


@cache
def numpy_function(op: str, attrs: Attrs) -> Callable[..., Any]:
    """The elementwise primitive as a function of floats or arrays."""
    primitive = PRIMITIVES[op]
    names = [f"a{i}" for i in range(primitive.arity)]
    given = dict(attrs)
    body = primitive.template("numpy", given).format(*names, **given)
    # The template is the installed primitive's own code; attributes are checked numbers and words.
    function: Callable[..., Any] = eval(f"lambda {', '.join(names)}: {body}", dict(_namespace()))
    return function


@lru_cache(maxsize=65_536)
def evaluate(op: str, attrs: Attrs, *values: float) -> float:
    """The value of an elementwise primitive at numbers; ``nan`` where it has none."""
    import numpy as np

    with np.errstate(all="ignore"):
        return float(numpy_function(op, attrs)(*(np.float64(v) for v in values)))
