"""Readers of Excel, Parquet and PDF files: from bytes to an excerpt as text."""

from __future__ import annotations

import importlib
import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..tools.result_text import format_frame
from .excerpt import MAX_CELLS, MAX_CHARS, Window, excerpt_lines, excerpt_table, import_extra

__all__ = ["read_excel", "read_parquet", "read_pdf"]

_MAX_UNPACK_RATIO = 20
"""Limit for the unpacked size of an .xlsx, as a multiple of its own."""

_MAX_SHEET_CELLS = 10_000_000
"""Limit for the cells of a sheet, which take openpyxl and pandas about ten seconds."""

_MAX_SHEET_ROWS = 1_048_576
"""Limit of Excel itself; a file may contain any row number."""

_MAX_EXCERPT_BYTES = 20 * 1024 * 1024
"""Limit for the decoded rows of a Parquet file that are shown; the same as the default for a whole file."""

_MAX_ROW_GROUP_BYTES = 1_000_000_000
"""Limit for the uncompressed size of a row group."""


class _RefusedError(ValueError):
    """A file was rejected; the message is complete, and not from a library."""


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    """Convert whatever a library raises for a broken file to a ValueError that names the expected format."""
    try:
        yield
    except _RefusedError as error:
        raise ValueError(*error.args) from None
    except MemoryError:  # not necessarily caused by the file
        raise
    except Exception as error:  # undocumented: KeyError, zlib.error, ParseError, struct.error, …
        raise ValueError(f"not {what} that can be read: {error or type(error).__name__}") from error


def read_excel(data: bytes, window: Window, sheet: str | None) -> str:
    import pandas as pd

    import_extra("openpyxl", "Excel")
    with _translate_errors("an Excel file (.xlsx)"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > max(_MAX_UNPACK_RATIO * len(data), 10_000_000):
            raise _RefusedError(f"it unpacks to {size:,} bytes, which is too much")
        with pd.ExcelFile(io.BytesIO(data), engine="openpyxl") as book:
            names = [str(name) for name in book.sheet_names]
            if sheet is not None and sheet not in names:
                raise _RefusedError(f"there is no sheet {sheet!r}; available: {', '.join(names)}")
            shown = sheet or names[0]
            others = f" (sheets: {', '.join(names)})" if len(names) > 1 else ""
            worksheet: Any = book.book[shown]
            # pandas reads all rows at once, so they are counted as it iterates.
            iter_rows = worksheet.iter_rows
            worksheet.iter_rows = lambda: _limit_rows(iter_rows(), shown)
            frame = pd.read_excel(book, sheet_name=shown)
    return excerpt_table(frame, window, f"Excel, sheet {shown!r}{others}")


def _limit_rows(rows: Iterator[Any], sheet: str) -> Iterator[Any]:
    """Yield the rows of a sheet while rows × widest row stays within the limits."""
    height = widest = cells = chars = 0
    for number, row in enumerate(rows, 1):
        width = len(row)
        while width and row[width - 1].value is None:
            width -= 1
        if width:
            height, widest = number, max(widest, width)
            chars += sum(len(cell.value) for cell in row[:width] if isinstance(cell.value, str))
        cells += len(row) + 1  # empty cells cost as much
        if max(height * widest, cells) > _MAX_SHEET_CELLS or number > _MAX_SHEET_ROWS or chars > MAX_CHARS:
            raise _RefusedError(
                f"sheet {sheet!r} is too large: by row {number:,} it has {max(height * widest, cells):,} cells, "
                f"empty ones counted, and {chars:,} characters. Save the part that matters as .csv"
            )
        yield row


def read_parquet(data: bytes, window: Window) -> str:
    import_extra("pyarrow", "Parquet")
    pa, pq = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    rows = window.count(20)
    with _translate_errors("a Parquet file"):
        file = pq.ParquetFile(io.BytesIO(data))
        schema, total = file.schema_arrow, file.metadata.num_rows
        # As dictionaries, so that a text shared by many rows is stored once until the size has been checked.
        texts = [
            column.path
            for column in file.schema
            if column.physical_type == "BYTE_ARRAY" and column.converted_type != "DECIMAL"
        ]
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
        excerpt = pa.Table.from_batches(_read_batches(file, window.offset, rows), schema=file.schema_arrow)
        decoded = [
            _decode_dictionary(column, field.type) for column, field in zip(excerpt.columns, schema, strict=True)
        ]
        excerpt = pa.Table.from_arrays(decoded, names=schema.names).replace_schema_metadata(schema.metadata)
        frame = excerpt.to_pandas()
    return "Parquet, " + format_frame(frame, offset=window.offset, rows=rows, total=total)


def _read_batches(file: Any, offset: int, rows: int) -> Iterator[Any]:
    """Yield the rows from ``offset`` on, without opening row groups that contain none of them.

    One group at a time: pyarrow cannot combine the dictionaries of two groups in lists of texts.
    """
    pa = importlib.import_module("pyarrow")
    width = sum(max(column.length or 0, 8) for column in file.schema)
    first = size = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        position, first = first, first + group.num_rows
        if first <= offset or position >= offset + rows:
            continue
        _check_group(group)
        for batch in file.iter_batches(max(1, min(1024, _MAX_EXCERPT_BYTES // width)), row_groups=[number]):
            wanted = range(max(offset - position, 0), min(offset + rows - position, len(batch)))
            position += len(batch)
            if wanted:
                part = batch.take(pa.array(wanted))  # not a slice: a cast of lists ignores its bounds
                size += sum(_decoded_size(column) for column in part.columns)
                if size > _MAX_EXCERPT_BYTES:
                    raise _RefusedError(
                        f"the {rows:,} rows asked for have more than {_MAX_EXCERPT_BYTES:,} bytes: "
                        "ask for fewer with max_rows"
                    )
                yield part
            if position >= offset + rows:
                return


def _check_group(group: Any) -> None:
    columns = [group.column(number) for number in range(group.num_columns)]
    size = sum(column.total_uncompressed_size for column in columns)
    # In a column of lists, one row may contain all the values.
    values = sum(max(column.num_values - group.num_rows, 0) for column in columns)
    if size > _MAX_ROW_GROUP_BYTES or values > 5 * MAX_CELLS:
        raise _RefusedError(
            f"a row group unpacks to {size:,} bytes and has {values:,} values in lists, which is too much: "
            "write the columns that matter to a file of their own"
        )


def _decoded_size(array: Any) -> int:
    """Size of an array in bytes after decoding its dictionaries."""
    pa, pc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    if pa.types.is_dictionary(array.type) and not pa.types.is_primitive(array.type.value_type):
        return pc.sum(pc.take(pc.binary_length(array.dictionary), array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(_decoded_size(field) for field in array.flatten())
    if pa.types.is_map(array.type):  # maps have no flatten
        array = array.cast(pa.list_(pa.struct([array.type.key_field, array.type.item_field])))
    if pa.types.is_nested(array.type):
        return _decoded_size(array.flatten())
    return int(array.nbytes)


def _decode_dictionary(column: Any, type: Any) -> Any:  # noqa: A002 - pyarrow's name
    pa = importlib.import_module("pyarrow")
    try:
        return column.cast(type)
    except pa.ArrowNotImplementedError:  # casts to string_view
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def read_pdf(data: bytes, window: Window, seconds: float = 30) -> str:
    """Extract the text of the pages up to the last line in ``window``.

    Args:
        data: content of the file.
        window: the lines to show.
        seconds: time limit; the tool's timeout cannot stop a thread.

    Raises:
        ValueError: not a PDF, encrypted, without text, or too slow.
    """
    pypdf = import_extra("pypdf", "PDF")
    deadline = time.monotonic() + seconds

    def check_time(*_: Any) -> None:
        if time.monotonic() > deadline:
            raise _RefusedError(
                f"the PDF takes more than {seconds:g} s to read: save the pages that matter as one of their own"
            )

    with _translate_errors("a PDF"):
        document = pypdf.PdfReader(io.BytesIO(data))
        if document.is_encrypted and not document.decrypt(""):
            raise _RefusedError("the PDF needs a password: save it without one")
        total = len(document.pages)
        pages, line_count, number, has_words = [], 0, 0, False
        for number, page in enumerate(document.pages, 1):
            words = page.extract_text(visitor_operand_before=check_time)
            check_time()  # pypdf suppresses errors raised inside a form
            has_words = has_words or bool(words.strip())
            pages.append(f"--- page {number} ---\n{words}")
            line_count += len(pages[-1].splitlines())
            if has_words and line_count > window.offset + window.count(1000):
                break
        if not has_words:
            raise _RefusedError(f"the PDF has {total:,} pages and no text: it may be scanned")
    part = f", the first {number:,} read" if number < total else ""
    return excerpt_lines("\n".join(pages), window, f"PDF, {total:,} page{'s' * (total != 1)}{part}")
