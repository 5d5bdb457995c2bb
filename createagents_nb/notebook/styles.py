"""Inline styles: a saved cell has no stylesheet. Every colour follows Lab's theme and has a neutral fallback."""

from __future__ import annotations

__all__ = [
    "ANSWER",
    "BOX",
    "ERROR",
    "FORMULA",
    "LABEL",
    "PLAIN_PRE",
    "STATE",
    "STATUS",
    "SUMMARY",
    "TASK",
    "TURN",
    "VALUE",
]

# JupyterLab drops declarations with variables from notebooks it does not trust: the first one stays then.
_GREY = "rgba(128,128,128,0.4)"
_LINE = f"border:1px solid {_GREY};border-color:var(--jp-border-color2,{_GREY})"
_MUTED = "color:var(--jp-ui-font-color2,inherit)"

# JupyterLab aligns every output to the left.
ANSWER = "text-align:start;overflow-wrap:anywhere"
TURN = "margin-bottom:.9em"
BOX = f"{_LINE};border-radius:4px;margin:.5em 0;padding:.3em .7em"
SUMMARY = "cursor:pointer"
STATE = _MUTED
LABEL = f"margin-top:.5em;font-size:.85em;{_MUTED}"
PLAIN_PRE = "white-space:pre-wrap;overflow-wrap:break-word"
VALUE = f"{PLAIN_PRE};max-height:24em;overflow:auto;margin:.2em 0"
ERROR = "border-left:3px solid #d32f2f;margin:.5em 0;padding:.1em .7em"
STATUS = f"margin-top:.6em;font-size:.85em;{_MUTED}"
TASK = "list-style:none"
FORMULA = "overflow-x:auto;margin:.7em 0"
