"""Images and files as bytes: the type and size of an image from its header, and a one-line description."""

from __future__ import annotations

import doctest
import time

import pytest
from family import png
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.core import media
from createagents_nb.core.media import describe_media, image_media_type, image_size

PNG = png(640, 480)
GIF = b"GIF89a\x80\x02\xe0\x01"
EXIF = b"\xff\xe1\x00\x06Exif"
FRAME = b"\xff\xc2\x00\x11\x08\x01\xe0\x02\x80\x03"
JPEG = b"\xff\xd8" + EXIF + FRAME
RIFF = b"RIFF\x20\x00\x00\x00WEBP"
VP8X = RIFF + b"VP8X\x0a\x00\x00\x00" + bytes(4) + b"\x7f\x02\x00\xdf\x01\x00"
VP8L = RIFF + b"VP8L" + bytes(4) + b"\x2f\x7f\xc2\x77\x00" + bytes(8)
VP8 = RIFF + b"VP8 " + bytes(4) + bytes(3) + b"\x9d\x01\x2a\x80\x02\xe0\x01"
IMAGES = {"PNG": PNG, "GIF": GIF, "JPEG": JPEG, "WebP VP8X": VP8X, "WebP VP8L": VP8L, "WebP VP8": VP8}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (b"GIF87a", "image/gif"),
        (RIFF, "image/webp"),
        (b"", None),
        (b"\x89PNG", None),
        (b"\xff\xd8", None),
        (b"GIF88a and so on", None),
        (b"RIFF\x20\x00\x00\x00WAVE", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"%PDF-1.7", None),
        (b" " + PNG, None),
    ],
)
def test_the_media_type_is_that_of_the_first_bytes(data: bytes, media_type: str | None) -> None:
    assert image_media_type(data) == media_type


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_the_size_is_read_from_the_header(data: bytes) -> None:
    assert image_size(data) == (640, 480)


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_a_truncated_header_has_no_size(data: bytes) -> None:
    sizes = [image_size(data[:length]) for length in range(len(data))]
    assert sizes[0] is None
    assert set(sizes) <= {None, (640, 480)}


@pytest.mark.parametrize(
    "data",
    [
        png(0, 480),
        png(640, 0),
        b"GIF89a\x00\x00\xe0\x01",
        b"\xff\xd8" + FRAME[:5] + bytes(4) + b"\x03",
        VP8[:26] + bytes(4),
    ],
)
def test_a_size_of_zero_is_unknown(data: bytes) -> None:
    assert image_media_type(data) is not None
    assert image_size(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7",
        PNG.replace(b"IHDR", b"iHDR"),
        b"\xff\xd8\xff\xc4" + FRAME[2:],  # a table of Huffman codes
        b"\xff\xd8" + EXIF + b"\x00" + FRAME,
        RIFF + b"ALPH" + bytes(18),
        VP8L.replace(b"\x2f", b"\x2e"),
        VP8.replace(b"\x9d\x01\x2a", b"\x9d\x01\x2b"),
    ],
)
def test_a_malformed_header_has_no_size(data: bytes) -> None:
    assert image_size(data) is None


def test_a_jpeg_may_have_metadata_and_padding_before_its_size() -> None:
    thumbnail = b"\xff\xe1\xff\xff" + bytes(65_533)
    assert image_size(b"\xff\xd8" + 20 * thumbnail + b"\xff\xff\xff" + FRAME) == (640, 480)


def test_a_jpeg_of_nothing_but_padding_is_given_up_soon() -> None:
    started = time.process_time()
    assert image_size(b"\xff\xd8" + b"\xff" * 20_000_000) is None
    assert time.process_time() - started < 1


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", RIFF, RIFF + b"VP8 "]), st.binary())
def test_hostile_data_never_raises(start: bytes, rest: bytes) -> None:
    size = image_size(start + rest)
    assert size is None or min(size) > 0
    assert describe_media("image/png", start + rest, "x.png").startswith('<image/png "x.png", ')


@pytest.mark.parametrize(
    ("media_type", "data", "name", "text"),
    [
        ("image/gif", GIF + bytes(24_000), None, "<image/gif, 640 × 480, 24 kB>"),
        ("image/png", bytes(24_000), None, "<image/png, 24 kB>"),
        ("image/gif", GIF, "a.gif", '<image/gif "a.gif", 640 × 480, 10 bytes>'),
        ("application/pdf", bytes(1_200_000), "report.pdf", '<application/pdf "report.pdf", 1.2 MB>'),
        ("application/pdf", None, "report.pdf", '<application/pdf "report.pdf">'),
        ("image/png", None, None, "<image/png>"),
        ("image/png", None, "", "<image/png>"),
        ("text/csv", b"", None, "<text/csv, 0 bytes>"),
        ("text/csv", b"a", None, "<text/csv, 1 byte>"),
        ("text/csv", None, "a\n\x1b[31mb\u202e.csv", '<text/csv "a b.csv">'),
        ("text/csv", None, "x" * 1000, f'<text/csv "{"x" * 99}…">'),
    ],
)
def test_media_is_described_in_one_line(media_type: str, data: bytes | None, name: str | None, text: str) -> None:
    assert describe_media(media_type, data, name) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1049, "1 kB"),
        (1050, "1.1 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (2_000_000, "2 MB"),
        (23_456_789, "23 MB"),
    ],
)
def test_sizes_have_decimal_units(count: int, text: str) -> None:
    assert describe_media("a/b", bytes(count)) == f"<a/b, {text}>"


def test_the_examples_are_right() -> None:
    assert doctest.testmod(media).failed == 0
