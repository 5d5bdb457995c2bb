"""Messages, and the bounded history of an agent: whole turns, in the order in which they were started."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .call_record import CallStatus
from .events import ToolCallRequested

__all__ = ["History", "Message", "Turn", "check_messages"]

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
        return tuple(message for turn in self.turns for message in turn.messages)

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    def add(self, turn: Turn) -> None:
        """Put a finished turn at its place in the order of starting."""
        turns = self._turns  # `clear` may be called meanwhile, by a tool in a thread: it puts another list here
        insort(turns, turn, key=lambda known: known.number)
        self._trim(turns)

    def restore(self, conversation: Iterable[Sequence[Message]]) -> int:
        """Put the turns of ``conversation``, oldest first, in place of all that is here; how many there were."""
        turns = [Turn(number, tuple(messages)) for number, messages in enumerate(conversation)]
        count = len(turns)
        self._trim(turns)
        self._turns = turns
        return count

    def clear(self) -> None:
        self._turns = []

    def _trim(self, turns: list[Turn]) -> None:
        size = sum(len(turn.messages) for turn in turns)
        dropped = 0
        while size > self.max_size:
            oldest = turns[dropped]
            shorter = oldest.without_tools() if dropped == len(turns) - 1 else None
            if shorter is not None and len(shorter.messages) <= self.max_size:
                turns[dropped] = shorter
                break
            dropped += 1
            size -= len(oldest.messages)
        del turns[:dropped]

    def __len__(self) -> int:
        return sum(len(turn.messages) for turn in self.turns)


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
