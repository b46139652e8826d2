"""Tests of the presets: every one that ships can be started."""

import json

import pytest
from command_line import succeed

from primordium.configs.schema import load_config, presets
from primordium.session import Session


def test_presets_lists_every_one_with_its_configuration() -> None:
    """Protects the first thing a user looks up."""
    found = json.loads(succeed("presets", "--json"))
    assert [entry["name"] for entry in found] == list(presets())
    assert {"quick", "smoke"} <= {entry["name"] for entry in found}
    for entry in found:
        assert entry["description"]
        assert entry["config"] == load_config(entry["name"]).model_dump(mode="json")
        assert entry["name"] in succeed("presets")


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_names_what_there_is(name: str) -> None:
    """Protects presets from names of spaces, gates, methods and options that have changed since."""
    session = Session(load_config(name))
    assert set(session.baselines) == set(session.config.final.baselines)
    assert session.settings().candidates == session.config.candidates
