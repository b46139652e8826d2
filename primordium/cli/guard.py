"""What happens when a command fails or is interrupted: one line for the user, and the exit status.

2 is an error that the user can mend, 130 an interruption (Ctrl-C or SIGTERM), 1 a fault of the program.
"""

import functools
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from primordium.errors import PrimordiumError

FAULT, MENDABLE, INTERRUPTED = 1, 2, 130

Command = Callable[..., None]


class Interrupted(KeyboardInterrupt):
    """A Ctrl-C, with what to tell the user."""


def guarded(command: Command) -> Command:
    """The command with its errors turned into a message on standard error and an exit status."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except PrimordiumError as error:
            if os.environ.get("PRIMORDIUM_DEBUG") == "1":
                traceback.print_exc()
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(MENDABLE) from None
        except KeyboardInterrupt as error:
            typer.echo(str(error) or "Interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except Exception as error:
            traceback.print_exc()
            typer.echo(
                f"fault: {type(error).__name__}: {error}\n"
                "This is a defect of primordium or of a plugin; please report it with the traceback above.",
                err=True,
            )
            raise typer.Exit(FAULT) from None

    return run


@contextmanager
def terminable() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, _terminator())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminator() -> Callable[[int, FrameType | None], Any]:
    # A job in the background of a script ignores SIGINT, so there it cannot stand for SIGTERM.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return signal.default_int_handler
    return lambda number, frame: signal.raise_signal(signal.SIGINT)
