r"""Writes Markdown tokens as Markdown that is safe in renderers that run raw HTML.

JupyterLab's Markdown renderer runs HTML and Mermaid, loads images and follows `javascript:`; Pandoc passes TeX on.
So every special character is escaped, links have no title, images are links, and a fence names a known language or
none. JupyterLab also extracts maths *before* it looks for code, and would read a ``\\(`` in one code span and a
``\\)`` in the next as the ends of a formula: such code raises `UnsafeMarkdownError`. The result is checked by
parsing it again with HTML enabled. On an error the caller puts the plain text in a fence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ..text import code_fence, hide_invisible
from .highlight import LANGUAGES, language_of
from .links import image_text, is_safe_href, web_address
from .maths import is_safe_tex

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["UnsafeMarkdownError", "code_span", "escape_markdown", "is_inert", "write_markdown"]

# Written as references, not with a backslash: in JupyterLab an escaped backslash before a bracket opens a formula,
# and brackets in a link's text lose their backslash and become links.
_REFERENCES = {
    "\\": "&#92;",
    "`": "&#96;",
    "$": "&#36;",
    "[": "&#91;",
    "]": "&#93;",
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}
_SPECIAL = re.compile(r"[\\`$<>&*{\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"^[ ]*(?:([#+\-=:%])|(\d{1,9})(?=[.)]))", re.MULTILINE)
_CODE_TRAP = re.compile(r"\\\\[()\[\]]|\\(?:begin|end)\{", re.IGNORECASE)
_TEX_TRAP = re.compile(r"[`\n]|\]\(|\]:|!\[|~~|\\\\[()]")
_HREF_SPECIAL = re.compile(r"[()<>\[\]\\\"'|${}^`*_~\s]")


class UnsafeMarkdownError(ValueError):
    """There is no Markdown for a text that all renderers read alike."""


def escape_markdown(text: str) -> str:
    """``text`` as Markdown that shows it literally, on one line.

    >>> escape_markdown("a*b <c>")
    'a\\\\*b &lt;c&gt;'
    """
    line = re.sub(r"\s+", " ", hide_invisible(text))
    return _SPECIAL.sub(lambda found: _REFERENCES.get(found[0], "\\" + found[0]), line)


def _escape_line_starts(text: str) -> str:
    return _LINE_START.sub(lambda found: f"{found[2]}\\" if found[2] else f"\\{found[1]}", text)


def code_span(code: str) -> str:
    """``code`` on one line as a code span.

    Raises:
        UnsafeMarkdownError: it could be read as the end of a formula.
    """
    line = " ".join(hide_invisible(code).split())
    if not line:
        return ""
    if _CODE_TRAP.search(line):
        raise UnsafeMarkdownError("code that looks like the end of a formula")
    longest = max(map(len, re.findall("`+", line)), default=0)
    pad = " " if longest else ""
    return "`" * (longest + 1) + pad + line + pad + "`" * (longest + 1)


def _prefix(text: str, first: str, rest: str) -> str:
    lines = text.split("\n")
    return "\n".join(((rest if i else first) + line).rstrip() for i, line in enumerate(lines))


class _MarkdownWriter:
    def __init__(self, tokens: Sequence[Token], depth: int) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = depth

    def blocks(self, closing: str = "") -> list[tuple[str, str]]:
        """``(token type, Markdown)`` of each block up to the ``closing`` token."""
        blocks: list[tuple[str, str]] = []
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            self.position += 1
            if token.type == closing:
                break
            before = blocks[-1][0] if blocks else ""
            # Adjacent lists merge unless their markers differ.
            kind = token.type + "*" if before == token.type else token.type
            if text := self.block(token, other_marker=kind.endswith("*")):
                blocks.append((kind, text))
        return blocks

    def block(self, token: Token, *, other_marker: bool) -> str:
        match token.type:
            case "inline":
                return _escape_line_starts(self.inline(token.children or []))
            case "paragraph_open" | "heading_open":
                text = self.text(token.type.replace("_open", "_close"))
                if token.type == "paragraph_open":
                    return text
                return f"{'#' * int(token.tag[1])} {text}".replace("\\\n", " ").replace("\n", " ").rstrip()
            case "blockquote_open":
                return _prefix(self.nested("blockquote_close") or " ", "> ", "> ")
            case "bullet_list_open" | "ordered_list_open":
                return self.items(token, other_marker)
            case "table_open":
                return self.table()
            case "hr":
                return "***"
            case "fence" | "code_block":
                return self.fence(token)
            case "maths_block":
                return self.maths(token)
        return _escape_line_starts(escape_markdown(token.content))

    def text(self, closing: str) -> str:
        return "\n".join(text for _, text in self.blocks(closing))

    def nested(self, closing: str) -> str:
        self.depth += 1
        blocks = self.blocks(closing)
        self.depth -= 1
        joined = ""
        for kind, text in blocks:
            tight = kind.rstrip("*").endswith("list_open") and "\n\n" not in joined
            joined += ("\n" if tight else "\n\n") * bool(joined) + text
        return joined

    def items(self, token: Token, other_marker: bool) -> str:
        ordered = token.type == "ordered_list_open"
        closing = token.type.replace("_open", "_close")
        number = int(token.attrs.get("start", 1))
        items: list[str] = []
        tight = True
        while self.position < len(self.tokens):
            item = self.tokens[self.position]
            self.position += 1
            if item.type == closing:
                break
            # Ten digits do not start a list.
            count = min(number + len(items), 999_999_999)
            marker = f"{count}{')' if other_marker else '.'}" if ordered else ("*" if other_marker else "-")
            following = self.tokens[self.position]
            tight = tight and (following.type != "paragraph_open" or following.hidden)
            task = {True: "[x] ", False: "[ ] "}[item.meta["checked"]] if "checked" in item.meta else ""
            text = _prefix(task + self.nested("list_item_close"), "", " " * (len(marker) + 1))
            items.append(f"{marker} {text}".rstrip())
        return ("\n" if tight else "\n\n").join(items)

    def table(self) -> str:
        rows: list[str] = []
        cells: list[str] = []
        rule: list[str] = []
        while self.tokens[self.position].type != "table_close":
            token = self.tokens[self.position]
            self.position += 1
            if token.type == "th_open":
                align = str(token.attrs.get("style", "")).partition(":")[2]
                rule.append({"left": ":---", "right": "---:", "center": ":---:"}.get(align, "---"))
            elif token.type == "inline":
                cells.append(self.inline(token.children or [], in_table=True).replace("\n", " "))
            elif token.type == "tr_close":
                rows.append(f"| {' | '.join(cells)} |")
                cells = []
                if len(rows) == 1:
                    rows.append(f"| {' | '.join(rule)} |")
        self.position += 1
        return "\n".join(rows)

    def fence(self, token: Token) -> str:
        code = token.content
        # JupyterLab protects dollar signs only in fences at the start of a line.
        if _CODE_TRAP.search(code) or (self.depth and "$" in code):
            raise UnsafeMarkdownError("code that looks like the end of a formula")
        return code_fence(code, language_of(token.info))

    def inline(self, tokens: Iterable[Token], *, in_table: bool = False) -> str:
        out: list[str] = []
        hrefs: list[str] = []
        for token in tokens:
            match token.type:
                case "em_open" | "em_close":
                    out.append("*")
                case "strong_open" | "strong_close":
                    out.append("**")
                case "s_open" | "s_close":
                    out.append("~~")
                case "softbreak":
                    out.append("\n")
                case "hardbreak":
                    out.append("\\\n")
                case "link_open":
                    hrefs.append(str(token.attrs.get("href", "")))
                    out.append("[" * is_safe_href(hrefs[-1]))
                case "link_close":
                    href = hrefs.pop()
                    out.append(f"]({_href(href)})" * is_safe_href(href))
                case "image":
                    text, address = escape_markdown(image_text(token)), web_address(token)
                    out.append(f"[{text}]({_href(address)})" if address and not hrefs else text)
                case "code_inline":
                    self.add_code(out, token.content, in_table)
                case "maths_inline":
                    tex = self.maths(token)
                    out.append(escape_markdown(tex) if in_table and "|" in tex else tex)
                case _:
                    out.append(escape_markdown(token.content))
        # A hard break at the end would be a literal backslash.
        return "".join(out).removesuffix("\\\n")

    def add_code(self, out: list[str], code: str, in_table: bool) -> None:
        if in_table and "|" in code:
            out.append(escape_markdown(code))
            return
        # Adjacent backticks would merge into one delimiter.
        gap = " " if out and out[-1].endswith(("`", "$")) else ""
        out.append(gap + code_span(code))

    def maths(self, token: Token) -> str:
        inline = token.type == "maths_inline"
        tex = " ".join(token.content.replace("<", r" \lt ").replace(">", r" \gt ").split())
        if not is_safe_tex(tex) or _TEX_TRAP.search(tex):
            return code_span(f"{token.markup}{token.content}{token.meta['closer']}")
        delimiter = "$" if token.markup in ("$", "\\(") else "$$"
        return f"{delimiter}{tex}{delimiter}" if inline else f"$$\n{tex}\n$$"


def _href(href: str) -> str:
    plain = _HREF_SPECIAL.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), href)
    return plain.replace("&", "&amp;")


def write_markdown(tokens: Sequence[Token], *, limit: int, quoted: bool = False) -> str:
    """Write ``tokens`` as Markdown of at most ``limit`` characters, as a block quote if ``quoted``.

    Raises:
        UnsafeMarkdownError: the Markdown would be longer, or not all renderers would read it alike.
    """
    blocks = _MarkdownWriter(tokens, depth=int(quoted)).blocks()
    markdown = "\n\n".join(text for _, text in blocks)
    if quoted:
        markdown = _prefix(markdown, "> ", "> ")
    if len(markdown) > limit:
        raise UnsafeMarkdownError("a small text would become a huge one")
    if not is_inert(markdown):
        raise UnsafeMarkdownError("read again with HTML on, it is more than text")
    return markdown


@lru_cache(maxsize=1)
def _naive_parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    md = MarkdownIt("commonmark", {"html": True, "maxNesting": 200}).enable(["table", "strikethrough"])
    md.validateLink = lambda url: True  # type: ignore[method-assign]
    return md


def is_inert(markdown: str) -> bool:
    """Whether a parser with HTML enabled finds no HTML, image, unsafe link or unknown fence language."""
    pending = list(_naive_parser().parse(markdown))
    while pending:
        token = pending.pop()
        pending.extend(token.children or [])
        if token.type in ("html_block", "html_inline", "image"):
            return False
        if token.type == "link_open" and not is_safe_href(str(token.attrs.get("href", ""))):
            return False
        if token.type == "fence" and token.info not in ("", *LANGUAGES.values()):
            return False
    return True
