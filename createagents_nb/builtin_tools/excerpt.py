"""Excerpts of files: the rows or lines to show, and limits for the tables that are parsed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ..tools.result_text import format_frame

__all__ = ["MAX_CELLS", "MAX_CHARS", "MAX_COLUMNS", "Window", "excerpt_lines", "excerpt_table", "import_extra"]

MAX_COLUMNS = 10_000
"""Limit for the columns of a table."""

MAX_CELLS = 20_000_000
"""Limit for rows × columns: cells missing in a file are filled in, so a small file can be a large table."""

MAX_CHARS = 200_000_000
"""Limit for the text of all cells: a file may store a text once and use it in every cell."""


@dataclass(frozen=True, slots=True)
class Window:
    """The rows or lines to show: ``rows`` or a default number from ``offset`` on, at most ``max_rows``."""

    offset: int
    rows: int | None
    max_rows: int

    def count(self, default: int) -> int:
        return min(self.rows or default, self.max_rows)


def excerpt_lines(text: str, window: Window, label: str) -> str:
    """Show the lines of ``text`` in ``window``, by default 1,000."""
    lines = text.splitlines()
    shown = lines[window.offset : window.offset + window.count(1000)]
    if len(shown) == len(lines):
        return f"{label}, {len(lines):,} line{'s' * (len(lines) != 1)}\n\n" + text
    if not shown:
        return f"{label}, {len(lines):,} lines; none from {window.offset:,} on"
    end = window.offset + len(shown)
    more = f"; continue with offset={end}" if end < len(lines) else ""
    return f"{label}, {len(lines):,} lines; lines {window.offset:,} to {end - 1:,}{more}\n\n" + "\n".join(shown)


def excerpt_table(frame: Any, window: Window, label: str) -> str:
    """Show the rows of a DataFrame in ``window``, by default 20."""
    return f"{label}, " + format_frame(frame, offset=window.offset, rows=window.count(20))


def import_extra(module: str, what: str) -> Any:
    """Import a module of the extra ``files``.

    Raises:
        ModuleNotFoundError: not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} files need {error.name}: pip install 'createagents-nb[files]'", name=error.name
        ) from None
