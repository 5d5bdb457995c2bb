"""What every provider asks of a conversation, checked on what is kept and on what is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from createagents_nb.core.messages import Message

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def assert_valid_history(history: Sequence[Message], max_size: int) -> None:
    """Between two turns: whole turns, the last of them answered, no more messages than allowed."""
    assert len(history) <= max_size
    messages = [
        {
            "role": message.role,
            "content": message.content,
            "tool_call_id": message.tool_call_id,
            "tool_calls": [
                {"id": call.tool_call_id, "function": {"name": call.name}} for call in message.tool_calls
            ],
        }
        for message in history
    ]
    _assert_valid(messages)
    assert not history or history[-1].role == "assistant"


def assert_valid_request(body: dict[str, Any], max_size: int) -> None:
    """A request as a server reads it, OpenAI's or Ollama's."""
    messages = body["messages"]
    system, rest = (messages[:1], messages[1:]) if messages[0]["role"] == "system" else ([], messages)
    assert all(message["content"].strip() for message in system)
    _assert_valid(rest)
    assert rest[-1]["role"] in ("user", "tool")
    questions = [at for at, message in enumerate(rest) if message["role"] == "user"]
    assert questions[-1] <= max_size
    for message in rest:
        for call in message.get("tool_calls", ()):
            assert NAME.fullmatch(call["function"]["name"]), call
            arguments = call["function"]["arguments"]
            assert isinstance(json.loads(arguments) if isinstance(arguments, str) else arguments, dict), call


def _assert_valid(messages: Sequence[dict[str, Any]]) -> None:
    waiting: list[str] = []
    before = "assistant"
    for message in messages:
        role, calls = message["role"], message.get("tool_calls") or []
        if role == "tool":
            assert message["tool_call_id"] in waiting, messages
            assert message["content"].strip(), messages
            waiting.remove(message["tool_call_id"])
            before = "tool"
            continue
        assert waiting == [], messages
        assert (role, before) in (("user", "assistant"), ("assistant", "user"), ("assistant", "tool")), messages
        assert calls or (message["content"] or "").strip(), messages
        assert not calls or role == "assistant", messages
        waiting = [call["id"] for call in calls]
        assert all(waiting), messages
        assert len(set(waiting)) == len(waiting), messages
        before = role
    assert waiting == [], messages
