"""Passwords and keys that stand in settings, and keys that a server puts where nobody looks for text."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from family import ScriptedServer, delta, json_reply, ndjson, round_trip, run_script, sse
from fault_server import Exchange, FaultServer, Serve, said
from IPython.lib.pretty import pretty
from tblib import pickling_support
from test_secrets import CANARY, assert_clean, kept, printed

from createagents_nb import CreateAgent, errors
from createagents_nb.agent.config import validate_config
from createagents_nb.errors import ConfigurationError, ProviderConnectionError, ProviderError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.providers import addresses
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter
from createagents_nb.providers.transport_errors import TransportError
from createagents_nb.redaction import Secret, as_secret, is_secret_name, mask_keys

pytestmark = pytest.mark.once

PROVIDERS = ["openai", "ollama"]
ADDRESSES = {"openai": "OPENAI_BASE_URL", "ollama": "OLLAMA_HOST"}
PASSWORD = "Zq7c4nary0fTheCoalMine"


def adapter_of(provider: str) -> type[OpenAIChatAdapter | OllamaChatAdapter]:
    return OpenAIChatAdapter if provider == "openai" else OllamaChatAdapter


def assert_hidden(found: list[tuple[str, str]]) -> None:
    assert found
    for where, text in found:
        at = text.find(PASSWORD)
        assert at < 0, f"the password is in {where}: …{text[max(0, at - 300) : at + 100]}…"


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────

WRONG_ADDRESSES = [
    "htp://user:{}@host/v1",
    "user:{}@host/v1",
    "https://user:{}@host:notaport/v1",
    "https://user:{}@host/v1",
    "http://{}@host/v1",
    "https://[u:{}@host/v1",
    "https://u:{}@/v1",
    "https://u:a?b{}@host:notaport",
    "https://u:a@b?c{}@host:notaport",
    "https://gw:{}@ höst.com /v1",
    "https://host/v1?key={}",
    "htp://host/v1?key={}",
    "htp://host/v1?key=a@{}",
    "https://host/v1#{}",
]


def the_address() -> str:  # a verbose traceback shows what stands in a line that fails, all of os.environ too
    return os.environ["ADDRESS"]


def the_key(make: Callable[[str], Any]) -> Any:
    return make(os.environ["PASSWORD"])


@pytest.mark.parametrize("how", ["argument", "environment", "adapter"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_a_password_in_an_address_that_is_refused_is_shown_nowhere(
    address: str, provider: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESSES[provider] if how == "environment" else "ADDRESS", address.format(PASSWORD))
    adapter = adapter_of(provider)
    make: dict[str, Callable[[], Any]] = {
        "argument": lambda: CreateAgent(provider, "m", api_key="k", base_url=the_address()),
        "environment": lambda: CreateAgent(provider, "m", api_key="k"),
        "adapter": lambda: adapter(api_key="k", base_url=the_address()),
    }
    found: list[tuple[str, str]] = []
    try:
        make[how]()
    except ConfigurationError as error:
        found.extend(printed(error))
    assert_hidden(found)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("htp://host/v1", "htp://host/v1"),
        ("htp://u:p@host/v1?a=1", "***@host/v1"),
        ("u:p/w@d@host", "***@host"),
        ("htp://u:p?w@host", "***"),
        ("htp://u:p#w@host/?q", "***"),
    ],
)
def test_an_error_repeats_of_an_address_what_no_password_is_in(address: str, shown: str) -> None:
    assert addresses.without_password(address) == shown


def test_an_address_that_is_fine_is_no_secret_any_more(server: ScriptedServer) -> None:
    agent = CreateAgent("openai", "m", api_key="k", base_url=server.openai_url)
    assert type(agent._settings.base_url) is str
    assert type(CreateAgent("ollama", "m", base_url=server.url)._repository.base_url) is str


def test_what_is_given_as_a_key_is_hidden_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    for make, kind in ((str.encode, "bytes"), (lambda key: [key], "list"), (lambda key: {key: 1}, "dict")):
        found: list[tuple[str, str]] = []
        try:
            CreateAgent("openai", "m", api_key=the_key(make))
        except ConfigurationError as error:
            found.extend([("message", str(error)), *printed(error)])
        assert_hidden(found)
        assert found[0][1] == f"api_key must be a string, not {kind}"
    assert as_secret(None) is None


def test_a_piece_of_a_secret_is_one() -> None:
    secret = Secret("sk-proj-" + "a1b2c3d4" * 19)
    # rich and others show the beginning of a long string.
    assert repr((secret[:80], secret[3], secret[-1:])) == "(***, ***, ***)"
    assert (secret[:7], secret[3]) == ("sk-proj", "p")
    assert pretty([secret[:80]]) == "[***]"


# ── a proxy ──────────────────────────────────────────────────────────────────────────────────────────────


async def refuse(exchange: Exchange) -> None:
    await exchange.reply(b"no", "407 Proxy Authentication Required")


async def hang_up(exchange: Exchange) -> None:
    exchange.close()


async def hang_up_in_mid_stream(exchange: Exchange) -> None:
    await exchange.begin()
    exchange.close()


async def be_silent(exchange: Exchange) -> None:
    await exchange.stall()


def by_way_of(proxy: str, patch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        patch.setenv(name, proxy)
        patch.setenv(name.lower(), proxy)
    patch.setenv("NO_PROXY", "elsewhere.invalid")
    patch.setenv("no_proxy", "elsewhere.invalid")


def asked(provider: str, origin: str) -> list[tuple[str, str]]:
    """What an error shows of a turn that fails; and its type and message."""
    found: list[tuple[str, str]] = []

    async def turn() -> None:
        address = f"{origin}/v1" if provider == "openai" else origin
        agent = CreateAgent(
            provider, "m", api_key="k", base_url=address, timeout_s=0.5, max_retries=0, recorder=MetricsRecorder()
        )
        try:
            await (await agent.chat("Hello"))
        except errors.CreateAgentsError as error:
            found.extend([(type(error).__name__, str(error)), *printed(error)])

    asyncio.run(turn())
    return found


@pytest.mark.parametrize("serve", [refuse, hang_up, hang_up_in_mid_stream, be_silent, None])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_password_of_a_proxy_is_in_no_error(
    provider: str, scheme: str, serve: Serve | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(provider, serve or refuse) as proxy:
        if serve is not None:
            proxy.listen()
        by_way_of(proxy.origin.replace("//", f"//user:{PASSWORD}@"), monkeypatch)
        found = asked(provider, f"{scheme}://far-away.invalid")
    assert_hidden(found)
    assert issubclass(getattr(errors, found[0][0]), ProviderError)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_was_said_below_an_error_is_still_said(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a summary in place of the exception of the HTTP library."""
    with FaultServer(provider, hang_up) as proxy:
        proxy.listen()
        by_way_of(proxy.origin, monkeypatch)

        async def turn() -> BaseException:
            made = adapter_of(provider)(base_url="http://far-away.invalid", api_key="k", max_retries=0)
            return (await round_trip(made)).failure

        error = asyncio.run(turn())
    assert isinstance(error, ProviderConnectionError)
    assert error.__traceback__ is not None
    assert isinstance(error.__cause__, TransportError)
    assert str(error.__cause__) == "ServerDisconnectedError: Server disconnected"
    assert error.__cause__.__traceback__ is None


@pytest.mark.parametrize(
    ("provider", "proxy"),
    [
        ("openai", f"http://user:{PASSWORD}@127.0.0.1:port"),
        ("ollama", f"http://user:{PASSWORD}@127.0.0.1:port"),
        ("openai", f"http://user:{PASSWORD}@[::1"),
        ("ollama", f"http://user:{PASSWORD}@[::1"),
        ("ollama", f"ftp://user:{PASSWORD}@127.0.0.1:1"),
        ("openai", f"socks5://user:{PASSWORD}@127.0.0.1:1"),
        ("ollama", f"socks5://user:{PASSWORD}@127.0.0.1:1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_setting_to_mend(
    provider: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_way_of(proxy, monkeypatch)
    monkeypatch.setitem(sys.modules, "aiohttp_socks", None)
    found = asked(provider, "http://far-away.invalid")
    assert_hidden(found)
    (kind, message) = found[0]
    assert kind == "ConfigurationError"
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http://proxy:3128", "NO_PROXY"):
        assert word in message
    assert ("createagents-nb[socks]" in message) == proxy.startswith("socks5")


def test_a_proxy_that_cannot_be_used_is_a_setting_to_mend_in_a_program_too() -> None:
    done = run_script(
        """
        import asyncio, traceback
        from createagents_nb import CreateAgent
        agent = CreateAgent("ollama", "m", base_url="http://far-away.invalid", max_retries=0)
        async def main():
            await (await agent.chat("Hello"))
        try:
            asyncio.run(main())
        except Exception as error:
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            print(type(error).__name__, "".join(shown.format()))
        """,
        HTTP_PROXY=f"http://user:{PASSWORD}@127.0.0.1:port",
        NO_PROXY="",
    )
    assert done.stdout.startswith("ConfigurationError"), done.stderr
    assert PASSWORD not in done.stdout + done.stderr


# ── keys in config["extra"] ──────────────────────────────────────────────────────────────────────────────


def extras() -> dict[str, Any]:
    return {
        "api_key": os.environ["CANARY"],
        "extra_headers": {"Authorization": f"Bearer {os.environ['CANARY']}"},
        "options": {"cookies": 3, "accessToken": [os.environ["CANARY"]], "seed": 7},
    }


async def repeat_extra(exchange: Exchange) -> None:
    key = exchange.request.json["api_key"]
    await exchange.json({"error": {"message": f"wrong key {key}", "param": {key: key}}}, "401 Unauthorized")


async def repeat_extra_and_go_on(exchange: Exchange) -> None:
    await exchange.reply(b"".join(said(exchange.provider, f"You sent {exchange.request.json['api_key']}.")))


EXTRA_RUNS = [repeat_extra, repeat_extra_and_go_on, hang_up, hang_up_in_mid_stream, be_silent]


@pytest.mark.parametrize("serve", EXTRA_RUNS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_in_extra_is_sent_and_shown_nowhere(
    provider: str, stream: bool, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    recorder = MetricsRecorder()
    found: list[tuple[str, str]] = []

    async def turn(origin: str) -> None:
        agent = CreateAgent(
            provider,
            "m",
            base_url=f"{origin}/v1" if provider == "openai" else origin,
            api_key="k",
            timeout_s=0.5,
            max_retries=0,
            recorder=recorder,
            config={"stream": stream, "extra": extras()},
        )
        response = await agent.chat("Hello")
        try:
            await response
        except errors.ProviderError as error:
            found.extend(printed(error))
        if serve is not repeat_extra_and_go_on:  # what is said stands in the response as it is
            found.extend(kept(response, recorder, tmp_path))
        found.extend((name, getattr(recorder, name).to_csv()) for name in ("calls", "requests"))
        found.append(("agent", f"{agent!r} {agent.get_configs()} {vars(agent)} {agent._agent!r}"))
        agent.save(tmp_path / "talk.json")
        if serve is not repeat_extra_and_go_on:
            found.append(("file", (tmp_path / "talk.json").read_text()))

    with FaultServer(provider, serve) as server:
        server.listen()
        asyncio.run(turn(server.origin))
    sent = server.requests[0].json
    assert (sent["api_key"], sent["options"]["accessToken"]) == (CANARY, [CANARY])
    assert sent["extra_headers"] == {"Authorization": f"Bearer {CANARY}"}
    for where, text in found:
        assert_clean(text, where)
    with pytest.raises(ConfigurationError, match="A key stood in config"):
        CreateAgent.load(tmp_path / "talk.json")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.asyncio
async def test_a_key_in_extra_goes_through_a_client_of_ones_own(server: ScriptedServer, stream: bool) -> None:
    config = validate_config(
        {"stream": stream, "extra": {"api_key": CANARY, "options": {"secret": CANARY}}},
        provider="openai",
        unsupported={},
    )
    assert CANARY not in repr(config)
    server.on("*", json_reply({"error": "no"}, "400 Bad Request"))
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        await round_trip(OpenAIChatAdapter(client=client), **config)
    async with ollama.AsyncClient(host=server.url) as other:
        await round_trip(OllamaChatAdapter(client=other), **config)
    bodies = [request.json for request in server.requests]
    assert [(body["api_key"], body["options"]["secret"]) for body in bodies] == [(CANARY, CANARY)] * 2


def test_a_word_of_a_header_is_masked_without_its_scheme() -> None:
    validate_config({"extra": {"headers": {"Authorization": "Custom q1w2e3r4t5y6"}}}, provider="x", unsupported={})
    assert mask_keys("it was q1w2e3r4t5y6") == "it was ***"


@pytest.mark.parametrize("kind", [{"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}])
def test_a_schema_of_something_called_a_key_is_no_key(kind: dict[str, Any]) -> None:
    words = "The key under which the row is found, 1 to 99"
    schema = {"properties": {"key": {**kind, "description": words, "enum": ["abcdefgh1234567"]}}}
    config = validate_config({"extra": {"response_format": schema}}, provider="x", unsupported={})
    assert "***" not in repr(config)
    assert mask_keys(words) == words


@pytest.mark.parametrize("name", ["api_key", "X-API-Key", "Authorization", "accessToken", "client_secret"])
def test_a_name_says_that_it_is_a_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert not any(map(is_secret_name, ("max_tokens", "user", "seed", "keyed", 3, None)))
    assert not any(map(is_secret_name, ("prompt_cache_key", "eos_token", "stop-token")))


@pytest.mark.parametrize("serve", [hang_up, be_silent, repeat_extra])
@pytest.mark.parametrize("way", ["direct", "proxy"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_pickled_error_does_not_carry_the_request(
    provider: str, way: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask sends errors through the network, with all that is below them."""
    with FaultServer(provider, serve) as server:
        server.listen()
        if way == "proxy":
            by_way_of(server.origin, monkeypatch)

        async def turn() -> BaseException:
            url = f"{server.origin}/v1" if provider == "openai" else server.origin
            if way == "proxy":
                url = url.replace(server.origin, "http://far-away.invalid")
            made = adapter_of(provider)(base_url=url, api_key="k", max_retries=0, timeout_s=0.5)
            return (await round_trip(made, extra={"api_key": "a", "user": "somebody-in-the-body"})).failure

        error = asyncio.run(turn())
    assert server.requests
    pickling_support.install(error)
    assert b"somebody-in-the-body" not in pickle.dumps(error)


# ── a key where a server has no text to say ──────────────────────────────────────────────────────────────


def metadata(provider: str, key: str) -> Iterator[list[bytes]]:
    """Two replies that name nothing but the key: a call of a tool, and the answer."""
    if provider == "openai":
        call = {"index": 0, "id": key, "function": {"name": key, "arguments": "{}"}}
        yield sse(delta("x") | {"model": key}, delta(tool_calls=[call]), delta(finish="tool_calls"))
        yield sse(delta("x") | {"model": key}, delta(finish=key))
    else:
        asks = {"message": {"tool_calls": [{"id": key, "function": {"name": key, "arguments": {}}}]}, "model": key}
        yield ndjson(asks | {"done": True, "done_reason": "stop"})
        yield ndjson({"message": {"content": "x"}, "model": key, "done": True, "done_reason": key})


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_key_that_a_server_repeats_as_a_name_is_kept_nowhere(
    provider: str, server: ScriptedServer, tmp_path: Path
) -> None:
    for reply in metadata(provider, CANARY):
        server.enqueue(reply)
    recorder = MetricsRecorder()
    url = server.openai_url if provider == "openai" else server.url
    agent = CreateAgent(provider, "m", base_url=url, api_key=CANARY, tools=["currentdate"], recorder=recorder)
    response = await agent.chat("Hello")
    assert (await response).strip("x") == ""
    for where, text in kept(response, recorder, tmp_path):
        assert_clean(text, where)
    assert_clean(repr(agent.history), "history")
    assert CANARY not in server.requests[1].body.decode()
    assert recorder.requests["response_model"].tolist() == ["***", "***"]
    assert recorder.requests["finish_reason"].tolist()[1] == "***"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_key_among_the_models_is_masked(provider: str, server: ScriptedServer) -> None:
    server.on("*", json_reply({"data": [{"id": CANARY}], "models": [{"name": CANARY}]}))
    url = server.openai_url if provider == "openai" else server.url
    assert await CreateAgent(provider, "m", base_url=url, api_key=CANARY).models() == ["***"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_call_with_a_blank_id_gets_one(provider: str, server: ScriptedServer) -> None:
    """A talk with a blank one could not be loaded again."""
    reply = b"".join(next(metadata(provider, "zzz"))).replace(b'"id": "zzz"', b'"id": " "')
    server.enqueue([reply])
    (call,) = (await round_trip(adapter_of(provider)(base_url=server.openai_url, api_key="k"))).calls
    assert call.tool_call_id.startswith("call_")
