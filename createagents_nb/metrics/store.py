"""Where records wait until somebody looks at them."""

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
"""Records that came are packed so many at a time: half a millisecond on the thread that brought the last."""


class Table(Generic[Record]):
    """Records in the order in which their keys first came; what follows a running one takes its place.

    What comes is put into a queue, which is one atomic step: threads, signal handlers and finalizers may all
    record, and none waits. Rows are packed from it under a lock that a recording thread takes only when it is
    free.

    Args:
        columns: of the frame.
        make: the record's class.
        statuses: what a status may be.
    """

    def __init__(self, columns: Columns, make: type[Record], statuses: Sequence[str]) -> None:
        self._rows = Rows(columns, make, statuses)
        self._size = 0
        self._arrived: deque[tuple[Hashable, Record]] = deque()
        self._places: dict[Hashable, int] = {}
        """Rows that may still change: those of running records, and of records that are being packed."""
        self._changed: set[int] = set()
        """Rows that have changed since the last frame was made."""
        self._lock = threading.Lock()
        self._builder: FrameBuilder | None = None

    def __len__(self) -> int:
        with self._lock:
            self._pack()
            return self._size

    def put(self, record: Record, key: Hashable = None) -> None:
        """Keep ``record``, by default under a key of its own."""
        self._arrived.append((object() if key is None else key, record))
        if len(self._arrived) >= _BATCH and self._lock.acquire(blocking=False):
            try:
                self._pack()
            finally:
                self._lock.release()

    def records(self) -> list[Record]:
        """All of them, oldest first."""
        with self._lock:
            self._pack()
            return [self._rows.record(index) for index in range(self._size)]

    def frame(self) -> pd.DataFrame:
        """A snapshot; only what was recorded since the last one is converted."""
        from .frames import FrameBuilder

        with self._lock:
            self._pack()
            if self._builder is None:
                self._builder = FrameBuilder(self._rows)
            frame = self._builder.frame(self._size, self._changed)
            self._changed.clear()
            return frame

    def _pack(self) -> None:
        """Turn what has arrived into rows.

        An interrupt may end this anywhere: what was not counted is done again, and comes to the same.
        """
        arrived = self._arrived.copy()
        if not arrived:
            return
        rows, size = self._rows, self._size
        rows.truncate(size)
        latest, known = dict(arrived), self._places
        there = {key: known[key] for key in known.keys() & latest.keys() if known[key] < size}
        for key, index in there.items():
            if self._builder is not None:
                self._changed.add(index)
            rows.put(index, latest[key])
        new = {key: record for key, record in latest.items() if key not in there} if there else latest
        self._places = places = known | dict(zip(new, range(size, size + len(new)), strict=True))
        rows.extend(list(new.values()))
        self._size = size + len(new)
        for _ in arrived:
            self._arrived.popleft()
        running = {key for key, record in latest.items() if getattr(record, "status", None) == "running"}
        self._places = {key: places[key] for key in (known.keys() - latest.keys()) | running}
