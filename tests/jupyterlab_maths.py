"""What JupyterLab does to Markdown before it parses it: take maths out, without knowing what is code.

A model of `removeMath` in JupyterLab's rendermime package: formulas become harmless markers.
"""

from __future__ import annotations

import re

_SPLIT = re.compile(
    r"(\$\$?|\\(?:begin|end)\{[a-z]*\*?\}|\\[{}$]|[{}]|(?:\n\s*)+|@@\d+@@|\\\\[()\[\]])", re.IGNORECASE
)
_FENCE = re.compile(r"^(?P<fence>`{3,}|(?:~T){3,})[^`\n]*\n[\s\S]*?^(?P=fence)`*$", re.MULTILINE)
_SPAN = re.compile(r"(^|[^\\])(`+)[^\n]*?[^`\n]\2(?!`)", re.MULTILINE)


def without_maths(text: str) -> str:
    """``text`` with each formula that JupyterLab sees replaced by a marker."""
    if "`" in text or "~~~" in text:
        text = text.replace("~", "~T")
        for code in (_FENCE, _SPAN):
            text = code.sub(lambda found: found[0].replace("$", "~D"), text)
    pieces = _SPLIT.split(text)
    start = last = None
    end = ""
    braces = 0
    at = 1
    while at < len(pieces):
        piece = pieces[at]
        if start is not None:
            if piece == end:
                if braces:
                    last = at
                else:
                    pieces[start : at + 1] = ["FORMULA", *[""] * (at - start)]
                    start = last = None
            elif re.search(r"\n.*\n", piece):
                if last is not None:
                    pieces[start : last + 1] = ["FORMULA", *[""] * (last - start)]
                    at = last
                start = last = None
                braces = 0
            elif piece == "{":
                braces += 1
            elif piece == "}" and braces:
                braces -= 1
        elif piece in ("$", "$$"):
            start, end, braces = at, piece, 0
        elif piece in ("\\\\(", "\\\\["):
            start, end, braces = at, {"\\\\(": "\\\\)", "\\\\[": "\\\\]"}[piece], 0
        elif piece.startswith("\\begin"):
            start, end, braces = at, "\\end" + piece[6:], 0
        at += 2
    if start is not None and last is not None:
        pieces[start : last + 1] = ["FORMULA", *[""] * (last - start)]
    return "".join(pieces).replace("~D", "$").replace("~T", "~")
