"""Replies in Ollama's format: JSON lines or one object, and the model lists. No I/O."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from .conversation import MODELS, THINKING_MODEL, DemoReply, DemoRequest, canonical_model
from .tokens import Generation, Token

__all__ = ["VERSION", "OllamaReplyWriter", "arguments_text", "load_response", "loaded_models", "show", "tags"]

VERSION = "0.0.0"
_CONTEXT = 8192
_STARTED_AT = datetime.now(UTC)


def _now() -> str:
    return _timestamp(datetime.now(UTC))


def _timestamp(when: datetime) -> str:
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def arguments_text(reply: DemoReply) -> list[str]:
    """The arguments of each call as JSON, which are counted as its tokens."""
    return [
        json.dumps(dict(call.arguments), ensure_ascii=False, separators=(",", ":")) for call in reply.tool_calls
    ]


class OllamaReplyWriter:
    """Formats one reply; ``received_ns`` is when the request arrived, by ``time.perf_counter_ns``."""

    def __init__(self, request: DemoRequest, reply: DemoReply, generation: Generation, received_ns: int) -> None:
        self._request, self._reply, self._generation = request, reply, generation
        self._texts = arguments_text(reply)
        self._received_ns = received_ns
        self._loaded_ns = time.perf_counter_ns()
        self._first_ns: int | None = None

    def _format_line(self, message: dict[str, Any]) -> bytes:
        line = {
            "model": self._request.model,
            "created_at": _now(),
            "message": {"role": "assistant", **message},
            "done": False,
        }
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def mark_first_token(self) -> None:
        """Record that the first token was generated: the prompt has been evaluated."""
        self._first_ns = self._first_ns or time.perf_counter_ns()

    def format_token(self, token: Token, *, ends_call: bool) -> bytes:
        """Format the line for a token; a tool call has one line, with its last token."""
        self.mark_first_token()
        if token.kind == "reasoning":
            return self._format_line({"content": "", "thinking": token.text})
        if token.kind == "content":
            return self._format_line({"content": token.text})
        if ends_call and self._is_complete(token.call):
            return self._format_line({"content": "", "tool_calls": [self._tool_call(token.call)]})
        return b""

    def _is_complete(self, call: int) -> bool:
        return self._generation.arguments(call) == self._texts[call]

    def _tool_call(self, index: int) -> dict[str, Any]:
        call = self._reply.tool_calls[index]
        function = {"index": index, "name": call.name, "arguments": dict(call.arguments)}
        return {"id": f"call_{secrets.token_hex(4)}", "function": function}

    def format_end(self) -> bytes:
        """Format the last line of the stream, with counts and durations."""
        return (
            json.dumps(self._final_body({"content": ""}), ensure_ascii=False, separators=(",", ":")).encode()
            + b"\n"
        )

    def body(self) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""
        self.mark_first_token()
        message: dict[str, Any] = {"content": self._generation.text("content")}
        if thinking := self._generation.text("reasoning"):
            message["thinking"] = thinking
        if calls := [self._tool_call(index) for index in self._generation.calls if self._is_complete(index)]:
            message["tool_calls"] = calls
        return self._final_body(message)

    def _final_body(self, message: dict[str, Any]) -> dict[str, Any]:
        ended = time.perf_counter_ns()
        first = self._first_ns or ended
        reason = self._generation.finish_reason
        return {
            "model": self._request.model,
            "created_at": _now(),
            "message": {"role": "assistant", **message},
            "done": True,
            "done_reason": "length" if reason == "length" else "stop",  # "stop" for tool calls too
            "total_duration": max(1, ended - self._received_ns),
            "load_duration": max(1, self._loaded_ns - self._received_ns),
            "prompt_eval_count": self._request.prompt_tokens,
            "prompt_eval_duration": max(1, first - self._loaded_ns),
            "eval_count": len(self._generation.tokens),
            "eval_duration": max(1, ended - first),
        }


def load_response(model: str, reason: str) -> dict[str, Any]:
    """Build the reply to a request without messages; ``reason`` is ``load`` or ``unload``."""
    message = {"role": "assistant", "content": ""}
    return {"model": model, "created_at": _now(), "message": message, "done": True, "done_reason": reason}


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "canned",
        "family": "demo",
        "families": ["demo"],
        "parameter_size": "0",
        "quantization_level": "none",
    }


def _capabilities(name: str) -> list[str]:
    return ["completion", "tools", *(["thinking"] if canonical_model(name) == THINKING_MODEL else [])]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def tags() -> dict[str, Any]:
    """Body of ``GET /api/tags``."""
    return {
        "models": [
            {
                "name": f"{name}:latest",
                "model": f"{name}:latest",
                "modified_at": _timestamp(_STARTED_AT),
                "size": 0,
                "digest": _digest(name),
                "details": {**_details(), "context_length": _CONTEXT, "embedding_length": 0},
                "capabilities": _capabilities(name),
            }
            for name in MODELS
        ]
    }


def loaded_models() -> dict[str, Any]:
    """Body of ``GET /api/ps``: every model is always loaded."""
    expires = _timestamp(datetime.now(UTC) + timedelta(minutes=5))
    return {
        "models": [
            {
                "name": f"{name}:latest",
                "model": f"{name}:latest",
                "size": 0,
                "digest": _digest(name),
                "details": _details(),
                "expires_at": expires,
                "size_vram": 0,
                "context_length": _CONTEXT,
            }
            for name in MODELS
        ]
    }


def show(name: str) -> dict[str, Any]:
    """Body of ``POST /api/show``."""
    return {
        "modelfile": f"# Canned text of createagents-nb: there is no model.\nFROM {canonical_model(name)}\n",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(),
        "model_info": {
            "general.architecture": "demo",
            "general.parameter_count": 0,
            "demo.context_length": _CONTEXT,
            "demo.embedding_length": 0,
        },
        "capabilities": _capabilities(name),
        "modified_at": _timestamp(_STARTED_AT),
    }
