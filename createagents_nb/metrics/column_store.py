"""Compact columnar storage of records.

A record of 23 fields with its numbers takes 450 bytes as an object; here each field is an item in the array of its
column, which takes about a third.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from .columns import Columns, Kind, required

__all__ = ["ID_BYTES", "UNKNOWN", "Rows", "as_count", "as_number"]

Record = TypeVar("Record")

ID_BYTES: Final = 16
"""Size of a call's id, which is written as twice as many hexadecimal digits."""
UNKNOWN: Final = -(2**63)
"""An unknown count or time, as in pandas' NaT; unknown numbers are NaN, unknown labels -1."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TYPE_CODES: Final[dict[Kind, str]] = {
    "time": "q",
    "label": "i",
    "seconds": "d",
    "rate": "d",
    "usd": "d",
    "count": "q",
}
"""Type codes of the arrays; texts are stored in lists."""
_IRREGULAR_ERRORS: Final = (AttributeError, TypeError, ValueError, OverflowError)
"""Raised for records with values of the wrong type or range."""
_Values: TypeAlias = "array[Any] | list[Any]"


class _LabelCodes(dict[Any, int]):
    """Codes by label, assigned when a label is first looked up."""

    def __init__(self, labels: Iterable[str]) -> None:
        super().__init__({None: -1, "": -1})
        self._labels: list[str] = []
        for label in labels:
            self[label]

    def __missing__(self, label: Any) -> int:
        # Most readers of the frames cannot take lone surrogates, which a model may send.
        text = str(label).encode("utf-8", "replace").decode("utf-8")
        if text != label:
            return self[text]
        self[label] = code = len(self) - 2
        return code

    @property
    def labels(self) -> list[str]:
        """Labels in the order of their codes."""
        if len(self._labels) != len(self) - 2:
            self._labels = [label for label in self if label]
        return self._labels


class Rows(Generic[Record]):
    """Rows of one frame, by index; not thread-safe.

    Args:
        columns: columns of the frame, and objects that are stored beside them.
        make: class of the records.
        statuses: labels of ``status``, in the order of their codes.
    """

    def __init__(self, columns: Columns, make: type[Record], statuses: Sequence[str]) -> None:
        self.kinds = {column: kind for column, kind in columns.items() if kind != "id"}
        self.columns = [column for column, kind in columns.items() if kind != "object"]
        self._make = make
        self.label_columns = [column for column, kind in columns.items() if kind == "label"]
        self.codes = {column: _LabelCodes(statuses if column == "status" else ()) for column in self.label_columns}
        self.ids = bytearray()
        """Ids of the calls, `ID_BYTES` each."""
        self.values: dict[str, _Values] = {column: self._array(column) for column in self.kinds}
        """Packed values of the other columns."""
        self.irregular: dict[int, Record] = {}
        """Records with values that their rows cannot hold, by index; the rows hold the rest."""
        self.other_ids: dict[int, str] = {}
        """Ids that are not 32 hexadecimal digits."""
        self._fields = _field_reader(["call_id", *self.kinds])
        needed = required(make)
        self._no_label = {column: "" if column in needed else None for column in self.label_columns}

    def __len__(self) -> int:
        return len(self.ids) // ID_BYTES

    def truncate(self, size: int) -> None:
        """Remove the rows from ``size`` on, such as rows left unfinished by an interrupt."""
        for index in range(size, len(self)):
            self.irregular.pop(index, None)
            self.other_ids.pop(index, None)
        del self.ids[size * ID_BYTES :]
        for values in self.values.values():
            del values[size:]

    def extend(self, records: Sequence[Record]) -> None:
        """Append ``records``."""
        if not records:
            return
        try:
            ids, columns = self._pack(records)
        except _IRREGULAR_ERRORS:  # raised by one record or more
            for index, record in enumerate(records, len(self)):
                self.put(index, record)
            return
        self.ids += ids
        for values, new in zip(self.values.values(), columns, strict=True):
            cast("list[Any]", values).extend(new)

    def put(self, index: int, record: Record) -> None:
        """Set row ``index``, which exists or is the next one."""
        self.irregular.pop(index, None)
        self.other_ids.pop(index, None)
        is_irregular, name = False, str(getattr(record, "call_id", None))
        try:
            ids, columns = self._pack([record])
        except _IRREGULAR_ERRORS:
            is_irregular = True
            ids, columns = self._pack_irregular(name, record)
        self.ids[index * ID_BYTES : (index + 1) * ID_BYTES] = ids
        if is_irregular:
            self.irregular[index] = record
            if ids.hex() != name:
                self.other_ids[index] = name
        for values, new in zip(self.values.values(), columns, strict=True):
            cast("list[Any]", values)[index : index + 1] = new

    def _pack(self, records: Sequence[Record]) -> tuple[bytes, list[_Values]]:
        """Ids and columns of ``records``, made column by column: three times as fast as record by record.

        Raises:
            _IRREGULAR_ERRORS: a row cannot hold one of the records.
        """
        names, *fields = self._fields(records)
        joined = " ".join(names)
        ids = bytes.fromhex(joined)
        # Ids other than 32 lowercase hexadecimal digits would not survive the round trip.
        if len(ids) != ID_BYTES * len(names) or ids.hex(" ", ID_BYTES) != joined:
            raise ValueError
        return ids, [
            self._pack_column(column, kind, values)
            for (column, kind), values in zip(self.kinds.items(), fields, strict=True)
        ]

    def _pack_column(self, column: str, kind: Kind, values: list[Any]) -> _Values:
        if kind not in _TYPE_CODES:
            return values
        if kind == "time":
            return self._array(column, [_in_microseconds(time - EPOCH) for time in values])
        # Calls of one cell share many values: agent, model, unknown fields.
        is_constant = values[0] is values[-1] and values.count(values[0]) == len(values)
        to_pack = values[:1] if is_constant else values
        if kind == "label":
            codes = self.codes[column]
            packed = self._array(column, [codes[label] for label in to_pack])
        else:
            unknown = _unknown(kind)
            packed = self._array(column, [unknown if value is None else value for value in to_pack])
        return packed * len(values) if is_constant else packed

    def _pack_irregular(self, name: str, record: Any) -> tuple[bytes, list[_Values]]:
        """Id and columns of an irregular record; values that do not fit become unknown."""
        try:
            packed_id = bytes.fromhex(name)
        except ValueError:
            packed_id = b""
        columns = [
            self._array(column, [self._fit(column, kind, getattr(record, column, None))])
            for column, kind in self.kinds.items()
        ]
        return packed_id[:ID_BYTES].ljust(ID_BYTES, b"\0"), columns

    def _fit(self, column: str, kind: Kind, value: Any) -> Any:
        if kind == "label":
            return self.codes[column][_hashable(value)]
        if kind not in _TYPE_CODES:
            return value
        convert: Callable[[Any], Any] = {"time": _microseconds, "count": as_count}.get(kind, as_number)
        converted = convert(value)
        return _unknown(kind) if converted is None else converted

    def _array(self, column: str, values: Iterable[Any] = ()) -> _Values:
        kind = self.kinds[column]
        return array(_TYPE_CODES[kind], values) if kind in _TYPE_CODES else list(values)

    def record(self, index: int) -> Record:
        """The record as it was put."""
        if index in self.irregular:
            return self.irregular[index]
        values = {column: self._unpack(column, kind, index) for column, kind in self.kinds.items()}
        values["call_id"] = self.ids[index * ID_BYTES : (index + 1) * ID_BYTES].hex()
        return self._make(**values)

    def _unpack(self, column: str, kind: Kind, index: int) -> Any:
        value = self.values[column][index]
        if kind == "time":
            return EPOCH + timedelta(microseconds=value)
        if kind == "label":
            return self.codes[column].labels[value] if value >= 0 else self._no_label[column]
        if kind == "count":
            return None if value == UNKNOWN else value
        if kind in _TYPE_CODES:
            return None if math.isnan(value) else value
        return value


def _unknown(kind: Kind) -> float | int:
    return UNKNOWN if kind in ("count", "time") else math.nan


def _field_reader(names: Iterable[str]) -> Callable[[Sequence[Any]], tuple[list[Any], ...]]:
    """A function from records to one list per field.

    Compiled, as `dataclasses` does it: with the names written out Python reads fields twice as fast as through
    `operator.attrgetter`.
    """
    lists = ", ".join(f"[record.{name} for record in records]" for name in names)
    reader: Callable[[Sequence[Any]], tuple[list[Any], ...]] = eval(f"lambda records: ({lists},)")
    return reader


def _hashable(label: Any) -> Any:
    return label if label is None or isinstance(label, str) else str(label)


def as_number(value: Any) -> float | None:
    """``value`` as a float; None if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def as_count(value: Any) -> int | None:
    """``value`` as a 64-bit integer; None if it is not one, such as 1.5."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == value and -(2**63) < number < 2**63 else None


def _microseconds(value: Any) -> int | None:
    if not isinstance(value, datetime):
        return None
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return _in_microseconds(utc - EPOCH)


def _in_microseconds(since: timedelta) -> int:
    # Faster than dividing by a timedelta.
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
