"""From the events of a turn to what a live view is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

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
from ..render.bundle import tool_card_html
from ..render.labels import editable_arguments
from ..render.snapshot import ToolLine
from ..render.turn_state import TurnTracker
from ..text import TextCleaner, one_line

__all__ = ["Piece", "PieceWriter"]

Piece: TypeAlias = tuple[str, str] | tuple[str, str, str] | tuple[str, str, dict[str, Any]]
"""``("text", …)``, ``("reasoning", …)``, both clean; ``("tool", key, html)``: the card as it is saved; or
``("ask", key, about)``: the user decides on the call of that card, until the card comes anew."""

_CALL_EVENTS = (ToolCallRequested, ToolCallStarted, ApprovalRequested, ApprovalDecided, ToolCallFinished)


class PieceWriter:
    """Writes the pieces of one turn, from its first event on; joined, they are what will be saved."""

    def __init__(self, response: StreamingResponseDTO) -> None:
        self._tracker = TurnTracker(response)
        self._cleaner = TextCleaner()
        self._kind = ""
        self._keys: dict[str, str] = {}
        self._count = 0
        self._cards: dict[str, str] = {}
        self._has_rounds = False

    def write(self, events: Iterable[Event]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if isinstance(event, str):
                self._grow(pieces, "text", event)
            elif isinstance(event, Reasoning):
                self._grow(pieces, "reasoning", event.text)
            elif isinstance(event, _CALL_EVENTS):
                self._end_of_text(pieces)
                self._tracker.apply([event])
                if isinstance(event, ToolCallRequested):
                    # Not by their ids alone, which some servers give again in the next round.
                    self._keys[event.tool_call_id] = str(self._count)
                    self._count += 1
                self._write_changed(pieces, event.tool_call_id)
                if isinstance(event, ApprovalRequested) and event.is_open:
                    self._write_question(pieces, event)
            elif isinstance(event, TurnDone):
                self._end_of_text(pieces)
                self._tracker.apply([event])
                self._write_all(pieces)
        return pieces

    def _grow(self, pieces: list[Piece], kind: str, text: str) -> None:
        if kind != self._kind:
            self._end_of_text(pieces)
            self._kind = kind
        self._put(pieces, kind, self._cleaner.feed(text))

    def _end_of_text(self, pieces: list[Piece]) -> None:
        self._put(pieces, self._kind, self._cleaner.rest())

    def _put(self, pieces: list[Piece], kind: str, text: str) -> None:
        if not text:
            return
        if pieces and pieces[-1][0] == kind:
            text = pieces.pop()[1] + text
        pieces.append((kind, text))

    def _write_changed(self, pieces: list[Piece], tool_call_id: str) -> None:
        """The card of a call; all of them when a second round shows that there are rounds."""
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
        for number, line in enumerate(lines):
            self._write_card(pieces, str(number), line)

    def _write_card(self, pieces: list[Piece], key: str, line: ToolLine) -> None:
        card = tool_card_html(line, self._has_rounds)
        if self._cards.get(key) != card:
            self._cards[key] = card
            pieces.append(("tool", key, card))
