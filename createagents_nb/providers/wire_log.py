"""Requests and the lines of their replies in the log ``createagents_nb.wire``, at DEBUG; keys are masked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from ..core.preview import RequestPreview, mask_address, mask_headers, mask_json
from ..logging_config import LoggingConfig
from ..redaction import SecretBytes, redact
from ..text import clean_text
from .transport import HttpReply, RetryCount, Transport

__all__ = ["send"]

_log = LoggingConfig.get_logger("createagents_nb.wire")

_MAX_LINE_CHARS = 20_000
"""Limit for what is logged of a line."""
_MAX_LINE_BYTES = 2**20
"""Lines that are longer are not logged, since they would have to be kept to their end."""


async def send(
    transport: Transport, method: str, path: str, body: Mapping[str, Any] | None, count: RetryCount
) -> HttpReply:
    """Send a request as `Transport.request` does, and log it and its reply if the level is DEBUG."""
    if not _log.isEnabledFor(logging.DEBUG):
        return await transport.request(method, path, body, count)
    _log.debug("> %s", _described(transport, method, path, body))
    reply = await transport.request(method, path, body, count)
    _log.debug("< status %s, %s", reply.status, _line(reply.headers.get("content-type", "no content type"), None))
    return replace(reply, blocks=_LoggedLines(reply.blocks, transport.secret))


def _described(transport: Transport, method: str, path: str, body: Mapping[str, Any] | None) -> str:
    address = mask_address(transport.address(path, body))
    preview = RequestPreview(method, address, mask_headers(transport.headers), mask_json(body))
    return redact(str(preview) if body is not None else "\n".join(preview.head), transport.secret)


def _line(text: str, secret: str | None) -> str:
    masked = redact(clean_text(text).replace("\n", " "), secret)
    left_out = len(masked) - _MAX_LINE_CHARS
    return masked if left_out <= 0 else f"{masked[:_MAX_LINE_CHARS]}… ({left_out:,} more characters)"


class _LoggedLines:
    """The blocks of a reply. Whole lines are logged: half of a key could not be recognized."""

    def __init__(self, blocks: AsyncIterator[bytes], secret: str | None) -> None:
        self._blocks, self._secret = blocks, secret
        self._rest = bytearray()
        self._is_too_long = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            block = SecretBytes(await anext(self._blocks))
        except StopAsyncIteration:
            self._end_line()
            raise
        *lines, rest = block.split(b"\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(rest)
        return block

    def _add(self, piece: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._rest) + len(piece) > _MAX_LINE_BYTES
        if not self._is_too_long:
            self._rest += piece

    def _end_line(self) -> None:
        if self._is_too_long:
            _log.debug("< (a line of more than 1 MiB)")
        elif self._rest.strip():
            _log.debug("< %s", _line(self._rest.decode("utf-8", "replace").strip(), self._secret))
        self._rest.clear()
        self._is_too_long = False
