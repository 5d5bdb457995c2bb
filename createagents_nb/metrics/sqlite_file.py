"""The SQLite file of recorded calls: format, errors, opening and closing, writing and reading."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..core.records import CallContext, CallRecord, ContextMessage, RequestRecord, ToolRecord
from .column_store import as_count, as_number
from .columns import CALLS, REQUESTS, STORED_CALLS, TOOLS, Columns, Kind, required, value
from .contexts import message_from_json, message_json
from .observers import SettledCall

__all__ = [
    "APPLICATION_ID",
    "BUSY_TIMEOUT_S",
    "FORMAT_VERSION",
    "TABLES",
    "DatabaseTrouble",
    "TroubleKind",
    "close_connection",
    "create_tables",
    "open_to_read",
    "open_to_write",
    "read_calls",
    "translate_errors",
    "write_calls",
]

APPLICATION_ID: Final = 0x43414E42
"""``CANB``, in the file's header."""
FORMAT_VERSION: Final = 1
TABLES: Final[dict[str, Columns]] = {"calls": CALLS, "requests": REQUESTS, "tools": TOOLS}
_APPENDED: Final = {"calls": ("finish_reason",), "requests": ("adjusted", "context_window")}
"""Columns that files of earlier versions lack, by table."""
BUSY_TIMEOUT_S: Final = 2.0
"""How long a statement waits for another program's lock."""
_ROWS_PER_STATEMENT: Final = 32
"""Between statements other threads run and this one waits for its turn again: fewer statements, less waiting."""

_Item = TypeVar("_Item")


# Errors

TroubleKind: TypeAlias = Literal["missing", "foreign", "newer", "broken", "unreachable", "locked", "full", "disk"]

_REMEDIES: Final[dict[TroubleKind, str]] = {
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
_PROBLEMS: Final[dict[int, tuple[TroubleKind, str]]] = {
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
    """A problem with the file, as one clause that names a remedy."""

    def __init__(self, kind: TroubleKind, path: Path, problem: str, remedy: str = "") -> None:
        super().__init__(f"{path} {problem}: {remedy or _REMEDIES[kind]}")
        self.kind = kind


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of the file as `DatabaseTrouble`; errors of a single row pass through."""
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        kind, problem = _PROBLEMS.get(_primary_code(error), ("broken", "is damaged"))
        raise DatabaseTrouble(kind, path, f"{problem} ({error})") from error
    except OSError as error:
        raise DatabaseTrouble("unreachable", path, f"cannot be opened ({error.strerror})") from error


def _primary_code(error: sqlite3.Error) -> int:
    # The low byte of an extended result code is the primary one. Errors raised by Python have no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_half_written(error: sqlite3.Error) -> bool:
    """Whether a writer without a write-ahead log was killed: rolling back needs write access."""
    return getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"


# Opening and closing


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the file for writing, creating it if it is missing; a file of another program is not touched.

    Raises:
        DatabaseTrouble: it cannot be opened or used.
    """
    with translate_errors(path):
        if _size(path):
            _check_before_writing(path)
        elif not path.parent.is_dir():
            remedy = f"create {path.parent}, or choose another"
            raise DatabaseTrouble("unreachable", path, "cannot be made, its folder does not exist", remedy)
        connection = _connect(path, "rwc")
        try:
            if _pragma(connection, "page_count") == 0:
                create_tables(connection)
            _check(connection, path)
            _add_what_is_missing(connection)
            # NORMAL survives a power failure only with a write-ahead log.
            connection.execute(f"PRAGMA synchronous={'NORMAL' if _in_wal_mode(connection) else 'FULL'}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file for reading only.

    Raises:
        DatabaseTrouble: it is missing or cannot be read.
    """
    with translate_errors(path):
        if not (size := _size(path)):
            raise DatabaseTrouble("missing", path, "does not exist" if size is None else "is empty")
        try:
            return _checked(_connect(path, "ro"), path)
        except sqlite3.OperationalError as error:
            if _is_half_written(error):
                problem, remedy = "was left in the middle of writing", "`recorder.persist(path)` repairs it"
                raise DatabaseTrouble("unreachable", path, problem, remedy) from error
            folder_is_read_only = _primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not folder_is_read_only or os.path.exists(f"{path}-wal"):
                raise
            return _checked(_connect(path, "ro&immutable=1"), path)


def close_connection(connection: sqlite3.Connection) -> None:
    """Close the connection; the last writer leaves a single file that can be copied and read anywhere."""
    try:
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error:
        pass  # another connection is open
    finally:
        with suppress(sqlite3.Error):
            connection.close()


_TYPES: Final[dict[Kind, str]] = {"seconds": "REAL", "rate": "REAL", "usd": "REAL", "count": "INTEGER"}
"""Types of columns in SQLite; the others are TEXT."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables and mark the file as ours, unless another process has just done so."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return
        for table, columns in TABLES.items():
            typed = ", ".join(f"{column} {_TYPES.get(kind, 'TEXT')}" for column, kind in columns.items())
            connection.execute(f"CREATE TABLE {table} ({typed})")
            unique = "UNIQUE" if table == "calls" else ""
            connection.execute(f"CREATE {unique} INDEX {table}_by_call_id ON {table} (call_id)")
        for statement in _ADDED_TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")


_ADDED_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS contexts (call_id TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID",
)
"""What calls were asked with. The key of a text is its BLAKE2b. The text of a context is a JSON object of keys:
``system``, ``tools``, ``config`` and a list, ``history``. Files of earlier versions have no such tables."""


def _add_what_is_missing(connection: sqlite3.Connection) -> None:
    """Bring a file of an earlier version up to date; its rows have NULL in columns that are new."""
    is_complete = all(len(_columns(connection, table)) == len(TABLES[table]) for table in _APPENDED)
    if is_complete and _columns(connection, "contexts"):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for statement in _ADDED_TABLES:
            connection.execute(statement)
        for table in _APPENDED:
            present = _columns(connection, table)  # another process may have been faster
            for column, kind in list(TABLES[table].items())[len(present) :]:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {_TYPES.get(kind, 'TEXT')}")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _size(path: Path) -> int | None:
    """Size in bytes; None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DatabaseTrouble("unreachable", path, f"is no path ({error})") from error
    if stat.S_ISDIR(status.st_mode):
        raise DatabaseTrouble(
            "foreign", path, "is a folder", f"give the path of a file, such as {path / 'runs.db'}"
        )
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise DatabaseTrouble("foreign", path, "is not a regular file")
    return status.st_size


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (setting,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(setting)


def _in_wal_mode(connection: sqlite3.Connection) -> bool:
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if _primary_code(error) != sqlite3.SQLITE_BUSY:
            raise
        return False  # another program is reading
    return bool(mode == "wal")


def _check_before_writing(path: Path) -> None:
    # Opened through SQLite: closing any other handle of the file would drop this process's locks on it.
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
        problem = f"was written by a newer createagents-nb (format {version}; this one reads {FORMAT_VERSION})"
        raise DatabaseTrouble("newer", path, problem)
    for table, columns in TABLES.items():
        found, expected = _columns(connection, table), list(columns)
        is_complete = len(found) >= len(expected) - len(_APPENDED.get(table, ()))
        if not is_complete or found != expected[: len(found)]:
            problem = f"is damaged (its table {table} is not that of format {FORMAT_VERSION})"
            raise DatabaseTrouble("broken", path, problem)


# Writing and reading


def write_calls(connection: sqlite3.Connection, calls: Iterable[SettledCall]) -> None:
    """Write calls in one transaction, all or none; rows of the same call ids are replaced."""
    latest: dict[str, tuple[list[Any], SettledCall]] = {}
    for settled in calls:
        row = _row(CALLS, settled.call)
        latest[row[0]] = row, settled
    rows = [row for row, _ in latest.values()]
    requests = [_row(REQUESTS, request) for _, settled in latest.values() for request in settled.requests]
    tools = [_row(TOOLS, tool) for _, settled in latest.values() for tool in settled.tools]
    updates = ", ".join(f"{column}=excluded.{column}" for column in CALLS)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for ids in _chunks([row[0] for row in rows]):
            for table in ("requests", "tools", "contexts"):
                connection.execute(f"DELETE FROM {table} WHERE call_id IN ({_placeholders(ids)})", ids)
        _insert(connection, "calls", rows, f" ON CONFLICT (call_id) DO UPDATE SET {updates}")
        _insert(connection, "requests", requests)
        _insert(connection, "tools", tools)
        _write_contexts(connection, [settled.call for _, settled in latest.values()])


def _insert(connection: sqlite3.Connection, table: str, rows: list[list[Any]], conflict: str = "") -> None:
    for chunk in _chunks(rows):
        values = ", ".join(f"({_placeholders(row)})" for row in chunk)
        connection.execute(
            f"INSERT INTO {table} VALUES {values}{conflict}", [cell for row in chunk for cell in row]
        )


def _placeholders(cells: Sequence[Any]) -> str:
    return ", ".join("?" * len(cells))


def _chunks(items: list[_Item]) -> Iterator[list[_Item]]:
    return (items[start : start + _ROWS_PER_STATEMENT] for start in range(0, len(items), _ROWS_PER_STATEMENT))


def _write_contexts(connection: sqlite3.Connection, calls: Iterable[CallRecord]) -> None:
    """Write what calls were asked with; texts that the file has are not written again."""
    texts: dict[str, str] = {}

    def key(text: str) -> str:
        text = _text(text)
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        texts[digest] = text
        return digest

    rows: list[list[Any]] = []
    keys: dict[int, str] = {}
    for call in calls:
        context = call.context
        if context is None:
            continue
        if id(context) not in keys:  # calls of a batch share theirs
            parts: dict[str, Any] = {
                name: key(text)
                for name in ("system", "tools", "config")
                if (text := getattr(context, name)) is not None
            }
            if context.history:
                parts["history"] = [key(message_json(message)) for message in context.history]
            keys[id(context)] = key(json.dumps(parts))
        rows.append([call.call_id, keys[id(context)]])
    _insert(connection, "texts", [list(row) for row in texts.items()], " ON CONFLICT (key) DO NOTHING")
    _insert(connection, "contexts", rows)


def _read_contexts(connection: sqlite3.Connection) -> dict[str, CallContext]:
    """What the calls were asked with, by their ids; equal parts are one object."""
    if not _columns(connection, "contexts"):
        return {}
    texts: dict[str, str] = dict(connection.execute("SELECT key, text FROM texts"))
    messages: dict[str, ContextMessage] = {}
    contexts: dict[str, CallContext | None] = {}

    def message(key: str) -> ContextMessage:
        if key not in messages:
            messages[key] = message_from_json(texts[key])
        return messages[key]

    def json_text(key: str | None) -> str | None:
        if key is None:
            return None
        json.loads(texts[key])
        return texts[key]

    def context(key: str) -> CallContext | None:
        if key not in contexts:
            try:
                parts = json.loads(texts[key])
                contexts[key] = CallContext(
                    system=texts[parts["system"]] if "system" in parts else None,
                    history=tuple([message(each) for each in parts.get("history", ())]),
                    tools=json_text(parts.get("tools")),
                    config=json_text(parts.get("config")),
                )
            except (ValueError, TypeError, LookupError, AttributeError):  # other tools have changed it
                contexts[key] = None
        return contexts[key]

    rows = connection.execute("SELECT call_id, key FROM contexts")
    return {call_id: found for call_id, key in rows if (found := context(key)) is not None}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, sent by a model
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _time(value: Any) -> str:
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


_CELL_MAKERS: Final[dict[Kind, Callable[[Any], Any]]] = {
    "time": _time,
    "seconds": as_number,
    "rate": as_number,
    "usd": as_number,
    "count": as_count,
}


def _cell(value: Any, kind: Kind) -> Any:
    to_cell: Callable[[Any], Any] = _CELL_MAKERS.get(kind, _text)
    try:
        return to_cell(value)
    except Exception:  # a value that cannot be written becomes NULL; the rest of the row is kept
        return None


def _row(columns: Columns, record: object) -> list[Any]:
    values = [(value(record, column, kind), kind) for column, kind in columns.items()]
    return [None if found is None else _cell(found, kind) for found, kind in values]


def read_calls(connection: sqlite3.Connection) -> list[SettledCall]:
    """All calls in one snapshot, ordered by start."""
    connection.execute("BEGIN")
    try:
        requests = _by_call(connection, "requests", _record_maker(REQUESTS, RequestRecord))
        tools = _by_call(connection, "tools", _record_maker(TOOLS, ToolRecord))
        make = _record_maker(STORED_CALLS, CallRecord)
        contexts = _read_contexts(connection)
        rows = connection.execute("SELECT * FROM calls ORDER BY started_at, rowid")
        return [
            SettledCall(
                make([*row, contexts.get(row[0])]), tuple(requests.get(row[0], ())), tuple(tools.get(row[0], ()))
            )
            for row in rows
        ]
    except (TypeError, ValueError) as error:  # an invalid time
        raise sqlite3.DatabaseError(str(error)) from error


def _by_call(
    connection: sqlite3.Connection, table: str, make: Callable[[Sequence[Any]], Any]
) -> dict[str, list[Any]]:
    records: dict[str, list[Any]] = {}
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid"):
        records.setdefault(row[0], []).append(make(row))
    return records


def _record_maker(columns: Columns, record: type[Any]) -> Callable[[Sequence[Any]], Any]:
    """A function from a row to a record; unknown values of required names become empty."""
    needed = required(record)
    texts = [column for column, kind in columns.items() if kind in ("id", "name", "label") and column in needed]

    def make(row: Sequence[Any]) -> Any:
        values = dict(zip(columns, row, strict=False))  # rows of earlier versions end sooner
        for column in texts:
            if values[column] is None:
                values[column] = ""
        if values["started_at"] is not None:
            time = datetime.fromisoformat(values["started_at"])
            values["started_at"] = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        return record(**values)

    return make
