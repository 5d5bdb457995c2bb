"""Reasoning that a server leaves at the beginning of the text, between ``<think>`` and ``</think>``."""

from __future__ import annotations

from typing import Literal

from ..core.events import Event, Reasoning

__all__ = ["ThinkingSplitter"]

_OPEN, _CLOSE = "<think>", "</think>"
_MAX_BLANKS = 1_000
"""Limit for blanks before the tag; with each piece, all that is held back is searched again."""


class ThinkingSplitter:
    """Turns text as it arrives into text and `Reasoning`.

    Only a tag at the beginning counts, after a thousand blanks at most: later ones are text about tags.

    Attributes:
        transparent: nothing that follows can be reasoning.
    """

    def __init__(self) -> None:
        self.transparent = False
        self._phase: Literal["before", "inside", "after"] = "before"
        self._held = ""

    def feed(self, text: str) -> list[Event]:
        if self.transparent:
            return [text]
        self._held += text
        if self._phase == "before":
            start = self._held.lstrip()
            if len(self._held) - len(start) > _MAX_BLANKS:
                return self._rest()
            if not start.startswith(_OPEN):
                return [] if _OPEN.startswith(start) else self._rest()  # [] while not yet known
            self._phase, self._held = "inside", start[len(_OPEN) :]
        reasoning: list[Event] = []
        if self._phase == "inside":
            before, close, after = self._held.partition(_CLOSE)
            if not close:
                keep = _overlap(self._held)
                piece, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                return _reasoning(piece)
            self._phase, self._held = "after", after
            reasoning = _reasoning(before)
        self._held = self._held.lstrip()
        return [*reasoning, *self._rest()] if self._held else reasoning

    def finish(self) -> list[Event]:
        """Return what was held back until the text ended."""
        if self._phase == "inside":
            held, self._held = self._held, ""
            return _reasoning(held)
        return self._rest()

    def _rest(self) -> list[Event]:
        held, self._held, self.transparent = self._held, "", True
        return [held] if held else []


def _reasoning(text: str) -> list[Event]:
    return [Reasoning(text)] if text else []


def _overlap(text: str) -> int:
    """Return how many characters at the end of ``text`` may begin the closing tag."""
    return next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)
