"""Writes Markdown tokens as HTML. All tags and attributes are made here; tokens contribute escaped text only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ..text import RIGHT_TO_LEFT, hide_invisible
from .highlight import color_code, language_of
from .links import image_text, is_remote_image, is_safe_href, web_address
from .maths import MAX_FORMULAS, is_safe_tex
from .styles import CODE, CODE_BOX, CODE_PRE, FORMULA, IMAGE, PARAGRAPH, TASK, WIDE, WIDE_TABLE

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["LINK_ATTRIBUTES", "MATHS_CLASSES", "TooLargeError", "write_html"]

LINK_ATTRIBUTES = 'target="_blank" rel="noopener noreferrer"'
TABLE_OPEN = f'<div style="{WIDE}"><table border="1" cellpadding="4" style="{WIDE_TABLE}">'
"""The attributes draw a grid on pages without table styles; JupyterLab's styles override them."""
MATHS_CLASSES = "createagents-maths mathjax_process tex2jax_process"

_MAX_COLORED_CHARS = 100_000
_PAIRS = {
    "blockquote": ("blockquote", "\n"),
    "bullet_list": ("ul", "\n"),
    "em": ("em", ""),
    "s": ("s", ""),
    "strong": ("strong", ""),
    "tbody": ("tbody", "\n"),
    "thead": ("thead", "\n"),
    "tr": ("tr", "\n"),
}
_RIGHT_TO_LEFT = re.compile(RIGHT_TO_LEFT)
_ALIGN = re.compile(r"text-align:(left|right|center)")


class TooLargeError(ValueError):
    """A small text would become a huge page, such as one long reference link used a thousand times."""


def _paragraph(text: str) -> str:
    return f'<p dir="auto" style="{PARAGRAPH}">' if _RIGHT_TO_LEFT.search(text) else "<p>"


def _anchor(href: str) -> str:
    return f'<a href="{escape(href)}" {LINK_ATTRIBUTES}>'


class _HtmlWriter:
    def __init__(self, limit: int, remote_images: bool) -> None:
        self.out: list[str] = []
        self.size = 0
        self.limit = limit
        self.remote_images = remote_images
        self.colorable_chars = _MAX_COLORED_CHARS
        self.formulas_left = MAX_FORMULAS
        self.links: list[bool] = []

    def put(self, html: str) -> None:
        self.size += len(html)
        if self.size > self.limit:
            raise TooLargeError(f"more than {self.limit} characters of HTML")
        self.out.append(html)

    def write(self, tokens: Sequence[Token]) -> None:
        for at, token in enumerate(tokens):
            if token.type == "inline":
                self.write(token.children or [])
            elif token.hidden:
                continue
            elif token.type == "paragraph_open":
                self.put(_paragraph(tokens[at + 1].content))
            else:
                self.put(self.tag(token))

    def tag(self, token: Token) -> str:
        name = token.type.removesuffix("_open").removesuffix("_close")
        opens = token.nesting == 1
        if name in _PAIRS:
            tag, after = _PAIRS[name]
            return f"<{tag}>{after}" if opens else f"</{tag}>" + ("" if name in ("em", "s", "strong") else "\n")
        if name == "paragraph":
            return "</p>\n"
        if name == "table":
            return f"{TABLE_OPEN}\n" if opens else "</table></div>\n"
        if name == "heading" and re.fullmatch("h[1-6]", token.tag):
            return f"<{token.tag}>" if opens else f"</{token.tag}>\n"
        if name == "link":
            return self.link(str(token.attrs.get("href", ""))) if opens else "</a>" * self.links.pop()
        if name == "list_item":
            return self.item_open(token) if opens else "</li>\n"
        if name == "ordered_list":
            start = token.attrs.get("start", 1)
            return (f'<ol start="{int(start)}">\n' if start != 1 else "<ol>\n") if opens else "</ol>\n"
        if name in ("td", "th"):
            align = _ALIGN.fullmatch(str(token.attrs.get("style", "")))
            # JupyterLab aligns cells to the right by default.
            style = align[0] if align else "text-align:start"
            return f'<{name} style="{style}">' if opens else f"</{name}>\n"
        return self.leaf(token)

    def leaf(self, token: Token) -> str:
        match token.type:
            case "softbreak":
                return "\n"
            case "hardbreak":
                return "<br>\n"
            case "hr":
                return "<hr>\n"
            case "code_inline":
                return f"<code>{escape(token.content, quote=False)}</code>"
            case "code_block" | "fence":
                return self.code(token.content, language_of(token.info))
            case "image":
                return self.image(token)
            case "maths_inline" | "maths_block":
                return self.maths(token)
        # The parser decodes character references, which may bring back characters that were removed before.
        return escape(hide_invisible(token.content), quote=False)

    def link(self, href: str) -> str:
        # The parser does not validate the empty destination of `[x]()`.
        self.links.append(is_safe_href(href))
        return _anchor(href) if self.links[-1] else ""

    def item_open(self, token: Token) -> str:
        if "checked" not in token.meta:
            return "<li>"
        return f'<li class="createagents-task" style="{TASK}">' + ("☑ " if token.meta["checked"] else "☐ ")

    def image(self, token: Token) -> str:
        text, address = escape(image_text(token)), web_address(token)
        if self.remote_images and is_remote_image(address):
            return (
                f'<img src="{escape(address)}" alt="{text}" class="createagents-image" loading="lazy" '
                f'referrerpolicy="no-referrer" style="{IMAGE}">'
            )
        return text if self.links or not address else f"{_anchor(address)}{text}</a>"

    def code(self, code: str, language: str) -> str:
        self.colorable_chars -= len(code)
        colored = color_code(code, language) if self.colorable_chars >= 0 else escape(code, quote=False)
        name = f' class="language-{language}"' if language else ""
        return (
            f'<div class="highlight" style="{CODE_BOX}"><pre dir="ltr" style="{CODE_PRE}">'
            f'<code{name} style="{CODE}">{colored}</code></pre></div>\n'
        )

    def maths(self, token: Token) -> str:
        inline = token.type == "maths_inline"
        source = escape(f"{token.markup}{token.content}{token.meta['closer']}")
        self.formulas_left -= 1
        if not is_safe_tex(token.content) or self.formulas_left < 0:
            return f"<code>{source}</code>" if inline else f'<pre dir="ltr"><code>{source}</code></pre>\n'
        delimiter = "$" if token.markup in ("$", "\\(") else "$$"
        formula = f"{delimiter}{escape(token.content.strip())}{delimiter}"
        if inline:
            return f'<span class="{MATHS_CLASSES}" dir="ltr">{formula}</span>'
        return f'<div class="{MATHS_CLASSES}" dir="ltr" style="{FORMULA}">{formula}</div>\n'


def write_html(tokens: Sequence[Token], *, limit: int, remote_images: bool = False) -> str:
    """Write tokens as HTML of at most ``limit`` characters.

    With ``remote_images``, pages load images from the web; otherwise images are links.

    Raises:
        TooLargeError: the HTML would be longer.
    """
    writer = _HtmlWriter(limit, remote_images)
    writer.write(tokens)
    return "".join(writer.out)
