"""The bounded history of an agent: whole turns, in the order in which they started."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

from ..core.messages import Message, Turn

__all__ = ["History"]


class History:
    """The last messages of a conversation, at most ``max_size`` of them.

    Whole turns are dropped, oldest first, so that no tool result is left without its call. A single turn longer
    than ``max_size`` keeps its question and its final answer.

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
        """Insert a finished turn; turns are ordered by their start."""
        turns = self._turns  # a tool in a thread may call `clear` meanwhile, which replaces the list
        insort(turns, turn, key=lambda each: each.number)
        self._trim(turns)

    def restore(self, conversation: Iterable[Sequence[Message]]) -> int:
        """Replace all turns by those of ``conversation``, oldest first; return how many it has."""
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
