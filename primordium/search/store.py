"""The run store: an append-only log of events, the truth of a run, and the candidates folded from it.

A run is a directory that holds `run.db` (SQLite in WAL mode; `run.db-wal` and `run.db-shm` belong to it while
they exist) and `run.lock`. A SQLAlchemy URL names a database of its own instead, one for each run. What
survives a crash and how a second writer is kept out is told in `primordium.search.database`.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

import sqlalchemy as sa

from primordium.errors import StoreError
from primordium.search.canonical import canonical_json, parsed, require_finite
from primordium.search.database import Database, transaction

SCHEMA_VERSION = 1
EMPTY_DIGEST = "0" * 32
_PAGE = 500  # events read at a time: bounds the memory, and leaves no transaction open in between


@dataclass(frozen=True)
class Event:
    """One event of the log. `timing` (seconds, worker ids) is kept beside it and is no part of the digest."""

    seq: int
    kind: str
    payload: Mapping[str, Any]
    timing: Mapping[str, float]


@dataclass(frozen=True)
class CandidateRow:
    """What the log says of one candidate, folded for queries. Larger `fitness` is better; None is unknown."""

    id: str
    batch: int
    key: str
    text: str
    genome: Mapping[str, Any]
    parents: tuple[str, ...]
    origin: str
    status: str
    gates: Mapping[str, Any]
    scores: Mapping[str, Any]
    fitness: float | None


_METADATA = sa.MetaData()
_RUN = sa.Table(
    "primordium_run",
    _METADATA,
    sa.Column("key", sa.Text, primary_key=True),  # schema, header, writer
    sa.Column("value", sa.Text, nullable=False),
)
_EVENT = sa.Table(
    "event",
    _METADATA,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "payload", "timing", "digest")),
)
_TAIL = sa.select(_EVENT).order_by(_EVENT.c.seq.desc()).limit(1)
_JSON_FIELDS = ("genome", "parents", "gates", "scores")
_TEXT_FIELDS = ("key", "text", "origin", "status")
_CANDIDATE = sa.Table(
    "candidate",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("batch", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in (*_TEXT_FIELDS, *_JSON_FIELDS)),
    sa.Column("fitness", sa.Double, index=True),
)
_ORDERS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "fitness": (_CANDIDATE.c.fitness.desc().nulls_last(), _CANDIDATE.c.id),
    "id": (_CANDIDATE.c.id,),
}


def _line(seq: int, kind: str, payload: str, timing: str | None = None) -> str:
    """An event as one line of canonical JSON; without its timing, it is what the digest is taken of."""
    tail = "" if timing is None else f',"timing":{timing}'
    return f'{{"kind":{json.dumps(kind)},"payload":{payload},"seq":{seq}{tail}}}'


def _chained(previous: str, line: str) -> str:
    return hashlib.blake2b((previous + line).encode(), digest_size=len(EMPTY_DIGEST) // 2).hexdigest()


class Store:
    """A run, open for reading or for writing. Comes from `Store.create` or `Store.open`; a context manager.

    Whatever cannot be read or written is a StoreError that leaves the run as it was. One thread appends.
    """

    def __init__(
        self,
        database: Database,
        engine: sa.Engine,
        header: dict[str, Any],
        resources: ExitStack,
        read_only: bool,
    ) -> None:
        self.header = header
        self.read_only = read_only
        self._database = database
        self._engine = engine
        self._resources = resources
        self._closed = False

    @classmethod
    def create(cls, path_or_url: Path | str, header: Mapping[str, Any], *, timeout: float = 10.0) -> Self:
        """Makes a run and opens it for writing.

        Args:
            path_or_url: a directory, made if missing, or a SQLAlchemy URL (whatever holds "://").
            header: what the run is: config, seed, versions, hashes of its data. JSON values only.
            timeout: seconds to wait for another process's lock on a SQLite file.

        Raises:
            StoreError: there is a run or other data already, or it cannot be written there.
        """
        database = Database.at(path_or_url, timeout)
        text = canonical_json(header, "header")
        facts = {"schema": str(SCHEMA_VERSION), "header": text, "writer": _this_process()}
        with database.explained(), ExitStack() as resources:
            if database.file is not None:
                database.file.parent.mkdir(parents=True, exist_ok=True)
            resources.enter_context(database.locked("another process"))
            _require_vacant(database)
            engine = database.engine(read_only=False)
            resources.callback(engine.dispose)
            with transaction(engine) as connection:
                _METADATA.create_all(connection, checkfirst=False)
                connection.execute(_RUN.insert(), [{"key": key, "value": facts[key]} for key in facts])
            return cls(database, engine, json.loads(text), resources.pop_all(), read_only=False)

    @staticmethod
    def require_vacant(path_or_url: Path | str, *, timeout: float = 10.0) -> None:
        """Refuses what `create` would refuse because something is there, and writes nothing.

        Raises:
            StoreError: there is a run or other data already.
        """
        database = Database.at(path_or_url, timeout)
        with database.explained():
            _require_vacant(database)

    @classmethod
    def open(cls, path_or_url: Path | str, *, read_only: bool = False, timeout: float = 10.0) -> Self:
        """Opens a run: to write, alone; to read, beside its writer and in a read-only directory too.

        Raises:
            StoreError: no such run, not a run, a run of another schema version, or a writer has it open.
        """
        database = Database.at(path_or_url, timeout)
        with database.explained(), ExitStack() as resources:
            database.require()
            facts = _facts(database)
            header = parsed(facts["header"], f"the header of run '{database.name}'")
            if not read_only:
                resources.enter_context(database.locked(facts["writer"]))
            engine = database.engine(read_only=read_only)
            resources.callback(engine.dispose)
            if not read_only:
                with transaction(engine) as connection:
                    connection.execute(
                        _RUN.update().where(_RUN.c.key == "writer").values(value=_this_process())
                    )
            return cls(database, engine, header, resources.pop_all(), read_only=read_only)

    def append(self, events: Sequence[Event], candidates: Sequence[CandidateRow] = ()) -> None:
        """Writes the events and the candidates they make or change, all of them or none.

        A candidate replaces an earlier one of the same id.

        Raises:
            StoreError: a `seq` is not the next one, a value is not JSON, or the run cannot be written.
        """
        if self.read_only:
            raise StoreError(f"run '{self._database.name}' is open read-only: open it for writing to append")
        with self._explained(), transaction(self._engine) as connection:
            rows = self._chain(events, connection.execute(_TAIL).first())
            if rows:
                connection.execute(_EVENT.insert(), rows)
            if candidates:
                folded = {row.id: _candidate_values(row) for row in candidates}
                stale = _CANDIDATE.delete().where(_CANDIDATE.c.id == sa.bindparam("stale"))
                connection.execute(stale, [{"stale": id} for id in folded])
                connection.execute(_CANDIDATE.insert(), list(folded.values()))

    def events(self, start: int = 0) -> Iterator[Event]:
        """The events from number `start` on, read page by page: those appended meanwhile are among them."""
        for row in self._rows(start):
            yield self._event(row)

    def last(self) -> Event | None:
        """The newest event."""
        row = self._tail()
        return None if row is None else self._event(row)

    def count(self) -> int:
        """How many events the log holds."""
        row = self._tail()
        return 0 if row is None else int(row.seq) + 1

    def digest(self) -> str:
        """The end of the digest chain, which stands for the whole log, times apart: 32 hexadecimal digits."""
        row = self._tail()
        return EMPTY_DIGEST if row is None else str(row.digest)

    def check(self) -> None:
        """Recomputes the digest chain. A log that lost only events from its end is a shorter log, and passes.

        Raises:
            StoreError: names the first event that is missing, or is not what was written.
        """
        digest = EMPTY_DIGEST
        for row in self._rows(0):
            digest = _chained(digest, _line(row.seq, row.kind, row.payload))
            if digest != row.digest:
                raise StoreError(
                    f"event {row.seq} ('{row.kind}') of run '{self._database.name}' is not what was written: "
                    "it was edited or damaged; restore a copy"
                )

    def candidates(
        self, order_by: Literal["fitness", "id"] = "fitness", limit: int | None = None
    ) -> list[CandidateRow]:
        """The candidates: by fitness, best first and those without one last, ties by id; or by id."""
        if order_by not in _ORDERS:
            raise StoreError(f"candidates cannot be ordered by '{order_by}': choose {' or '.join(_ORDERS)}")
        query = sa.select(_CANDIDATE).order_by(*_ORDERS[order_by]).limit(limit)
        with self._reading() as connection:
            return [self._candidate(row) for row in connection.execute(query)]

    def candidate(self, id: str) -> CandidateRow:
        """The candidate of that id, or StoreError."""
        with self._reading() as connection:
            row = connection.execute(sa.select(_CANDIDATE).where(_CANDIDATE.c.id == id)).first()
        if row is None:
            raise StoreError(f"run '{self._database.name}' has no candidate '{id}': candidates() lists them")
        return self._candidate(row)

    def dump(self, stream: TextIO, timing: bool = False) -> None:
        """Writes the log as JSON lines. Without timing, equal runs give equal bytes."""
        for row in self._rows(0):
            stream.write(_line(row.seq, row.kind, row.payload, row.timing if timing else None) + "\n")

    def close(self) -> None:
        """Closes the run and lets another writer in. May be called twice."""
        self._closed = True
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        if self._closed:
            raise StoreError(f"run '{self._database.name}' is closed: open it again")
        with self._database.explained():
            yield

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._explained(), self._engine.connect() as connection:
            yield connection

    def _tail(self) -> sa.Row[Any] | None:
        with self._reading() as connection:
            return connection.execute(_TAIL).first()

    def _rows(self, start: int) -> Iterator[sa.Row[Any]]:
        expected = start
        while True:
            query = sa.select(_EVENT).where(_EVENT.c.seq >= expected).order_by(_EVENT.c.seq).limit(_PAGE)
            with self._reading() as connection:
                page = connection.execute(query).all()
            for row in page:
                if row.seq != expected:
                    raise StoreError(
                        f"event {expected} of run '{self._database.name}' is missing, {row.seq} comes next: "
                        "the run was edited or damaged; restore a copy"
                    )
                yield row
                expected += 1
            if len(page) < _PAGE:
                return

    def _chain(self, events: Sequence[Event], tail: sa.Row[Any] | None) -> list[dict[str, Any]]:
        """The events as rows that go on from `tail`, the newest row there is."""
        first, digest = (0, EMPTY_DIGEST) if tail is None else (tail.seq + 1, tail.digest)
        rows = []
        for expected, event in enumerate(events, first):
            where = f"event {event.seq} ('{event.kind}')"
            if event.seq != expected:
                raise StoreError(
                    f"{where} does not follow in run '{self._database.name}': next is {expected}"
                )
            payload = canonical_json(event.payload, f"{where}: payload")
            timing = canonical_json(event.timing, f"{where}: timing")
            digest = _chained(digest, _line(event.seq, event.kind, payload))
            values = (event.seq, event.kind, payload, timing, digest)
            rows.append(dict(zip(_EVENT.c.keys(), values, strict=True)))
        return rows

    def _event(self, row: sa.Row[Any]) -> Event:
        where = f"event {row.seq} of run '{self._database.name}'"
        return Event(row.seq, row.kind, parsed(row.payload, where), parsed(row.timing, where))

    def _candidate(self, row: sa.Row[Any]) -> CandidateRow:
        where = f"candidate '{row.id}' of run '{self._database.name}'"
        values = dict(row._mapping) | {name: parsed(row._mapping[name], where) for name in _JSON_FIELDS}
        return CandidateRow(**(values | {"parents": tuple(values["parents"])}))


def _candidate_values(row: CandidateRow) -> dict[str, Any]:
    where = f"candidate '{row.id}'"
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    values |= {name: canonical_json(values[name], f"{where}: {name}") for name in _JSON_FIELDS}
    if row.fitness is not None:
        values["fitness"] = require_finite(float(row.fitness), f"{where}: fitness")
    return values


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _require_vacant(database: Database) -> None:
    if database.exists() and _tables(database):
        raise StoreError(f"run '{database.name}' exists already: resume it, or choose another name")


def _tables(database: Database) -> list[str]:
    engine = database.engine(read_only=True)
    try:
        return sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _facts(database: Database) -> dict[str, str]:
    """What a run's database says of itself, read without touching it; StoreError if it is not a run's."""
    engine = database.engine(read_only=True)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(_RUN.name):
                raise StoreError(
                    f"'{database.name}' is not a Primordium run: its database has no table '{_RUN.name}'; "
                    "give the directory or URL that a search made"
                )
            facts = {row.key: row.value for row in connection.execute(sa.select(_RUN))}
    finally:
        engine.dispose()
    if facts.get("schema") != str(SCHEMA_VERSION):
        raise StoreError(
            f"run '{database.name}' has store schema {facts.get('schema')}, and this Primordium reads "
            f"{SCHEMA_VERSION}: open it with the version that wrote it"
        )
    return facts
