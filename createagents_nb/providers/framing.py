"""Framing: splits blocks of bytes, cut anywhere, into payloads. No I/O, no JSON."""

from __future__ import annotations

from ..errors import ProtocolError

__all__ = ["BOM", "NDJSONDecoder", "SSEDecoder"]

_MAX_PENDING = 16 * 2**20
"""Limit for one payload; decoded it may take 25 times as much."""
BOM = b"\xef\xbb\xbf"


class _Splitter:
    """Splits at a separator, and keeps what follows the last one.

    A payload that arrives in many blocks is joined once, when it ends: joining and searching it again with each
    block would be quadratic in its length.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._rest: bytes | bytearray = b""

    def _split(self, block: bytes) -> list[bytes]:
        rest, separator = self._rest, self._separator
        if rest:
            if separator not in block and separator not in rest[-1:] + block[:1]:
                if type(rest) is not bytearray:
                    self._rest = rest = bytearray(rest)
                rest += block
                _check_size(rest)
                return []
            block = bytes(rest) + block
        parts = block.split(separator)
        self._rest = parts.pop()
        _check_size(self._rest)
        return parts

    def _take_rest(self) -> bytes:
        rest, self._rest = bytes(self._rest), b""
        return rest


class NDJSONDecoder(_Splitter):
    """NDJSON: one payload per line. Skips empty lines, and a byte order mark before the first.

    Raises:
        ProtocolError: more than 16 MB without a line end.
    """

    def __init__(self) -> None:
        super().__init__(b"\n")
        self._has_begun = False

    def feed(self, block: bytes) -> list[bytes]:
        lines = self._split(block)
        if lines and not self._has_begun:
            self._has_begun = True
            lines[0] = lines[0].removeprefix(BOM)
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """Return a last line without a line end."""
        rest = self._take_rest()
        if not self._has_begun:
            rest = rest.removeprefix(BOM)
        return [rest] if rest.strip() else []


class SSEDecoder(_Splitter):
    """Server-sent events: the data of each event (WHATWG HTML, "Interpreting an event stream").

    One deviation, because some servers close too early: a last event without its blank line counts.

    Raises:
        ProtocolError: more than 16 MB in one event.
    """

    def __init__(self) -> None:
        super().__init__(b"\n\n")
        self._has_begun = False
        self._after_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        if not self._has_begun:
            block = self._take_rest() + block
            if len(block) < len(BOM) and BOM.startswith(block):
                self._rest = block
                return []
            self._has_begun = True
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
            for event in self._split(block)
            if (data := event[6:] if event.startswith(b"data: ") and b"\n" not in event else _data(event))
        ]

    def finish(self) -> list[bytes]:
        data = _data(self._take_rest())
        return [data] if data else []


def _data(event: bytes) -> bytes:
    lines = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def _check_size(pending: bytes | bytearray) -> None:
    if len(pending) > _MAX_PENDING:
        raise ProtocolError(f"The server sent more than {_MAX_PENDING // 2**20} MB without ending the event")
