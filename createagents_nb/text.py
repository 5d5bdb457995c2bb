"""Text for people: untrusted text made safe to show, text cut to size, and values formatted for reading.

Safe means without terminal escapes, control characters, and characters that hide text or reverse its direction.
"""

from __future__ import annotations

import math
import re
from asyncio import CancelledError
from typing import Final

__all__ = [
    "INVISIBLE",
    "RIGHT_TO_LEFT",
    "STATUS_LABELS",
    "TextCleaner",
    "clean_text",
    "code_fence",
    "format_dollars",
    "format_error",
    "format_seconds",
    "hide_invisible",
    "one_line",
    "shorten",
]

# Untrusted text

# Zero-width characters and the tag block hide text; overrides and isolates make it read as something else.
# Right-to-left marks and joiners stay: Persian, Hindi and emoji need them.
INVISIBLE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Regular expression for a character that `hide_invisible` removes; also compiled into the front end."""

RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
"""Regular expression for a letter of a right-to-left script: Hebrew, Arabic, Syriac, Thaana, N'Ko…"""

_INVISIBLE = re.compile(INVISIBLE)
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_TERMINAL_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x9d])[^\x07\x1b\x90\x9c\x9d\n]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS: titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_INCOMPLETE_ESCAPE = re.compile(
    r"(?:\r|(?:\x1b\[|\x9b)[0-?]*[ -/]*|\x1b[ -/]*"
    r"|(?:\x1b[\]PX^_]|[\x90\x9d])[^\x07\x1b\x90\x9c\x9d\n]{0,4096}\x1b?)\Z"
)


def hide_invisible(text: str) -> str:
    """Remove control, zero-width and direction-overriding characters; keep tabs and newlines."""
    return _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", text))


def clean_text(text: str) -> str:
    r"""Make untrusted text safe to show: normalize newlines, remove terminal escapes and invisible characters.

    >>> clean_text("\x1b[31mred\x1b[0m\r\n")
    'red\n'
    """
    return hide_invisible(_TERMINAL_ESCAPES.sub("", _LINE_ENDS.sub("\n", text)))


class TextCleaner:
    r"""Apply `clean_text` to a stream: the results of `feed` and `rest`, joined, are the clean text.

    >>> cleaner = TextCleaner()
    >>> cleaner.feed("a\x1b[3") + cleaner.feed("1mb\r") + cleaner.rest()
    'ab\n'
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return the clean text that is final; an incomplete terminal escape at the end is held back."""
        text = self._held + piece
        incomplete = _INCOMPLETE_ESCAPE.search(text)
        self._held = text[incomplete.start() :] if incomplete else ""
        return clean_text(text[: len(text) - len(self._held)])

    def rest(self) -> str:
        """Return what was held back, at the end of the stream."""
        held, self._held = self._held, ""
        return clean_text(held)


# Text cut to size


def one_line(text: str, limit: int = 200) -> str:
    """Clean ``text`` and put it on one line of at most ``limit`` characters."""
    line = " ".join(clean_text(text[: 8 * limit]).split())
    return line if len(line) <= limit and len(text) <= 8 * limit else line[: limit - 1] + "…"


def shorten(text: str, limit: int, lines: int = 200) -> tuple[str, int]:
    """Clean ``text`` and cut it to ``limit`` characters and ``lines`` lines; also return how many were cut off."""
    cleaned = clean_text(text)
    head = cleaned[:limit]
    if head.count("\n") > lines:
        head = "\n".join(head.split("\n", lines)[:lines])
    return head, len(cleaned) - len(head)


def code_fence(code: str, language: str = "") -> str:
    """Put ``code`` in a fenced Markdown block that nothing in it can close."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    marker = "`" * max(3, longest + 1)
    body = code if code.endswith("\n") or not code else code + "\n"
    return f"{marker}{language}\n{body}{marker}"


# Values for reading

STATUS_LABELS: Final = {
    "running": "running",
    "ok": "done",
    "cancelled": "stopped",
    "error": "failed",
    "limit": "tool limit reached",
    "timeout": "timed out",
    "unknown_tool": "rejected: unknown tool",
    "invalid_arguments": "rejected: invalid arguments",
    "rejected": "rejected: not approved",
}
"""Labels for the statuses of turns, requests and tool calls."""


def format_seconds(value: float) -> str:
    """Format a duration: ``0.02 s``, ``3.2 s``, ``2 min 5 s``."""
    if not math.isfinite(value):
        return "? s"
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def format_dollars(value: float) -> str:
    """Format a cost with at least two significant digits: ``$12.50``, ``$0.13``, ``$0.0042``, ``<$0.0001``."""
    if not math.isfinite(value) or value < 0:
        return "? $"
    if value == 0:
        return "$0"
    if value < 0.0001:
        return "<$0.0001"
    return f"${value:,.{max(2, 1 - math.floor(math.log10(value)))}f}"


def format_error(error: BaseException) -> str:
    """Format an exception as ``"ValueError: message"``, or as its class if it has no message."""
    try:
        message = str(error)
    except (Exception, SystemExit, GeneratorExit, CancelledError):  # a __str__ that fails
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
