"""Framing: from blocks of bytes, cut anywhere, to the payloads in them. No I/O, no JSON."""

from __future__ import annotations

from ..errors import ProtocolError

__all__ = ["LineSplitter", "SSESplitter"]

_MAX_PENDING = 32 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class LineSplitter:
    """NDJSON: one payload a line; empty lines are skipped.

    Raises:
        ProtocolError: more than 32 MB without a line end.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        lines = (self._rest + block).split(b"\n") if self._rest else block.split(b"\n")
        self._rest = lines.pop()
        _check(self._rest)
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """A last line without a line end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []


class SSESplitter:
    """Server-sent events: the data of each event (WHATWG HTML, "Interpreting an event stream").

    One deviation, because servers close too early: a last event without its blank line counts.

    Raises:
        ProtocolError: more than 32 MB in one event.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._after_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        if not self._begun:
            block = self._rest + block
            if len(block) < len(_BOM) and _BOM.startswith(block):
                self._rest = block
                return []
            self._begun, self._rest = True, b""
            block = block.removeprefix(_BOM)
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in block:
            # A CR at the end of a block ends a line now; the LF that may follow belongs to it.
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = (self._rest + block).split(b"\n\n") if self._rest else block.split(b"\n\n")
        self._rest = events.pop()
        _check(self._rest)
        # Nearly all events are one line, `data: …`.
        return [
            data
            for event in events
            if (data := event[6:] if event.startswith(b"data: ") and b"\n" not in event else _data(event))
        ]

    def finish(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        data = _data(rest)
        return [data] if data else []


def _data(event: bytes) -> bytes:
    lines = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def _check(pending: bytes) -> None:
    if len(pending) > _MAX_PENDING:
        raise ProtocolError(f"The server sent more than {_MAX_PENDING // 2**20} MB without ending the event")
