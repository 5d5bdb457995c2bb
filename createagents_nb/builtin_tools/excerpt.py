"""What of a file is shown, and how much of a table is read at all."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ..tools.result_text import format_frame

__all__ = ["MAX_CELLS", "MAX_CHARS", "MAX_COLUMNS", "Window", "excerpt_lines", "excerpt_table", "import_extra"]

MAX_COLUMNS = 10_000
MAX_CELLS = 20_000_000
"""Rows × columns: a table has room for cells that its file does not name, so a small file can be a large table."""

MAX_CHARS = 200_000_000
"""Of all cells together, for the same reason: a file may name a text once and show it in every cell."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows or lines to show: from ``offset`` on, ``rows`` of them or a default, ``max_rows`` at most."""

    offset: int
    rows: int | None
    max_rows: int

    def count(self, default: int) -> int:
        return min(self.rows or default, self.max_rows)


def excerpt_lines(text: str, window: Window, label: str) -> str:
    """The lines of ``text`` that are asked for, 1,000 by default."""
    every = text.splitlines()
    shown = every[window.offset : window.offset + window.count(1000)]
    if len(shown) == len(every):
        return f"{label}, {len(every):,} line{'s' * (len(every) != 1)}\n\n" + text
    if not shown:
        return f"{label}, {len(every):,} lines; none from {window.offset:,} on"
    last = window.offset + len(shown)
    more = f"; continue with offset={last}" if last < len(every) else ""
    return f"{label}, {len(every):,} lines; lines {window.offset:,} to {last - 1:,}{more}\n\n" + "\n".join(shown)


def excerpt_table(frame: Any, window: Window, label: str) -> str:
    """The rows of a DataFrame that are asked for, 20 by default."""
    return f"{label}, " + format_frame(frame, offset=window.offset, rows=window.count(20))


def import_extra(module: str, what: str) -> Any:
    """A module of the extra ``files``.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} files need {error.name}: pip install 'createagents-nb[files]'", name=error.name
        ) from None
