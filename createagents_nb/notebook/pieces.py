"""From the events of a turn to what a live view is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ..agent.events import Event, Reasoning, ToolCallFinished, ToolCallRequested, ToolCallStarted, TurnDone
from ..agent.stream import StreamingResponseDTO
from .clean_text import TextCleaner
from .snapshot import ToolLine
from .static_bundle import tool_card_html
from .tracker import TurnTracker

__all__ = ["Piece", "PieceWriter"]

Piece: TypeAlias = tuple[str, str] | tuple[str, str, str]
"""``("text", …)``, ``("reasoning", …)``, both clean, or ``("tool", key, html)``: the card as it is saved."""


class PieceWriter:
    """Writes the pieces of one turn, from its first event on; joined, they are what will be saved."""

    def __init__(self, response: StreamingResponseDTO) -> None:
        self._tracker = TurnTracker(response)
        self._cleaner = TextCleaner()
        self._kind = ""
        self._cards: dict[str, str] = {}
        self._has_rounds = False

    def write(self, events: Iterable[Event]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if isinstance(event, str):
                self._grow(pieces, "text", event)
            elif isinstance(event, Reasoning):
                self._grow(pieces, "reasoning", event.text)
            elif isinstance(event, ToolCallRequested | ToolCallStarted | ToolCallFinished | TurnDone):
                self._end_of_text(pieces)
                self._tracker.apply([event])
                self._write_cards(pieces)
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

    def _write_cards(self, pieces: list[Piece]) -> None:
        """The cards that have changed: one, or all of them when a second round shows that there are rounds."""
        lines = [block for block in self._tracker.blocks() if isinstance(block, ToolLine)]
        self._has_rounds = self._has_rounds or any(line.round > 1 for line in lines)
        for number, line in enumerate(lines):
            # Not by their ids, which some servers give again in the next round.
            key, card = str(number), tool_card_html(line, self._has_rounds)
            if self._cards.get(key) != card:
                self._cards[key] = card
                pieces.append(("tool", key, card))
