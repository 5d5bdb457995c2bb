"""Servers on Unix sockets, through `CreateAgent` and a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from family import Reply, ScriptedServer
from test_server_access import answer, asks_for_tool, listing, look

from createagents_nb import CreateAgent, MetricsRecorder, OllamaChatAdapter, OpenAIChatAdapter
from createagents_nb.errors import ConfigurationError, InvalidRequestError, ProviderConnectionError
from createagents_nb.providers import sockets
from createagents_nb.providers.addresses import origin_of, proxy_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets for asyncio")

KEY = "sk-secret-0123456789abcdef"


class SocketServer(ScriptedServer):
    """As `ScriptedServer`, on a Unix socket."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def __enter__(self) -> SocketServer:
        self._thread.start()
        opening = asyncio.start_unix_server(self._serve, str(self.file))
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)
        return self


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not ``tmp_path``, whose name may be too long for a socket."""
    made = Path(tempfile.mkdtemp(prefix="Sock"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def on_socket(folder: Path) -> Iterator[SocketServer]:
    with SocketServer(folder / "model.sock") as server:
        yield server


FORMS = {
    "openai": {
        "unix": ("unix://{file}", "/v1"),
        "unix with one slash": ("unix:{file}", "/v1"),
        "unix with a path": ("unix://{file}:/v2/", "/v2"),
        "unix with a colon in the path": ("unix://{file}:/v1:a", "/v1:a"),
        "unix without a path": ("unix://{file}:", ""),
        "http+unix": ("http+unix://{quoted}/v1", "/v1"),
        "HTTP+UNIX": ("HTTP+UNIX://{quoted}/v3/x/", "/v3/x"),
        "http+unix without a path": ("http+unix://{quoted}", ""),
    },
    "ollama": {
        "unix": ("unix://{file}", ""),
        "unix with a path": ("unix://{file}:/proxy", "/proxy"),
        "http+unix": ("http+unix://{quoted}/", ""),
    },
}
CASES = [(provider, *form) for provider, forms in FORMS.items() for form in forms.values()]


@pytest.mark.parametrize(("provider", "form", "path"), CASES)
@pytest.mark.asyncio
async def test_an_agent_with_tools_works_over_a_socket(
    on_socket: SocketServer, provider: str, form: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    file = str(on_socket.file)
    address = form.format(file=file, quoted=quote(file, safe=""))
    recorder = MetricsRecorder()
    agent = CreateAgent(
        provider, "m", base_url=address, api_key=KEY, tools=[look], recorder=recorder, query={"v": "1"}
    )
    for reply in (asks_for_tool(provider), answer(provider, "A door"), listing(provider)):
        on_socket.enqueue(reply)
    assert await (await agent.chat("What is there?")) == "A door"
    assert await agent.models() == ["m"]
    chat, models = ("/api/chat", "/api/tags") if provider == "ollama" else ("/chat/completions", "/models")
    assert [each.path for each in on_socket.requests] == [f"{path}{end}?v=1" for end in (chat, chat, models)]
    assert {each.headers["host"] for each in on_socket.requests} == {"localhost"}
    assert {each.headers["authorization"] for each in on_socket.requests} == {f"Bearer {KEY}"}
    assert recorder.requests["server"].tolist() == [file, file]
    assert repr(agent._repository) == f"{type(agent._repository).__name__}(unix://{file})"


@pytest.mark.asyncio
async def test_a_stream_arrives_piece_by_piece_and_connections_are_kept(folder: Path) -> None:
    file, connections, go_on = folder / "a b%20c:d.sock", set[Any](), asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        connections.add(request.transport)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for text in ("Hel", "lo"):
            delta = {
                "choices": [
                    {"index": 0, "delta": {"content": text}, "finish_reason": "stop" if text == "lo" else None}
                ]
            }
            await reply.write(f"data: {json.dumps(delta)}\n\n".encode())
            if text == "Hel":
                await go_on.wait()
        await reply.write(b"data: [DONE]\n\n")
        return reply

    app = web.Application()
    app.router.add_post("/v1/chat/completions", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(file)).start()
        agent = CreateAgent("openai", "m", base_url=f"unix://{quote(str(file))}", recorder=MetricsRecorder())
        pieces = []
        async for text in await agent.chat("hi"):
            pieces.append(text)
            go_on.set()
        assert pieces == ["Hel", "lo"]
        assert await (await agent.chat("again")) == "Hello"
        assert len(connections) == 1
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.asyncio
async def test_a_socket_that_cannot_be_reached_is_named(folder: Path, provider: str) -> None:
    file = folder / "model.sock"
    agent = CreateAgent(provider, "m", base_url=f"unix://{file}", max_retries=0, recorder=MetricsRecorder())
    with pytest.raises(ProviderConnectionError, match=f"There is no such socket: {file}. Start the server"):
        await (await agent.chat("hi"))
    with pytest.raises(ProviderConnectionError, match="There is no such socket"):
        await agent.models()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(file))
    with pytest.raises(ProviderConnectionError, match=f"the socket {file} cannot be reached: Connection refused"):
        await (await agent.chat("hi"))


@pytest.mark.asyncio
async def test_a_path_that_is_too_long_says_so(folder: Path) -> None:
    agent = CreateAgent("openai", "m", base_url=f"unix://{folder}/{'a' * 200}", max_retries=0)
    with pytest.raises(ProviderConnectionError, match=r"cannot be reached: .*too long"):
        await (await agent.chat("hi"))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may open everything")
@pytest.mark.asyncio
async def test_a_socket_that_may_not_be_opened_says_so(folder: Path) -> None:
    closed = folder / "closed"
    os.mkdir(closed, 0)
    agent = CreateAgent("openai", "m", base_url=f"unix://{closed}/model.sock", max_retries=0)
    with pytest.raises(ProviderConnectionError, match="cannot be reached: Permission denied"):
        await (await agent.chat("hi"))


@pytest.mark.asyncio
async def test_nothing_at_the_path_names_the_socket_and_the_usual_path(on_socket: SocketServer) -> None:
    on_socket.on("*", Reply([b"nothing"], "404 Not Found", {}))
    agent = CreateAgent("openai", "m", base_url=f"unix://{on_socket.file}:/", recorder=MetricsRecorder())
    with pytest.raises(InvalidRequestError, match=f"it ends in /v1, like unix://{on_socket.file}:/v1"):
        await (await agent.chat("hi"))


@pytest.mark.asyncio
async def test_a_redirect_from_a_socket_takes_no_key_along(
    on_socket: SocketServer, server: ScriptedServer
) -> None:
    agent = CreateAgent(
        "openai", "m", base_url=f"unix://{on_socket.file}", api_key=KEY, recorder=MetricsRecorder()
    )
    on_socket.enqueue(Reply([], "307 Temporary Redirect", {"location": "/v2/chat/completions"}))
    on_socket.enqueue(answer("openai"))
    assert await (await agent.chat("hi")) == "Hi"
    assert on_socket.requests[1].headers["authorization"] == f"Bearer {KEY}"
    on_socket.enqueue(Reply([], "307 Temporary Redirect", {"location": f"{server.openai_url}/chat/completions"}))
    server.enqueue(answer("openai"))
    assert await (await agent.chat("hi")) == "Hi"
    assert "authorization" not in server.requests[0].headers


WRONG = [
    "unix:",
    "unix://",
    "unix:///",
    "unix:model.sock",
    "unix://host/../model.sock?a=b",
    "unix:///run/model.sock?a=b",
    "unix:///run/model.sock#a",
    "unix:///run/",
    "unix:///run/a%00b",
    "http+unix://",
    "http+unix:///run/model.sock",
    "http+unix://run%2Fmodel.sock/v1",
    "http+unix://%2Frun%2Fmodel.sock/v1?api-version=1",
]


@pytest.mark.parametrize("address", WRONG)
@pytest.mark.parametrize("make", [OpenAIChatAdapter, OllamaChatAdapter])
def test_what_names_no_socket_is_refused(make: Any, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be like unix:///run/model\.sock"):
        make(base_url=address, api_key="k")


def test_windows_has_no_sockets_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_HAS_SOCKETS", False)
    with pytest.raises(ConfigurationError, match="cannot be reached from Windows"):
        CreateAgent("openai", "m", base_url="unix:///run/model.sock")


def test_the_environment_may_name_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "unix:///run/model.sock")
    agent = CreateAgent("openai", "m")
    assert (agent._repository.base_url, agent._repository.server) == (
        "unix:///run/model.sock:/v1",
        "/run/model.sock",
    )
    monkeypatch.setenv("OLLAMA_HOST", "unix:///run/ollama.sock")
    assert OllamaChatAdapter().server == "/run/ollama.sock"


def test_a_file_may_name_a_socket_because_it_is_on_this_machine(tmp_path: Path) -> None:
    file = CreateAgent("openai", "m", base_url="unix:///run/model.sock").save(tmp_path / "talk.json")
    assert CreateAgent.load(file)._repository.server == "/run/model.sock"


def test_the_origin_of_a_socket_is_the_socket() -> None:
    assert (
        origin_of("unix:///run/model.sock:/v1") == origin_of("unix:///run/model.sock") == "unix:///run/model.sock"
    )
    assert proxy_for("unix:///run/model.sock:/v1") is None
    sources = [
        OpenAIChatAdapter(base_url=address, api_key="k").reply_source("m")
        for address in ("unix:///run/model.sock", "http+unix://%2Frun%2Fmodel.sock/v1", "unix:/run/model.sock:/v2")
    ]
    assert len(set(sources)) == 1
