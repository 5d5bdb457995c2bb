"""Messages, and the bounded history of an agent: whole turns, in the order in which they were started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .events import ToolCallRequested
from .records import CallStatus

__all__ = ["Message", "Turn", "check_messages", "decode_arguments"]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        content: the text.
        tool_calls: what an assistant message asks for.
        tool_call_id: which call a tool message answers.
        name: the tool that answered.
        status: ``cancelled``, ``error`` or ``limit`` on the last message of a turn that did not end well.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCallRequested, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    status: CallStatus = "ok"


@dataclass(frozen=True, slots=True)
class Turn:
    """The messages of one turn; ``number`` counts the turns of an agent as they were started."""

    number: int
    messages: tuple[Message, ...]

    def without_tools(self) -> Turn:
        """The question and the final answer alone."""
        return Turn(self.number, (self.messages[0], *self.messages[1:][-1:]))


def check_messages(messages: Sequence[Message]) -> None:
    """What every provider asks of the messages of one turn.

    A user's message, then rounds of tools (an assistant's message with calls, and right after it one answer for
    each call), then the assistant's answer; none of them empty.

    Raises:
        ValueError: which message, counted from 0, breaks which rule.
    """
    waiting: list[str | None] = []
    is_answered = False
    for at, message in enumerate(messages):
        if is_answered:
            raise ValueError(f"messages[{at}] comes after the answer that ends the turn")
        if (message.role == "user") != (at == 0) or message.role == "system":
            raise ValueError(f"messages[{at}] is of {message.role!r}: a turn has one user's message, its first")
        if not message.content.strip() and not message.tool_calls:
            raise ValueError(f"messages[{at}] is empty")
        if message.tool_calls and message.role != "assistant":
            raise ValueError(f"messages[{at}] is of {message.role!r} and asks for tools")
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise ValueError(f"messages[{at}] answers {message.tool_call_id!r}, which was not asked for")
            waiting.remove(message.tool_call_id)
        elif waiting:
            raise ValueError(f"messages[{at}] comes before the answer to {waiting[0]!r}")
        elif message.role == "assistant":
            waiting = [call.tool_call_id for call in message.tool_calls]
            if len(set(waiting)) < len(waiting):
                raise ValueError(f"messages[{at}] has two calls of one id")
            is_answered = not waiting
    if not is_answered:
        raise ValueError(f"it ends after {len(messages)} messages without an answer")


def decode_arguments(arguments: Mapping[str, Any] | str) -> dict[str, Any]:
    """A model's arguments as a dict.

    Raises:
        ValueError: not JSON, or not an object.
    """
    value: Any = arguments
    for _ in range(2):  # some servers encode them twice
        if isinstance(value, str):
            try:
                value = json.loads(value, strict=False) if value.strip() else {}
            except (ValueError, RecursionError) as error:
                raise ValueError(f"not valid JSON ({error})") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return dict(value)
