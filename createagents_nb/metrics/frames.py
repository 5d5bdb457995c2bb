"""DataFrames of packed rows: fixed column order and dtypes, NA where unknown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .column_store import ID_BYTES, UNKNOWN, Rows
from .columns import Kind

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray

__all__ = ["FrameBuilder"]

# Not Arrow strings, which refuse the lone surrogates that a model may send.
_STRING = pd.StringDtype("python")

_COPIES_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3
_SHARED = 100_000
"""Larger frames share memory, which pandas copies on write (but not on writes through ``.array``); smaller ones,
and all frames before pandas 3, are copied at once."""


class FrameBuilder:
    """Makes successive frames of one table: only new and changed rows are converted.

    ``call_id``, names and texts are ``string``; labels ``category``; counts ``Int64``; seconds, rates and costs
    ``Float64``; times ``datetime64[us, UTC]``. Values that their dtype cannot hold are NA.
    """

    def __init__(self, rows: Rows[Any]) -> None:
        self._rows = rows
        self._size = 0
        self._capacity = -1
        self._columns: dict[str, ExtensionArray] = {}
        """Columns with spare capacity at their end."""
        self._base = pd.DataFrame()
        """Frame of these columns, spare capacity included. Frames are slices of it, so that pandas knows that they
        share memory."""

    def frame(self, size: int, changed: Collection[int] = ()) -> pd.DataFrame:
        """The first ``size`` rows; those in ``changed`` differ from the last frame."""
        changed = [index for index in changed if index < self._size]
        new = range(self._size, size)
        if size > self._capacity:
            self._reallocate(size + max(size // 4, 256))
        elif changed or self._has_new_labels():
            self._reallocate(self._capacity)  # earlier frames must not change
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

    def _reallocate(self, capacity: int) -> None:
        """Copy the columns to new memory with room for ``capacity`` rows and with all labels."""
        kept = np.full(capacity, -1)
        kept[: self._size] = np.arange(self._size)
        empty = self._converted(range(0))
        columns: dict[str, Any] = {
            column: self._columns.get(column, empty[column]).take(kept, allow_fill=True)
            for column in self._rows.columns
        }
        for column in self._rows.label_columns:
            columns[column] = _categorical(np.array(columns[column].codes), empty[column].dtype)
        self._columns, self._capacity = columns, capacity
        self._base = pd.DataFrame(columns, copy=False)

    def _convert(self, indices: range | Sequence[int]) -> None:
        where: Any = slice(indices.start, indices.stop) if isinstance(indices, range) else np.asarray(indices)
        for column, new in self._converted(indices).items():
            self._columns[column][where] = new

    def _converted(self, indices: range | Sequence[int]) -> dict[str, Any]:
        rows = self._rows
        ids = _at(rows.ids, indices, ID_BYTES).hex()
        names = [ids[at : at + 2 * ID_BYTES] for at in range(0, len(ids), 2 * ID_BYTES)]
        if rows.other_ids:
            names = [rows.other_ids.get(index, name) for index, name in zip(indices, names, strict=True)]
        columns: dict[str, Any] = {"call_id": _strings(names)}
        for column in rows.columns[1:]:
            columns[column] = self._column(column, rows.kinds[column], _at(rows.values[column], indices))
        return columns

    def _column(self, column: str, kind: Kind, packed: Any) -> Any:
        if kind == "text":
            return _strings(packed)
        if kind == "name":
            return _strings([text or None for text in packed])
        values = np.asarray(packed)
        if kind == "time":
            return pd.DatetimeIndex(values.view("M8[us]")).tz_localize("UTC").array
        if kind == "label":
            dtype = pd.CategoricalDtype(pd.Index(self._rows.codes[column].labels, dtype=_STRING))
            return _categorical(values, dtype)
        if kind == "count":
            return pd.arrays.IntegerArray(values, values == UNKNOWN)
        return pd.arrays.FloatingArray(values, np.isnan(values))


def _at(values: Any, indices: range | Sequence[int], width: int = 1) -> Any:
    """Copy of the items at ``indices``, each of ``width`` values."""
    if isinstance(indices, range):
        return values[indices.start * width : indices.stop * width]
    selected = values[:0]
    for index in indices:
        selected += values[index * width : (index + 1) * width]
    return selected


def _strings(texts: Sequence[str | None]) -> ExtensionArray:
    return pd.array(texts, dtype=_STRING)


def _categorical(codes: Any, dtype: pd.CategoricalDtype) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)
