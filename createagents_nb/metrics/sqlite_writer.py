"""The thread that writes settled calls to their file, and keeps them while the file cannot be written."""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
import warnings
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from ..logging_config import LoggingConfig
from ..loop_shutdown import settle_all
from .observers import RecorderWarning, SettledCall
from .sqlite_file import DatabaseTrouble, close_connection, open_to_write, translate_errors, write_calls

__all__ = ["MAX_WAITING", "Worker", "reset"]

_log = LoggingConfig.get_logger(__name__)

MAX_WAITING: Final = 100_000
"""Limit for calls that wait for a file that cannot be written; the oldest are dropped."""
_GATHER_S: Final = 0.1
"""How long the first call of a batch waits for more."""
_BATCH: Final = 500
"""Calls per transaction."""
_MAX_PAUSE_S: Final = 4.0
"""Limit for the pause between two attempts."""
_TRANSIENT: Final = frozenset({"locked", "full", "disk"})
_PERMANENT: Final = frozenset({"foreign", "newer", "broken"})
"""Other kinds end a writer that is starting, and make a running one wait: a drive may come back."""


class _FlushMarker:
    """A place in the queue that a `flush` waits for."""

    def __init__(self) -> None:
        self.resolved = threading.Event()
        self.all_written = False

    def resolve(self, *, all_written: bool) -> None:
        self.all_written = all_written
        self.resolved.set()


_Item: TypeAlias = SettledCall | _FlushMarker


class Worker:
    """State shared by a `DatabaseWriter` and its thread; it does not keep the writer alive.

    Only the thread's frame holds the connection: a forked child lacks the thread and so cannot close it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self.trouble: str | None = None
        self.accepts = self.ending = self.ended = False
        self.thread: threading.Thread | None = None
        self.arrived: deque[_Item] = deque()
        self._pending: deque[_Item] = deque()
        self.asleep = False
        # Releasing it wakes the thread: faster than an event, and safe in a finalizer that interrupts `wake`.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._pause_s = self._deadline = 0.0
        self._warned: set[str] = set()
        self._file: tuple[int, int] | None = None

    def start(self) -> None:
        """Start the thread, unless the file cannot be used."""
        try:
            close_connection(open_to_write(self.path))
        except DatabaseTrouble as trouble:
            is_transient = trouble.kind in _TRANSIENT
            self._report_trouble(trouble, transient=is_transient)
            if not is_transient:
                self.ended = True
                return
        self.accepts = True
        self.thread = threading.Thread(target=self._run, name="createagents-nb-recorder", daemon=True)
        _running.add(self)
        self.thread.start()

    def wake(self) -> None:
        self.asleep = False
        try:  # noqa: SIM105 - called on the event loop's thread, and `suppress` would double the cost
            self._wakeup.release()
        except RuntimeError:
            pass  # already released

    def flush(self, timeout_s: float) -> bool:
        if self.pid != os.getpid():
            return False
        marker = _FlushMarker()
        self.arrived.append(marker)
        self.wake()
        if self.ended:
            return self.trouble is None
        marker.resolved.wait(timeout_s)
        return marker.all_written

    def close(self, timeout_s: float) -> bool:
        if self.pid != os.getpid():
            return False
        if self.thread is not None:
            self.stop(timeout_s)
            self.thread.join(timeout_s)
        return self.ended and self.trouble is None

    def stop(self, timeout_s: float = 5.0) -> None:
        """Have the thread write what is waiting and end; also called by the garbage collector, in any thread."""
        self.accepts = False
        self._deadline = time.monotonic() + timeout_s
        self.ending = True
        self.wake()

    def _report_trouble(self, trouble: DatabaseTrouble, *, transient: bool) -> None:
        """Remember the trouble and warn about it, once for each kind."""
        how = "are not being written, and wait in memory" if transient else "are kept in memory only"
        self._warn_once(trouble.kind, f"Calls {how}: {trouble}.")
        self.trouble = str(trouble)

    def _warn_once(self, kind: str, message: str) -> None:
        if kind in self._warned:
            return
        self._warned.add(kind)
        try:
            warnings.warn(message, RecorderWarning, stacklevel=5)
        except Exception:
            if threading.current_thread() is not self.thread:
                raise
            _log.warning("%s", message)  # in the worker's thread nobody could catch it

    # Methods below run in the thread.

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while self._collect():
                try:
                    if connection is not None and self._file != _identity(self.path):  # deleted, or replaced
                        self._close(connection)
                        connection = None
                    if connection is None:
                        connection = open_to_write(self.path)
                        self._file = _identity(self.path)
                    self._write(connection)
                    self.trouble, self._pause_s = None, 0.0
                except DatabaseTrouble as trouble:
                    self._close(connection)
                    connection = None
                    if not self._should_retry(trouble):
                        break
        except Exception as error:
            what = f"writing to {self.path} failed ({type(error).__name__}: {error})"
            self._warn_once("failed", f"Calls are kept in memory only: {what}.")
            self.trouble = what
        finally:
            self._finish(connection)

    def _collect(self) -> bool:
        """Wait for calls or the end; False when the thread is done."""
        if self._pause_s:
            self._wakeup.acquire(timeout=self._pause_s)
        else:
            self.asleep = True
            if not self.arrived and not self.ending:
                self._wakeup.acquire()
            self.asleep = False
            if not self.ending:
                self._wakeup.acquire(timeout=_GATHER_S)  # cut short by `flush` and `close`
        self._drain()
        return bool(self._pending) or not self.ending

    def _drain(self) -> None:
        with suppress(IndexError):
            while True:
                self._pending.append(self.arrived.popleft())

    def _write(self, connection: sqlite3.Connection) -> None:
        while self._pending:
            batch = list(islice(self._pending, _BATCH))
            calls = [item for item in batch if isinstance(item, SettledCall)]
            all_written = True
            try:
                if calls:
                    self._write_calls(connection, calls)
            except DatabaseTrouble:
                raise
            except Exception:  # one call cannot be written: write them one by one
                written = [self._write_one(connection, call) for call in calls]
                all_written = all(written)
            for item in batch:
                self._pending.popleft()
                if isinstance(item, _FlushMarker):
                    item.resolve(all_written=all_written)

    def _write_calls(self, connection: sqlite3.Connection, calls: list[SettledCall]) -> None:
        with translate_errors(self.path):
            write_calls(connection, calls)

    def _write_one(self, connection: sqlite3.Connection, call: SettledCall) -> bool:
        try:
            self._write_calls(connection, [call])
        except DatabaseTrouble:
            raise
        except Exception as error:
            self._warn_once("call", f"A call is not kept in {self.path}: {type(error).__name__}: {error}.")
            return False
        return True

    def _should_retry(self, trouble: DatabaseTrouble) -> bool:
        """Whether to retry after a pause; reports the trouble."""
        ends = trouble.kind in _PERMANENT or (self.ending and time.monotonic() >= self._deadline)
        self._report_trouble(trouble, transient=not ends)
        if ends:
            return False
        self._drain()
        if len(self._pending) > MAX_WAITING:
            self._drop_oldest(len(self._pending) - MAX_WAITING)
            self._warn_once(
                "dropped", f"{self.path} has not taken calls for so long that the oldest are not kept there."
            )
        self._pause_s = 0.1 if self.ending else min(self._pause_s * 2 or 0.25, _MAX_PAUSE_S)
        return True

    def _drop_oldest(self, calls: int) -> None:
        """Drop the oldest calls; a waiting `flush` returns False."""
        for item in self._pending:
            if isinstance(item, _FlushMarker):
                item.resolve(all_written=False)
        self._pending = deque(
            islice((item for item in self._pending if isinstance(item, SettledCall)), calls, None)
        )

    def _close(self, connection: sqlite3.Connection | None) -> None:
        if connection is not None and self._file == _identity(self.path):
            close_connection(connection)
        elif connection is not None:  # another file has this path now: do not touch its journal
            with suppress(sqlite3.Error):
                connection.close()

    def _finish(self, connection: sqlite3.Connection | None) -> None:
        self.accepts = False
        self.ended = True
        self._close(connection)
        self._drain()
        self._drop_oldest(0)
        if self._pending and self.ending:
            self._warn_once("left", f"Left unwritten at the end (calls: {len(self._pending)}): {self.trouble}.")
        self._pending.clear()
        _running.discard(self)


_running: set[Worker] = set()
"""Workers whose threads run."""


@atexit.register
def _finish_all() -> None:
    settle_all()
    reset()


def reset(timeout_s: float = 5.0) -> None:
    """Close all running writers, which write what is waiting for up to ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    for worker in list(_running):
        worker.close(max(0.0, deadline - time.monotonic()))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
