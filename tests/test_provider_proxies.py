"""Proxies of the environment: which is taken, by which way, and with which credentials."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from typing import Any

import pytest
from family import eventually, round_trip
from fault_server import Exchange, FaultServer, certificate, trusting
from proxy_server import Tunnels, tunnel

from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import ConfigurationError, ProviderConnectionError, ProviderTimeoutError
from createagents_nb.providers import http_client
from createagents_nb.providers.addresses import proxy_for
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

PROVIDERS = ["openai", "ollama"]
HELLO = ChatRequest("m", [Message("user", "Hello")])


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def adapter_of(provider: str, origin: str, **more: Any) -> OpenAIChatAdapter | OllamaChatAdapter:
    more = {"max_retries": 0, "api_key": "key-1234"} | more
    if provider == "openai":
        return OpenAIChatAdapter(base_url=f"{origin}/v1", **more)
    return OllamaChatAdapter(base_url=origin, **more)


async def be_fine(exchange: Exchange) -> None:
    await exchange.answer("fine")


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://box/v1", None),
        ({"http_proxy": "http://p:1"}, "http://box/v1", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://box/v1", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://box/v1", None),
        ({"https_proxy": "http://p"}, "https://box/v1", "http://p:80"),
        ({"all_proxy": "http://p:1"}, "https://box/v1", "http://p:1"),
        ({"all_proxy": "socks5://p"}, "http://box/v1", "socks5://p:1080"),
        ({"all_proxy": "http://p:1", "https_proxy": "http://q:2"}, "https://box/v1", "http://q:2"),
        ({"all_proxy": "http://p:1", "no_proxy": "box"}, "https://box/v1", None),
        ({"all_proxy": "http://p:1", "no_proxy": ".local"}, "https://box.local/v1", None),
        ({"all_proxy": "http://p:1", "no_proxy": "box:8080"}, "http://box:8080/v1", None),
        ({"all_proxy": "http://p:1", "no_proxy": "box:8080"}, "http://box:9090/v1", "http://p:1"),
        ({"all_proxy": "http://p:1", "no_proxy": "*"}, "http://box/v1", None),
        ({"all_proxy": "http://[::1]:3128"}, "http://box/v1", "http://[::1]:3128"),
    ],
)
def test_which_proxy_is_taken(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found and found.url) == proxy


def test_credentials_are_no_part_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://us%40er:p%2Fw@p:1")
    proxy = proxy_for("http://box/v1")
    assert proxy is not None
    assert (proxy.url, proxy.user, proxy.password) == ("http://p:1", "us@er", "p/w")
    assert "p/w" not in repr(proxy)


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_proxy_is_asked_with_its_credentials(
    provider: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(provider, be_fine) as proxy:
        proxy.listen()
        monkeypatch.setenv(variable, proxy.origin.replace("//", "//user:p%3Aw@"))
        trip = await round_trip(adapter_of(provider, "http://far-away.invalid"))
    assert trip.text == "fine"
    (request,) = proxy.requests
    assert request.path.startswith("http://far-away.invalid/")
    assert request.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:p:w').decode()}"
    assert request.headers["authorization"] == "Bearer key-1234"


TUNNELS = [("connect", "http", True), ("socks5", "socks5", True), ("socks5", "socks5h", False)]


async def by_tunnel(provider: str, server: FaultServer, tunnels: Tunnels, scheme: str, **more: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALL_PROXY", f"{scheme}://user:p%3Aw@127.0.0.1:{tunnels.port}")
        name = "https://localhost" if server.tls else "http://far-away.invalid"
        adapter = adapter_of(provider, f"{name}:4321", **more)
        trips = [await round_trip(adapter) for _ in range(2)]
    assert [trip.text for trip in trips] == ["fine", "fine"]


@pytest.mark.parametrize(("kind", "scheme", "is_tls"), TUNNELS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_tunnel_is_asked_for_once_and_used_again(provider: str, kind: str, scheme: str, is_tls: bool) -> None:
    if kind == "socks5":
        pytest.importorskip("aiohttp_socks")
    tls = certificate("localhost") if is_tls else None

    async def ask(server: FaultServer) -> Tunnels:
        async with tunnel(kind, server.port) as tunnels:
            await by_tunnel(provider, server, tunnels, scheme)
            return tunnels

    with trusting(), FaultServer(provider, be_fine, tls=tls) as server:
        server.listen()
        tunnels = asyncio.run(ask(server))
    assert tunnels.targets == ["localhost:4321" if is_tls else "far-away.invalid:4321"]
    assert tunnels.credentials == ["user:p:w"]
    assert len(server.requests) == 2
    assert all("proxy-authorization" not in request.headers for request in server.requests)


@pytest.mark.parametrize(("kind", "scheme", "is_tls"), TUNNELS[:2])
def test_a_certificate_of_nobody_is_told_as_such_through_a_tunnel(kind: str, scheme: str, is_tls: bool) -> None:
    if kind == "socks5":
        pytest.importorskip("aiohttp_socks")

    async def ask(server: FaultServer) -> BaseException:
        async with tunnel(kind, server.port) as tunnels:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{tunnels.port}".replace("connect", "http"))
                return (await round_trip(adapter_of("openai", "https://localhost:4321"))).failure

    with trusting(), FaultServer("openai", be_fine, tls=certificate("localhost", trusted=False)) as server:
        server.listen()
        failure = asyncio.run(ask(server))
    assert type(failure) is ProviderConnectionError
    assert "cannot be reached over TLS" in str(failure)
    assert "SSL_CERT_FILE" in str(failure)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_comes_unasked_over_socks_is_no_answer_to_the_next_request(provider: str) -> None:
    pytest.importorskip("aiohttp_socks")
    finished, sent = threading.Event(), threading.Event()

    async def serve(exchange: Exchange) -> None:
        await exchange.answer("fine")
        if exchange.number == 1:
            while not finished.is_set():  # noqa: ASYNC110 - set in another thread
                await asyncio.sleep(0.002)
            await exchange.answer("not mine")
            sent.set()

    async def ask(server: FaultServer) -> None:
        async with tunnel("socks5", server.port) as tunnels:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{tunnels.port}")
                adapter = adapter_of(provider, "http://far-away.invalid")
                assert (await round_trip(adapter)).text == "fine"
                finished.set()
                await eventually(sent.is_set)
                assert (await round_trip(adapter)).text == "fine"
            assert len(tunnels.targets) == 2

    with FaultServer(provider, serve) as server:
        server.listen()
        asyncio.run(ask(server))


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_socks_proxy_that_does_not_answer_is_a_connection_error(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp_socks")
    monkeypatch.setenv("ALL_PROXY", "socks5://user:p%3Aw@127.0.0.1:1")
    failure = (await round_trip(adapter_of(provider, "http://far-away.invalid"))).failure
    assert type(failure) is ProviderConnectionError
    assert failure.__cause__ is not None
    assert "p:w" not in f"{failure} {failure.__cause__}"


SOCKS_REPLIES = [
    (b"", ProviderConnectionError),
    (b"\x05\xff", ProviderConnectionError),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProviderConnectionError),
    (None, ProviderTimeoutError),
]


@pytest.mark.parametrize(("reply", "kind"), SOCKS_REPLIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.asyncio
async def test_a_socks_proxy_that_breaks_is_a_typed_error(
    scheme: str, reply: bytes | None, kind: type[ProviderConnectionError], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp_socks")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(3)
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
        timeout_s = 2.0 if reply is None else 60.0  # a busy machine may take a while to connect, or to answer
        failure = (
            await round_trip(adapter_of("openai", f"{scheme}://far-away.invalid", timeout_s=timeout_s))
        ).failure
    assert type(failure) is kind


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_without_the_extra_a_socks_proxy_is_a_setting_to_mend(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp_socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"createagents-nb\[socks\]") as caught:
        await anext(adapter_of(provider, "http://far-away.invalid").round_trip(HELLO))
    assert caught.value.__context__ is None


@pytest.mark.asyncio
async def test_a_proxy_that_does_not_answer_to_connect_is_given_up_like_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setattr(http_client, "CONNECT_TIMEOUT_S", 0.2)
        # The limit for the whole head would be hours.
        failure = (await round_trip(adapter_of("openai", "https://far-away.invalid", timeout_s=3_601.5))).failure
    assert type(failure) is ProviderTimeoutError


REFUSALS = [
    ("407 Nobody p:w", "The proxy refused the connection (407 Proxy Authentication Required): check its user", 1),
    ("403 Forbidden", "The proxy refused the connection to https://far-away.invalid/v1 (403 Forbidden)", 1),
    ("502 Bad Gateway", "The proxy cannot reach https://far-away.invalid/v1 (502 Bad Gateway). Try again", 2),
]


@pytest.mark.parametrize(("status", "words", "sent"), REFUSALS)
@pytest.mark.asyncio
async def test_a_proxy_that_refuses_a_tunnel_says_why(
    status: str, words: str, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%3Aw@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        trip = await round_trip(adapter_of("openai", "https://far-away.invalid", max_retries=1))
    assert type(trip.failure) is ProviderConnectionError
    assert str(trip.failure).startswith(words)
    assert trip.failure.status_code == int(status[:3])
    assert "p:w" not in f"{trip.failure} {trip.failure.__cause__}"
    assert len(asked) == sent


@pytest.mark.asyncio
async def test_a_proxy_without_a_tunnel_says_that_it_wants_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(b"no", "407 Proxy Authentication Required")

    with FaultServer("openai", refuse) as proxy:
        proxy.listen()
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        failure = (await round_trip(adapter_of("openai", "http://far-away.invalid"))).failure
    assert type(failure) is ProviderConnectionError
    assert "check its user and password in HTTP_PROXY" in str(failure)
