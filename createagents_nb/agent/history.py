"""The bounded history of an agent: whole turns, in the order in which they started."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Sequence

from ..core.messages import Message, Turn
from .context import MAX_UNMEASURED

__all__ = ["History", "last_turns"]


def last_turns(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The last of ``turns``, as many as are sent where the model's context is not known."""
    size, first = 0, len(turns)
    while first and size + len(turns[first - 1].messages) <= MAX_UNMEASURED:
        first -= 1
        size += len(turns[first].messages)
    return tuple(turns[first:])


class History:
    """The last messages of a conversation, at most ``max_size`` of them.

    With None they are limited by the model's context where that is known (`is_measured`), else to 20.

    Whole turns are dropped, oldest first, so that no tool result is left without its call. A single turn longer
    than ``max_size`` keeps its question and its final answer.

    Raises:
        ValueError: ``max_size`` is negative or not a whole number.
    """

    def __init__(self, max_size: int | None = None) -> None:
        if max_size is not None and (not isinstance(max_size, int) or isinstance(max_size, bool) or max_size < 0):
            raise ValueError(f"history_max_size must be a whole number, 0 or more, or None, not {max_size!r}")
        self.max_size = max_size
        self.is_measured = False
        """Whether the size of the model's context is known, so that turns are left out by their tokens."""
        self._turns: list[Turn] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(message for turn in self.turns for message in turn.messages)

    @property
    def sent(self) -> tuple[Turn, ...]:
        """The turns that later requests have: without those that the server refused."""
        return tuple(turn for turn in self._turns if turn.is_sent)

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
        if self.max_size is not None:  # else it is not known yet how many fit
            self._trim(turns)
        self._turns = turns
        return count

    def remove(self, numbers: Collection[int]) -> None:
        """Forget the turns with these numbers."""
        turns = self._turns  # as in `add`
        turns[:] = [turn for turn in turns if turn.number not in numbers]

    def leave_out(self, numbers: Collection[int]) -> None:
        """Keep the turns with these numbers, but do not send them again."""
        turns = self._turns
        turns[:] = [turn.as_left_out() if turn.number in numbers else turn for turn in turns]

    def clear(self) -> None:
        self._turns = []

    def _trim(self, turns: list[Turn]) -> None:
        max_size = MAX_UNMEASURED if self.max_size is None else self.max_size
        if self.max_size is None and self.is_measured:
            return
        size = sum(len(turn.messages) for turn in turns)
        dropped = 0
        while size > max_size:
            oldest = turns[dropped]
            shorter = oldest.without_tools() if dropped == len(turns) - 1 else None
            if shorter is not None and len(shorter.messages) <= max_size:
                turns[dropped] = shorter
                break
            dropped += 1
            size -= len(oldest.messages)
        del turns[:dropped]

    def __len__(self) -> int:
        return sum(len(turn.messages) for turn in self.turns)
