"""Replies in the format of Chat Completions: chunks of an event stream or one object; the model list. No I/O."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from .conversation import MODELS, DemoReply, DemoRequest
from .tokens import Generation, Token

__all__ = ["DONE", "OpenAIReplyWriter", "arguments_text", "model_card", "model_list"]

DONE = b"data: [DONE]\n\n"
_STARTED_AT = int(time.time())


def arguments_text(reply: DemoReply) -> list[str]:
    """The arguments of each call as a JSON string."""
    return [json.dumps(dict(call.arguments), ensure_ascii=False) for call in reply.tool_calls]


class OpenAIReplyWriter:
    """Formats one reply."""

    def __init__(self, request: DemoRequest, reply: DemoReply, generation: Generation) -> None:
        self._request, self._reply, self._generation = request, reply, generation
        self._common = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": request.model,
        }
        self._ids = [f"call_{secrets.token_hex(12)}" for _ in reply.tool_calls]

    @property
    def usage(self) -> dict[str, Any]:
        prompt, completion = self._request.prompt_tokens, len(self._generation.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self._generation.reasoning_tokens},
        }

    def _format_event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk = {
            **self._common,
            "object": "chat.completion.chunk",
            "system_fingerprint": "fp_demo",
            "choices": choices,
        }
        if self._request.include_usage:
            chunk["usage"] = usage
        return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

    def _format_delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return self._format_event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])

    def format_start(self) -> bytes:
        """Format the first chunk, which has the role."""
        return self._format_delta(
            {"role": "assistant", "content": None if self._reply.tool_calls else "", "refusal": None}
        )

    def format_token(self, token: Token) -> bytes:
        """Format the chunk for a token."""
        if token.kind == "reasoning":
            return self._format_delta({"reasoning_content": token.text})
        if token.kind == "content":
            return self._format_delta({"content": token.text})
        if token.text:
            return self._format_delta(
                {"tool_calls": [{"index": token.call, "function": {"arguments": token.text}}]}
            )
        function = {"name": self._reply.tool_calls[token.call].name, "arguments": ""}
        opened = {"index": token.call, "id": self._ids[token.call], "type": "function", "function": function}
        return self._format_delta({"tool_calls": [opened]})

    def format_end(self) -> bytes:
        """Format the finish reason, the usage if requested, and the end marker."""
        end = self._format_delta({}, self._generation.finish_reason)
        return end + (self._format_event([], self.usage) if self._request.include_usage else b"") + DONE

    def body(self) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""
        generation = self._generation
        calls = [
            {
                "id": self._ids[index],
                "type": "function",
                "function": {"name": self._reply.tool_calls[index].name, "arguments": generation.arguments(index)},
            }
            for index in generation.calls
        ]
        content = generation.text("content")
        message: dict[str, Any] = {"role": "assistant", "content": None if calls else content, "refusal": None}
        if reasoning := generation.text("reasoning"):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": generation.finish_reason}
        return {
            **self._common,
            "object": "chat.completion",
            "system_fingerprint": "fp_demo",
            "choices": [choice],
            "usage": self.usage,
        }


def model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED_AT, "owned_by": "createagents-nb"}


def model_list() -> dict[str, Any]:
    return {"object": "list", "data": [model_card(name) for name in MODELS]}
