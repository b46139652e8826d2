"""Tests of `doctor`: it says what is there, and its status says whether a search can run."""

import json

import pytest
from command_line import invoke, succeed

from primordium.cli import diagnosis
from primordium.cli.diagnosis import Finding


def test_doctor_finds_this_installation_sound() -> None:
    """Protects the first question to a user with a problem: every fact is there."""
    found = json.loads(succeed("doctor", "--json"))
    assert found["sound"] is True
    names = {finding["name"] for finding in found["findings"]}
    assert {"python", "torch", "GPU", "CPU", "tape", "worker process"} <= names
    assert {"SQLite", "free disk", "cache", "plugins"} <= names


def test_what_is_broken_gives_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects scripts, and the rest of the findings from one look that fails itself."""

    def look_at_nothing() -> list[Finding]:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(diagnosis, "LOOKS", (look_at_nothing, diagnosis.look_at_python))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "the disk is on fire" in result.stdout
    assert "python" in result.stdout
    assert "not ready" in result.stdout


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects users with half an installation; what is optional is but noted."""
    monkeypatch.setattr(diagnosis, "NEEDED", ("no_such_package",))
    monkeypatch.setattr(diagnosis, "OPTIONAL", {"no_such_extra": "nothing"})
    found = {finding.name: finding.status for finding in diagnosis.look_at_packages()}
    assert found == {"no_such_package": "broken", "no_such_extra": "note"}
