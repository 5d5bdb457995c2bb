"""The way to a server and back: refused, late, lost, tried again; one pool an endpoint, nothing left open."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import ollama
import openai
import pytest
import trustme
from family import Reply, ScriptedServer, delta, json_reply, ndjson, round_trip, sse

from createagents_nb import CreateAgent, errors
from createagents_nb.core.events import Event
from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import (
    ConfigurationError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ServerError,
)
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.providers import http_client
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter
from createagents_nb.providers.transport_errors import ForeignError

Adapter = OpenAIChatAdapter | OllamaChatAdapter
PROVIDERS = ["openai", "ollama"]
SAYS = {"message": {"role": "assistant", "content": "so far"}, "done": False}
END = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
HELLO = ChatRequest("m", [Message("user", "Hello")])
QUICKLY = {"retry-after-ms": "1", "retry-after": "0.001"}


def adapter_of(provider: str, url: str, **more: Any) -> Adapter:
    more = {"max_retries": 0} | more
    if provider == "openai":
        return OpenAIChatAdapter(base_url=f"{url}/v1", **more)
    return OllamaChatAdapter(base_url=url, **more)


def begun(provider: str) -> list[bytes]:
    return sse(delta("so far"), done=False) if provider == "openai" else ndjson(SAYS)


def whole(provider: str, tokens: int = 1) -> list[bytes]:
    if provider == "openai":
        return sse(*[delta("so far")] * tokens, delta(finish="stop"))
    return ndjson(*[SAYS] * tokens, END)


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncGenerator[str, None]:
    """A server below HTTP: it has read the request when ``serve`` is called."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await serve(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# ── refused, late, lost ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_nobody_listens(provider: str) -> None:
    adapter = adapter_of(provider, "http://127.0.0.1:1")
    failure = (await round_trip(adapter)).failure
    assert type(failure) is ProviderConnectionError
    assert (failure.provider, failure.status_code) == (provider, None)
    assert "127.0.0.1:1" in str(failure)
    assert ("`ollama serve`" if provider == "ollama" else "Check the network and base_url") in str(failure)
    with pytest.raises(ProviderConnectionError):
        await adapter.models()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_host_that_does_not_exist(provider: str) -> None:
    failure = (await round_trip(adapter_of(provider, "http://no-such-host.invalid"))).failure
    assert type(failure) is ProviderConnectionError
    assert "no-such-host.invalid" in str(failure)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_server_that_never_answers_times_out(provider: str) -> None:
    left = asyncio.Event()

    async def be_silent(writer: asyncio.StreamWriter) -> None:
        await left.wait()
        writer.close()

    async with listening(be_silent) as url:
        failure = (await round_trip(adapter_of(provider, url, timeout_s=0.1))).failure
        left.set()
    assert type(failure) is ProviderTimeoutError
    assert "raise timeout_s" in str(failure)
    assert (failure.provider, failure.status_code) == (provider, None)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_stream_that_stops_times_out_and_keeps_its_text(server: ScriptedServer, provider: str) -> None:
    never = threading.Event()
    server.enqueue([*begun(provider), never])
    trip = await round_trip(adapter_of(provider, server.url, timeout_s=0.1))
    assert type(trip.error) is ProviderTimeoutError
    assert trip.text == "so far"


@pytest.mark.parametrize("head", [b"content-length: 9999\r\n", b"transfer-encoding: chunked\r\n"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_connection_lost_in_mid_stream_keeps_the_text(provider: str, head: bytes) -> None:
    async def begin_and_leave(writer: asyncio.StreamWriter) -> None:
        body = b"".join(begun(provider))
        if b"chunked" in head:
            body = b"%x\r\n%s\r\n" % (len(body), body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
        await writer.drain()
        writer.close()

    async with listening(begin_and_leave) as url:
        trip = await round_trip(adapter_of(provider, url))
    assert trip.text == "so far"
    assert type(trip.error) is ProviderConnectionError
    assert "before the answer was complete" in str(trip.error)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH\r\n"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_server_that_hangs_up_or_speaks_something_else(provider: str, answer: bytes) -> None:
    async def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with listening(hang_up) as url:
        failure = (await round_trip(adapter_of(provider, url))).failure
    assert isinstance(failure, ProviderConnectionError | errors.ProtocolError)
    assert not isinstance(failure, ProviderTimeoutError)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_redirect_without_end_is_an_error_of_ours(server: ScriptedServer, provider: str) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        server.on(path, Reply([], "307 Temporary Redirect", {"location": path}))
    assert isinstance((await round_trip(adapter_of(provider, server.url))).failure, ProviderError)


# ── tried again ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_request_that_was_refused_for_now_is_sent_again_and_counted(
    server: ScriptedServer, provider: str, status: str
) -> None:
    server.enqueue(json_reply({"error": "busy"}, status, **QUICKLY))
    server.enqueue(Reply(whole(provider)))
    trip = await round_trip(adapter_of(provider, server.url, max_retries=2))
    assert (trip.text, trip.end.retries) == ("so far", 1)
    assert len(server.requests) == 2
    assert server.requests[0].json == server.requests[1].json


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_request_is_sent_again_max_retries_times(
    server: ScriptedServer, provider: str, retries: int
) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        server.on(path, json_reply({"error": "busy"}, "503 Service Unavailable", **QUICKLY))
    failure = (await round_trip(adapter_of(provider, server.url, max_retries=retries))).failure
    assert type(failure) is ServerError
    assert len(server.requests) == retries + 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_what_will_not_get_better_is_not_sent_again(server: ScriptedServer, provider: str) -> None:
    for status in ("400 Bad Request", "401 Unauthorized", "422 Unprocessable Entity"):
        server.enqueue(json_reply({"error": "no"}, status))
        await round_trip(adapter_of(provider, server.url, max_retries=2))
    assert len(server.requests) == 3


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_nothing_is_sent_again_after_the_first_token(server: ScriptedServer, provider: str) -> None:
    server.enqueue(begun(provider))
    trip = await round_trip(adapter_of(provider, server.url, max_retries=2))
    assert trip.text == "so far"
    assert trip.error is not None
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_retries_are_recorded(server: ScriptedServer) -> None:
    recorder = MetricsRecorder()
    server.enqueue(json_reply({"error": "busy"}, "503 Service Unavailable", **QUICKLY))
    server.enqueue(whole("openai"))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
    assert await (await agent.chat("Hello")) == "so far"
    assert recorder.requests["retries"].tolist() == [1]


# ── errors of the SDK ────────────────────────────────────────────────────────────────────────────────────

EXPECTED: dict[str, type[ProviderError]] = {
    "OpenAIError": ProviderError,
    "APIError": ProviderError,
    "APIResponseValidationError": errors.ProtocolError,
    "APIStatusError": ServerError,
    "APIConnectionError": ProviderConnectionError,
    "APITimeoutError": ProviderTimeoutError,
    "BadRequestError": errors.InvalidRequestError,
    "AuthenticationError": errors.AuthenticationError,
    "OAuthError": errors.AuthenticationError,
    "PermissionDeniedError": errors.AuthenticationError,
    "NotFoundError": errors.InvalidRequestError,
    "ConflictError": errors.InvalidRequestError,
    "UnprocessableEntityError": errors.InvalidRequestError,
    "RateLimitError": errors.RateLimitError,
    "InternalServerError": ServerError,
    "LengthFinishReasonError": ProviderError,
    "ContentFilterFinishReasonError": ProviderError,
    "WebSocketConnectionClosedError": ProviderError,
    "WebSocketQueueFullError": ProviderError,
}
# Raised by `client.webhooks` alone; it is no OpenAIError either.
NOT_OURS = {"InvalidWebhookSignatureError"}


def exceptions_of_the_sdk() -> dict[str, type[Exception]]:
    exported = {name: getattr(openai, name) for name in openai.__all__}
    return {
        name: found for name, found in exported.items() if isinstance(found, type) and issubclass(found, Exception)
    }


def test_every_exception_that_the_sdk_exports_is_mapped_on_purpose() -> None:
    assert set(exceptions_of_the_sdk()) == set(EXPECTED) | NOT_OURS


async def failure_of(raised: BaseException) -> BaseException:
    """What comes of it when a client of the SDK raises this."""

    async def post(*_: object, **__: object) -> None:
        raise raised

    async with openai.AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="key-1234") as client:
        client.post = post  # type: ignore[method-assign, assignment]
        events = OpenAIChatAdapter(client=client).round_trip(HELLO)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            await anext(events)
    if not isinstance(caught.value, ProviderError):
        raise caught.value
    return caught.value


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.asyncio
async def test_an_exception_of_the_sdk_comes_out_as_ours(name: str) -> None:
    kind = exceptions_of_the_sdk()[name]
    request = httpx2.Request("POST", "http://127.0.0.1:1/v1/chat/completions")
    raised = kind.__new__(kind)
    statuses = {
        "BadRequestError": 400,
        "AuthenticationError": 401,
        "OAuthError": 401,
        "PermissionDeniedError": 403,
    }
    statuses |= {
        "NotFoundError": 404,
        "ConflictError": 409,
        "UnprocessableEntityError": 422,
        "RateLimitError": 429,
    }
    if issubclass(kind, openai.APIStatusError | openai.APIResponseValidationError):
        status = statuses.get(name, 500)
        raised.response = httpx2.Response(status, request=request, text="hm")  # type: ignore[attr-defined]
        raised.status_code, raised.body = status, None  # type: ignore[attr-defined]
    failure = await failure_of(raised)
    assert type(failure) is EXPECTED[name]
    assert failure.provider == "openai"
    assert failure.__context__ is None
    # A reply is told by its status; of anything else a summary is chained.
    if not issubclass(kind, openai.APIStatusError):
        assert isinstance(failure.__cause__, ForeignError)
        assert str(failure.__cause__).partition(":")[0] == name


@pytest.mark.asyncio
async def test_what_is_no_error_of_a_provider_passes_through() -> None:
    for raised in (asyncio.CancelledError(), KeyError("a bug"), errors.ConfigurationError("wrong")):
        with pytest.raises(type(raised)) as caught:
            await failure_of(raised)
        assert caught.value is raised


# ── no SDK object a chunk ────────────────────────────────────────────────────────────────────────────────


async def calls_into_the_sdks(work: Coroutine[Any, Any, Any]) -> int:
    """Python calls made in openai, ollama and pydantic while ``work`` runs."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if event == "call" and frame.f_globals.get("__name__", "").partition(".")[0] in (
            "openai",
            "ollama",
            "pydantic",
        ):
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        await work
    finally:
        sys.setprofile(before)
    return count


def sdk_objects() -> list[Any]:
    models = (openai.types.chat.ChatCompletionChunk, ollama.ChatResponse)
    return [known for known in gc.get_objects() if type(known) in models]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_the_sdk_does_nothing_for_a_chunk(server: ScriptedServer, provider: str) -> None:
    adapter = adapter_of(provider, server.url)
    server.enqueue(whole(provider))
    await round_trip(adapter)  # imports, the client and the connection pool
    others = sdk_objects()  # of other tests
    counts = []
    for tokens in (5, 500):
        server.enqueue([b"".join(whole(provider, tokens))])
        counts.append(await calls_into_the_sdks(round_trip(adapter)))
    assert counts[1] - counts[0] < 50  # some for a block of bytes, none for a chunk
    assert not [made for made in sdk_objects() if not any(made is other for other in others)]


@pytest.mark.asyncio
async def test_the_measure_sees_what_the_sdks_own_streams_do(server: ScriptedServer) -> None:
    async def openai_stream() -> None:
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k") as client:
            stream = await client.chat.completions.create(model="m", messages=[], stream=True)
            assert len([chunk async for chunk in stream]) > 5

    async def ollama_stream() -> None:
        async with ollama.AsyncClient(host=server.url) as client:
            assert len([chunk async for chunk in await client.chat("m", [], stream=True)]) > 5

    for provider, stream in (("openai", openai_stream), ("ollama", ollama_stream)):
        counts = []
        for tokens in (5, 500):
            server.enqueue(whole(provider, tokens))
            counts.append(await calls_into_the_sdks(stream()))
        assert counts[1] - counts[0] > 495


# ── one client an endpoint, nothing left open ────────────────────────────────────────────────────────────


async def pool_of(adapter: Adapter) -> Any:
    transport: Any = await adapter._transport()
    return transport.client


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_agents_of_one_endpoint_share_one_connection_pool(server: ScriptedServer, provider: str) -> None:
    first = adapter_of(provider, server.url, api_key="key-1111", timeout_s=1)
    second = adapter_of(provider, server.url, api_key="key-2222", timeout_s=2)
    with ScriptedServer() as other:
        assert await pool_of(first) is await pool_of(second)
        assert await pool_of(first) is not await pool_of(adapter_of(provider, other.url))
    for adapter, key in ((first, "key-1111"), (second, "key-2222"), (first, "key-1111")):
        server.enqueue(whole(provider))
        await round_trip(adapter)
        assert server.requests[-1].headers["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_adapter_serves_one_event_loop_after_the_other(server: ScriptedServer, provider: str) -> None:
    adapter = adapter_of(provider, server.url)
    for _ in range(3):
        server.enqueue(whole(provider))
        assert asyncio.run(round_trip(adapter)).text == "so far"


def test_a_pool_is_closed_with_its_event_loop(server: ScriptedServer) -> None:
    async def talk() -> Any:
        server.enqueue(whole("openai"))
        adapter = adapter_of("openai", server.url)
        await round_trip(adapter)
        return await pool_of(adapter)

    assert asyncio.run(talk()).is_closed


def test_one_tls_context_serves_all() -> None:
    context = http_client.tls_context()
    assert context is http_client.tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_certificates_come_from_the_variables_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def count() -> int:
        http_client.reset()
        return http_client.tls_context().cert_store_stats()["x509_ca"]

    try:
        with trustme.CA().cert_pem.tempfile() as file:
            monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
            monkeypatch.setenv("SSL_CERT_FILE", file)
            assert count() == 1
        monkeypatch.delenv("SSL_CERT_FILE")
        assert count() == 0
    finally:
        http_client.reset()


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "broken"])
@pytest.mark.asyncio
async def test_a_file_of_certificates_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "certificates.pem"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" if kind == "broken" else ""
        )
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    http_client.reset()
    try:
        with pytest.raises(
            ConfigurationError, match=r"SSL_CERT_FILE names '.*certificates\.pem', which (cannot|has)"
        ):
            await adapter_of("openai", "https://127.0.0.1:1").models()
    finally:
        http_client.reset()


async def connections_reach(server: ScriptedServer, count: int) -> None:
    async with asyncio.timeout(10):
        while server.open_connections != count:  # noqa: ASYNC110 - counted on the server's thread
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_cancelled_turn_closes_its_connection(server: ScriptedServer, provider: str) -> None:
    server.enqueue([*begun(provider), threading.Event()])
    url = server.openai_url if provider == "openai" else server.url
    agent = CreateAgent(provider, "m", base_url=url, recorder=MetricsRecorder())
    response = await agent.chat("Hello")
    async for token in response:
        assert token == "so far"
        break
    assert server.open_connections == 1
    await response.aclose()
    assert (response.status, response.text) == ("cancelled", "so far")
    await connections_reach(server, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_reply_that_is_left_early_closes_its_connection(server: ScriptedServer, provider: str) -> None:
    server.enqueue([*begun(provider), threading.Event()])
    events: AsyncGenerator[Event, None] = adapter_of(provider, server.url).round_trip(HELLO)
    async with aclosing(events):
        assert await anext(events) == "so far"
    await connections_reach(server, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_many_replies_at_once_wait_for_no_connection(server: ScriptedServer, provider: str) -> None:
    go = threading.Event()
    adapter = adapter_of(provider, server.url)
    for _ in range(120):
        server.enqueue([*begun(provider), go, *whole(provider)])
    running = [asyncio.create_task(round_trip(adapter)) for _ in range(120)]
    await connections_reach(server, 120)
    go.set()
    assert {trip.text for trip in await asyncio.gather(*running)} == {"so farso far"}
    await connections_reach(server, 0)


SCRIPT = """
    import asyncio, sys
    from createagents_nb import CreateAgent

    async def main():
        agent = CreateAgent(sys.argv[1], "m", base_url=sys.argv[2], max_retries=0)
        print(await (await agent.chat("whole")))
        response = await agent.chat("left")
        async for token in response:
            print(token)
            break
        failed = await agent.chat("fails")
        await failed.wait()
        print(failed.status)

    asyncio.run(main(), debug=False)  # no notes about slow callbacks
"""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_program_ends_without_a_warning(server: ScriptedServer, provider: str) -> None:
    server.enqueue(whole(provider))
    server.enqueue([*begun(provider), threading.Event()])
    server.enqueue(json_reply({"error": "no"}, "400 Bad Request"))
    url = server.openai_url if provider == "openai" else server.url
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(SCRIPT), provider, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["so far", "so far", "error", ""]


FORK = """
    import asyncio, os, sys
    from createagents_nb import CreateAgent

    loop = asyncio.new_event_loop()
    agent = CreateAgent(sys.argv[1], "m", base_url=sys.argv[2], max_retries=0, timeout_s=20)

    async def talk():
        return await (await agent.chat("hello"))

    print(loop.run_until_complete(talk()))
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(loop.run_until_complete(talk()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_child_process_that_ends_takes_nothing_from_its_parent(server: ScriptedServer, provider: str) -> None:
    for _ in range(2):
        server.enqueue(whole(provider))
    url = server.openai_url if provider == "openai" else server.url
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK), provider, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == (["so", "far", "so", "far"], 0), done.stderr
