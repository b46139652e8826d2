"""Where commands print: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_WIDTH_OF_FILES = 160


class Page(NamedTuple):
    """What a command answers, for programs and for people.

    Attributes:
        data: plain data.
        body: what to print one below the other.
    """

    data: Any
    body: Sequence[RenderableType]


def emit(page: Page, as_json: bool) -> None:
    """Print a page on standard output, as JSON if asked."""
    if as_json:
        sys.stdout.write(json.dumps(page.data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return
    print_parts(page.body)


def print_parts(parts: Iterable[RenderableType]) -> None:
    """Print one below the other; a terminal wraps a sentence itself, so that commands in it can be copied."""
    console = make_console()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def make_console() -> Console:
    """A console that shows text as it is: formulas hold brackets and colons that rich would interpret."""
    from rich.console import Console

    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if narrow else _WIDTH_OF_FILES
    return Console(width=width, markup=False, emoji=False, highlight=False)


def make_table(*columns: str, right: tuple[str, ...] = (), folding: tuple[str, ...] = ()) -> Table:
    """An empty table.

    Args:
        columns: their headings.
        right: those that are aligned to the right.
        folding: those that may take several lines where room is short.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column not in folding)
    return table


def duration(seconds: float) -> str:
    """A time for people: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plus_minus(mean: float, interval: float | None) -> str:
    """A mean with half the width of its interval: ``0.9712 ± 0.0031``."""
    return f"{mean:.4f}" if interval is None else f"{mean:.4f} ± {interval:.4f}"
