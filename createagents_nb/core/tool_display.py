"""What a tool returned, as it may be shown: a small table of short strings, or an image of a known kind.

Copied when the tool returns, so that what its owner does with it later does not show. Nothing here imports pandas,
matplotlib or IPython: a value of theirs can only come from a module that is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .media import IMAGE_SIZES, image_kind

__all__ = ["ImageDisplay", "TableDisplay", "ToolDisplay"]

MAX_IMAGE_BYTES = 2_000_000


MAX_IMAGE_PIXELS = 50_000_000
"""A small file may hold a picture that fills the browser's memory."""


@dataclass(frozen=True, slots=True)
class TableDisplay:
    """The upper left corner of a table: at most 20 rows and 20 columns, the index included.

    Attributes:
        columns: the names, those of the index first (``""`` where a level of it has none).
        rows: the cells, on one line of at most 200 characters each, and as hostile as the data.
        total_rows: of the whole table.
        total_columns: of the whole table, the index not counted.
        index_columns: how many of ``columns`` are the index; 0 where it only counts the rows from 0.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total_rows: int
    total_columns: int
    index_columns: int = 0


@dataclass(frozen=True, slots=True)
class ImageDisplay:
    """A picture whose first bytes are those of its kind.

    Attributes:
        mime: ``image/png``, ``image/jpeg``, ``image/gif`` or ``image/webp``.
        data: the file.

    Raises:
        ValueError: another kind, or data of another kind than ``mime`` says.
    """

    mime: str
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if image_kind(self.data) != self.mime:
            raise ValueError(f"This is no {self.mime}: an image is PNG, JPEG, GIF or WebP and begins as such")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, as the header says it; None where it does not."""
        size = IMAGE_SIZES[self.mime](self.data)
        return size if size is not None and all(size) else None

    @property
    def is_showable(self) -> bool:
        """At most 2 MB, and 50 million pixels where the size is known."""
        width, height = self.size or (0, 0)
        return len(self.data) <= MAX_IMAGE_BYTES and width * height <= MAX_IMAGE_PIXELS

    def __str__(self) -> str:
        """``"image/png, 640 × 480 pixels, 23,004 bytes"``."""
        pixels = f"{self.size[0]:,} × {self.size[1]:,} pixels, " if self.size else ""
        return f"{self.mime}, {pixels}{len(self.data):,} bytes"


ToolDisplay: TypeAlias = TableDisplay | ImageDisplay
