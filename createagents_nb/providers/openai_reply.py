"""From the bytes of a Chat Completions reply to events. No I/O, and no SDK object per chunk.

Written against what real servers send, which is more than the specification says: a first chunk with or without
text, usage anywhere or nowhere, no ``[DONE]``, tool calls whole or in pieces, two calls that share an index,
reasoning under three names or in the text, a buffered body where a stream was asked for.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from ..agent.events import Event, Reasoning, RoundEnded, ToolCallRequested, Usage
from ..errors import EmptyReplyError, IncompleteReplyError, ProtocolError, ProviderError
from .thinking import ThinkingSplitter
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


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _Call:
    """A tool call while its pieces arrive."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int | None, id_: str | None) -> None:
        self.index, self.id = index, id_
        self.name, self.arguments = "", ""


class OpenAIReplyDecoder:
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
        self._on_error = on_error
        self._retries = retries
        self._thinking = ThinkingSplitter()
        self._calls: list[_Call] = []
        self._body = bytearray()  # kept until the first event: it may not be an event stream at all
        self._seen = False
        self._finished = False
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._model: str | None = None
        self._first_output_at: float | None = None

    def feed(self, block: bytes) -> list[Event]:
        if self._splitter is None:
            self._body += block
            return []
        payloads = self._splitter.feed(block)
        if not self._seen:
            self._body += block
        return self._events(payloads)

    def finish(self) -> list[Event]:
        """The end of the body: what was held back, the tool calls, and `RoundEnded`."""
        events = self._events(self._splitter.finish()) if self._splitter is not None else []
        if not self._seen:
            events += self._buffered()
        if not self._finished:
            raise IncompleteReplyError(
                "The connection ended before the answer did; the text so far is kept. Send the message again"
            )
        events += self._thinking.finish()
        events += [
            ToolCallRequested(call.id or f"call_{uuid.uuid4().hex[:12]}", call.name, call.arguments)
            for call in self._calls
        ]
        events.append(
            RoundEnded(self._finish_reason, self._usage, self._first_output_at, self._model, self._retries)
        )
        return events

    def _buffered(self) -> list[Event]:
        body = bytes(self._body).strip()
        if not body or self._finished:
            raise EmptyReplyError(
                "The server answered without a single word. Often the prompt is longer than the model's context: "
                "shorten it, or agent.clear_history()"
            )
        if not body.startswith(b"{"):
            raise ProtocolError(f"The server did not answer in JSON: {body[:120]!r}…. Check base_url")
        events = self._events([body])
        self._finished = True
        return events

    def _events(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        transparent = self._thinking.transparent
        for payload in payloads:
            if payload == b"[DONE]":
                self._finished = True
                continue
            try:
                chunk = _decode(payload)
            except msgspec.DecodeError as error:
                raise ProtocolError(f"The server sent broken data ({error}): {payload[:120]!r}…") from error
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
        if self._first_output_at is None and any(type(event) is str for event in events):
            self._first_output_at = time.perf_counter()
        return events

    def _delta(self, delta: _Delta, events: list[Event]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning:
            events.append(Reasoning(reasoning))
        text = delta.content or delta.refusal
        if isinstance(text, list):
            text = "".join(part.get("text") or "" for part in text if isinstance(part, dict))
        if text:
            events += self._thinking.feed(text)
        for piece in delta.tool_calls or ():
            self._tool_call(piece)
        if delta.tool_calls and self._first_output_at is None:
            self._first_output_at = time.perf_counter()

    def _tool_call(self, piece: _ToolCall) -> None:
        function = piece.function or _Function()
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        call = self._call_of(piece, function.name, arguments)
        if function.name and not call.name:
            call.name = function.name
        call.arguments += arguments

    def _call_of(self, piece: _ToolCall, name: str | None, arguments: str) -> _Call:
        """The call a piece belongs to: an id decides; without one, the index; without either, the last call."""
        known = None
        if piece.id:
            known = next((call for call in self._calls if call.id == piece.id), None)
        elif piece.index is not None:
            known = next((call for call in reversed(self._calls) if call.index == piece.index), None)
        elif self._calls:
            known = self._calls[-1]
        # Whole calls without ids: a second name after complete arguments is a second call.
        if known is not None and not piece.id and name and arguments and _is_complete(known.arguments):
            known = None
        if known is None:
            known = _Call(piece.index, piece.id)
            self._calls.append(known)
        return known


def _is_plain(delta: _Delta) -> bool:
    return not (delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.thinking or delta.refusal)


def _is_complete(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=prompt.cached_tokens if prompt else None,
        reasoning_tokens=completion.reasoning_tokens if completion else None,
    )
