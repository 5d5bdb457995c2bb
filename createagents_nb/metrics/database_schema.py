"""The tables of recorded calls, format 1, and records as their rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from createagents_nb.agent.call_record import CallRecord, RequestRecord, ToolRecord

from .columns import CALLS, REQUESTS, TOOLS, Columns, Kind, required, value
from .packed import as_count, as_number
from .settled import SettledCall

__all__ = ["APPLICATION_ID", "FORMAT_VERSION", "TABLES", "create_tables", "read_calls", "write_calls"]

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
