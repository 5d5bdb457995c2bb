"""Charts of latency, tokens and cost by model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from ..errors import ConfigurationError
from ..text import format_dollars, format_seconds
from . import chart_style

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

__all__ = ["KINDS", "MAX_MODELS", "plot"]

KINDS: Final = ("latency", "tokens", "cost")
"""Kinds of charts that `plot` draws."""
MAX_MODELS: Final = 12
"""Limit for models in one chart; those with most calls are drawn."""
_MAX_POINTS: Final = 400
_MAX_STEPS: Final = 2_000

_BROWN: Final = "#B35C00"
_LINES: Final = (
    (chart_style.BLUE, "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    (chart_style.ORANGE, (0, (6, 1)), "v"),
    ("#56B4E9", (0, (3, 1, 1, 1)), "P"),
    ("#666666", (0, (1, 3)), "X"),
)
_PARTS: Final = (
    ("input", chart_style.BLUE, None),
    ("input, cached", chart_style.SKY, "////"),
    ("output", chart_style.ORANGE, None),
    ("output, reasoning", chart_style.SAND, "...."),
)


@chart_style.matplotlib_defaults()
def plot(calls: pd.DataFrame, kind: str = "latency") -> chart_style.Chart:
    """Plot a chart of calls by model.

    Args:
        calls: frame of calls of a recorder.
        kind: ``"latency"``: latency of each call and its time to first token, in seconds, with quartiles.
            ``"tokens"``: input and output tokens, with cached and reasoning shares. ``"cost"``: cumulative cost in
            US dollars over time.

    Returns:
        A Matplotlib figure with one axes.

    Raises:
        ConfigurationError: the kind is unknown.

    Example:
        >>> plot(recorder.calls, "cost")
    """
    if kind not in KINDS:
        raise ConfigurationError(f"No chart of kind {kind!r}; available: {', '.join(KINDS)}")
    if calls.empty:
        return chart_style.empty_chart("no calls yet")
    return {"latency": _latency, "tokens": _tokens, "cost": _cost}[kind](calls)


def _models(calls: pd.DataFrame, weight: Callable[[pd.DataFrame], float] = len) -> list[tuple[str, pd.DataFrame]]:
    """Calls by model, sorted by descending weight."""
    # Not `groupby`, which turns names into Arrow strings, and those refuse lone surrogates.
    rows: dict[str, list[int]] = {}
    for row, pair in enumerate(zip(calls["provider"], calls["model"], strict=True)):
        rows.setdefault("/".join(name for name in pair if isinstance(name, str)), []).append(row)
    groups = sorted(
        ((name, calls.take(taken)) for name, taken in rows.items()), key=lambda group: -weight(group[1])
    )
    return [(chart_style.drawable_name(name, 40) or "model not known", group) for name, group in groups]


def _rows_by_model(calls: pd.DataFrame) -> tuple[list[tuple[str, pd.DataFrame]], str]:
    """The models to draw, and a note on those left out."""
    models = _models(calls)
    return models[:MAX_MODELS], _left_out(len(models) - MAX_MODELS, "with fewer calls not drawn")


def _left_out(count: int, words: str) -> str:
    return f"{chart_style.plural(count, 'model')} {words}" if count > 0 else ""


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Values as floats; NaN where unknown or not finite."""
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _latency(calls: pd.DataFrame) -> chart_style.Chart:
    models, note = _rows_by_model(calls)
    chart, axes = chart_style.new_chart(1.4 + 0.85 * len(models))
    places: list[float] = []
    labels: list[str] = []
    longest, has_box, has_failed = 0.0, False, False
    for y, (model, group) in enumerate(models):
        is_ok = (group["status"] == "ok").to_numpy()
        has_ended = (group["status"] != "running").to_numpy()
        latencies = _numbers(group["latency_s"])
        failed = latencies[~is_ok & has_ended & ~np.isnan(latencies)]
        _scatter(axes, failed, 2 * y, "black", "x")
        has_failed |= bool(len(failed))
        for name, numbers, place, color, ground, marker in (
            (f"{model}\nlatency", latencies, 2 * y, chart_style.BLUE, chart_style.PALE, "o"),
            ("first token", _numbers(group["ttft_s"]), 2 * y + 0.8, _BROWN, chart_style.SAND, "^"),
        ):
            measured = numbers[is_ok & ~np.isnan(numbers)]
            places.append(place)
            if not len(measured):
                labels.append(f"{name} · not known")
                continue
            low, median, high = np.percentile(measured, [25, 50, 75])
            labels.append(f"{name} · median {format_seconds(median)} of {len(measured):,}")
            if len(measured) > 2:
                has_box = True
                axes.barh(place, high - low, 0.6, low, color=ground, edgecolor=color, linewidth=1)
                axes.plot([median] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.2, zorder=4)
            _scatter(axes, measured, place, color, marker)
            longest = max(longest, *measured)
        longest = max(longest, 0, *failed)
    chart_style.label_rows(axes, places, labels)
    axes.set_ylim(2 * len(models) - 0.6, -0.6)
    axes.set_xlim(0, longest * 1.05 or 1)
    axes.set_xlabel("seconds")
    running = int((calls["status"] == "running").sum())
    chart_style.set_title(
        axes,
        f"Latency of {chart_style.plural(len(calls), 'call')}",
        f"{running:,} running" if running else "",
        note,
    )
    keys = [
        chart_style.line_key("latency of a call", chart_style.BLUE, "o"),
        chart_style.line_key("time to its first token", _BROWN, "^"),
    ]
    if has_failed:
        keys.append(chart_style.line_key("failed or stopped, not in the box", "black", "x"))
    if has_box:
        keys.append(chart_style.line_key("median, in the box of the quartiles", "#444444", linewidth=2.2))
    chart_style.add_legend(chart, keys)
    return chart


def _scatter(axes: Axes, numbers: npt.NDArray[np.float64], y: float, color: str, marker: str) -> None:
    numbers = numbers[-_MAX_POINTS:]
    # Spread points vertically by the golden ratio: evenly and deterministically.
    spread = (np.arange(len(numbers)) * 0.618034 % 1 - 0.5) * (0.4 if len(numbers) > 1 else 0)
    alpha = 0.9 if marker == "x" else 0.5
    axes.scatter(numbers, y + spread, s=16, c=color, marker=marker, alpha=alpha, linewidths=1, zorder=3)


def _tokens(calls: pd.DataFrame) -> chart_style.Chart:
    models, note = _rows_by_model(calls)
    chart, axes = chart_style.new_chart(1.5 + 0.5 * len(models))
    longest, occurring = 0.0, set()
    for y, (_, group) in enumerate(models):
        sizes: list[float] = []
        words = []
        for whole, share, way in (("input", "cached", "in"), ("output", "reasoning", "out")):
            counts = _numbers(group[f"{whole}_tokens"])
            total = float(np.nansum(counts))
            shares = np.nan_to_num(_numbers(group[f"{share}_tokens"]))
            part = float(np.fmin(shares, np.nan_to_num(counts)).sum())
            sizes += [total - part, part]
            words.append(f"{way} not known" if np.isnan(counts).all() else f"{total:,.0f} {way}")
        left = 0.0
        for size, (label, color, hatch) in zip(sizes, _PARTS, strict=True):
            if size > 0:
                occurring.add(label)
                axes.barh(y, size, 0.6, left, color=color, edgecolor=chart_style.EDGE, linewidth=0.6, hatch=hatch)
            left += size
        place: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(" · ".join(words), (left, y), fontsize=chart_style.SMALL, **place)
        longest = max(longest, left)
    chart_style.label_rows(
        axes,
        range(len(models)),
        [f"{model}\n{chart_style.plural(len(group), 'call')}" for model, group in models],
    )
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlim(0, max(longest, 10) * 1.4)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("tokens")
    unknown = int((calls["input_tokens"].isna() | calls["output_tokens"].isna()).sum())
    unknown_note = f"{unknown:,} of unknown count" if unknown else ""
    chart_style.set_title(axes, f"Tokens of {chart_style.plural(len(calls), 'call')}", unknown_note, note)
    chart_style.add_legend(chart, [chart_style.area_key(*part) for part in _PARTS if part[0] in occurring])
    return chart


def _cost(calls: pd.DataFrame) -> chart_style.Chart:
    is_priced = ~np.isnan(_numbers(calls["cost_usd"]))
    unknown = int((~is_priced).sum())
    note = f"cost of {chart_style.plural(unknown, 'call')} not known" if unknown else ""
    priced = calls[is_priced & calls["started_at"].notna()].sort_values("started_at", kind="stable")
    if priced.empty:
        return chart_style.empty_chart(f"no call of known cost yet ({note})")
    chart, axes = chart_style.new_chart(4.2)
    priced = priced.assign(day=chart_style.dates.date2num(priced["started_at"].dt.tz_localize(None).to_numpy()))
    first, last = priced["day"].iloc[0], priced["day"].iloc[-1]
    pad = max((last - first) * 0.03, 5 / 86_400)
    extent = first - pad, last + pad
    models = _models(priced, lambda group: float(group["cost_usd"].sum()))
    for (model, group), (color, line, marker) in zip(models, _LINES, strict=False):
        _steps(axes, group, extent, model, color=color, linestyle=line, marker=marker)
    if len(models) > 1:
        _steps(axes, priced, extent, "all models", color="#222222", linestyle="-", linewidth=2.6, zorder=1.5)
    axes.set_xlim(extent)
    axes.set_ylim(bottom=0)
    locator = chart_style.dates.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(chart_style.dates.ConciseDateFormatter(locator, tz=UTC))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_xlabel("start of the call, UTC")
    axes.set_ylabel("US dollars, added up")
    total = chart_style.escape_dollars(format_dollars(float(priced["cost_usd"].sum())))
    title = f"Cost of {chart_style.plural(len(priced), 'call')}: {total}"
    chart_style.set_title(
        axes, title, note, _left_out(len(models) - len(_LINES), "of lower cost drawn in the sum only")
    )
    chart_style.add_legend(chart, axes.get_legend_handles_labels()[0])
    return chart


def _steps(axes: Axes, calls: pd.DataFrame, extent: tuple[float, float], label: str, **look: Any) -> None:
    days, sums = calls["day"].to_numpy(), np.cumsum(calls["cost_usd"].to_numpy(dtype=float))
    total = chart_style.escape_dollars(format_dollars(sums[-1]))
    if len(sums) > _MAX_STEPS:
        kept = np.unique(np.linspace(0, len(sums) - 1, _MAX_STEPS).astype(int))
        days, sums = days[kept], sums[kept]
    axes.step(
        [extent[0], *days, extent[1]],
        [0.0, *sums, sums[-1]],
        where="post",
        label=f"{total} · {label}",
        markevery=slice(1, -1, max(1, len(sums) // 40)),
        markersize=4,
        **look,
    )
