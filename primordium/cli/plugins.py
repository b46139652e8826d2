"""``primordium plugins``: what there is, what each entry is, and whether it is sound."""

from typing import Annotated

import typer

from primordium.cli.arguments import Json
from primordium.cli.guard import FAULT
from primordium.cli.output import emit


def list_plugins(json: Json = False) -> None:
    """List what there is, and what was skipped."""
    from primordium.cli.catalogue import list_page

    emit(list_page(), json)


def show(
    name: Annotated[str, typer.Argument(help="A name or alias.")],
    json: Json = False,
) -> None:
    """Show what goes by a name.

    That is the formula, parameters, source and traps of a method, the attributes of a primitive, the options
    of a task, gate or proposer.
    """
    from primordium.cli.catalogue import show_page

    emit(show_page(name), json)


def check(
    name: Annotated[
        str | None, typer.Argument(help="A method, a primitive, or a package that brings some.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every method and primitive.")] = False,
    json: Json = False,
) -> None:
    """Check that plugins keep what they promise.

    Types, finite values, declared algebra, derivatives, agreement of the back ends. The exit status is 1 if a
    method or primitive fails, or a plugin was skipped.
    """
    if (name is None) != everything:
        raise typer.BadParameter("give a name or --all", param_hint="NAME")
    from primordium.cli.conformity import check_page

    page, sound = check_page(name)
    emit(page, json)
    if not sound:
        raise typer.Exit(FAULT)
