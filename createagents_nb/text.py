"""Hostile text made harmless to the eye: no terminal escapes, no control or direction-overriding characters."""

from __future__ import annotations

import math
import re
from asyncio import CancelledError
from typing import Final

__all__ = [
    "INVISIBLE",
    "RIGHT_TO_LEFT",
    "STATUS_WORDS",
    "TextCleaner",
    "clean_text",
    "code_fence",
    "dollars",
    "error_in_words",
    "hide_invisible",
    "one_line",
    "seconds",
    "shorten",
]

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")


_TERMINAL_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x9d])[^\x07\x1b\x90\x9c\x9d\n]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS: titles, links
    r"|\x1b[ -/]*[0-~]?"
)


_INCOMPLETE_ESCAPE = re.compile(
    r"(?:\r|(?:\x1b\[|\x9b)[0-?]*[ -/]*|\x1b[ -/]*"
    r"|(?:\x1b[\]PX^_]|[\x90\x9d])[^\x07\x1b\x90\x9c\x9d\n]{0,4096}\x1b?)\Z"
)


# Overrides and isolates let text read as something it is not; zero-width characters and the tag block
# hide text from the reader. Right-to-left marks and joiners stay: Persian, Hindi and emoji need them.
INVISIBLE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
"""Letters of the scripts that run so: Hebrew, Arabic, Syriac, Thaana, N'Ko…"""


_INVISIBLE = re.compile(INVISIBLE)


_SURROGATES = re.compile("[\ud800-\udfff]")


def hide_invisible(text: str) -> str:
    """``text`` without control, zero-width and direction-overriding characters; tabs and newlines stay."""
    return _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", text))


def clean_text(text: str) -> str:
    r"""``text`` as it is safe to show: newlines as ``\n``, terminal escapes and invisible characters gone.

    >>> clean_text("\x1b[31mred\x1b[0m\r\n")
    'red\n'
    """
    return hide_invisible(_TERMINAL_ESCAPES.sub("", _LINE_ENDS.sub("\n", text)))


class TextCleaner:
    r"""`clean_text` for text that comes in pieces: what is fed, and the `rest`, add up to the same.

    >>> cleaner = TextCleaner()
    >>> cleaner.feed("a\x1b[3") + cleaner.feed("1mb\r") + cleaner.rest()
    'ab\n'
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The clean text of which ``piece`` makes certain; the beginning of a terminal escape is held back."""
        text = self._held + piece
        unfinished = _INCOMPLETE_ESCAPE.search(text)
        self._held = text[unfinished.start() :] if unfinished else ""
        return clean_text(text[: len(text) - len(self._held)])

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return clean_text(held)


def one_line(text: str, limit: int = 200) -> str:
    """Clean ``text`` on one line of at most ``limit`` characters."""
    line = " ".join(clean_text(text[: 8 * limit]).split())
    return line if len(line) <= limit and len(text) <= 8 * limit else line[: limit - 1] + "…"


def shorten(text: str, limit: int, lines: int = 200) -> tuple[str, int]:
    """Clean ``text`` cut to ``limit`` characters and ``lines`` lines, and how many characters are left out."""
    cleaned = clean_text(text)
    head = cleaned[:limit]
    if head.count("\n") > lines:
        head = "\n".join(head.split("\n", lines)[:lines])
    return head, len(cleaned) - len(head)


def code_fence(code: str, language: str = "") -> str:
    """``code`` as a fenced Markdown block which nothing inside can close."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    marker = "`" * max(3, longest + 1)
    body = code if code.endswith("\n") or not code else code + "\n"
    return f"{marker}{language}\n{body}{marker}"


STATUS_WORDS: Final = {
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
"""What a status of a call, a request or a tool means to a reader."""


def seconds(value: float) -> str:
    """A duration for people: ``0.02 s``, ``3.2 s``, ``2 min 5 s``."""
    if not math.isfinite(value):
        return "? s"
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def dollars(value: float) -> str:
    """A cost for people, with the digits that tell: ``$12.50``, ``$0.13``, ``$0.0042``, ``<$0.0001``."""
    if not math.isfinite(value) or value < 0:
        return "? $"
    if value == 0:
        return "$0"
    if value < 0.0001:
        return "<$0.0001"
    # Two digits that are not zero, and cents at least.
    return f"${value:,.{max(2, 1 - math.floor(math.log10(value)))}f}"


def error_in_words(error: BaseException) -> str:
    """``"ValueError: message"``, or its class alone where it has no message."""
    try:
        message = str(error)
    except (Exception, SystemExit, GeneratorExit, CancelledError):  # an exception whose own __str__ fails
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
