"""Packed rows to DataFrames: fixed column order and dtypes, NA where unknown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .packed import UNKNOWN, Rows

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray

__all__ = ["FrameBuilder"]

# Not Arrow's strings: a model may send half a surrogate pair, which they refuse.
_STRING = pd.StringDtype("python")
_DTYPES = {"16s": "V16", "q": "<i8", "i": "<i4", "d": "<f8"}

_COPIES_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3
_SHARED = 100_000
"""Frames with more rows share their memory, which pandas copies when somebody writes to one (not when somebody
writes through ``.array``); smaller ones, and all of them before pandas 3, are copies from the start."""


class FrameBuilder:
    """Makes the frames of one table, each from the last: only rows that are new or have changed are converted.

    ``call_id``, names and texts are ``string``; labels ``category``; counts ``Int64``; seconds, rates and costs
    ``Float64``; times ``datetime64[us, UTC]``. A value that its dtype cannot hold is NA.
    """

    def __init__(self, rows: Rows[Any]) -> None:
        self._rows = rows
        names = [*rows.packed_columns]
        formats = [_DTYPES[code] for code in rows.formats]
        self._layout = np.dtype({"names": names, "formats": formats})
        self._size = 0
        self._room = -1
        self._columns: dict[str, ExtensionArray] = {}
        """With room at their end for what comes."""
        self._base = pd.DataFrame()
        """Of these columns, room included. Frames are cut from it, so that pandas knows that they share memory."""

    def frame(self, size: int, changed: Collection[int] = ()) -> pd.DataFrame:
        """The first ``size`` rows, of which those in ``changed`` are others than they were."""
        changed = [index for index in changed if index < self._size]
        new = range(self._size, size)
        if size > self._room:
            self._move(size + max(size // 4, 256))
        elif changed or self._has_new_labels():
            self._move(self._room)  # what was handed out stays as it is
        for indices in (new, changed):
            if indices:
                self._convert(indices)
        self._size = size
        is_shared = _COPIES_ON_WRITE and size > _SHARED
        return self._base.iloc[:size].copy(deep=not is_shared)

    def _has_new_labels(self) -> bool:
        columns: Any = self._columns
        return any(
            len(self._rows.codes[column].labels) > len(columns[column].categories)
            for column in self._rows.label_columns
        )

    def _move(self, room: int) -> None:
        """To columns of their own memory, with room for so many rows and with all labels."""
        kept = np.full(room, -1)
        kept[: self._size] = np.arange(self._size)
        empty = self._converted(range(0))
        columns: dict[str, Any] = {
            column: self._columns.get(column, empty[column]).take(kept, allow_fill=True)
            for column in self._rows.columns
        }
        for column in self._rows.label_columns:
            columns[column] = _categorical(np.array(columns[column].codes), empty[column].dtype)
        self._columns, self._room = columns, room
        self._base = pd.DataFrame(columns, copy=False)

    def _convert(self, indices: range | Sequence[int]) -> None:
        where: Any = slice(indices.start, indices.stop) if isinstance(indices, range) else np.asarray(indices)
        for column, new in self._converted(indices).items():
            self._columns[column][where] = new

    def _converted(self, indices: range | Sequence[int]) -> dict[str, Any]:
        rows, width = self._rows, self._rows.row.size
        if isinstance(indices, range):
            data = bytes(rows.data[indices.start * width : indices.stop * width])
        else:
            data = b"".join(rows.data[index * width : (index + 1) * width] for index in indices)
        packed = np.frombuffer(data, self._layout)
        ids = packed["call_id"].tobytes().hex()
        names = [ids[at : at + 32] for at in range(0, len(ids), 32)]
        if rows.other_ids:
            names = [rows.other_ids.get(index, name) for index, name in zip(indices, names, strict=True)]
        columns: dict[str, Any] = {"call_id": _strings(names)}
        microseconds = np.ascontiguousarray(packed["started_at"]).view("M8[us]")
        columns["started_at"] = pd.DatetimeIndex(microseconds).tz_localize("UTC").array
        for column in rows.label_columns:
            dtype = pd.CategoricalDtype(pd.Index(rows.codes[column].labels, dtype=_STRING))
            columns[column] = _categorical(packed[column].astype("i4"), dtype)
        for column in rows.number_columns:
            numbers = np.ascontiguousarray(packed[column])
            columns[column] = pd.arrays.FloatingArray(numbers, np.isnan(numbers))
        for column in rows.count_columns:
            counts = np.ascontiguousarray(packed[column])
            columns[column] = pd.arrays.IntegerArray(counts, counts == UNKNOWN)
        for at, column in enumerate(rows.text_columns):
            some = [rows.texts[index][at] for index in indices]
            if rows.columns[column] == "name":
                some = [text or None for text in some]
            columns[column] = _strings(some)
        return columns


def _strings(texts: Sequence[str | None]) -> ExtensionArray:
    return pd.array(texts, dtype=_STRING)


def _categorical(codes: Any, dtype: pd.CategoricalDtype) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)
