"""Syntax highlighting with inline styles that follow JupyterLab's theme and work outside JupyterLab."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygments.token import _TokenType

__all__ = ["COLORS", "LANGUAGES", "color_code", "language_of"]

MAX_COLORED_CHARS = 30_000
MAX_COLORING_S = 0.3
"""Limit in CPU time, as some lexers are quadratic, for example in blank lines; the rest stays plain."""

LANGUAGES: dict[str, str] = {
    alias: name
    for name, aliases in {
        "bash": "sh shell zsh",
        "c": "h",
        "console": "shell-session",
        "cpp": "c++ cc hpp",
        "csharp": "c# cs",
        "css": "",
        "diff": "patch",
        "docker": "dockerfile",
        "go": "golang",
        "haskell": "hs",
        "html": "",
        "ini": "cfg",
        "java": "",
        "javascript": "js jsx mjs",
        "json": "jsonc",
        "julia": "jl",
        "kotlin": "kt",
        "latex": "tex",
        "lua": "",
        "make": "makefile",
        "markdown": "md",
        "matlab": "",
        "perl": "pl",
        "php": "",
        "powershell": "ps1",
        "pycon": "",
        "python": "py py3 python3 ipython ipython3",
        "r": "splus",
        "ruby": "rb",
        "rust": "rs",
        "scala": "",
        "sql": "sqlite postgresql mysql",
        "swift": "",
        "text": "txt plain plaintext",
        "toml": "",
        "typescript": "ts tsx",
        "xml": "svg",
        "yaml": "yml",
    }.items()
    for alias in [name, *aliases.split()]
}
"""Canonical names of languages by the names that fences may use."""

_PLAIN = {"", "text"}
# Input on which some of Pygments' regular expressions take minutes.
_SLOW = re.compile(r"\s{100}|[^\n]{1000}")

# Fallbacks are midtones, readable on white and on dark gray, for editors without --jp variables.
COLORS = {
    "keyword": "#8250df",
    "atom": "#8250df",
    "number": "#1a7f37",
    "def": "#0969da",
    "builtin": "#0b7285",
    "string": "#c2410c",
    "string-2": "#b35900",
    "comment": "#6e7781",
    "meta": "#9a6700",
    "tag": "#1a7f37",
    "attribute": "#0969da",
    "operator": "#8250df",
    "header": "#0969da",
    "error": "#cf222e",
}


@lru_cache(maxsize=1)
def _kinds() -> dict[_TokenType, str]:
    from pygments.token import Comment, Generic, Keyword, Literal, Name, Operator

    return {
        Comment: "comment",
        Comment.Preproc: "meta",
        Keyword: "keyword",
        Keyword.Constant: "atom",
        Operator: "operator",
        Operator.Word: "keyword",
        Literal.Number: "number",
        Literal.String: "string",
        Literal.String.Escape: "string-2",
        Literal.String.Regex: "string-2",
        Name.Attribute: "attribute",
        Name.Builtin: "builtin",
        Name.Class: "def",
        Name.Decorator: "meta",
        Name.Exception: "builtin",
        Name.Function: "def",
        Name.Tag: "tag",
        Generic.Deleted: "error",
        Generic.Error: "error",
        Generic.Heading: "header",
        Generic.Inserted: "tag",
        Generic.Prompt: "meta",
        Generic.Subheading: "header",
    }


def language_of(info: str) -> str:
    """Canonical language of a fence's info string; ``""`` if unknown."""
    words = info.split(maxsplit=1)
    return LANGUAGES.get(words[0].lower().strip("{}."), "") if words else ""


def _style(kind: str) -> str:
    slant = ";font-style:italic" if kind == "comment" else ""
    return f"color:var(--jp-mirror-editor-{kind}-color,{COLORS[kind]}){slant}"


def color_code(code: str, language: str) -> str:
    """``code`` as escaped HTML, in colored spans if ``language`` is known and the code is not too long."""
    if language in _PLAIN or len(code) > MAX_COLORED_CHARS or _SLOW.search(code):
        return escape(code, quote=False)
    from pygments.lexers import get_lexer_by_name

    kinds = _kinds()
    runs: list[tuple[str, list[str]]] = []
    done = 0
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    deadline = time.thread_time() + MAX_COLORING_S
    for token, value in lexer.get_tokens(code):
        if not code.startswith(value, done):
            return escape(code, quote=False)
        if time.thread_time() > deadline:
            break
        done += len(value)
        while token not in kinds and token.parent is not None:
            token = token.parent
        kind = kinds.get(token, "")
        if runs and (runs[-1][0] == kind or value.isspace()):
            runs[-1][1].append(value)
        else:
            runs.append((kind, [value]))
    runs.append(("", [code[done:]]))
    parts = []
    for kind, values in runs:
        text = escape("".join(values), quote=False)
        parts.append(f'<span style="{_style(kind)}">{text}</span>' if kind else text)
    return "".join(parts)
