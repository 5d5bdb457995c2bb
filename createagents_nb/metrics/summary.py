"""What a recorder shows when it is a cell's value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from createagents_nb.agent.call_record import CallRecord

__all__ = ["percentile", "plain_summary", "table_summary"]

_HEAD = (
    "provider",
    "model",
    "calls",
    "errors",
    "input tokens",
    "output tokens",
    "latency p50",
    "p95",
    "ttft p50",
    "p95",
)


def plain_summary(calls: int, requests: int, tools: int) -> str:
    """
    >>> plain_summary(3, 4, 1)
    'MetricsRecorder: 3 calls, 4 requests, 1 tool call'
    """
    counted = ", ".join(
        f"{count:,} {name}{'' if count == 1 else 's'}"
        for count, name in ((calls, "call"), (requests, "request"), (tools, "tool call"))
    )
    return f"MetricsRecorder: {counted}"


def table_summary(caption: str, calls: Sequence[CallRecord]) -> str:
    """HTML: a row for each provider and model, and one for all when there are several."""
    groups: dict[tuple[str, str], list[CallRecord]] = {}
    for call in calls:
        groups.setdefault((str(call.provider), str(call.model)), []).append(call)
    rows = [_row(provider or "–", model or "–", group) for (provider, model), group in groups.items()]
    if len(groups) > 1:
        rows.append(_row("all", "", calls))
    if not rows:
        return f"<p>{escape(caption)}</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEAD)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """Linear between neighbours, as pandas' and NumPy's default; None without values.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.5
    """
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _row(provider: str, model: str, calls: Sequence[CallRecord]) -> list[str]:
    latencies = _numbers(call.latency_s for call in calls)
    ttfts = _numbers(call.ttft_s for call in calls)
    return [
        provider,
        model,
        f"{len(calls):,}",
        f"{sum(call.status == 'error' for call in calls):,}",
        _total(call.input_tokens for call in calls),
        _total(call.output_tokens for call in calls),
        *(_seconds(percentile(latencies, share)) for share in (0.5, 0.95)),
        *(_seconds(percentile(ttfts, share)) for share in (0.5, 0.95)),
    ]


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [known for known in values if isinstance(known, int | float) and known == known]


def _total(counts: Iterable[float | None]) -> str:
    known = _numbers(counts)
    return f"{sum(known):,}" if known else "–"


def _seconds(known: float | None) -> str:
    return "–" if known is None else f"{known:.2f} s" if known < 100 else f"{known:,.0f} s"
