"""Making a `ToolDisplay` of a tool's result: the corner of a table, or an image.

The result is copied when the tool returns, so later changes to it do not show. Nothing here imports pandas,
matplotlib or IPython: their objects can only exist if they are loaded already.
"""

from __future__ import annotations

import binascii
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..core.media import image_media_type
from ..core.tool_display import ImageDisplay, TableDisplay, ToolDisplay

__all__ = ["find_image", "make_display", "make_table"]

MAX_TABLE_ROWS = 20
MAX_TABLE_COLUMNS = 20
MAX_INDEX_COLUMNS = 5
MAX_CELL_CHARS = 200

_NON_TEXT_KINDS = "biufcmM"
"""NumPy dtype kinds without text: pandas formats each value of them on one line."""


def make_display(value: Any) -> ToolDisplay | None:
    """Make a table of a DataFrame or Series, or an image of what `find_image` finds; never raises.

    Returns None for anything else and for images that are too large to show.
    """
    image = find_image(value)
    if image is not None:
        return image if image.is_showable else None
    return make_table(value)


# Tables


def make_table(value: Any) -> TableDisplay | None:
    """Copy the corner of a DataFrame or Series; None for anything else, and if reading it fails."""
    pandas = sys.modules.get("pandas")
    try:
        if pandas is None:
            return None
        if isinstance(value, pandas.DataFrame):
            return _make_table(value, pandas)
        if isinstance(value, pandas.Series):
            table = _make_table(value.to_frame("value"), pandas)
            if value.name is None:
                return table
            return replace(table, columns=(*table.columns[:-1], _format_name(value.name, 1)))
        return None
    except Exception:  # a subclass or a cell may raise anything
        return None


def _make_table(frame: Any, pandas: Any) -> TableDisplay:
    index = frame.index
    is_default = isinstance(index, pandas.RangeIndex) and (index.start, index.step, index.name) == (0, 1, None)
    levels = 0 if is_default else min(index.nlevels, MAX_INDEX_COLUMNS)
    part = frame.iloc[:MAX_TABLE_ROWS, : MAX_TABLE_COLUMNS - levels]
    names = ["" if name is None else _format_name(name, 1) for name in part.index.names[:levels]]
    names += [_format_name(name, frame.columns.nlevels) for name in part.columns]
    values = [part.index.get_level_values(level) for level in range(levels)]
    # With the dtype given: an inferred Arrow string dtype would reject lone surrogates.
    columns = [_format_cells(pandas.Series(level, dtype=level.dtype)) for level in values]
    columns += [_format_cells(part.iloc[:, at]) for at in range(part.shape[1])]
    # A frame without columns has no rows here, whatever its length.
    rows = tuple(zip(*columns, strict=True))
    return TableDisplay(tuple(names), rows, len(frame), frame.shape[1], levels)


def _format_name(name: Any, levels: int) -> str:
    return _format_cell(" / ".join(map(str, name)) if levels > 1 else name)


def _format_cells(column: Any) -> list[str]:
    if len(column) and getattr(column.dtype, "kind", "O") in _NON_TEXT_KINDS:
        lines = column.to_string(index=False, header=False).split("\n")
        if len(lines) == len(column):  # a format that the user set may have line breaks
            return [_format_cell(line) for line in lines]
    return [_format_cell(value) for value in column]


def _format_cell(value: Any) -> str:
    try:
        text = "NaN" if isinstance(value, float) and value != value else str(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    line = " ".join(text[: 4 * MAX_CELL_CHARS].split())
    line = line if len(line) <= MAX_CELL_CHARS else line[: MAX_CELL_CHARS - 1] + "…"
    return line if line.isascii() else line.encode("utf-8", "replace").decode("utf-8")


# Images


def find_image(value: Any) -> ImageDisplay | None:
    """Return ``value`` as an image of any size, or None; never raises.

    An image is ``bytes`` of a PNG, JPEG, GIF or WebP file, an `IPython.display.Image` with data, a matplotlib
    figure or axes, or an object with ``_repr_png_`` or ``_repr_jpeg_``, such as Pillow's. Not SVG, which can
    contain scripts.
    """
    fallback = None
    try:
        for data in _image_candidates(value):
            image = _decode_image(data)
            if image is not None and image.is_showable:
                return image
            fallback = fallback or image
    except Exception:  # rendering may raise anything
        return fallback
    return fallback


def _image_candidates(value: Any) -> Iterator[Any]:
    """Yield what may be an image, best first, each rendered only when needed."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        yield bytes(value)
        return
    ipython = sys.modules.get("IPython.display")
    if ipython is not None and isinstance(value, ipython.Image):
        yield value.data
        return
    figure = _find_figure(value)
    if figure is not None:
        file = io.BytesIO()
        # Not through pyplot, whose current figure is shared by all threads.
        figure.savefig(file, format="png", bbox_inches="tight")
        yield file.getvalue()
        return
    for name in ("_repr_png_", "_repr_jpeg_"):
        # Looked up on the class, because an object may have a __getattr__ that returns something for any name.
        draw = getattr(type(value), name, None)
        if callable(draw):
            yield draw(value)


def _find_figure(value: Any) -> Any:
    figures, axes = sys.modules.get("matplotlib.figure"), sys.modules.get("matplotlib.axes")
    if axes is not None and isinstance(value, axes.Axes):  # as returned by `DataFrame.plot`
        value = value.get_figure()
    return value if figures is not None and isinstance(value, figures.Figure) else None


def _decode_image(data: Any) -> ImageDisplay | None:
    if isinstance(data, tuple) and data:  # with metadata
        data = data[0]
    if isinstance(data, str):
        try:
            data = binascii.a2b_base64(data)
        except ValueError:
            return None
    if not isinstance(data, bytes):
        return None
    mime = image_media_type(data)
    return None if mime is None else ImageDisplay(mime, data)
