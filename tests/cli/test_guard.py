"""Tests of what a user sees when a command fails or is interrupted."""

import signal
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner, Result

from primordium.cli.guard import Interrupted, guarded, terminable
from primordium.errors import ConfigError


def outcome(action: Callable[[], object]) -> Result:
    """The result of a guarded command that does something."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @guarded
    def command() -> None:
        action()

    return CliRunner().invoke(app, [])


def raising(error: BaseException) -> Callable[[], object]:
    """A function that raises."""

    def action() -> None:
        raise error

    return action


def test_a_mendable_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects users from tracebacks of their own mistakes."""
    monkeypatch.delenv("PRIMORDIUM_DEBUG", raising=False)
    result = outcome(raising(ConfigError("steps is -1: give 1 or more")))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: steps is -1: give 1 or more\n"


def test_its_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects those who look for the place an error comes from."""
    monkeypatch.setenv("PRIMORDIUM_DEBUG", "1")
    result = outcome(raising(ConfigError("wrong")))
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: wrong\n")


def test_a_fault_asks_for_a_report() -> None:
    """Protects us from silence: a defect comes with its traceback and another status."""
    result = outcome(raising(ZeroDivisionError("by zero")))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" in result.stderr
    assert "fault: ZeroDivisionError: by zero" in result.stderr
    assert "report" in result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [(KeyboardInterrupt(), "Interrupted\n"), (Interrupted("Interrupted; go on"), "Interrupted; go on\n")],
)
def test_an_interruption_has_its_own_status(error: BaseException, message: str) -> None:
    """Protects scripts that tell Ctrl-C from a failure."""
    result = outcome(raising(error))
    assert (result.exit_code, result.stderr) == (130, message)


def test_sigterm_ends_a_command_as_ctrl_c_does() -> None:
    """Protects runs that a batch system ends; afterwards the signal means what it did before."""
    before = signal.getsignal(signal.SIGTERM)

    def action() -> None:
        with terminable():
            signal.raise_signal(signal.SIGTERM)

    assert outcome(action).exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_ends_a_command_in_the_background() -> None:
    """Protects jobs of scripts, which start with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
