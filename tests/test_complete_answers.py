"""An answer that is complete stays one, whatever comes, or does not come, behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from family import delta, ndjson, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import ProviderConnectionError, ProviderTimeoutError

PROVIDERS = ["openai", "ollama"]


def whole(provider: str, *, asks: bool = False) -> bytes:
    if provider == "openai":
        function = {"name": "look", "arguments": "{}"}
        call = delta(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": function}])
        first = [call, delta(finish="tool_calls")] if asks else [delta("all of it"), delta(finish="stop")]
        return b"".join(sse(*first))
    says: dict[str, Any] = {"role": "assistant", "content": "" if asks else "all of it"}
    if asks:
        says["tool_calls"] = [{"function": {"name": "look", "arguments": {}}}]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return b"".join(ndjson({"message": says, "done": False}, end))


@asynccontextmanager
async def answering(*bodies: bytes, then: str) -> AsyncGenerator[tuple[str, list[bytes]], None]:
    """A server of chunked bodies that never send their last chunk: it hangs up, or goes on being silent."""
    requests: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        body = bodies[min(len(requests), len(bodies)) - 1]
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n" % (len(body), body))
        await writer.drain()
        if then == "silence":
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
        over.set()


@pytest.mark.parametrize("then", ["hang up", "silence"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_what_is_missing_behind_an_answer_takes_nothing_from_it(provider: str, then: str) -> None:
    recorder = MetricsRecorder()

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    async with answering(whole(provider, asks=True), whole(provider), then=then) as (url, requests):
        base_url = f"{url}/v1" if provider == "openai" else url
        agent = CreateAgent(provider, "m", base_url=base_url, tools=[look], recorder=recorder)
        assert await (await agent.chat("Hello")) == "all of it"
        assert len(requests) == 2
        answers = await agent.map(["one row"], progress=False)
        assert answers["answer"].tolist() == ["all of it"]
        assert len(requests) == 3
    assert recorder.requests["status"].eq("ok").all()
    assert recorder.requests["retries"].eq(0).all()
    assert recorder.tools["result"].tolist() == ["seen"]


@pytest.mark.parametrize("then", ["hang up", "silence"])
@pytest.mark.parametrize("behind", [b"", b"data: [DO", b'data: {"choices": [], "usage": {"prompt_', b"data: {"])
@pytest.mark.asyncio
async def test_an_answer_is_complete_when_it_has_been_said_why_it_ended(behind: bytes, then: str) -> None:
    recorder = MetricsRecorder()
    body = b"".join(sse(delta("all of it"), delta(finish="stop"), done=False)) + behind
    async with answering(body, then=then) as (url, _):
        agent = CreateAgent("openai", "m", base_url=f"{url}/v1", recorder=recorder, timeout_s=0.5, max_retries=0)
        assert await (await agent.chat("Hello")) == "all of it"
    assert recorder.requests["status"].tolist() == ["ok"]


@pytest.mark.parametrize(
    ("then", "error"), [("hang up", ProviderConnectionError), ("silence", ProviderTimeoutError)]
)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_an_answer_is_not_complete_before_it_has_been_said_why_it_ended(
    provider: str, then: str, error: type[Exception]
) -> None:
    says = {"message": {"content": "half"}, "done": False}
    body = b"".join(sse(delta("half"), done=False) if provider == "openai" else ndjson(says))
    async with answering(body, then=then) as (url, _):
        base_url = f"{url}/v1" if provider == "openai" else url
        agent = CreateAgent(provider, "m", base_url=base_url, timeout_s=0.5, max_retries=0)
        response = await agent.chat("Hello")
        with pytest.raises(error):
            await response
        assert response.text == "half"
