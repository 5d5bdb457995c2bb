"""The pieces of a turn that a live view is sent, made from the turn's events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from ..agent.response import StreamingResponseDTO
from ..core.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    Notice,
    Reasoning,
    RoundEnded,
    ServerToolStep,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    TurnDone,
    ended_early,
)
from ..render.bundle import notice_html, tool_card_html
from ..render.labels import editable_arguments
from ..render.snapshot import ToolLine
from ..render.turn_state import TurnTracker
from ..text import TextCleaner, one_line

__all__ = ["Piece", "PieceWriter"]

Piece: TypeAlias = tuple[str, str] | tuple[str, str, str] | tuple[str, str, dict[str, Any]]
"""``("text", …)`` and ``("reasoning", …)``, both cleaned; ``("tool", key, html)``: a card or a notice, as in the
saved output; ``("ask", key, about)``: the call of that card waits for approval, until the card is sent again."""

_CALL_EVENTS = (
    ToolCallRequested,
    ToolCallStarted,
    ApprovalRequested,
    ApprovalDecided,
    ToolCallFinished,
    ServerToolStep,
)


class PieceWriter:
    """Makes the pieces of one turn, from its first event on; together they equal the saved output."""

    def __init__(self, response: StreamingResponseDTO) -> None:
        self._tracker = TurnTracker(response)
        self._cleaner = TextCleaner()
        self._kind = ""
        self._keys: dict[str, str] = {}
        self._call_count = self._notice_count = 0
        self._cards: dict[str, str] = {}
        self._has_rounds = False

    def write(self, events: Iterable[Event]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if isinstance(event, str):
                self._add_text(pieces, "text", event)
            elif isinstance(event, Reasoning):
                if event.text:
                    self._add_text(pieces, "reasoning", event.text)
            elif isinstance(event, Notice):
                self._flush_text(pieces)
                self._kind = ""
                pieces.append(("tool", f"notice {self._notice_count}", notice_html(event.text)))
                self._notice_count += 1
            elif isinstance(event, _CALL_EVENTS):
                self._flush_text(pieces)
                self._tracker.apply([event])
                is_new_step = isinstance(event, ServerToolStep) and event.tool_call_id not in self._keys
                if isinstance(event, ToolCallRequested) or is_new_step:
                    # Some servers reuse a call's id in the next round.
                    self._keys[event.tool_call_id] = str(self._call_count)
                    self._call_count += 1
                self._write_changed(pieces, event.tool_call_id)
                if isinstance(event, ApprovalRequested) and event.is_open:
                    self._write_question(pieces, event)
            elif isinstance(event, TurnDone) or (
                isinstance(event, RoundEnded) and ended_early(event.finish_reason)
            ):
                self._flush_text(pieces)
                self._tracker.apply([event])
                self._write_all(pieces)
        return pieces

    def _add_text(self, pieces: list[Piece], kind: str, text: str) -> None:
        if kind != self._kind:
            self._flush_text(pieces)
            self._kind = kind
        self._append(pieces, kind, self._cleaner.feed(text))

    def _flush_text(self, pieces: list[Piece]) -> None:
        self._append(pieces, self._kind, self._cleaner.rest())

    def _append(self, pieces: list[Piece], kind: str, text: str) -> None:
        if not text:
            return
        if pieces and pieces[-1][0] == kind:
            text = pieces.pop()[1] + text
        pieces.append((kind, text))

    def _write_changed(self, pieces: list[Piece], tool_call_id: str) -> None:
        """Write the card of a call; or all cards, which name their rounds once there is a second one."""
        line = self._tracker.tool(tool_call_id)
        if line is None:
            return
        if line.round > 1 and not self._has_rounds:
            self._has_rounds = True
            self._write_all(pieces)
        else:
            self._write_card(pieces, self._keys[tool_call_id], line)

    def _write_question(self, pieces: list[Piece], event: ApprovalRequested) -> None:
        line = self._tracker.tool(event.tool_call_id)
        if line is not None:
            about = {
                "id": event.tool_call_id,
                "round": event.round,
                "tool": one_line(event.name, 60),
                "arguments": editable_arguments(line.arguments),
            }
            pieces.append(("ask", self._keys[event.tool_call_id], about))

    def _write_all(self, pieces: list[Piece]) -> None:
        lines = [block for block in self._tracker.blocks() if isinstance(block, ToolLine)]
        for index, line in enumerate(lines):
            self._write_card(pieces, str(index), line)

    def _write_card(self, pieces: list[Piece], key: str, line: ToolLine) -> None:
        card = tool_card_html(line, self._has_rounds)
        if self._cards.get(key) != card:
            self._cards[key] = card
            pieces.append(("tool", key, card))
