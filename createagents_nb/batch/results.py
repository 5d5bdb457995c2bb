"""What has become of the rows, and the frame that tells."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..agent.call_record import CallRecord
from ..in_words import error_in_words

__all__ = ["NOT_RUN", "STATUSES", "Results"]

NOT_RUN = "not run"
STATUSES = ("ok", "cancelled", "error", "limit", NOT_RUN)
"""Those of calls, and of rows that were never begun: the categories of the column, in this order."""

# Not Arrow's strings: a model may send half a surrogate pair, which they refuse.
_STRING = pd.StringDtype("python")
_DTYPES: dict[str, Any] = {
    "answer": _STRING,
    "status": pd.CategoricalDtype(list(STATUSES)),
    "error": _STRING,
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "cost_usd": "Float64",
    "latency_s": "Float64",
    "call_id": _STRING,
}
_FROM_CALL = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "call_id")


class Results:
    """One entry for each row of ``index``; ``not run`` until it is put."""

    def __init__(self, index: pd.Index) -> None:
        self._index = index
        self._columns: dict[str, list[Any]] = {name: [None] * len(index) for name in _DTYPES}
        self._columns["status"] = [NOT_RUN] * len(index)

    def put(self, position: int, **known: Any) -> None:
        """Set columns of a row; others stay NA."""
        for name, value in known.items():
            self._columns[name][position] = value

    def put_call(self, position: int, call: CallRecord) -> None:
        """A row was asked. Text of an answer that did not end well is no answer: the recorder has it."""
        columns = self._columns
        columns["status"][position] = call.status
        if call.status == "ok":
            columns["answer"][position] = call.response
        elif call.error is not None or call.error_type is not None:
            columns["error"][position] = f"{call.error_type}: {call.error}"
        for name in _FROM_CALL:
            columns[name][position] = getattr(call, name)

    def put_error(self, position: int, error: BaseException) -> None:
        """A row failed before it was asked."""
        self.put(position, status="error", error=error_in_words(error))

    def frame(self, not_run: str | None = None) -> pd.DataFrame:
        """All rows, aligned to the data; fixed columns and dtypes, NA where unknown.

        Args:
            not_run: why rows were not run; it is their error.
        """
        columns = dict(self._columns)
        if not_run is not None:
            columns["error"] = [
                not_run if status == NOT_RUN else error
                for status, error in zip(columns["status"], columns["error"], strict=True)
            ]
        arrays = {name: pd.array(values, dtype=_DTYPES[name]) for name, values in columns.items()}
        return pd.DataFrame(arrays, index=self._index)
