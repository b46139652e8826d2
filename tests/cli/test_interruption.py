"""Tests of searches that are stopped from outside: nothing is lost, and the resumed log is the whole one."""

import io
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SERIAL, invoke, program, succeed

from primordium.search.store import Store

SEARCH = ("search", "smoke", "--no-export", "--set", "candidates=40", "--set", "training.steps=60")


def log_of(path: Path) -> str:
    """A run's log, times apart."""
    stream = io.StringIO()
    with Store.open(path, read_only=True) as store:
        store.check()
        store.dump(stream)
    return stream.getvalue()


def events_of(path: Path) -> int:
    """How many events a run has that may not have begun."""
    try:
        with sqlite3.connect(f"file:{path}/run.db?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def stopped(
    process: subprocess.Popen[str], path: Path, number: signal.Signals, events: int
) -> tuple[int, str, str]:
    """Exit status and output of a search that is sent a signal when its log has so many events."""
    with process:
        try:
            while events_of(path) < events:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(number)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The log of the search that no one interrupts."""
    path = tmp_path_factory.mktemp("whole") / "run"
    succeed(*SEARCH, "--out", path, *SERIAL)
    return log_of(path)


@pytest.mark.parametrize(
    ("number", "executor"),
    [(signal.SIGINT, ("--workers", "1")), (signal.SIGTERM, SERIAL)],
    ids=["ctrl-c, a worker process", "sigterm, serial"],
)
def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, whole: str, number: signal.Signals, executor: tuple[str, ...]
) -> None:
    """Protects a clean end, the word how to go on, and the promise that a resumed run is the same run."""
    path = tmp_path / "run"
    process = program(*SEARCH, "--out", path, *executor, cwd=tmp_path)
    status, output, errors = stopped(process, path, number, events=12)
    assert status == 130
    assert errors == f"Interrupted; go on with: primordium resume {path}\n"
    assert "best" in output
    part = log_of(path)
    assert whole.startswith(part)
    assert 12 <= part.count("\n") < whole.count("\n")
    assert '"state": "stopped"' in succeed("status", path, "--json")
    resumed = succeed("resume", path, "--no-export", "--workers", "1")
    assert "Validation score" in resumed
    assert log_of(path) == whole


def test_an_interruption_before_the_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects users from being sent to resume what is not there."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("primordium.cli.conduct.conduct_search", interrupted)
    result = invoke("search", "smoke", "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (130, "Interrupted before the run began\n")
