"""Observers of settled calls, which store or report them elsewhere, and what they receive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.records import CallRecord, RequestRecord, ToolRecord

__all__ = ["Observer", "RecorderWarning", "SettledCall"]


class RecorderWarning(UserWarning):
    """Something is not being stored; recording in memory goes on."""


@dataclass(frozen=True, slots=True)
class SettledCall:
    """A call with its requests and tool executions, its content removed or masked as the recorder is set."""

    call: CallRecord
    requests: tuple[RequestRecord, ...] = ()
    tools: tuple[ToolRecord, ...] = ()


class Observer(Protocol):
    """Receives each call that settles, on the event loop's thread: must return at once and never raise."""

    def call_settled(self, settled: SettledCall) -> None: ...
