"""What a malicious server may do is bounded, in memory and in time, and it gets no key that is not its own."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from family import Trip, eventually, round_trip
from fault_server import Exchange, FaultServer, Serve, certificate, trusting

from createagents_nb.errors import (
    AuthenticationError,
    CreateAgentsError,
    InvalidRequestError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ServerError,
)
from createagents_nb.providers import reply_decoder
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

pytestmark = pytest.mark.once

PROVIDERS = ["openai", "ollama"]
KEY = "zz-very-secret-0123456789"
MB = 2**20
BOUND_S = 30.0
"""For a test that must not hang; what is bounded ends in a second or so."""


def adapter_of(provider: str, origin: str, **more: Any) -> OpenAIChatAdapter | OllamaChatAdapter:
    more = {"max_retries": 0, "api_key": KEY, "timeout_s": 20.0} | more
    if provider == "openai":
        return OpenAIChatAdapter(base_url=f"{origin}/v1", **more)
    return OllamaChatAdapter(base_url=origin, **more)


def asked(provider: str, serve: Serve, **more: Any) -> tuple[Trip, FaultServer]:
    """What comes of one request, and the server that answered it, which its client must have left."""
    with FaultServer(provider, serve) as server:
        server.listen()

        async def ask() -> Trip:
            async with asyncio.timeout(BOUND_S):
                return await round_trip(adapter_of(provider, server.origin, **more))

        trip = asyncio.run(ask())
    return trip, server


def failed(provider: str, serve: Serve, **more: Any) -> ProviderError:
    error = asked(provider, serve, **more)[0].failure
    assert isinstance(error, ProviderError)
    assert len(str(error)) < 600
    return error


def peak_mb(work: Callable[[], Any]) -> float:
    """The most memory that Python held meanwhile, in MB, over what it held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return (tracemalloc.get_traced_memory()[1] - before) / MB
    finally:
        tracemalloc.stop()


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────


async def one_of_a_megabyte(exchange: Exchange) -> None:
    await exchange.reply(b"", x_padding="x" * MB)


async def ten_thousand(exchange: Exchange) -> None:
    await exchange.reply(b"", **{f"x_{number}": "x" for number in range(10_000)})


async def without_end(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        await exchange.send(b"x-%d: x\r\n" % number)


async def one_without_end(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nx-padding: ")
    while True:
        await exchange.send(b"x" * 1_000)


async def status_line_without_end(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 ")
    while True:
        await exchange.send(b"O" * 1_000)


async def garbage(exchange: Exchange) -> None:
    await exchange.send(bytes(range(256)) * 4)
    exchange.close()


async def impossible_status(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 99999 Over\r\n\r\n")
    exchange.close()


HEADERS: list[Serve] = [
    one_of_a_megabyte,
    ten_thousand,
    without_end,
    one_without_end,
    status_line_without_end,
    garbage,
    impossible_status,
]


@pytest.mark.parametrize("serve", HEADERS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_headers_are_bounded(provider: str, serve: Serve) -> None:
    failures: list[ProviderError] = []
    assert peak_mb(lambda: failures.append(failed(provider, serve))) < 64
    assert isinstance(failures[0], ProtocolError | ProviderConnectionError)
    assert not isinstance(failures[0], ProviderTimeoutError)


@pytest.mark.parametrize("drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_head_that_never_comes_though_bytes_do_is_a_timeout(provider: str, drop: bytes) -> None:
    async def serve(exchange: Exchange) -> None:
        while True:
            await exchange.send(drop)
            await asyncio.sleep(0.01)

    assert type(failed(provider, serve, timeout_s=0.2)) is ProviderTimeoutError


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_head_that_comes_byte_by_byte_is_a_timeout(provider: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            await exchange.send(b"x")
            await asyncio.sleep(0.01)

    assert type(failed(provider, serve, timeout_s=0.2)) is ProviderTimeoutError


@pytest.mark.parametrize("provider", PROVIDERS)
def test_cookies_are_not_kept(provider: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.answer("fine", set_cookie="track=me; Path=/")

    with FaultServer(provider, serve) as server:
        server.listen()

        async def ask() -> None:
            adapter = adapter_of(provider, server.origin)
            for _ in range(2):
                assert (await round_trip(adapter)).text == "fine"

        asyncio.run(ask())
    assert all("cookie" not in request.headers for request in server.requests)


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────


async def without_newline(exchange: Exchange) -> None:
    await exchange.head()
    while True:
        await exchange.send(b"x" * 65_536)


async def zeros(exchange: Exchange) -> None:
    await exchange.head()
    while True:
        await exchange.send(b"\x00" * 65_536)


async def bomb(exchange: Exchange) -> None:
    """A megabyte that unpacks to a gigabyte."""
    await exchange.head(content_encoding="gzip")
    await exchange.send(packed_gigabyte())
    exchange.close()


async def deflate_bomb(exchange: Exchange) -> None:
    await exchange.head(content_encoding="deflate")
    await exchange.send(zlib.compress(b"x" * 64 * MB))
    exchange.close()


_packed: list[bytes] = []


def packed_gigabyte() -> bytes:
    if not _packed:
        member = gzip.compress(b"\x00" * 64 * MB)
        _packed.append(member * 16)
    return _packed[0]


@pytest.mark.parametrize("serve", [without_newline, zeros, bomb, deflate_bomb])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_body_without_an_end_is_bounded(
    provider: str, stream: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_decoder, "MAX_REPLY_BYTES", 48 * MB)  # the same in less time

    async def ask(origin: str) -> Trip:
        async with asyncio.timeout(BOUND_S):
            return await round_trip(adapter_of(provider, origin), stream=stream)

    trips: list[Trip] = []
    packed_gigabyte()
    with FaultServer(provider, serve) as server:
        server.listen()
        peak = peak_mb(lambda: trips.append(asyncio.run(ask(server.origin))))
    assert isinstance(trips[0].failure, ProviderError)
    assert peak < 250


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "503 Service Unavailable"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_page_that_explains_an_error_is_read_up_to_a_megabyte(
    provider: str, is_packed: bool, status: str
) -> None:
    sent = 0

    async def serve(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(
            status, content_type="text/plain", **({"content_encoding": "gzip"} if is_packed else {})
        )
        if is_packed:
            await exchange.send(packed_gigabyte())
            return
        while True:
            await exchange.send(b"because " * 8_192)
            sent += 65_536

    failures: list[ProviderError] = []
    packed_gigabyte()
    assert peak_mb(lambda: failures.append(failed(provider, serve))) < 64
    assert isinstance(failures[0], InvalidRequestError | AuthenticationError | ServerError)
    assert sent < 32 * MB  # what the sockets hold, and no gigabyte


def moves(block: bytes, pause_s: float = 0.0) -> Serve:
    """Redirects, with a body of such blocks that has no end, and answers there."""

    async def serve(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.answer("fine")
            return
        await exchange.head("307 Temporary Redirect", location="/moved")
        while True:
            await exchange.send(block)
            await asyncio.sleep(pause_s)

    return serve


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_body_of_a_redirect_is_not_read_without_end(provider: str) -> None:
    assert asked(provider, moves(b"x" * 65_536))[0].text == "fine"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_list_of_models_without_an_end_is_an_error(provider: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"data": [')
            while True:
                writer.write(b'{"id": "m"}, ' * 5_000)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(BOUND_S):
            origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(CreateAgentsError):
                await adapter_of(provider, origin).models()

    asyncio.run(ask())


# ── redirects ────────────────────────────────────────────────────────────────────────────────────────────

MOVED = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Another server: its port, and the heads of the requests that came to it."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield str(server.sockets[0].getsockname()[1]), heads


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("status", MOVED)
@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_redirect_to_another_server_never_carries_the_key(
    provider: str, is_tls: bool, status: str, host: str
) -> None:
    """Another port, another host, or the same name without TLS."""
    ports: list[str] = []

    async def serve(exchange: Exchange) -> None:
        await exchange.reply(b"", status, location=f"http://{host}:{ports[0]}/take")

    async def ask(origin: str) -> tuple[Trip, list[bytes]]:
        async with elsewhere() as (port, heads), asyncio.timeout(BOUND_S):
            ports.append(port)
            return await round_trip(adapter_of(provider, origin)), heads

    with trusting(), FaultServer(provider, serve, tls=certificate("localhost") if is_tls else None) as server:
        server.listen()
        trip, heads = asyncio.run(ask(server.origin))
    assert isinstance(trip.failure, InvalidRequestError)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert len(heads) == 1
    assert KEY.encode() not in heads[0]
    assert b"authorization" not in heads[0].lower()


# ── on every way, and slowly ──────────────────────────────────────────────────────────────────────────

WAYS = ["openai", "ollama", "openai with headers", "openai by proxy", "ollama by proxy"]


@contextmanager
def served(
    way: str, serve: Serve, **more: Any
) -> Iterator[tuple[OpenAIChatAdapter | OllamaChatAdapter, FaultServer]]:
    """An adapter that reaches the server directly or by a proxy, or with headers of the environment."""
    provider = way.split()[0]
    with FaultServer(provider, serve) as server, pytest.MonkeyPatch.context() as patch:
        server.listen()
        origin = server.origin
        if way.endswith("headers"):
            patch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: data")
        if way.endswith("proxy"):
            origin = "http://far-away.invalid"
            for upper, value in (("HTTP_PROXY", server.origin), ("NO_PROXY", "elsewhere.invalid")):
                patch.setenv(upper, value)
                patch.setenv(upper.lower(), value)
        yield adapter_of(provider, origin, **more), server


async def bounded(adapter: OpenAIChatAdapter | OllamaChatAdapter) -> Trip:
    async with asyncio.timeout(BOUND_S):
        return await round_trip(adapter)


async def hints_for_ever(exchange: Exchange) -> None:
    while True:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.01)


async def head_by_the_byte(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await exchange.send(b"x")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("serve", [hints_for_ever, head_by_the_byte])
@pytest.mark.parametrize("way", WAYS)
def test_a_head_without_an_end_is_a_timeout_on_every_way(way: str, serve: Serve) -> None:
    with served(way, serve, timeout_s=0.2) as (adapter, _):
        assert type(asyncio.run(bounded(adapter)).failure) is ProviderTimeoutError


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
@pytest.mark.parametrize("way", WAYS)
def test_a_page_that_explains_an_error_by_the_byte_is_read_as_far_as_it_came(way: str, status: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.head(status, content_type="text/plain")
        await exchange.send(b"because ")
        while True:
            await exchange.send(b"x")
            await asyncio.sleep(0.01)

    with served(way, serve, timeout_s=0.3) as (adapter, _):
        failure = asyncio.run(bounded(adapter)).failure
    assert isinstance(failure, InvalidRequestError | ServerError)
    assert "because x" in str(failure)


@pytest.mark.parametrize("way", WAYS)
def test_a_page_that_falls_silent_is_read_as_far_as_it_came(way: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.head("400 Bad Request", content_type="text/plain")
        await exchange.send(b"because ")
        await exchange.stall()

    with served(way, serve, timeout_s=0.3) as (adapter, _):
        failure = asyncio.run(bounded(adapter)).failure
    assert type(failure) is InvalidRequestError
    assert "because" in str(failure)


@pytest.mark.parametrize("way", WAYS)
def test_the_body_of_a_redirect_by_the_byte_is_not_waited_for(way: str) -> None:
    with served(way, moves(b"x", 0.01), timeout_s=0.3) as (adapter, _):
        assert asyncio.run(bounded(adapter)).text == "fine"


@pytest.mark.parametrize("status", ["400 Bad Request", "307 Temporary Redirect"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_answer_is_read_up_to_a_megabyte_on_every_way(way: str, is_packed: bool, status: str) -> None:
    sent = 0

    async def serve(exchange: Exchange) -> None:
        nonlocal sent
        if exchange.number > 1:
            await exchange.answer("fine")
            return
        headers = {"content_encoding": "gzip"} if is_packed else {}
        await exchange.head(status, location="/moved", content_type="text/plain", **headers)
        if is_packed:
            await exchange.send(packed_gigabyte())
            exchange.close()
        while not is_packed:
            await exchange.send(b"because " * 8_192)
            sent += 65_536

    packed_gigabyte()
    trips: list[Trip] = []
    with served(way, serve) as (adapter, _):
        assert peak_mb(lambda: trips.append(asyncio.run(bounded(adapter)))) < 64
    assert trips[0].text == "fine" if status[0] == "3" else isinstance(trips[0].failure, InvalidRequestError)
    assert sent < 32 * MB


@pytest.mark.parametrize("way", WAYS)
def test_cookies_are_kept_on_no_way(way: str) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.answer("fine", set_cookie="track=me; Path=/")

    async def ask() -> None:
        assert [(await bounded(adapter)).text for _ in range(2)] == ["fine", "fine"]

    with served(way, serve) as (adapter, server):
        asyncio.run(ask())
    assert len(server.requests) == 2
    assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_sent_unasked_behind_a_reply_is_no_answer_to_the_next_request(way: str, is_busy: bool) -> None:
    finished = threading.Event()
    sent = threading.Event()

    async def serve(exchange: Exchange) -> None:
        await exchange.answer("mine")
        if exchange.number == 1:
            while not finished.is_set():  # noqa: ASYNC110 - set in another thread
                await asyncio.sleep(0.002)
            await exchange.answer("not mine")
            sent.set()

    async def ask() -> None:
        assert (await bounded(adapter)).text == "mine"
        finished.set()
        if is_busy:
            assert sent.wait(BOUND_S)  # the loop has not come to what was sent
        await eventually(sent.is_set)
        assert (await bounded(adapter)).text == "mine"

    with served(way, serve) as (adapter, server):
        asyncio.run(ask())
    assert len(server.requests) == 2


@pytest.mark.parametrize("location", ["http://user:pass@127.0.0.1:1/", "http://a..b/", f"http://{'a' * 64}.test/"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_redirect_to_what_is_no_address_is_a_typed_error(provider: str, location: str) -> None:
    async def serve(exchange: Exchange) -> None:
        where = location.replace(":1/", f":{exchange.server.port}/")
        await exchange.reply(b"", "307 Temporary Redirect", location=where)

    failure = failed(provider, serve)
    assert type(failure) is ProtocolError
    assert "redirects to nowhere" in str(failure)
    assert "pass" not in str(failure)


@pytest.mark.parametrize("way", WAYS)
def test_a_list_of_models_by_the_byte_is_a_typed_error(way: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as running, asyncio.timeout(BOUND_S):
            origin = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
            if way.endswith("proxy"):
                for name in ("HTTP_PROXY", "http_proxy"):
                    patch.setenv(name, origin)
                for name in ("NO_PROXY", "no_proxy"):
                    patch.setenv(name, "elsewhere.invalid")
                origin = "http://far-away.invalid"
            with pytest.raises(ProviderTimeoutError):
                await adapter_of(way.split()[0], origin, timeout_s=0.3).models()

    with pytest.MonkeyPatch.context() as patch:
        if way.endswith("headers"):
            patch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: data")
        asyncio.run(ask())
