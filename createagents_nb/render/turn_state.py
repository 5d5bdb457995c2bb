"""From the events of a response to what is shown of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from ..agent.response import StreamingResponseDTO
from ..core.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    Reasoning,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    TurnDone,
)
from ..core.records import ContentPolicy, redact_call, redact_error, redact_tool, unescape_json
from ..core.tool_display import TableDisplay, ToolDisplay
from .snapshot import Block, ReasoningBlock, TextBlock, ToolLine, TurnSnapshot

__all__ = ["TurnTracker"]


class TurnTracker:
    """Collects the blocks of one turn as its events come."""

    def __init__(self, response: StreamingResponseDTO) -> None:
        self._response = response
        self._opened = time.perf_counter()
        self._blocks: list[Block | list[str]] = []  # the last block of text grows as a list of pieces
        self._kind: type[Block] | None = None
        self._tools: dict[str, int] = {}
        self._sees_the_start = not response.events_so_far()
        self._first_seen_s: float | None = None

    def apply(self, events: Sequence[Event]) -> None:
        if self._first_seen_s is None and self._sees_the_start and any(map(_is_output, events)):
            # The exact figure comes with the end of the round.
            self._first_seen_s = (datetime.now(UTC) - self._response.record.started_at).total_seconds()
        for event in events:
            if type(event) is str:
                self._grow(TextBlock, event)
            elif isinstance(event, Reasoning):
                self._grow(ReasoningBlock, event.text)
            elif isinstance(event, ToolCallRequested):
                self._tool(ToolLine(tool_call_id=event.tool_call_id, name=event.name, arguments=event.arguments))
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
            elif isinstance(event, TurnDone):
                for tool_call_id in self._tools:
                    tool = self.tool(tool_call_id)
                    if tool is not None and tool.status in ("running", "waiting"):
                        self._change(tool_call_id, status="not_run")

    def blocks(self) -> tuple[Block, ...]:
        self._end_of_text()
        return tuple(block for block in self._blocks if not isinstance(block, list))

    def tool(self, tool_call_id: str) -> ToolLine | None:
        at = self._tools.get(tool_call_id)
        block = self._blocks[at] if at is not None else None
        return block if isinstance(block, ToolLine) else None

    def snapshot(self, *, with_error: bool = True) -> TurnSnapshot:
        """The turn as it stands, with what may be kept of what was said.

        Args:
            with_error: False where the cell itself shows the error.
        """
        response, record = self._response, self._response.record
        blocks = [_kept(block, response.content_policy) for block in self.blocks()]
        elapsed_s = record.latency_s if response.done else time.perf_counter() - self._opened
        return TurnSnapshot(
            call_id=record.call_id,
            agent=record.agent,
            provider=record.provider,
            model=record.model,
            status=record.status,
            blocks=tuple(block for block in blocks if block is not None),
            not_kept=any(block is None for block in blocks),
            elapsed_s=elapsed_s,
            ttft_s=record.ttft_s if record.ttft_s is not None else self._first_seen_s,
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

    def _grow(self, kind: type[TextBlock] | type[ReasoningBlock], text: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if kind is self._kind and isinstance(last, list):
            last.append(text)
            return
        self._end_of_text()
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, kind):
            self._blocks[-1] = [last.text, text]
        else:
            self._blocks.append([text])
        self._kind = kind

    def _end_of_text(self) -> None:
        if self._blocks and isinstance(self._blocks[-1], list):
            text = "".join(self._blocks[-1])
            self._blocks[-1] = ReasoningBlock(text) if self._kind is ReasoningBlock else TextBlock(text)

    def _tool(self, line: ToolLine) -> None:
        self._end_of_text()
        self._tools[line.tool_call_id] = len(self._blocks)
        self._blocks.append(line)

    def _change(self, tool_call_id: str, **changes: Any) -> None:
        line = self.tool(tool_call_id)
        if line is not None:
            self._blocks[self._tools[tool_call_id]] = replace(line, **changes)


def _is_output(event: Event) -> bool:
    return isinstance(event, str | ToolCallRequested)


def _kept(block: Block, keep: ContentPolicy) -> Block | None:
    """None for a text of which nothing is kept."""
    if not isinstance(block, ToolLine):
        text = keep(block.text)
        return None if text is None else replace(block, text=text)
    arguments = keep(unescape_json(block.arguments))
    result = None if block.result is None else keep(block.result)
    # A table or a picture cannot be masked in part.
    display = block.display if result == block.result and _is_kept_whole(block.display, keep) else None
    return replace(block, arguments=arguments or "", result=result, display=display)


def _is_kept_whole(display: ToolDisplay | None, keep: ContentPolicy) -> bool:
    if not isinstance(display, TableDisplay):
        return True
    return all(keep(cell) == cell for row in (display.columns, *display.rows) for cell in row)


def _record(response: StreamingResponseDTO) -> dict[str, Any]:
    return {
        "call": _plain(asdict(redact_call(response.record, response.content_policy))),
        "requests": [
            _plain(asdict(request) | {"error": redact_error(request.error, response.content_policy)})
            for request in response.requests
        ],
        "tools": [_plain(asdict(redact_tool(tool, response.content_policy))) for tool in response.tools],
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in record.items()}
