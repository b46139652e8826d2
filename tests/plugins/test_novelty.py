"""What is known is recognized whatever its formula, and what is new is not mistaken for it."""

import pytest

from primordium.plugins.methods import METHODS
from primordium.plugins.novelty import nearest_method
from primordium.primitives.text import parse


@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_every_method_is_its_own_nearest(name: str) -> None:
    """A registered method is recognized as known."""
    found = nearest_method(METHODS.get(name).graph)
    assert found is not None
    assert found.same
    assert found.distance == 0.0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("activation: x / (1 + exp(-x))", "silu"),
        ("activation: x * exp(-exp(-x))", "golu"),
        ("activation: square(relu(x))", "relu_squared"),
        ("activation: 0.5 * (x + abs(x))", "relu"),
        ("layer[affine](a: C = 1): 3 * x / (1 + exp(-a * x)) / std(x, over=group)", "evonorm_s0"),
    ],
)
def test_another_formula_of_a_known_function_is_recognized(text: str, name: str) -> None:
    """Rewriting a formula, or scaling it before an affine, does not make it a discovery."""
    found = nearest_method(parse(text))
    assert found is not None
    assert found.same
    assert found.name == name


@pytest.mark.parametrize(
    "text", ["activation: x * sigmoid(x) + 0.1 * sin(x)", "layer[affine]: x / std(x, over=layer)"]
)
def test_a_new_function_is_not_taken_for_a_known_one(text: str) -> None:
    """A function that no method computes has a nearest method, but is not the same."""
    found = nearest_method(parse(text))
    assert found is not None
    assert not found.same
    assert found.distance > 0.0


def test_what_is_not_finite_has_no_nearest_method() -> None:
    """Where there is no behaviour there is nothing to compare."""
    assert nearest_method(parse("activation: exp(exp(exp(exp(x + 9))))")) is None
