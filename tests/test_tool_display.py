"""What a tool returned, as it may be shown: the corner of a table, an image of a known kind, and nothing else."""

from __future__ import annotations

import base64
import sys
from datetime import date
from types import ModuleType
from typing import Any

import IPython.display
import numpy as np
import pandas as pd
import pytest
from family import png

from createagents_nb import ToolExecutor, tool
from createagents_nb.core.tool_display import ImageDisplay, TableDisplay
from createagents_nb.tools.display import make_display
from createagents_nb.tools.executor import ToolExecutionResult
from createagents_nb.tools.result_text import as_text

JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x11\x08\x01\xe0\x02\x80\x03" + bytes(20)
GIF = b"GIF89a\x40\x01\xf0\x00" + bytes(10)
WEBP = b"RIFF\x20\x00\x00\x00WEBP"


def table(value: Any) -> TableDisplay:
    shown = make_display(value)
    assert isinstance(shown, TableDisplay)
    return shown


def image(value: Any) -> ImageDisplay:
    shown = make_display(value)
    assert isinstance(shown, ImageDisplay)
    return shown


# Tables


def test_a_table_is_its_names_and_its_cells_as_pandas_writes_them() -> None:
    frame = pd.DataFrame(
        {
            "x": [0.1 + 0.2, float("nan"), -1.0],
            "n": [1, 2, 3],
            "day": pd.to_datetime(["2026-01-01", "2026-01-02", None]),
            "text": ["a\n b", None, "ç"],
            "yes": [True, False, True],
            "many": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    shown = table(frame)
    assert shown.columns == ("x", "n", "day", "text", "yes", "many")
    assert shown.rows[0] == ("0.3", "1", "2026-01-01", "a b", "True", "1")
    assert shown.rows[1][:3] == ("NaN", "2", "2026-01-02")
    assert shown.rows[1][3] in ("None", "NaN")  # pandas 2 and 3 differ
    assert shown.rows[1][5] == "<NA>"
    assert shown.rows[2][2] == "NaT"
    assert (shown.total_rows, shown.total_columns, shown.index_columns) == (3, 6, 0)


def test_a_table_is_cut_at_20_rows_20_columns_and_200_characters() -> None:
    frame = pd.DataFrame([[f"{row}-{column}" for column in range(30)] for row in range(1000)])
    frame.iloc[0, 0] = "x" * 100_000
    shown = table(frame)
    assert (len(shown.columns), len(shown.rows), len(shown.rows[0])) == (20, 20, 20)
    assert (shown.total_rows, shown.total_columns) == (1000, 30)
    assert shown.rows[0][0] == "x" * 199 + "…"
    assert shown.rows[19][19] == "19-19"
    with_index = table(frame.set_index(29))
    assert (len(with_index.columns), with_index.index_columns, with_index.total_columns) == (20, 1, 29)


@pytest.mark.parametrize(
    ("index", "columns", "first"),
    [
        (pd.RangeIndex(2), ("a",), ("5",)),
        (pd.RangeIndex(2, name="id"), ("id", "a"), ("0", "5")),
        (pd.RangeIndex(998, 1000), ("", "a"), ("998", "5")),
        (pd.Index(["x", "y"]), ("", "a"), ("x", "5")),
        (pd.Index([float("nan"), 1.0]), ("", "a"), ("NaN", "5")),
        (pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None]), ("k", "", "a"), ("x", "1", "5")),
    ],
)
def test_the_index_is_shown_unless_it_only_counts(index: Any, columns: Any, first: Any) -> None:
    shown = table(pd.DataFrame({"a": [5, 6]}, index=index))
    assert shown.columns == columns
    assert shown.rows[0] == first
    assert shown.index_columns == len(columns) - 1


def test_names_in_several_levels_are_one_name_and_may_be_there_twice() -> None:
    levels = pd.MultiIndex.from_tuples([("speed", "mean"), ("speed", 2)])
    assert table(pd.DataFrame([[1, 2]], columns=levels)).columns == ("speed / mean", "speed / 2")
    twice = table(pd.DataFrame([[1, "b"]], columns=["a", "a"]))
    assert (twice.columns, twice.rows) == (("a", "a"), (("1", "b"),))


def test_a_series_is_a_table_of_one_column() -> None:
    counts = table(pd.Series({"Oslo": 3, "Rio": 4}, name="n"))
    assert (counts.columns, counts.rows) == (("", "n"), (("Oslo", "3"), ("Rio", "4")))
    assert table(pd.Series([1.5])).columns == ("value",)


@pytest.mark.parametrize(
    ("frame", "columns", "total"),
    [
        (pd.DataFrame(), (), (0, 0)),
        (pd.DataFrame(columns=["a"]), ("a",), (0, 1)),
        (pd.DataFrame(index=range(3)), (), (3, 0)),
    ],
)
def test_a_table_may_be_empty(frame: pd.DataFrame, columns: Any, total: Any) -> None:
    shown = table(frame)
    assert (shown.columns, shown.rows, (shown.total_rows, shown.total_columns)) == (columns, (), total)


def test_cells_that_resist_are_named_by_their_type() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    shown = table(pd.DataFrame({"a": [Hostile(), np.arange(3), "half \ud83d"], Hostile(): [1, 2, 3]}))
    assert [row[0] for row in shown.rows] == ["<Hostile>", "[0 1 2]", "half ?"]
    assert shown.columns == ("a", "<Hostile>")


def test_a_format_of_the_users_own_is_used_where_it_fits_a_cell() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    with pd.option_context("display.float_format", "{:.3f} m".format):
        assert table(frame).rows == (("1.000 m",), ("2.000 m",))
    with pd.option_context("display.float_format", "{:.0f}\nm".format):
        assert table(frame).rows == (("1.0",), ("2.0",))


# Images


class Drawing:
    """Draws itself as Pillow's images do."""

    def __init__(self, as_png: Any = None, as_jpeg: Any = None) -> None:
        self.files = (as_png, as_jpeg)

    def _repr_png_(self) -> Any:
        return self.files[0]

    def _repr_jpeg_(self) -> Any:
        return self.files[1]


@pytest.mark.parametrize(
    ("value", "mime", "data"),
    [
        (png(), "image/png", png()),
        (bytearray(JPEG), "image/jpeg", JPEG),
        (memoryview(GIF), "image/gif", GIF),
        (WEBP, "image/webp", WEBP),
        (IPython.display.Image(data=png()), "image/png", png()),
        (Drawing(png()), "image/png", png()),
        (Drawing(None, JPEG), "image/jpeg", JPEG),
        (Drawing((png(), {"width": 1})), "image/png", png()),
        (Drawing(base64.b64encode(png()).decode()), "image/png", png()),
        (Drawing(JPEG), "image/jpeg", JPEG),
    ],
)
def test_images_of_every_kind_are_shown_as_what_their_first_bytes_say(value: Any, mime: str, data: bytes) -> None:
    assert image(value) == ImageDisplay(mime, data)


def test_a_figure_draws_itself_without_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    class Figure:
        def savefig(self, file: Any, *, format: str, **more: Any) -> None:  # noqa: A002 - matplotlib's name
            assert format == "png"
            file.write(png(3, 2))

    class Axes:
        def __init__(self, figure: Figure) -> None:
            self.figure = figure

        def get_figure(self) -> Figure:
            return self.figure

    figures, axes = ModuleType("matplotlib.figure"), ModuleType("matplotlib.axes")
    figures.Figure, axes.Axes = Figure, Axes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", figures)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", axes)
    assert image(Figure()).size == (3, 2)
    assert image(Axes(Figure())).size == (3, 2)
    assert as_text(Figure()) == f"<image/png, 3 × 2 pixels, {len(png(3, 2))} bytes; shown to the user>"


@pytest.mark.parametrize(
    "value",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\x89PNG",
        b"",
        b"GIF88a and so on",
        b"RIFF\x20\x00\x00\x00WAVE",
        "\x89PNG\r\n\x1a\n",
        IPython.display.SVG("<svg xmlns='http://www.w3.org/2000/svg'/>"),
        IPython.display.Image(url="https://x.example/p.png"),
        Drawing(b"<svg/>", "no base64 !"),
        Drawing,
        {"a": png()},
        None,
        7,
        date(2026, 1, 2),
    ],
)
def test_what_is_no_image_is_not_shown_as_one(value: Any) -> None:
    assert make_display(value) is None


def test_drawing_that_fails_is_no_image() -> None:
    class Failing:
        def _repr_png_(self) -> bytes:
            raise RuntimeError("no display")

    class AnswersToAll:
        def __getattr__(self, name: str) -> Any:
            return lambda: png()

    assert make_display(Failing()) is None
    assert make_display(AnswersToAll()) is None


def test_an_image_is_not_shown_beyond_2_mb_or_50_million_pixels() -> None:
    huge = png(10_000, 10_000)
    assert make_display(huge) is None
    assert as_text(huge).endswith("bytes; too large to be shown to the user>")
    heavy = png(2, 2) + bytes(2_000_000)
    assert make_display(heavy) is None
    assert make_display(Drawing(heavy, JPEG)) == ImageDisplay("image/jpeg", JPEG)


@pytest.mark.parametrize(("mime", "data"), [("image/svg+xml", b"<svg/>"), ("image/png", JPEG), ("image/png", b"")])
def test_an_image_cannot_be_made_of_another_kind_than_it_says(mime: str, data: bytes) -> None:
    with pytest.raises(ValueError, match="begins as such"):
        ImageDisplay(mime, data)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(640, 480), (640, 480)),
        (GIF, (320, 240)),
        (JPEG, (640, 480)),
        (WEBP + b"VP8X\x0a\x00\x00\x00" + bytes(4) + b"\x7f\x02\x00\xdf\x01\x00", (640, 480)),
        (WEBP + b"VP8L" + bytes(4) + b"\x2f\x7f\xc2\x77\x00" + bytes(8), (640, 480)),
        (WEBP + b"VP8 " + bytes(4) + bytes(3) + b"\x9d\x01\x2a\x80\x02\xe0\x01", (640, 480)),
        (png()[:20], None),
        (GIF[:8], None),
        (JPEG[:6], None),
        (b"\xff\xd8\xff\xc0\x00\x00", None),
        (WEBP, None),
    ],
)
def test_the_size_in_pixels_is_read_from_the_header(data: bytes, size: Any) -> None:
    assert image(data).size == size


def test_the_model_is_told_what_the_image_is() -> None:
    data = png(640, 480)
    assert as_text(data) == f"<image/png, 640 × 480 pixels, {len(data):,} bytes; shown to the user>"
    assert as_text(WEBP) == "<image/webp, 12 bytes; shown to the user>"


def test_an_image_does_not_print_its_bytes() -> None:
    assert repr(ImageDisplay("image/png", png())) == "ImageDisplay(mime='image/png')"


# In an execution


@pytest.mark.asyncio
async def test_an_execution_carries_what_is_shown_as_it_was_when_the_tool_returned() -> None:
    frame = pd.DataFrame({"a": [1, 2]})

    @tool
    def rows() -> pd.DataFrame:
        """The rows."""
        return frame

    @tool
    async def later() -> pd.DataFrame:
        """The rows, later."""
        return frame

    for made in (rows, later):
        outcome = await ToolExecutor().execute(made, {})
        frame.loc[0, "a"] = 99
        assert outcome.display == TableDisplay(("a",), (("1",), ("2",)), 2, 1)
        frame.loc[0, "a"] = 1


@pytest.mark.asyncio
async def test_text_and_failures_have_nothing_more_to_show() -> None:
    @tool
    def text() -> str:
        """Text."""
        return "text"

    executor = ToolExecutor()
    assert (await executor.execute(text, {})).display is None
    assert (await executor.execute(text, {"x": 1})).display is None
    assert ToolExecutionResult(success=False, error="no").display is None


@pytest.mark.asyncio
async def test_an_image_is_drawn_once() -> None:
    class Counting(Drawing):
        drawn = 0

        def _repr_png_(self) -> bytes:
            type(self).drawn += 1
            return png()

    @tool
    def plot() -> Counting:
        """A plot."""
        return Counting()

    outcome = await ToolExecutor().execute(plot, {})
    assert outcome.display == ImageDisplay("image/png", png())
    assert Counting.drawn == 1


def test_a_result_made_by_hand_has_its_display_too() -> None:
    assert ToolExecutionResult(success=True, result=png()).display == ImageDisplay("image/png", png())
    assert ToolExecutionResult(success=True, result=png(), text="a plot").display is None


def test_the_core_looks_for_pandas_only_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": [1]})
    monkeypatch.delitem(sys.modules, "pandas")
    assert make_display(frame) is None
