"""For a method author: an activation written as plain Python, checked, drawn as a formula, used at once.

In a package of its own, ``METHODS = (bent_gate,)`` and an entry point of the group ``primordium.methods``
register it for every user: see docs/plugins.md.
"""

import torch

import primordium as pm
from primordium.plugins.conformance import check_method
from primordium.plugins.method import activation


@activation(paper="this example", params={"beta": 1.0})
def bent_gate(o, x, beta):
    """x gated by a bent identity: x·σ(β·(√(x² + 1) + x - 1))."""
    return x * o.sigmoid(beta * (o.sqrt(x * x + 1.0, eps=0.0) + x - 1.0))


problems = check_method(bent_gate)
print("conformance:", problems or "passed")
print(bent_gate.formula)
print(pm.layer(bent_gate, 8)(torch.randn(2, 8, 4)).shape)
