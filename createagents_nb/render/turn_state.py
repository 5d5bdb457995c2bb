"""Builds the blocks and the snapshot of a turn from its events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from ..core.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    Notice,
    Reasoning,
    RoundEnded,
    ServerToolStep,
    TextWasReasoning,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    TurnDone,
    ended_early,
)
from ..core.records import (
    CallRecord,
    ContentPolicy,
    RequestRecord,
    ToolRecord,
    as_saved,
    redact_call,
    redact_error,
    redact_tool,
    unescape_json,
)
from ..core.tool_display import TableDisplay, ToolDisplay
from .snapshot import Block, NoticeLine, ReasoningBlock, TextBlock, ToolLine, TurnSnapshot

__all__ = ["TrackedTurn", "TurnTracker"]


class TrackedTurn(Protocol):
    """The part of a response that a `TurnTracker` reads."""

    @property
    def record(self) -> CallRecord: ...

    @property
    def requests(self) -> Sequence[RequestRecord]: ...

    @property
    def tools(self) -> Sequence[ToolRecord]: ...

    @property
    def done(self) -> bool: ...

    @property
    def content_policy(self) -> ContentPolicy: ...

    @property
    def remote_images(self) -> bool: ...

    def events_so_far(self) -> Sequence[Event]: ...


class TurnTracker:
    """Collects the blocks of one turn as its events arrive."""

    def __init__(self, response: TrackedTurn) -> None:
        self._response = response
        self._opened = time.perf_counter()
        self._blocks: list[Block | list[str]] = []  # the last text block grows as a list of pieces
        self._kind: type[Block] | None = None
        self._tools: dict[str, int] = {}
        self._sees_start = not response.events_so_far()
        self._ttft_seen_s: float | None = None

    def apply(self, events: Sequence[Event]) -> None:
        if self._ttft_seen_s is None and self._sees_start and any(map(_is_output, events)):
            # An estimate until the round ends and the record has the exact figure.
            self._ttft_seen_s = (datetime.now(UTC) - self._response.record.started_at).total_seconds()
        for event in events:
            if type(event) is str:
                self._append_text(TextBlock, event)
            elif isinstance(event, Reasoning):
                if event.text:
                    self._append_text(ReasoningBlock, event.text)
            elif isinstance(event, TextWasReasoning):
                self._rebuild(event)
            elif isinstance(event, Notice):
                self._join_text()
                self._blocks.append(NoticeLine(event.text))
            elif isinstance(event, ToolCallRequested):
                self._add_tool(
                    ToolLine(tool_call_id=event.tool_call_id, name=event.name, arguments=event.arguments)
                )
            elif isinstance(event, ToolCallStarted):
                self._change(event.tool_call_id, round=event.round)
            elif isinstance(event, ApprovalRequested):
                self._change(event.tool_call_id, status="waiting")
            elif isinstance(event, ApprovalDecided):
                edited = {} if event.arguments is None else {"arguments": event.arguments, "is_edited": True}
                self._change(event.tool_call_id, status="running", **edited)
            elif isinstance(event, ToolCallFinished):
                self._change(
                    event.tool_call_id,
                    status=event.status,
                    latency_s=event.latency_s,
                    result=event.result,
                    display=event.display,
                )
            elif isinstance(event, ServerToolStep):
                self._take_step(event)
            elif isinstance(event, TurnDone) or (
                isinstance(event, RoundEnded) and ended_early(event.finish_reason)
            ):
                self._end_calls()

    def _end_calls(self) -> None:
        """Mark the calls that will not run any more: the turn or their round has ended."""
        for tool_call_id in self._tools:
            tool = self.tool(tool_call_id)
            if tool is not None and tool.status in ("running", "waiting"):
                self._change(tool_call_id, status="cancelled" if tool.by_provider else "not_run")

    def blocks(self) -> tuple[Block, ...]:
        self._join_text()
        return tuple(block for block in self._blocks if not isinstance(block, list))

    def tool(self, tool_call_id: str) -> ToolLine | None:
        index = self._tools.get(tool_call_id)
        block = self._blocks[index] if index is not None else None
        return block if isinstance(block, ToolLine) else None

    def snapshot(self, *, with_error: bool = True) -> TurnSnapshot:
        """The current state of the turn, with its content policy applied.

        Args:
            with_error: False where the cell itself shows the error.
        """
        response, record = self._response, self._response.record
        blocks = [_redact_block(block, response.content_policy) for block in self.blocks()]
        elapsed_s = record.latency_s if response.done else time.perf_counter() - self._opened
        return TurnSnapshot(
            call_id=record.call_id,
            agent=record.agent,
            provider=record.provider,
            model=record.model,
            status=record.status,
            finish_reason=record.finish_reason,
            blocks=tuple(block for block in blocks if block is not None),
            not_kept=any(block is None for block in blocks),
            elapsed_s=elapsed_s,
            ttft_s=record.ttft_s if record.ttft_s is not None else self._ttft_seen_s,
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            tokens_per_s=record.tokens_per_s if response.done else None,
            cost_usd=record.cost_usd,
            error_text=redact_error(record.error, response.content_policy) if with_error else None,
            error_type=record.error_type if with_error else None,
            demo=record.provider == "demo",
            remote_images=response.remote_images,
            record=_record(response) if response.done else {},
        )

    def _append_text(self, kind: type[TextBlock] | type[ReasoningBlock], text: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if kind is self._kind and isinstance(last, list):
            last.append(text)
            return
        self._join_text()
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, kind):
            self._blocks[-1] = [last.text, text]
        else:
            self._blocks.append([text])
        self._kind = kind

    def _rebuild(self, end: Event) -> None:
        """Begin again, up to an event: those before it are no longer what they were."""
        events = self._response.events_so_far()
        before = events[: next((at for at, event in enumerate(events) if event is end), 0)]
        self._blocks, self._kind, self._tools = [], None, {}
        self.apply([event for event in before if not isinstance(event, TextWasReasoning)])

    def _join_text(self) -> None:
        if self._blocks and isinstance(self._blocks[-1], list):
            text = "".join(self._blocks[-1])
            self._blocks[-1] = ReasoningBlock(text) if self._kind is ReasoningBlock else TextBlock(text)

    def _add_tool(self, line: ToolLine) -> None:
        self._join_text()
        self._tools[line.tool_call_id] = len(self._blocks)
        self._blocks.append(line)

    def _take_step(self, step: ServerToolStep) -> None:
        if self.tool(step.tool_call_id) is None:
            self._add_tool(
                ToolLine(
                    tool_call_id=step.tool_call_id,
                    name=step.name,
                    arguments=step.arguments,
                    round=step.round,
                    by_provider=True,
                )
            )
        self._change(
            step.tool_call_id,
            arguments=step.arguments,
            status=step.status,
            result=step.result or None,
        )

    def _change(self, tool_call_id: str, **changes: Any) -> None:
        line = self.tool(tool_call_id)
        if line is not None:
            self._blocks[self._tools[tool_call_id]] = replace(line, **changes)


def _is_output(event: Event) -> bool:
    return isinstance(event, str | ToolCallRequested)


def _redact_block(block: Block, policy: ContentPolicy) -> Block | None:
    """``block`` with ``policy`` applied; None for text of which nothing is kept."""
    if not isinstance(block, ToolLine):
        text = policy(block.text)
        return None if text is None else replace(block, text=text)
    arguments = policy(unescape_json(block.arguments))
    result = None if block.result is None else policy(block.result)
    # A table or an image cannot be masked in part.
    display = block.display if result == block.result and _is_unchanged(block.display, policy) else None
    return replace(block, arguments=arguments or "", result=result, display=display)


def _is_unchanged(display: ToolDisplay | None, policy: ContentPolicy) -> bool:
    if not isinstance(display, TableDisplay):
        return True
    return all(policy(cell) == cell for row in (display.columns, *display.rows) for cell in row)


def _record(response: TrackedTurn) -> dict[str, Any]:
    policy = response.content_policy
    return {
        "call": _json_ready(as_saved(redact_call(response.record, policy))),
        "requests": [
            _json_ready(as_saved(request) | {"error": redact_error(request.error, policy)})
            for request in response.requests
        ],
        "tools": [_json_ready(as_saved(redact_tool(tool, policy))) for tool in response.tools],
    }


def _json_ready(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in record.items()}
