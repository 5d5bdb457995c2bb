"""Summaries of calls and tools: as frames, and as the text and HTML of a recorder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from ..errors import ConfigurationError
from ..text import one_line

__all__ = ["html_summary", "summarize", "summarize_tools", "text_summary"]

_BY = ("provider", "model")
_MAX_ROWS = 20
_SUMMED = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "tool_calls", "cost_usd")
_COUNTED = ("calls", "running", "errors", "stopped", *_SUMMED[:-1], "priced_calls")

_CALLS_HEAD = {
    "calls": "calls",
    "errors": "errors",
    "latency_p50_s": "latency p50",
    "latency_p95_s": "p95",
    "ttft_p50_s": "first token p50",
    "ttft_p95_s": "p95",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cost_usd": "cost",
}
_TOOLS_HEAD = {
    "executions": "executions",
    "errors": "errors",
    "latency_p50_s": "latency p50",
    "latency_p95_s": "p95",
    "latency_sum_s": "in all",
}


def summarize(calls: pd.DataFrame, by: str | Sequence[str] | None = _BY) -> pd.DataFrame:
    """See `MetricsRecorder.summary`."""
    # The latency of a failed call says nothing about the model.
    times = ["latency_s", "ttft_s", "tokens_per_s"]
    calls = calls.assign(**{column: calls[column].where(calls["status"] == "ok") for column in times})
    groups = _groups(calls, by)
    frame = pd.DataFrame(
        {
            "calls": groups.size(),
            "running": groups["status"].agg(_count_of("running")),
            "errors": groups["status"].agg(_count_of("error")),
            "stopped": groups["status"].agg(_count_of("cancelled")),
            "latency_p50_s": groups["latency_s"].quantile(0.5),
            "latency_p95_s": groups["latency_s"].quantile(0.95),
            "ttft_p50_s": groups["ttft_s"].quantile(0.5),
            "ttft_p95_s": groups["ttft_s"].quantile(0.95),
            "tokens_per_s_p50": groups["tokens_per_s"].quantile(0.5),
            **{column: groups[column].sum(min_count=1) for column in _SUMMED},
            "priced_calls": groups["cost_usd"].count(),
        }
    )
    return frame.astype(dict.fromkeys(_COUNTED, "Int64") | {"cost_usd": "Float64"})


def summarize_tools(tools: pd.DataFrame) -> pd.DataFrame:
    """See `MetricsRecorder.tool_summary`."""
    groups = _groups(tools, "tool")
    frame = pd.DataFrame(
        {
            "executions": groups["status"].agg(lambda status: int((status != "rejected").sum())),
            "errors": groups["status"].agg(
                lambda status: int((~status.isin(["ok", "running", "cancelled", "rejected"])).sum())
            ),
            "rejected": groups["status"].agg(lambda status: int((status == "rejected").sum())),
            "latency_p50_s": groups["latency_s"].quantile(0.5),
            "latency_p95_s": groups["latency_s"].quantile(0.95),
            "latency_sum_s": groups["latency_s"].sum(min_count=1),
        }
    )
    return frame.astype(dict.fromkeys(("executions", "errors", "rejected"), "Int64")).sort_values(
        "latency_sum_s", ascending=False, kind="stable"
    )


def _groups(frame: pd.DataFrame, by: str | Sequence[str] | None) -> Any:
    if by is None:
        return frame.groupby(pd.Series("all", index=frame.index, dtype="str", name="calls_of"))
    columns = [by] if isinstance(by, str) or not isinstance(by, Iterable) else list(by)
    unknown = [column for column in columns if column not in frame.columns]
    if unknown or not columns:
        raise ConfigurationError(
            f"summary: there is no column {unknown[0]!r}; by= takes names of {', '.join(frame.columns)}"
            if unknown
            else "summary: by= is empty; name columns, or leave it out"
        )
    return frame.groupby(columns, observed=True, dropna=False, sort=False)


def _count_of(*statuses: str) -> Any:
    return lambda status: int(status.isin(statuses).sum())


# Text and HTML


def html_summary(caption: str, calls: pd.DataFrame, tools: pd.DataFrame) -> str:
    """HTML tables of calls by provider and model, and of tools, slowest first; names are escaped."""
    parts = []
    for title, head, rows in _tables(caption, calls, tools):
        # Inline styles align numbers on pages without table styles, too.
        cells = "".join(f'<th style="text-align:{side}">{escape(name)}</th>' for name, side in _sides(head))
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{side};white-space:nowrap">{escape(cell)}</td>'
                for cell, side in _sides(row)
            )
            + "</tr>"
            for row in rows
        )
        parts.append(
            f"<table><caption>{escape(title)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
        )
    content = "\n".join(parts) or f"<p>{escape(caption)}</p>"
    return f'<div class="createagents-summary mathjax_ignore tex2jax_ignore">{content}</div>'


def text_summary(caption: str, calls: pd.DataFrame, tools: pd.DataFrame) -> str:
    """The same tables as text."""
    parts = []
    for title, head, rows in _tables(caption, calls, tools):
        lines = [head, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (
            "  ".join(
                cell.ljust(width) if side == "left" else cell.rjust(width)
                for (cell, side), width in zip(_sides(line), widths, strict=True)
            ).rstrip()
            for line in lines
        )
        parts.append("\n".join([title, *padded]))
    return "\n\n".join(parts) or caption


def _sides(cells: Sequence[str]) -> Iterable[tuple[str, str]]:
    return ((cell, "right" if index else "left") for index, cell in enumerate(cells))


def _tables(
    caption: str, calls: pd.DataFrame, tools: pd.DataFrame
) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table that has rows."""
    if len(calls):
        by_model = summarize(calls).sort_values("calls", ascending=False, kind="stable")
        rows = [
            _row(f"{_name(provider)}/{_name(model)}", line, _CALLS_HEAD)
            for (provider, model), line in zip(by_model.index, by_model.to_dict("records"), strict=True)
        ]
        if len(rows) > 1:
            rows = [*_first(rows), _row("all", summarize(calls, None).to_dict("records")[0], _CALLS_HEAD)]
        yield caption, ["model", *_CALLS_HEAD.values()], rows
    if len(tools):
        by_tool = summarize_tools(tools)
        rows = [
            _row(_name(tool), line, _TOOLS_HEAD)
            for tool, line in zip(by_tool.index, by_tool.to_dict("records"), strict=True)
        ]
        yield "Tools, by their time in all", ["tool", *_TOOLS_HEAD.values()], _first(rows)


def _first(rows: list[list[str]]) -> list[list[str]]:
    if len(rows) <= _MAX_ROWS:
        return rows
    return [*rows[:_MAX_ROWS], [f"… {len(rows) - _MAX_ROWS:,} more", *[""] * (len(rows[0]) - 1)]]


def _row(name: str, line: Mapping[Any, Any], head: dict[str, str]) -> list[str]:
    return [name, *(_formatted(column, line[column]) + _note(column, line) for column in head)]


def _note(column: str, line: Mapping[Any, Any]) -> str:
    """A note on the calls that a sum leaves out."""
    ended = line["calls"] - line["running"] if column == "cost_usd" else 0
    return f" ({line['priced_calls']:,} of {ended:,} calls)" if ended and 0 < line["priced_calls"] < ended else ""


def _formatted(column: str, value: Any) -> str:
    if pd.isna(value) or not math.isfinite(value):
        return "–"
    if column.endswith("_s"):
        return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"
    if column == "cost_usd":
        return f"${value:,.4f}"
    return f"{int(value):,}"


def _name(name: object) -> str:
    return "–" if not isinstance(name, str) else one_line(name, 60)
