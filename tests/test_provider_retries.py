"""One retry policy for every provider, and connections that a server closes after each stream."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import ollama
import openai
import pytest
from family import Reply, ScriptedServer, json_reply, round_trip
from fault_server import Exchange, FaultServer, Serve
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import ConfigurationError, ProviderConnectionError, ProviderError, ServerError
from createagents_nb.providers import retries as policy_module
from createagents_nb.providers.http_client import HttpClient
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter
from createagents_nb.providers.retries import RetryPolicy

Adapter = OpenAIChatAdapter | OllamaChatAdapter
PROVIDERS = ["openai", "ollama"]
HELLO = ChatRequest("m", [Message("user", "Hello")])


def adapter_of(provider: str, origin: str, **more: Any) -> Adapter:
    if provider == "openai":
        return OpenAIChatAdapter(base_url=f"{origin}/v1", api_key="key-1234", **more)
    return OllamaChatAdapter(base_url=origin, api_key="key-1234", **more)


# ── the policy ───────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 50))
def test_waits_double_up_to_eight_seconds_and_vary_by_a_quarter(retries: int) -> None:
    longest = min(0.5 * 2**retries, 8)
    wait_s = RetryPolicy(99).wait_after_failure_s(retries, "lost")
    assert wait_s is not None
    assert 0.75 * longest <= wait_s <= longest


@pytest.mark.parametrize(
    ("status", "headers", "waits"),
    [
        (200, {}, False),
        (400, {}, False),
        (408, {}, True),
        (409, {}, True),
        (429, {}, True),
        (500, {}, True),
        (599, {}, True),
        (302, {}, False),
        (503, {"x-should-retry": "false"}, False),
        (400, {"x-should-retry": "true"}, True),
        (429, {"retry-after": "120"}, True),
        (429, {"retry-after": "121"}, False),
        (429, {"retry-after-ms": "121000"}, False),
    ],
)
def test_which_replies_are_asked_for_again(status: int, headers: dict[str, str], waits: bool) -> None:
    assert (RetryPolicy(1).wait_after_reply_s(0, status, headers) is not None) == waits
    assert RetryPolicy(1).wait_after_reply_s(1, status, headers) is None


def test_the_server_says_how_long() -> None:
    assert RetryPolicy(1).wait_after_reply_s(0, 429, {"retry-after-ms": "250"}) == 0.25
    wait_s = RetryPolicy(1).wait_after_reply_s(0, 429, {"retry-after": "0"})
    assert wait_s is not None
    assert wait_s > 0.3  # it does not want to be asked at once for ever


@pytest.mark.parametrize("kind", ["refused", "lost", "timeout", "tls", "redirects", "proxy", "garbled", None])
def test_which_failures_pass(kind: Any) -> None:
    for retries_refused in (True, False):
        policy = RetryPolicy(1, retries_refused)
        passes = kind in ("lost", "timeout") or (kind == "refused" and retries_refused)
        assert (policy.wait_after_failure_s(0, kind) is not None) == passes
        assert policy.wait_after_failure_s(1, kind) is None


def test_a_proxy_that_fails_is_asked_again_and_one_that_refuses_is_not() -> None:
    assert RetryPolicy(1).wait_after_failure_s(0, "proxy", 502) is not None
    assert RetryPolicy(1).wait_after_failure_s(1, "proxy", 502) is None
    assert RetryPolicy(1).wait_after_failure_s(0, "proxy", 407) is None


# ── reused connections ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait between two attempts is a failure."""

    async def sleep(delay: float) -> None:
        raise AssertionError(f"it waits {delay} s")

    class Asyncio:
        def __getattr__(self, name: str) -> Any:
            return sleep if name == "sleep" else getattr(asyncio, name)

    monkeypatch.setattr(policy_module, "asyncio", Asyncio())


def ends(how: str, at: int = 2) -> Serve:
    """The request of this number is read, and its connection ends without a reply."""

    async def serve(exchange: Exchange) -> None:
        if exchange.number != at:
            await exchange.answer("fine")
        elif how == "closed":
            exchange.close()
        elif how == "reset":
            exchange.reset()
        else:
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2")
            exchange.close()

    return serve


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.usefixtures("no_waiting")
def test_a_reused_connection_that_ends_is_replaced_without_a_retry(
    provider: str, how: str, max_retries: int
) -> None:
    async def ask(origin: str) -> list[tuple[str, int]]:
        adapter = adapter_of(provider, origin, max_retries=max_retries)
        trips = [await round_trip(adapter) for _ in range(2)]
        return [(trip.text, trip.end.retries) for trip in trips]

    with FaultServer(provider, ends(how)) as server:
        server.listen()
        assert asyncio.run(ask(server.origin)) == [("fine", 0), ("fine", 0)]
        assert len(server.requests) == 3
    assert server.requests[1].body == server.requests[2].body


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.usefixtures("no_waiting")
def test_a_server_that_closes_after_each_stream_is_asked_without_a_wait(provider: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.answer("fine")
        exchange.close()

    async def ask(origin: str) -> set[tuple[str, int]]:
        adapter = adapter_of(provider, origin)
        trips = [await round_trip(adapter) for _ in range(100)]
        return {(trip.text, trip.end.retries) for trip in trips}

    with FaultServer(provider, serve) as server:
        server.listen()
        assert asyncio.run(ask(server.origin)) == {("fine", 0)}


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.usefixtures("no_waiting")
def test_a_fresh_connection_that_ends_goes_by_the_policy(provider: str, how: str) -> None:
    async def ask(origin: str) -> None:
        failure = (await round_trip(adapter_of(provider, origin, max_retries=0))).failure
        assert type(failure) is ProviderConnectionError
        error = (await round_trip(adapter_of(provider, origin, max_retries=1))).error
        assert str(error).startswith("it waits")

    async def never(exchange: Exchange) -> None:
        await ends(how, exchange.number)(exchange)

    with FaultServer(provider, never) as server:
        server.listen()
        asyncio.run(ask(server.origin))
        assert len(server.requests) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_reused_connection_that_ends_within_a_reply_is_not_replaced(provider: str) -> None:
    async def ask(origin: str) -> None:
        adapter = adapter_of(provider, origin, max_retries=0)
        assert (await round_trip(adapter)).text == "fine"
        assert isinstance((await round_trip(adapter)).failure, ProviderError)

    with FaultServer(provider, ends("within")) as server:
        server.listen()
        asyncio.run(ask(server.origin))
        assert len(server.requests) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_reused_connection_that_ends_late_is_not_replaced(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have worked on the request meanwhile."""
    seconds = iter(range(0, 1_000, 2))
    monkeypatch.setattr(HttpClient.__init__, "__kwdefaults__", {"clock": lambda: float(next(seconds))})

    async def ask(origin: str) -> None:
        adapter = adapter_of(provider, origin, max_retries=0)
        assert (await round_trip(adapter)).text == "fine"
        assert type((await round_trip(adapter)).failure) is ProviderConnectionError

    with FaultServer(provider, ends("closed")) as server:
        server.listen()
        asyncio.run(ask(server.origin))
        assert len(server.requests) == 2


# ── the same provider without retries ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_without_retries_a_request_is_sent_once(server: ScriptedServer, provider: str) -> None:
    server.on("*", json_reply({"error": "busy"}, "503 Service Unavailable"))
    adapter = adapter_of(provider, server.url, max_retries=2)
    once = adapter.without_retries()
    assert type(once) is type(adapter)
    assert (once.provider, once.server, once.base_url) == (adapter.provider, adapter.server, adapter.base_url)
    assert type((await round_trip(once)).failure) is ServerError
    assert len(server.requests) == 1
    assert (await once._transport()).client is (await adapter._transport()).client  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_without_retries_a_client_of_ones_own_sends_a_request_once(server: ScriptedServer) -> None:
    server.on("*", json_reply({"error": "busy"}, "503 Service Unavailable"))
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=2) as client:
        await round_trip(OpenAIChatAdapter(client=client).without_retries())
        assert client.max_retries == 2
    async with ollama.AsyncClient(host=server.url) as other:
        await round_trip(OllamaChatAdapter(client=other, max_retries=2).without_retries())
    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_retries_of_a_client_of_ones_own_are_counted(server: ScriptedServer) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        server.on(path, json_reply({"error": "busy"}, "503 Service Unavailable", **{"retry-after-ms": "1"}))
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=1) as client:
        failure = (await round_trip(OpenAIChatAdapter(client=client))).failure
        assert isinstance(failure, ServerError)
        assert failure.retries == 1
    async with ollama.AsyncClient(host=server.url) as other:
        failure = (await round_trip(OllamaChatAdapter(client=other, max_retries=1))).failure
        assert isinstance(failure, ServerError)
        assert failure.retries == 1


@pytest.mark.asyncio
async def test_azures_client_asks_its_deployment(server: ScriptedServer) -> None:
    path = "/openai/deployments/gpt-x/chat/completions"
    body = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    server.on(f"{path}?api-version=2024-10-21", json_reply(body))
    server.on(path, json_reply(body))
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key="azure-key", api_version="2024-10-21"
    ) as client:
        trip = await round_trip(OpenAIChatAdapter(client=client), model="gpt-x", stream=False)
    assert trip.text == "fine"
    assert server.requests[0].headers["api-key"] == "azure-key"


@pytest.mark.asyncio
async def test_a_client_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"must be an ollama.AsyncClient of ollama 0\.6"):
        await anext(OllamaChatAdapter(client=object()).round_trip(HELLO))


# ── redirects ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_headers_from_the_environment_stay_at_home(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Key: secret-1234\nnonsense\n: nothing")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    with ScriptedServer() as other:
        server.on("*", Reply([], "307 Temporary Redirect", {"location": f"{other.url}/moved"}))
        other.on("*", json_reply({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}))
        trip = await round_trip(adapter_of("openai", server.url))
        (first,), (second,) = server.requests, other.requests
    assert trip.text == "fine"
    assert (first.headers["x-gateway-key"], first.headers["openai-organization"]) == ("secret-1234", "org-1")
    assert not {"x-gateway-key", "openai-organization", "authorization"} & second.headers.keys()
    assert second.headers["content-type"] == "application/json"


@pytest.mark.asyncio
async def test_headers_from_the_environment_replace_ours(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Custom other-1234\nuser-agent:  mine ")
    server.on("*", json_reply({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}))
    await round_trip(adapter_of("openai", server.url))
    headers = server.requests[0].headers
    assert (headers["authorization"], headers["user-agent"]) == ("Custom other-1234", "mine")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_CUSTOM_HEADERS", "X-Key: hunter2\rX-Evil: 1"),
        ("OPENAI_CUSTOM_HEADERS", "X\rhunter2: 1"),
        ("OPENAI_ORG_ID", "hunter2\r\nX-Evil: 1"),
        ("OPENAI_PROJECT_ID", "hunter2\x01"),
    ],
)
@pytest.mark.asyncio
async def test_a_header_with_control_characters_is_refused_and_not_repeated(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"{variable} has control characters") as caught:
        await anext(adapter_of("openai", server.url).round_trip(HELLO))
    ours = caught.value.__traceback__
    assert ours is not None
    frames = traceback.StackSummary.extract(traceback.walk_tb(ours.tb_next), capture_locals=True)
    assert "hunter2" not in f"{caught.value}{''.join(frames.format())}"
    assert not server.requests


@pytest.mark.asyncio
async def test_a_key_in_a_header_from_the_environment_is_not_repeated(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", "Authorization: Bearer custom-0123456789ab\nX-Key: other-0123456789"
    )
    refusal = {"error": {"message": "bad key custom-0123456789ab, other-0123456789"}}
    server.on("*", json_reply(refusal, "401 Unauthorized"))
    failure = (await round_trip(adapter_of("openai", server.url))).failure
    assert "bad key ***, ***" in str(failure)
