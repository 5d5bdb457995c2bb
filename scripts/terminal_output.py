"""Jupyter outputs as plain text on a terminal, while they come."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Any

SOURCE_LINES = 14
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Escape sequences in an answer would drive the reader's terminal.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show_source(source: str) -> None:
    """A cell's source, long ones shortened."""
    width = max(40, shutil.get_terminal_size((100, 24)).columns - 4)
    lines = source.strip("\n").split("\n")
    hidden = len(lines) - SOURCE_LINES
    if hidden > 1:
        lines = [*lines[:SOURCE_LINES], f"… {hidden} more lines"]
    print()
    for line in lines:
        print(_dim("│ " + (line if len(line) <= width else line[: width - 1] + "…")))
    sys.stdout.flush()


class CellOutput:
    """What one cell puts out. Displays that are updated in place are printed as far as two updates agree.

    Only the first unfinished display is printed while it grows; the others follow whole, in their order, so that
    two answers in one cell do not mix.
    """

    def __init__(self) -> None:
        self._growing: dict[str, GrowingText] = {}

    def message(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            self._say(content["text"])
        elif kind == "error":
            self._say("\n".join(content["traceback"]) + "\n")
        elif kind in {"display_data", "execute_result", "update_display_data"}:
            self._show(kind, content)

    def finish(self) -> None:
        """The cell has ended: print what was held back."""
        for place, growing in enumerate(self._growing.values()):
            if place:
                _write("\n")
            growing.finish()
        self._growing.clear()

    def _show(self, kind: str, content: dict[str, Any]) -> None:
        text = bundle_text(content["data"])
        display_id = (content.get("transient") or {}).get("display_id")
        if display_id is None:
            self._say(text + "\n" if text else "")
        elif kind == "update_display_data" and display_id not in self._growing:
            return  # of an earlier cell
        elif text:
            self._growing.setdefault(display_id, GrowingText()).update(text)
            next(iter(self._growing.values())).print_settled()
        else:
            self._growing.setdefault(display_id, GrowingText())

    def _say(self, text: str) -> None:
        if not text:
            return
        for growing in self._growing.values():
            growing.end_line()
        _write(text)


class GrowingText:
    """A text of which newer versions arrive whole."""

    def __init__(self) -> None:
        self._previous = ""
        self._latest = ""
        self._printed = ""

    def update(self, text: str) -> None:
        self._previous, self._latest = self._latest, text

    def print_settled(self) -> None:
        """Print what the last two versions share: a status line that changes with every update stays away."""
        settled = shared_start(self._previous, self._latest)
        if settled.startswith(self._printed):
            _write(settled[len(self._printed) :])
            self._printed = settled

    def finish(self) -> None:
        """Print the rest of the last version, or, where it revises what stands there, its lines that differ."""
        same = shared_start(self._printed, self._latest)
        if same == self._printed:
            _write(self._latest[len(same) :])
            self._printed = self._latest
        elif same != self._latest:
            _write("\n" + self._latest[same.rfind("\n") + 1 :])
            self._printed = self._latest
        self.end_line()

    def end_line(self) -> None:
        if self._printed and not self._printed.endswith("\n"):
            _write("\n")


def shared_start(one: str, other: str) -> str:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:index]
    return min(one, other, key=len)


def bundle_text(data: dict[str, Any]) -> str:
    """The text of a display: Markdown before plain text, nothing for a live widget, a picture's type."""
    if "text/markdown" in data:
        return str(data["text/markdown"])
    if WIDGET_VIEW in data:
        return ""
    images = [kind for kind in data if kind.startswith("image/")]
    return f"[{images[0]}]" if images else str(data.get("text/plain", ""))


def _write(text: str) -> None:
    sys.stdout.write(_ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    sys.stdout.flush()


def _dim(text: str) -> str:
    return f"\x1b[36m{text}\x1b[0m" if sys.stdout.isatty() else text
