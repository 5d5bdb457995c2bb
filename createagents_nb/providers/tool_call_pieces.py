"""Puts the tool calls of a Chat Completions reply together from the pieces in which servers send them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from json import JSONDecoder
from typing import Any

import msgspec

from .reply_decoder import NO_ARGUMENTS, check_arguments

__all__ = ["CallPieces", "PendingCall", "add_opaque", "is_object"]

_JSON_MARKS = re.compile(r'(?s)\\.?|["{}]')


class PendingCall:
    """A tool call whose pieces are still arriving."""

    __slots__ = (
        "_depth",
        "_escape",
        "_in_string",
        "_scanned",
        "_value",
        "_whole",
        "details",
        "id",
        "index",
        "name",
        "pieces",
        "size",
    )

    def __init__(self, index: object) -> None:
        self.index = index
        self.id: str | None = None
        self.name = ""
        self.pieces: list[str] = []
        self.size = 0
        self.details: dict[str, Any] = {}
        self._scanned = self._depth = 0
        self._in_string = False
        self._escape = ""
        self._whole: bool | None = None  # known once the first brace is closed
        self._value: dict[str, Any] | None = None  # of whole arguments

    @property
    def arguments(self) -> str:
        """The arguments, once: without a placeholder at first, and without what repeats them."""
        text = "".join(self.pieces)
        if text.strip() in NO_ARGUMENTS:
            return "{}"
        if len(self.pieces) < 2 or _is_json(text):
            return text
        if self.pieces[0].strip() in NO_ARGUMENTS and is_object(rest := "".join(self.pieces[1:])):
            return rest
        return _last_object(text) or _whole_at_last(self.pieces) or text

    def add(self, piece: str) -> None:
        self.size += len(piece)
        check_arguments(self.size)
        self.pieces.append(piece)

    def add_name(self, piece: str) -> None:
        """Add a piece of the name, or the name again."""
        if piece.startswith(self.name):
            self.name = piece
        elif not self.pieces:
            self.name += piece

    def is_whole(self) -> bool:
        """Return whether the arguments so far are one JSON object.

        Each piece is scanned once, and all are parsed once, when the first brace is closed: what is not an object
        by then never becomes one.
        """
        new = "".join(self.pieces[self._scanned :])
        self._scanned = len(self.pieces)
        if self._whole is not None:
            self._whole = self._whole and not new.strip()
        elif self._closes(new):
            self._value = _object_in("".join(self.pieces))
            self._whole = self._value is not None
        return bool(self._whole)

    def is_repeated_by(self, arguments: str, *, is_sure: bool = True) -> bool:
        """Return whether a piece repeats the arguments, or comes in place of a placeholder for them.

        Args:
            is_sure: a whole object after a placeholder is no other call's.
        """
        if not self.is_whole():
            return False
        new = _object_in(arguments) if arguments.lstrip().startswith("{") else None
        return self._value == new or (self._value == {} and (is_sure or new is None))

    def _closes(self, new: str) -> bool:
        mark = ""
        for mark in _JSON_MARKS.findall(self._escape + new):
            if mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string and mark in "{}":
                self._depth += 1 if mark == "{" else -1
                if self._depth <= 0:
                    return True
        self._escape = mark if mark == "\\" else ""  # the character it escapes is still to come
        return False


class CallPieces:
    """The tool calls of one message.

    Args:
        count: called for each call.
    """

    def __init__(self, count: Callable[[], None]) -> None:
        self.calls: list[PendingCall] = []
        self._count = count
        self._by_id: dict[str, PendingCall] = {}
        self._by_index: dict[object, PendingCall] = {}  # the last call with each index

    def add(self, call_id: str | None, index: object, name: str, arguments: str) -> PendingCall:
        """Add a piece, and return the call that it belongs to."""
        call = self._call_of(call_id, index, name, arguments)
        if call.id is None and call_id and call_id not in self._by_id:
            call.id = call_id
            self._by_id[call_id] = call
        if name:
            call.add_name(name)
        if arguments:
            call.add(arguments)
        return call

    def add_whole(
        self, position: int, call_id: str | None, index: object, name: str, arguments: str
    ) -> PendingCall:
        """Add a call of a message that repeats what the pieces before it said.

        Args:
            position: in the list of all calls.
        """
        call = self._by_id.get(call_id) if call_id else None
        if call is None and position < len(self.calls):
            at_position = self.calls[position]
            is_same = call_id in (None, at_position.id) or at_position.arguments == arguments
            call = at_position if at_position.name == name and (is_same or not at_position.arguments) else None
        if call is None:
            same = (each for each in self.calls if each.name == name and each.is_repeated_by(arguments))
            call = next(same, None)
        if call is None:
            return self.add(call_id, index, name, arguments)
        call.name = call.name or name
        if _object_in(arguments) and not _object_in(call.arguments):
            call.pieces = [arguments]
        return call

    def _call_of(self, call_id: str | None, index: object, name: str, arguments: str) -> PendingCall:
        """Return the call that a piece belongs to: that of its id, else of its index, else the last.

        A name with an unknown id starts a call, whatever its index, unless the call with this index waits for
        more. An unknown id without a name does not: some servers make up an id for every piece.
        """
        same_index = self._by_index.get(index) if index is not None else self.calls[-1] if self.calls else None
        call = self._by_id.get(call_id) if call_id else None
        is_known = call is not None
        is_explicit = index is not None or is_known
        if call is not None and None not in (call.index, index) and call.index != index:
            # Two calls with one id: the second goes without.
            if name:
                return self._new_call(index)
            if same_index is not None and same_index.id is None:
                call = same_index
        elif call is None and call_id and name:
            call = same_index if _waits(same_index, index, name, arguments) else None
        elif call is None:
            call = same_index
            if call is not None and name and call.name and name != call.name and (call.pieces or not is_explicit):
                call = None
        # Whole calls that neither id nor index tells apart: a name after complete arguments is a second call.
        if call is not None and name and arguments.strip() and call.is_whole():
            is_same = is_explicit and call.name == name and call.is_repeated_by(arguments, is_sure=is_known)
            call = call if is_same else None
        return self._new_call(index) if call is None else call

    def _new_call(self, index: object) -> PendingCall:
        self._count()
        call = self._by_index[index] = PendingCall(index)
        self.calls.append(call)
        return call


def _waits(call: PendingCall | None, index: object, name: str, arguments: str) -> bool:
    """Return whether a call waits for a piece that has its name, and an id that no piece had before."""
    if call is None or call.name != name or call.is_whole():
        return False
    if index is not None:
        return bool(call.pieces or arguments.strip())
    return bool(call.pieces) and not arguments.lstrip().startswith("{")


def add_opaque(details: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add opaque fields of a piece; objects are merged."""
    for name, value in fields.items():
        if value:
            earlier: Any = details.get(name)
            merges = isinstance(earlier, dict) and isinstance(value, dict)
            details[name] = earlier | value if merges else value


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def is_object(arguments: str) -> bool:
    """Return whether arguments are a whole JSON object."""
    return _object_in(arguments) is not None


def _object_in(arguments: str) -> dict[str, Any] | None:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _last_object(text: str) -> str | None:
    """Return the only object among several in a row that is not empty, if the others repeat it."""
    decoder, at, found = JSONDecoder(), 0, []
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) and value is not None:
            return None
        found.append((value or {}, text[at:end]))
        at = end
    values = [each for each in found if each[0]] or found[-1:]
    return values[-1][1] if all(value == values[-1][0] for value, _ in values) else None


def _whole_at_last(pieces: list[str]) -> str | None:
    """Return the last piece if it is the whole: each piece repeats those before it, or the last repeats all."""
    last = pieces[-1]
    if _object_in(last) is None:
        return None
    is_growing = all(last.startswith(piece) for piece in pieces)
    return last if is_growing or last.startswith("".join(pieces[:-1])) else None
