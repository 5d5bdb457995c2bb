"""From the bytes of a file to text for a model: one reader a format."""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..agent.tool_text import frame_text

__all__ = ["Window", "read"]

_YAML_CHARS = 1_000_000
"""Longer YAML is not parsed, only shown: PyYAML reads about 1 MB in ten seconds."""

_UNPACKED = 20
"""How many times its size an .xlsx may unpack to."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows or lines to show: from ``offset`` on, ``rows`` of them or a default, ``most`` at most."""

    offset: int
    rows: int | None
    most: int

    def count(self, default: int) -> int:
        return min(self.rows or default, self.most)


def read(suffix: str, data: bytes, window: Window, sheet: str | None = None) -> str:
    """The content as text, the format told by ``suffix`` (lower case, with its dot).

    Raises:
        ValueError: binary, or not what the suffix says.
        ModuleNotFoundError: a reader is not installed.
    """
    reader = _READERS.get(suffix)
    if suffix in (".xlsx", ".xlsm"):
        return _excel(data, window, sheet)
    if suffix in (".xls", ".xlsb", ".ods"):
        raise ValueError(f"{suffix} files are not supported: save it as .xlsx or .csv")
    if reader is not None:
        return reader(data, window)
    text, note = _decoded(data)
    return _lines(text, window, f"text{note}")


def _csv(data: bytes, window: Window) -> str:
    text, note = _decoded(data)
    try:
        separator = csv.Sniffer().sniff(text[:65_536], delimiters=",;\t|").delimiter
    except csv.Error:
        separator = ","
    return _separated(text, window, separator, f"CSV{note}")


def _tsv(data: bytes, window: Window) -> str:
    text, note = _decoded(data)
    return _separated(text, window, "\t", f"TSV{note}")


def _separated(text: str, window: Window, separator: str, label: str) -> str:
    import pandas as pd

    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator, low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        return _lines(text, window, f"{label}, not a regular table ({error}), so as text")
    return _table(frame, window, label)


def _json(data: bytes, window: Window) -> str:
    text, note = _decoded(data)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _lines(text, window, f"text{note}, not valid JSON ({error})")
    if _is_records(value):
        return _records(value, window, f"JSON{note}, a list of records")
    # One endless line is hard to read and cannot be paged through.
    return _lines(
        text if "\n" in text.strip() else json.dumps(value, indent=1, ensure_ascii=False), window, f"JSON{note}"
    )


def _jsonl(data: bytes, window: Window) -> str:
    text, note = _decoded(data)
    try:
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        return _lines(text, window, f"text{note}, not valid JSON Lines ({error})")
    if _is_records(values):
        return _records(values, window, f"JSON Lines{note}")
    return _lines(text, window, f"JSON Lines{note}")


def _yaml(data: bytes, window: Window) -> str:
    text, note = _decoded(data)
    yaml = _extra("yaml", "YAML")
    if len(text) > _YAML_CHARS:
        return _lines(text, window, f"YAML{note}")
    try:
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):  # several documents, tags of an application
        value = None
    if _is_records(value):
        return _records(value, window, f"YAML{note}, a list of records")
    return _lines(text, window, f"YAML{note}")


def _excel(data: bytes, window: Window, sheet: str | None) -> str:
    import pandas as pd

    _extra("openpyxl", "Excel")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > max(_UNPACKED * len(data), 10_000_000):
            raise ValueError(f"it unpacks to {size:,} bytes, which is too much")
        book = pd.ExcelFile(io.BytesIO(data), engine="openpyxl")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"not an Excel file (.xlsx): {error}") from error
    with book:
        names = [str(name) for name in book.sheet_names]
        if sheet is not None and sheet not in names:
            raise ValueError(f"there is no sheet {sheet!r}; available: {', '.join(names)}")
        shown = sheet or names[0]
        others = f" (sheets: {', '.join(names)})" if len(names) > 1 else ""
        return _table(pd.read_excel(book, sheet_name=shown), window, f"Excel, sheet {shown!r}{others}")


def _parquet(data: bytes, window: Window) -> str:
    _extra("pyarrow", "Parquet")
    pa, pq = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    rows = window.count(20)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        total, seen = file.metadata.num_rows, 0
        parts: list[Any] = []
        for batch in file.iter_batches(batch_size=65_536):
            start = max(window.offset - seen, 0)
            part = batch.slice(start, rows - sum(len(known) for known in parts))
            if len(part):
                parts.append(part)
            seen += len(batch)
            if seen >= window.offset + rows:
                break
        frame = pa.Table.from_batches(parts, schema=file.schema_arrow).to_pandas()
    except pa.ArrowException as error:
        raise ValueError(f"not a Parquet file: {error}") from error
    return "Parquet, " + frame_text(frame, offset=window.offset, rows=rows, total=total)


def _pdf(data: bytes, window: Window) -> str:
    pypdf = _extra("pypdf", "PDF")
    try:
        document = pypdf.PdfReader(io.BytesIO(data))
        if document.is_encrypted and not document.decrypt(""):
            raise ValueError("the PDF needs a password: save it without one")
        pages = [page.extract_text() for page in document.pages]
    except pypdf.errors.PyPdfError as error:
        raise ValueError(f"not a PDF that can be read: {error}") from error
    if not any(page.strip() for page in pages):
        raise ValueError(f"the PDF has {len(pages):,} pages and no text: it may be scanned")
    text = "\n".join(f"--- page {number} ---\n{page}" for number, page in enumerate(pages, 1))
    return _lines(text, window, f"PDF, {len(pages):,} page{'s' * (len(pages) != 1)}")


_READERS: dict[str, Callable[[bytes, Window], str]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".tab": _tsv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".pdf": _pdf,
}


def _extra(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} files need {error.name}: pip install 'createagents-nb[files]'", name=error.name
        ) from None


def _decoded(data: bytes) -> tuple[str, str]:
    """Text, and a note when its encoding is not UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16"), " (UTF-16)"
        except UnicodeDecodeError:
            pass
    head = data[:8192]
    control = sum(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in head)
    if b"\0" in head or control > len(head) / 20:
        raise ValueError(
            "a binary file, not text; readable are text, CSV, TSV, JSON, JSONL, YAML, .xlsx, Parquet and PDF"
        )
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return data.decode("latin-1"), " (not UTF-8, read as Latin-1)"


def _lines(text: str, window: Window, label: str) -> str:
    lines = text.splitlines()
    shown = lines[window.offset : window.offset + window.count(1000)]
    if len(shown) == len(lines):
        return f"{label}, {len(lines):,} line{'s' * (len(lines) != 1)}\n\n" + text
    if not shown:
        return f"{label}, {len(lines):,} lines; none from {window.offset:,} on"
    last = window.offset + len(shown)
    more = f"; continue with offset={last}" if last < len(lines) else ""
    return f"{label}, {len(lines):,} lines; lines {window.offset:,} to {last - 1:,}{more}\n\n" + "\n".join(shown)


def _table(frame: Any, window: Window, label: str) -> str:
    return f"{label}, " + frame_text(frame, offset=window.offset, rows=window.count(20))


def _is_records(value: Any) -> bool:
    """A list of flat objects, which is a table."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(row, dict) and not any(isinstance(cell, (dict, list)) for cell in row.values())
            for row in value
        )
    )


def _records(rows: list[dict[str, Any]], window: Window, label: str) -> str:
    import pandas as pd

    return _table(pd.DataFrame(rows), window, label)
