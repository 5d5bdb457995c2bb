"""Recorded calls as files for other programs: JSON, Prometheus, CSV and Parquet."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ..core.records import CallContext, CallRecord, RequestRecord, ToolRecord
from ..errors import ConfigurationError
from .columns import CALLS, REQUESTS, TOOLS, Columns, as_row
from .contexts import message_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMAT_VERSION", "Recorded", "to_json", "to_prometheus", "write_csv", "write_parquet"]

FORMAT_VERSION = 1
"""Version of the JSON document."""

# Bucket bounds recommended by OpenTelemetry's GenAI conventions, in seconds.
_DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_Record = TypeVar("_Record", CallRecord, RequestRecord, ToolRecord)
_Labels: TypeAlias = tuple[tuple[str, str], ...]
_Frames: TypeAlias = Mapping[str, "pd.DataFrame"]


class Recorded(Protocol):
    """The records that `to_json` and `to_prometheus` export; a `MetricsRecorder` is one."""

    @property
    def call_records(self) -> list[CallRecord]: ...

    @property
    def request_records(self) -> list[RequestRecord]: ...

    @property
    def tool_records(self) -> list[ToolRecord]: ...


# JSON and Prometheus, from records


def to_json(
    recorder: Recorded, path: str | os.PathLike[str] | None = None, call_ids: Iterable[str] | None = None
) -> str:
    """``{"version": 1, "calls": […], "requests": […], "tools": […]}``: a list of rows for each frame.

    Where content is kept, ``contexts`` says what calls were asked with: for each list of ``call_ids`` the places
    of ``system``, ``history`` (several), ``tools`` and ``config`` in the list ``texts``, which has each text once.

    Times are ISO 8601 in UTC. Unknown values are null, and so are NaN and infinity.

    Args:
        path: file to write the text to as well, in UTF-8; an existing file is replaced.
        call_ids: calls to export, with their requests and tools; default all.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    calls, requests, tools = _select(recorder, call_ids)
    document = {
        "version": FORMAT_VERSION,
        "calls": _rows(CALLS, calls),
        "requests": _rows(REQUESTS, requests),
        "tools": _rows(TOOLS, tools),
        **_contexts(calls),
    }
    text = json.dumps(document, ensure_ascii=False, indent=1, default=str)
    if not _is_unicode(text):  # a lone surrogate, sent by a model: only \u escapes can carry it
        text = json.dumps(document, indent=1, default=str)
    return _write(text + "\n", path)


def to_prometheus(
    recorder: Recorded, path: str | os.PathLike[str] | None = None, call_ids: Iterable[str] | None = None
) -> str:
    """Counters and histograms in the Prometheus text format 0.0.4, for a scrape or a textfile collector.

    Units are seconds and tokens; an unknown label is empty. Unknown, negative and NaN values are not counted,
    since a counter must not decrease. Input tokens include cached tokens, output tokens include reasoning tokens.

    Args:
        path: file to write the text to as well, in UTF-8; an existing file is replaced.
        call_ids: calls to export, with their requests and tools; default all.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    calls, requests, tools = _select(recorder, call_ids)
    settled = [call for call in calls if call.status != "running"]
    by_call = [(call, _labels(agent=call.agent, provider=call.provider, model=call.model)) for call in settled]
    lines = [
        *_counter(
            "createagents_calls_total",
            "Calls that have ended, by how they ended.",
            ((labels + _labels(status=call.status), 1) for call, labels in by_call),
        ),
        *_histogram(
            "createagents_call_duration_seconds",
            "From the call to its end, tools included.",
            _DURATION_BUCKETS,
            ((labels, call.latency_s) for call, labels in by_call),
        ),
        *_histogram(
            "createagents_time_to_first_token_seconds",
            "From the call to the first text or tool call.",
            _TTFT_BUCKETS,
            ((labels, call.ttft_s) for call, labels in by_call),
        ),
        *_counter(
            "createagents_tokens_total",
            "Tokens by type; cached is part of input, reasoning is part of output.",
            (
                (labels + _labels(type=kind), getattr(call, f"{kind}_tokens"))
                for call, labels in by_call
                for kind in ("input", "output", "cached", "reasoning")
            ),
        ),
        *_counter(
            "createagents_requests_total",
            "Round trips to a provider.",
            (
                (_labels(provider=request.provider, model=request.model, status=request.status), 1)
                for request in requests
            ),
        ),
        *_counter(
            "createagents_request_retries_total",
            "Requests that were sent again before they were answered.",
            ((_labels(provider=request.provider, model=request.model), request.retries) for request in requests),
        ),
        *_counter(
            "createagents_tool_calls_total",
            "Tool executions.",
            ((_labels(tool=tool.tool, status=tool.status), 1) for tool in tools),
        ),
        *_histogram(
            "createagents_tool_duration_seconds",
            "Time a tool took.",
            _DURATION_BUCKETS,
            ((_labels(tool=tool.tool), tool.latency_s) for tool in tools),
        ),
    ]
    return _write("".join(f"{line}\n" for line in lines), path)


def _select(
    recorder: Recorded, call_ids: Iterable[str] | None
) -> tuple[list[CallRecord], list[RequestRecord], list[ToolRecord]]:
    wanted = None if call_ids is None else {call_ids} if isinstance(call_ids, str) else set(call_ids)

    def select(records: list[_Record]) -> list[_Record]:
        return records if wanted is None else [record for record in records if record.call_id in wanted]

    return select(recorder.call_records), select(recorder.request_records), select(recorder.tool_records)


def _rows(columns: Columns, records: Sequence[object]) -> list[dict[str, Any]]:
    return [{name: _json_value(value) for name, value in as_row(columns, record).items()} for record in records]


def _contexts(calls: Iterable[CallRecord]) -> dict[str, Any]:
    """What calls were asked with; empty if nothing is kept of that."""
    call_ids: dict[CallContext, list[str]] = {}
    for call in calls:
        if call.context is not None:
            call_ids.setdefault(call.context, []).append(call.call_id)
    if not call_ids:
        return {}
    places: dict[str, int] = {}

    def place(text: str | None) -> int | None:
        return None if text is None else places.setdefault(text, len(places))

    contexts = [
        {
            "call_ids": ids,
            "system": place(None if context.system is None else json.dumps(context.system)),
            "history": [place(message_json(message)) for message in context.history],
            "tools": place(context.tools),
            "config": place(context.config),
        }
        for context, ids in call_ids.items()
    ]
    return {"contexts": contexts, "texts": [json.loads(text) for text in places]}


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _labels(**labels: object) -> _Labels:
    return tuple((name, "" if value is None else str(value)) for name, value in labels.items())


def _counter(name: str, help_text: str, observed: Iterable[tuple[_Labels, Any]]) -> Iterator[str]:
    yield from _head(name, "counter", help_text)
    totals: Counter[_Labels] = Counter()
    for labels, amount in observed:
        if _countable(amount):
            totals[labels] += amount
    for labels, total in totals.items():
        yield _sample(name, labels, total)


def _histogram(
    name: str, help_text: str, bounds: Sequence[float], observed: Iterable[tuple[_Labels, Any]]
) -> Iterator[str]:
    yield from _head(name, "histogram", help_text)
    series: dict[_Labels, list[float]] = {}
    for labels, amount in observed:
        if _countable(amount):
            series.setdefault(labels, []).append(amount)
    for labels, amounts in series.items():
        for bound in bounds:
            within = sum(amount <= bound for amount in amounts)
            yield _sample(f"{name}_bucket", (*labels, ("le", str(bound))), within)
        yield _sample(f"{name}_bucket", (*labels, ("le", "+Inf")), len(amounts))
        yield _sample(f"{name}_sum", labels, math.fsum(amounts))
        yield _sample(f"{name}_count", labels, len(amounts))


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: _Labels, amount: float) -> str:
    pairs = ",".join(f'{label}="{_escape(value)}"' for label, value in labels)
    return f"{name}{{{pairs}}} {amount!r}"


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value if _is_unicode(value) else value.encode("utf-8", "replace").decode()


def _countable(amount: Any) -> bool:
    return isinstance(amount, int | float) and 0 <= amount < 2**63  # false for NaN and infinity


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        try:
            Path(path).expanduser().write_text(text, encoding="utf-8", newline="\n")
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"cannot write the metrics to {str(path)!r}: "
                f"{reason}; give a file in a folder that exists and that you may write to"
            ) from error
    return text


# CSV and Parquet, from frames


def write_csv(frames: _Frames, path: str | os.PathLike[str]) -> list[Path]:
    """See `MetricsRecorder.to_csv`."""
    return _write_each(frames, path, lambda frame, file: frame.to_csv(file, index=False))


def write_parquet(frames: _Frames, path: str | os.PathLike[str]) -> list[Path]:
    """See `MetricsRecorder.to_parquet`."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'createagents-nb[files]', or use to_csv or to_json"
        ) from None
    return _write_each(frames, path, lambda frame, file: frame.to_parquet(file, index=False))


def _write_each(
    frames: _Frames, path: str | os.PathLike[str], write: Callable[[pd.DataFrame, Path], object]
) -> list[Path]:
    try:
        first = Path(path).expanduser()
        paths = [
            first if name == "calls" else first.with_name(f"{first.stem}.{name}{first.suffix}") for name in frames
        ]
        for frame, file in zip(frames.values(), paths, strict=True):
            _replace(file, _encodable(frame), write)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot write the metrics to {str(path)!r}: {reason}; "
            "give a file in a folder that exists and that you may write to"
        ) from error
    return paths


def _replace(file: Path, frame: pd.DataFrame, write: Callable[[pd.DataFrame, Path], object]) -> None:
    """Write to a temporary file first, so that an existing file is replaced whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(handle)
    written = Path(name)
    try:
        write(frame, written)
        written.chmod(0o666 & ~_umask())  # mkstemp gives access to the owner only
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _encodable(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace lone surrogates, which a model may send and UTF-8 cannot encode."""
    texts: list[str] = list(frame.select_dtypes("string").columns)
    return frame.assign(
        **{
            column: frame[column].map(_replace_surrogates, na_action="ignore").astype(frame[column].dtype)
            for column in texts
        }
    )


def _replace_surrogates(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
