"""What a saved notebook still knows of its calls: each answer's output carries its record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from createagents_nb.agent.call_record import CallRecord, RequestRecord, ToolRecord
from createagents_nb.errors import RecorderFileError

from .settled import SettledCall

__all__ = ["BUNDLE_MIME", "BUNDLE_VERSION", "read_notebook"]

BUNDLE_MIME = "application/vnd.createagents-nb+json"
"""The type under which an output holds the record: ``call``, ``requests``, ``tools`` and ``version``."""
BUNDLE_VERSION = 1

_Record = TypeVar("_Record", CallRecord, RequestRecord, ToolRecord)


def read_notebook(path: str | os.PathLike[str]) -> list[SettledCall]:
    """The calls in a notebook's outputs, in the order of its cells; one that is shown twice comes once.

    Raises:
        RecorderFileError: the file cannot be read, is no notebook, or a newer version wrote it.
    """
    try:
        notebook = json.loads(Path(path).expanduser().read_text("utf-8"))
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs") or ()]
        bundles = [output["data"] for output in outputs if BUNDLE_MIME in (output.get("data") or ())]
    except OSError as error:
        raise RecorderFileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RecorderFileError(f"{str(path)!r} is not a notebook: give the path of an .ipynb file") from error
    found: dict[str, SettledCall] = {}
    for bundle in bundles:
        for settled in _settled(bundle, path):
            found.setdefault(settled.call.call_id, settled)
    return list(found.values())


def _settled(bundle: Mapping[str, Any], path: str | os.PathLike[str]) -> Iterator[SettledCall]:
    record = bundle[BUNDLE_MIME]
    if not isinstance(record, dict):
        return
    version = record.get("version")
    if isinstance(version, int) and version > BUNDLE_VERSION:
        raise RecorderFileError(
            f"{str(path)!r} was saved by a newer createagents-nb (format {version}; this one reads "
            f"{BUNDLE_VERSION}): pip install -U createagents-nb"
        )
    call = record.get("call")
    if not isinstance(call, dict) or not isinstance(call.get("call_id"), str):
        return
    known = {"response": _response(call.get("response_in_plain"), bundle.get("text/plain")), **call}
    yield SettledCall(
        _record(CallRecord, known),
        tuple(_record(RequestRecord, one) for one in record.get("requests") or () if isinstance(one, dict)),
        tuple(_record(ToolRecord, one) for one in record.get("tools") or () if isinstance(one, dict)),
    )


def _response(places: Any, plain: Any) -> str | None:
    """The answer, of which the record says only where it stands in the output's text."""
    text = "".join(plain) if isinstance(plain, list) else plain
    if not isinstance(places, list) or not isinstance(text, str):
        return None
    try:
        return "\n\n".join(text[int(start) : int(end)] for start, end in places)
    except (TypeError, ValueError):
        return None


def _record(make: type[_Record], known: Mapping[str, Any]) -> _Record:
    values: dict[str, Any] = {}
    for field in fields(make):
        value = known.get(field.name)
        if field.name == "started_at":
            value = _time(value)
        elif value is None:
            value = "" if field.default is MISSING else field.default
        values[field.name] = value
    return make(**values)


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
