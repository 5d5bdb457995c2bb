"""Reading a file by its suffix, and the readers of text formats: from bytes to an excerpt as text."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable
from typing import Any

from .binary_readers import read_excel, read_parquet, read_pdf
from .excerpt import MAX_CELLS, MAX_CHARS, MAX_COLUMNS, Window, excerpt_lines, excerpt_table, import_extra

__all__ = ["guess_separator", "read_content", "read_separated"]

_MAX_YAML_CHARS = 1_000_000
"""Limit for YAML that is parsed; PyYAML takes about ten seconds for 1 MB. Longer YAML is shown as text."""

_MAX_YAML_NUMBER_CHARS = 1000
"""Limit for a number: parsing one in base 60 (``1:30:00``) takes quadratic time."""


def read_content(suffix: str, data: bytes, window: Window, sheet: str | None = None) -> str:
    """Read an excerpt of a file as text.

    Args:
        suffix: suffix of the file, in lower case with its dot; it determines the format.
        data: content of the file.
        window: the rows or lines to show.
        sheet: name of an Excel sheet; default the first.

    Raises:
        ValueError: the content is binary or does not match the suffix.
        ModuleNotFoundError: the library for the format is not installed.
    """
    reader = _READERS.get(suffix)
    if suffix in (".xlsx", ".xlsm"):
        return read_excel(data, window, sheet)
    if suffix in (".xls", ".xlsb", ".ods"):
        raise ValueError(f"{suffix} files are not supported: save it as .xlsx or .csv")
    if reader is not None:
        return reader(data, window)
    text, note = _decode(data)
    return excerpt_lines(text, window, f"text{note}")


def _read_csv(data: bytes, window: Window) -> str:
    text, note = _decode(data)
    return read_separated(text, window, guess_separator(text), f"CSV{note}")


def _read_tsv(data: bytes, window: Window) -> str:
    text, note = _decode(data)
    return read_separated(text, window, "\t", f"TSV{note}")


def _read_json(data: bytes, window: Window) -> str:
    text, note = _decode(data)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return excerpt_lines(text, window, f"text{note}, not valid JSON ({error})")
    if _is_records(value):
        return _format_records(value, window, f"JSON{note}, a list of records")
    # A single long line cannot be paged through.
    return excerpt_lines(text if "\n" in text.strip() else _indent(value, text), window, f"JSON{note}")


def _indent(value: Any, text: str) -> str:
    """Indent JSON; return ``text`` if that would be much longer, as with a deeply nested list."""
    indented = io.StringIO()
    try:
        for chunk in json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(value):
            indented.write(chunk)
            if indented.tell() > 10 * len(text) + 100_000:
                return text
    except RecursionError:
        return text
    return indented.getvalue()


def _read_jsonl(data: bytes, window: Window) -> str:
    text, note = _decode(data)
    try:
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        return excerpt_lines(text, window, f"text{note}, not valid JSON Lines ({error})")
    if _is_records(values):
        return _format_records(values, window, f"JSON Lines{note}")
    return excerpt_lines(text, window, f"JSON Lines{note}")


def _read_yaml(data: bytes, window: Window) -> str:
    text, note = _decode(data)
    yaml = import_extra("yaml", "YAML")
    if len(text) > _MAX_YAML_CHARS:
        return excerpt_lines(text, window, f"YAML{note}")
    try:
        value = yaml.load(text, Loader=_make_yaml_loader(yaml))
    except Exception:  # several documents, unknown tags, KeyError and others from an invalid `!!bool`
        value = None
    if _is_records(value):
        return _format_records(value, window, f"YAML{note}, a list of records")
    return excerpt_lines(text, window, f"YAML{note}")


def _make_yaml_loader(yaml: Any) -> Any:
    """Make a subclass of PyYAML's safe loader that rejects what takes much more than linear time."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            self.merged += len(node.value)
            if self.merged > _MAX_YAML_CHARS:  # nested `<<: [*a, *a]` grows exponentially
                raise yaml.YAMLError("too much is merged")

    def bounded(construct: Any) -> Any:
        def number(loader: Any, node: Any) -> Any:
            if len(node.value) > _MAX_YAML_NUMBER_CHARS:
                raise yaml.YAMLError("a number is too long")
            return construct(loader, node)

        return number

    for tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        Loader.add_constructor(tag, bounded(Loader.yaml_constructors[tag]))
    return Loader


_READERS: dict[str, Callable[[bytes, Window], str]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".tab": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".pdf": read_pdf,
}


def _decode(data: bytes) -> tuple[str, str]:
    """Decode text; also return a note if it is not UTF-8."""
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


def _is_records(value: Any) -> bool:
    """Whether a value is a list of flat objects, and not too large for a table."""
    if not (isinstance(value, list) and value and all(isinstance(row, dict) for row in value)):
        return False
    if sum(map(len, value)) > MAX_CELLS:  # YAML may use one object in many rows
        return False
    columns = len({key for row in value for key in row})
    if columns > MAX_COLUMNS or columns * len(value) > MAX_CELLS:
        return False
    if any(isinstance(cell, (dict, list, set)) for row in value for cell in row.values()):
        return False
    return sum(len(cell) for row in value for cell in row.values() if isinstance(cell, (str, bytes))) <= MAX_CHARS


def _format_records(rows: list[dict[str, Any]], window: Window, label: str) -> str:
    import pandas as pd

    return excerpt_table(pd.DataFrame(rows), window, label)


# A semicolon before a comma: in decimal-comma locales, a file has both.
_SEPARATORS = "\t;,|"
_QUOTED = re.compile(rf'(?<![^{_SEPARATORS}\r\n])"(?:[^"]++|"")*+"?')


def guess_separator(text: str) -> str:
    """Return the separator that occurs as often as in the header in most of the first 20 lines; default a comma.

    Not `csv.Sniffer`: a file of 1 kB can keep it busy for hours.
    """
    head = [line for line in _QUOTED.sub("", text[:65_536]).splitlines() if line.strip(" ")][:20]

    def count_agreeing(separator: str) -> int:
        counts = [line.count(separator) for line in head]
        return counts.count(counts[0]) if counts and counts[0] else 0

    best = max(_SEPARATORS, key=count_agreeing)
    return best if count_agreeing(best) else ","


def read_separated(text: str, window: Window, separator: str, label: str) -> str:
    """Show a table; show the text if it is not a regular table or is too large."""
    import pandas as pd

    columns = _count_columns(text, separator)
    rows = MAX_CELLS // columns
    if columns <= MAX_COLUMNS:
        try:
            frame = pd.read_csv(io.StringIO(text), sep=separator, low_memory=False, nrows=rows + 1)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            return excerpt_lines(text, window, f"{label}, not a regular table ({error}), so as text")
        if len(frame) <= rows:
            return excerpt_table(frame, window, label)
    return excerpt_lines(text, window, f"{label}, too large for a table, so as text")


def _count_columns(text: str, separator: str) -> int:
    """Count the fields of the wider of the first two records, up to `MAX_COLUMNS` + 1.

    pandas rejects later records with more fields.
    """
    field = re.compile(rf'(?:"(?:[^"]++|"")*+"?)?[^{re.escape(separator)}\r\n]*+')
    space = " " if separator == "\t" else " \t"
    blank = re.compile(rf"(?:[{space}]*+[\r\n])*+")
    widest = 1
    position = _match_end(blank, text, 0)
    for _ in range(2):
        for count in range(1, MAX_COLUMNS + 2):
            widest = max(widest, count)
            position = _match_end(field, text, position)
            if text[position : position + 1] != separator:
                break
            position += 1
        position = _match_end(blank, text, position)
    return widest


def _match_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
