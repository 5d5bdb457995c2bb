"""Figure, colors, legends and labels shared by all charts.

Figures do not belong to pyplot, so that no state is kept between charts and no backend shows one twice. Names come
from models and servers, so they are drawn as text, never as TeX.
"""

from __future__ import annotations

import io
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from ..errors import ConfigurationError
from ..text import one_line

try:
    import matplotlib.dates
    from matplotlib import style
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.transforms import Bbox
except ModuleNotFoundError as error:
    raise ConfigurationError("Charts need Matplotlib: pip install 'createagents-nb[plot]'") from error

__all__ = [
    "BLUE",
    "CHAR_IN",
    "EDGE",
    "ORANGE",
    "PALE",
    "SAND",
    "SKY",
    "SMALL",
    "WIDTH_IN",
    "Chart",
    "add_legend",
    "area_key",
    "dates",
    "drawable_name",
    "empty_chart",
    "escape_dollars",
    "label_rows",
    "line_key",
    "matplotlib_defaults",
    "new_chart",
    "plural",
    "set_title",
    "width",
]

dates: Final[Any] = matplotlib.dates  # it has no types

WIDTH_IN: Final = 10.0
SMALL: Final = 8
CHAR_IN: Final = 0.62 * SMALL / 72
"""Average width of a character of small text."""

# Okabe and Ito's colors, which are distinct for color-blind readers.
BLUE, SKY, PALE, ORANGE, SAND = "#0072B2", "#8CC9EE", "#D6ECF9", "#E69F00", "#F7DFA8"
EDGE: Final = "#333333"

# DejaVu Sans, which comes with Matplotlib, has no East Asian letters.
_EAST_ASIAN: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
)


@cache
def _fonts() -> list[str]:
    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _EAST_ASIAN if name in installed)]


@contextmanager
def matplotlib_defaults() -> Iterator[None]:
    """Use Matplotlib's defaults whatever style is set: legible on white, without LaTeX."""
    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+|Matplotlib currently does not support")
        matplotlib.rcParams["font.family"] = _fonts()
        yield


class Chart(Figure):
    """A figure on white that is displayed as a cell's value, with or without an inline backend."""

    @matplotlib_defaults()
    def draw(self, renderer: RendererBase) -> None:
        super().draw(renderer)

    @matplotlib_defaults()
    def get_tightbbox(self, renderer: RendererBase | None = None, *, bbox_extra_artists: Any = None) -> Bbox:
        return super().get_tightbbox(renderer, bbox_extra_artists=bbox_extra_artists)

    @matplotlib_defaults()
    def savefig(self, fname: Any, **kwargs: Any) -> None:
        super().savefig(fname, **kwargs)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def _repr_html_(self) -> None:
        """None, so that the PNG is shown."""


def new_chart(height_in: float) -> tuple[Chart, Axes]:
    """An empty chart of the given height in inches, and its axes."""
    chart = Chart(figsize=(WIDTH_IN, height_in), layout="constrained", facecolor="white")
    axes = chart.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    return chart, axes


def empty_chart(text: str) -> Chart:
    """A chart without data that shows why."""
    chart, axes = new_chart(1.6)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#444444")
    return chart


def set_title(axes: Axes, text: str, *notes: str) -> None:
    """Set the title, with non-empty notes in parentheses."""
    text += f" ({'; '.join(filter(None, notes))})" if any(notes) else ""
    axes.set_title("\n".join(textwrap.wrap(text, 80)), fontsize=11)


def label_rows(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Label the rows at the left."""
    axes.set_yticks(places, labels, fontsize=SMALL)
    axes.tick_params(axis="y", length=0)


def add_legend(chart: Chart, keys: Sequence[Artist]) -> None:
    """Add a legend below the chart, with as many columns as fit."""
    if keys:
        widest = max(width(str(key.get_label())) for key in keys) + 6
        columns = min(4, max(1, int(WIDTH_IN / (widest * CHAR_IN))))
        chart.legend(handles=keys, loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL)


def area_key(label: str, color: str, hatch: str | None = None, edge: str = EDGE) -> Artist:
    """Legend key of a filled area."""
    return Patch(facecolor=color, edgecolor=edge, hatch=hatch, label=label)


def line_key(label: str, color: str, marker: str = "", **look: Any) -> Artist:
    """Legend key of a line, or of a marker alone if one is given."""
    return Line2D([], [], color=color, marker=marker, linestyle="none" if marker else "-", label=label, **look)


def drawable_name(text: str | None, limit: int = 26) -> str:
    """A name ready to be drawn: on one line, shortened, with dollar signs escaped."""
    line = one_line(text or "", limit)
    if width(line) > limit:
        while width(line) >= limit:
            line = line[:-1]
        line += "…"
    return escape_dollars(line)


def width(text: str) -> int:
    """Width in characters; East Asian ones count twice."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)


def escape_dollars(text: str) -> str:
    """``text`` with dollar signs escaped, so that they begin no formula."""
    return text.replace("$", r"\$")


def plural(count: int, noun: str) -> str:
    """``1 call``, ``1,000 calls``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
