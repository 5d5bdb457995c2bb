"""Converting a tool's result to the text that is sent to the model."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from ..core.tool_display import ToolDisplay
from .display import find_image, make_table

__all__ = ["MAX_RESULT_CHARS", "as_text", "format_frame", "text_and_display", "truncate"]

MAX_CELL_CHARS = 300
"""Limit for a cell of a Markdown table, in which every cell is padded to the widest."""

MAX_RESULT_CHARS = 100_000
"""Default limit for the text of one result."""
NO_RESULT = "(the tool returned nothing)"
BLANK_RESULT = "(the tool returned a text without a word)"


def as_text(value: Any, max_chars: int = MAX_RESULT_CHARS) -> str:
    """Convert a tool's result to text; never raises.

    Strings stay as they are; tables become Markdown, structures JSON, anything else ``str()``. An image becomes a
    note with its type and size, and whether the user sees it.

    Args:
        value: the result.
        max_chars: limit for the text; a note follows text that is cut.

    Example:
        >>> as_text({"a": (1, 2)})
        '{"a": [1, 2]}'
    """
    return text_and_display(value, max_chars)[0]


def text_and_display(value: Any, max_chars: int = MAX_RESULT_CHARS) -> tuple[str, ToolDisplay | None]:
    """Return what `as_text` and `make_display` return, rendering an image only once."""
    image = find_image(value)
    if image is not None:
        note = "shown to the user" if image.is_showable else "too large to be shown to the user"
        return truncate(f"<{image}; {note}>", max_chars), image if image.is_showable else None
    try:
        text = _to_text(value)
    except Exception:  # the value's __str__ or __repr__ may raise anything
        text = f"<{type(value).__name__}>"
    return truncate(text, max_chars), make_table(value)


def truncate(text: str, max_chars: int = MAX_RESULT_CHARS) -> str:
    """Cut ``text`` to ``max_chars``, followed by a note, and make it encodable as UTF-8."""
    if type(text) is not str:  # a subclass may override methods
        text = str.__str__(text)
    if len(text) > max_chars:
        text = f"{text[:max_chars]}\n… [cut: the first {max_chars:,} of {len(text):,} characters]"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def format_frame(
    frame: Any, *, offset: int = 0, rows: int = 20, total: int | None = None, max_columns: int = 40
) -> str:
    """Format a DataFrame as its shape, dtypes and some rows in Markdown.

    Args:
        frame: the DataFrame, or the part of it that starts at ``offset`` if ``total`` is given.
        offset: number of the first row to show, from 0.
        rows: maximum number of rows to show.
        total: rows of the whole table, if ``frame`` is a part of it.
        max_columns: maximum number of columns to show.
    """
    part = frame.iloc[offset : offset + rows] if total is None else frame.iloc[:rows]
    total = len(frame) if total is None else total
    lines = [f"{total:,} rows × {frame.shape[1]:,} columns"]
    names = [f"{column}: {dtype}" for column, dtype in zip(frame.columns, frame.dtypes, strict=True)]
    more = f" and {len(names) - max_columns:,} more columns, not shown" if len(names) > max_columns else ""
    lines.append(f"dtypes: {', '.join(names[:max_columns]) or 'none'}{more}")
    if len(part) < total:
        lines.append(
            f"rows {offset:,} to {offset + len(part) - 1:,}:" if len(part) else f"no rows from {offset:,}"
        )
    part = part.iloc[:, :max_columns]
    return "\n".join(lines) + ("\n\n" + _to_markdown(part) if len(part) else "")


def _to_markdown(frame: Any) -> str:
    cells = frame.map(_shorten_cell)
    cells.index = cells.index.map(_shorten_cell)
    cells.columns = [_shorten_cell(str(column)) for column in cells.columns]
    return str(cells.to_markdown(disable_numparse=True))  # "007" stays "007"


def _shorten_cell(value: Any) -> Any:
    # Line breaks and bars in a cell would break the table.
    if not isinstance(value, str):
        return value
    text = " ".join(value[: 4 * MAX_CELL_CHARS].split())
    text = text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
    return text.replace("|", "\\|")


def _to_text(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str(value)
    if value is None:
        return NO_RESULT
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = value if isinstance(value, bytes | bytearray) else bytes(value)
        return f"<{len(data):,} bytes, starting with {data[:16].hex()}>" if data else "<0 bytes>"
    pandas = sys.modules.get("pandas")  # without it loaded, the value cannot be a DataFrame
    if pandas is not None:
        if isinstance(value, pandas.DataFrame):
            return "DataFrame, " + format_frame(value)
        if isinstance(value, pandas.Series):
            return "Series, " + format_frame(value.to_frame(value.name if value.name is not None else "value"))
    if not (_is_structure(value) or isinstance(value, (Mapping, list, tuple, set, frozenset))):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=_to_jsonable)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _is_structure(value: Any) -> bool:
    return not isinstance(value, type) and (
        dataclasses.is_dataclass(value) or callable(getattr(value, "model_dump", None))
    )


def _to_jsonable(value: Any) -> Any:
    """Convert one level to JSON types, for `json.dumps`, which then detects cycles."""
    if not isinstance(value, type):
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if callable(getattr(value, "model_dump", None)):
            return value.model_dump(mode="json")
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return _to_text(value)
    if type(value).__module__ == "numpy" and callable(getattr(value, "tolist", None)):
        return value.tolist()
    return _to_text(value)
