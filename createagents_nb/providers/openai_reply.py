"""From the bytes of a Chat Completions reply to events. No I/O, and no SDK object per chunk.

Written against what real servers send, which is more than the specification says: a first chunk with or without
text, usage anywhere or nowhere, no ``[DONE]``, tool calls whole or in pieces, two calls that share an index,
reasoning under three names or in the text, a buffered body where a stream was asked for.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..agent.events import Event, Reasoning, RoundEnded, ToolCallRequested, Usage, cost_in_usd
from ..errors import EmptyReplyError, ProtocolError, ProviderError
from .broken_reply import MAX_SILENT_BYTES, ReplyDecoder, incomplete, mended, shown
from .wire import SSESplitter

__all__ = ["OpenAIReplyDecoder"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cost: Any = None  # OpenRouter's, in USD; others put other things there


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

_MAX_CALLS = 1_000  # each piece of a call is looked for among them


class _Call:
    """A tool call while its pieces arrive."""

    __slots__ = ("id", "index", "name", "pieces")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id: str | None = None
        self.name = ""
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


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
        self._splitter = SSESplitter() if streamed else None
        super().__init__(on_error=on_error, retries=retries)
        self._calls: list[_Call] = []
        self._body = bytearray()  # kept until the first event: it may not be an event stream at all
        self._finished = False
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._model: str | None = None

    def feed(self, block: bytes) -> Iterable[Event]:
        """The events in a block. An error in it is raised when the events before it have been taken."""
        self._weigh(block)
        if self._splitter is None:
            self._body += block
            return ()
        payloads = self._splitter.feed(block)
        if not self._seen:
            self._body += block
            if len(self._body) > MAX_SILENT_BYTES and not payloads:
                raise ProtocolError(
                    f"The server sent {MAX_SILENT_BYTES // 2**20} MB without an answer in them. Check base_url"
                )
        return self._events(payloads)

    def finish(self) -> Iterator[Event]:
        """The end of the body: what was held back, the tool calls, and `RoundEnded`."""
        for payload in self._splitter.finish() if self._splitter is not None else ():
            yield from self._last(payload)
        if not self._seen:
            yield from self._buffered()
        yield from self._held_back()
        if not self._finished:
            raise incomplete()
        for call in self._calls:
            arguments = call.arguments
            if call.name or arguments:
                yield ToolCallRequested(call.id or f"call_{uuid.uuid4().hex[:12]}", call.name, arguments)
        clock = self._clock
        yield RoundEnded(
            self._finish_reason,
            self._usage,
            clock.first_output_at,
            clock.generation_s,
            self._model,
            self._retries,
        )

    def _buffered(self) -> Iterable[Event]:
        body = bytes(self._body).strip()
        if not body or self._finished or (self._splitter is not None and _is_silent(body)):
            raise EmptyReplyError(
                "The server answered without a single word. Often the prompt is longer than the model's context: "
                "shorten it, or agent.clear_history()"
            )
        if not body.startswith(b"{"):
            raise ProtocolError(f"The server did not answer in JSON: {shown(body)!r}…. Check base_url")
        try:
            chunk = _decode(body)
        except (ValueError, RecursionError) as error:
            try:
                chunk = mended(_decode, body, error)
            except ProtocolError:
                if "truncated" in str(error):
                    raise incomplete() from error.with_traceback(None)
                raise
        if not (chunk.choices or chunk.error):
            raise ProtocolError(f"The server's answer has no choices: {shown(body)!r}…. Check base_url")
        events = self._events([body])
        self._finished = True
        return events

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        for payload in payloads:
            if payload == b"[DONE]":
                self._finished = self.is_complete = True
                continue
            try:
                chunk = _decode(payload)
            except (ValueError, RecursionError) as error:
                if payload.strip() == b"[DONE]":
                    self._finished = self.is_complete = True
                    continue
                chunk = mended(_decode, payload, error)
            if not self._seen:
                self._seen = True
                self._body.clear()
            if chunk.error:
                raise self._on_error(chunk.error)
            if chunk.choices:
                choice = chunk.choices[0]
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
                    self._finished = True
            if chunk.model and self._model is None:
                self._model = chunk.model
            if chunk.usage is not None:
                self._usage = _usage(chunk.usage)

    def _delta(self, delta: _Delta, events: list[Event]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning:
            events.append(Reasoning(reasoning))
        text = delta.content or delta.refusal
        if isinstance(text, list):
            parts = [part.get("text") for part in text if isinstance(part, dict)]
            text = "".join([part for part in parts if isinstance(part, str)])
        if text:
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
        call = self._call_of(piece, function.name, arguments)
        if call.id is None and piece.id and all(other.id != piece.id for other in self._calls):
            call.id = piece.id
        call.name = call.name or function.name or ""
        call.pieces.append(arguments)

    def _call_of(self, piece: _ToolCall, name: str | None, arguments: str) -> _Call:
        """The call a piece belongs to: that of its id, else of its index, else the last.

        A name under an unknown id starts a call, whatever its index. An unknown id without a name does not: some
        servers make up an id for every piece.
        """
        known = None
        if piece.id:
            known = next((call for call in self._calls if call.id == piece.id), None)
            if known is not None and None not in (known.index, piece.index) and known.index != piece.index:
                # Two calls under one id: the second has none then.
                if name:
                    return self._new_call(piece)
                known = next((call for call in self._calls if (call.id, call.index) == (None, piece.index)), known)
        if known is None and not (piece.id and name):
            same_index = [call for call in self._calls if piece.index is None or call.index == piece.index]
            known = same_index[-1] if same_index else None
            if known is not None and name and known.name and name != known.name:
                known = None
        # Whole calls that nothing tells apart: a name after complete arguments is a second call.
        if known is not None and name and arguments.strip() and _is_complete(known.arguments):
            known = None
        return self._new_call(piece) if known is None else known

    def _new_call(self, piece: _ToolCall) -> _Call:
        if len(self._calls) == _MAX_CALLS:
            raise ProtocolError(f"The model asked for more than {_MAX_CALLS:,} tools at once. Try again")
        call = _Call(piece.index)
        self._calls.append(call)
        return call


def _is_plain(delta: _Delta) -> bool:
    return not (delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.thinking or delta.refusal)


def _is_silent(body: bytes) -> bool:
    """Comments (keep-alives) and fields without data only."""
    return all(line.startswith((b":", b"event:", b"id:", b"retry:")) for line in body.splitlines() if line.strip())


def _is_complete(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=prompt.cached_tokens if prompt else None,
        reasoning_tokens=completion.reasoning_tokens if completion else None,
        cost_usd=cost_in_usd(usage.cost),
    )
