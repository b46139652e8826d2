"""Where a run is kept: its directory or URL, its connections, its writer's lock, and its errors explained.

Durability. A commit that has returned is in the WAL file, out of reach of whatever happens to the process:
`kill -9` loses only what was in flight. `synchronous=NORMAL` leaves out the flush to the platter at each
commit, so that a power cut may take the last commits as well, but whole ones and from the end only. The log
is then a shorter prefix of itself, from which the engine computes the very same events again; the costlier
FULL would save some computing and no truth.

One writer. The writer holds an exclusive transaction on `run.lock`, an empty SQLite file. The kernel drops
that lock with the process, however it ends; a forked child does not inherit it; a second writer in the same
process is refused as well. On a database server the primary key of the log does this work, later: of two
writers, the one that comes second to an event's number is refused.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool, QueuePool

from primordium.errors import StoreError

_REASONS = {
    sqlite3.SQLITE_BUSY: "is locked by another process (waited {timeout:g} s): end that one, or try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its files must be readable, its directory writable to write",
    sqlite3.SQLITE_CONSTRAINT: "was written by another process meanwhile: end one of the two, open it again",
    sqlite3.SQLITE_CORRUPT: "has a damaged database, cut short or overwritten: restore it from a copy",
    sqlite3.SQLITE_FULL: "found no room on its disk and wrote nothing of this append: free some, then resume",
    sqlite3.SQLITE_IOERR: "met a failure of its disk: check the disk and its free space, then resume",
    sqlite3.SQLITE_NOTADB: "is not a Primordium run: its file is not a SQLite database",
    sqlite3.SQLITE_READONLY: "is read-only: make its directory and files writable, or open it read-only",
}


@dataclass(frozen=True)
class Database:
    """The database of one run.

    Attributes:
        name: how the run is called in messages: the path or URL as it was given, a password left out.
        url: the URL of a database server; unused where there is a file.
        file: the SQLite file, or None on a server (and for a database in memory).
        timeout: seconds to wait for another process's lock on a SQLite file.
    """

    name: str
    url: sa.URL
    file: Path | None
    timeout: float

    @classmethod
    def at(cls, path_or_url: Path | str, timeout: float) -> Self:
        """The database in a run's directory, or at a SQLAlchemy URL (whatever holds "://").

        Raises:
            StoreError: the URL does not parse, or its dialect or driver is not installed.
        """
        text = os.fspath(path_or_url)
        if "://" not in text:
            return cls(text, sa.make_url("sqlite://"), Path(text) / "run.db", timeout)
        try:
            url = sa.make_url(text)
            sa.create_engine(url)
        except (ArgumentError, ImportError, ValueError) as error:
            raise StoreError(f"no database can be reached by the URL of this run: {error}") from error
        path = url.database if url.get_backend_name() == "sqlite" else None
        on_disk = path and path != ":memory:" and not path.startswith("file:")
        return cls(url.render_as_string(), url, Path(path) if path and on_disk else None, timeout)

    def engine(self, *, read_only: bool) -> sa.Engine:
        """Connects nothing yet. Readers of a file keep no connection between two calls."""
        if self.file is None:
            return sa.create_engine(self.url)
        connect = partial(
            _connect_reader if read_only else _connect_writer, self.file.resolve(), self.timeout
        )
        return sa.create_engine("sqlite://", creator=connect, poolclass=NullPool if read_only else QueuePool)

    def exists(self) -> bool:
        """Whether there is a database to connect to. A server's always counts as there."""
        return self.file is None or self.file.exists()

    def require(self) -> None:
        """Raises StoreError where there is no database, and names the runs beside it."""
        if self.file is None or self.file.is_file():
            return
        if self.file.parent.is_file():
            raise StoreError(f"'{self.name}' is a file: give the directory of a run")
        beside = sorted(path.parent.name for path in self.file.parent.parent.glob(f"*/{self.file.name}"))
        hint = f"the runs beside it are {', '.join(beside[:10])}" if beside else "and no other run beside it"
        raise StoreError(f"there is no run at '{self.name}' ({self.file} is missing), {hint}")

    @contextmanager
    def locked(self, writer: str) -> Iterator[None]:
        """Holds the right to write. A server has no lock to hold.

        Raises:
            StoreError: somebody else holds it: `writer`, as far as is known.
        """
        if self.file is None:
            yield
            return
        path = self.file.with_suffix(".lock")
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                raise StoreError(
                    f"run '{self.name}' is being written by {writer}: end it first, open the run read-only, "
                    "or choose another name"
                ) from error
            yield
        finally:
            connection.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what databases and file systems raise into a StoreError: which run, what, the remedy."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            taken = sqlite3.SQLITE_CONSTRAINT if isinstance(error, IntegrityError) else 0
            code = getattr(cause, "sqlite_errorcode", taken) & 0xFF
            reason = _REASONS.get(code, "could not be used by its database").format(timeout=self.timeout)
            raise StoreError(f"run '{self.name}' {reason} ({cause})") from error
        except OSError as error:
            raise StoreError(f"run '{self.name}' cannot be opened: {error}") from error


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All or nothing. SQLite takes its write lock at the start, where waiting for it is possible."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _connect(file: Path, mode: str, timeout: float) -> sqlite3.Connection:
    uri = f"{file.as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _connect_writer(file: Path, timeout: float) -> sqlite3.Connection:
    connection = _connect(file, "mode=rwc", timeout)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _connect_reader(file: Path, timeout: float) -> sqlite3.Connection:
    """Opens beside a writer too; where SQLite may not make its extra files, reads the database file alone.

    The file alone is the whole truth only if no commit waits in the WAL, and only until somebody writes.
    So this is settled anew at each connection, and readers keep none.
    """
    connection = _connect(file, "mode=ro", timeout)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        wal = file.with_name(f"{file.name}-wal")
        if wal.exists() and wal.stat().st_size > 0:
            raise StoreError(
                f"'{file.parent}' is read-only, and {wal.name} in it holds commits that {file.name} lacks: "
                "copy the directory to where it can be written, and open the copy"
            ) from error
        return _connect(file, "mode=ro&immutable=1", timeout)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
