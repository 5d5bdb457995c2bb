"""Timeline chart: requests and tools of calls as bars over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pandas as pd

from ..core.events import status_label
from ..text import format_seconds
from . import chart_style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["MAX_CALLS", "timeline"]

MAX_CALLS: Final = 40
"""Limit for calls in one chart; the last ones are drawn."""
_MAX_ROWS: Final = 120
_MAX_TOOL_ROWS: Final = 30
_ROW_IN: Final = 0.21
_GAP: Final = 0.5
"""Space between two lanes, in rows."""

_CALL, _CALL_EDGE = "#EEEEEE", "#BBBBBB"
_FAILED, _STOPPED = "xxxx", "////"
_HATCHES: Final = {
    "cancelled": _STOPPED,
    **dict.fromkeys(("error", "timeout", "unknown_tool", "invalid_arguments", "rejected"), _FAILED),
}

_Row: TypeAlias = dict[str, Any]
_Call: TypeAlias = tuple[_Row, list[_Row], list[_Row]]
"""A call with its requests and its tools."""


@chart_style.matplotlib_defaults()
def timeline(
    calls: pd.DataFrame,
    requests: pd.DataFrame,
    tools: pd.DataFrame,
    call_ids: Iterable[str] | None = None,
    *,
    now: datetime | None = None,
) -> chart_style.Chart:
    """Plot a lane for each call with a bar for each request and tool, over seconds since the first start.

    The bars of requests show time to first token and generation apart. Running bars end now, with an open end.

    Args:
        calls, requests, tools: frames of a recorder.
        call_ids: calls to draw; default all. At most the last 40 are drawn, fewer if they have many tools.
        now: end of running bars; default the current time.

    Returns:
        A Matplotlib figure with one axes, not managed by pyplot: ``figure.axes[0].set_title(…)``,
        ``figure.savefig("calls.pdf")``.

    Example:
        >>> timeline(recorder.calls, recorder.requests, recorder.tools, recorder.calls.call_id.tail(3))
    """
    chosen = calls if call_ids is None else calls[calls["call_id"].isin(list(call_ids))]
    if chosen.empty:
        return chart_style.empty_chart("no calls yet" if call_ids is None else "no call is selected")
    by_id: dict[str, _Call] = {row["call_id"]: (row, [], []) for row in _rows(chosen, MAX_CALLS)}
    if not by_id:
        return chart_style.empty_chart("no call has a known start")
    for row in _rows(requests[requests["call_id"].isin(list(by_id))]):
        by_id[row["call_id"]][1].append(row)
    for row in _rows(tools[tools["call_id"].isin(list(by_id))]):
        by_id[row["call_id"]][2].append(row)
    lanes, scale = _layout(list(by_id.values()), datetime.now(UTC) if now is None else now)
    return _draw(lanes, scale, len(chosen))


def _rows(frame: pd.DataFrame, limit: int = 1_000_000) -> list[Any]:
    """The last ``limit`` rows with a known start, by start; None where a value is unknown or not finite."""
    last = frame[frame["started_at"].notna()].sort_values("started_at", kind="stable").tail(limit)
    is_known = last.notna() & ~last.isin([math.inf, -math.inf])
    return last.astype(object).where(is_known, None).to_dict("records")


# Layout


@dataclass(frozen=True, slots=True)
class _Bar:
    """Times in seconds since the first start."""

    start: float
    end: float
    status: str
    name: str = ""
    first_token: float | None = None

    @property
    def is_open(self) -> bool:
        return self.status == "running"

    @property
    def text(self) -> str:
        return self.name if self.status == "ok" else f"{self.name} · {status_label(self.status)}"


@dataclass(frozen=True, slots=True)
class _Lane:
    label: str
    span: _Bar
    requests: Sequence[_Bar]
    tools: Sequence[_Bar]
    tool_rows: Sequence[Sequence[_Bar]] = ()

    @property
    def height(self) -> int:
        """Height in rows; the label takes two."""
        return max(2, 1 + len(self.tool_rows))


@dataclass(frozen=True, slots=True)
class _Scale:
    """The time axis."""

    origin: datetime
    end: float
    char: float
    """Width of a character, in seconds."""

    def fits(self, text: str, bar: _Bar) -> bool:
        return (chart_style.width(text) + 1) * self.char <= bar.end - bar.start

    def place(self, text: str, bar: _Bar) -> tuple[float, str, float, float]:
        """Position and alignment of ``text`` in or beside ``bar``, and the start and end of both together."""
        width = (chart_style.width(text) + 1) * self.char
        if self.fits(text, bar):
            return (bar.start + bar.end) / 2, "center", bar.start, bar.end
        if bar.end + width > self.end and bar.start >= width:
            return bar.start - self.char / 2, "right", bar.start - width, bar.end
        return bar.end + self.char / 2, "left", bar.start, bar.end + width


def _layout(calls: list[_Call], now: datetime) -> tuple[list[_Lane], _Scale]:
    """As many of the last lanes as fit, with tools in rows without overlaps."""
    while True:
        origin = calls[0][0]["started_at"]
        lanes = [_lane(*rows, origin, (now - origin).total_seconds()) for rows in calls]
        end = max(bar.end for lane in lanes for bar in (lane.span, *lane.requests, *lane.tools)) or 1.0
        label_chars = max(chart_style.width(line) for lane in lanes for line in lane.label.split("\n"))
        axis_chars = max(chart_style.WIDTH_IN - 0.5 - label_chars * chart_style.CHAR_IN, 3) / chart_style.CHAR_IN
        scale = _Scale(origin, end, end / axis_chars)
        lanes = [replace(lane, tool_rows=_rows_of_bars(lane.tools, scale)) for lane in lanes]
        height, fitting = 0, 0
        for lane in reversed(lanes):
            height += lane.height
            if height > _MAX_ROWS and fitting:
                break
            fitting += 1
        if fitting == len(lanes):
            return lanes, scale
        calls = calls[-fitting:]


def _lane(call: _Row, requests: list[_Row], tools: list[_Row], origin: datetime, now: float) -> _Lane:
    span = _bar(call, "", origin, now)
    is_known = span.is_open or call["latency_s"] is not None
    until = span.end if is_known else now
    request_bars = [_bar(row, f"round {row['round'] or '?'}", origin, until) for row in requests]
    tool_bars = [_bar(row, chart_style.drawable_name(row["tool"]) or "tool", origin, until) for row in tools]
    if not is_known:
        span = replace(span, end=max(bar.end for bar in (span, *request_bars, *tool_bars)))
    names = filter(
        None, (chart_style.drawable_name(call["agent"], 16), chart_style.drawable_name(call["model"], 24))
    )
    state = [chart_style.drawable_name(call["call_id"], 9), status_label(span.status, call.get("finish_reason"))]
    if call["latency_s"] is not None:
        state.append(format_seconds(call["latency_s"]))
    elif not span.is_open:
        state.append("time not known")
    return _Lane(f"{' · '.join(names)}\n{' · '.join(state)}", span, request_bars, tool_bars)


def _bar(row: _Row, name: str, origin: datetime, until: float) -> _Bar:
    """The bar of a row, of length 0 if it has ended and its latency is unknown."""
    start = (row["started_at"] - origin).total_seconds()
    status, latency_s, ttft_s = str(row["status"]), row["latency_s"], row.get("ttft_s")
    if latency_s is None:
        latency_s = until - start if status == "running" else 0
    end = start + max(latency_s, 0)
    return _Bar(start, end, status, name, None if ttft_s is None else min(start + max(ttft_s, 0), end))


def _rows_of_bars(bars: Sequence[_Bar], scale: _Scale) -> list[list[_Bar]]:
    rows: list[list[_Bar]] = []
    ends: list[float] = []
    for bar in bars:
        *_, start, end = scale.place(bar.text, bar)
        row = next((index for index, last_end in enumerate(ends) if last_end <= start), len(rows))
        if row < len(rows):
            rows[row].append(bar)
            ends[row] = end
        elif row < _MAX_TOOL_ROWS:
            rows.append([bar])
            ends.append(end)
    return rows


# Drawing


def _draw(lanes: list[_Lane], scale: _Scale, chosen: int) -> chart_style.Chart:
    height = sum(lane.height + _GAP for lane in lanes)
    chart, axes = chart_style.new_chart(1.5 + _ROW_IN * height)
    top, places = 0.0, []
    for lane in lanes:
        _draw_lane(axes, lane, top, scale)
        places.append(top + lane.height / 2)
        top += lane.height + _GAP
    chart_style.label_rows(axes, places, [lane.label for lane in lanes])
    axes.set_ylim(height - _GAP + 0.3, -0.3)
    tools = [bar for lane in lanes for row in lane.tool_rows for bar in row]
    reach = max([scale.end, *(scale.place(bar.text, bar)[3] for bar in tools)])
    axes.set_xlim(-0.01 * scale.end, reach + 0.015 * scale.end)
    axes.set_xlabel(f"seconds since {scale.origin:%Y-%m-%d %H:%M:%S} UTC")
    if height * _ROW_IN > 8:
        axes.tick_params(axis="x", labeltop=True)
    part = "" if len(lanes) == chosen else f"the last {len(lanes):,} of "
    undrawn = sum(len(lane.tools) for lane in lanes) - len(tools)
    note = f"{chart_style.plural(undrawn, 'tool call')} not drawn" if undrawn else ""
    chart_style.set_title(axes, f"Timeline of {part}{chart_style.plural(chosen, 'call')}", note)
    chart_style.add_legend(chart, _keys([bar for lane in lanes for bar in lane.requests], tools))
    return chart


def _draw_lane(axes: Axes, lane: _Lane, top: float, scale: _Scale) -> None:
    _draw_bar(
        axes, lane.span, top + lane.height / 2, _CALL, height=lane.height + 0.2, edgecolor=_CALL_EDGE, zorder=1
    )
    for bar in lane.requests:
        _draw_request(axes, bar, top + (0.5 if lane.tool_rows else 1), scale)
    for number, row in enumerate(lane.tool_rows, 1):
        for bar in row:
            y = top + number + 0.5
            _draw_bar(axes, bar, y, chart_style.ORANGE, hatch=_HATCHES.get(bar.status))
            _mark_open(axes, bar, y)
            x, align, *_ = scale.place(bar.text, bar)
            _write(axes, bar.text, x, y, align, on_hatch=align == "center" and bar.status in _HATCHES)


def _draw_request(axes: Axes, bar: _Bar, y: float, scale: _Scale) -> None:
    parts = [(bar, chart_style.SKY, "black")]
    if bar.first_token is not None:
        waiting, answering = replace(bar, end=bar.first_token), replace(bar, start=bar.first_token)
        parts = [(answering, chart_style.BLUE, "white"), (waiting, "white", "black")]
    for part, color, _ in parts:
        _draw_bar(axes, part, y, color, hatch=_HATCHES.get(bar.status))
    _mark_open(axes, bar, y)
    longest, _, color = max(parts, key=lambda part: part[0].end - part[0].start)
    without_round = bar.text.removeprefix("round ")
    shortest = without_round.rpartition(" · ")[2]
    for text in (bar.text, without_round, shortest):
        if scale.fits(text, longest):
            middle = (longest.start + longest.end) / 2
            _write(axes, text, middle, y, "center", color, on_hatch=bar.status in _HATCHES)
            return
    if bar.status != "ok":
        x, align, *_ = scale.place(shortest, bar)
        _write(axes, shortest, x, y, align, on_hatch=True)


def _draw_bar(axes: Axes, bar: _Bar, y: float, color: str, height: float = 0.8, **look: Any) -> None:
    look = {"edgecolor": chart_style.EDGE, "linewidth": 0.7, "zorder": 2, **look}
    axes.barh(y, bar.end - bar.start, height, bar.start, color=color, **look)


def _mark_open(axes: Axes, bar: _Bar, y: float) -> None:
    if bar.is_open:
        axes.plot([bar.end], [y], marker=">", markersize=7, color=chart_style.EDGE, clip_on=False, zorder=4)


def _write(axes: Axes, text: str, x: float, y: float, align: str, color: str = "black", *, on_hatch: bool) -> None:
    written = axes.text(x, y, text, ha=align, va="center", fontsize=chart_style.SMALL, color=color, zorder=3)
    written.set_in_layout(False)
    if on_hatch:
        written.set(color="black", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})


def _keys(requests: list[_Bar], tools: list[_Bar]) -> list[Artist]:
    hatches = {_HATCHES.get(bar.status) for bar in (*requests, *tools)}
    has_first_token = {bar.first_token is not None for bar in requests}
    keys = [
        (True, chart_style.area_key("call", _CALL, edge=_CALL_EDGE)),
        (True in has_first_token, chart_style.area_key("request, until its first token", "white")),
        (True in has_first_token, chart_style.area_key("request, after its first token", chart_style.BLUE)),
        (False in has_first_token, chart_style.area_key("request, first token not known", chart_style.SKY)),
        (bool(tools), chart_style.area_key("tool", chart_style.ORANGE)),
        (_FAILED in hatches, chart_style.area_key("failed", "white", _FAILED)),
        (_STOPPED in hatches, chart_style.area_key("stopped", "white", _STOPPED)),
        (any(bar.is_open for bar in (*requests, *tools)), chart_style.line_key("running", chart_style.EDGE, ">")),
    ]
    return [key for occurs, key in keys if occurs]
