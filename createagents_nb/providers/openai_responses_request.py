"""Converts a `ChatRequest` to the body of a Responses request. No I/O."""

from __future__ import annotations

from typing import Any

from ..core.provider import ChatRequest

__all__ = ["CHAT_ONLY", "build_responses_body"]

CHAT_ONLY = frozenset({"seed", "stop"})


def build_responses_body(request: ChatRequest) -> dict[str, Any]:
    raise NotImplementedError
