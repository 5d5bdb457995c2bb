"""Framing: from blocks of bytes, cut anywhere, to the payloads in them. No I/O, no JSON."""

from __future__ import annotations

from ..errors import ProtocolError

__all__ = ["BOM", "NDJSONDecoder", "SSEDecoder"]

_MAX_PENDING = 16 * 1024 * 1024  # decoded it may take 25 times as much
BOM = b"\xef\xbb\xbf"


class _Splitter:
    """Cuts at a mark, and keeps what comes after the last one.

    A payload that comes in many blocks is put together once, when it ends: to join and search it again with each
    block would take the square of its length.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._rest: bytes | bytearray = b""

    def _cut(self, block: bytes) -> list[bytes]:
        rest, mark = self._rest, self._mark
        if rest:
            if mark not in block and mark not in rest[-1:] + block[:1]:
                if type(rest) is not bytearray:
                    self._rest = rest = bytearray(rest)
                rest += block
                _check(rest)
                return []
            block = bytes(rest) + block
        parts = block.split(mark)
        self._rest = parts.pop()
        _check(self._rest)
        return parts

    def _end(self) -> bytes:
        rest, self._rest = bytes(self._rest), b""
        return rest


class NDJSONDecoder(_Splitter):
    """NDJSON: one payload a line; empty lines, and a byte order mark before the first, are skipped.

    Raises:
        ProtocolError: more than 16 MB without a line end.
    """

    def __init__(self) -> None:
        super().__init__(b"\n")
        self._begun = False

    def feed(self, block: bytes) -> list[bytes]:
        lines = self._cut(block)
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(BOM)
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """A last line without a line end."""
        rest = self._end()
        if not self._begun:
            rest = rest.removeprefix(BOM)
        return [rest] if rest.strip() else []


class SSEDecoder(_Splitter):
    """Server-sent events: the data of each event (WHATWG HTML, "Interpreting an event stream").

    One deviation, because servers close too early: a last event without its blank line counts.

    Raises:
        ProtocolError: more than 16 MB in one event.
    """

    def __init__(self) -> None:
        super().__init__(b"\n\n")
        self._begun = False
        self._after_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        if not self._begun:
            block = self._end() + block
            if len(block) < len(BOM) and BOM.startswith(block):
                self._rest = block
                return []
            self._begun = True
            block = block.removeprefix(BOM)
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in block:
            # A CR at the end of a block ends a line now; the LF that may follow belongs to it.
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # Nearly all events are one line, `data: …`.
        return [
            data
            for event in self._cut(block)
            if (data := event[6:] if event.startswith(b"data: ") and b"\n" not in event else _data(event))
        ]

    def finish(self) -> list[bytes]:
        data = _data(self._end())
        return [data] if data else []


def _data(event: bytes) -> bytes:
    lines = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def _check(pending: bytes | bytearray) -> None:
    if len(pending) > _MAX_PENDING:
        raise ProtocolError(f"The server sent more than {_MAX_PENDING // 2**20} MB without ending the event")
