"""Charts of the recorder's frames: what ran beside what, and latency, tokens and cost by model.

They are drawn without pyplot, so that nothing is kept between two charts and no backend shows one twice. Names
come from models and servers: here they are text, never TeX.
"""

from __future__ import annotations

import io
import math
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from createagents_nb.clean_text import one_line
from createagents_nb.errors import ConfigurationError

from .call_details import STATUS_WORDS, dollars, seconds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["KINDS", "MAX_CALLS", "MAX_MODELS", "plot", "timeline"]

KINDS: Final = ("latency", "tokens", "cost")
"""What `plot` can show."""
MAX_CALLS: Final = 40
"""So many calls are drawn in a timeline, the last ones."""
MAX_MODELS: Final = 12
"""So many models are drawn, those with most calls."""

_MAX_ROWS: Final = 120
_MAX_TOOL_ROWS: Final = 30
_MAX_POINTS: Final = 400
_MAX_STEPS: Final = 2_000
_MAX_NAME_CHARS: Final = 26

_WIDTH_IN: Final = 10.0
_ROW_IN: Final = 0.21
_SMALL: Final = 8
_CHAR_IN: Final = 0.62 * _SMALL / 72
"""A character of small text, on average."""

# Okabe and Ito's colours, which those who do not tell red from green tell apart.
_BLUE, _SKY, _PALE, _ORANGE, _SAND = "#0072B2", "#8CC9EE", "#D6ECF9", "#E69F00", "#F7DFA8"
_LINES: Final = (
    (_BLUE, "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    (_ORANGE, (0, (6, 1)), "v"),
    ("#56B4E9", (0, (3, 1, 1, 1)), "P"),
    ("#666666", (0, (1, 3)), "X"),
)
_CALL, _EDGE = "#EEEEEE", "#333333"
_HATCHES: Final = {"cancelled": "////", **dict.fromkeys(("error", "timeout"), "xxxx")}
_HATCHES.update(dict.fromkeys(("unknown_tool", "invalid_arguments"), "xxxx"))

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


def timeline(
    calls: pd.DataFrame,
    requests: pd.DataFrame,
    tools: pd.DataFrame,
    call_ids: Iterable[str] | None = None,
    *,
    now: datetime | None = None,
) -> Figure:
    """What ran when: a lane a call, with a bar for each request and each tool, over seconds since the first start.

    Of each request, the time until the first token is told apart from the time after it. What is running ends now,
    with an open end.

    Args:
        calls, requests, tools: the frames of a recorder.
        call_ids: calls to draw; default all. Of more than 40, the last 40 are drawn, or fewer if they have many
            tools.
        now: default the clock's.

    Returns:
        A Matplotlib figure of one axes: ``figure.axes[0].set_title(…)``, ``figure.savefig("calls.pdf")``. It does
        not belong to pyplot.

    Raises:
        ConfigurationError: no call has such an id, or Matplotlib is missing.

    Example:
        >>> timeline(recorder.calls, recorder.requests, recorder.tools, recorder.calls.call_id.tail(3))
    """
    _need_matplotlib()
    chosen = _chosen(calls, call_ids)
    if chosen.empty:
        return _message("no calls yet")
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    starts = _lanes(chosen, requests, tools, moment)
    if not starts:
        return _message("no call has a known start")
    lanes, scale = _laid_out(starts)
    return _draw_timeline(lanes, scale, len(chosen))


def plot(calls: pd.DataFrame, kind: str = "latency") -> Figure:
    """Calls in numbers, by model.

    Args:
        calls: the frame of a recorder.
        kind: ``"latency"``: the latency of each call, and the time to its first token, in seconds, with their
            quartiles. ``"tokens"``: input and output tokens, of which cached and reasoning. ``"cost"``: US dollars
            added up over time.

    Returns:
        A Matplotlib figure of one axes, as `timeline` does.

    Raises:
        ConfigurationError: the kind is none of these, or Matplotlib is missing.

    Example:
        >>> plot(recorder.calls, "cost")
    """
    if kind not in KINDS:
        raise ConfigurationError(f"No chart of kind {kind!r}; available: {', '.join(KINDS)}")
    _need_matplotlib()
    if calls.empty:
        return _message("no calls yet")
    draw = {"latency": _draw_latency, "tokens": _draw_tokens, "cost": _draw_cost}[kind]
    with _own_look():
        return draw(calls)


# Figures


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError("Charts need Matplotlib: pip install 'createagents-nb[plot]'") from error


@cache
def _chart_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class Chart(Figure):
        """A figure that shows itself as a cell's value, with or without an inline backend, on white."""

        def draw(self, renderer: RendererBase) -> None:
            with _own_look():
                super().draw(renderer)

        def get_tightbbox(self, renderer: RendererBase | None = None, *, bbox_extra_artists: Any = None) -> Bbox:
            with _own_look():
                return super().get_tightbbox(renderer, bbox_extra_artists=bbox_extra_artists)

        def savefig(self, fname: Any, **kwargs: Any) -> None:
            with _own_look():
                super().savefig(fname, **kwargs)

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

        def _repr_html_(self) -> None:
            """None: the picture is the PNG."""

        def __reduce__(self) -> tuple[Any, ...]:
            return _blank_chart, (), self.__getstate__()

    return Chart


def _blank_chart() -> Figure:
    cls = _chart_class()
    return cls.__new__(cls)


@contextmanager
def _own_look() -> Iterator[None]:
    """Matplotlib's defaults whatever style is set: legible on white, and no name goes through LaTeX."""
    import matplotlib
    from matplotlib import style

    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+|Matplotlib currently does not support")
        matplotlib.rcParams["font.family"] = _fonts()
        yield


@cache
def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _EAST_ASIAN if name in installed)]


def _new(height_in: float) -> tuple[Figure, Axes]:
    figure = _chart_class()(figsize=(_WIDTH_IN, height_in), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    return figure, axes


def _message(text: str) -> Figure:
    with _own_look():
        figure, axes = _new(1.6)
        axes.set_axis_off()
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#444444")
        return figure


def _title(axes: Axes, title: str, *notes: str) -> None:
    text = title + (f" ({'; '.join(filter(None, notes))})" if any(notes) else "")
    axes.set_title("\n".join(textwrap.wrap(text, 80)), fontsize=11)


def _legend(figure: Figure, handles: Sequence[Artist]) -> None:
    if handles:
        widest = max(_width(str(handle.get_label())) for handle in handles) + 6
        columns = min(4, max(1, int(_WIDTH_IN / (widest * _CHAR_IN))))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=_SMALL)


def _name(text: object, limit: int = _MAX_NAME_CHARS) -> str:
    """A name as it may be drawn: on one line, short, and with dollars that begin no formula."""
    line = one_line(text if isinstance(text, str) else "", limit)
    if _width(line) > limit:
        while _width(line) >= limit:
            line = line[:-1]
        line += "…"
    return _literal(line)


def _width(text: str) -> int:
    """In characters, of which East Asian ones count twice."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)


def _literal(text: str) -> str:
    return text.replace("$", r"\$")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# Values of frames


def _rows(frame: pd.DataFrame, *columns: str) -> list[dict[str, Any]]:
    """Rows with None where a value is not known."""
    values = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """As floats; NaN where it is not known or not finite."""
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _times(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    return pd.to_datetime(column, utc=True, errors="coerce")


def _chosen(calls: pd.DataFrame, call_ids: Iterable[str] | None) -> pd.DataFrame:
    if call_ids is None:
        return calls
    wanted = {call_ids} if isinstance(call_ids, str) else set(call_ids)
    chosen = calls[calls["call_id"].isin(list(wanted))]
    if unknown := wanted - set(chosen["call_id"]):
        some = ", ".join(one_line(str(each), 40) for each in sorted(unknown, key=str)[:3])
        raise ConfigurationError(f"No call {some}: recorder.calls has the ids, in its column call_id")
    return chosen


# Timeline


@dataclass(frozen=True, slots=True)
class _Bar:
    """Times are in seconds since the first start."""

    start: float
    end: float
    status: str
    name: str
    first_token: float | None = None
    is_open: bool = False

    @property
    def text(self) -> str:
        return self.name if self.status == "ok" else f"{self.name} · {_word(self.status)}"


@dataclass(frozen=True, slots=True)
class _Lane:
    label: str
    span: _Bar
    requests: Sequence[_Bar]
    tools: Sequence[_Bar]
    tool_rows: Sequence[Sequence[_Bar]] = field(default=())

    @property
    def height(self) -> int:
        """In rows; two hold the label."""
        return max(2, 1 + len(self.tool_rows))

    @property
    def undrawn(self) -> int:
        return len(self.tools) - sum(map(len, self.tool_rows))


@dataclass(frozen=True, slots=True)
class _Scale:
    """The time axis of a timeline."""

    origin: datetime
    end: float
    char: float
    """Seconds that are as wide as a character."""

    def width(self, text: str) -> float:
        return (_width(text) + 1) * self.char

    def place(self, bar: _Bar) -> tuple[str, float, float]:
        """Where the text of ``bar`` goes (``in``, ``right``, ``left`` of it), and from when to when both reach."""
        width = self.width(bar.text)
        if width <= bar.end - bar.start:
            return "in", bar.start, bar.end
        if bar.end + width > self.end and bar.start >= width:
            return "left", bar.start - width, bar.end
        return "right", bar.start, bar.end + width


def _word(status: object) -> str:
    return STATUS_WORDS.get(str(status), "unknown state")


def _lanes(
    calls: pd.DataFrame, requests: pd.DataFrame, tools: pd.DataFrame, now: datetime
) -> list[tuple[datetime, _Lane]]:
    """The last calls with the moments of their start; times in the lanes count from the epoch."""
    columns = ["call_id", "started_at", "agent", "model", "status", "latency_s"]
    times = _times(calls["started_at"])
    last = calls[columns].assign(started_at=times)[times.notna()].sort_values("started_at", kind="stable")
    last = last.tail(MAX_CALLS)
    ids = list(last["call_id"])
    parts: list[dict[str, list[dict[str, Any]]]] = []
    for frame, names in (
        (requests, ("call_id", "round", "started_at", "status", "latency_s", "ttft_s")),
        (tools, ("call_id", "tool", "started_at", "status", "latency_s")),
    ):
        some = frame[frame["call_id"].isin(ids)]
        some = some.assign(started_at=_times(some["started_at"])).sort_values("started_at", kind="stable")
        of_call: dict[str, list[dict[str, Any]]] = {}
        for row in _rows(some, *names):
            if row["started_at"] is not None:
                of_call.setdefault(row["call_id"], []).append(row)
        parts.append(of_call)
    rows = _rows(last, *columns)
    return [
        (row["started_at"], _lane(row, [of_call.get(row["call_id"], []) for of_call in parts], now))
        for row in rows
    ]


def _lane(call: dict[str, Any], parts: list[list[dict[str, Any]]], now: datetime) -> _Lane:
    requests, tools = parts
    end = _end(call, now.timestamp())
    until = now.timestamp() if end is None else end
    request_bars = [_bar(row, f"round {row['round'] or '?'}", until) for row in requests]
    tool_bars = [_bar(row, _name(row["tool"]) or "tool", until) for row in tools]
    if end is None:
        end = max((bar.end for bar in (*request_bars, *tool_bars)), default=call["started_at"].timestamp())
    span = _Bar(
        call["started_at"].timestamp(),
        max(end, call["started_at"].timestamp()),
        str(call["status"]),
        "",
        is_open=call["status"] == "running",
    )
    names = " · ".join(filter(None, (_name(call["agent"], 16), _name(call["model"], 24))))
    state = [_name(call["call_id"], 9), _word(call["status"])]
    if call["latency_s"] is not None:
        state.append(seconds(float(call["latency_s"])))
    elif call["status"] != "running":
        state.append("time not known")
    return _Lane(f"{names}\n{' · '.join(state)}", span, request_bars, tool_bars)


def _end(row: dict[str, Any], now: float) -> float | None:
    """None if it is over and nobody knows since when."""
    latency_s = row["latency_s"]
    if latency_s is not None and math.isfinite(latency_s):
        return float(row["started_at"].timestamp() + latency_s)
    return now if row["status"] == "running" else None


def _bar(row: dict[str, Any], name: str, until: float) -> _Bar:
    start = row["started_at"].timestamp()
    end = _end(row, until)
    ttft_s = row.get("ttft_s")
    return _Bar(
        start,
        start if end is None else max(start, end),
        str(row["status"]),
        name,
        first_token=None if ttft_s is None or end is None else min(start + max(ttft_s, 0), max(start, end)),
        is_open=row["status"] == "running",
    )


def _laid_out(starts: list[tuple[datetime, _Lane]]) -> tuple[list[_Lane], _Scale]:
    """As many of the last lanes as fit, their tools in rows in which nothing overlaps."""
    while True:
        origin = starts[0][0]
        shift = origin.timestamp()
        lanes = [_shifted(lane, shift) for _, lane in starts]
        bars = [bar for lane in lanes for bar in (lane.span, *lane.requests, *lane.tools)]
        end = max(bar.end for bar in bars) or 1.0
        label_chars = max(_width(line) for lane in lanes for line in lane.label.split("\n"))
        scale = _Scale(origin, end, end * _CHAR_IN / max(_WIDTH_IN - 0.5 - label_chars * _CHAR_IN, 3))
        lanes = [replace(lane, tool_rows=_packed(lane.tools, scale)) for lane in lanes]
        rows, fitting = 0, 0
        for lane in reversed(lanes):
            rows += lane.height
            if rows > _MAX_ROWS and fitting:
                break
            fitting += 1
        if fitting == len(lanes):
            return lanes, scale
        starts = starts[-fitting:]


def _shifted(lane: _Lane, by: float) -> _Lane:
    def moved(bar: _Bar) -> _Bar:
        first = None if bar.first_token is None else bar.first_token - by
        return replace(bar, start=bar.start - by, end=bar.end - by, first_token=first)

    return replace(
        lane,
        span=moved(lane.span),
        requests=[moved(bar) for bar in lane.requests],
        tools=[moved(bar) for bar in lane.tools],
    )


def _packed(bars: Sequence[_Bar], scale: _Scale) -> list[list[_Bar]]:
    rows: list[list[_Bar]] = []
    ends: list[float] = []
    for bar in bars:
        _, start, end = scale.place(bar)
        row = next((index for index, taken in enumerate(ends) if taken <= start), len(rows))
        if row == len(rows):
            if row >= _MAX_TOOL_ROWS:
                continue
            rows.append([])
            ends.append(end)
        rows[row].append(bar)
        ends[row] = end
    return rows


def _draw_timeline(lanes: list[_Lane], scale: _Scale, chosen: int) -> Figure:
    gap = 0.5
    height = sum(lane.height + gap for lane in lanes)
    with _own_look():
        figure, axes = _new(1.5 + _ROW_IN * height)
        top, ticks = 0.0, []
        for lane in lanes:
            _draw_bar(axes, lane.span, top - 0.1, _CALL, height=lane.height + 0.2, label="")
            first_row = top if lane.tool_rows else top + 0.5
            for at, bar in enumerate(lane.requests):
                after = lane.requests[at + 1].start if at + 1 < len(lane.requests) else math.inf
                _draw_request(axes, bar, first_row, scale, after)
            for row, bars in enumerate(lane.tool_rows, 1):
                for bar in bars:
                    _draw_bar(axes, bar, top + row + 0.1, _ORANGE)
                    _write(axes, bar, top + row + 0.5, scale)
            ticks.append(top + lane.height / 2)
            top += lane.height + gap
        axes.set_yticks(ticks, [lane.label for lane in lanes], fontsize=_SMALL)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(height - gap + 0.3, -0.3)
        reach = max([scale.end, *(scale.place(bar)[2] for lane in lanes for row in lane.tool_rows for bar in row)])
        axes.set_xlim(-0.01 * scale.end, reach + 0.015 * scale.end)
        axes.set_xlabel(f"seconds since {scale.origin:%Y-%m-%d %H:%M:%S} UTC")
        if height * _ROW_IN > 8:
            axes.tick_params(axis="x", labeltop=True)
        shown = f"the last {len(lanes):,} of {_count(chosen, 'call')}"
        undrawn = sum(lane.undrawn for lane in lanes)
        _title(
            axes,
            f"Timeline of {_count(chosen, 'call') if len(lanes) == chosen else shown}",
            f"{_count(undrawn, 'tool call')} not drawn" if undrawn else "",
        )
        _legend(figure, _timeline_legend(lanes))
        return figure


def _draw_bar(
    axes: Axes, bar: _Bar, y: float, color: str, *, height: float = 0.8, end: float | None = None, label: str = "x"
) -> None:
    from matplotlib.patches import Rectangle

    is_call = not label
    axes.add_patch(
        Rectangle(
            (bar.start, y),
            (bar.end if end is None else end) - bar.start,
            height,
            facecolor=color,
            edgecolor="#BBBBBB" if is_call else _EDGE,
            linewidth=0.7,
            hatch=None if is_call else _HATCHES.get(bar.status),
            zorder=1 if is_call else 2,
        )
    )
    if bar.is_open and not is_call:
        axes.plot([bar.end], [y + height / 2], marker=">", markersize=7, color=_EDGE, clip_on=False, zorder=4)


def _draw_request(axes: Axes, bar: _Bar, top: float, scale: _Scale, after: float) -> None:
    if bar.first_token is None:
        _draw_bar(axes, bar, top + 0.1, _SKY)
        widest, color = bar, "black"
    else:
        waiting = replace(bar, end=bar.first_token, is_open=False)
        answering = replace(bar, start=bar.first_token)
        _draw_bar(axes, waiting, top + 0.1, "white")
        _draw_bar(axes, answering, top + 0.1, _BLUE)
        longer = answering.end - answering.start >= waiting.end - waiting.start
        widest, color = (answering, "white") if longer else (waiting, "black")
    number = bar.name.rpartition(" ")[2]
    for text in (bar.text, bar.text.removeprefix("round "), number if bar.status == "ok" else _word(bar.status)):
        if scale.width(text) <= widest.end - widest.start:
            _text(axes, text, (widest.start + widest.end) / 2, top + 0.5, "center", color, bar.status in _HATCHES)
            return
    if bar.status != "ok":
        word = _word(bar.status)
        width = scale.width(word)
        if bar.end + width <= min(after, scale.end) or bar.start < width:
            _text(axes, word, bar.end + scale.char / 2, top + 0.5, "left", "black", True)
        else:
            _text(axes, word, bar.start - scale.char / 2, top + 0.5, "right", "black", True)


def _write(axes: Axes, bar: _Bar, y: float, scale: _Scale) -> None:
    place, _, _ = scale.place(bar)
    if place == "in":
        _text(axes, bar.text, (bar.start + bar.end) / 2, y, "center", "black", bar.status in _HATCHES)
    elif place == "left":
        _text(axes, bar.text, bar.start - scale.char / 2, y, "right", "black", False)
    else:
        _text(axes, bar.text, bar.end + scale.char / 2, y, "left", "black", False)


def _text(axes: Axes, text: str, x: float, y: float, align: str, color: str, on_hatch: bool) -> None:
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.0} if on_hatch else None
    axes.text(
        x,
        y,
        text,
        ha=align,
        va="center",
        fontsize=_SMALL,
        color="black" if on_hatch else color,
        bbox=ground,
        clip_on=False,
        zorder=3,
    ).set_in_layout(False)


def _timeline_legend(lanes: list[_Lane]) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    requests = [bar for lane in lanes for bar in lane.requests]
    tools = [bar for lane in lanes for row in lane.tool_rows for bar in row]
    hatches = {_HATCHES.get(bar.status) for bar in (*requests, *tools)}
    is_open = any(bar.is_open for bar in (*requests, *tools))
    entries: list[tuple[bool, str, str, str | None]] = [
        (True, _CALL, "call", None),
        (any(bar.first_token is not None for bar in requests), "white", "request, until its first token", None),
        (any(bar.first_token is not None for bar in requests), _BLUE, "request, after its first token", None),
        (any(bar.first_token is None for bar in requests), _SKY, "request, first token not known", None),
        (bool(tools), _ORANGE, "tool", None),
        ("xxxx" in hatches, "white", "failed", "xxxx"),
        ("////" in hatches, "white", "stopped", "////"),
    ]
    handles: list[Artist] = [
        Patch(facecolor=color, edgecolor="#BBBBBB" if color == _CALL else _EDGE, hatch=hatch, label=label)
        for occurs, color, label, hatch in entries
        if occurs
    ]
    if is_open:
        handles.append(Line2D([], [], marker=">", linestyle="none", color=_EDGE, label="running"))
    return handles


# By model


def _models(calls: pd.DataFrame, weights: npt.NDArray[np.float64] | None = None) -> list[tuple[str, pd.DataFrame]]:
    """Calls by model, those of most calls or of most weight first."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(_rows(calls, "provider", "model")):
        places.setdefault("/".join(str(name) for name in row.values() if name), []).append(place)
    order = sorted(
        places, key=lambda name: -(len(places[name]) if weights is None else weights[places[name]].sum())
    )
    return [(_name(name, 40) or "model not known", calls.take(places[name])) for name in order]


def _left_out(count: int, words: str) -> str:
    return f"{_count(count, 'model')} {words}" if count > 0 else ""


def _draw_latency(calls: pd.DataFrame) -> Figure:
    import numpy as np
    from matplotlib.lines import Line2D

    models = _models(calls)
    groups, note = models[:MAX_MODELS], _left_out(len(models) - MAX_MODELS, "with fewer calls not drawn")
    figure, axes = _new(1.4 + 0.85 * len(groups))
    ticks: list[float] = []
    labels: list[str] = []
    longest, has_box, has_failed = 0.0, False, False
    for index, (model, group) in enumerate(groups):
        ended = (group["status"] == "ok").fillna(False).to_numpy(dtype=bool)
        others = ~ended & (group["status"] != "running").fillna(True).to_numpy(dtype=bool)
        for column, y, color, ground, marker in (
            ("latency_s", 2.0 * index, _BLUE, _PALE, "o"),
            ("ttft_s", 2.0 * index + 0.8, "#B35C00", _SAND, "^"),
        ):
            numbers = _numbers(group[column])
            known = numbers[ended & ~np.isnan(numbers)]
            label = "latency" if column == "latency_s" else "first token"
            if len(known):
                quartiles = np.percentile(known, [25, 50, 75])
                has_box |= len(known) > 2
                if len(known) > 2:
                    axes.barh(
                        y,
                        quartiles[2] - quartiles[0],
                        0.6,
                        quartiles[0],
                        color=ground,
                        edgecolor=color,
                        linewidth=1,
                    )
                    axes.plot([quartiles[1]] * 2, [y - 0.3, y + 0.3], color=color, linewidth=2.2, zorder=4)
                label += f" · median {seconds(quartiles[1])} of {len(known):,}"
                _scatter(axes, known[-_MAX_POINTS:], y, color, marker)
                longest = max(longest, *known.tolist())
            else:
                label += " · not known"
            if column == "latency_s":
                failed = numbers[others & ~np.isnan(numbers)]
                _scatter(axes, failed[-_MAX_POINTS:], y, "black", "x")
                has_failed |= bool(len(failed))
                longest = max([longest, *failed.tolist()])
                label = f"{model}\n{label}"
            ticks.append(y)
            labels.append(label)
    axes.set_yticks(ticks, labels, fontsize=_SMALL)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(2 * len(groups) - 0.6, -0.6)
    axes.set_xlim(0, longest * 1.05 or 1)
    axes.set_xlabel("seconds")
    running = int((calls["status"] == "running").fillna(False).sum())
    _title(axes, f"Latency of {_count(len(calls), 'call')}", f"{running:,} running" if running else "", note)
    handles: list[Artist] = [
        Line2D([], [], marker="o", linestyle="none", color=_BLUE, label="latency of a call"),
        Line2D([], [], marker="^", linestyle="none", color="#B35C00", label="time to its first token"),
    ]
    if has_failed:
        label = "failed or stopped, not in the box"
        handles.append(Line2D([], [], marker="x", linestyle="none", color="black", label=label))
    if has_box:
        handles.append(Line2D([], [], color="#444444", linewidth=2.2, label="median, in the box of the quartiles"))
    _legend(figure, handles)
    return figure


def _scatter(axes: Axes, numbers: npt.NDArray[np.float64], y: float, color: str, marker: str) -> None:
    import numpy as np

    # Spread by the golden ratio: evenly, and the same each time.
    spread = (np.arange(len(numbers)) * 0.618034 % 1 - 0.5) * (0.4 if len(numbers) > 1 else 0)
    alpha = 0.9 if marker == "x" else 0.5
    axes.scatter(numbers, y + spread, s=16, c=color, marker=marker, alpha=alpha, linewidths=1, zorder=3)


def _draw_tokens(calls: pd.DataFrame) -> Figure:
    import numpy as np
    from matplotlib.patches import Patch
    from matplotlib.ticker import StrMethodFormatter

    models = _models(calls)
    groups, note = models[:MAX_MODELS], _left_out(len(models) - MAX_MODELS, "with fewer calls not drawn")
    figure, axes = _new(1.5 + 0.5 * len(groups))
    parts = (
        ("input", _BLUE, None),
        ("input, cached", _SKY, "////"),
        ("output", _ORANGE, None),
        ("output, reasoning", _SAND, "...."),
    )
    longest, occurring = 0.0, set()
    for y, (_, group) in enumerate(groups):
        pairs = []
        for whole, share in (("input_tokens", "cached_tokens"), ("output_tokens", "reasoning_tokens")):
            counts = _numbers(group[whole])
            shares = np.fmin(np.nan_to_num(_numbers(group[share])), np.nan_to_num(counts))
            pairs.append((counts, float(np.nansum(counts)), float(shares.sum())))
        left = 0.0
        sizes = [size for _, total, share in pairs for size in (total - share, share)]
        for size, (_, color, hatch) in zip(sizes, parts, strict=True):
            if size > 0:
                occurring.add(color)
                axes.barh(y, size, 0.6, left, color=color, edgecolor=_EDGE, linewidth=0.6, hatch=hatch)
            left += size
        told = [
            f"{total:,.0f} {way}" if not np.isnan(counts).all() else f"{way} not known"
            for (counts, total, _), way in zip(pairs, ("in", "out"), strict=True)
        ]
        axes.annotate(
            " · ".join(told), (left, y), (6, 0), textcoords="offset points", va="center", fontsize=_SMALL
        )
        longest = max(longest, left)
    axes.set_yticks(
        range(len(groups)),
        [f"{model}\n{_count(len(group), 'call')}" for model, group in groups],
        fontsize=_SMALL,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(0, max(longest, 10) * 1.4)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("tokens")
    unknown = int((calls["input_tokens"].isna() | calls["output_tokens"].isna()).sum())
    _title(
        axes, f"Tokens of {_count(len(calls), 'call')}", f"{unknown:,} of unknown count" if unknown else "", note
    )
    _legend(
        figure,
        [
            Patch(facecolor=color, edgecolor=_EDGE, hatch=hatch, label=label)
            for label, color, hatch in parts
            if color in occurring
        ],
    )
    return figure


def _dates() -> Any:
    """`matplotlib.dates`, which has no types."""
    from matplotlib import dates

    return dates


def _draw_cost(calls: pd.DataFrame) -> Figure:
    import numpy as np

    dates = _dates()

    costs, times = _numbers(calls["cost_usd"]), _times(calls["started_at"])
    unknown = int(np.isnan(costs).sum())
    known = calls.assign(cost_usd=costs, started_at=times)[~np.isnan(costs) & times.notna().to_numpy()]
    note = f"cost of {_count(unknown, 'call')} not known" if unknown else ""
    if known.empty:
        return _message(_literal(f"no call of known cost yet ({note})"))
    known = known.sort_values("started_at", kind="stable")
    figure, axes = _new(4.2)
    moments = dates.date2num(known["started_at"].dt.tz_localize(None).to_numpy())
    first, last = float(moments[0]), float(moments[-1])
    pad = max((last - first) * 0.03, 5 / 86_400)
    models = _models(known, known["cost_usd"].to_numpy(dtype=float))
    for (model, group), (color, line, marker) in zip(models, _LINES, strict=False):
        _draw_steps(axes, group, (first, last, pad), model, color=color, linestyle=line, marker=marker)
    total = float(known["cost_usd"].sum())
    if len(models) > 1:
        _draw_steps(
            axes,
            known,
            (first, last, pad),
            "all models",
            color="#222222",
            linestyle="-",
            linewidth=2.6,
            zorder=1.5,
        )
    axes.set_xlim(first - pad, last + pad)
    axes.set_ylim(bottom=0)
    locator = dates.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_xlabel("start of the call, UTC")
    axes.set_ylabel("US dollars, added up")
    _title(
        axes,
        _literal(f"Cost of {_count(len(known), 'call')}: {dollars(total)}"),
        note,
        _left_out(len(models) - len(_LINES), "of lower cost drawn in the sum only"),
    )
    handles, _ = axes.get_legend_handles_labels()
    _legend(figure, handles)
    return figure


def _draw_steps(
    axes: Axes, calls: pd.DataFrame, extent: tuple[float, float, float], label: str, **look: Any
) -> None:
    import numpy as np

    dates = _dates()

    first, last, pad = extent
    moments = dates.date2num(calls["started_at"].dt.tz_localize(None).to_numpy())
    sums = np.cumsum(calls["cost_usd"].to_numpy(dtype=float))
    if len(sums) > _MAX_STEPS:
        kept = np.unique(np.linspace(0, len(sums) - 1, _MAX_STEPS).astype(int))
        moments, sums = moments[kept], sums[kept]
    axes.step(
        [first - pad, *moments, last + pad],
        [0.0, *sums, sums[-1]],
        where="post",
        label=f"{_literal(dollars(sums[-1]))} · {label}",
        markevery=slice(1, -1, max(1, len(sums) // 40)),
        markersize=4,
        **look,
    )
