"""The forms that stand in for runtime functions in written files."""

import inspect

import pytest
import torch

from primordium.export import portable
from primordium.kernels import torch_runtime


@pytest.mark.parametrize("axis", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("name", ["argsort", "cumargmax"])
def test_they_are_the_runtime_functions(name: str, axis: tuple[int, ...]) -> None:
    """Another order of ties, axis or dtype than the back ends have."""
    x = torch.randint(0, 4, (3, 5, 6), generator=torch.Generator().manual_seed(2)).double() / 2.0
    given, own = getattr(torch_runtime, name), getattr(portable, name)
    assert list(inspect.signature(given).parameters) == list(inspect.signature(own).parameters)
    for rest in ((True,), (False,)) if name == "argsort" else ((),):
        expected = given(x, tuple(x.shape), axis, *rest)
        torch.testing.assert_close(own(x, tuple(x.shape), axis, *rest), expected, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", ["argsort", "cumargmax"])
def test_the_form_for_onnx_has_the_same_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form for ONNX that means something else, where no value ties."""
    x = torch.randperm(90, generator=torch.Generator().manual_seed(2)).double().reshape(3, 5, 6)
    own, rest = getattr(portable, name), (True,) if name == "argsort" else ()
    expected = own(x, (3, 5, 6), (1, 2), *rest)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(own(x, (3, 5, 6), (1, 2), *rest), expected)
