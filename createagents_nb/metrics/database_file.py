"""The file of recorded calls: how it is opened and left behind, and what can be wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from .database_schema import APPLICATION_ID, FORMAT_VERSION, TABLES, create_tables

__all__ = ["DatabaseTrouble", "TroubleKind", "open_to_read", "open_to_write", "tidy_up", "understood"]

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
