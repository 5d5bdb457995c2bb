"""Rows that were answered before: found in the recorder by what was asked, and of whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..core.records import CallRecord
from ..errors import ConfigurationError, InvalidMessageError
from ..metrics import MetricsRecorder
from ..text import error_in_words
from .pool import RowAgent

__all__ = ["NOT_RUN", "STATUSES", "Results", "earlier_answers"]

_COLUMNS = ("prompt", "response", "input_tokens", "output_tokens", "cost_usd", "latency_s", "call_id")


def earlier_answers(
    recorder: MetricsRecorder, row_agent: RowAgent, texts: Sequence[str | InvalidMessageError]
) -> dict[int, dict[str, Any]]:
    """What goes into the frame of rows that were answered ``ok`` before, by their positions.

    By the same provider and model, that is, and the same name where the agent was given one. Rows with the same
    prompt are given one answer each, the latest, in the order in which they came: where five were asked and three
    answered, two are left to ask.

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
    same = (calls["status"] == "ok") & (calls["provider"] == row_agent.repository.provider)
    same &= calls["model"] == agent.model
    if row_agent.is_named:
        same &= calls["agent"] == agent.name
    calls = calls[same]
    if len(calls) and calls["prompt"].isna().all():
        raise ConfigurationError(f"{why} has kept none of its calls' (record_content=False, or redact=)")
    calls = calls[calls["prompt"].notna() & calls["response"].notna()]
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt, *known in zip(*(calls[column].tolist() for column in _COLUMNS), strict=True):
        found[prompt].append(dict(zip(("answer", *_COLUMNS[2:]), known, strict=True)))
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
