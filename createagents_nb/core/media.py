"""Images and files as bytes: the type and size of an image from its header, and a one-line description.

No I/O, no decoding of pixels, no dependency. Everything here takes untrusted data and never raises because of it.
"""

from __future__ import annotations

import re

from ..text import one_line

__all__ = ["describe_media", "image_media_type", "image_size", "is_media_type"]

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(;[ -~]{1,200})?", re.ASCII)

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}

_MAX_JPEG_SEGMENTS = 10_000
"""Limit for the search for a JPEG's size. Cameras write fewer than 100; each padding byte counts as one."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that are followed by the size; the three left out are DHT, JPG and DAC."""


def is_media_type(text: str) -> bool:
    """Whether ``text`` is a media type, perhaps with parameters (RFC 6838, section 4.2).

    Example:
        >>> is_media_type("image/png"), is_media_type("png")
        (True, False)
    """
    return _MEDIA_TYPE.fullmatch(text) is not None


def image_media_type(data: bytes) -> str | None:
    """Media type of an image by its first bytes, or None if it is not PNG, JPEG, GIF or WebP.

    Only the signature is checked: the rest of the data may be truncated or broken.

    Example:
        >>> image_media_type(b"GIF89a...")
        'image/gif'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _SIGNATURES.items() if data.startswith(start)), None)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, as the header states them.

    Returns None for data that is not PNG, JPEG, GIF or WebP, for a truncated or malformed header, and for a width
    or height of 0. A hostile file may state any other size.

    Example:
        >>> image_size(b"GIF89a" + bytes([0x40, 1, 0xF0, 0]))
        (320, 240)
    """
    media_type = image_media_type(data)
    size = _SIZE_READERS[media_type](data) if media_type else None
    return size if size is not None and all(size) else None


def describe_media(media_type: str, data: bytes | None, name: str | None = None) -> str:
    """Describe an image or file in one short line, for use in its place in records, logs and plain text.

    Args:
        media_type: such as ``image/png``.
        data: the content; None leaves out its size.
        name: a file name, shown in quotes.

    Example:
        >>> describe_media("image/gif", b"GIF89a" + bytes([0x40, 1, 0xF0, 0]) + bytes(24_000))
        '<image/gif, 320 × 240, 24 kB>'
        >>> describe_media("application/pdf", bytes(1_200_000), "report.pdf")
        '<application/pdf "report.pdf", 1.2 MB>'
    """
    label = one_line(media_type, 100)
    if name:
        label += f' "{one_line(name, 100)}"'
    facts = [label]
    if data is not None:
        size = image_size(data)
        if size is not None:
            facts.append(f"{size[0]} × {size[1]}")
        facts.append(_format_bytes(len(data)))
    return f"<{', '.join(facts)}>"


def _format_bytes(count: int) -> str:
    """Decimal units with two digits or more: ``"1 byte"``, ``"24 kB"``, ``"1.2 MB"``."""
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    value, unit = count / 1e3, "kB"
    for larger in ("MB", "GB"):
        if value < 999.5:  # 999,600 bytes are 1 MB, not 1000 kB
            break
        value, unit = value / 1e3, larger
    digits = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return f"{digits.removesuffix('.0')} {unit}"


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif_size(data: bytes) -> tuple[int, int] | None:
    return (_little_endian(data[6:8]), _little_endian(data[8:10])) if len(data) >= 10 else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        if offset + 9 > len(data) or data[offset] != 0xFF:
            return None
        marker = data[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in _START_OF_FRAME:
            height, width = data[offset + 5 : offset + 7], data[offset + 7 : offset + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8X":
            return _little_endian(data[24:27]) + 1, _little_endian(data[27:30]) + 1
        case b"VP8L" if data[20] == 0x2F:
            bits = _little_endian(data[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return _little_endian(data[26:28]) & 0x3FFF, _little_endian(data[28:30]) & 0x3FFF
    return None


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little")


_SIZE_READERS = {
    "image/png": _png_size,
    "image/gif": _gif_size,
    "image/jpeg": _jpeg_size,
    "image/webp": _webp_size,
}
