"""A model's Markdown as tokens that carry no HTML, and as HTML with nothing of the model's own in any tag.

CommonMark with tables, strikethrough, task lists and maths; raw HTML is text, links go to the web or by
mail only, images are links. `html_tokens` and `markdown_tokens` write them.
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
"""Each ``[`` costs a search for its end: more of them than this is no prose."""
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
    """A backslash before a space is itself, as in CommonMark: the space may be one of two that break a line."""
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
    """The tokens of clean ``text``, or None where it is too long, too deep or too odd to be Markdown."""
    if len(text) > MAX_MARKDOWN_CHARS or text.count("\n") > MAX_MARKDOWN_LINES or text.count("[") > MAX_BRACKETS:
        return None
    env: EnvType = {}
    try:
        tokens = _parser().parse(text, env)
    except Exception:
        # An answer must never be lost to a parser's fault: it is shown as plain text.
        logger.debug("Markdown could not be parsed", exc_info=True)
        return None
    # At its limit the parser drops what is deeper.
    if any(token.level >= MAX_NESTING - 2 for token in tokens):
        return None
    _mark_tasks(tokens)
    return tokens


@dataclass(frozen=True, slots=True)
class VettedText:
    """Clean text and its harmless tokens; None where it is shown as it is."""

    text: str
    tokens: list[Token] | None

    @classmethod
    def of(cls, text: str) -> VettedText:
        """Clean and parse a hostile ``text``."""
        cleaned = clean_text(text)
        return cls(cleaned, parse_markdown(cleaned))

    def html(self, *, remote_images: bool = False) -> str:
        """HTML that is safe in a trusted page; text that is no Markdown stands escaped in one ``<pre>``.

        With ``remote_images`` the page loads images of the web, which are links otherwise.
        """
        if self.tokens is not None:
            try:
                limit = 2_000_000 + 10 * len(self.text)
                return write_html(self.tokens, limit=limit, remote_images=remote_images)
            except TooLargeError:
                logger.debug("Markdown grew too much as HTML")
        return f'<pre dir="auto" style="{PLAIN_PRE}">{escape(self.text, quote=False)}</pre>\n'

    def markdown(self, *, quoted: bool = False) -> str:
        """Markdown that is safe where HTML runs; raises `UnsafeMarkdownError` where there is none."""
        if self.tokens is None or len(self.text) > MAX_REWRITTEN_CHARS:
            raise UnsafeMarkdownError("too much to be written again")
        return write_markdown(self.tokens, limit=20_000 + 6 * len(self.text), quoted=quoted)


def render_markdown_html(text: str) -> str:
    """Hostile Markdown as HTML that is safe in a trusted page.

    What cannot be taken as Markdown (over 300,000 characters, absurd nesting) is shown as it is, escaped,
    in one ``<pre>``.

    >>> render_markdown_html("*hi* <script>")
    '<p><em>hi</em> &lt;script&gt;</p>\\n'
    """
    return VettedText.of(text).html()
