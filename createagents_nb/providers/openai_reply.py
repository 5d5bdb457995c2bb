"""Decodes the bytes of a Chat Completions reply into events. No I/O, and no SDK object per chunk.

Written against what real servers send, which is more than the specification allows: a first chunk with or without
text, usage anywhere or nowhere, no ``[DONE]``, tool calls whole or in pieces, two calls that share an index,
reasoning under three names or in the text, a buffered body in place of a stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ..core.events import Event, Reasoning, Usage, cost_in_usd, count_or_none, number_or_none
from ..errors import ProtocolError
from .reply_decoder import (
    EventStreamReplyDecoder,
    check_arguments,
    decode_whole,
    excerpt,
    new_tool_call,
    not_json,
    repair_surrogates,
    text_or_none,
)

__all__ = ["OpenAIReplyDecoder"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


# Fields that do not matter for the answer are not validated, so that none of them fails it.


class _ToolCall(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: _Function | None = None
    extra_content: Any = None
    provider_specific_fields: Any = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None
    refusal: Any = None
    extra_content: Any = None
    provider_specific_fields: Any = None
    reasoning_details: Any = None
    thinking_blocks: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    index: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    timings: Any = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode

_FIRST = (0, None, "0")
"""The index of the first choice, in the forms that servers send."""
_INDEX_TYPES = (int, float, str)
_NO_CHOICE = _Choice()
_JSON_MARKS = re.compile(r'(?s)\\.?|["{}]')


_REASONING_TEXTS = ("reasoning_content", "reasoning", "thinking")
"""Fields with pieces of the reasoning; they are joined."""
_REASONING_LISTS = ("reasoning_details", "thinking_blocks")
"""Fields with pieces of a list of blocks (OpenRouter's, and LiteLLM's for Anthropic's models)."""
_OPAQUE = ("extra_content", "provider_specific_fields")
"""Fields of messages and calls that are not pieces (Gemini's, and LiteLLM's)."""
_BLOCK_TEXTS = ("text", "summary", "thinking")


class _Call:
    """A tool call whose pieces are still arriving."""

    __slots__ = (
        "_depth",
        "_escape",
        "_in_string",
        "_scanned",
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

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

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
            self._whole = _is_object(self.arguments)
        return bool(self._whole)

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


class OpenAIReplyDecoder(EventStreamReplyDecoder):
    """Decodes the blocks of one reply, streamed or buffered; its end marker is a finish reason or ``[DONE]``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._reasoning: dict[str, list[str]] = {}
        self._opaque: dict[str, Any] = {}
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[object, _Call] = {}  # the last call with each index
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._model: str | None = None

    def _ending(self) -> Iterator[Event]:
        for call in self._calls:
            arguments = call.arguments
            if call.name or arguments:
                yield new_tool_call(call.id, call.name, arguments, self._details(call.details))
        details = self._details({name: "".join(pieces) for name, pieces in self._reasoning.items()} | self._opaque)
        usage = _with_timings(_usage(self._usage), self._timings)
        generation_s = usage.eval_s or self._clock.generation_s
        yield self._round_ended(self._finish_reason, usage, self._model, generation_s, details)

    def _whole(self, body: bytes) -> Iterable[Event]:
        if not body.startswith(b"{"):
            raise not_json(body)
        chunk = decode_whole(_decode, body)
        if not (chunk.choices or (chunk.error and self._error_in(chunk.error))):
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
            if chunk.error and (failure := self._error_in(chunk.error)):
                raise failure
            if chunk.choices:
                choice = chunk.choices[0]
                if choice.index:  # the request asked for several
                    choice = next((each for each in chunk.choices if each.index in _FIRST), _NO_CHOICE)
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
            if chunk.timings is not None and isinstance(chunk.timings, dict):
                self._timings = chunk.timings

    def _delta(self, delta: _Delta, events: list[Event]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning and isinstance(reasoning, str):
            events.append(Reasoning(reasoning))
        if self._source is not None:
            self._keep_details(delta)
        text = delta.content or delta.refusal
        if isinstance(text, list):
            parts = [part.get("text") for part in text if isinstance(part, dict)]
            text = "".join([part for part in parts if isinstance(part, str)])
        if text and isinstance(text, str):
            events += self._thinking.feed(text)
        for piece in delta.tool_calls or ():
            self._tool_call(piece)
        if delta.tool_calls:
            self._clock.record((), tool_call=True)

    def _keep_details(self, delta: _Delta) -> None:
        """Keep what the server wants back as it came."""
        for name in _REASONING_TEXTS:
            piece = getattr(delta, name)
            if piece and isinstance(piece, str):
                self._reasoning.setdefault(name, []).append(piece)
        for name in _REASONING_LISTS:
            pieces = getattr(delta, name)
            if pieces and isinstance(pieces, list):
                _add_blocks(self._opaque.setdefault(name, []), pieces)
        _add_opaque(self._opaque, delta)

    def _tool_call(self, piece: _ToolCall) -> None:
        function = piece.function or _Function()
        arguments = function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call_id = piece.id if piece.id is None else text_or_none(piece.id)
        index = piece.index if isinstance(piece.index, _INDEX_TYPES) else None
        call = self._call_of(call_id, index, function.name, arguments)
        if call.id is None and call_id and call_id not in self._by_id:
            call.id = call_id
            self._by_id[call_id] = call
        call.name = call.name or function.name or ""
        _add_opaque(call.details, piece)
        if arguments:
            call.size += len(arguments)
            check_arguments(call.size)
            call.pieces.append(arguments)

    def _call_of(self, call_id: str | None, index: object, name: str | None, arguments: str) -> _Call:
        """Return the call that a piece belongs to: that of its id, else of its index, else the last.

        A name with an unknown id starts a call, whatever its index. An unknown id without a name does not: some
        servers make up an id for every piece.
        """
        same_index = self._by_index.get(index) if index is not None else self._calls[-1] if self._calls else None
        call = None
        if call_id:
            call = self._by_id.get(call_id)
            if call is not None and None not in (call.index, index) and call.index != index:
                # Two calls with one id: the second goes without.
                if name:
                    return self._new_call(index)
                if same_index is not None and same_index.id is None:
                    call = same_index
        if call is None and not (call_id and name):
            call = same_index
            if call is not None and name and call.name and name != call.name:
                call = None
        # Whole calls that neither id nor index tells apart: a name after complete arguments is a second call.
        if call is not None and name and arguments.strip() and call.is_whole():
            call = None
        return self._new_call(index) if call is None else call

    def _new_call(self, index: object) -> _Call:
        self._count_calls()
        call = self._by_index[index] = _Call(index)
        self._calls.append(call)
        return call


def _is_plain(delta: _Delta) -> bool:
    return not (
        delta.tool_calls
        or delta.reasoning_content
        or delta.reasoning
        or delta.thinking
        or delta.refusal
        or delta.extra_content
        or delta.provider_specific_fields
        or delta.reasoning_details
        or delta.thinking_blocks
    )


def _add_opaque(details: dict[str, Any], piece: _Delta | _ToolCall) -> None:
    for name in _OPAQUE:
        value = getattr(piece, name)
        if value:
            earlier: Any = details.get(name)
            merges = isinstance(earlier, dict) and isinstance(value, dict)
            details[name] = earlier | value if merges else value


def _add_blocks(blocks: list[Any], pieces: list[Any]) -> None:
    """Add pieces to a list of blocks: a piece of text continues the last block of its kind and index.

    A block with a signature has ended. Source: https://openrouter.ai/docs/use-cases/reasoning-tokens
    """
    for piece in pieces:
        last: Any = blocks[-1] if blocks else None
        continues = (
            isinstance(piece, dict)
            and isinstance(last, dict)
            and all(piece.get(name) == last.get(name) for name in ("type", "index"))
            and any(name in piece and name in last for name in _BLOCK_TEXTS)
            and not last.get("signature")
            and piece.get("id") in (None, last.get("id"))
        )
        if not continues:
            blocks.append(piece)
            continue
        merged = {name: value for name, value in piece.items() if value is not None}
        for name in _BLOCK_TEXTS:
            if isinstance(merged.get(name), str):
                merged[name] = (last.get(name) or "") + merged[name]
        blocks[-1] = last | merged


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _usage(reported: Mapping[str, Any]) -> Usage:
    def count(name: str, details: str | None = None) -> int | None:
        counts = reported if details is None else reported.get(details)
        return count_or_none(counts.get(name)) if isinstance(counts, Mapping) else None

    return Usage(
        input_tokens=count("prompt_tokens"),
        output_tokens=count("completion_tokens"),
        cached_tokens=count("cached_tokens", "prompt_tokens_details"),
        reasoning_tokens=count("reasoning_tokens", "completion_tokens_details"),
        cost_usd=cost_in_usd(reported.get("cost")),  # OpenRouter's; elsewhere it may be anything
    )


def _with_timings(usage: Usage, timings: Mapping[str, Any]) -> Usage:
    """Add llama.cpp's ``timings``: seconds, and counts where the usage has none.

    Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    """
    if not timings:
        return usage
    read, reused, written = (count_or_none(timings.get(name)) for name in ("prompt_n", "cache_n", "predicted_n"))
    if usage.input_tokens is None and read is not None:
        usage = replace(usage, input_tokens=read + (reused or 0))
    return replace(
        usage,
        output_tokens=written if usage.output_tokens is None else usage.output_tokens,
        cached_tokens=reused if usage.cached_tokens is None else usage.cached_tokens,
        prompt_eval_s=_seconds(timings.get("prompt_ms")),
        eval_s=_seconds(timings.get("predicted_ms")),
    )


def _seconds(milliseconds: object) -> float | None:
    number = number_or_none(milliseconds)
    return None if number is None else number / 1000
