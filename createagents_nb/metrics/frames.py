"""Records to DataFrames: fixed column order and dtypes, NA where unknown. The only file that needs pandas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from .columns import Columns, Kind, value

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray

__all__ = ["frame"]


def frame(columns: Columns, records: Sequence[object]) -> pd.DataFrame:
    """One row a record, in the order given.

    Names and texts are ``string``, counts ``Int64``, seconds, rates and costs ``Float64``, times
    ``datetime64[us, UTC]``. A value that its dtype cannot hold (a count of 1.5, say) is NA here and stays
    as it was in the record.
    """
    return pd.DataFrame(
        {
            column: _CONVERT[kind]([value(record, column, kind) for record in records])
            for column, kind in columns.items()
        }
    )


def _strings(values: list[Any]) -> ExtensionArray:
    # Not Arrow's strings: a model may send half a surrogate pair, which they refuse.
    return pd.array(values, dtype=pd.StringDtype("python"))


def _counts(values: list[Any]) -> ExtensionArray:
    try:
        return pd.array(values, dtype="Int64")
    except (TypeError, ValueError, OverflowError):
        return pd.array([_integer(known) for known in values], dtype="Int64")


def _integer(known: Any) -> int | None:
    try:
        number = int(known)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == known and -(2**63) <= number < 2**63 else None


def _floats(values: list[Any]) -> ExtensionArray:
    try:
        return pd.array(values, dtype="Float64")
    except (TypeError, ValueError, OverflowError):
        return pd.array([_float(known) for known in values], dtype="Float64")


def _float(known: Any) -> float | None:
    try:
        return float(known)
    except (TypeError, ValueError, OverflowError):
        return None


def _times(values: list[Any]) -> pd.DatetimeIndex:
    # The unit is spelled out because pandas 2 and 3 choose different ones.
    return pd.DatetimeIndex(pd.to_datetime(values, utc=True, errors="coerce")).as_unit("us")


_CONVERT: dict[Kind, Callable[[list[Any]], Any]] = {
    "name": _strings,
    "text": _strings,
    "time": _times,
    "seconds": _floats,
    "rate": _floats,
    "usd": _floats,
    "count": _counts,
}
