"""What the user says for a server: headers, a query, and a function that returns the key."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import ollama
import openai
import pytest
from family import Reply, ScriptedServer, delta, eventually, json_reply, ndjson, run_script, sse
from test_secrets import printed
from yarl import URL

from createagents_nb import (
    CreateAgent,
    MetricsRecorder,
    OllamaChatAdapter,
    OpenAIChatAdapter,
    tool,
)
from createagents_nb.batch.dask_pool import packed_plan
from createagents_nb.errors import AuthenticationError, ConfigurationError, MissingKeyError, ProviderTimeoutError
from createagents_nb.providers import api_keys
from createagents_nb.providers.openai_adapter import OpenAIResponsesAdapter

SECRET = "zq7-C4nary/Of+TheCoal=Mine"
"""In no shape by which a key is known."""
OTHER = "zq7-An0ther/Of+TheCoal=Mine"


@tool
def look() -> str:
    """Look around."""
    return "a door"


def answer(provider: str, text: str = "Hi") -> Reply:
    if provider == "ollama":
        return Reply(ndjson({"message": {"content": text}, "done": True, "done_reason": "stop"}))
    return Reply(sse(delta(text), delta(finish="stop")))


def asks_for_tool(provider: str) -> Reply:
    function: dict[str, Any] = {"name": "look"}
    if provider == "ollama":
        calls = [{"function": function | {"arguments": {}}}]
        return Reply(ndjson({"message": {"content": "", "tool_calls": calls}, "done": True}))
    calls = [{"index": 0, "id": "a1", "function": function | {"arguments": "{}"}}]
    return Reply(sse(delta(tool_calls=calls), delta(finish="tool_calls")))


def listing(provider: str) -> Reply:
    return json_reply({"models": [{"name": "m"}]} if provider == "ollama" else {"data": [{"id": "m"}]})


def agent_at(server: ScriptedServer, provider: str, **more: Any) -> CreateAgent:
    address = server.url if provider == "ollama" else server.openai_url
    return CreateAgent(provider, "m", base_url=address, recorder=MetricsRecorder(), **more)


async def failure_of_models(agent: CreateAgent) -> BaseException:
    """In a frame without anything secret."""
    try:
        await agent.models()
    except Exception as error:
        return error
    raise AssertionError("no error")


PROVIDERS = ["openai", "ollama"]


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_headers_go_with_every_request_in_place_of_ours(server: ScriptedServer, provider: str) -> None:
    headers = {"X-Team": "blue", "user-agent": "mine/1", "ACCEPT": None, "authorization": f"Token {SECRET}"}
    agent = agent_at(server, provider, headers=headers, tools=[look], api_key="unused-key-0123456789")
    for reply in (asks_for_tool(provider), answer(provider), listing(provider)):
        server.enqueue(reply)
    assert await (await agent.chat("hi")) == "Hi"
    assert await agent.models() == ["m"]
    assert len(server.requests) == 3
    for request in server.requests:
        assert request.headers["x-team"] == "blue"
        assert request.headers["user-agent"] == "mine/1"
        assert request.headers["authorization"] == f"Token {SECRET}"
        assert "accept" not in request.headers
    assert server.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_none_removes_each_header_of_ours(server: ScriptedServer, provider: str) -> None:
    removed = dict.fromkeys(("Authorization", "User-Agent", "Content-Type", "Accept"))
    agent = agent_at(server, provider, headers=removed, api_key="unused-key-0123456789")
    server.enqueue(answer(provider))
    await (await agent.chat("hi"))
    assert removed.keys() & {name.title() for name in server.requests[0].headers} == set()


@pytest.mark.asyncio
async def test_headers_go_before_those_of_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: red\nX-Other: 1")
    server.enqueue(answer("openai"))
    await (await agent_at(server, "openai", headers={"x-team": "blue"}).chat("hi"))
    sent = server.requests[0].headers
    assert (sent["x-team"], sent["x-other"], sent["authorization"]) == ("blue", "1", "Bearer none")


@pytest.mark.asyncio
async def test_a_key_in_a_header_is_a_key(server: ScriptedServer) -> None:
    assert CreateAgent("openai", "m", headers={"api-key": SECRET}).provider == "openai"
    with pytest.raises(MissingKeyError):
        CreateAgent("openai", "m", headers={"X-Team": "blue"})
    server.enqueue(answer("openai"))
    await (await agent_at(server, "openai", headers={"api-key": SECRET}).chat("hi"))
    assert server.requests[0].headers["api-key"] == SECRET
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_key_in_headers_or_query_is_masked_everywhere(
    server: ScriptedServer, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "createagents_nb")
    agent = agent_at(server, provider, headers={"X-Api-Key": SECRET}, query={"sig_key": OTHER, "v": "1"})
    spellings = f"{OTHER}, {quote(OTHER, safe='')}, {quote_plus(OTHER)}, {URL('/').with_query({'sig_key': OTHER})}"
    server.on("*", json_reply({"error": {"message": f"no {SECRET}, {spellings}"}}, "403 Forbidden"))
    response = await agent.chat("hi")
    await response.wait()
    assert isinstance(response.error, AuthenticationError)
    found = [*printed(response.error), *printed(await failure_of_models(agent)), ("log", caplog.text)]
    found += [("records", agent._recorder.calls.to_csv()), ("configs", str(agent.get_configs()))]
    found += [("settings", repr(agent._settings)), ("repository", repr(vars(agent._repository)))]
    for where, text in found:
        assert SECRET not in text, where
        assert "An0ther" not in text, where
    assert agent.get_configs()["headers"] == {"X-Api-Key": "***"}
    assert agent.get_configs()["query"] == {"sig_key": "***", "v": "1"}


@pytest.mark.asyncio
async def test_headers_and_query_do_not_follow_a_redirect_to_another_server(server: ScriptedServer) -> None:
    with ScriptedServer() as other:
        other.enqueue(answer("openai"))
        server.enqueue(Reply([], "307 Temporary Redirect", {"location": f"{other.url}/v1/chat/completions"}))
        agent = agent_at(server, "openai", headers={"X-Mine": SECRET}, query={"code": SECRET})
        assert await (await agent.chat("hi")) == "Hi"
        assert SECRET not in f"{other.requests[0].headers} {other.requests[0].path}"


def secret(make: Callable[[str], Any] = str) -> Any:
    return make(os.environ["SECRET"])


MALFORMED: list[tuple[Callable[[], Any], str]] = [
    (lambda: {"X-Team": secret() + "\r\nX-Other: 1"}, "the value of X-Team has a line end"),
    (lambda: {"X-Team": secret() + "\n"}, "the value of X-Team has a line end"),
    (lambda: {"X-Team": "\x00" + secret()}, "the value of X-Team has a line end or another control"),
    (lambda: {"X-Team": secret() + "…"}, "the value of X-Team has characters that no header can hold"),
    (lambda: {"X-Team": secret() + "\ud800"}, "the value of X-Team has characters that no header can hold"),
    (lambda: {"X-Team": secret(str.encode)}, "the value of X-Team must be a string, or .* not bytes"),
    (
        lambda: {"X-Team": secret(lambda text: [text])},
        "the value of X-Team must be a string, or .* not list",
    ),
    (lambda: {"X Team": secret()}, r"'X…' is not the name of a header"),
    (lambda: {"": secret()}, "is not the name of a header"),
    (lambda: {f"Authorization: Bearer {secret()}": ""}, "'Authorization…' is not the name of a header"),
    (lambda: {3: secret()}, "int is not the name of a header"),
    (lambda: {"X-Té": secret()}, "'X-T…' is not the name of a header"),
    (lambda: {"X-Team": secret(), "x-team": "b"}, "x-team is given twice"),
    (lambda: {"Content-Length": "3", "X-Key": secret()}, "Content-Length is computed"),
    (lambda: [("X-Team", secret())], "headers must be a dict of strings, not list"),
    (lambda: f"X-Team: {secret()}", "headers must be a dict of strings, not "),
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("headers", "words"), MALFORMED)
def test_a_malformed_header_is_named_and_its_value_is_shown_nowhere(
    headers: Callable[[], Any], words: str, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    adapter = OllamaChatAdapter if provider == "ollama" else OpenAIChatAdapter
    for make in (
        lambda: CreateAgent(provider, "m", api_key="k", headers=headers()),
        lambda: adapter(api_key="k", headers=headers()),
    ):
        with pytest.raises(ConfigurationError, match=words) as raised:
            make()
        for where, text in printed(raised.value):
            assert SECRET not in text, where


def test_what_else_headers_may_be() -> None:
    class Enum(str):
        pass

    agent = CreateAgent("openai", "m", api_key="k", headers={"X-A": "tab\there é", "X-B": Enum("b"), "X-C": ""})
    assert agent.get_configs()["headers"] == {"X-A": "tab\there é", "X-B": "b", "X-C": ""}
    for nothing in ({}, None):
        assert "headers" not in CreateAgent("openai", "m", api_key="k", headers=nothing).get_configs()
    assert CreateAgent("demo", headers={"X-A": "1"}, query={"a": "b"}).provider == "demo"


# ── query ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_the_query_goes_with_every_address_and_is_encoded(server: ScriptedServer, provider: str) -> None:
    agent = agent_at(server, provider, query={"api-version": "2024-10-21", "a b": "ü&c=d/+#?"})
    for reply in (answer(provider), listing(provider)):
        server.enqueue(reply)
    assert await (await agent.chat("hi")) == "Hi"
    assert await agent.models() == ["m"]
    for request in server.requests:
        parts = urlsplit(request.path)
        assert parts.path in ("/v1/chat/completions", "/v1/models", "/api/chat", "/api/tags")
        assert parse_qsl(parts.query) == [("api-version", "2024-10-21"), ("a b", "ü&c=d/+#?")]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"key": 3}, "the value of 'key' must be a string, not int"),
        ({"key": None}, "the value of 'key' must be a string, not NoneType"),
        ({3: "a"}, "each name must be a string"),
        ({"": "a"}, "each name must be a string"),
        ({"a": "\ud800"}, "'a' has characters that no address can hold"),
        ([("a", "b")], "query must be a dict of strings, not list"),
        ("a=b", "query must be a dict of strings"),
    ],
)
def test_a_query_that_cannot_be_sent_is_refused(query: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CreateAgent("openai", "m", api_key="k", query=query)


def test_an_address_with_a_query_names_the_place_for_it() -> None:
    with pytest.raises(ConfigurationError, match=r"query=\{…\} in place of \?…"):
        CreateAgent("openai", "m", api_key="k", base_url="https://a.example/v1?api-version=1")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_preview_shows_headers_and_query_without_keys(server: ScriptedServer, provider: str) -> None:
    headers = {"X-Api-Key": SECRET, "X-Team": "blue", "User-Agent": None}
    agent = agent_at(server, provider, headers=headers, query={"v": "1", "sig_key": OTHER}, api_key=Tokens().new)
    server.enqueue(answer(provider))
    response = await agent.chat("hi")
    await response.wait()
    shown = repr(response.preview())
    assert "X-Team: blue" in shown
    assert "X-Api-Key: ***" in shown
    assert "?v=1&sig_key=***" in shown
    assert "User-Agent" not in shown
    assert SECRET not in shown
    assert "An0ther" not in shown
    assert "token-number" not in shown


# ── where they do not go ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["headers", "query"])
def test_a_client_and_a_provider_object_take_none(name: str) -> None:
    given: dict[str, Any] = {name: {"a": "b"}}
    for client in (openai.AsyncOpenAI(api_key="k"), ollama.AsyncClient()):
        with pytest.raises(ConfigurationError, match=f"takes no {name}: leave {name} out"):
            CreateAgent(client=client, model="m", **given)
    with pytest.raises(ConfigurationError, match=f"sends its own {name}"):
        OpenAIChatAdapter(client=openai.AsyncOpenAI(api_key="k"), **given)
    with pytest.raises(ConfigurationError, match=f"sends its own {name}"):
        OllamaChatAdapter(client=ollama.AsyncClient(), **given)
    with pytest.raises(ConfigurationError, match=f"takes no {name}"):
        CreateAgent(OpenAIChatAdapter(api_key="k"), "m", **given)


@pytest.mark.asyncio
async def test_a_variant_at_the_same_server_keeps_them_and_one_elsewhere_does_not(server: ScriptedServer) -> None:
    agent = agent_at(server, "openai", headers={"X-Team": "blue"}, query={"v": "1"}, api_key=lambda: SECRET)
    server.enqueue(answer("openai"))
    await (await agent.variant(model="other").chat("hi"))
    assert (server.requests[0].headers["x-team"], server.requests[0].path[-4:]) == ("blue", "?v=1")
    settings = agent.variant("demo")._settings
    assert (settings.headers, settings.query, settings.api_key) == (None, None, None)


def test_a_file_has_neither_and_takes_neither(tmp_path: Path) -> None:
    agent = CreateAgent(
        "openai", "m", headers={"X-Api-Key": SECRET, "X-Team": "blue"}, query={"v": "one"}, api_key=lambda: SECRET
    )
    file = agent.save(tmp_path / "talk.json")
    text = file.read_text("utf-8")
    assert SECRET not in text
    assert "blue" not in text
    file.write_text(text.replace('"model"', '"headers": {"X-Evil": "1"}, "query": {"a": "b"}, "model"', 1))
    loaded = CreateAgent.load(file, api_key="k", query={"v": "two"})._settings
    assert (loaded.headers, loaded.query) == (None, {"v": "two"})


def test_a_key_in_them_does_not_travel_to_workers() -> None:
    pytest.importorskip("cloudpickle")
    plain = CreateAgent("ollama", "m", headers={"X-Team": "blue"}, query={"v": "1"})
    assert packed_plan(plain._row_agent())
    for given in ({"headers": {"X-Api-Key": SECRET}}, {"query": {"key": SECRET}}):
        agent = CreateAgent("ollama", "m", **given)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="keys do not travel to Dask workers"):
            packed_plan(agent._row_agent())
    with pytest.raises(ConfigurationError, match="keys do not travel to Dask workers"):
        packed_plan(CreateAgent("ollama", "m", api_key=lambda: SECRET)._row_agent())


# ── a function that returns the key ──────────────────────────────────────────────────────────────────────


class Tokens:
    """A new token each time."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"token-number-{self.count}-of-the-account"

    async def new_later(self) -> str:
        await asyncio.sleep(0)
        return self.new()

    async def __call__(self) -> str:
        return self.new()


FUNCTIONS: dict[str, Callable[[Tokens], Any]] = {
    "a function": lambda tokens: tokens.new,
    "a coroutine function": lambda tokens: tokens.new_later,
    "an object with an async call": lambda tokens: tokens,
    "a lambda that returns a coroutine": lambda tokens: lambda: tokens.new_later(),
    "a partial": lambda tokens: functools.partial(Tokens.new, tokens),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_each_request_has_the_key_that_the_function_returns_then(
    server: ScriptedServer, provider: str, function: Callable[[Tokens], Any]
) -> None:
    agent = agent_at(server, provider, api_key=function(Tokens()), tools=[look])
    for reply in (asks_for_tool(provider), answer(provider), listing(provider)):
        server.enqueue(reply)
    assert await (await agent.chat("hi")) == "Hi"
    await agent.models()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer token-number-{number}-of-the-account" for number in (1, 2, 3)]


@pytest.mark.asyncio
async def test_a_request_that_is_sent_again_has_the_same_key(server: ScriptedServer) -> None:
    agent = agent_at(server, "openai", api_key=Tokens().new)
    server.enqueue(json_reply({}, "503 Service Unavailable", **{"retry-after": "0"}))
    server.enqueue(answer("openai"))
    await (await agent.chat("hi"))
    assert {request.headers["authorization"] for request in server.requests} == {
        "Bearer token-number-1-of-the-account"
    }


@pytest.mark.asyncio
async def test_every_key_that_a_function_returned_is_masked(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_at(server, "openai", api_key=Tokens().new, max_retries=0)
    said = " and ".join(f"token-number-{number}-of-the-account" for number in (1, 2))
    server.on("*", json_reply({"error": {"message": f"bad keys {said}"}}, "401 Unauthorized"))
    await (await agent.chat("hi")).wait()
    caplog.clear()  # the second key was not known then
    response = await agent.chat("again")
    await response.wait()
    assert "bad keys *** and ***" in str(response.error)
    found = [*printed(response.error or AssertionError()), ("log", caplog.text)]
    for where, text in found:
        assert "token-number-2" not in text, where


def raises() -> str:
    raise PermissionError(13, f"no token for {os.environ['SECRET']}\nsecond line")


async def raises_later() -> str:
    raise LookupError("no account")


async def is_cancelled() -> str:
    raise asyncio.CancelledError


def exits() -> str:
    raise SystemExit(3)


FLAWS: list[tuple[Any, str]] = [
    (raises, r"api_key=… raised PermissionError: .*no token for .* second line\. Check that function"),
    (raises_later, "api_key=… raised LookupError: no account"),
    (is_cancelled, "api_key=… raised CancelledError"),
    (exits, "api_key=… raised SystemExit"),
    (lambda: None, "api_key=… returned NoneType, not a string"),
    (lambda: b"bytes", "api_key=… returned bytes, not a string"),
    (lambda: (SECRET, 3), "api_key=… returned tuple, not a string"),
    (lambda: "", "api_key=… returned an empty string"),
    (lambda: " \n", "api_key=… returned an empty string"),
    (lambda: f"{SECRET}\nX-Other: 1", "api_key=… returned a text with characters that no key has"),
    (lambda: SECRET + "é", "api_key=… returned a text with characters that no key has"),
    (lambda needed: SECRET, "api_key=… raised TypeError"),
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("function", "words"), FLAWS)
@pytest.mark.asyncio
async def test_a_function_without_a_usable_key_is_one_error(
    server: ScriptedServer, provider: str, function: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sk-a-real-secret-0123456789")
    agent = agent_at(server, provider, api_key=function)
    response = await agent.chat("hi")
    await response.wait()
    with pytest.raises(AuthenticationError, match=words):
        await agent.models()
    error = response.error
    assert isinstance(error, AuthenticationError)
    assert (error.provider, "\n" in str(error)) == (provider, False)
    assert "must return the key as a string" in str(error)
    for where, text in printed(error):
        assert SECRET not in text, where
        assert "sk-a-real" not in text, where
    assert agent._recorder.requests["error_type"].tolist() == ["AuthenticationError"]
    assert not server.requests


@pytest.fixture
def held() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])
@pytest.mark.asyncio
async def test_a_function_that_blocks_is_left_alone(
    server: ScriptedServer, held: threading.Event, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync() -> str:
        held.wait()
        return SECRET

    async def waits() -> str:
        await asyncio.Event().wait()
        return SECRET

    async def stubborn() -> str:
        while not held.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return SECRET

    function = {"sync": sync, "async": waits, "stubborn": stubborn}[kind]
    agent = agent_at(server, "openai", api_key=function, timeout_s=0.05)
    with pytest.raises(ProviderTimeoutError, match=r"api_key=… has not returned a key within 0\.05 s"):
        await (await agent.chat("hi"))
    monkeypatch.setattr(api_keys, "_MAX_S", 0.05)
    with pytest.raises(ProviderTimeoutError, match=r"api_key=… has not returned a key within 0\.05 s"):
        await agent_at(server, "openai", api_key=function).models()
    assert not server.requests
    held.set()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.asyncio
async def test_a_turn_that_is_stopped_while_the_function_runs_settles(
    server: ScriptedServer, held: threading.Event, kind: str
) -> None:
    reached = threading.Event()

    def sync() -> str:
        reached.set()
        held.wait()
        return SECRET

    async def waits() -> str:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()
        return SECRET

    agent = agent_at(server, "openai", api_key=sync if kind == "sync" else waits)
    response = await agent.chat("hi")
    await eventually(reached.is_set)
    response.cancel()
    await asyncio.wait_for(response.wait(), 10)
    assert response.record.status == "cancelled"
    assert not server.requests


def test_a_function_that_never_returns_does_not_hold_the_end_of_the_process() -> None:
    done = run_script("""
        import asyncio, threading
        from createagents_nb import CreateAgent
        from createagents_nb.errors import ProviderTimeoutError

        async def main():
            agent = CreateAgent("openai", "m", api_key=threading.Event().wait, timeout_s=0.05)
            try:
                await (await agent.chat("hi"))
            except ProviderTimeoutError:
                print("timeout")

        asyncio.run(main())
    """)
    assert (done.stdout, done.returncode) == ("timeout\n", 0), done.stderr


def test_the_source_of_an_answer_stays_when_the_token_changes() -> None:
    adapters = [
        make(api_key=Tokens().new, base_url="http://127.0.0.1:1/v1")
        for make in (OpenAIChatAdapter, OpenAIResponsesAdapter, OllamaChatAdapter)
    ]
    sources = {adapter.reply_source("m") for adapter in adapters}
    assert {source.key_fingerprint for source in sources} == {"function"}


def test_keys_in_headers_and_query_tell_sources_apart() -> None:
    def fingerprint(**given: Any) -> str:
        return OpenAIChatAdapter(base_url="http://127.0.0.1:1/v1", **given).reply_source("m").key_fingerprint

    assert fingerprint(headers={"X-Team": "blue"}, query={"v": "1"}) == ""
    assert fingerprint(headers={"api-key": "one"}) == fingerprint(headers={"Api-Key": "one"})
    given: list[dict[str, Any]] = [{"headers": {"api-key": "one"}}, {"headers": {"api-key": "two"}}]
    given += [{"query": {"key": "one"}}, {"api_key": "one"}, {"api_key": str}, {}]
    given += [{"api_key": str, "headers": {"x-api-key": "one"}}]
    assert len({fingerprint(**each) for each in given}) == len(given)


def test_a_function_counts_as_a_key_and_is_shown_nowhere() -> None:
    bound = functools.partial(str, SECRET)
    agent = CreateAgent("openai", "m", api_key=bound)
    assert SECRET not in f"{agent!r} {agent._settings!r} {vars(agent._repository)} {agent.get_configs()}"
    assert "api_key" not in agent.get_configs()


@pytest.mark.asyncio
async def test_a_batch_calls_the_function_for_each_row(server: ScriptedServer) -> None:
    tokens = Tokens()
    agent = agent_at(server, "openai", api_key=tokens.new)
    server.on("*", answer("openai"))
    frame = await agent.map(["a", "b", "c"], progress=False)
    assert frame["answer"].tolist() == ["Hi"] * 3
    assert len({request.headers["authorization"] for request in server.requests}) == tokens.count == 3
