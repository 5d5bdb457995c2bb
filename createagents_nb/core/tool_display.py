"""The display of a tool's result beside its text: a small table of strings, or an image.

Values are immutable copies without pandas, matplotlib or IPython; `tools.display` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .media import image_media_type, image_size

__all__ = ["ImageDisplay", "TableDisplay", "ToolDisplay"]

MAX_IMAGE_BYTES = 2_000_000
"""Limit for an image that is shown: it is stored in the notebook."""

MAX_IMAGE_PIXELS = 50_000_000
"""Limit for an image that is shown: a small file can decode to more than a browser's memory."""


@dataclass(frozen=True, slots=True)
class TableDisplay:
    """The upper left corner of a table: at most 20 rows and 20 columns, including the index.

    Attributes:
        columns: column names, index levels first (``""`` for an unnamed level).
        rows: cells as text, each one line of at most 200 characters; as untrusted as the data.
        total_rows: rows of the whole table.
        total_columns: columns of the whole table, without the index.
        index_columns: number of leading ``columns`` that are index levels; 0 for a default index (0, 1, 2, …).
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total_rows: int
    total_columns: int
    index_columns: int = 0


@dataclass(frozen=True, slots=True)
class ImageDisplay:
    """An image file whose signature matches its media type.

    Attributes:
        mime: ``image/png``, ``image/jpeg``, ``image/gif`` or ``image/webp``.
        data: content of the file.

    Raises:
        ValueError: ``mime`` is none of these, or ``data`` has another signature.
    """

    mime: str
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if image_media_type(self.data) != self.mime:
            raise ValueError(f"This is no {self.mime}: an image is PNG, JPEG, GIF or WebP and begins as such")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels according to the header; None if unknown."""
        return image_size(self.data)

    @property
    def is_showable(self) -> bool:
        """Whether it has at most 2 MB, and at most 50 million pixels if its size is known."""
        width, height = self.size or (0, 0)
        return len(self.data) <= MAX_IMAGE_BYTES and width * height <= MAX_IMAGE_PIXELS

    def __str__(self) -> str:
        """``"image/png, 640 × 480 pixels, 23,004 bytes"``."""
        pixels = f"{self.size[0]:,} × {self.size[1]:,} pixels, " if self.size else ""
        return f"{self.mime}, {pixels}{len(self.data):,} bytes"


ToolDisplay: TypeAlias = TableDisplay | ImageDisplay
"""Any display of a tool's result."""
