"""Clients that the user hands in: which key they use, and that no reply repeats it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ollama
import openai
import pytest
from family import ScriptedServer, json_reply

from createagents_nb import CreateAgent, MetricsRecorder
from createagents_nb.errors import ConfigurationError
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

TOKEN = "looks-like-no-key-0123456789"


async def token() -> str:
    return TOKEN


def with_function(server: ScriptedServer) -> Any:
    return openai.AsyncOpenAI(api_key=token, base_url=server.openai_url, max_retries=0)


def with_azure_token(server: ScriptedServer) -> Any:
    return openai.AsyncAzureOpenAI(
        azure_ad_token=TOKEN, azure_endpoint=server.url, api_version="2024-10-21", max_retries=0
    )


def with_azure_function(server: ScriptedServer) -> Any:
    return openai.AsyncAzureOpenAI(
        azure_ad_token_provider=token, azure_endpoint=server.url, api_version="2024-10-21", max_retries=0
    )


def with_header(server: ScriptedServer) -> Any:
    return openai.AsyncOpenAI(
        api_key="none", default_headers={"X-Api-Key": TOKEN}, base_url=server.openai_url, max_retries=0
    )


def with_basic(server: ScriptedServer) -> Any:
    return ollama.AsyncClient(host=server.url, headers={"Authorization": f"Basic {TOKEN}"})


CLIENTS = [with_function, with_azure_token, with_azure_function, with_header, with_basic]


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.asyncio
async def test_a_key_that_only_the_client_knows_is_not_repeated(
    server: ScriptedServer, recorder: MetricsRecorder, caplog: pytest.LogCaptureFixture, make: Callable[..., Any]
) -> None:
    server.on("*", json_reply({"error": {"message": f"bad key {TOKEN}"}}, "401 Unauthorized"))
    agent = CreateAgent(client=make(server), model="m", recorder=recorder)
    response = await agent.chat("hi")
    await response.wait()
    assert "bad key ***" in str(response.error)
    with pytest.raises(Exception, match=r"bad key \*\*\*"):
        await agent.models()
    assert TOKEN not in recorder.calls.to_csv() + caplog.text


def azure(**key: Any) -> OpenAIChatAdapter:
    client = openai.AsyncAzureOpenAI(azure_endpoint="https://a.example", api_version="2024-10-21", **key)
    return OpenAIChatAdapter(client=client)


def fingerprint(adapter: OpenAIChatAdapter | OllamaChatAdapter) -> str:
    return adapter.reply_source("m").key_fingerprint


def test_answers_of_clients_with_different_keys_have_different_sources() -> None:
    first, second = openai.AsyncOpenAI(api_key=token), openai.AsyncOpenAI(api_key=token)
    assert fingerprint(OpenAIChatAdapter(client=first)) == fingerprint(OpenAIChatAdapter(client=first))
    assert fingerprint(OpenAIChatAdapter(client=first)) != fingerprint(OpenAIChatAdapter(client=second))
    assert fingerprint(azure(azure_ad_token="one")) == fingerprint(azure(azure_ad_token="one"))
    assert fingerprint(azure(azure_ad_token="one")) != fingerprint(azure(azure_ad_token="two"))
    assert fingerprint(azure(azure_ad_token_provider=token)) != fingerprint(azure(azure_ad_token_provider=token))
    headers = [{"X-Api-Key": key} for key in ("one", "two")]
    assert len({fingerprint(OllamaChatAdapter(client=ollama.AsyncClient(headers=each))) for each in headers}) == 2
    clients = [openai.AsyncOpenAI(api_key="k", default_headers=each) for each in headers]
    assert len({fingerprint(OpenAIChatAdapter(client=client)) for client in clients}) == 2
    assert fingerprint(OllamaChatAdapter(client=ollama.AsyncClient())) == ""


def test_the_key_of_a_client_is_read_when_it_is_used() -> None:
    client = openai.AsyncOpenAI(api_key="one")
    adapter = OpenAIChatAdapter(client=client)
    before = fingerprint(adapter)
    client.api_key = "two"
    assert fingerprint(adapter) != before


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.asyncio
async def test_a_client_that_was_closed_says_so(
    server: ScriptedServer, recorder: MetricsRecorder, provider: str
) -> None:
    client: Any
    if provider == "openai":
        client = openai.AsyncOpenAI(api_key="sk-secret-0123456789abcdef", base_url=server.openai_url)
    else:
        client = ollama.AsyncClient(host=server.url)
    agent = CreateAgent(client=client, model="m", recorder=recorder)
    await client._client.aclose()
    words = rf"client={type(client).__name__}\(…\) was closed: make a new one"
    with pytest.raises(ConfigurationError, match=words) as caught:
        await (await agent.chat("hi"))
    assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError, match=words):
        await agent.models()
    frame = await agent.map(["one"], progress=False)
    assert "was closed: make a new one" in frame["error"][0]
    assert not server.requests


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.asyncio
async def test_a_client_of_a_loop_that_has_ended_says_so(
    recorder: MetricsRecorder, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    client: Any = openai.AsyncOpenAI(api_key="k") if provider == "openai" else ollama.AsyncClient()

    async def send(*arguments: object, **options: object) -> None:
        raise RuntimeError("Event loop is closed")  # what a connection that was kept alive raises

    monkeypatch.setattr(client._client, "send", send)
    agent = CreateAgent(client=client, model="m", recorder=recorder)
    with pytest.raises(ConfigurationError, match="belongs to an event loop that has ended: make one in this loop"):
        await (await agent.chat("hi"))


@pytest.mark.asyncio
async def test_a_subclass_with_a_constructor_of_its_own_serves_a_batch(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    class Mine(openai.AsyncOpenAI):
        def __init__(self) -> None:
            super().__init__(api_key="k", base_url=server.openai_url, max_retries=2)

    server.on("*", json_reply({"error": {"message": "no"}}, "400 Bad Request"))
    agent = CreateAgent(client=Mine(), model="m", recorder=recorder)
    frame = await agent.map(["one"], progress=False)
    assert "400: no" in frame["error"][0]
    assert len(server.requests) == 1
