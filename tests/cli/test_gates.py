"""Tests of `gates`: the account of the ladder, and how often each gate is wrong."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from command_line import SERIAL, refused, succeed

from primordium.cli.gates import ladder_data, ladder_table
from primordium.cli.output import make_console
from primordium.search.ladder import Rung
from primordium.search.progress import Progress
from primordium.search.store import Event

AUDITED = ("--set", "audit=0.4", "--set", "candidates=14", "--set", "training.steps=30")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained some of what its gates killed."""
    path = tmp_path_factory.mktemp("gates") / "run"
    succeed("search", "smoke", "--out", path, *AUDITED, *SERIAL)
    return path


def test_the_account_names_every_gate_and_adds_up(audited: Path) -> None:
    """Protects the table that says where a search's time goes."""
    output = succeed("gates", audited)
    found = json.loads(succeed("gates", audited, "--json"))["ladder"]
    names = [rung["gate"] for rung in found]
    assert names[:2] == ["static", "duplicate (structure)"]
    assert names[-2:] == ["ten_step", "quality"]
    assert all(name in output for name in names)
    screening = found[: names.index("duplicate (behaviour)") + 1]
    for before, after in pairwise(screening):
        assert after["seen"] == before["seen"] - sum(before["killed"].values())


def test_what_was_killed_and_trained_all_the_same_is_counted(audited: Path) -> None:
    """Protects the measured false-kill rate: audits are there, and each has an interval around its rate."""
    found = json.loads(succeed("gates", audited, "--json"))["ladder"]
    rates = [rung["false_kill_rate"] for rung in found if rung["audited"]]
    assert sum(rung["audited"] for rung in found) > 0
    for rate, low, high in rates:
        assert 0.0 <= low <= rate <= high <= 1.0
    assert "false kills (95 %)" in succeed("gates", audited)
    assert "40 % of the training budget" in succeed("gates", audited)


def test_what_kernels_cost_is_told_where_there_were_any(
    audited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilation on a GPU is part of a run's account; a run without one does not speak of it."""
    assert "kernels" not in succeed("gates", audited)
    spent = {"kernels compiled": 12.0, "kernels found": 30.0, "kernels seconds": 3.0}
    fold = Progress.apply

    def apply(self: Progress, event: Event) -> None:
        fold(self, event)
        self.seconds |= spent

    monkeypatch.setattr(Progress, "apply", apply)
    assert "Fused kernels: 12 compiled in 3 s, 30 found in the cache." in succeed("gates", audited)
    found = json.loads(succeed("gates", audited, "--json"))["kernels"]
    assert found == {"compiled": 12.0, "found": 30.0, "seconds": 3.0}


def test_a_gate_that_was_not_audited_claims_no_rate() -> None:
    """Protects from reading no evidence as no error."""
    rungs = [Rung("a", 10, {"why": 4}, 1.0, 30.0, 20, 1), Rung("b", 6, {}, 0.0)]
    console = make_console()
    with console.capture() as capture:
        console.print(ladder_table(rungs))
    first, second = [line for line in capture.get().splitlines() if line.strip()[:2] in ("a ", "b ")]
    assert "5 % (0-25)" in first
    assert "%" not in second.replace("0 %", "")
    assert [entry["false_kill_rate"] is None for entry in ladder_data(rungs)] == [False, True]


def test_there_must_be_a_run(tmp_path: Path) -> None:
    """Protects from an account of nothing."""
    assert "there is no run at" in refused("gates", tmp_path / "none")
