"""Inline styles, since a saved cell has no stylesheet. Colors follow JupyterLab's theme or are neutral."""

from __future__ import annotations

__all__ = [
    "ANSWER",
    "BOX",
    "CELL",
    "CODE",
    "CODE_BOX",
    "CODE_PRE",
    "ERROR",
    "FOLD",
    "FOLD_SUMMARY",
    "FORMULA",
    "IMAGE",
    "LABEL",
    "LONG_CELL",
    "NOTICE",
    "NUMBER",
    "PARAGRAPH",
    "PICTURE",
    "PLAIN_PRE",
    "STATE",
    "STATUS",
    "SUMMARY",
    "TABLE",
    "TABLE_BOX",
    "TASK",
    "TURN",
    "VALUE",
    "WIDE",
    "WIDE_TABLE",
]

# JupyterLab drops declarations with variables from untrusted notebooks; the fallback before them stays.
_GREY = "rgba(128,128,128,0.4)"
_LINE = f"border:1px solid {_GREY};border-color:var(--jp-border-color2,{_GREY})"
_SHADE = "rgba(128,128,128,0.1)"
_MUTED = "color:var(--jp-ui-font-color2,inherit)"

# JupyterLab aligns outputs and paragraphs to the left.
ANSWER = "text-align:start;overflow-wrap:anywhere"
PARAGRAPH = "text-align:start"
TURN = "margin-bottom:.9em"
BOX = f"{_LINE};border-radius:4px;margin:.5em 0;padding:.3em .7em"
SUMMARY = "cursor:pointer"
STATE = _MUTED
LABEL = f"margin-top:.5em;font-size:.85em;{_MUTED}"
PLAIN_PRE = "white-space:pre-wrap;overflow-wrap:break-word"
VALUE = f"{PLAIN_PRE};max-height:24em;overflow:auto;margin:.2em 0"
ERROR = "border-left:3px solid #d32f2f;margin:.5em 0;padding:.1em .7em"
NOTICE = f"margin:.5em 0;font-size:.85em;{_MUTED}"
STATUS = f"margin-top:.6em;font-size:.85em;{_MUTED}"
CODE_BOX = (
    f"background-color:{_SHADE};background-color:var(--jp-cell-editor-background,{_SHADE});"
    "border-radius:4px;margin:0 0 1em;padding:.4em .7em"
)
CODE_PRE = "margin:0;overflow-x:auto;background-color:transparent"
# JupyterLab wraps code in its own `pre` and gives it a background.
CODE = "white-space:pre;background-color:transparent"
# Wide content scrolls: with `anywhere`, columns would shrink to one letter.
WIDE = "overflow-x:auto;overflow-wrap:normal;margin:0 0 1em"
WIDE_TABLE = "margin:0"
FOLD = "margin:.2em 0"
FOLD_SUMMARY = f"{SUMMARY};font-size:.85em"
TASK = "list-style:none"
FORMULA = "overflow-x:auto;margin:.7em 0"
IMAGE = "max-width:100%"
# A plot without a background has black axes.
PICTURE = f"{IMAGE};background:#fff"
TABLE_BOX = "max-height:24em;overflow:auto;margin:.2em 0"
TABLE = "border-collapse:collapse;font-size:.9em;margin:0"
_CELL = f"{_LINE};padding:.2em .6em;vertical-align:top"
CELL = f"{_CELL};text-align:start;white-space:nowrap"
LONG_CELL = f"{_CELL};text-align:start;min-width:16em;max-width:30em;overflow-wrap:break-word"
NUMBER = f"{_CELL};text-align:right;white-space:nowrap"
