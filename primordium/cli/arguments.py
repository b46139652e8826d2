"""Arguments and options that several commands share."""

from typing import Annotated

import typer

RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's directory or URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
