"""Records as rows of bytes: what a million calls wait in until somebody looks at them.

A record of 23 fields is an object of 450 bytes with its numbers; here a row is a struct of fixed size, and its
texts stand in lists beside it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

from .columns import Columns, Kind, required

__all__ = ["UNKNOWN", "Rows", "as_count", "as_number"]

Record = TypeVar("Record")

UNKNOWN: Final = -(2**63)
"""In a row, of a count or a time; of a number it is NaN, of a label -1. pandas' NaT is the same."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_FORMATS: Final[dict[Kind, str]] = {
    "id": "16s",
    "time": "q",
    "label": "i",
    "seconds": "d",
    "rate": "d",
    "usd": "d",
    "count": "q",
}
_NUMBERS: Final = frozenset({"seconds", "rate", "usd"})
_TEXTS: Final = frozenset({"name", "text"})
_MISFITS: Final = (struct.error, AttributeError, TypeError, ValueError, OverflowError)
_Texts: TypeAlias = tuple[str | None, ...]


class _Codes(dict[Any, int]):
    """Labels and their codes, made when they first come."""

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__({None: -1, "": -1})
        self._labels: list[str] = []
        for label in known:
            self[label]

    def __missing__(self, label: Any) -> int:
        # Half a surrogate pair, from a model, is no text for most who read the frames.
        text = str(label).encode("utf-8", "replace").decode("utf-8")
        if text != label:
            return self[text]
        self[label] = code = len(self) - 2
        return code

    @property
    def labels(self) -> list[str]:
        """In the order of their codes."""
        if len(self._labels) != len(self) - 2:
            self._labels = [label for label in self if label]
        return self._labels


class Rows(Generic[Record]):
    """Rows of one frame, by number; not safe for threads.

    Args:
        columns: of the frame.
        make: the record's class.
        statuses: the labels of ``status``, in the order of their codes.
    """

    def __init__(self, columns: Columns, make: type[Record], statuses: Sequence[str]) -> None:
        self.columns = columns
        self._make = make
        by_kind = {name: [column for column, kind in columns.items() if kind == name] for name in _FORMATS}
        numbers = [column for column, kind in columns.items() if kind in _NUMBERS]
        self.label_columns, self.number_columns, self.count_columns = by_kind["label"], numbers, by_kind["count"]
        self.text_columns = [column for column, kind in columns.items() if kind in _TEXTS]
        self.packed_columns = [
            "call_id",
            "started_at",
            *self.label_columns,
            *self.number_columns,
            *self.count_columns,
        ]
        self.codes = {column: _Codes(statuses if column == "status" else ()) for column in self.label_columns}
        self.texts: list[_Texts] = []
        """Of each row, in the order of ``text_columns``."""
        self.data = bytearray()
        self.formats = [_FORMATS[columns[column]] for column in self.packed_columns]
        self.row = struct.Struct("<" + "".join(self.formats))
        self.strange: dict[int, Record] = {}
        """Records that do not fit into a row as they are: it holds what of them does."""
        self.other_ids: dict[int, str] = {}
        """Ids that are not 32 hexadecimal digits."""
        self._fields = attrgetter(*self.packed_columns, *self.text_columns)
        self._no_texts: _Texts = (None,) * len(self.text_columns)
        needed = required(make)
        self._no_label = {column: "" if column in needed else None for column in self.label_columns}

    def __len__(self) -> int:
        return len(self.data) // self.row.size

    def truncate(self, size: int) -> None:
        """Forget the rows from ``size`` on: some that were begun and not finished."""
        for index in range(size, max(len(self), len(self.texts))):
            self.strange.pop(index, None)
            self.other_ids.pop(index, None)
        del self.data[size * self.row.size :]
        del self.texts[size:]

    def extend(self, records: Sequence[Record]) -> None:
        """Put ``records`` behind the rows that are there."""
        if not records:
            return
        try:
            rows, texts = self._packed(records)
        except _MISFITS:  # one of them
            first = len(self)
            parts = [self._packed_alone(first + at, record) for at, record in enumerate(records)]
            rows, texts = b"".join(row for row, _ in parts), [its for _, its in parts]
        self.data += rows
        self.texts += texts

    def replace(self, index: int, record: Record) -> None:
        """Make ``record`` the row ``index``, which is there."""
        self.strange.pop(index, None)
        self.other_ids.pop(index, None)
        width = self.row.size
        self.data[index * width : (index + 1) * width], self.texts[index] = self._packed_alone(index, record)

    def _packed(self, records: Sequence[Record]) -> tuple[bytes, list[_Texts]]:
        """Column by column, which takes half the time of record by record.

        Raises:
            _MISFITS: one of them does not fit into a row as it is.
        """
        fields = list(zip(*map(self._fields, records), strict=True))
        names, times = fields[0], fields[1]
        joined = "".join(names)
        ids = bytes.fromhex(joined)
        # Others than 32 small hexadecimal digits would come back changed.
        if len(ids) != 16 * len(names) or not joined.islower() or set(map(len, names)) != {32}:
            raise ValueError
        columns: list[Iterable[Any]] = [
            struct.unpack("16s" * len(names), ids),
            [(time - EPOCH) // _MICROSECOND for time in times],
        ]
        at = len(columns)
        for table in self.codes.values():
            columns.append(map(table.__getitem__, fields[at]))
            at += 1
        for kind, unknown in ((self.number_columns, math.nan), (self.count_columns, UNKNOWN)):
            for _ in kind:
                columns.append([unknown if known is None else known for known in fields[at]])
                at += 1
        no_texts = self._no_texts  # one for all that have none
        texts = [no_texts if its == no_texts else its for its in zip(*fields[at:], strict=True)]
        return b"".join(map(self.row.pack, *columns)), texts

    def _packed_alone(self, index: int, record: Record) -> tuple[bytes, _Texts]:
        try:
            row, (texts,) = self._packed([record])
        except _MISFITS:
            texts = tuple(getattr(record, column) for column in self.text_columns)
            return self._packed_as_far_as_it_fits(index, record), texts
        return row, texts

    def _packed_as_far_as_it_fits(self, index: int, record: Any) -> bytes:
        """For records that are not as they should be, and ids that are no 32 hexadecimal digits."""

        def fitting(convert: Callable[[Any], Any], unknown: Any, columns: Iterable[str]) -> list[Any]:
            found = (convert(getattr(record, column, None)) for column in columns)
            return [unknown if known is None else known for known in found]

        name = str(record.call_id)
        try:
            packed_id = bytes.fromhex(name)
        except ValueError:
            packed_id = b""
        if len(packed_id) != 16 or packed_id.hex() != name:
            self.other_ids[index] = name
        self.strange[index] = record
        return self.row.pack(
            packed_id,
            *fitting(_microseconds, UNKNOWN, ["started_at"]),
            *(self.codes[column][_hashable(getattr(record, column, None))] for column in self.label_columns),
            *fitting(as_number, math.nan, self.number_columns),
            *fitting(as_count, UNKNOWN, self.count_columns),
        )

    def record(self, index: int) -> Record:
        """The record as it was put."""
        if index in self.strange:
            return self.strange[index]
        unpacked = self.row.unpack_from(self.data, index * self.row.size)
        known = dict(zip(self.packed_columns, unpacked, strict=True))
        known["call_id"] = known["call_id"].hex()
        known["started_at"] = EPOCH + timedelta(microseconds=known["started_at"])
        for column in self.label_columns:
            code = known[column]
            known[column] = self.codes[column].labels[code] if code >= 0 else self._no_label[column]
        for column in self.number_columns:
            known[column] = None if math.isnan(known[column]) else known[column]
        for column in self.count_columns:
            known[column] = None if known[column] == UNKNOWN else known[column]
        known |= zip(self.text_columns, self.texts[index], strict=True)
        return self._make(**known)


def _hashable(label: Any) -> Any:
    return label if label is None or isinstance(label, str) else str(label)


def as_number(known: Any) -> float | None:
    """A float, or None for what is none."""
    try:
        return float(known)
    except (TypeError, ValueError, OverflowError):
        return None


def as_count(known: Any) -> int | None:
    """An integer of 64 bits, or None for what is none: a count of 1.5, say."""
    try:
        number = int(known)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == known and -(2**63) < number < 2**63 else None


def _microseconds(known: Any) -> int | None:
    if not isinstance(known, datetime):
        return None
    utc = known.replace(tzinfo=UTC) if known.tzinfo is None else known
    return (utc - EPOCH) // _MICROSECOND
