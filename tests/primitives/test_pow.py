"""The signed power, and what ``**`` means while tracing."""

import numpy as np
import pytest
import torch

from primordium.kernels.numpy_backend import NumpyOps, run_dual
from primordium.kernels.reference import Reference
from primordium.primitives.builder import Operand, Value, trace
from primordium.primitives.differentiate import differentiate
from primordium.primitives.text import parse
from primordium.primitives.views import train_view

FORMS = ["pow(x, b)", "pow(x, b, eps=0)", "pow(b, x)", "pow(exp(x), b, eps=0)"]


@pytest.mark.parametrize("body", FORMS)
def test_derivative_rules_equal_autograd(body: str) -> None:
    """Both partial derivatives, safe and bare, for bases of either sign, forward and reverse."""
    view = train_view(parse(f"activation(b: C = 1): {body}"))
    random = torch.Generator().manual_seed(3)
    x = torch.randn(4, 1, 3, 5, generator=random, dtype=torch.float64).requires_grad_()
    b = (0.5 + torch.rand(1, 1, 3, 1, generator=random, dtype=torch.float64)).requires_grad_()
    y = Reference(view)({"x": x, "b": b})["y"]
    right = torch.autograd.grad(y.sum(), [x, b])
    graph = Reference(differentiate(view, wrt=("x", "b")))
    found = graph({"x": x.detach(), "b": b.detach(), "dy": torch.ones_like(x)})
    torch.testing.assert_close(found["grad_x"], right[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["grad_b"], right[1], rtol=1e-9, atol=1e-12)
    ops = NumpyOps(view.spec, (4, 1, 3, 5))
    leaves = {
        "x": (x.detach().numpy()[None], np.ones((1, 4, 1, 3, 5))),
        "b": (b.detach().numpy()[None], None),
    }
    value, tangent = run_dual(view, ops, leaves)["y"]
    np.testing.assert_allclose(value[0], y.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(tangent[0], right[0].numpy(), rtol=1e-9)


def test_power_of_zero_is_zero() -> None:
    """0**t is 0 in the bare form, so a decay rate of 0 gives a bias correction of 1; eps keeps 1/x finite."""
    view = train_view(parse("schedule(hyper beta = 0): 1 - pow(beta, t, eps=0) + pow(0, -1)"))
    zero, three = torch.zeros((), dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    assert Reference(view)({"t": three, "beta": zero})["y"].item() == 1.0


@pytest.mark.parametrize(
    ("exponent", "text"),
    [
        (2, "square(x)"),
        (3.0, "cube(x)"),
        (4, "pow(abs(x), 4, eps=0)"),
        (-1, "pow(x, -1, eps=0)"),
        (0.5, "pow(x, 0.5, eps=0)"),
    ],
)
def test_operator_with_a_number(exponent: float, text: str) -> None:
    """Whole exponents give the ordinary power (even ones are even functions), others the signed one."""
    graph = trace(lambda x: x**exponent, "activation")
    assert str(graph) == f"activation: {text}"
    if float(exponent).is_integer():
        x = torch.tensor([-2.0, -0.5, 3.0], dtype=torch.float64).reshape(1, 1, 3, 1)
        torch.testing.assert_close(Reference(train_view(graph))({"x": x})["y"], x**exponent)


def test_operator_between_values_and_from_a_number() -> None:
    """A value may be the exponent, of a value or of a number."""

    def both(x: Value, p: Value) -> Operand:
        return x**p + 2.0**x

    graph = trace(both, "activation", params={"p": 1.5})
    assert str(graph) == "activation(p: C = 1.5): pow(x, p, eps=0) + pow(2, x, eps=0)"
