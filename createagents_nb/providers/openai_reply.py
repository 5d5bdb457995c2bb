"""From the bytes of a Chat Completions reply to events. No I/O, and no SDK object per chunk.

Written against what real servers send, which is more than the specification says: a first chunk with or without
text, usage anywhere or nowhere, no ``[DONE]``, tool calls whole or in pieces, two calls that share an index,
reasoning under three names or in the text, a buffered body where a stream was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..core.events import Event, Reasoning, Usage, cost_in_usd, count_or_none
from ..errors import EmptyReplyError, ProtocolError, ProviderError
from .framing import BOM, SSEDecoder
from .reply_decoder import (
    MAX_SILENT_BYTES,
    ReplyDecoder,
    check_arguments,
    excerpt,
    incomplete,
    repair_surrogates,
    requested,
    text_or_none,
)
from .transport_errors import ForeignError

__all__ = ["OpenAIReplyDecoder"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


# What has no weight is taken as it comes: it fails no answer.


class _ToolCall(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    index: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode

_FIRST = (0, None, "0")
_INDEX = (int, float, str)
_NO_CHOICE = _Choice()
_SIGNS = re.compile(r'(?s)\\.?|["{}]')


class _Call:
    """A tool call while its pieces arrive."""

    __slots__ = ("_cut", "_depth", "_in_text", "_looked_at", "_verdict", "id", "index", "name", "pieces", "size")

    def __init__(self, index: object) -> None:
        self.index = index
        self.id: str | None = None
        self.name = ""
        self.pieces: list[str] = []
        self.size = 0
        self._looked_at = self._depth = 0
        self._in_text = False
        self._cut = ""
        self._verdict: bool | None = None

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def is_whole(self) -> bool:
        """Whether what came is one JSON object.

        Each piece is looked at once, and all are parsed once, where the first brace is closed: what is no object
        then never will be one.
        """
        new = "".join(self.pieces[self._looked_at :])
        self._looked_at = len(self.pieces)
        if self._verdict is not None:
            self._verdict = self._verdict and not new.strip()
        elif self._closes(new):
            self._verdict = _is_object(self.arguments)
        return bool(self._verdict)

    def _closes(self, new: str) -> bool:
        sign = ""
        for sign in _SIGNS.findall(self._cut + new):
            if sign == '"':
                self._in_text = not self._in_text
            elif not self._in_text and sign in "{}":
                self._depth += 1 if sign == "{" else -1
                if self._depth <= 0:
                    return True
        self._cut = sign if sign == "\\" else ""  # what it escapes is still to come
        return False


class OpenAIReplyDecoder(ReplyDecoder):
    """Feed it the blocks of one reply, streamed or buffered.

    Args:
        streamed: the reply is an event stream; otherwise one JSON object.
        on_error: makes the error for an error object inside the reply.

    Raises:
        ProtocolError: bytes that are not what the format promises.
        EmptyReplyError: the reply ended without a single event.
        IncompleteReplyError: the stream ended without a finish reason and without ``[DONE]``.
    """

    def __init__(self, *, streamed: bool, on_error: Callable[[Any], ProviderError], retries: int = 0) -> None:
        self._splitter = SSEDecoder() if streamed else None
        super().__init__(on_error=on_error, retries=retries)
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[object, _Call] = {}  # the last of each
        self._body = bytearray()  # kept until the first event: it may not be an event stream at all
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._model: str | None = None

    def feed(self, block: bytes) -> Iterable[Event]:
        """The events in a block. An error in it is raised when the events before it have been taken."""
        if self.is_complete:
            return ()
        self._weigh(block)
        payloads = self._splitter.feed(block) if self._splitter is not None else []
        if not self._seen:
            self._body += block
            if len(self._body) > MAX_SILENT_BYTES and not payloads:
                raise ProtocolError(
                    f"The server sent {MAX_SILENT_BYTES // 2**20} MB without an answer in them. Check base_url"
                )
        return self._events(payloads)

    def finish(self) -> Iterator[Event]:
        """The end of the body: what was held back, the tool calls, and `RoundEnded`."""
        for payload in self._splitter.finish() if self._splitter is not None and not self.is_complete else ():
            yield from self._last(payload)
        if not self._seen:
            yield from self._buffered()
        yield from self._held_back()
        if not self.is_finished:
            raise incomplete()
        for call in self._calls:
            arguments = call.arguments
            if call.name or arguments:
                yield requested(call.id, call.name, arguments)
        yield self._ended(self._finish_reason, _usage(self._usage), self._model, self._clock.generation_s)

    def _buffered(self) -> Iterable[Event]:
        body = bytes(self._body).removeprefix(BOM).strip()
        if not body or self.is_finished or (self._splitter is not None and _is_silent(body)):
            raise EmptyReplyError(
                "The server answered without a single word. Often the prompt is longer than the model's context: "
                "shorten it, or agent.clear_history()"
            )
        if not body.startswith(b"{"):
            raise ProtocolError(f"The server did not answer in JSON: {excerpt(body)!r}…. Check base_url")
        try:
            chunk = _decode(body)
        except (ValueError, RecursionError) as error:
            try:
                chunk = repair_surrogates(_decode, body, error)
            except ProtocolError:
                if "truncated" in str(error):
                    raise incomplete() from ForeignError.of(error)
                raise
        if not (chunk.choices or (chunk.error and self._refused(chunk.error))):
            raise ProtocolError(f"The server's answer has no choices: {excerpt(body)!r}…. Check base_url")
        events = self._events([body])
        self.is_finished = True
        return events

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        for payload in payloads:
            if payload == b"[DONE]":
                self.is_finished = self.is_complete = True
                return
            try:
                chunk = _decode(payload)
            except (ValueError, RecursionError) as error:
                if payload.strip() == b"[DONE]":
                    self.is_finished = self.is_complete = True
                    return
                chunk = repair_surrogates(_decode, payload, error)
            if not self._seen:
                self._seen = True
                self._body.clear()
            if chunk.error and (failure := self._refused(chunk.error)):
                raise failure
            if chunk.choices:
                choice = chunk.choices[0]
                if choice.index:  # one of several that were asked for
                    choice = next((one for one in chunk.choices if one.index in _FIRST), _NO_CHOICE)
                delta = choice.delta or choice.message
                if delta is not None:
                    text = delta.content
                    if text and transparent and type(text) is str:
                        events.append(text)
                        delta.content = None
                        text = None
                    if text or not _is_plain(delta):
                        self._delta(delta, events)
                        transparent = self._thinking.transparent
                if choice.finish_reason:
                    self._finish_reason = choice.finish_reason
                    self.is_finished = True
            if self._model is None and isinstance(chunk.model, str) and chunk.model:
                self._model = chunk.model
            if chunk.usage is not None and isinstance(chunk.usage, dict):
                self._usage = chunk.usage

    def _delta(self, delta: _Delta, events: list[Event]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning and isinstance(reasoning, str):
            events.append(Reasoning(reasoning))
        text = delta.content or delta.refusal
        if isinstance(text, list):
            parts = [part.get("text") for part in text if isinstance(part, dict)]
            text = "".join([part for part in parts if isinstance(part, str)])
        if text and isinstance(text, str):
            events += self._thinking.feed(text)
        for piece in delta.tool_calls or ():
            self._tool_call(piece)
        if delta.tool_calls:
            self._clock.heard((), tool_call=True)

    def _tool_call(self, piece: _ToolCall) -> None:
        function = piece.function or _Function()
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call_id = piece.id if piece.id is None else text_or_none(piece.id)
        index = piece.index if isinstance(piece.index, _INDEX) else None
        call = self._call_of(call_id, index, function.name, arguments)
        if call.id is None and call_id and call_id not in self._by_id:
            call.id = call_id
            self._by_id[call_id] = call
        call.name = call.name or function.name or ""
        if arguments:
            call.size += len(arguments)
            check_arguments(call.size)
            call.pieces.append(arguments)

    def _call_of(self, call_id: str | None, index: object, name: str | None, arguments: str) -> _Call:
        """The call a piece belongs to: that of its id, else of its index, else the last.

        A name under an unknown id starts a call, whatever its index. An unknown id without a name does not: some
        servers make up an id for every piece.
        """
        same_index = self._by_index.get(index) if index is not None else self._calls[-1] if self._calls else None
        known = None
        if call_id:
            known = self._by_id.get(call_id)
            if known is not None and None not in (known.index, index) and known.index != index:
                # Two calls under one id: the second has none then.
                if name:
                    return self._new_call(index)
                if same_index is not None and same_index.id is None:
                    known = same_index
        if known is None and not (call_id and name):
            known = same_index
            if known is not None and name and known.name and name != known.name:
                known = None
        # Whole calls that nothing tells apart: a name after complete arguments is a second call.
        if known is not None and name and arguments.strip() and known.is_whole():
            known = None
        return self._new_call(index) if known is None else known

    def _new_call(self, index: object) -> _Call:
        self._count_calls()
        call = self._by_index[index] = _Call(index)
        self._calls.append(call)
        return call


def _is_plain(delta: _Delta) -> bool:
    return not (delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.thinking or delta.refusal)


def _is_silent(body: bytes) -> bool:
    """Comments (keep-alives) and fields without data only."""
    return all(line.startswith((b":", b"event:", b"id:", b"retry:")) for line in body.splitlines() if line.strip())


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _usage(said: Mapping[str, Any]) -> Usage:
    def count(name: str, details: str | None = None) -> int | None:
        counts = said if details is None else said.get(details)
        return count_or_none(counts.get(name)) if isinstance(counts, Mapping) else None

    return Usage(
        input_tokens=count("prompt_tokens"),
        output_tokens=count("completion_tokens"),
        cached_tokens=count("cached_tokens", "prompt_tokens_details"),
        reasoning_tokens=count("reasoning_tokens", "completion_tokens_details"),
        cost_usd=cost_in_usd(said.get("cost")),  # OpenRouter's; others put other things there
    )
