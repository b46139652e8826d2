"""Tests of the run store: its log is exact, whole and tamper-evident, and so is what is folded from it."""

import gc
import io
import json
import math
import signal
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripts import script

from primordium.errors import StoreError
from primordium.search.store import CandidateRow, Event, Store

HEADER = {"config": {"window": 4}, "seed": 7, "versions": {"torch": "2.8"}}


def event(seq: int, **payload: Any) -> Event:
    """The event that these tests write as number `seq`."""
    return Event(seq, "result", {"value": seq / 3, **payload}, {"seconds": 0.1 * seq})


def candidate(id: str, fitness: float | None = None, status: str = "trained") -> CandidateRow:
    """A candidate with something in every field."""
    return CandidateRow(
        id=id,
        batch=1,
        key="k" + id,
        text="y = x * sigmoid(x)",
        genome={"nodes": [["mul", 0, 1]]},
        parents=("a", "b"),
        origin="mutation",
        status=status,
        gates={"numeric": {"passed": True}},
        scores={"digits": [0.1, 1 / 3]},
        fitness=fitness,
    )


def filled(path: Path, count: int = 5) -> Path:
    """A closed run of `count` events."""
    with Store.create(path, HEADER) as store:
        store.append([event(seq) for seq in range(count)])
    return path


# --------------------------------------------------------------------------------------------------- the log


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Protects the contract: header, events, times and candidates survive closing, in an odd path too."""
    path = tmp_path / "runs" / "größe 100%?#"
    events = [
        event(0, text="é\n\ud800", big=2**80, tiny=5e-324),
        event(1, nested={"b": [None, True], "a": {}}),
    ]
    rows = [candidate("x", 0.1 + 0.2), candidate("y")]
    with Store.create(path, HEADER) as store:
        store.append(events, rows)
        assert store.header == HEADER
    with Store.open(path) as store:
        assert store.header == HEADER
        assert list(store.events()) == events
        assert list(store.events(start=1)) == events[1:]
        assert store.last() == events[1]
        assert store.count() == 2
        assert store.candidates(order_by="id") == rows
        store.check()


def test_an_empty_log_is_a_log(tmp_path: Path) -> None:
    """Protects a run that was stopped before its first event."""
    with Store.create(tmp_path / "run", HEADER) as store:
        assert store.last() is None
        assert store.count() == 0
        assert list(store.events()) == []
        assert store.digest() == "0" * 32
        store.append([])
        store.check()
        assert store.count() == 0


def test_the_digest_stands_for_the_events_alone(tmp_path: Path) -> None:
    """Protects "byte-identical, times apart": times, header and grouping leave it, any content changes it."""
    logs = [
        [event(0), event(1)],
        [event(0, extra=0), event(1)],
        [event(0), event(1, extra=0)],
        [event(0), Event(1, "other", {"value": 1 / 3}, {})],
    ]
    digests = []
    for number, events in enumerate(logs):
        with Store.create(tmp_path / str(number), HEADER) as store:
            store.append(events)
            digests.append(store.digest())
    assert len(set(digests)) == len(logs)
    with Store.create(tmp_path / "slow", {"seed": 8}) as store:
        store.append([Event(0, "result", {"value": 0.0}, {"seconds": 99.0})])
        store.append([Event(1, "result", {"value": 1 / 3}, {})])
        assert store.digest() == digests[0]


def test_dump_is_json_lines_that_carry_the_log(tmp_path: Path) -> None:
    """Protects comparing two runs with diff, and reading a log without Primordium."""
    plain, timed = io.StringIO(), io.StringIO()
    with Store.open(filled(tmp_path / "run", 2), read_only=True) as store:
        store.dump(plain)
        store.dump(timed, timing=True)
    assert plain.getvalue() == (
        '{"kind":"result","payload":{"value":0.0},"seq":0}\n'
        '{"kind":"result","payload":{"value":0.3333333333333333},"seq":1}\n'
    )
    assert [Event(**json.loads(line)) for line in timed.getvalue().splitlines()] == [event(0), event(1)]


@pytest.mark.parametrize("seq", [0, 1, 3, -1])
def test_an_event_that_does_not_follow_is_refused(tmp_path: Path, seq: int) -> None:
    """Protects the numbering: no event twice, none left out."""
    with Store.create(tmp_path / "run", HEADER) as store:
        store.append([event(0), event(1)])
        with pytest.raises(StoreError, match=rf"event {seq} \('result'\) does not follow .*: next is 2"):
            store.append([event(seq)])
        with pytest.raises(StoreError, match=r"event 2 .*: next is 3"):
            store.append([event(2), event(2)])
        assert store.count() == 2


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        ([event(1), event(2, bad=math.nan)], [candidate("b")]),
        ([event(1), Event(2, "result", {}, {"seconds": math.inf})], [candidate("b")]),
        ([event(1)], [candidate("b"), candidate("c", math.nan)]),
    ],
)
def test_an_append_is_all_or_nothing(tmp_path: Path, events: list[Event], rows: list[CandidateRow]) -> None:
    """Protects the log from half an append: after a failure it is what it was, and goes on."""
    with Store.create(tmp_path / "run", HEADER) as store:
        store.append([event(0)], [candidate("a")])
        before = store.digest()
        with pytest.raises(StoreError, match=r"is (nan|inf): a log holds finite numbers"):
            store.append(events, rows)
        assert store.digest() == before
        assert [row.id for row in store.candidates()] == ["a"]
        store.append([event(1)])
        store.check()


def test_reading_a_long_log_takes_little_memory(tmp_path: Path) -> None:
    """Protects status and replay of runs of a million events: the log passes by, it is not loaded."""
    with Store.create(tmp_path / "run", HEADER) as store:
        store.append([event(seq, text="x" * 500) for seq in range(8000)])
        store.count()
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(1 for _ in store.events()) == 8000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8000 * 500 / 2


# -------------------------------------------------------------------------------------------- the candidates


def test_candidates_come_best_first_and_unknown_last(tmp_path: Path) -> None:
    """Protects the leaderboard: order, ties by id, limit, and a later row in place of an earlier one."""
    with Store.create(tmp_path / "run", HEADER) as store:
        rows = [candidate("d", 0.5), candidate("c", 0.5), candidate("b", None), candidate("a", -1.0)]
        store.append([event(0)], [*rows, candidate("e", 0.1)])
        store.append([event(1)], [candidate("e", 0.9, status="confirmed")])
        assert [row.id for row in store.candidates()] == ["e", "c", "d", "a", "b"]
        assert [row.id for row in store.candidates(limit=2)] == ["e", "c"]
        assert [row.id for row in store.candidates(order_by="id")] == ["a", "b", "c", "d", "e"]
        assert store.candidate("e") == candidate("e", 0.9, status="confirmed")


def test_asking_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Protects the command line from a bare KeyError."""
    with Store.create(tmp_path / "run", HEADER) as store:
        with pytest.raises(StoreError, match="has no candidate 'zz'"):
            store.candidate("zz")
        with pytest.raises(StoreError, match="cannot be ordered by 'luck': choose fitness or id"):
            store.candidates(order_by="luck")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- broken logs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE event SET payload = '{\"value\":9}' WHERE seq = 2",
            r"event 2 \('result'\) .* is not what was written",
        ),
        ("UPDATE event SET kind = 'gate' WHERE seq = 1", r"event 1 \('gate'\) .* is not what was written"),
        ("UPDATE event SET digest = '0' WHERE seq = 4", "event 4 .* is not what was written"),
        ("DELETE FROM event WHERE seq = 3", "event 3 .* is missing, 4 comes next"),
        ("DELETE FROM event WHERE seq < 2", "event 0 .* is missing, 2 comes next"),
        (
            "DELETE FROM event WHERE seq = 3; UPDATE event SET seq = 3 WHERE seq = 4",
            "event 3 .* is not what was written",
        ),
    ],
)
def test_check_names_the_first_event_that_was_tampered_with(
    tmp_path: Path, change: str, message: str
) -> None:
    """Protects trust in a log that was handed on: an edit anywhere but at the very end is noticed."""
    path = filled(tmp_path / "run")
    with closing(sqlite3.connect(path / "run.db")) as connection:
        connection.executescript(change)
    with Store.open(path) as store, pytest.raises(StoreError, match=message):
        store.check()


def test_a_hole_and_a_damaged_payload_stop_reading(tmp_path: Path) -> None:
    """Protects replay from folding a log with a hole in it, or text that is no JSON, without a check."""
    path = filled(tmp_path / "run")
    with closing(sqlite3.connect(path / "run.db")) as connection:
        connection.executescript(
            "DELETE FROM event WHERE seq = 1; UPDATE event SET payload = '{' WHERE seq = 3"
        )
    with Store.open(path) as store:
        with pytest.raises(StoreError, match=r"event 1 .* is missing"):
            list(store.events())
        with pytest.raises(StoreError, match=r"event 3 .* is not JSON"):
            list(store.events(start=2))


def test_a_writer_that_is_killed_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    """Protects runs from kill -9: every append that returned is there, none in part, and the lock is gone."""
    source = """
import sys
sys.path.insert(0, sys.argv[2])
from test_store import HEADER, Event, Store, candidate, event
with Store.create(sys.argv[1], HEADER) as store:
    for seq in range(0, 1_000_000, 3):
        store.append([event(seq + i) for i in range(3)], [candidate(f"{seq + i:08}") for i in range(3)])
        print(seq + 3, flush=True)
"""
    path = tmp_path / "run"
    with script(source, path, Path(__file__).parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 60:
                break
        process.send_signal(signal.SIGKILL)
        written = [int(line), *map(int, process.stdout.read().split())][-1]
        process.wait()
    with Store.open(path) as store:
        store.check()
        assert store.count() in (written, written + 3)
        assert list(store.events()) == [event(seq) for seq in range(store.count())]
        assert [int(row.id) for row in store.candidates(order_by="id")] == list(range(store.count()))
        store.append([event(store.count())])
