"""One small finished run, for all tests that only read it."""

from pathlib import Path

import pytest
from command_line import SERIAL, succeed


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the smallest preset, with its winner exported."""
    path = tmp_path_factory.mktemp("runs") / "smoke"
    succeed("search", "smoke", "--out", path, *SERIAL)
    return path
