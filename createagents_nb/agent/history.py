"""Messages, and the bounded history of an agent: whole turns, in the order in which they were started."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Literal

from .call_record import CallStatus
from .events import ToolCallRequested

__all__ = ["History", "Message", "Turn"]

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


class History:
    """The last messages of a conversation, at most ``max_size`` of them.

    Whole turns are dropped, oldest first, so that no tool result is left without its call. A single turn that
    is longer than ``max_size`` keeps its question and its final answer.

    Raises:
        ValueError: ``max_size`` is negative or not a whole number.
    """

    def __init__(self, max_size: int = 20) -> None:
        if not isinstance(max_size, int) or isinstance(max_size, bool) or max_size < 0:
            raise ValueError(f"history_max_size must be a whole number, 0 or more, not {max_size!r}")
        self.max_size = max_size
        self._turns: list[Turn] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(message for turn in self._turns for message in turn.messages)

    def add(self, turn: Turn) -> None:
        """Put a finished turn at its place in the order of starting."""
        insort(self._turns, turn, key=lambda known: known.number)
        size = len(self)
        while size > self.max_size:
            oldest = self._turns[0]
            shorter = oldest.without_tools() if len(self._turns) == 1 else None
            if shorter is not None and len(shorter.messages) <= self.max_size:
                self._turns[0] = shorter
                break
            del self._turns[0]
            size -= len(oldest.messages)

    def clear(self) -> None:
        self._turns.clear()

    def __len__(self) -> int:
        return sum(len(turn.messages) for turn in self._turns)
