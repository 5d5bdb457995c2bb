"""Where a model's links may lead, and what stands for its images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .clean_text import hide_invisible

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["image_text", "is_safe_href", "web_address"]

MAX_HREF_CHARS = 2_000

_SAFE_HREF = re.compile(r"(?:https?:|mailto:|#)", re.IGNORECASE)


def is_safe_href(url: str) -> bool:
    """Whether a normalised link destination is http, https, mailto or a fragment, and of sane length."""
    return len(url) <= MAX_HREF_CHARS and _SAFE_HREF.match(url) is not None


def image_text(token: Token) -> str:
    """What stands for an image, which is never loaded: its alternative text, else a word."""
    words = "".join(child.content for child in token.children or [] if child.type in ("text", "code_inline"))
    return hide_invisible(words).strip() or "image"


def web_address(token: Token) -> str:
    """The http address of an image, or ``""``."""
    source = str(token.attrs.get("src", ""))
    return source if source.lower().startswith(("http:", "https:")) else ""
