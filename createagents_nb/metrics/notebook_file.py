"""Reads the calls of a saved notebook from the records in the outputs of its answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from ..core.events import count_or_none, number_or_none
from ..core.records import CallRecord, RequestRecord, ToolRecord
from ..errors import RecorderFileError
from ..render.mime_types import BUNDLE_MIME, BUNDLE_VERSION
from .columns import CALLS, REQUESTS, STATUSES, TOOLS, Columns, Kind
from .observers import SettledCall

__all__ = ["read_notebook"]

_Record = TypeVar("_Record", CallRecord, RequestRecord, ToolRecord)


def read_notebook(path: str | os.PathLike[str]) -> list[SettledCall]:
    """The calls in a notebook's outputs, in the order of its cells, without duplicates.

    Raises:
        RecorderFileError: the file cannot be read, is not a notebook, or was written by a newer version.
    """
    try:
        notebook = json.loads(Path(path).expanduser().read_text("utf-8"))
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs") or ()]
        data = [output.get("data") for output in outputs]
        bundles = [bundle for bundle in data if isinstance(bundle, dict) and BUNDLE_MIME in bundle]
        by_id: dict[str, SettledCall] = {}
        for bundle in bundles:
            for settled in _settled(bundle, path):
                by_id.setdefault(settled.call.call_id, settled)
    except OSError as error:
        raise RecorderFileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RecorderFileError(f"{str(path)!r} is not a notebook: give the path of an .ipynb file") from error
    return list(by_id.values())


def _settled(bundle: Mapping[str, Any], path: str | os.PathLike[str]) -> Iterator[SettledCall]:
    record = bundle[BUNDLE_MIME]
    if not isinstance(record, dict):
        return
    version = record.get("version", BUNDLE_VERSION)
    if version != BUNDLE_VERSION:
        raise RecorderFileError(
            f"{str(path)!r} was saved by another createagents-nb (format {version}; this one reads "
            f"{BUNDLE_VERSION}): pip install -U createagents-nb"
        )
    call = record.get("call")
    if not isinstance(call, dict):
        return
    call = {"response": _response(call.get("response_in_plain"), bundle.get("text/plain")), **call}
    for record_of_call in _records(CallRecord, CALLS, "calls", [call]):
        yield SettledCall(
            record_of_call,
            tuple(_records(RequestRecord, REQUESTS, "requests", record.get("requests"))),
            tuple(_records(ToolRecord, TOOLS, "tools", record.get("tools"))),
        )


def _response(ranges: Any, plain: Any) -> str | None:
    """The answer, joined from the ``[start, end]`` ranges of its pieces in the output's plain text."""
    text = "".join(plain) if isinstance(plain, list) else plain
    if not isinstance(ranges, list) or not isinstance(text, str):
        return None
    pieces, position = [], 0
    try:
        for start, end in ranges:
            if not position <= start <= end <= len(text):
                return None
            pieces.append(text[start:end])
            position = end
    except (TypeError, ValueError):
        return None
    return "\n\n".join(pieces)


def _records(make: type[_Record], columns: Columns, statuses: str, found: Any) -> Iterator[_Record]:
    """The valid records among ``found``; invalid values become unknown, as the file may have been edited."""
    for item in found if isinstance(found, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("call_id"), str):
            continue
        values = {column: _READERS[kind](item.get(column)) for column, kind in columns.items()}
        if values["started_at"] is None or values["status"] not in STATUSES[statuses]:
            continue
        for field in fields(make):
            if field.name in columns and values[field.name] is None:
                empty = 0 if columns[field.name] == "count" else ""
                values[field.name] = empty if field.default is MISSING else field.default
        yield make(**values)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return None if isinstance(value, bool) else count_or_none(value)


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    # Near the ends of the calendar, times of other zones cannot be converted to UTC.
    return (time if time.tzinfo else time.replace(tzinfo=UTC)) if 1970 <= time.year < 3000 else None


_READERS: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    "id": _text,
    "name": _text,
    "label": _text,
    "text": _text,
    "time": _time,
    "seconds": number_or_none,
    "rate": number_or_none,
    "usd": number_or_none,
    "count": _count,
}
