r"""Maths in Markdown: ``$…$``, ``$$…$$``, ``\(…\)``, ``\[…\]`` and bare ``\begin{…}`` blocks.

MathJax executes commands: `\href` makes links, `\style` CSS, `\require` loads packages, `\def` may loop. So only
TeX made of known mathematical commands is passed to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .tex_commands import COMMANDS, ENVIRONMENTS

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

__all__ = ["add_maths_rules", "is_safe_tex"]

MAX_TEX_CHARS = 5_000
MAX_INLINE_CHARS = 1_000
MAX_BLOCK_LINES = 200
MAX_BRACES = 50
MAX_FORMULAS = 2_000

_COMMAND = re.compile(r"\\([A-Za-z]+\*?|.|$)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*(?:\{([A-Za-z]*\*?)\})?")
_ROW_GAP = re.compile(r"\\\\\*?\s*\[(?!\s*\d{0,2}(?:\.\d+)?\s*(?:pt|em|ex|mm)\s*\])")
_BEGIN = re.compile(r"\\begin\{([a-z]+\*?)\}")


def is_safe_tex(tex: str) -> bool:
    r"""Whether ``tex``, without delimiters, is short, balanced and made of known commands only.

    >>> is_safe_tex(r"\frac{a}{b}"), is_safe_tex(r"\href{javascript:x}{y}")
    (True, False)
    """
    if not tex.strip() or len(tex) > MAX_TEX_CHARS or "$" in tex or "^^" in tex or _ROW_GAP.search(tex):
        return False
    for name in _ENVIRONMENT.findall(tex):
        if name not in ENVIRONMENTS:
            return False
    for name in _COMMAND.findall(tex):
        if name not in COMMANDS and name.removesuffix("*") not in COMMANDS:
            return False
    depth = 0
    for char in _COMMAND.sub(" ", tex):
        if char in "%#`":
            return False
        depth += (char == "{") - (char == "}")
        if not 0 <= depth <= MAX_BRACES:
            return False
    return depth == 0


def _closing_dollar(source: str, start: int, stop: int) -> int:
    """Index of the ``$`` that closes a formula, by Pandoc's rules, which leave prices alone; -1 if none."""
    end = source.find("$", start, stop)
    while end > 0 and source[end - 1] == "\\":
        end = source.find("$", end + 1, stop)
    if end <= start or source[start].isspace() or source[end - 1].isspace():
        return -1
    return -1 if source[end + 1 : end + 2].isdigit() else end


def _inline(state: StateInline, silent: bool) -> bool:
    source, start = state.src, state.pos
    if source[start] == "$":
        opener = "$$" if source.startswith("$$", start) else "$"
        closer = opener
        if source[max(0, start - 1) : start].isalnum():
            return False
    elif source.startswith(("\\(", "\\["), start):
        opener = source[start : start + 2]
        closer = "\\)" if opener == "\\(" else "\\]"
    else:
        return False
    begin = start + len(opener)
    stop = min(state.posMax, begin + MAX_INLINE_CHARS)
    end = _closing_dollar(source, begin, stop) if opener == "$" else source.find(closer, begin, stop)
    tex = source[begin:end]
    # A code span or link that begins inside the formula takes precedence.
    if end <= begin or not tex.strip() or "`" in tex or "](" in tex:
        return False
    if not silent:
        token = state.push("maths_inline", "", 0)
        token.content = tex
        token.markup = opener
        token.meta = {"closer": closer}
    state.pos = end + len(closer)
    return True


def _contains(tex: str, delimiter: str) -> bool:
    r"""Whether ``tex`` contains ``delimiter``, other than in the ``\\[`` that ends a row."""
    return delimiter in tex and delimiter in tex.replace("\\\\", "")


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    if state.sCount[start_line] - state.blkIndent >= 4:
        return False
    first = state.src[state.bMarks[start_line] + state.tShift[start_line] : state.eMarks[start_line]].rstrip()
    if first.startswith("$$"):
        opener = closer = "$$"
    elif first.startswith("\\["):
        opener, closer = "\\[", "\\]"
    elif match := _BEGIN.match(first):
        opener, closer = match[0], f"\\end{{{match[1]}}}"
    else:
        return False
    pieces, line, text = [], start_line, first[len(opener) :]
    while not text.endswith(closer):
        if _contains(text, opener) or _contains(text, closer):
            return False
        pieces.append(text)
        line += 1
        if line >= end_line or line - start_line > MAX_BLOCK_LINES or state.sCount[line] < state.blkIndent:
            return False
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        if not text:
            return False
    pieces.append(text.removesuffix(closer))
    tex = "\n".join(pieces)
    if not tex.strip() or _contains(pieces[-1], opener) or _contains(pieces[-1], closer):
        return False
    if not silent:
        token = state.push("maths_block", "", 0)
        token.block = True
        token.map = [start_line, line + 1]
        bare = opener.startswith("\\begin")
        token.content = f"{opener}{tex}{closer}" if bare else tex
        token.markup = "" if bare else opener
        token.meta = {"closer": "" if bare else closer}
    state.line = line + 1
    return True


def add_maths_rules(md: MarkdownIt) -> None:
    """Add rules for ``maths_inline`` and ``maths_block`` tokens: TeX in ``content``, opener in ``markup``."""
    md.inline.ruler.before("escape", "maths_inline", _inline)
    md.block.ruler.before(
        "fence", "maths_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
