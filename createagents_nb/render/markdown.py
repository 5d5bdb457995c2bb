"""Parses a model's Markdown into tokens without HTML, and renders them safely.

CommonMark with tables, strikethrough, task lists and maths. Raw HTML is text, links lead to the web or to a mail
address only, and images are links. `html_writer` and `markdown_writer` write the tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

from ..logging_config import LoggingConfig
from ..text import clean_text
from .html_writer import TooLargeError, write_html
from .links import is_safe_href
from .markdown_writer import UnsafeMarkdownError, write_markdown
from .maths import add_maths_rules
from .styles import PLAIN_PRE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.utils import EnvType

__all__ = ["VettedText", "parse_markdown", "render_markdown_html"]

logger = LoggingConfig.get_logger(__name__)

MAX_MARKDOWN_CHARS = 300_000
MAX_MARKDOWN_LINES = 20_000
MAX_REWRITTEN_CHARS = 100_000
MAX_BRACKETS = 20_000
"""Limit for ``[``, since each costs a search for its end."""
MAX_NESTING = 60

_TASK = re.compile(r"\[([ xX])\][ \t]+(?=\S)")


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    md = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    md.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    md.validateLink = is_safe_href  # type: ignore[method-assign]
    md.inline.ruler.before("escape", "backslash_space", _backslash_space)
    add_maths_rules(md)
    return md


def _backslash_space(state: StateInline, silent: bool) -> bool:
    """Keep a backslash before a space, as CommonMark does: the space may belong to a hard line break."""
    if not state.src.startswith("\\ ", state.pos):
        return False
    if not silent:
        token = state.push("text_special", "", 0)
        token.content = token.markup = "\\"
        token.info = "escape"
    state.pos += 1
    return True


def _mark_tasks(tokens: list[Token]) -> None:
    for item, paragraph, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if item.type != "list_item_open" or paragraph.type != "paragraph_open" or not inline.children:
            continue
        first = inline.children[0]
        if first.type == "text" and (task := _TASK.match(first.content)):
            first.content = first.content[task.end() :]
            item.meta["checked"] = task[1] != " "


def parse_markdown(text: str) -> list[Token] | None:
    """Parse clean ``text``; None if it is too long, nested too deeply or breaks the parser."""
    if len(text) > MAX_MARKDOWN_CHARS or text.count("\n") > MAX_MARKDOWN_LINES or text.count("[") > MAX_BRACKETS:
        return None
    env: EnvType = {}
    try:
        tokens = _parser().parse(text, env)
    except Exception:
        # An answer must not be lost to a bug of the parser: it is shown as plain text.
        logger.debug("Markdown could not be parsed", exc_info=True)
        return None
    # The parser drops content that is nested deeper than its limit.
    if any(token.level >= MAX_NESTING - 2 for token in tokens):
        return None
    _mark_tasks(tokens)
    return tokens


@dataclass(frozen=True, slots=True)
class VettedText:
    """Clean text and its safe tokens; ``tokens`` is None if the text is shown as plain text."""

    text: str
    tokens: list[Token] | None

    @classmethod
    def of(cls, text: str) -> VettedText:
        """Clean and parse a hostile ``text``."""
        cleaned = clean_text(text)
        return cls(cleaned, parse_markdown(cleaned))

    def html(self, *, remote_images: bool = False) -> str:
        """HTML that is safe in a trusted page; text without tokens is escaped in a ``<pre>``.

        With ``remote_images``, pages load images from the web; otherwise images are links.
        """
        if self.tokens is not None:
            try:
                limit = 2_000_000 + 10 * len(self.text)
                return write_html(self.tokens, limit=limit, remote_images=remote_images)
            except TooLargeError:
                logger.debug("Markdown grew too much as HTML")
        return f'<pre dir="auto" style="{PLAIN_PRE}">{escape(self.text, quote=False)}</pre>\n'

    def markdown(self, *, quoted: bool = False) -> str:
        """Markdown that is safe in renderers that run HTML.

        Raises:
            UnsafeMarkdownError: there is no safe Markdown for this text.
        """
        if self.tokens is None or len(self.text) > MAX_REWRITTEN_CHARS:
            raise UnsafeMarkdownError("too much to be written again")
        return write_markdown(self.tokens, limit=20_000 + 6 * len(self.text), quoted=quoted)


def render_markdown_html(text: str) -> str:
    """Render hostile Markdown as HTML that is safe in a trusted page.

    Text that cannot be parsed (over 300,000 characters, absurd nesting) is escaped in a ``<pre>``.

    >>> render_markdown_html("*hi* <script>")
    '<p><em>hi</em> &lt;script&gt;</p>\\n'
    """
    return VettedText.of(text).html()
