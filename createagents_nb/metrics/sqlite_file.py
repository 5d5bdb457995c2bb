"""The file of recorded calls: how it is opened and left behind, and what can be wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..core.records import CallRecord, RequestRecord, ToolRecord
from .column_store import as_count, as_number
from .columns import CALLS, REQUESTS, TOOLS, Columns, Kind, required, value
from .observers import SettledCall

__all__ = [
    "APPLICATION_ID",
    "FORMAT_VERSION",
    "TABLES",
    "DatabaseTrouble",
    "TroubleKind",
    "create_tables",
    "open_to_read",
    "open_to_write",
    "read_calls",
    "tidy_up",
    "understood",
    "write_calls",
]

BUSY_TIMEOUT_S: Final = 2.0
"""So long a statement waits for another program."""


TroubleKind: TypeAlias = Literal["missing", "foreign", "newer", "broken", "unreachable", "locked", "full", "disk"]


_WAYS_OUT: Final[dict[TroubleKind, str]] = {
    "missing": "`recorder.persist(path)` starts such a file",
    "foreign": "it is left as it is; choose another file",
    "newer": "upgrade with `pip install --upgrade createagents-nb`, or choose another file",
    "broken": "move it away and start a new one; `sqlite3 FILE .recover` saves what can still be read",
    "unreachable": "choose a folder that exists and that you may write to, or put a copy there",
    "locked": "end that program, or let it finish",
    "full": "free some space",
    "disk": "look whether the disk is full and the drive is still there",
}


_LOCKED: Final[tuple[TroubleKind, str]] = ("locked", "is locked by another program")


_CODES: Final[dict[int, tuple[TroubleKind, str]]] = {
    sqlite3.SQLITE_NOTADB: ("foreign", "is not an SQLite file"),
    sqlite3.SQLITE_CANTOPEN: ("unreachable", "cannot be opened"),
    sqlite3.SQLITE_READONLY: ("unreachable", "cannot be written"),
    sqlite3.SQLITE_PERM: ("unreachable", "cannot be opened"),
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: ("full", "does not fit on its disk"),
    sqlite3.SQLITE_IOERR: ("disk", "cannot be read or written"),
}


class DatabaseTrouble(Exception):  # noqa: N818 - users see a `RecorderWarning` or a `RecorderFileError`
    """What is wrong with the file, in one clause that names the way out."""

    def __init__(self, kind: TroubleKind, path: Path, what: str, way_out: str = "") -> None:
        super().__init__(f"{path} {what}: {way_out or _WAYS_OUT[kind]}")
        self.kind = kind


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Errors that are the file's as `DatabaseTrouble`; those that are a row's pass."""
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        kind, what = _CODES.get(_code(error), ("broken", "is damaged"))
        raise DatabaseTrouble(kind, path, f"{what} ({error})") from error
    except OSError as error:
        raise DatabaseTrouble("unreachable", path, f"cannot be opened ({error.strerror})") from error


def _code(error: sqlite3.Error) -> int:
    # The low byte is the error, the rest tells more of it; Python's own errors have none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_half_written(error: sqlite3.Error) -> bool:
    """A program was killed while it wrote, without a write-ahead log: only one that may write can undo it."""
    return getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"


def open_to_write(path: Path) -> sqlite3.Connection:
    """The file, made if there is none. One that is not ours is not touched.

    Raises:
        DatabaseTrouble: it cannot be opened, or not be used.
    """
    with understood(path):
        if _size(path):
            _check_before_writing(path)
        elif not path.parent.is_dir():
            way_out = f"create {path.parent}, or choose another"
            raise DatabaseTrouble("unreachable", path, "cannot be made, its folder does not exist", way_out)
        connection = _connect(path, "rwc")
        try:
            if _pragma(connection, "page_count") == 0:
                create_tables(connection)
            _check(connection, path)
            # With a write-ahead log the power may fail at any time; without one, only FULL is as safe.
            connection.execute(f"PRAGMA synchronous={'NORMAL' if _in_wal_mode(connection) else 'FULL'}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """The file, for reading only.

    Raises:
        DatabaseTrouble: there is none, or it cannot be read.
    """
    with understood(path):
        if not (size := _size(path)):
            raise DatabaseTrouble("missing", path, "does not exist" if size is None else "is empty")
        try:
            return _checked(_connect(path, "ro"), path)
        except sqlite3.OperationalError as error:
            if _is_half_written(error):
                what, way_out = "was left in the middle of writing", "`recorder.persist(path)` repairs it"
                raise DatabaseTrouble("unreachable", path, what, way_out) from error
            cannot_write_beside = _code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not cannot_write_beside or os.path.exists(f"{path}-wal"):
                raise
            return _checked(_connect(path, "ro&immutable=1"), path)


def tidy_up(connection: sqlite3.Connection) -> None:
    """Close; the last writer leaves one file that can be copied, and read where nothing can be written."""
    try:
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error:
        pass  # somebody else uses it
    finally:
        with suppress(sqlite3.Error):
            connection.close()


def _size(path: Path) -> int | None:
    """In bytes; None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DatabaseTrouble("unreachable", path, f"is no path ({error})") from error
    if stat.S_ISDIR(found.st_mode):
        raise DatabaseTrouble(
            "foreign", path, "is a folder", f"give the path of a file, such as {path / 'runs.db'}"
        )
    if not stat.S_ISREG(found.st_mode):  # to open a pipe would block
        raise DatabaseTrouble("foreign", path, "is not a regular file")
    return found.st_size


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (known,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(known)


def _in_wal_mode(connection: sqlite3.Connection) -> bool:
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_BUSY:
            raise
        return False  # somebody reads just now
    return bool(mode == "wal")


def _check_before_writing(path: Path) -> None:
    # Through SQLite: to close a file that was opened by other means drops this process's locks on it.
    try:
        _checked(_connect(path, "ro"), path).close()
    except sqlite3.OperationalError as error:
        if not _is_half_written(error):
            raise
    if not os.access(path, os.W_OK):
        raise DatabaseTrouble("unreachable", path, "cannot be written")


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    try:
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise DatabaseTrouble("foreign", path, "is not a file of recorded calls")
    version = _pragma(connection, "user_version")
    if version > FORMAT_VERSION:
        what = f"was written by a newer createagents-nb (format {version}; this one reads {FORMAT_VERSION})"
        raise DatabaseTrouble("newer", path, what)
    for table, columns in TABLES.items():
        if [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] != list(columns):
            what = f"is damaged (its table {table} is not that of format {FORMAT_VERSION})"
            raise DatabaseTrouble("broken", path, what)


APPLICATION_ID: Final = 0x43414E42
"""``CANB``, in the file's header."""


FORMAT_VERSION: Final = 1


TABLES: Final[dict[str, Columns]] = {"calls": CALLS, "requests": REQUESTS, "tools": TOOLS}


_ROWS_A_STATEMENT: Final = 32
"""Each statement lets other threads run and waits for its turn again: a batch of many rows should wait seldom."""


_Item = TypeVar("_Item")


def create_tables(connection: sqlite3.Connection) -> None:
    types = {"seconds": "REAL", "rate": "REAL", "usd": "REAL", "count": "INTEGER"}
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone():  # another process was first
            return
        for table, columns in TABLES.items():
            typed = ", ".join(f"{column} {types.get(kind, 'TEXT')}" for column, kind in columns.items())
            connection.execute(f"CREATE TABLE {table} ({typed})")
            unique = "UNIQUE" if table == "calls" else ""
            connection.execute(f"CREATE {unique} INDEX {table}_by_call_id ON {table} (call_id)")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")


# Records as rows, and back.


def _text(known: Any) -> str:
    text = known if isinstance(known, str) else str(known)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, from a model
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _time(known: Any) -> str:
    utc = known.replace(tzinfo=UTC) if known.tzinfo is None else known.astimezone(UTC)
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


_CELLS: Final[dict[Kind, Callable[[Any], Any]]] = {
    "time": _time,
    "seconds": as_number,
    "rate": as_number,
    "usd": as_number,
    "count": as_count,
}


def _cell(known: Any, kind: Kind) -> Any:
    to_cell: Callable[[Any], Any] = _CELLS.get(kind, _text)
    try:
        return to_cell(known)
    except Exception:  # what cannot be written is unknown; the rest of the row is not
        return None


def _row(columns: Columns, record: object) -> list[Any]:
    known = [(value(record, column, kind), kind) for column, kind in columns.items()]
    return [None if cell is None else _cell(cell, kind) for cell, kind in known]


def write_calls(connection: sqlite3.Connection, calls: Iterable[SettledCall]) -> None:
    """Write calls in one transaction, all or none; what is there of a call of the same id is replaced."""
    found: dict[str, tuple[list[Any], SettledCall]] = {}
    for it in calls:
        row = _row(CALLS, it.call)
        found[row[0]] = row, it
    rows = [row for row, _ in found.values()]
    requests = [_row(REQUESTS, request) for _, it in found.values() for request in it.requests]
    tools = [_row(TOOLS, tool) for _, it in found.values() for tool in it.tools]
    updates = ", ".join(f"{column}=excluded.{column}" for column in CALLS)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for ids in _chunks([row[0] for row in rows]):
            for table in ("requests", "tools"):
                connection.execute(f"DELETE FROM {table} WHERE call_id IN ({_marks(ids)})", ids)
        _insert(connection, "calls", rows, f" ON CONFLICT (call_id) DO UPDATE SET {updates}")
        _insert(connection, "requests", requests)
        _insert(connection, "tools", tools)


def _insert(connection: sqlite3.Connection, table: str, rows: list[list[Any]], conflict: str = "") -> None:
    for some in _chunks(rows):
        values = ", ".join(f"({_marks(row)})" for row in some)
        connection.execute(
            f"INSERT INTO {table} VALUES {values}{conflict}", [cell for row in some for cell in row]
        )


def _marks(cells: Sequence[Any]) -> str:
    return ", ".join("?" * len(cells))


def _chunks(items: list[_Item]) -> Iterator[list[_Item]]:
    return (items[start : start + _ROWS_A_STATEMENT] for start in range(0, len(items), _ROWS_A_STATEMENT))


def read_calls(connection: sqlite3.Connection) -> list[SettledCall]:
    """All calls as they were at one moment, in the order in which they started."""
    connection.execute("BEGIN")
    try:
        requests = _by_call(connection, "requests", _maker(REQUESTS, RequestRecord))
        tools = _by_call(connection, "tools", _maker(TOOLS, ToolRecord))
        make = _maker(CALLS, CallRecord)
        rows = connection.execute("SELECT * FROM calls ORDER BY started_at, rowid")
        return [SettledCall(make(it), tuple(requests.get(it[0], ())), tuple(tools.get(it[0], ()))) for it in rows]
    except (TypeError, ValueError) as error:  # a time that is none
        raise sqlite3.DatabaseError(str(error)) from error


def _by_call(
    connection: sqlite3.Connection, table: str, make: Callable[[Sequence[Any]], Any]
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid"):
        found.setdefault(row[0], []).append(make(row))
    return found


def _maker(columns: Columns, record: type[Any]) -> Callable[[Sequence[Any]], Any]:
    """Makes a record of a row; a name that it must have is an empty one where it is unknown."""
    needed = required(record)
    texts = [column for column, kind in columns.items() if kind in ("id", "name", "label") and column in needed]

    def make(row: Sequence[Any]) -> Any:
        known = dict(zip(columns, row, strict=True))
        for column in texts:
            if known[column] is None:
                known[column] = ""
        if known["started_at"] is not None:
            time = datetime.fromisoformat(known["started_at"])
            known["started_at"] = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        return record(**known)

    return make
