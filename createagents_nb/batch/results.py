"""The rows of a batch as a frame, and the answers that the recorder has from earlier batches."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..core.events import ended_early, status_label
from ..core.records import CallRecord
from ..errors import ConfigurationError, InvalidMessageError
from ..metrics import MetricsRecorder
from ..text import format_error
from .pool import RowAgent

__all__ = ["NOT_RUN", "STATUSES", "Results", "earlier_answers"]


def earlier_answers(
    recorder: MetricsRecorder, row_agent: RowAgent, texts: Sequence[str | InvalidMessageError]
) -> dict[int, dict[str, Any]]:
    """Columns of the rows that were answered ``ok`` before, by position; not of those that were cut or filtered.

    An earlier answer counts if provider and model are the same, and the name too if the user named the agent. Rows
    with the same prompt get one earlier answer each, the latest ones, in order: of five equal rows with three
    earlier answers, two are left to ask.

    Raises:
        ConfigurationError: the recorder keeps no prompts.
    """
    why = "resume=True looks for the prompts of this batch in the recorder, which"
    if not recorder.record_content:
        raise ConfigurationError(
            f"{why} keeps none (record_content=False): leave resume out, or let it keep what is said"
        )
    calls = recorder.calls
    agent = row_agent.agent
    is_match = (calls["status"] == "ok") & (calls["provider"] == row_agent.repository.provider)
    is_match &= calls["model"] == agent.model
    is_match &= ~calls["finish_reason"].astype(object).map(ended_early).astype(bool)
    if row_agent.is_named:
        is_match &= calls["agent"] == agent.name
    calls = calls[is_match]
    if len(calls) and calls["prompt"].isna().all():
        raise ConfigurationError(f"{why} has kept none of its calls' (record_content=False, or redact=)")
    calls = calls[calls["prompt"].notna() & calls["response"].notna()]
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt, *values in zip(
        *(calls[column].tolist() for column in ("prompt", "response", *_FROM_CALL)), strict=True
    ):
        found[prompt].append(dict(zip(("answer", *_FROM_CALL), values, strict=True)))
    wanted = Counter(text for text in texts if isinstance(text, str) and text in found)
    latest = {text: iter(found[text][-count:]) for text, count in wanted.items()}
    answers: dict[int, dict[str, Any]] = {}
    for position, text in enumerate(texts):
        answer = next(latest[text], None) if isinstance(text, str) and text in latest else None
        if answer is not None:
            answers[position] = {"status": "ok", **answer}
    return answers


NOT_RUN = "not run"
STATUSES = ("ok", "cancelled", "error", "limit", NOT_RUN)
"""Categories of the column ``status``, in order: those of calls, and of rows that never started."""

# Not Arrow's strings: they refuse half a surrogate pair, which a model may send.
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
    "finish_reason": _STRING,
}
_FROM_CALL = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "call_id", "finish_reason")


class Results:
    """One entry for each row of ``index``, ``not run`` at first."""

    def __init__(self, index: pd.Index) -> None:
        self._index = index
        self._columns: dict[str, list[Any]] = {name: [None] * len(index) for name in _DTYPES}
        self._columns["status"] = [NOT_RUN] * len(index)

    def put(self, position: int, **values: Any) -> None:
        """Set columns of a row; others stay NA."""
        for name, value in values.items():
            self._columns[name][position] = value

    def put_call(self, position: int, call: CallRecord) -> None:
        """Enter a row that was asked. The text of a turn that did not end well stays in the recorder."""
        columns = self._columns
        columns["status"][position] = call.status
        if call.status == "ok":
            columns["answer"][position] = call.response
        elif call.status == "limit":
            columns["error"][position] = status_label(call.status, call.finish_reason)
        elif call.error is not None or call.error_type is not None:
            columns["error"][position] = f"{call.error_type}: {call.error}"
        for name in _FROM_CALL:
            columns[name][position] = getattr(call, name)

    def put_error(self, position: int, error: BaseException) -> None:
        """Enter a row that failed before it was asked."""
        self.put(position, status="error", error=format_error(error))

    def frame(self, not_run: str | None = None) -> pd.DataFrame:
        """All rows, aligned to the data; fixed columns and dtypes, NA where unknown.

        Args:
            not_run: why rows were not run, as their error.
        """
        columns = dict(self._columns)
        if not_run is not None:
            columns["error"] = [
                not_run if status == NOT_RUN else error
                for status, error in zip(columns["status"], columns["error"], strict=True)
            ]
        arrays = {name: pd.array(values, dtype=_DTYPES[name]) for name, values in columns.items()}
        return pd.DataFrame(arrays, index=self._index)
