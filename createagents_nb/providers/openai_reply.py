"""Decodes the bytes of a Chat Completions reply into events. No I/O, and no SDK object per chunk.

Written against what real servers send, which is more than the specification allows: a first chunk with or without
text, usage anywhere or nowhere, no ``[DONE]``, tool calls whole or in pieces, two calls that share an index,
reasoning under many names or in the text, a last chunk that repeats the whole message, one message in several
choices, values of other types, errors in many forms, a buffered body in place of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..core.events import Event, Reasoning, Usage, count_or_none, ended_early, number_or_none
from ..errors import ProtocolError
from .reply_decoder import (
    EventStreamReplyDecoder,
    ThinkingSplitter,
    decode_loosely,
    excerpt,
    incomplete_error,
    new_tool_call,
    not_json,
    not_repeated,
    raw_json,
    reported_usage,
    text_or_none,
)
from .tool_call_pieces import CallPieces, add_opaque

__all__ = ["OpenAIReplyDecoder"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


# Fields that do not matter for the answer are not validated, so that none of them fails it. A chunk that does not
# fit is decoded again, and what does not fit is left out (`_chunk_of`).


class _ToolCall(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: _Function | None = None
    extra_content: Any = None
    provider_specific_fields: Any = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None
    thought: Any = None
    reasoning_text: Any = None
    refusal: Any = None
    extra_content: Any = None
    provider_specific_fields: Any = None
    reasoning_details: Any = None
    thinking_blocks: Any = None
    error: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | UnsetType | None = UNSET
    index: Any = None
    error: msgspec.Raw = msgspec.Raw()
    native_finish_reason: Any = None
    text: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    timings: Any = None
    error: msgspec.Raw = msgspec.Raw()
    base_resp: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

_FIRST = (0, None, "0")
"""The index of the first choice, in the forms that servers send."""
_INDEX_TYPES = (int, float, str)
_UNKNOWN = object()
_PLAIN = _Delta()
_LEGACY_INDEX = "function_call"
"""The index of a call in the field that ``tool_calls`` replaced."""


_REASONING_TEXTS = ("reasoning_content", "reasoning", "thinking")
"""Fields with pieces of the reasoning that go back; they are joined."""
_REASONING_NAMES = (*_REASONING_TEXTS, "thought", "reasoning_text", "reasoning_details", "thinking_blocks")
"""Fields with the reasoning; where a piece comes in several, the first counts."""
_REASONING_LISTS = ("reasoning_details", "thinking_blocks")
"""Fields with pieces of a list of blocks (OpenRouter's, and LiteLLM's for Anthropic's models)."""
_OPAQUE = ("extra_content", "provider_specific_fields")
"""Fields of messages and calls that are not pieces (Gemini's, and LiteLLM's)."""
_BLOCK_TEXTS = ("text", "summary", "thinking")
_REASONING_KINDS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "thought", "summary_text")
"""Types of parts that are reasoning (Mistral's, Anthropic's, OpenRouter's)."""


class OpenAIReplyDecoder(EventStreamReplyDecoder):
    """Decodes the blocks of one reply, streamed or buffered; its end marker is a finish reason or ``[DONE]``.

    Several choices are one message: texts of the first that says something, and the calls of all. Where several
    answers were asked for, only the first counts.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._reasoning: dict[str, list[str]] = {}
        self._opaque: dict[str, Any] = {}
        self._main: object = _UNKNOWN  # the index of the choice that counts
        self._main_form: object = _UNKNOWN  # as the server writes it
        self._held: _Choice | None = None  # of another index than the first, which may still come
        self._calls: dict[object, CallPieces] = {}  # by choice
        self._other_texts: list[str] = []
        self._other_finishes: dict[object, str] = {}
        self._next_index: int | None = 1  # while each chunk has the choice after that of the last
        self._has_deltas = False
        self._is_open = False  # the last chunk says that no reason for an end is known
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._model: str | None = None

    def _ending(self) -> Iterator[Event]:
        is_silent = not "".join(self._texts_said).strip()
        if self._other_texts and not self.asked_for_several and (is_silent or self._is_rising):
            for event in [*self._thinking.feed("".join(self._other_texts)), *self._thinking.finish()]:
                self._clock.record([event])
                yield event
            used = set(self._other_finishes)
        else:
            used = set() if self.asked_for_several else self._other_finishes.keys() & self._calls.keys()
        yield from self._all_calls()
        details = self._details({name: "".join(pieces) for name, pieces in self._reasoning.items()} | self._opaque)
        usage = _with_timings(reported_usage(self._usage, "prompt", "completion"), self._timings)
        reason = self._finish_reason
        for other in sorted(self._other_finishes, key=lambda index: index not in used):
            if reason is None or other in used:
                word = self._other_finishes[other]
                reason = word if reason is None else _graver(reason, word)
        yield self._round_ended(
            reason,
            usage,
            self._model,
            usage.eval_s or self._clock.generation_s,
            details,
        )

    @property
    def _is_rising(self) -> bool:
        """Whether the index of the only choice rises with each piece of one text."""
        return self._next_index is not None and self._next_index > 2 and len(self._texts_said) == 1

    def _all_calls(self) -> Iterator[Event]:
        told: list[tuple[str, str]] = []
        for choice in sorted(self._calls, key=lambda index: index != self._main):
            if choice != self._main and self.asked_for_several:
                continue
            of_others = told.copy()
            for call in self._calls[choice].calls:
                arguments = call.arguments
                if (call.name or arguments) and (call.name, arguments) not in of_others:
                    told.append((call.name, arguments))
                    yield new_tool_call(call.id, call.name, arguments, self._details(call.details))

    def _whole(self, body: bytes) -> Iterable[Event]:
        if not body.startswith((b"{", b"[")):
            raise not_json(body)
        events: list[Event] = []
        chunks = self._chunks_in(body, is_whole=True)
        if not any(chunk.choices or chunk.error for chunk in chunks):
            value = decode_loosely(body, ValueError())
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    self._check(item, events)
            self._check_complaint()
            raise ProtocolError(f"The server's answer has no choices: {excerpt(body)!r}…. Check base_url")
        said = self._events([body, b"[DONE]"])
        self.is_finished = True
        is_whole = isinstance(said, list)  # without an error at its end
        if is_whole and self._is_open and not self._calls and not self._output_count and self._thinking.is_empty:
            raise incomplete_error()
        return said

    def finish(self) -> Iterator[Event]:
        has_other_calls = any(choice != self._main for choice in self._calls)
        if self._other_finishes and (has_other_calls or self._is_rising or not self._output_count):
            self.is_finished = True
        yield from super().finish()

    def _end(self, events: list[Event]) -> None:
        if self._held is not None:
            self._main = _index(self._held)
            self._release(events)
        self.is_complete = True
        self.is_finished = self.is_finished or bool(self._other_finishes) or not self._is_open

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        main, is_open = self._main_form, self._is_open
        for payload in payloads:
            if payload == b"[DONE]":
                self._is_open = is_open
                self._end(events)
                return
            try:
                chunk = _decode(payload)
                if not self._seen:
                    self._see()
                if chunk.choices and not chunk.error and chunk.usage is None and chunk.timings is None:
                    choice = chunk.choices[0]
                    delta = choice.delta
                    if (
                        delta is not None
                        and choice.index == main
                        and not choice.finish_reason
                        and not choice.error
                        and choice.message is None
                        and len(chunk.choices) == 1
                    ):
                        text = delta.content
                        if text and transparent and type(text) is str:
                            delta.content = None
                            if delta == _PLAIN or _is_plain(delta):
                                events.append(text)
                                is_open = choice.finish_reason is None
                                continue
                            delta.content = text
                        elif not text:
                            self._delta(delta, events)
                            transparent = self._thinking.transparent
                            is_open = choice.finish_reason is None
                            continue
                chunks: Iterable[_Chunk] = (chunk,)
            except (ValueError, RecursionError):
                if payload.strip() == b"[DONE]":
                    self._is_open = is_open
                    self._end(events)
                    return
                chunks = self._chunks_in(payload)
                self._see()
            self._is_open = is_open
            for chunk in chunks:
                self._take(chunk, payload, events)
            transparent = self._thinking.transparent
            main, is_open = self._main_form, self._is_open
        self._is_open = is_open

    def _see(self) -> None:
        self._seen = True
        self._body.clear()

    def _chunks_in(self, payload: bytes, *, is_whole: bool = False) -> list[_Chunk]:
        """Return what can be read in a payload of any shape: a chunk, a list of chunks, or nothing."""
        try:
            return [_decode(payload)]
        except (ValueError, RecursionError) as error:
            if not is_whole and self._check_text(payload):
                return []
            value = self._decode_loosely(payload, error, is_whole=is_whole)
        if isinstance(value, str) and value.strip():
            self._check_text(value.encode("utf-8", "replace"))
        values = value if isinstance(value, list) else [value]
        return [_chunk_of(each) for each in values if isinstance(each, dict)]

    def _take(self, chunk: _Chunk, payload: bytes, events: list[Event]) -> None:
        """Read a chunk that may be more than a piece of text."""
        if chunk.error and (failure := self._error_in(chunk.error)):
            raise failure
        if self._model is None and isinstance(chunk.model, str) and chunk.model:
            self._model = chunk.model
        if chunk.usage is not None and isinstance(chunk.usage, dict):
            self._usage = chunk.usage
        if chunk.timings is not None and isinstance(chunk.timings, dict):
            self._timings = chunk.timings
        choices = chunk.choices or ()
        if len(choices) > 1:
            for position, choice in enumerate(choices):
                choice.index = position if choice.index is None else choice.index
            choices = sorted(choices, key=lambda choice: choice.index not in _FIRST)
        if (
            choices
            and self._next_index is not None
            and (len(choices) > 1 or choices[0].index != 0 or self._main == 0)
        ):
            is_next = len(choices) == 1 and choices[0].index == self._next_index and self._finish_reason is None
            self._next_index = self._next_index + 1 if is_next and not self._other_finishes else None
        for choice in choices:
            self._choose(choice, events)
        if not choices or chunk.base_resp:
            value = decode_loosely(payload, ValueError())
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    self._check(item, events)

    def _choose(self, choice: _Choice, events: list[Event]) -> None:
        """Read a choice, once it is known which one counts: the first, or the only one."""
        index, held = _index(choice), self._held
        if self._main is not _UNKNOWN:
            self._main_form = choice.index if index == self._main else self._main_form
        elif index == 0 or held is not None:
            self._main = 0 if index == 0 or held is None else _index(held)
            self._main_form = choice.index
            self._release(events)
        else:
            self._held = choice
            return
        self._take_choice(choice, events)

    def _release(self, events: list[Event]) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._take_choice(held, events)

    def _take_choice(self, choice: _Choice, events: list[Event]) -> None:
        index, delta, message = _index(choice), choice.delta, choice.message
        if delta is None and message is None and isinstance(choice.text, str):
            delta = _Delta(choice.text)  # of the completions that chat replaced
        is_main = index == self._main
        if choice.finish_reason is not UNSET:
            if is_main:
                self._is_open = choice.finish_reason is None
            if choice.finish_reason and is_main:
                self._finish_reason = _reason_of(choice, self._finish_reason)
                self.is_finished = True
            elif choice.finish_reason and not self.asked_for_several:
                self._other_finishes[index] = _reason_of(choice, self._other_finishes.get(index))
        elif is_main:
            self._is_open = False
        if not is_main:
            for each in (delta, message):
                if each is not None:
                    self._other_texts += [event for event in _split(each) if isinstance(event, str)]
                    self._add_calls(each, index)
        else:
            if delta is not None:
                self._has_deltas = self._has_deltas or _says(delta)
                self._delta(delta, events, may_repeat=bool(choice.finish_reason))
            if message is not None:
                self._message(message, events)
        if choice.error and (failure := self._error_in(choice.error)):
            raise failure

    def _delta(self, delta: _Delta, events: list[Event], *, may_repeat: bool = False) -> None:
        thought = _reasoning_of(delta)
        if thought and may_repeat:
            thought = not_repeated(thought, self._thoughts_said, has_ended=any(self._texts_so_far(events)))
        if thought:
            self._reason(thought, events)
        if self._source is not None:
            self._keep_details(delta, replaced=may_repeat and not thought)
        content = delta.content or delta.refusal
        if content:
            for kind, text in [("text", content)] if isinstance(content, str) else _parts(content):
                if kind == "reasoning":
                    self._reason(text, events)
                    continue
                if may_repeat:
                    text = not_repeated(text, self._texts_so_far(events))
                if text:
                    events += self._thinking.feed(text)
        if delta.tool_calls or delta.function_call:
            self._add_calls(delta, self._main)
        if delta.error:
            self._check({"error": delta.error}, events)

    def _message(self, message: _Delta, events: list[Event]) -> None:
        """Read a whole message, which may repeat what came in pieces."""
        thoughts, text = _reasoning_of(message), ""
        for event in _split(message):
            if isinstance(event, Reasoning):
                thoughts += event.text
            elif isinstance(event, str):
                text += event
        has_said = any(self._texts_so_far(events))
        if not (self._has_deltas or has_said or self._thoughts_said or self._calls) and self._thinking.is_empty:
            self._delta(message, events)
            return
        if self._source is not None:
            self._keep_details(message, replaced=True)
        thoughts_left = _rest_of(thoughts, self._thoughts_said)
        text_left = _rest_of(text, self._texts_so_far(events))
        if not self._has_deltas and text_left is None:  # messages in place of deltas, each with a piece
            text_left = text
        if thoughts_left and not has_said:
            self._reason(thoughts_left, events)
        if text_left:
            events += self._thinking.feed(text_left)
        self._add_calls(message, self._main, whole=True)
        if message.error:
            self._check({"error": message.error}, events)

    def _add_calls(self, delta: _Delta, choice: object, *, whole: bool = False) -> None:
        pieces: Sequence[_ToolCall] = delta.tool_calls or ()
        old = delta.function_call
        if old is not None and (old.name or old.arguments) and all(piece.function != old for piece in pieces):
            pieces = (*pieces, _ToolCall(_LEGACY_INDEX, function=delta.function_call))
        if not pieces:
            return
        calls = self._calls.get(choice)
        if calls is None:
            calls = self._calls[choice] = CallPieces(self._count_calls)
        for position, piece in enumerate(pieces):
            function = piece.function or _Function()
            arguments = function.arguments or ""
            if isinstance(arguments, dict):
                arguments = json.dumps(arguments, ensure_ascii=False)
            call_id = piece.id if piece.id is None else text_or_none(piece.id)
            index = piece.index if isinstance(piece.index, _INDEX_TYPES) else None
            name = function.name or ""
            if whole:
                call = calls.add_whole(position, call_id, index, name, arguments)
            else:
                call = calls.add(call_id, index, name, arguments)
            add_opaque(call.details, {name: getattr(piece, name) for name in _OPAQUE})
        self._clock.record((), tool_call=True)

    def _keep_details(self, delta: _Delta, *, replaced: bool = False) -> None:
        """Keep what the server wants back as it came.

        Args:
            replaced: the texts repeat those that are kept.
        """
        for name in _REASONING_TEXTS:
            piece = getattr(delta, name)
            if piece and isinstance(piece, str) and not (replaced and name in self._reasoning):
                self._reasoning.setdefault(name, []).append(piece)
        for name in _REASONING_LISTS:
            pieces = getattr(delta, name)
            if pieces and isinstance(pieces, list):
                if replaced:
                    self._opaque.setdefault(name, pieces)
                else:
                    _add_blocks(self._opaque.setdefault(name, []), pieces)
        add_opaque(self._opaque, {name: getattr(delta, name) for name in _OPAQUE})


def _index(choice: _Choice) -> object:
    index = choice.index
    return 0 if index in _FIRST or not isinstance(index, _INDEX_TYPES) else index


def _reason_of(choice: _Choice, earlier: str | None) -> str:
    """Return why a choice ended; ``native_finish_reason``, OpenRouter's, may know more."""
    reason, native = choice.finish_reason, choice.native_finish_reason
    assert isinstance(reason, str)
    if reason == earlier and not native:
        return reason
    reason = _graver(reason, native) if isinstance(native, str) else reason
    return reason if earlier is None else _graver(reason, earlier)


def _graver(reason: str, other: str) -> str:
    """Return the first of two reasons for an end, or the second if only that is an early one."""
    return other if ended_early(other) and not ended_early(reason) else reason


def _says(delta: _Delta | None) -> bool:
    return delta is not None and bool(delta.content or not _is_plain(delta))


def _is_plain(delta: _Delta) -> bool:
    return not (
        delta.tool_calls
        or delta.function_call
        or delta.reasoning_content
        or delta.reasoning
        or delta.thinking
        or delta.thought
        or delta.reasoning_text
        or delta.refusal
        or delta.extra_content
        or delta.provider_specific_fields
        or delta.reasoning_details
        or delta.thinking_blocks
        or delta.error
    )


def _reasoning_of(delta: _Delta) -> str:
    """Return the reasoning in a piece; under the first of its names, for it may be there under several."""
    text = delta.reasoning_content or delta.reasoning
    if text and type(text) is str:
        return text
    for name in _REASONING_NAMES:
        value = getattr(delta, name)
        if value and (text := "".join([text for _, text in _parts(value)])):
            return text
    return ""


def _parts(value: object, kind: str = "text") -> Iterator[tuple[str, str]]:
    """Yield the texts in a content of any shape, each with its kind: ``text`` or ``reasoning``."""
    if isinstance(value, str):
        yield kind, value
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part, kind)
    elif isinstance(value, dict):
        if value.get("type") in _REASONING_KINDS:
            kind = "reasoning"
        for name in ("text", "refusal", "thinking", "reasoning", "summary", "content", "value"):
            if value.get(name):
                is_thought = name in ("thinking", "reasoning", "summary")
                yield from _parts(value[name], "reasoning" if is_thought else kind)
                return


def _split(delta: _Delta) -> list[Event]:
    """Return the text of a message and the reasoning in it."""
    splitter, events = ThinkingSplitter(), list[Event]()
    for kind, text in _parts(delta.content or delta.refusal):
        events += [Reasoning(text)] if kind == "reasoning" else splitter.feed(text)
    return events + splitter.finish()


def _rest_of(whole: str, pieces: Iterable[str]) -> str | None:
    """Return what a whole text has more than was said; None if it begins in another way."""
    whole, at, has_begun = whole.lstrip(), 0, False
    if not whole:
        return ""
    said = iter(pieces)
    for piece in said:
        new = piece if has_begun else piece.lstrip()
        has_begun = has_begun or bool(new)
        if not whole.startswith(new, at):
            left = whole[at:].rstrip()
            is_same = new.startswith(left) and not new[len(left) :].strip()
            return "" if is_same and not any(map(str.strip, said)) else None
        at += len(new)
    return whole[at:]


def _chunk_of(value: Mapping[str, Any]) -> _Chunk:
    """Return a chunk with what fits of a decoded payload."""
    choices = value.get("choices")
    if isinstance(choices, dict):
        choices = [choices] if "delta" in choices or "message" in choices else list(choices.values())
    return _Chunk(
        [_choice_of(choice) for choice in choices if isinstance(choice, dict)]
        if isinstance(choices, list)
        else None,
        value.get("model"),
        value.get("usage"),
        value.get("timings"),
        raw_json(value.get("error")),
        value.get("base_resp"),
    )


def _choice_of(value: Mapping[str, Any]) -> _Choice:
    reason = value.get("finish_reason", UNSET)
    if reason is not UNSET and not isinstance(reason, str):
        if isinstance(reason, dict):
            reason = reason.get("type") or reason.get("reason")
        elif isinstance(reason, list) and reason:
            reason = reason[0]
        reason = "stop" if reason and isinstance(reason, int) else reason if isinstance(reason, str) else None
    return _Choice(
        _delta_of(value.get("delta")),
        _delta_of(value.get("message"), is_whole=True),
        reason,
        value.get("index"),
        raw_json(value.get("error")),
        value.get("native_finish_reason"),
        value.get("text"),
    )


def _delta_of(value: Any, *, is_whole: bool = False) -> _Delta | None:
    if isinstance(value, str):
        return _Delta(content=value)
    if not isinstance(value, dict):
        return None
    content, calls = value.get("content"), value.get("tool_calls")
    if isinstance(content, dict):
        is_known = any(_parts(content)) or not is_whole
        content = [content] if is_known else json.dumps(content, ensure_ascii=False)
    elif is_whole and isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    if isinstance(calls, dict):
        calls = [calls] if "function" in calls else list(calls.values())
    rest = {name: value.get(name) for name in _Delta.__struct_fields__ if name in value}
    rest["content"] = content if isinstance(content, str | list) else None
    rest["tool_calls"] = [
        _ToolCall(
            each.get("index"),
            each.get("id"),
            _function_of(each.get("function")),
            each.get("extra_content"),
            each.get("provider_specific_fields"),
        )
        for each in (calls if isinstance(calls, list) else ())
        if isinstance(each, dict)
    ]
    rest["function_call"] = _function_of(value.get("function_call"))
    return _Delta(**rest)


def _function_of(value: Any) -> _Function | None:
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get("arguments")
    return _Function(
        name if isinstance(name, str) else None, arguments if isinstance(arguments, str | dict) else None
    )


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
            and any(name in last for name in _BLOCK_TEXTS)
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
