"""The examples run as they stand; what takes minutes is run in small."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_every_example_is_tested() -> None:
    """A new example must be added here."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"known_layers", "own_method", "own_model", "own_proposer"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("known_layers", "2 of 2 norms replaced"), ("own_method", "conformance: passed")],
)
def test_short_examples_print_what_they_promise(name: str, expected: str) -> None:
    """They run in a process of their own, as a reader would run them."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_a_search_with_a_network_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The search of the example, in small, ends with a table and a layer that fits the network."""
    example = runpy.run_path(str(EXAMPLES / "own_model.py"))
    example["main"](tmp_path / "run", candidates=3, steps=12)
    printed = capsys.readouterr().out
    assert "bn_relu" in printed
    assert "torch.Size([2, 10])" in printed


def test_a_proposer_of_ones_own_is_compared() -> None:
    """The stand-in score is between 0 and 1 and repeats exactly."""
    example = runpy.run_path(str(EXAMPLES / "own_proposer.py"))
    proposer = example["HillClimbing"](example["get_space"]("evonorm_s"))
    first = example["closeness"](proposer, candidates=15, seed=1)
    assert 0.0 < first < 1.0
    assert example["closeness"](proposer, candidates=15, seed=1) == first
