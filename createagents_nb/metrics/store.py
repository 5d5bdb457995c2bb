"""Tables of records: queued when recorded, packed in batches, and made into frames on demand."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from .column_store import Rows
from .columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    from .frames import FrameBuilder

__all__ = ["Table"]

Record = TypeVar("Record")

_BATCH = 512
"""Records packed at a time: half a millisecond on the thread that records the last of them."""


class Table(Generic[Record]):
    """Records in the order in which their keys were first seen; a running record is replaced in its place.

    Recording appends to a queue, which is atomic: threads, signal handlers and finalizers may all record, and none
    waits. Rows are packed from the queue under a lock that a recording thread takes only if it is free.

    Args:
        columns: columns of the frame.
        make: class of the records.
        statuses: values of ``status``.
    """

    def __init__(self, columns: Columns, make: type[Record], statuses: Sequence[str]) -> None:
        self._rows = Rows(columns, make, statuses)
        self._size = 0
        self._arrived: deque[tuple[Hashable, Record]] = deque()
        self._places: dict[Hashable, int] = {}
        """Rows by key that may still change: those of running records and of records being packed."""
        self._changed: set[int] = set()
        """Rows that changed since the last frame."""
        self._lock = threading.Lock()
        self._builder: FrameBuilder | None = None

    def __len__(self) -> int:
        with self._lock:
            self._pack()
            return self._size

    def put(self, record: Record, key: Hashable = None) -> None:
        """Store ``record`` under ``key``, by default a new one."""
        self._arrived.append((object() if key is None else key, record))
        if len(self._arrived) >= _BATCH and self._lock.acquire(blocking=False):
            try:
                self._pack()
            finally:
                self._lock.release()

    def records(self) -> list[Record]:
        """All records, oldest first."""
        with self._lock:
            self._pack()
            return [self._rows.record(index) for index in range(self._size)]

    def frame(self) -> pd.DataFrame:
        """A snapshot; only rows recorded since the last one are converted."""
        from .frames import FrameBuilder

        with self._lock:
            self._pack()
            if self._builder is None:
                self._builder = FrameBuilder(self._rows)
            frame = self._builder.frame(self._size, self._changed)
            self._changed.clear()
            return frame

    def _pack(self) -> None:
        """Turn queued records into rows.

        An interrupt may end this anywhere: uncounted rows are then packed again, with the same result.
        """
        arrived = self._arrived.copy()
        if not arrived:
            return
        rows, size = self._rows, self._size
        rows.truncate(size)
        latest, open_places = dict(arrived), self._places
        existing = {key: open_places[key] for key in open_places.keys() & latest.keys() if open_places[key] < size}
        for key, index in existing.items():
            if self._builder is not None:
                self._changed.add(index)
            rows.put(index, latest[key])
        new = {key: record for key, record in latest.items() if key not in existing} if existing else latest
        self._places = places = open_places | dict(zip(new, range(size, size + len(new)), strict=True))
        rows.extend(list(new.values()))
        self._size = size + len(new)
        for _ in arrived:
            self._arrived.popleft()
        running = {key for key, record in latest.items() if getattr(record, "status", None) == "running"}
        self._places = {key: places[key] for key in (open_places.keys() - latest.keys()) | running}
