"""Tests of the place of a run: one writer, any readers, other files unharmed, every failure explained."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from scripts import script

from primordium.errors import StoreError
from primordium.search.store import Event, Store

HEADER = {"seed": 7}


def event(seq: int, **payload: Any) -> Event:
    """The event that these tests write as number `seq`."""
    return Event(seq, "result", payload, {})


def filled(path: Path, count: int = 5) -> Path:
    """A closed run of `count` events."""
    with Store.create(path, HEADER) as store:
        store.append([event(seq) for seq in range(count)])
    return path


# --------------------------------------------------------------------------------------- writers and readers

OPEN_AND_WAIT = """
import sys
from primordium.search.store import Store
with Store.open(sys.argv[1]) as store:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    """Protects the log from two writers, across processes; status works meanwhile; a killed owner lets go."""
    path = filled(tmp_path / "run")
    with script(OPEN_AND_WAIT, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"is being written by process {process.pid} on "):
            Store.open(path)
        with pytest.raises(StoreError, match="is being written by another process"):
            Store.create(path, HEADER)
        with Store.open(path, read_only=True) as reader:
            assert reader.count() == 5
        process.kill()
        process.wait()
        with Store.open(path) as store:
            store.append([event(5)])


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """Protects notebooks: the lock is no matter of process ids, and closing, even twice, gives it back."""
    path = filled(tmp_path / "run")
    store = Store.open(path)
    with pytest.raises(StoreError, match=f"is being written by process {os.getpid()} on "):
        Store.open(path)
    store.append([event(5)])
    store.close()
    store.close()
    with Store.open(path) as again:
        assert again.count() == 6


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Protects resuming after a driver died that left a forked helper behind."""
    source = """
import os, sys, time
from primordium.search.store import Store
store = Store.open(sys.argv[1])
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(600)
os.kill(os.getpid(), 9)
"""
    path = filled(tmp_path / "run")
    with script(source, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        process.wait()
        Store.open(path).close()


def test_a_reader_sees_what_is_appended_while_it_reads(tmp_path: Path) -> None:
    """Protects the live view: a reader follows the writer, and cannot write."""
    with Store.create(tmp_path / "run", HEADER) as writer:
        writer.append([event(0)])
        with Store.open(tmp_path / "run", read_only=True) as reader:
            assert reader.count() == 1
            writer.append([event(1)])
            assert reader.last() == event(1)
            with pytest.raises(StoreError, match="is open read-only"):
                reader.append([event(2)])


def test_a_database_locked_by_another_program_is_waited_for_then_reported(tmp_path: Path) -> None:
    """Protects against hanging on, or crashing over, a SQLite shell left open on the run."""
    with Store.open(filled(tmp_path / "run"), timeout=0.05) as store:
        with closing(sqlite3.connect(tmp_path / "run" / "run.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match=r"is locked by another process \(waited 0.05 s\)"):
                store.append([event(5)])
            assert store.count() == 5
        store.append([event(5)])
        store.check()


def test_a_closed_store_is_not_opened_again_by_accident(tmp_path: Path) -> None:
    """Protects the lock: a use after close() must not write without it."""
    store = Store.create(tmp_path / "run", HEADER)
    store.close()
    with pytest.raises(StoreError, match="is closed: open it again"):
        store.append([event(0)])
    with pytest.raises(StoreError, match="is closed: open it again"):
        store.count()


# -------------------------------------------------------------------------------- places that cannot be used

# Root may write anywhere, so the child gives up the capabilities that let it; plain users have none.
AS_A_PLAIN_USER = """
import ctypes, sys
from primordium.errors import StoreError
from primordium.search.store import Store
if sys.platform == "linux":
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
try:
    with Store.open(sys.argv[1], read_only=sys.argv[2] == "read") as store:
        print("events", sum(1 for _ in store.events()))
except StoreError as error:
    print(error)
"""


def opened_as_a_plain_user(path: Path, how: str) -> str:
    """What comes of opening a run in a directory and with files that may be read only."""
    files = [path, *path.iterdir()]
    modes = {file: file.stat().st_mode for file in files}
    for file in files:
        file.chmod(0o555 if file.is_dir() else 0o444)
    try:
        with script(AS_A_PLAIN_USER, path, how) as process:
            return process.communicate()[0]
    finally:
        for file in files:
            file.chmod(modes[file])


def copied(path: Path, target: Path, names: list[str]) -> Path:
    """A directory with some of a run's files, as a copy of a run that is being written has them."""
    target.mkdir()
    for name in names:
        (target / name).write_bytes((path / name).read_bytes())
    return target


def test_a_read_only_run_can_be_read_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    """Protects looking at somebody else's run, or at one on a read-only medium."""
    path = filled(tmp_path / "run")
    assert opened_as_a_plain_user(path, "read") == "events 5\n"
    assert "is read-only: make its directory and files writable" in opened_as_a_plain_user(path, "write")
    (path / "run.lock").unlink()
    assert "cannot be opened: its files must be readable" in opened_as_a_plain_user(path, "write")


def test_a_read_only_copy_never_hides_commits(tmp_path: Path) -> None:
    """Protects from a stale answer: commits in the WAL are read, or reported where they cannot be."""
    names = ["run.db", "run.db-wal", "run.db-shm"]
    with Store.create(tmp_path / "run", HEADER) as store:
        store.append([event(seq) for seq in range(5)])
        whole = copied(tmp_path / "run", tmp_path / "whole", names)
        partial = copied(tmp_path / "run", tmp_path / "partial", names[:2])
        assert opened_as_a_plain_user(tmp_path / "run", "read") == "events 5\n"
    assert opened_as_a_plain_user(whole, "read") == "events 5\n"
    assert "run.db-wal in it holds commits that run.db lacks: copy" in opened_as_a_plain_user(partial, "read")


def test_a_full_disk_is_reported_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Protects the log where every long run ends up once: SQLITE_FULL leaves what was there."""
    limits = iter([20, 100_000])

    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {next(limits)}")

    path = filled(tmp_path / "run")
    sa.event.listen(sa.pool.QueuePool, "connect", limit)
    try:
        with Store.open(path) as store:
            with pytest.raises(
                StoreError, match="found no room on its disk and wrote nothing of this append"
            ):
                store.append([event(5), event(6, text="x" * 200_000)])
            assert store.count() == 5
        with Store.open(path) as store:
            store.check()
            store.append([event(5), event(6, text="x" * 200_000)])
    finally:
        sa.event.remove(sa.pool.QueuePool, "connect", limit)


def foreign(directory: Path) -> None:
    """A SQLite file of some other program."""
    with closing(sqlite3.connect(directory / "run.db")) as connection:
        connection.execute("CREATE TABLE event (seq INTEGER)")


def damaged(directory: Path) -> None:
    """A run whose file lost its second half."""
    filled(directory, 200)
    os.truncate(directory / "run.db", (directory / "run.db").stat().st_size // 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, r"there is no run at .*run\.db is missing.*, the runs beside it are fine"),
        (lambda path: (path / "run.db").write_text("seed: 7\n" * 500), "its file is not a SQLite database"),
        (lambda path: (path / "run.db").touch(), "is not a Primordium run: .* no table 'primordium_run'"),
        (foreign, "is not a Primordium run: .* no table 'primordium_run'"),
        (damaged, "has a damaged database"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_not_a_whole_run_is_refused(tmp_path: Path, make: Any, message: str, read_only: bool) -> None:
    """Protects other people's files, which stay as they are, and tells what is wrong with one's own."""
    filled(tmp_path / "fine")
    (tmp_path / "run").mkdir()
    make(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("run.db*")}
    with pytest.raises(StoreError, match=message), Store.open(tmp_path / "run", read_only=read_only) as store:
        store.check()
    if make is not damaged:
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_file_is_not_a_run(tmp_path: Path) -> None:
    """Protects the command line from a path to run.db, or to anything else, in place of the directory."""
    (tmp_path / "run").touch()
    with pytest.raises(StoreError, match="is a file: give the directory of a run"):
        Store.open(tmp_path / "run")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.create(tmp_path / "run", HEADER)


@pytest.mark.parametrize("make", [filled, foreign])
def test_create_overwrites_nothing(tmp_path: Path, make: Any) -> None:
    """Protects a finished run from a second one under its name."""
    (tmp_path / "run").mkdir()
    make(tmp_path / "run")
    before = (tmp_path / "run" / "run.db").read_bytes()
    with pytest.raises(StoreError, match=r"run '.*run' exists already: resume it, or choose another name"):
        Store.create(tmp_path / "run", HEADER)
    assert (tmp_path / "run" / "run.db").read_bytes() == before


def test_create_that_was_interrupted_can_be_repeated(tmp_path: Path) -> None:
    """Protects the name of a run that died before its header was written."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.db").touch()
    with Store.create(tmp_path / "run", HEADER) as store:
        store.append([event(0)])


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    """Protects runs of other versions from being misread."""
    path = filled(tmp_path / "run")
    with closing(sqlite3.connect(path / "run.db")) as connection, connection:
        connection.execute("UPDATE primordium_run SET value = '2' WHERE key = 'schema'")
    with pytest.raises(StoreError, match="has store schema 2, and this Primordium reads 1: open it with"):
        Store.open(path)


# ------------------------------------------------------------------------------------------------------ URLs


def test_a_sqlite_url_is_a_run_like_any_other(tmp_path: Path) -> None:
    """Protects the URL form: the same log, the same lock."""
    url = f"sqlite:///{tmp_path}/some.db"
    with Store.create(url, HEADER) as store:
        store.append([event(0)])
        with pytest.raises(StoreError, match="is being written by"):
            Store.open(url)
    with Store.open(url, read_only=True) as store:
        assert list(store.events()) == [event(0)]
    with pytest.raises(StoreError, match="exists already"):
        Store.create(url, HEADER)


@pytest.mark.parametrize("url", ["oracle7://host/x", "sqlite://runs/foo", "sqlite://host:port/x", "://"])
def test_a_url_that_cannot_be_used_is_a_clear_error(url: str) -> None:
    """Protects the user of a URL with a typing error, or a driver that is not installed."""
    with pytest.raises(StoreError, match="no database can be reached by the URL"):
        Store.open(url)


def test_without_a_lock_file_the_numbering_keeps_two_writers_apart(tmp_path: Path) -> None:
    """Protects runs on a server, where the log itself is the lock: the second writer is refused."""
    url = f"sqlite:///file:{tmp_path}/served.db?uri=true"
    with Store.create(url, HEADER) as one, Store.open(url) as two:
        one.append([event(0)])
        with pytest.raises(StoreError, match=r"event 0 .* does not follow"):
            two.append([event(0)])
        two.append([event(1)])
        assert list(one.events()) == [event(0), event(1)]
