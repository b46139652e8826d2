"""``primordium status``, ``gates``, ``top`` and ``show``: reading a run, also while it is being written."""

from typing import Annotated

import typer

from primordium.cli.arguments import Json, RunName
from primordium.cli.output import emit


def status(run: RunName, json: Json = False) -> None:
    """Say how far a run is and what is best.

    Also for a run that is being written, and with what each gate saw, killed and spent.
    """
    from primordium.cli.overview import status_page

    emit(status_page(run), json)


def gates(run: RunName, json: Json = False) -> None:
    """Account for the gate ladder of a run.

    What each gate saw, killed, spent and saved, and how often it is wrong: a share of the training budget
    goes to candidates that were killed.
    """
    from primordium.cli.gates import gates_page

    emit(gates_page(run), json)


def top(
    run: RunName,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many candidates.")] = 10,
    json: Json = False,
) -> None:
    """List the best candidates.

    First the final comparison with known methods, where there was one, then the candidates by search score.
    """
    from primordium.cli.overview import top_page

    emit(top_page(run, number), json)


def show(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run, a method, a graph file or text.")],
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A candidate (default: the best).")] = None,
    json: Json = False,
) -> None:
    """Show a graph and what is known of it.

    That is its formula, LaTeX and parameters; of a candidate its scores, gates and parents as well; of a
    known method its source and traps.
    """
    from primordium.cli.portrait import portrait_page
    from primordium.cli.subject import find_subject

    emit(portrait_page(find_subject(what, id)), json)
