"""From the bytes of a file to text for a model: which reader, and those of text formats."""

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
"""Longer YAML is not parsed, only shown: PyYAML reads about 1 MB in ten seconds."""


_MAX_YAML_NUMBER_CHARS = 1000
"""Characters of a number: one in base 60 (``1:30:00``) takes the square of its length."""


def read_content(suffix: str, data: bytes, window: Window, sheet: str | None = None) -> str:
    """The content as text, the format told by ``suffix`` (lower case, with its dot).

    Raises:
        ValueError: binary, or not what the suffix says.
        ModuleNotFoundError: a reader is not installed.
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
    # One endless line is hard to read and cannot be paged through.
    return excerpt_lines(text if "\n" in text.strip() else _indent(value, text), window, f"JSON{note}")


def _indent(value: Any, text: str) -> str:
    """JSON on many lines; as it is where that would be much longer, as with a long list deep inside."""
    made = io.StringIO()
    try:
        for piece in json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(value):
            made.write(piece)
            if made.tell() > 10 * len(text) + 100_000:
                return text
    except RecursionError:
        return text
    return made.getvalue()


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
    except Exception:  # several documents, tags of an application, KeyError and others from a wrong `!!bool`
        value = None
    if _is_records(value):
        return _format_records(value, window, f"YAML{note}, a list of records")
    return excerpt_lines(text, window, f"YAML{note}")


def _make_yaml_loader(yaml: Any) -> Any:
    """The safe loader of PyYAML, without what takes far more than the length of the text."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            self.merged += len(node.value)
            if self.merged > _MAX_YAML_CHARS:  # `<<: [*a, *a]` goes through all of it twice
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


def _is_records(value: Any) -> bool:
    """A list of flat objects, which is a table, unless it would be too large a one."""
    if not (isinstance(value, list) and value and all(isinstance(row, dict) for row in value)):
        return False
    if sum(map(len, value)) > MAX_CELLS:  # YAML may name one object in many rows
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


# With the numbers of half of Europe, a semicolon stands beside as many commas.
_SEPARATORS = "\t;,|"


_QUOTED = re.compile(rf'(?<![^{_SEPARATORS}\r\n])"(?:[^"]++|"")*+"?')


def guess_separator(text: str) -> str:
    """What the first 20 lines agree on with the header; a comma when there is nothing to separate.

    Not `csv.Sniffer`: a file of 1 kB can keep it, and with it the whole process, busy for hours.
    """
    head = [line for line in _QUOTED.sub("", text[:65_536]).splitlines() if line.strip(" ")][:20]

    def agreeing(separator: str) -> int:
        counts = [line.count(separator) for line in head]
        return counts.count(counts[0]) if counts and counts[0] else 0

    best = max(_SEPARATORS, key=agreeing)
    return best if agreeing(best) else ","


def read_separated(text: str, window: Window, separator: str, label: str) -> str:
    """The table, or the text as it is when that is none or would be too large a one."""
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
    """How many fields the wider of the first two records has: no later one may have more, for pandas.

    It counts no further than `MAX_COLUMNS` + 1.
    """
    field = re.compile(rf'(?:"(?:[^"]++|"")*+"?)?[^{re.escape(separator)}\r\n]*+')
    space = " " if separator == "\t" else " \t"
    blank = re.compile(rf"(?:[{space}]*+[\r\n])*+")
    widest = 1
    at = _match_end(blank, text, 0)
    for _ in range(2):
        for count in range(1, MAX_COLUMNS + 2):
            widest = max(widest, count)
            at = _match_end(field, text, at)
            if text[at : at + 1] != separator:
                break
            at += 1
        at = _match_end(blank, text, at)
    return widest


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
