"""Tests of what a running search shows: the facts, the estimate, the lines and the view."""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from primordium.cli import live
from primordium.cli.live import LiveView, PlainLog
from primordium.cli.watch import Watch
from primordium.configs.schema import RunConfig, check_config
from primordium.plugins.novelty import is_known
from primordium.results import Run
from primordium.search.progress import RESULT, SCORED, Progress
from primordium.search.store import Event, Store


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def replayed(run: Path) -> Iterator[tuple[Event, Progress]]:
    """What an observer of the run was called with."""
    progress = Progress()
    with Store.open(run, read_only=True) as store:
        for event in store.events():
            progress.apply(event)
            yield event, progress


def configuration(run: Path) -> RunConfig:
    """The run's configuration."""
    return check_config(Run(run).config, "the run")


def test_a_watch_ends_with_what_the_run_says(run: Path) -> None:
    """Protects the display from telling another story than the log."""
    watch, done = Watch(configuration(run), workers=1), Run(run)
    for event, progress in replayed(run):
        watch(event, progress)
    scored = [one for one in done.progress.history if one.scores]
    assert (watch.done, watch.scored, watch.raw) == (10, len(scored), done.progress.raw)
    assert watch.best is not None
    assert watch.best.fitness == max(one.fitness for one in scored if not is_known(done.graph(one.id)))
    assert watch.rungs == done.ladder()
    assert {(one.name, one.mean) for one in watch.finals} == {(s.name, s.mean) for s in done.leaderboard()}
    assert watch.left() == 0.0


def test_the_time_left_is_what_the_rest_will_cost(run: Path) -> None:
    """Protects the estimate: remaining work over workers, less the time that has passed since."""
    clock = Clock()
    alone, several = (Watch(configuration(run), workers, clock) for workers in (1, 2))
    assert alone.left() is None
    for event, progress in replayed(run):
        alone(event, progress)
        several(event, progress)
        if event.kind == SCORED and len(progress.finals) == 2:
            break
    full = alone.left()
    assert full is not None
    assert full > 0
    assert several.left() == pytest.approx(full / 2, rel=0.5)
    clock.now += full / 4
    assert alone.left() == pytest.approx(0.75 * full)
    clock.now += 2 * full
    assert alone.left() == 0.0


def test_lines_come_at_each_tenth_and_for_every_final(run: Path) -> None:
    """Protects log files: enough lines to follow a search, no line for every event."""
    clock, lines = Clock(), list[str]()
    watch = Watch(configuration(run), 1, clock)
    log = PlainLog(watch, lines.append)
    results = 0
    for event, progress in replayed(run):
        log(event, progress)
        results += event.kind == RESULT
    assert len([line for line in lines if " candidates, " in line]) == results == 10
    assert len([line for line in lines if "final " in line]) == 1 + 4
    assert any("final 4/4: " in line and "±" in line for line in lines)


def test_lines_are_rare_in_a_long_search(run: Path) -> None:
    """Protects log files of hours from a line every few seconds."""
    clock, lines = Clock(), list[str]()
    config = configuration(run).model_copy(update={"candidates": 10_000})
    log = PlainLog(Watch(config, 1, clock), lines.append)
    event, progress = next(islice(replayed(run), 8, None))
    for _ in range(1000):
        clock.now += 4.0
        log(event, progress)
    assert 20 < len(lines) < 150


def drawn(view: LiveView, width: int) -> str:
    """The view as text."""
    console = Console(width=width, record=True, file=io.StringIO(), markup=False)
    console.print(view())
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_view_shows_progress_best_gates_and_finals(run: Path, width: int) -> None:
    """Protects the view at every stage of a search and on narrow terminals."""
    watch = Watch(configuration(run), workers=2)
    view = LiveView(watch, "runs/x")
    shown = [drawn(view, width)]
    for event, progress in replayed(run):
        watch(event, progress)
        shown.append(drawn(view, width))
    assert "no candidate has a score yet" in shown[0]
    assert "0/10" in shown[0]
    assert watch.best is not None
    assert "10/10" in shown[-1]
    assert watch.best.id in shown[-1]
    assert "bn_relu" in shown[-1]
    assert any("ten_step" in text for text in shown)


@pytest.mark.parametrize("name", ["NO_COLOR", "CI"])
def test_no_view_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Protects logs of machines from control sequences, also where they pretend to be a terminal."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for variable in ("NO_COLOR", "CI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert live.on_terminal()
    monkeypatch.setenv(name, "1")
    assert not live.on_terminal()
