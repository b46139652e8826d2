"""The display of a running search: a live view on a terminal, plain lines everywhere else."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from primordium.cli.gates import ladder_table
from primordium.cli.output import duration, make_console, plus_minus
from primordium.cli.watch import Final, Watch
from primordium.results import half_width
from primordium.search.engine import Observer
from primordium.search.progress import END, FINAL, FINALISTS, RUNG, SCORED, STAGE, Progress, Stage, fitness
from primordium.search.store import Event

_FRAMES_PER_SECOND = 2  # the view is drawn in the process that proposes and screens
_SHORTEST_PAUSE = 5.0
_PAUSE_SHARE = 0.05


def on_terminal() -> bool:
    """Whether a view that redraws itself can be shown on standard output."""
    plain = any(os.environ.get(name) for name in ("NO_COLOR", "CI")) or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


@contextmanager
def displayed(watch: Watch, title: str) -> Iterator[Observer]:
    """Shows a search while the block runs; gives the observer to hand to it.

    Args:
        watch: folds the events.
        title: the first line of the view.
    """
    if not on_terminal():
        yield PlainLog(watch, lambda line: print(line, flush=True))
        return
    view = LiveView(watch, title)
    console: Console = make_console()
    with Live(console=console, get_renderable=view, refresh_per_second=_FRAMES_PER_SECOND, transient=True):
        yield watch


class LiveView:
    """The live view: progress, the best so far, the gates' accounts, the final comparison.

    Args:
        watch: what to show.
        title: the first line.
    """

    def __init__(self, watch: Watch, title: str) -> None:
        self._watch = watch
        self._title = title

    def __call__(self) -> RenderableType:
        """The view as it stands."""
        watch = self._watch
        parts: list[RenderableType] = [self._heading(), self._bars(), self._best()]
        if watch.finals:
            parts.append(_finals(watch.finals))
        elif watch.rungs:
            parts += [Text(), ladder_table(watch.rungs)]
        return Group(*parts)

    def _heading(self) -> RenderableType:
        watch = self._watch
        left = watch.left()
        workers = f"{watch.workers} worker" + ("s" if watch.workers > 1 else "")
        times = f"{duration(watch.elapsed())}" + ("" if left is None else f", about {duration(left)} left")
        return Text.assemble((self._title, "bold"), f"   {workers}   {times}")

    def _bars(self) -> RenderableType:
        watch = self._watch
        grid = Table.grid(padding=(0, 2))
        for name, done, total in (
            ("search", watch.done, watch.total),
            ("final comparison", watch.final_done, watch.final_total),
        ):
            grid.add_row(name, ProgressBar(total, done, width=40), f"{done}/{total}")
        return grid

    def _best(self) -> RenderableType:
        best = self._watch.best
        if best is None:
            return Text("no candidate has a score yet", "dim")
        return Text.assemble(
            f"best of {self._watch.scored} scored: ",
            (best.id, "bold"),
            f"  {best.fitness:.4f}  ",
            best.formula,
        )


def _finals(finals: list[Final]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for one in sorted(finals, key=lambda one: -one.mean):
        row = (one.name, "known" if one.baseline else "found", plus_minus(one.mean, one.interval))
        grid.add_row(*row, style="dim" if one.baseline else "")
    return grid


class PlainLog:
    """Lines about a search: at each tenth of it, and in between some seconds apart, fewer as it grows long.

    Args:
        watch: folds the events.
        write: takes a line.
    """

    def __init__(self, watch: Watch, write: Callable[[str], None]) -> None:
        self._watch = watch
        self._write = write
        self._spoke = 0.0
        self._tenth = 0

    def __call__(self, event: Event, progress: Progress) -> None:
        """Write a line if one is due."""
        watch = self._watch
        watch(event, progress)
        if event.kind == STAGE:
            self._say(_stage(progress.stages[-1], first=len(progress.stages_of(FINAL)) == 1))
        elif event.kind == SCORED:
            stage = progress.stages[-1]
            name = event.payload["name"]
            means = [
                fitness(s) for s in (stage.scores if stage.kind == RUNG else progress.finals)[name].values()
            ]
            place = f"{stage.kind} {len(stage.scores)}/{len(stage.names)}"
            score = plus_minus(sum(means) / len(means), half_width(means))
            self._say(f"{place}: {name} {score}{self._left()}")
        elif event.kind not in (FINALISTS, END) and self._due():
            self._say(self._status())

    def _due(self) -> bool:
        elapsed = self._watch.elapsed()
        tenth = 10 * self._watch.done // self._watch.total
        due = tenth > self._tenth or elapsed - self._spoke >= max(_SHORTEST_PAUSE, _PAUSE_SHARE * elapsed)
        if due:
            self._tenth, self._spoke = tenth, elapsed
        return due

    def _status(self) -> str:
        watch = self._watch
        parts = [f"{watch.done}/{watch.total} candidates, {watch.scored} scored, {watch.raw:,} screened"]
        if watch.best is not None:
            parts.append(f"best {watch.best.fitness:.4f} {watch.best.id} {watch.best.formula}")
        return "; ".join(parts) + self._left()

    def _left(self) -> str:
        left = self._watch.left()
        return "" if left is None else f"; about {duration(left)} left"

    def _say(self, line: str) -> None:
        self._write(f"[{duration(self._watch.elapsed()):>9}] {line}")


def _stage(stage: Stage, first: bool) -> str:
    """What is trained now, in words."""
    longer = f", {stage.factor} × as long" if stage.factor > 1 else ""
    if stage.kind == RUNG:
        return f"promotion of {len(stage.names)}{longer}"
    if first:
        return f"final comparison of {len(stage.names)}, {len(stage.seeds)} seeds each{longer}"
    return f"not separated yet: {', '.join(stage.names)}; {len(stage.seeds)} more seeds each"
