"""A request to a model as HTML: its address, its headers and its body. All tags are written here."""

from __future__ import annotations

from html import escape

from ..core.preview import RequestPreview
from ..text import shorten
from . import styles
from .highlight import color_code

__all__ = ["request_html"]

MAX_BODY_CHARS = 200_000
MAX_BODY_LINES = 5_000


def request_html(preview: RequestPreview) -> str:
    """Render a request; nothing in it can become a tag, a script or a formula."""
    head, *headers = preview.head or [""]
    shown, left_out = shorten(preview.body_text, MAX_BODY_CHARS, MAX_BODY_LINES)
    parts = [f'<div class="createagents-request mathjax_ignore tex2jax_ignore" style="{styles.TURN}">\n']
    if head:
        method, _, url = head.partition(" ")
        parts.append(f"<div><strong>{escape(method)}</strong> <code>{escape(url)}</code></div>\n")
    if headers:
        parts.append(_code(escape("\n".join(headers), quote=False)))
    parts.append(f'<div style="{styles.BOX}">{_code(color_code(shown, "json"))}</div>\n')
    if left_out:
        note = f"… {left_out:,} more characters, not shown: .body has them"
        parts.append(f'<div style="{styles.LABEL}">{escape(note)}</div>\n')
    return "".join([*parts, "</div>"])


def _code(html: str) -> str:
    return f'<pre dir="ltr" style="{styles.PLAIN_PRE}"><code>{html}</code></pre>\n'
