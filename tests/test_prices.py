"""What a request costs: by the server, by the user's prices, by the published ones, or not known."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from family import ScriptedProvider
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.core.events import RoundEnded, Usage
from createagents_nb.core.records import RequestRecord
from createagents_nb.errors import ConfigurationError
from createagents_nb.metrics import MetricsRecorder

STARTED = datetime(2026, 3, 1, tzinfo=UTC)


def request(**known: Any) -> RequestRecord:
    usual: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "server": "api.openai.com",
        "input_tokens": 1_000,
        "output_tokens": 200,
    }
    return RequestRecord(call_id="c", round=1, started_at=STARTED, status="ok", **{**usual, **known})


def published(model: str = "gpt-4.1-mini", cached: int = 0, url: str = "https://api.openai.com") -> float:
    usage = PricedUsage(input_tokens=1_000, output_tokens=200, cache_read_tokens=cached)
    price = calc_price(usage, model, provider_api_url=url, genai_request_timestamp=STARTED)
    return float(price.total_price)


@pytest.mark.parametrize("cached", [None, 0, 600])
def test_a_published_model_costs_what_genai_prices_says(cached: int | None) -> None:
    cost = MetricsRecorder().cost_usd(request(cached_tokens=cached))
    assert cost == pytest.approx(published(cached=cached or 0))
    assert cost is not None
    assert cost > 0


@pytest.mark.parametrize(("cached", "counted"), [(-50, 0), (5_000, 1_000)])
def test_cached_tokens_are_a_part_of_the_input(cached: int, counted: int) -> None:
    recorder = MetricsRecorder()
    recorder.set_price("mine", input_usd=2.0, output_usd=0.0, cached_usd=1.0)
    expected = ((1_000 - counted) * 2.0 + counted * 1.0) / 1e6
    assert recorder.cost_usd(request(model="mine", cached_tokens=cached)) == pytest.approx(expected)
    assert recorder.cost_usd(request(cached_tokens=cached)) == pytest.approx(published(cached=counted))


def test_cached_tokens_are_cheaper() -> None:
    recorder = MetricsRecorder()
    all_cached, none_cached = recorder.cost_usd(request(cached_tokens=1_000)), recorder.cost_usd(request())
    assert all_cached is not None
    assert none_cached is not None
    assert all_cached < none_cached


def test_the_model_that_answered_tells_where_the_name_that_was_asked_for_is_an_alias() -> None:
    cost = MetricsRecorder().cost_usd(request(model="my-deployment", response_model="gpt-4.1-mini-2025-04-14"))
    assert cost == pytest.approx(published())


@pytest.mark.parametrize(
    "known",
    [
        {"model": "no-such-model"},
        {"input_tokens": None},
        {"output_tokens": None},
        {"server": "127.0.0.1"},
        {"server": "::1"},
        {"server": "localhost"},
        {"server": None},
        {"server": "llm.example.org"},
        {"provider": "ollama", "server": "api.openai.com", "price_provider": ""},
        {"provider": "demo", "price_provider": ""},
        {"model": ""},
        {"input_tokens": -5},
    ],
)
def test_what_nobody_has_published_is_not_known(known: dict[str, Any]) -> None:
    recorder = MetricsRecorder()
    assert [recorder.cost_usd(request(**known)) for _ in range(2)] == [None, None]


def test_a_router_has_prices_of_its_own() -> None:
    cost = MetricsRecorder().cost_usd(request(model="openai/gpt-4o", server="openrouter.ai"))
    assert cost == pytest.approx(published("openai/gpt-4o", url="https://openrouter.ai/api/v1"))


def test_a_price_of_ones_own_goes_before_the_published_one() -> None:
    recorder = MetricsRecorder()
    recorder.set_price("gpt-4.1-mini", input_usd=2.0, output_usd=10.0, cached_usd=1.0)
    cost = recorder.cost_usd(request(cached_tokens=400))
    assert cost == pytest.approx((600 * 2.0 + 400 * 1.0 + 200 * 10.0) / 1e6)
    recorder.set_price("gpt-4.1-mini", provider="ollama", input_usd=0, output_usd=0)
    assert recorder.cost_usd(request(provider="ollama")) == 0
    assert recorder.cost_usd(request(cached_tokens=400)) == cost


def test_without_a_price_of_their_own_cached_tokens_cost_as_others() -> None:
    recorder = MetricsRecorder()
    recorder.set_price("mine", input_usd=3.0, output_usd=0)
    assert recorder.cost_usd(request(model="mine", server=None, cached_tokens=900)) == pytest.approx(0.003)


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), "cheap", True, None])
def test_a_price_that_is_none_is_an_error(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="US dollars for a million tokens"):
        MetricsRecorder().set_price("m", input_usd=wrong, output_usd=1)


@pytest.mark.asyncio
async def test_costs_are_in_the_frames_and_add_up() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder()
    recorder.set_price("m", input_usd=1.0, output_usd=1.0)
    ends = (
        RoundEnded("stop", usage=Usage(input_tokens=600_000, output_tokens=400_000)),
        RoundEnded("stop", usage=Usage(input_tokens=600_000, output_tokens=400_000, cost_usd=0.5)),
        RoundEnded("stop", usage=Usage(input_tokens=600_000)),
    )
    for end in ends:
        provider.enqueue("fine", end)
        response = await ChatWithAgentUseCase(provider, sink=recorder).execute(Agent(name="a", model="m"), "Hello")
        await response
    assert recorder.requests["cost_usd"].fillna(-1).tolist() == [1.0, 0.5, -1]
    assert recorder.calls["cost_usd"].fillna(-1).tolist() == [1.0, 0.5, -1]
    total = recorder.summary(by=None).iloc[0]
    assert (total["cost_usd"], total["priced_calls"], total["calls"]) == (1.5, 2, 3)


def test_prices_are_read_only_where_somebody_may_have_published_them() -> None:
    script = """
import sys
from datetime import UTC, datetime
from createagents_nb.core.records import RequestRecord
from createagents_nb.metrics import recorder
local = RequestRecord(call_id="c", round=1, started_at=datetime.now(UTC), provider="openai", model="m",
    server="127.0.0.1", status="running", input_tokens=1, output_tokens=1)
recorder.request_opened(local)
recorder.cost_usd(local)
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_provider_may_say_whose_published_prices_apply() -> None:
    recorder = MetricsRecorder()
    served = {"provider": "mine", "server": "gateway.example.org"}
    assert recorder.cost_usd(request(**served)) is None
    assert recorder.cost_usd(request(**served, price_provider="openai")) == pytest.approx(published())
    assert recorder.cost_usd(request(**served, price_provider="openai", model="no-such-model")) is None


def test_a_provider_may_say_that_no_published_price_applies() -> None:
    assert MetricsRecorder().cost_usd(request(price_provider="")) is None


def test_a_price_may_be_set_for_a_provider_and_a_model_in_one_name() -> None:
    recorder = MetricsRecorder()
    recorder.set_price("mine:m", input_usd=1.0, output_usd=0.0)
    assert recorder.cost_usd(request(provider="mine", model="m")) == pytest.approx(0.001)
    assert recorder.cost_usd(request(provider="other", model="m")) is None
    recorder.set_price("m", provider="mine", input_usd=2.0, output_usd=0.0)
    assert recorder.cost_usd(request(provider="mine", model="m")) == pytest.approx(0.002)
