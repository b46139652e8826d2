"""A method: an activation or a layer with a name, to compare with, to start from and to use.

Yours: the formula, the ``params`` that it learns, and where it is from. ``layer`` in place of ``activation``
makes a normalization, with an activation or without.
"""

from typing import Any

from primordium.plugins.method import activation
from primordium.plugins.primitives import load_primitives

load_primitives()  # smooth_clip is one of this package


@activation(paper="Hard-Swish (Howard et al. 2019, arXiv:1905.02244) without its corners")
def smooth_swish(o: Any, x: Any) -> Any:
    """x·smooth_clip(x): Hard-Swish without its corners."""
    return x * o.smooth_clip(x)
