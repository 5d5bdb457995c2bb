"""The thread that writes settled calls to their file, and waits with them while it cannot."""

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
from .sqlite_file import DatabaseTrouble, open_to_write, tidy_up, understood, write_calls

__all__ = ["Worker"]

_log = LoggingConfig.get_logger(__name__)

MOST_WAITING: Final = 100_000
"""So many calls wait for a file that cannot be written, the newest ones."""
_GATHER_S: Final = 0.1
"""How long the first call of a batch waits for others."""
_BATCH: Final = 500
_LONGEST_PAUSE_S: Final = 4.0
_PASSING: Final = frozenset({"locked", "full", "disk"})
_LASTING: Final = frozenset({"foreign", "newer", "broken"})
"""What is neither ends a writer that begins, and is waited for by one that is at work: a drive may come back."""


class _Mark:
    """A place in the queue for which a `flush` waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.all_written = False

    def reach(self, *, all_written: bool) -> None:
        self.all_written = all_written
        self.reached.set()


_Item: TypeAlias = SettledCall | _Mark


class Worker:
    """What a writer and its thread share; it does not keep the writer alive.

    The connection is known to the thread's frame alone: a forked child has no such thread, and cannot close it.
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
        # Rung by releasing it: quicker than an event, and safe in a finalizer that interrupts another ring.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._pause_s = self._deadline = 0.0
        self._told: set[str] = set()
        self._file: tuple[int, int] | None = None

    def start(self) -> None:
        """Begin, unless the file cannot be used."""
        try:
            tidy_up(open_to_write(self.path))
        except DatabaseTrouble as trouble:
            is_passing = trouble.kind in _PASSING
            self._suffer(trouble, passing=is_passing)
            if not is_passing:
                self.ended = True
                return
        self.accepts = True
        self.thread = threading.Thread(target=self._run, name="createagents-nb-recorder", daemon=True)
        _running.add(self)
        self.thread.start()

    def ring(self) -> None:
        self.asleep = False
        try:  # noqa: SIM105 - on the event loop's thread, and `suppress` costs as much as the ring
            self._bell.release()
        except RuntimeError:
            pass  # it rings already

    def flush(self, timeout_s: float) -> bool:
        if self.pid != os.getpid():
            return False
        mark = _Mark()
        self.arrived.append(mark)
        self.ring()
        if self.ended:
            return self.trouble is None
        mark.reached.wait(timeout_s)
        return mark.all_written

    def close(self, timeout_s: float) -> bool:
        if self.pid != os.getpid():
            return False
        if self.thread is not None:
            self.stop(timeout_s)
            self.thread.join(timeout_s)
        return self.ended and self.trouble is None

    def stop(self, timeout_s: float = 5.0) -> None:
        """Have the thread write what waits and end. The garbage collector calls this, too, wherever it runs."""
        self.accepts = False
        self._deadline = time.monotonic() + timeout_s
        self.ending = True
        self.ring()

    def _suffer(self, trouble: DatabaseTrouble, *, passing: bool) -> None:
        """Remember what is wrong, and say it once."""
        how = "are not being written, and wait in memory" if passing else "are kept in memory only"
        self._tell(trouble.kind, f"Calls {how}: {trouble}.")
        self.trouble = str(trouble)

    def _tell(self, kind: str, message: str) -> None:
        if kind in self._told:
            return
        self._told.add(kind)
        try:
            warnings.warn(message, RecorderWarning, stacklevel=5)
        except Exception:
            if threading.current_thread() is not self.thread:
                raise
            _log.warning("%s", message)  # in this thread, nobody could catch it

    # What follows is the thread's.

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
                    if not self._endure(trouble):
                        break
        except Exception as error:
            what = f"writing to {self.path} failed ({type(error).__name__}: {error})"
            self._tell("failed", f"Calls are kept in memory only: {what}.")
            self.trouble = what
        finally:
            self._finish(connection)

    def _collect(self) -> bool:
        """Wait for something to do; False when all is done."""
        if self._pause_s:
            self._bell.acquire(timeout=self._pause_s)
        else:
            self.asleep = True
            if not self.arrived and not self.ending:
                self._bell.acquire()
            self.asleep = False
            if not self.ending:
                self._bell.acquire(timeout=_GATHER_S)  # `flush` and `close` cut it short
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
            except Exception:  # one of them cannot be written; the others can
                written = [self._write_one(connection, call) for call in calls]
                all_written = all(written)
            for item in batch:
                self._pending.popleft()
                if isinstance(item, _Mark):
                    item.reach(all_written=all_written)

    def _write_calls(self, connection: sqlite3.Connection, calls: list[SettledCall]) -> None:
        with understood(self.path):
            write_calls(connection, calls)

    def _write_one(self, connection: sqlite3.Connection, call: SettledCall) -> bool:
        try:
            self._write_calls(connection, [call])
        except DatabaseTrouble:
            raise
        except Exception as error:
            self._tell("call", f"A call is not kept in {self.path}: {type(error).__name__}: {error}.")
            return False
        return True

    def _endure(self, trouble: DatabaseTrouble) -> bool:
        """Whether to try again, after a while."""
        ends = trouble.kind in _LASTING or (self.ending and time.monotonic() >= self._deadline)
        self._suffer(trouble, passing=not ends)
        if ends:
            return False
        self._drain()
        if len(self._pending) > MOST_WAITING:
            self._give_up(len(self._pending) - MOST_WAITING)
            self._tell(
                "dropped", f"{self.path} has not taken calls for so long that the oldest are not kept there."
            )
        self._pause_s = 0.1 if self.ending else min(self._pause_s * 2 or 0.25, _LONGEST_PAUSE_S)
        return True

    def _give_up(self, calls: int) -> None:
        """Forget the oldest; nobody who waits is told that all is written."""
        for item in self._pending:
            if isinstance(item, _Mark):
                item.reach(all_written=False)
        self._pending = deque(
            islice((item for item in self._pending if isinstance(item, SettledCall)), calls, None)
        )

    def _close(self, connection: sqlite3.Connection | None) -> None:
        if connection is not None and self._file == _identity(self.path):
            tidy_up(connection)
        elif connection is not None:  # to tidy up could take away what belongs to another file
            with suppress(sqlite3.Error):
                connection.close()

    def _finish(self, connection: sqlite3.Connection | None) -> None:
        self.accepts = False
        self.ended = True
        self._close(connection)
        self._drain()
        self._give_up(0)
        if self._pending and self.ending:
            self._tell("left", f"Left unwritten at the end (calls: {len(self._pending)}): {self.trouble}.")
        self._pending.clear()
        _running.discard(self)


_running: set[Worker] = set()


@atexit.register
def _finish_all() -> None:
    settle_all()
    deadline = time.monotonic() + 5.0
    for work in list(_running):
        work.close(max(0.0, deadline - time.monotonic()))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
