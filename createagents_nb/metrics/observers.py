"""A call that has ended, with all that belongs to it: what those are told who keep or report calls elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.records import CallRecord, RequestRecord, ToolRecord

__all__ = ["Observer", "RecorderWarning", "SettledCall"]


class RecorderWarning(UserWarning):
    """Something is not being kept, and why; recording in memory goes on."""


@dataclass(frozen=True, slots=True)
class SettledCall:
    """A call with its requests and tool executions; content is taken out or masked as the recorder was told."""

    call: CallRecord
    requests: tuple[RequestRecord, ...] = ()
    tools: tuple[ToolRecord, ...] = ()


class Observer(Protocol):
    """Who is told of each call that settles, on the event loop's thread: must return at once and never raise."""

    def call_settled(self, settled: SettledCall) -> None: ...
