"""Which of the texts in a message a string parameter should take."""

from __future__ import annotations

import re

from .conversation import Tool
from .entities import Evidence
from .schema import tool_vocabulary
from .stemming import STOP_WORDS, fold, is_portuguese, split_name, stem

__all__ = ["Strings", "default_string", "stated"]

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


def stated(name: str, text: str) -> str | None:
    """What the message itself says a parameter is: ``name=value``, ``name: value`` or ``name "value"``.

    >>> stated("sort_by", "rows, sort by: price")
    'price'
    """
    words = r"[\s_-]*".join(map(re.escape, split_name(name))) or re.escape(name)
    quoted = r"[\"'`“]([^\"'`”]+)[\"'`”]"
    found = re.search(rf"(?i)\b{words}\s*(?:[=:]\s*|(?=[\"'`“]))(?:{quoted}|([^\s,;]+))", text)
    return (found[1] or found[2].rstrip(".?!") or None) if found else None


def default_string(kind: str, seen: Evidence) -> str:
    """A harmless value for a required parameter about which the message says nothing."""
    return _DEFAULTS.get(kind) or ("demonstração" if is_portuguese(seen.text) else "demo")


class Strings:
    """Hands out the texts of a message, each once."""

    def __init__(self, tool: Tool) -> None:
        name, described, _ = tool_vocabulary(tool)
        self._tool_words = {*name, *described}
        self.used: set[str] = set()

    def find(self, kind: str, seen: Evidence, *, required: bool) -> str | None:
        """The best text for a parameter of this kind; optional ones take only what is plainly meant for them."""
        addresses = {
            "zone": seen.zones,
            "url": seen.urls,
            "email": seen.emails,
            "file": seen.files,
            "date": seen.dates,
        }
        if kind in addresses:
            value = self._unused(addresses[kind])
            if value is None and kind == "file" and required:
                value = self._unused(seen.quoted) or self._trailing(seen)
            if value is None and kind == "date" and (day := _DAYS.search(fold(seen.text))):
                value = day[0]
            return value
        if kind == "expression":
            return self._unused(seen.expressions) or self._unused(seen.quoted)
        if kind == "code":
            return (
                self._unused(seen.code) or self._unused(seen.quoted) or (seen.text.strip() if required else None)
            )
        if kind == "place" and (place := self._unused(seen.places)):
            return place
        if not required:
            return None
        if kind == "text":
            topic = _TOPIC.search(seen.text)
            return self._unused(seen.quoted) or (topic[1] if topic else None) or seen.text.strip() or None
        own = [name for name in seen.names if stem(fold(name)) not in self._tool_words]
        named = (own, seen.quoted) if kind == "place" else (seen.quoted, own)
        return self._unused(named[0]) or self._unused(named[1]) or self._trailing(seen)

    def _unused(self, values: list[str]) -> str | None:
        return next((value for value in values if value not in self.used), None)

    def _trailing(self, seen: Evidence) -> str | None:
        """The last word that is not the tool's own, as "flights" in "search flights"."""
        words = [word for word in re.findall(r"[^\W_][\w-]*", seen.text) if fold(word) not in STOP_WORDS]
        own = [word for word in words if stem(fold(word)) not in self._tool_words and not word.isdigit()]
        return self._unused(own[::-1])
