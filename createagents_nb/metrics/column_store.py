"""Records as columns of bytes: what a million calls wait in until somebody looks at them.

A record of 23 fields is an object of 450 bytes with its numbers; here each field stands in an array of its column.
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
"""Of a call's id, which is written with twice as many hexadecimal digits."""
UNKNOWN: Final = -(2**63)
"""A count or a time that is not known; a number is NaN then, a label -1. pandas' NaT is the same."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_ITEMS: Final[dict[Kind, str]] = {
    "time": "q",
    "label": "i",
    "seconds": "d",
    "rate": "d",
    "usd": "d",
    "count": "q",
}
"""Type codes of the arrays; texts are in lists."""
_MISFITS: Final = (AttributeError, TypeError, ValueError, OverflowError)
_Values: TypeAlias = "array[Any] | list[Any]"


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
        self.kinds = {column: kind for column, kind in columns.items() if kind != "id"}
        self.columns = columns
        self._make = make
        self.label_columns = [column for column, kind in columns.items() if kind == "label"]
        self.codes = {column: _Codes(statuses if column == "status" else ()) for column in self.label_columns}
        self.ids = bytearray()
        """Of the calls, `ID_BYTES` each."""
        self.values: dict[str, _Values] = {column: self._array(column) for column in self.kinds}
        """Of the other columns, as they are packed."""
        self.strange: dict[int, Record] = {}
        """Records that do not fit into a row as they are: it holds what of them does."""
        self.other_ids: dict[int, str] = {}
        """Ids that are not 32 hexadecimal digits."""
        self._fields = _fields_of(["call_id", *self.kinds])
        needed = required(make)
        self._no_label = {column: "" if column in needed else None for column in self.label_columns}

    def __len__(self) -> int:
        return len(self.ids) // ID_BYTES

    def truncate(self, size: int) -> None:
        """Forget the rows from ``size`` on: some that were begun and not finished."""
        for index in range(size, len(self)):
            self.strange.pop(index, None)
            self.other_ids.pop(index, None)
        del self.ids[size * ID_BYTES :]
        for values in self.values.values():
            del values[size:]

    def extend(self, records: Sequence[Record]) -> None:
        """Put ``records`` behind the rows that are there."""
        if not records:
            return
        try:
            ids, columns = self._packed(records)
        except _MISFITS:  # one of them
            for index, record in enumerate(records, len(self)):
                self.put(index, record)
            return
        self.ids += ids
        for values, new in zip(self.values.values(), columns, strict=True):
            cast("list[Any]", values).extend(new)

    def put(self, index: int, record: Record) -> None:
        """Make ``record`` the row ``index``, which is there or is the next."""
        self.strange.pop(index, None)
        self.other_ids.pop(index, None)
        is_strange, name = False, str(getattr(record, "call_id", None))
        try:
            ids, columns = self._packed([record])
        except _MISFITS:
            is_strange = True
            ids, columns = self._packed_as_far_as_it_fits(name, record)
        self.ids[index * ID_BYTES : (index + 1) * ID_BYTES] = ids
        if is_strange:
            self.strange[index] = record
            if ids.hex() != name:
                self.other_ids[index] = name
        for values, new in zip(self.values.values(), columns, strict=True):
            cast("list[Any]", values)[index : index + 1] = new

    def _packed(self, records: Sequence[Record]) -> tuple[bytes, list[_Values]]:
        """Column by column, which takes a third of the time of record by record.

        Raises:
            _MISFITS: one of them does not fit into a row as it is.
        """
        names, *fields = self._fields(records)
        joined = " ".join(names)
        ids = bytes.fromhex(joined)
        # Others than 32 small hexadecimal digits would come back changed.
        if len(ids) != ID_BYTES * len(names) or ids.hex(" ", ID_BYTES) != joined:
            raise ValueError
        return ids, [
            self._packed_column(column, kind, known)
            for (column, kind), known in zip(self.kinds.items(), fields, strict=True)
        ]

    def _packed_column(self, column: str, kind: Kind, known: list[Any]) -> _Values:
        if kind not in _ITEMS:
            return known
        if kind == "time":
            return self._array(column, [_in_microseconds(time - EPOCH) for time in known])
        # Calls of one cell have much in common: agent, model, what is not known of any.
        is_constant = known[0] is known[-1] and known.count(known[0]) == len(known)
        some = known[:1] if is_constant else known
        if kind == "label":
            codes = self.codes[column]
            packed = self._array(column, [codes[label] for label in some])
        else:
            unknown = _unknown(kind)
            packed = self._array(column, [unknown if value is None else value for value in some])
        return packed * len(known) if is_constant else packed

    def _packed_as_far_as_it_fits(self, name: str, record: Any) -> tuple[bytes, list[_Values]]:
        """For records that are not as they should be, and ids that are no 32 hexadecimal digits."""
        try:
            packed_id = bytes.fromhex(name)
        except ValueError:
            packed_id = b""
        columns = [
            self._array(column, [self._fitting(column, kind, getattr(record, column, None))])
            for column, kind in self.kinds.items()
        ]
        return packed_id[:ID_BYTES].ljust(ID_BYTES, b"\0"), columns

    def _fitting(self, column: str, kind: Kind, value: Any) -> Any:
        if kind == "label":
            return self.codes[column][_hashable(value)]
        if kind not in _ITEMS:
            return value
        convert: Callable[[Any], Any] = {"time": _microseconds, "count": as_count}.get(kind, as_number)
        known = convert(value)
        return _unknown(kind) if known is None else known

    def _array(self, column: str, values: Iterable[Any] = ()) -> _Values:
        kind = self.kinds[column]
        return array(_ITEMS[kind], values) if kind in _ITEMS else list(values)

    def record(self, index: int) -> Record:
        """The record as it was put."""
        if index in self.strange:
            return self.strange[index]
        known = {column: self._unpacked(column, kind, index) for column, kind in self.kinds.items()}
        known["call_id"] = self.ids[index * ID_BYTES : (index + 1) * ID_BYTES].hex()
        return self._make(**known)

    def _unpacked(self, column: str, kind: Kind, index: int) -> Any:
        value = self.values[column][index]
        if kind == "time":
            return EPOCH + timedelta(microseconds=value)
        if kind == "label":
            return self.codes[column].labels[value] if value >= 0 else self._no_label[column]
        if kind == "count":
            return None if value == UNKNOWN else value
        if kind in _ITEMS:
            return None if math.isnan(value) else value
        return value


def _unknown(kind: Kind) -> float | int:
    return UNKNOWN if kind in ("count", "time") else math.nan


def _fields_of(names: Iterable[str]) -> Callable[[Sequence[Any]], tuple[list[Any], ...]]:
    """A function from records to a list for each field.

    It is made as `dataclasses` makes its methods: with the names written out Python reads a field twice as fast as
    through an `operator.attrgetter`.
    """
    lists = ", ".join(f"[record.{name} for record in records]" for name in names)
    made: Callable[[Sequence[Any]], tuple[list[Any], ...]] = eval(f"lambda records: ({lists},)")
    return made


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
    return _in_microseconds(utc - EPOCH)


def _in_microseconds(since: timedelta) -> int:
    # Dividing a timedelta by another takes longer.
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
