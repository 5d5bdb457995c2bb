"""The bounded history: whole turns, in the order in which they were started."""

from __future__ import annotations

from typing import Any

import pytest

from createagents_nb.agent.history import History
from createagents_nb.core.events import ToolCallRequested
from createagents_nb.core.messages import Message, Turn


def turn(number: int, rounds: int = 0, calls: int = 1) -> Turn:
    """A question, ``rounds`` of ``calls`` tools each, and the answer."""
    messages = [Message("user", f"q{number}")]
    for at in range(rounds):
        asked = tuple(ToolCallRequested(f"{number}.{at}.{call}", "rows", "{}") for call in range(calls))
        messages.append(Message("assistant", "", tool_calls=asked))
        messages += [Message("tool", "5 rows", tool_call_id=call.tool_call_id, name="rows") for call in asked]
    return Turn(number, (*messages, Message("assistant", f"a{number}")))


def contents(history: History) -> list[str]:
    return [message.content for message in history.messages]


def test_messages_are_kept_oldest_first() -> None:
    history = History()
    history.add(turn(0))
    history.add(turn(1))
    assert contents(history) == ["q0", "a0", "q1", "a1"]
    assert len(history) == 4


def test_a_turn_that_ends_late_is_put_where_it_was_started() -> None:
    history = History()
    for number in (2, 0, 1):
        history.add(turn(number))
    assert contents(history) == ["q0", "a0", "q1", "a1", "q2", "a2"]


def test_whole_turns_are_dropped_oldest_first() -> None:
    history = History(5)
    for number in range(4):
        history.add(turn(number))
    assert contents(history) == ["q2", "a2", "q3", "a3"]


def test_a_turn_with_tools_goes_as_a_whole_so_that_no_result_loses_its_call() -> None:
    history = History(6)
    history.add(turn(0, rounds=1, calls=2))
    history.add(turn(1))
    assert contents(history) == ["q1", "a1"]


def test_a_single_turn_that_is_too_long_keeps_its_question_and_its_answer() -> None:
    history = History(4)
    history.add(turn(0))
    history.add(turn(1, rounds=2, calls=2))
    assert contents(history) == ["q1", "a1"]
    history.add(turn(2))
    assert contents(history) == ["q1", "a1", "q2", "a2"]


@pytest.mark.parametrize("size", [0, 1])
def test_a_history_too_small_for_a_turn_holds_none(size: int) -> None:
    history = History(size)
    history.add(turn(0))
    history.add(turn(1, rounds=3))
    assert (history.messages, len(history)) == ((), 0)


def test_an_old_turn_that_ends_late_does_not_push_out_newer_ones() -> None:
    history = History(4)
    for number in (1, 2, 0):
        history.add(turn(number))
    assert contents(history) == ["q1", "a1", "q2", "a2"]


def test_clear_forgets_and_what_was_taken_before_stays() -> None:
    history = History()
    history.add(turn(0))
    taken = history.messages
    history.clear()
    assert (history.messages, len(taken)) == ((), 2)


@pytest.mark.parametrize("size", [-1, 2.5, "20", True])
def test_a_size_that_is_none_is_an_error(size: Any) -> None:
    with pytest.raises(ValueError, match="history_max_size must be a whole number, 0 or more"):
        History(size)
