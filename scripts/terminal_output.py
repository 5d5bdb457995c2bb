"""Print Jupyter outputs as plain text on a terminal while they arrive."""

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
    """Print a cell's source, shortened to `SOURCE_LINES` lines."""
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
    """The output of one cell. A display that is updated in place is printed as far as its last two versions agree.

    Only the first unfinished display is printed while it grows; the others follow complete and in order, so that
    two answers in one cell do not mix.
    """

    def __init__(self) -> None:
        self._growing: dict[str, GrowingText] = {}

    def message(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            self._print(content["text"])
        elif kind == "error":
            self._print("\n".join(content["traceback"]) + "\n")
        elif kind in {"display_data", "execute_result", "update_display_data"}:
            self._show(kind, content)

    def finish(self) -> None:
        """Print the rest when the cell has ended."""
        for place, growing in enumerate(self._growing.values()):
            if place:
                _write("\n")
            growing.finish()
        self._growing.clear()

    def _show(self, kind: str, content: dict[str, Any]) -> None:
        text = bundle_text(content["data"])
        display_id = (content.get("transient") or {}).get("display_id")
        if display_id is None:
            self._print(text + "\n" if text else "")
        elif kind == "update_display_data" and display_id not in self._growing:
            return  # belongs to an earlier cell
        elif text:
            self._growing.setdefault(display_id, GrowingText()).update(text)
            next(iter(self._growing.values())).print_settled()
        else:
            self._growing.setdefault(display_id, GrowingText())

    def _print(self, text: str) -> None:
        if not text:
            return
        for growing in self._growing.values():
            growing.end_line()
        _write(text)


class GrowingText:
    """A text that arrives as complete versions, each longer than the last."""

    def __init__(self) -> None:
        self._previous = ""
        self._latest = ""
        self._printed = ""

    def update(self, text: str) -> None:
        self._previous, self._latest = self._latest, text

    def print_settled(self) -> None:
        """Print what the last two versions share, which leaves out a status line that changes with each update."""
        settled = shared_start(self._previous, self._latest)
        if settled.startswith(self._printed):
            _write(settled[len(self._printed) :])
            self._printed = settled

    def finish(self) -> None:
        """Print the rest of the last version, or its differing lines if it revises what was printed."""
        common = shared_start(self._printed, self._latest)
        if common == self._printed:
            _write(self._latest[len(common) :])
            self._printed = self._latest
        elif common != self._latest:
            _write("\n" + self._latest[common.rfind("\n") + 1 :])
            self._printed = self._latest
        self.end_line()

    def end_line(self) -> None:
        if self._printed and not self._printed.endswith("\n"):
            _write("\n")


def shared_start(left: str, right: str) -> str:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return left[:index]
    return min(left, right, key=len)


def bundle_text(data: dict[str, Any]) -> str:
    """Return a display's text: Markdown, nothing for a live widget, the type of an image, or plain text."""
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
