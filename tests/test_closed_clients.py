"""Clients that the user hands in and closes: before a turn, between its rounds, and in the middle of a reply."""

from __future__ import annotations

import threading
from typing import Any

import ollama
import openai
import pytest
from family import Reply, ScriptedServer, delta, ndjson, sse
from test_server_access import answer, asks_for_tool

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import ConfigurationError, ProviderConnectionError


def openai_client(server: ScriptedServer) -> Any:
    return openai.AsyncOpenAI(api_key="k", base_url=server.openai_url)


def azure_client(server: ScriptedServer) -> Any:
    return openai.AsyncAzureOpenAI(api_key="k", azure_endpoint=server.url, api_version="2024-10-21")


def ollama_client(server: ScriptedServer) -> Any:
    return ollama.AsyncClient(host=server.url)


CLIENTS = {"openai": openai_client, "azure": azure_client, "ollama": ollama_client}


async def close(client: Any) -> None:
    await (client.close() if hasattr(client, "close") else client._client.aclose())


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.asyncio
async def test_a_client_that_was_closed_before_says_so(server: ScriptedServer, kind: str) -> None:
    client = CLIENTS[kind](server)
    agent = CreateAgent(client=client, model="m", recorder=MetricsRecorder())
    await close(client)
    words = rf"client={type(client).__name__}\(…\) was closed: make a new one"
    with pytest.raises(ConfigurationError, match=words):
        await (await agent.chat("hi"))
    with pytest.raises(ConfigurationError, match=words):
        await agent.models()
    assert not server.requests


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.asyncio
async def test_a_client_that_is_closed_between_two_rounds_says_so(server: ScriptedServer, kind: str) -> None:
    client = CLIENTS[kind](server)

    @tool
    async def look() -> str:
        """Look around."""
        await close(client)
        return "a door"

    provider = "ollama" if kind == "ollama" else "openai"
    server.enqueue(asks_for_tool(provider))
    recorder = MetricsRecorder()
    agent = CreateAgent(client=client, model="m", tools=[look], recorder=recorder)
    with pytest.raises(
        ConfigurationError, match=rf"client={type(client).__name__}\(…\) was closed: make a new one"
    ):
        await (await agent.chat("hi"))
    assert len(server.requests) == 1
    assert recorder.requests["status"].tolist() == ["ok", "error"]
    assert [message.role for message in agent.history] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.asyncio
async def test_a_client_that_is_closed_in_the_middle_of_a_reply_is_one_typed_error(
    server: ScriptedServer, kind: str
) -> None:
    client, rest = CLIENTS[kind](server), threading.Event()
    pieces = ndjson({"message": {"content": "Hel"}, "done": False}) if kind == "ollama" else sse(delta("Hel"))
    server.enqueue(Reply([pieces[0], rest]))
    agent = CreateAgent(client=client, model="m", recorder=MetricsRecorder())
    response = await agent.chat("hi")
    assert await anext(aiter(response)) == "Hel"
    await close(client)
    await response.wait()
    rest.set()
    assert isinstance(response.error, ProviderConnectionError), response.error


@pytest.mark.asyncio
async def test_an_agent_goes_on_with_a_new_client(server: ScriptedServer) -> None:
    old = openai_client(server)
    agent = CreateAgent(client=old, model="m", recorder=MetricsRecorder())
    await close(old)
    with pytest.raises(ConfigurationError):
        await (await agent.chat("hi"))
    server.enqueue(answer("openai"))
    again = CreateAgent(client=openai_client(server), model="m", recorder=MetricsRecorder())
    assert await (await again.chat("hi")) == "Hi"
