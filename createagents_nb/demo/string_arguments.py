"""Choosing the text in a message for a string parameter."""

from __future__ import annotations

import re

from .conversation import Tool
from .entities import Entities
from .schema import tool_vocabulary
from .stemming import STOP_WORDS, fold, is_portuguese, split_name, stem

__all__ = ["StringSelector", "default_text", "find_stated_value"]

_TOPIC = re.compile(r"(?i)(?:\b(?:for|about|on|sobre|por|que diz|saying)\b|:)\s+(\S.*?)[\s.?!]*$", re.DOTALL)
_DAYS = re.compile(
    r"\b(?:today|tomorrow|yesterday|hoje|amanha|ontem|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b"
)
_DEFAULTS = {
    "zone": "UTC",
    "url": "https://example.com",
    "email": "demo@example.com",
    "date": "2025-01-01",
    "expression": "1 + 1",
    "file": "demo.txt",
}


def find_stated_value(name: str, text: str) -> str | None:
    """Find the value that a message states for a parameter: ``name=value``, ``name: value`` or ``name "value"``.

    >>> find_stated_value("sort_by", "rows, sort by: price")
    'price'
    """
    words = r"[\s_-]*".join(map(re.escape, split_name(name))) or re.escape(name)
    quoted = r"[\"'`“]([^\"'`”]+)[\"'`”]"
    match = re.search(rf"(?i)\b{words}\s*(?:[=:]\s*|(?=[\"'`“]))(?:{quoted}|([^\s,;]+))", text)
    return (match[1] or match[2].rstrip(".?!") or None) if match else None


def default_text(kind: str, entities: Entities) -> str:
    """Return a placeholder for a required parameter that the message has no value for."""
    return _DEFAULTS.get(kind) or ("demonstração" if is_portuguese(entities.text) else "demo")


class StringSelector:
    """Chooses texts of a message for the parameters of one call, each text once."""

    def __init__(self, tool: Tool) -> None:
        name, described, _ = tool_vocabulary(tool)
        self._tool_words = {*name, *described}
        self.used: set[str] = set()

    def find(self, kind: str, entities: Entities, *, required: bool) -> str | None:
        """Find the best text for a parameter of this kind; optional ones get only an exact match."""
        by_kind = {
            "zone": entities.zones,
            "url": entities.urls,
            "email": entities.emails,
            "file": entities.files,
            "date": entities.dates,
        }
        if kind in by_kind:
            value = self._first_unused(by_kind[kind])
            if value is None and kind == "file" and required:
                value = self._first_unused(entities.quoted) or self._last_content_word(entities)
            if value is None and kind == "date" and (day := _DAYS.search(fold(entities.text))):
                value = day[0]
            return value
        if kind == "expression":
            return self._first_unused(entities.expressions) or self._first_unused(entities.quoted)
        if kind == "code":
            return (
                self._first_unused(entities.code)
                or self._first_unused(entities.quoted)
                or (entities.text.strip() if required else None)
            )
        if kind == "place" and (place := self._first_unused(entities.places)):
            return place
        if not required:
            return None
        if kind == "text":
            topic = _TOPIC.search(entities.text)
            return (
                self._first_unused(entities.quoted)
                or (topic[1] if topic else None)
                or entities.text.strip()
                or None
            )
        names = [name for name in entities.names if stem(fold(name)) not in self._tool_words]
        first, second = (names, entities.quoted) if kind == "place" else (entities.quoted, names)
        return self._first_unused(first) or self._first_unused(second) or self._last_content_word(entities)

    def _first_unused(self, values: list[str]) -> str | None:
        return next((value for value in values if value not in self.used), None)

    def _last_content_word(self, entities: Entities) -> str | None:
        """Return the last word that does not describe the tool, such as "flights" in "search flights"."""
        words = [word for word in re.findall(r"[^\W_][\w-]*", entities.text) if fold(word) not in STOP_WORDS]
        candidates = [word for word in words if stem(fold(word)) not in self._tool_words and not word.isdigit()]
        return self._first_unused(candidates[::-1])
