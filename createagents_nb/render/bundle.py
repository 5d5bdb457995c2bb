"""The only renderer of what a notebook saves of a turn.

Its output needs no kernel, widget, script or stylesheet, and nothing that a model or a tool wrote can become one:
text is escaped, and all tags and attributes are written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from ..text import clean_text, code_fence, hide_invisible, one_line, shorten
from . import styles
from .labels import call_of, plain_state, status_parts
from .markdown import VettedText, render_markdown_html
from .markdown_writer import UnsafeMarkdownError, escape_markdown
from .mime_types import BUNDLE_MIME, BUNDLE_VERSION
from .snapshot import Block, NoticeLine, ReasoningBlock, TextBlock, ToolLine, TurnSnapshot
from .tool_card import tool_card_html, tool_card_markdown

__all__ = [
    "BUNDLE_MIME",
    "Block",
    "NoticeLine",
    "ReasoningBlock",
    "TextBlock",
    "ToolLine",
    "TurnSnapshot",
    "error_html",
    "notice_html",
    "render_bundle",
    "render_markdown_html",
    "tool_card_html",
]

MAX_ERROR_CHARS = 2_000
"""Limit for an error message."""
MAX_NOTICE_CHARS = 500
"""Limit for a notice."""
MAX_MARKDOWN_CHARS = 100_000
"""Limit for the Markdown of a bundle; readers of Markdown such as nbconvert fall back to the HTML."""

NOT_KEPT = "The answer is not kept: the recorder keeps no content (record_content=False), or its redact= failed."

_BLANK_LINE = re.compile(r"\n(?=[ \t]*\n)")


def render_bundle(snapshot: TurnSnapshot) -> dict[str, Any]:
    """Render the MIME bundle of a turn, running or ended, safe in any trust state.

    Returns:
        ``text/html``, ``text/markdown`` (up to 100,000 characters) and ``text/plain``; for an ended turn also
        ``application/vnd.createagents-nb+json``, the record with ``"version": 1``. The call's ``response`` is not
        repeated there: ``response_in_plain`` lists where its pieces begin and end in ``text/plain``.

    Example:
        >>> hi = (TextBlock("hi"),)
        >>> turn = TurnSnapshot(call_id="1", agent="a", provider="demo", model="m", status="ok", blocks=hi)
        >>> render_bundle(turn)["text/plain"]
        'hi\\n\\na · demo/m · done'
    """
    plain, answers = _plain(snapshot)
    texts = {
        block.text: VettedText.of(block.text)
        for block in snapshot.blocks
        if isinstance(block, TextBlock | ReasoningBlock)
    }
    bundle: dict[str, Any] = {"text/html": _html(snapshot, texts)}
    if len(plain) <= MAX_MARKDOWN_CHARS:
        bundle["text/markdown"] = _markdown(snapshot, texts, plain)
    bundle["text/plain"] = plain
    if snapshot.status != "running":
        record = _json_safe(snapshot.record)
        if isinstance(record.get("call"), dict) and isinstance(record["call"].pop("response", None), str):
            record["call"]["response_in_plain"] = answers
        bundle[BUNDLE_MIME] = {**record, "version": BUNDLE_VERSION}
    return bundle


# HTML


def _html(snapshot: TurnSnapshot, texts: Mapping[str, VettedText]) -> str:
    show_rounds = any(block.round > 1 for block in snapshot.blocks if isinstance(block, ToolLine))
    parts = []
    for block in snapshot.blocks:
        match block:
            case TextBlock(text):
                if text.strip():
                    answer = texts[text].html(remote_images=snapshot.remote_images)
                    parts.append(
                        f'<div class="createagents-answer" dir="auto" style="{styles.ANSWER}">\n{answer}</div>\n'
                    )
            case ReasoningBlock(text):
                if text.strip():
                    parts.append(_reasoning_html(texts[text].html(remote_images=snapshot.remote_images)))
            case NoticeLine(text):
                parts.append(notice_html(text))
            case ToolLine():
                parts.append(tool_card_html(block, show_rounds))
    if snapshot.not_kept:
        parts.append(f'<p class="createagents-not-kept"><em>{escape(NOT_KEPT)}</em></p>\n')
    parts.append(error_html(snapshot))
    status = " · ".join(escape(part) for part in status_parts(snapshot))
    parts.append(f'<div class="createagents-status" style="{styles.STATUS}">{status}</div>\n')
    # These classes keep JupyterLab from typesetting every dollar sign; formulas that may be typeset have the
    # opposite ones.
    opening = f'<div class="createagents-turn mathjax_ignore tex2jax_ignore" style="{styles.TURN}">'
    html = f"{opening}\n{''.join(parts)}</div>"
    # Read as Markdown (nbconvert's export), a blank line ends an HTML block. As a character reference it is the
    # same newline, and not a blank line.
    return _BLANK_LINE.sub("&#10;", html)


def _reasoning_html(html: str) -> str:
    return (
        f'<details class="createagents-reasoning" style="{styles.BOX}">'
        f'<summary style="{styles.SUMMARY}"><em>Reasoning</em></summary>\n'
        f'<div dir="auto">\n{html}</div></details>\n'
    )


def notice_html(text: str) -> str:
    """A line for the user that is not part of the answer."""
    line = escape(one_line(text, MAX_NOTICE_CHARS))
    return f'<div class="createagents-notice" style="{styles.NOTICE}">{line}</div>\n'


def error_html(snapshot: TurnSnapshot) -> str:
    """How the turn failed, or ``""``."""
    if not (snapshot.error_text or snapshot.error_type):
        return ""
    kind, text = _error(snapshot)
    return (
        f'<div class="createagents-error" style="{styles.ERROR}">'
        f"<strong>{escape(kind)}</strong>: {escape(text)}</div>\n"
    )


def _error(snapshot: TurnSnapshot) -> tuple[str, str]:
    text, left_out = shorten(snapshot.error_text or "no message", MAX_ERROR_CHARS)
    return one_line(snapshot.error_type or "Error", 80), text + "…" * bool(left_out)


# Markdown


def _markdown(snapshot: TurnSnapshot, texts: Mapping[str, VettedText], plain: str) -> str:
    """Safe Markdown, else the plain text in a code fence."""
    parts = []
    try:
        for block in snapshot.blocks:
            if isinstance(block, ToolLine):
                parts.append(tool_card_markdown(block))
                continue
            if isinstance(block, NoticeLine):
                parts.append(f"*{escape_markdown(one_line(block.text, MAX_NOTICE_CHARS))}*")
                continue
            if not block.text.strip():
                continue
            if isinstance(block, ReasoningBlock):
                parts.append("> *Reasoning*\n>\n" + texts[block.text].markdown(quoted=True))
            else:
                parts.append(texts[block.text].markdown())
        if snapshot.not_kept:
            parts.append(f"*{escape_markdown(NOT_KEPT)}*")
        if snapshot.error_text or snapshot.error_type:
            kind, text = _error(snapshot)
            parts.append(f"**{escape_markdown(kind)}**: {escape_markdown(text)}")
    except UnsafeMarkdownError:
        return code_fence(plain)
    parts.append(f"*{escape_markdown(' · '.join(status_parts(snapshot)))}*")
    return "\n\n".join(parts)


# Plain text


def _plain(snapshot: TurnSnapshot) -> tuple[str, list[list[int]]]:
    """The turn as text, and the start and end of each piece of the answer in it."""
    parts: list[str] = []
    answers: list[list[int]] = []
    size = 0

    def put(text: str) -> None:
        nonlocal size
        if text.strip():
            parts.append(text)
            size += len(text) + len("\n\n")

    for block in snapshot.blocks:
        match block:
            case TextBlock(text):
                start = size
                put(clean_text(text).strip("\n"))
                if size > start:
                    answers.append([start, size - len("\n\n")])
            case ReasoningBlock(text):
                put(f"[reasoning] {one_line(text)}")
            case NoticeLine(text):
                put(f"[notice] {one_line(text, MAX_NOTICE_CHARS)}")
            case ToolLine():
                put(f"[tool] {call_of(block)} -> {plain_state(block)}")
    if snapshot.not_kept:
        put(NOT_KEPT)
    if snapshot.error_text or snapshot.error_type:
        kind, text = _error(snapshot)
        put(f"{kind}: {text}")
    put(" · ".join(status_parts(snapshot)))
    return "\n\n".join(parts), answers


def _json_safe(value: Any, depth: int = 0) -> Any:
    """``value`` as strict JSON: no NaN or infinity, no lone surrogates, no foreign types."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    if depth < 50 and isinstance(value, Mapping):
        return {hide_invisible(str(key)): _json_safe(item, depth + 1) for key, item in value.items()}
    if depth < 50 and isinstance(value, list | tuple):
        return [_json_safe(item, depth + 1) for item in value]
    return str(value).encode("utf-8", "replace").decode("utf-8")
