"""What may be spent: requests beyond it are refused, in new calls and in turns that run."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from family import ScriptedProvider

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.core.events import RoundEnded, ToolCallRequested, Usage
from createagents_nb.errors import BudgetExceededError, ConfigurationError
from createagents_nb.metrics import MetricsRecorder, RecorderWarning
from createagents_nb.tools.tool import resolve_tools

TEN_TOKENS = RoundEnded("stop", usage=Usage(input_tokens=6, output_tokens=4, cost_usd=0.25))


def look() -> str:
    """Look."""
    return "seen"


async def ask(provider: ScriptedProvider, recorder: MetricsRecorder) -> StreamingResponseDTO:
    agent = Agent(name="a", model="m", tools=resolve_tools([look], {}))
    return await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, "Hello")


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [{"calls": 2}, {"tokens": 20}, {"tokens": 11}, {"cost_usd": 0.5}])
async def test_a_call_is_refused_when_something_is_spent(limit: dict[str, Any]) -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.budget(**limit)
    for _ in range(2):
        provider.enqueue("fine", TEN_TOKENS)
        assert await (await ask(provider, recorder)) == "fine"
    response = await ask(provider, recorder)
    with pytest.raises(BudgetExceededError, match=r"The budget is spent: .*recorder\.budget"):
        await response
    assert len(provider.calls) == 2
    assert recorder.calls["status"].tolist() == ["ok", "ok", "error"]
    assert recorder.calls["error_type"].tolist()[-1] == "BudgetExceededError"
    assert len(recorder.requests) == 2


@pytest.mark.asyncio
async def test_a_turn_that_runs_ends_at_its_next_round_and_keeps_what_it_said() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.budget(tokens=10)
    provider.enqueue("I look. ", ToolCallRequested("t1", "look", "{}"), TEN_TOKENS)
    response = await ask(provider, recorder)
    with pytest.raises(BudgetExceededError):
        await response
    assert response.text == "I look. "
    row = recorder.calls.loc[0]
    assert (row["status"], row["response"], row["tool_calls"], row["input_tokens"]) == ("error", "I look. ", 1, 6)
    assert recorder.tools["status"].tolist() == ["ok"]


@pytest.mark.asyncio
async def test_a_call_of_several_rounds_counts_once() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    budget = recorder.budget(calls=1)
    provider.enqueue(ToolCallRequested("t1", "look", "{}"), TEN_TOKENS)
    provider.enqueue("done", TEN_TOKENS)
    assert await (await ask(provider, recorder)) == "done"
    assert budget is not None
    assert (budget.spent_calls, budget.spent_tokens, budget.spent_usd) == (1, 20, 0.5)
    assert recorder.budget() is budget
    assert repr(budget) == "Budget: 1 of 1 calls"


@pytest.mark.asyncio
async def test_another_budget_or_none_lets_calls_through_again() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.budget(calls=0)
    with pytest.raises(BudgetExceededError):
        await (await ask(provider, recorder))
    for allow in (lambda: recorder.budget(calls=1), recorder.no_budget):
        allow()
        provider.enqueue("fine", TEN_TOKENS)
        assert await (await ask(provider, recorder)) == "fine"
    assert recorder.budget() is None


@pytest.mark.asyncio
async def test_a_budget_in_dollars_says_once_what_it_cannot_count() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    budget = recorder.budget(cost_usd=0.5)
    unpriced = RoundEnded("stop", usage=Usage(input_tokens=6, output_tokens=4))
    provider.enqueue("fine", unpriced)
    with pytest.warns(
        RecorderWarning, match=r"does not count .*:m, whose price is not known: .*set_price\('m', input_usd"
    ):
        await (await ask(provider, recorder))
    provider.enqueue("fine", unpriced)
    await (await ask(provider, recorder))
    assert repr(budget) == "Budget: $0.0000 of $0.5000 spent (2 requests of unknown cost)"


@pytest.mark.asyncio
async def test_a_refused_call_leaves_no_trace_in_the_history() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    agent = Agent(name="a", model="m")
    use_case = ChatWithAgentUseCase(provider, sink=recorder)
    provider.enqueue("fine", TEN_TOKENS)
    await (await use_case.execute(agent, "Hello"))
    before = agent.history.messages
    recorder.budget(calls=0)
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            await (await use_case.execute(agent, "Again"))
    assert agent.history.messages == before


@pytest.mark.asyncio
@pytest.mark.parametrize("odd", [-(10**7), float("nan"), float("inf"), "12", 1.5, True, 2**70])
async def test_counts_that_cannot_be_do_not_disarm_a_budget(odd: Any) -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.set_price("m", input_usd=1.0, output_usd=1.0)
    budget = recorder.budget(cost_usd=1.0, tokens=10)
    assert budget is not None
    usage = Usage(input_tokens=odd, output_tokens=10, cached_tokens=odd)
    provider.enqueue("fine", RoundEnded("stop", usage=usage))
    await (await ask(provider, recorder))
    assert budget.spent_tokens == 10
    assert recorder.calls[["input_tokens", "cached_tokens"]].isna().all(axis=None)
    with pytest.raises(BudgetExceededError):
        await (await ask(provider, recorder))
    by_hand = MetricsRecorder()
    spent = by_hand.budget(tokens=10)
    assert spent is not None
    by_hand.record_success_metrics("m", 0.0, {"usage": {"prompt_tokens": odd, "completion_tokens": 3}})
    assert spent.spent_tokens == 3


@pytest.mark.parametrize(
    "limit", [{"calls": -1}, {"tokens": "many"}, {"cost_usd": float("nan")}, {"cost_usd": True}, {"calls": 2.5}]
)
def test_a_limit_that_is_none_is_an_error(limit: dict[str, Any]) -> None:
    recorder = MetricsRecorder()
    with pytest.raises(ConfigurationError, match=r"must be a (whole )?number, 0 or more"):
        recorder.budget(**limit)
    assert recorder.budget() is None


@pytest.mark.asyncio
async def test_a_budget_in_tokens_says_once_that_a_server_reports_none() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.budget(tokens=100)
    provider.enqueue("fine")
    with pytest.warns(RecorderWarning, match=r"100 tokens does not count scripted:m.*limit calls"):
        await (await ask(provider, recorder))
    provider.enqueue("fine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await (await ask(provider, recorder))


@pytest.mark.asyncio
async def test_a_budget_in_dollars_warns_before_a_model_that_has_no_price() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    provider.price_provider = ""  # as of a local model
    recorder.budget(cost_usd=0.5)
    provider.enqueue(ConnectionError("nothing was answered"))
    with pytest.warns(RecorderWarning, match=r"does not count scripted:m, whose price is not known"):
        await (await ask(provider, recorder)).wait()
    recorder.set_price("m", input_usd=1.0, output_usd=1.0)
    recorder.budget(cost_usd=0.5)
    provider.enqueue("fine", TEN_TOKENS)
    await (await ask(provider, recorder))


@pytest.mark.asyncio
async def test_a_new_budget_warns_of_models_that_were_used_and_cannot_be_counted() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    provider.enqueue("fine")
    await (await ask(provider, recorder))
    with pytest.warns(RecorderWarning) as warned:
        recorder.budget(cost_usd=0.5, tokens=100)
    assert len(warned) == 2
    recorder.budget(calls=3)
    provider.enqueue("fine", TEN_TOKENS)
    await (await ask(provider, recorder))
    recorder.budget(cost_usd=0.5, tokens=100)
