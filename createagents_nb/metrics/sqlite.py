"""Calls in an SQLite file, written beside the recorder's memory while they settle."""

from __future__ import annotations

import os
import weakref
from contextlib import closing
from pathlib import Path

from ..errors import RecorderFileError
from .observers import SettledCall
from .sqlite_file import DatabaseTrouble, open_to_read, read_calls, understood
from .sqlite_writer import Worker

__all__ = ["DatabaseWriter", "read_database"]


def read_database(path: str | os.PathLike[str]) -> list[SettledCall]:
    """Every call of a file that `DatabaseWriter` wrote, in the order in which they started.

    The file is opened for reading only; another process may be writing to it.

    Raises:
        RecorderFileError: there is no such file, it is another program's, damaged, or of a newer version.

    Example:
        >>> [settled.call.model for settled in read_database("runs.db")]
    """
    file = _absolute(path)
    try:
        with closing(open_to_read(file)) as connection, understood(file):
            return read_calls(connection)
    except DatabaseTrouble as trouble:
        raise RecorderFileError(str(trouble)) from trouble


class DatabaseWriter:
    """Writes each settled call to an SQLite file within a quarter of a second, on a thread of its own.

    Several processes may write to one file. A call with its requests and tools is there whole or not at all, also
    when the process is killed. When the file cannot be written, one `RecorderWarning` says so; if that may pass,
    calls wait in memory, the last 100,000 of them. In a forked child a writer does nothing.

    Args:
        path: of the file; made if there is none.

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
        """Why calls are not being written; None while they are."""
        return self._worker.trouble

    def call_settled(self, settled: SettledCall) -> None:
        """Have a call written. Returns at once, and may be called in any thread, signal handler or finalizer."""
        worker = self._worker
        if worker.accepts and os.getpid() == worker.pid:
            worker.arrived.append(settled)
            if worker.asleep:
                worker.ring()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was handed over is written; False if it is not after ``timeout_s`` seconds."""
        return self._worker.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what waits, for up to ``timeout_s`` seconds, and end; False if something was left unwritten."""
        return self._worker.close(timeout_s)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(path)).absolute()
