"""``primordium doctor``."""

import typer

from primordium.cli.arguments import Json
from primordium.cli.guard import FAULT
from primordium.cli.output import emit


def doctor(json: Json = False) -> None:
    """Look at the installation and the machine.

    The exit status is 1 if something that is needed is broken.
    """
    from primordium.cli.diagnosis import diagnosis_page

    page, sound = diagnosis_page()
    emit(page, json)
    if not sound:
        raise typer.Exit(FAULT)
