"""Where records wait until somebody looks at them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from .columns import Columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table"]

Record = TypeVar("Record")


class Table(Generic[Record]):
    """Records in the order in which their keys first came; a later one of the same key takes its place.

    No lock: each change is one atomic dict operation, so threads, signal handlers and finalizers may
    all record.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._records: dict[Hashable, Record] = {}
        self._changes = itertools.count(1)
        self._version = 0
        self._frame: tuple[int, pd.DataFrame] | None = None

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Record, key: Hashable = None) -> None:
        """Keep ``record``, by default under a key of its own."""
        change = next(self._changes)
        self._records[change if key is None else key] = record
        # After the record is in: a frame made in between is then taken for the older one it may be.
        self._version = change

    def records(self) -> list[Record]:
        """A copy, oldest first."""
        return list(self._records.copy().values())

    def frame(self) -> pd.DataFrame:
        """A DataFrame of the caller's own; converted only when something was recorded since the last one."""
        from .frames import frame

        version, known = self._version, self._frame
        if known is None or known[0] != version:
            known = self._frame = (version, frame(self.columns, self.records()))
        return known[1].copy()
