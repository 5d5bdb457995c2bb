"""Requests as they are sent: no SDK, its headers, proxies and redirects."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import openai
import pytest
from family import Reply, ScriptedServer, delta, json_reply, ndjson, round_trip, sse
from ollama._client import _parse_host

from createagents_nb.errors import ConfigurationError, RateLimitError
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter, url_of
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

PROVIDERS = ["openai", "ollama"]


def adapter_of(provider: str, url: str, **more: Any) -> OpenAIChatAdapter | OllamaChatAdapter:
    more = {"base_url": f"{url}/v1" if provider == "openai" else url, "api_key": "key-1234"} | more
    return OpenAIChatAdapter(**more) if provider == "openai" else OllamaChatAdapter(**more)


def answer(provider: str) -> list[bytes]:
    if provider == "openai":
        return sse(delta("fine"), delta(finish="stop"))
    says: dict[str, Any] = {"message": {"role": "assistant", "content": "fine"}, "done": False}
    return ndjson(says, says | {"message": {"content": ""}, "done": True})


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_needs_no_sdk(server: ScriptedServer, provider: str) -> None:
    server.enqueue(answer(provider))
    url = server.openai_url if provider == "openai" else server.url
    script = """
        import asyncio, sys
        from createagents_nb import CreateAgent

        async def main():
            print(await (await CreateAgent(sys.argv[1], "m", base_url=sys.argv[2]).chat("Hello")))

        asyncio.run(main())
        print(sorted({"openai", "ollama", "httpx", "httpx2", "pydantic", "pandas"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), provider, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n[]\n", "")


@pytest.mark.asyncio
async def test_a_request_is_the_one_that_the_sdk_would_send(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-2")
    for _ in range(2):
        server.enqueue(answer("openai"))
    await round_trip(adapter_of("openai", server.url), temperature=0.5, extra={"top_k": 3})
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="key-1234") as client:
        await round_trip(OpenAIChatAdapter(client=client), temperature=0.5, extra={"top_k": 3})
    ours, theirs = server.requests
    assert (ours.method, ours.path, ours.json) == (theirs.method, theirs.path, theirs.json)
    same = ("authorization", "openai-organization", "openai-project", "content-type", "accept", "host")
    assert {name: ours.headers[name] for name in same} == {name: theirs.headers[name] for name in same}


@pytest.mark.asyncio
async def test_headers_from_the_environment_are_sent(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: data\nX-Cost: 7")
    server.enqueue(answer("openai"))
    assert (await round_trip(adapter_of("openai", server.url))).text == "fine"
    assert {"x-team": "data", "x-cost": "7"}.items() <= server.requests[0].headers.items()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_proxy_of_the_environment_is_used(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("NO_PROXY", "elsewhere.invalid")
    monkeypatch.setenv("no_proxy", "elsewhere.invalid")
    server.enqueue(answer(provider))
    trip = await round_trip(adapter_of(provider, "http://far-away.invalid:8080"))
    assert trip.text == "fine"
    path = "/v1/chat/completions" if provider == "openai" else "/api/chat"
    assert server.requests[0].path == f"http://far-away.invalid:8080{path}"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_redirect_is_followed_and_the_key_stays_at_home(server: ScriptedServer, provider: str) -> None:
    with ScriptedServer() as other:
        for path in ("/v1/chat/completions", "/api/chat"):
            server.on(path, Reply([], "307 Temporary Redirect", {"location": f"{other.url}/moved"}))
        other.enqueue(answer(provider))
        trip = await round_trip(adapter_of(provider, server.url))
        (first,), (second,) = server.requests, other.requests
    assert trip.text == "fine"
    assert first.headers["authorization"] == "Bearer key-1234"
    assert "authorization" not in second.headers
    assert (second.method, second.path, second.json) == ("POST", "/moved", first.json)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_the_time_that_a_server_asks_for_is_told(server: ScriptedServer, provider: str) -> None:
    busy = json_reply({"error": "busy"}, "429 Too Many Requests", **{"retry-after": "7.5"})
    server.enqueue(busy)
    failure = (await round_trip(adapter_of(provider, server.url, max_retries=0))).failure
    assert isinstance(failure, RateLimitError)
    assert failure.retry_after_s == 7.5


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_server_that_asks_for_minutes_is_not_asked_again(server: ScriptedServer, provider: str) -> None:
    server.enqueue(json_reply({"error": "busy"}, "429 Too Many Requests", **{"retry-after": "3600"}))
    failure = (await round_trip(adapter_of(provider, server.url, max_retries=2))).failure
    assert isinstance(failure, RateLimitError)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "host",
    [
        "box",
        "box:8080",
        ":8080",
        "127.0.0.1:11434",
        "http://box",
        "https://box",
        "http://box:8080",
        "https://box/behind/a/path",
        "box/path/",
        "[::1]",
        "http://[::1]:8080",
    ],
)
def test_ollamas_address_is_read_as_the_sdk_reads_it(host: str) -> None:
    assert url_of(host) == _parse_host(host)


@pytest.mark.parametrize("ending", ["?code=Zk3pQ9xL2mT7vB1n", "#part"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_address_with_more_than_a_path_is_refused_and_not_repeated(provider: str, ending: str) -> None:
    with pytest.raises(ConfigurationError, match="must end with its path") as refused:
        adapter_of(provider, "http://127.0.0.1:1", base_url=f"http://127.0.0.1:1/v1{ending}")
    assert ending not in str(refused.value)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_host_that_cannot_be_one_is_refused(provider: str) -> None:
    with pytest.raises(ConfigurationError, match="must be like"):
        adapter_of(provider, "http://127.0.0.1:1", base_url="http://a..b/v1")
