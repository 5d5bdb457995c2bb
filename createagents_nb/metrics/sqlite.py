"""Recorded calls in an SQLite file: reading them, and writing them as they settle."""

from __future__ import annotations

import os
import weakref
from contextlib import closing
from pathlib import Path

from ..errors import RecorderFileError
from .observers import SettledCall
from .sqlite_file import DatabaseTrouble, open_to_read, read_calls, translate_errors
from .sqlite_writer import Worker

__all__ = ["DatabaseWriter", "read_database"]


def read_database(path: str | os.PathLike[str]) -> list[SettledCall]:
    """All calls of a file written by `DatabaseWriter`, ordered by start.

    The file is opened for reading only; another process may be writing to it.

    Raises:
        RecorderFileError: the file is missing, damaged, another program's, or from a newer version.

    Example:
        >>> [settled.call.model for settled in read_database("runs.db")]
    """
    file = _absolute(path)
    try:
        with closing(open_to_read(file)) as connection, translate_errors(file):
            return read_calls(connection)
    except DatabaseTrouble as trouble:
        raise RecorderFileError(str(trouble)) from trouble


class DatabaseWriter:
    """Writes each settled call to an SQLite file within a quarter of a second, in a background thread.

    Several processes may write to one file. A call is written with its requests and tools or not at all, even if
    the process is killed. When the file cannot be written, a `RecorderWarning` is issued once; if the trouble may
    pass, up to 100,000 calls wait in memory, and older ones are dropped. In a forked child a writer does nothing.

    Args:
        path: the file; created if it is missing.

    Example:
        >>> writer = DatabaseWriter("runs.db")
        >>> writer.call_settled(SettledCall(call, requests, tools))
        >>> writer.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _absolute(path)
        self._worker = Worker(self.path)
        weakref.finalize(self, self._worker.stop).atexit = False
        self._worker.start()

    @property
    def trouble(self) -> str | None:
        """Why calls are not being written; None if they are."""
        return self._worker.trouble

    def call_settled(self, settled: SettledCall) -> None:
        """Queue a call for writing. Safe in any thread, signal handler or finalizer."""
        worker = self._worker
        if worker.accepts and os.getpid() == worker.pid:
            worker.arrived.append(settled)
            if worker.asleep:
                worker.wake()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all queued calls are written; False if they are not after ``timeout_s`` seconds."""
        return self._worker.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is queued, for up to ``timeout_s`` seconds, and end; False if calls were left unwritten."""
        return self._worker.close(timeout_s)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(path)).absolute()
