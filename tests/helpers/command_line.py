"""Ways to run the command line: in this process, and as the program it is."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from primordium.cli.app import app

PROGRAM = (sys.executable, "-c", "from primordium.cli import main; main()")
SERIAL = ("--set", "executor.kind=serial")


def invoke(*arguments: object) -> Result:
    """The result of a command, run in this process."""
    wide = {"COLUMNS": "200"}  # pytest-xdist sets 80, at which tables fold
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=wide)


def succeed(*arguments: object) -> str:
    """What a command prints that must succeed."""
    result = invoke(*arguments)
    assert result.exit_code == 0, (arguments, result.output)
    return result.stdout


def refused(*arguments: object) -> str:
    """What a command says that must be refused: on standard error alone, status 2, no traceback."""
    result = invoke(*arguments)
    assert result.exit_code == 2, (arguments, result.output)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def program(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command line as a process of its own."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, **options)
