"""The demo server over real HTTP, with the SDKs whose formats it speaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import ollama
import openai
import psutil
import pytest

from createagents_nb import demo
from createagents_nb.errors import ConfigurationError

pytestmark = pytest.mark.once

MODEL = "demo-instant"
KEY = {"Authorization": "Bearer demo"}
HELLO: Any = [{"role": "user", "content": "Hello"}]


def function(name: str, description: str, **properties: Any) -> Any:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


WEATHER = function("get_weather", "Weather in a city", city={"type": "string"})
DATE: Any = {
    "type": "function",
    "function": {"name": "currentdate", "description": "Gives the current date and time"},
}
ADD = function("add", "Add two numbers", a={"type": "integer"}, b={"type": "integer"})
MULTIPLY = function("multiply", "Multiply two numbers", a={"type": "integer"}, b={"type": "integer"})


@pytest.fixture(scope="module")
def server() -> Iterator[demo.DemoServer]:
    with demo.DemoServer() as running:
        yield running


@asynccontextmanager
async def openai_client(server: demo.DemoServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="demo", max_retries=0) as client:
        yield client


@asynccontextmanager
async def ollama_client(server: demo.DemoServer) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=server.ollama_url)
    try:
        yield client
    finally:
        await client._client.aclose()


def post(server: demo.DemoServer, path: str, body: Any, headers: dict[str, str] | None = KEY) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{server.ollama_url}{path}", content=content, headers=headers, verify=False)


def get(url: str, headers: dict[str, str] | None = KEY) -> httpx.Response:
    return httpx.get(url, headers=headers, verify=False)  # it would read all certificates for each request


def is_listening(entry: Any, port: int) -> bool:
    return entry.status == psutil.CONN_LISTEN and entry.laddr.port == port


def chat(server: demo.DemoServer, **body: Any) -> httpx.Response:
    return post(server, "/v1/chat/completions", {"model": MODEL, "messages": HELLO, **body})


def events(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


# --- OpenAI ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_openai_streams_the_text_that_it_buffers(server: demo.DemoServer) -> None:
    async with openai_client(server) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=HELLO)
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == sum(bool(piece) for piece in pieces)
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_stream_begins_with_the_role_and_has_usage_only_when_asked(server: demo.DemoServer) -> None:
    plain = events(chat(server, stream=True))
    assert plain[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in plain[1:])
    assert all("usage" not in chunk for chunk in plain)
    assert [chunk["choices"][0]["finish_reason"] for chunk in plain[-2:]] == [None, "stop"]
    asked = events(chat(server, stream=True, stream_options={"include_usage": True}))
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in asked[:-1])


@pytest.mark.asyncio
async def test_openai_streams_tool_calls_in_several_deltas(server: demo.DemoServer) -> None:
    question: Any = [{"role": "user", "content": "What day is it, and the weather in Paris and Oslo?"}]
    async with openai_client(server) as client:
        stream: Any = await client.chat.completions.create(
            model=MODEL, messages=question, tools=[DATE, WEATHER], stream=True
        )
        chunks = [chunk async for chunk in stream]
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    names = [(delta.index, delta.function.name) for delta in deltas if delta.id]
    assert names == [(0, "currentdate"), (1, "get_weather"), (2, "get_weather")]
    assert len({delta.id for delta in deltas if delta.id}) == 3
    texts = ["".join(delta.function.arguments or "" for delta in deltas if delta.index == at) for at in range(3)]
    assert [json.loads(text) for text in texts] == [{}, {"city": "Paris"}, {"city": "Oslo"}]
    assert sum(delta.index == 1 for delta in deltas) > 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.asyncio
async def test_openai_rounds_of_tools_end_in_an_answer(server: demo.DemoServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "Add 2 and 3, then multiply the result by 4"}]
    seen = []
    async with openai_client(server) as client:
        for result in ("5", "20", None):
            reply = await client.chat.completions.create(model=MODEL, messages=messages, tools=[ADD, MULTIPLY])
            message: Any = reply.choices[0].message
            if result is None:
                break
            assert reply.choices[0].finish_reason == "tool_calls"
            (call,) = message.tool_calls
            seen.append((call.function.name, json.loads(call.function.arguments)))
            messages.append(message.model_dump(exclude_none=True))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert seen == [("add", {"a": 2, "b": 3}), ("multiply", {"a": 5, "b": 4})]
    assert message.tool_calls is None
    assert "`20`" in (message.content or "")


@pytest.mark.asyncio
async def test_openai_tool_choice(server: demo.DemoServer) -> None:
    async with openai_client(server) as client:

        async def finish(choice: Any) -> tuple[str, list[str]]:
            reply = await client.chat.completions.create(
                model=MODEL, messages=HELLO, tools=[ADD, WEATHER], tool_choice=choice
            )
            calls: Any = reply.choices[0].message.tool_calls or []
            return reply.choices[0].finish_reason, [call.function.name for call in calls]

        assert await finish("none") == ("stop", [])
        assert (await finish("required"))[0] == "tool_calls"
        named = {"type": "function", "function": {"name": "get_weather"}}
        assert await finish(named) == ("tool_calls", ["get_weather"])


def test_openai_limits_and_stop_texts(server: demo.DemoServer) -> None:
    full = chat(server).json()["choices"][0]["message"]["content"]
    for limit in ("max_tokens", "max_completion_tokens"):
        short = chat(server, **{limit: 4}).json()
        assert short["choices"][0]["finish_reason"] == "length"
        assert short["usage"]["completion_tokens"] == 4
        assert full.startswith(short["choices"][0]["message"]["content"])
    stopped = chat(server, stop=["canned"]).json()["choices"][0]
    assert stopped["message"]["content"] == full[: full.index("canned")]
    assert stopped["finish_reason"] == "stop"
    cut = events(chat(server, stream=True, max_tokens=3))
    assert cut[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.asyncio
async def test_openai_lists_its_models(server: demo.DemoServer) -> None:
    async with openai_client(server) as client:
        assert tuple([model.id async for model in client.models.list()]) == server.models
        assert (await client.models.retrieve("demo")).id == "demo"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b'{"model":', 400, None, None),
        (b"", 400, None, None),
        ([], 400, None, None),
        ({"messages": HELLO}, 400, None, None),
        ({"model": 3, "messages": HELLO}, 400, "model", "invalid_type"),
        ({"model": "gpt-4", "messages": HELLO}, 404, None, "model_not_found"),
        ({"model": MODEL}, 400, "messages", "missing_required_parameter"),
        ({"model": MODEL, "messages": "Hello"}, 400, "messages", "invalid_type"),
        ({"model": MODEL, "messages": []}, 400, "messages", "empty_array"),
        ({"model": MODEL, "messages": [{"role": "x", "content": ""}]}, 400, "messages[0].role", "invalid_value"),
        ({"model": MODEL, "messages": [{"role": "user"}]}, 400, "messages[0].content", None),
        (
            {"model": MODEL, "messages": [{"role": "tool", "content": "", "tool_call_id": "1"}]},
            400,
            "messages.[0].role",
            None,
        ),
        ({"model": MODEL, "messages": HELLO, "stream": "yes"}, 400, "stream", "invalid_type"),
        ({"model": MODEL, "messages": HELLO, "stream_options": {}}, 400, "stream_options", None),
        ({"model": MODEL, "messages": HELLO, "temperature": 3}, 400, "temperature", "decimal_above_max_value"),
        ({"model": MODEL, "messages": HELLO, "max_tokens": 0}, 400, "max_tokens", "integer_below_min_value"),
        ({"model": MODEL, "messages": HELLO, "max_tokens": 10**400}, 200, None, None),
        ({"model": MODEL, "messages": HELLO, "tools": []}, 400, "tools", "empty_array"),
        (
            {"model": MODEL, "messages": HELLO, "tools": [function("a b", "")]},
            400,
            "tools[0].function.name",
            "invalid_value",
        ),
        (
            {"model": MODEL, "messages": HELLO, "tools": [ADD], "tool_choice": "x"},
            400,
            "tool_choice",
            "invalid_value",
        ),
        ({"model": MODEL, "messages": HELLO, "stop": [1]}, 400, "stop", "invalid_type"),
    ],
)
def test_openai_refuses_what_openai_refuses(
    server: demo.DemoServer, body: Any, status: int, param: str | None, code: str | None
) -> None:
    response = post(server, "/v1/chat/completions", body)
    assert response.status_code == status
    if status != 200:
        error = response.json()["error"]
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
        assert error["message"]


def test_openai_wants_every_tool_call_answered(server: demo.DemoServer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "not JSON"}}
    asked = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    missing = chat(server, messages=[*asked, *HELLO])
    assert missing.status_code == 400
    assert "c1" in missing.json()["error"]["message"]
    answered = [*asked, {"role": "tool", "tool_call_id": "c1", "content": "Error: not valid JSON"}]
    assert "failed" in chat(server, messages=answered).json()["choices"][0]["message"]["content"]


def test_openai_wants_a_key(server: demo.DemoServer) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic x"}):
        response = post(server, "/v1/chat/completions", {"model": MODEL, "messages": HELLO}, headers)
        assert response.status_code == 401
        assert "API key" in response.json()["error"]["message"]


def test_openai_unknown_path_and_method(server: demo.DemoServer) -> None:
    unknown = get(f"{server.openai_url}/nope")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "invalid_request_error")
    method = get(f"{server.openai_url}/chat/completions")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_supported")


def test_openai_json_schema_is_answered_with_json(server: demo.DemoServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = chat(server, messages=[{"role": "user", "content": "7 birds"}], response_format=wanted).json()
    assert json.loads(reply["choices"][0]["message"]["content"]) == {"n": 7}


def test_text_parts_are_read_and_unicode_survives(server: demo.DemoServer) -> None:
    parts = [{"type": "text", "text": "olá "}, {"type": "image_url", "image_url": {"url": "x"}}]
    parts.append({"type": "text", "text": "🎉 ção"})
    chunks = events(chat(server, stream=True, messages=[{"role": "user", "content": parts}]))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert "olá 🎉 ção" in text


# --- Ollama ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_ollama_streams_the_text_that_it_buffers(server: demo.DemoServer) -> None:
    async with ollama_client(server) as client:
        whole = await client.chat(model=MODEL, messages=HELLO)
        chunks = [chunk async for chunk in await client.chat(model=MODEL, messages=HELLO, stream=True)]
    assert "".join(chunk.message.content or "" for chunk in chunks) == whole.message.content
    for last in (chunks[-1], whole):
        assert (last.done, last.done_reason) == (True, "stop")
        assert last.eval_count == len(chunks) - 1
        assert (last.prompt_eval_count or 0) > 0
        parts = (last.load_duration, last.prompt_eval_duration, last.eval_duration)
        assert all(isinstance(part, int) and part > 0 for part in parts)
        assert sum(part or 0 for part in parts) <= (last.total_duration or 0) + len(parts)
    assert not any(chunk.done for chunk in chunks[:-1])


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
async def test_ollama_tool_calls_are_objects(server: demo.DemoServer, stream: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "What day is it, and the weather in Paris?"}]
    async with ollama_client(server) as client:

        async def ask() -> Any:
            chat_with: Any = client.chat  # its types do not know a bool
            reply = await chat_with(model=MODEL, messages=messages, tools=[DATE, WEATHER], stream=stream)
            if not stream:
                return [reply]
            return [chunk async for chunk in reply]

        chunks = await ask()
        calls = [call for chunk in chunks for call in chunk.message.tool_calls or ()]
        found = [(call.function.name, dict(call.function.arguments)) for call in calls]
        assert found == [("currentdate", {}), ("get_weather", {"city": "Paris"})]
        assert chunks[-1].done_reason == "stop"
        messages.append({"role": "assistant", "tool_calls": [call.model_dump() for call in calls]})
        messages += [
            {"role": "tool", "tool_name": "currentdate", "content": "Monday"},
            {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
        ]
        text = "".join(chunk.message.content or "" for chunk in await ask())
    assert "`currentdate()` returned `Monday`" in text
    assert "`sunny`" in text


def test_ollama_sends_each_call_in_a_line_of_its_own(server: demo.DemoServer) -> None:
    question = [{"role": "user", "content": "weather in Paris and Oslo"}]
    response = post(server, "/api/chat", {"model": MODEL, "messages": question, "tools": [WEATHER]})
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    functions = [line["message"]["tool_calls"][0]["function"] for line in lines[:-1]]
    assert functions == [
        {"index": at, "name": "get_weather", "arguments": {"city": city}}
        for at, city in enumerate(("Paris", "Oslo"))
    ]
    assert lines[-1]["done"] is True


@pytest.mark.asyncio
async def test_ollama_limits_and_stop_texts(server: demo.DemoServer) -> None:
    async with ollama_client(server) as client:
        short = await client.chat(model=MODEL, messages=HELLO, options={"num_predict": 3})
        endless = await client.chat(model=MODEL, messages=HELLO, options={"num_predict": -1})
        stopped = await client.chat(model=MODEL, messages=HELLO, options={"stop": ["canned"]})
    assert (short.done_reason, short.eval_count) == ("length", 3)
    assert endless.done_reason == "stop"
    assert (stopped.message.content or "").endswith("this text is ")


def test_ollama_call_that_was_cut_off_is_an_empty_reply(server: demo.DemoServer) -> None:
    question = [{"role": "user", "content": "weather in Paris"}]
    body = {
        "model": MODEL,
        "messages": question,
        "tools": [WEATHER],
        "options": {"num_predict": 3},
        "stream": False,
    }
    reply = post(server, "/api/chat", body).json()
    assert reply["message"] == {"role": "assistant", "content": ""}
    assert reply["done_reason"] == "length"


@pytest.mark.asyncio
async def test_ollama_lists_its_models(server: demo.DemoServer) -> None:
    async with ollama_client(server) as client:
        listed = await client.list()
        assert [model.model for model in listed.models] == [f"{name}:latest" for name in server.models]
        assert [model.model for model in (await client.ps()).models] == [
            f"{name}:latest" for name in server.models
        ]
        assert (await client.show("demo-thinking:latest")).capabilities == ["completion", "tools", "thinking"]
        with pytest.raises(ollama.ResponseError, match="model 'llama3' not found") as caught:
            await client.show("llama3")
    assert caught.value.status_code == 404


def test_ollama_says_that_it_runs(server: demo.DemoServer) -> None:
    assert get(server.ollama_url).text == "Ollama is running"
    assert "version" in get(f"{server.ollama_url}/api/version").json()


STRING_ARGUMENTS = [
    *HELLO,
    {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]},
]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "missing request body"),
        (b'{"model": "demo", "messages": [', 400, "unexpected EOF"),
        (b"{]", 400, "invalid character"),
        ({}, 400, "model is required"),
        ({"model": "x", "messages": HELLO}, 404, "model 'x' not found"),
        ({"model": MODEL, "messages": "Hello"}, 400, "json: cannot unmarshal string into Go struct field"),
        ({"model": MODEL, "messages": HELLO, "think": True}, 400, f'"{MODEL}" does not support thinking'),
        (
            {"model": MODEL, "messages": HELLO, "options": {"temperature": "x"}},
            500,
            'option "temperature" must be',
        ),
        ({"model": MODEL, "messages": STRING_ARGUMENTS}, 400, "Value looks like object"),
        ({"model": MODEL, "messages": HELLO, "format": "xml"}, 400, "invalid format"),
    ],
)
def test_ollama_refuses_what_ollama_refuses(server: demo.DemoServer, body: Any, status: int, error: str) -> None:
    response = post(server, "/api/chat", body, {})
    assert response.status_code == status
    assert response.json()["error"].startswith(error)


def test_ollama_loads_and_unloads_without_messages(server: demo.DemoServer) -> None:
    assert post(server, "/api/chat", {"model": MODEL, "messages": []}).json()["done_reason"] == "load"
    assert post(server, "/api/chat", {"model": MODEL, "keep_alive": 0}).json()["done_reason"] == "unload"


def test_ollama_unknown_path_and_method(server: demo.DemoServer) -> None:
    unknown, method = get(f"{server.ollama_url}/api/nope"), get(f"{server.ollama_url}/api/chat")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found")
    assert (method.status_code, method.text) == (405, "405 method not allowed")


# --- reasoning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hurried() -> Iterator[demo.DemoServer]:
    with demo.DemoServer(tokens_per_s=1e6) as running:
        yield running


def test_openai_reasons_first(hurried: demo.DemoServer) -> None:
    chunks = events(chat(hurried, model="demo-thinking", stream=True))
    kinds = [next(iter(chunk["choices"][0]["delta"]), "end") for chunk in chunks]
    assert list(dict.fromkeys(kinds)) == ["role", "reasoning_content", "content", "end"]
    whole = chat(hurried, model="demo-thinking").json()
    assert "Hello" in whole["choices"][0]["message"]["reasoning_content"]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == kinds.count("reasoning_content")
    silent = chat(hurried, model="demo-thinking", reasoning_effort="none").json()
    assert "reasoning_content" not in silent["choices"][0]["message"]


@pytest.mark.asyncio
async def test_ollama_thinks_unless_told_not_to(hurried: demo.DemoServer) -> None:
    async with ollama_client(hurried) as client:
        for think, expected in ((None, True), (True, True), ("low", True), (False, False)):
            reply = await client.chat(model="demo-thinking", messages=HELLO, think=think)
            assert bool(reply.message.thinking) is expected


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/models"])
def test_foreign_hosts_and_origins_are_refused(server: demo.DemoServer, path: str) -> None:
    def status(**headers: str) -> int:
        return get(f"{server.ollama_url}{path}", {**KEY, **headers}).status_code

    assert status() == 200
    port = server.port
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert status(Host=host) == 200
    assert status(Origin=server.ollama_url) == status(Origin=f"http://localhost:{port}") == 200
    names = ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[::1", "")
    for host in (*names, *(f"{name}:{port}" for name in names), "localhost", "127.0.0.1", "localhost:1234"):
        assert status(Host=host) in (400, 403)
    origins = ("http://evil.example", "null", "", "http://localhost.evil.example", "https://[bad")
    for origin in (*origins, f"http://evil.example:{port}", "http://localhost:8888", f"https://localhost:{port}"):
        assert status(Origin=origin) == 403


def test_no_page_is_told_that_it_may_read_an_answer(server: demo.DemoServer) -> None:
    for origin in ("http://evil.example", server.ollama_url):
        asking = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        for method in ("OPTIONS", "GET"):
            url = f"{server.ollama_url}/v1/models"
            reply = httpx.request(method, url, headers=KEY | asking, verify=False)
            assert not [name for name in reply.headers if name.startswith("access-control")]
            assert (method, origin) == ("GET", server.ollama_url) or reply.status_code in (403, 405)


def test_a_request_with_two_hosts_is_refused(server: demo.DemoServer) -> None:
    hosts = f"Host: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET /api/tags HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert connection.recv(100).split()[1] in (b"400", b"403")


def test_only_loopback_is_bound(server: demo.DemoServer) -> None:
    (bound,) = {
        entry.laddr.ip for entry in psutil.Process().net_connections("tcp") if is_listening(entry, server.port)
    }
    assert bound == "127.0.0.1"


def test_it_listens_on_loopback_only() -> None:
    for host in ("0.0.0.0", "", "192.168.0.1", "example.com"):
        with pytest.raises(ValueError, match="loopback only"):
            demo.DemoServer(host=host)


def test_a_body_that_is_too_large_is_refused(server: demo.DemoServer) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        response = post(server, path, b"x" * (9 * 2**20))
        assert response.status_code == 413
        assert "larger than" in str(response.json()["error"])


def test_deeply_nested_json_is_refused(server: demo.DemoServer) -> None:
    assert post(server, "/api/chat", b"[" * 200_000).status_code == 400


# --- its life -------------------------------------------------------------------------------------


def test_one_server_is_shared_and_started_again_after_a_stop() -> None:
    first = demo.start()
    assert demo.start() is first
    assert get(first.ollama_url).status_code == 200
    first.stop()
    first.stop()
    assert not first.running
    with demo.start() as second:
        assert second is not first
        assert get(second.ollama_url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        get(second.ollama_url)


@pytest.mark.asyncio
async def test_starting_from_many_threads_starts_one() -> None:
    servers = await asyncio.gather(*(asyncio.to_thread(demo.start) for _ in range(20)))
    assert len(set(servers)) == 1
    servers[0].stop()


def test_a_port_of_ones_own_is_started_once_and_must_be_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="--port 0"):
            demo.start(taken.getsockname()[1])
        port = taken.getsockname()[1]
    with demo.start(port) as mine:
        assert mine.port == port
        assert demo.start(port) is mine
        with pytest.raises(ConfigurationError, match="is taken"):
            demo.DemoServer(port)
    for wrong in (-1, 70000, "80", True):
        with pytest.raises(ConfigurationError, match="port must be"):
            demo.start(wrong)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_client_that_leaves_in_mid_stream_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def tasks() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    async def ended(some: set[asyncio.Task[Any]]) -> None:
        await asyncio.wait(some, timeout=20)

    def on_its_loop(coroutine: Any) -> asyncio.Future[Any]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, slow._loop))

    story = [{"role": "user", "content": "Tell me a story"}]
    with demo.DemoServer(tokens_per_s=0.1) as slow:
        idle = await on_its_loop(tasks())
        async with ollama_client(slow) as client:
            async for _ in await client.chat(model="demo", messages=story, stream=True):
                break
            serving = await on_its_loop(tasks()) - idle
            assert serving
        await on_its_loop(ended(serving))
        assert await on_its_loop(tasks()) == idle
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_stopping_cuts_a_running_stream() -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Tell me a story"}]}
    server = demo.DemoServer(tokens_per_s=1)
    with httpx.stream("POST", f"{server.ollama_url}/api/chat", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        server.stop()
        assert not server._thread.is_alive()
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def run(code: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_the_process_ends_quietly_while_a_stream_runs() -> None:
    done = run(
        "import json, urllib.request as r; from createagents_nb import demo\n"
        "body = {'model': 'demo', 'messages': [{'role': 'user', 'content': 'a story'}]}\n"
        "q = r.Request(demo.start().ollama_url + '/api/chat', json.dumps(body).encode())\n"
        "stream = r.urlopen(q); print(stream.readline()[:9])"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b'{\"model\":'\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_its_own() -> None:
    done = run(
        "import os, urllib.request as r, warnings; from createagents_nb import demo\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "parent = demo.start(); pid = os.fork()\n"
        "child = demo.start()\n"
        "assert r.urlopen(child.ollama_url).status == 200\n"
        "if pid == 0:\n"
        "    assert child is not parent and child.port != parent.port and not parent.running; parent.stop()\n"
        "else:\n"
        "    assert child is parent; assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "    assert r.urlopen(parent.ollama_url).status == 200; print('ok')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_reset_stops_all_servers() -> None:
    done = run(
        "from createagents_nb import demo; from createagents_nb.demo.server import reset\n"
        "shared, mine = demo.start(), demo.DemoServer(); reset()\n"
        "print(shared.running, mine.running, demo.start() is shared, demo.start().running)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False False True\n", "")


def test_it_serves_in_a_process_whose_loop_is_patched_for_nesting() -> None:
    name = "nest_asyncio" if sys.version_info < (3, 14) else "nest_asyncio2"
    done = run(
        f"import asyncio, urllib.request as r, {name}; from createagents_nb import demo\n"
        "async def main():\n"
        f"    {name}.apply()\n"
        "    return await asyncio.to_thread(lambda: r.urlopen(demo.start().ollama_url).read())\n"
        "print(asyncio.run(main()).decode())"
    )
    assert (done.returncode, done.stdout) == (0, "Ollama is running\n"), done.stderr


def test_importing_it_loads_nothing_heavy() -> None:
    done = run(
        "import sys, createagents_nb.demo\n"
        "print([m for m in ('aiohttp', 'openai', 'ollama', 'httpx', 'pydantic', 'IPython') if m in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_its_names_are_sorted() -> None:
    assert demo.__all__ == sorted(demo.__all__)


# --- python -m createagents_nb.demo ---------------------------------------------------------------


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_the_addresses_and_stops_cleanly(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "createagents_nb.demo", "--pace", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            line = process.stdout.readline()
            assert line, "it ended"
            lines.append(line)
        text = "".join(lines)
        address = next(line for line in lines if "OLLAMA_HOST=" in line).strip().split("=")[1]
        assert get(address).text == "Ollama is running"
        assert f"export OPENAI_BASE_URL={address}/v1 OPENAI_API_KEY=demo" in text
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_the_command_says_when_it_cannot_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "createagents_nb.demo", "--quiet", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--port 0" in done.stderr
    assert len(done.stderr.splitlines()) == 1
