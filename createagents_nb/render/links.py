"""Which links of a model are safe, and what replaces its images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..text import hide_invisible

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["image_text", "is_remote_image", "is_safe_href", "web_address"]

MAX_HREF_CHARS = 2_000

_SAFE_HREF = re.compile(r"(?:https?:|mailto:|#)", re.IGNORECASE)
_REMOTE = re.compile(r"https?://[^/\\?#]", re.IGNORECASE)


def is_safe_href(url: str) -> bool:
    """Whether a normalized link destination is http, https, mailto or a fragment, and not too long."""
    return len(url) <= MAX_HREF_CHARS and _SAFE_HREF.match(url) is not None


def is_remote_image(url: str) -> bool:
    """Whether a page that allows remote images may load one from ``url``: http or https, with a host.

    Browsers resolve ``https:x`` against the page's own server, so the slashes are required.
    """
    return is_safe_href(url) and _REMOTE.match(url) is not None


def image_text(token: Token) -> str:
    """The alternative text of an image, or ``image``."""
    words = "".join(child.content for child in token.children or [] if child.type in ("text", "code_inline"))
    return hide_invisible(words).strip() or "image"


def web_address(token: Token) -> str:
    """The http or https address of an image, else ``""``."""
    source = str(token.attrs.get("src", ""))
    return source if source.lower().startswith(("http:", "https:")) else ""
