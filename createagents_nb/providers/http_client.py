"""The HTTP client: aiohttp, with one connection pool per server and event loop and one TLS context per process.

Imported with the first request, because aiohttp takes some tenths of a second to import.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import copy
import importlib
import io
import json
import os
import re
import select
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from ..errors import ConfigurationError
from ..loop_shutdown import settle_all
from ..redaction import Secret
from .addresses import Proxy, proxy_for, unusable_proxy
from .error_body import read_body
from .retries import IsWorking, RetryPolicy, send_until_answered
from .sockets import http_url, socket_path
from .transport import (
    MAX_ERROR_BYTES,
    MAX_LIST_BYTES,
    HttpReply,
    RetryCount,
    Transport,
    forget_closed_loops,
    limited,
    with_query,
)
from .transport_errors import RedirectError
from .wire_format import encoded

__all__ = ["HttpClient", "HttpTransport", "StaleConnectionError", "reset", "shared_client", "tls_context"]

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 60.0
MAX_REDIRECTS = 10

_HEAD_TIMEOUTS = 3
_CLOSE_S = 2.0
_MAX_LOAD_S = 600.0
_MAX_BYTES_AT_ONCE = 2**20
_STALE_WITHIN_S = 1.0
"""A reused connection that ends this soon was being closed by the server when the request was sent."""
_PUBLIC_HEADERS = frozenset({"accept", "content-type", "user-agent"})
"""Headers that another server may see after a redirect; any other may hold a key."""
_HASHED_NAME = re.compile(r"[0-9a-fA-F]{8}\.\d")
_CA_FILES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Paths of the system's certificates on Linux, for a Python that was built for another distribution."""


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all connections; building one takes tens of milliseconds.

    The certificates are those of SSL_CERT_FILE, else of SSL_CERT_DIR, else the system's.

    Raises:
        ConfigurationError: SSL_CERT_FILE names no file with certificates.
    """
    context = _new_tls_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _new_tls_context() -> ssl.SSLContext:
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:  # an `SSLError` is one, too
            why = (
                "has no certificates in PEM"
                if isinstance(error, ssl.SSLError)
                else f"cannot be read: {error.strerror}"
            )
            raise ConfigurationError(
                f"SSL_CERT_FILE names {file!r}, which {why}. Name a file with certificates in PEM, or unset it"
            ) from error
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    if sys.platform in ("win32", "darwin"):
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # asks the system to verify
    # Not create_default_context: its strict mode refuses certificates of many companies' own authorities.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    paths = ssl.get_default_verify_paths()
    # OpenSSL finds a certificate in a folder by the hash of its subject only.
    has_hashed = paths.capath is not None and any(map(_HASHED_NAME.fullmatch, os.listdir(paths.capath)))
    if paths.cafile is None and not has_hashed:
        for file in filter(os.path.isfile, _CA_FILES):
            context.load_verify_locations(file)
            break
    return context


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────


class StaleConnectionError(aiohttp.ServerDisconnectedError):
    """A reused connection ended before any byte of the reply."""


_current_wait: ContextVar[_Wait | None] = ContextVar("createagents_nb_wait", default=None)


class _Wait:
    """A request that waits for its first byte, perhaps in the queue of a server with few slots.

    Such a server sends nothing for a queued request. So its silence counts only while the server is silent on all
    of our connections: what it sends to others is a sign that the queue moves.

    Args:
        client: whose connections count.
        limit: of the request until its headers have come.
        head_s: how long they may take from the last sign on, in seconds.
    """

    def __init__(self, client: HttpClient, limit: asyncio.Timeout, head_s: float) -> None:
        self._client, self._limit, self._head_s = client, limit, head_s
        self._seen = client.progress

    def goes_on(self) -> bool:
        """Whether the server has sent anything since this was last asked, or is known to need its time."""
        before, self._seen = self._seen, self._client.progress
        goes_on = self._seen != before or self._client.is_patient
        if goes_on:
            self._extend()
        return goes_on

    def begin(self) -> None:
        """Take note of the first byte."""
        self._client.add_progress(1)
        self._seen += 1  # headers are no sign that others are served
        self._extend()

    def _extend(self) -> None:
        with suppress(RuntimeError):  # the headers are here
            self._limit.reschedule(asyncio.get_running_loop().time() + self._head_s)


@cache
def _guarded_protocol(protocol: Any) -> Any:
    """aiohttp's protocol class, with stricter checks of a connection that is taken from the pool again."""

    class GuardedProtocol(protocol):  # type: ignore[misc]
        _requests = 0
        _is_silent = True
        _wait: _Wait | None = None

        def is_connected(self) -> bool:
            # aiohttp looks for unexpected bytes when a connection is given back, not when it is taken again. What
            # came in between would be read as the answer to the next request.
            return super().is_connected() and not self.should_close and not _is_readable(self.transport)

        def set_response_params(self, **params: Any) -> None:
            self._requests += 1
            self._is_silent = True
            self._wait = _current_wait.get()
            self.data_received = self._first_bytes_received  # the rest of the reply goes straight to aiohttp
            self._update_transport()
            super().set_response_params(**params)

        def _first_bytes_received(self, data: bytes) -> None:
            self._is_silent = False
            del self.data_received
            self._update_transport()
            if self._wait is not None:
                self._wait.begin()
            self.data_received(data)

        def _on_read_timeout(self) -> None:
            # Some servers send the headers at once, and queue a request then.
            is_waiting = self._is_silent or getattr(self._payload, "total_bytes", 1) == 0
            if is_waiting and self._wait is not None and self._wait.goes_on():
                self.start_timeout()  # once more
            else:
                super()._on_read_timeout()

        def _update_transport(self) -> None:
            if self.transport is not None:
                self.transport.set_protocol(self)  # uvloop looks up the methods only here

        @property
        def is_stale(self) -> bool:
            return self._requests > 1 and self._is_silent

    return GuardedProtocol


@cache
def _guarded_connector(connector: Any) -> Any:
    """A connector class that uses `_guarded_protocol`; none of its connections takes longer than ``sock_connect``.

    There is no public way to either. Should a version of aiohttp not call this method, requests work as before,
    without these checks.
    """

    class GuardedConnector(connector):  # type: ignore[misc]
        async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
            # aiohttp bounds the TCP connection and the TLS handshake, but not the proxy's answer to CONNECT.
            async with asyncio.timeout(timeout.sock_connect):
                protocol = await super()._create_connection(req, traces, timeout)
            original: Any = type(protocol)
            protocol.__class__ = _guarded_protocol(original)
            return protocol

    return GuardedConnector


def _is_readable(transport: Any) -> bool:
    """Whether bytes, or the end, of an idle connection wait to be read; a busy loop has not seen them yet."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # on Windows, where select takes any socket
        return bool(select.select([sock.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        try:
            return await super().start(connection)
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            if isinstance(error, TimeoutError) or not getattr(protocol, "is_stale", False):
                raise
            raise StaleConnectionError from error


def _connector(proxy: Proxy | None, *, socket: str | None, tls: bool) -> aiohttp.BaseConnector:
    base: Any = aiohttp.TCPConnector
    options: dict[str, Any] = {}
    if proxy is not None and proxy.is_socks:
        base, options = _socks(proxy)
    if socket is not None:
        base, options = aiohttp.UnixConnector, {"path": socket}
    else:
        options["ssl"] = tls_context() if tls else True
    connector: aiohttp.BaseConnector = _guarded_connector(base)(
        limit=0,  # as many connections as there are turns
        keepalive_timeout=KEEPALIVE_S,
        **options,
    )
    return connector


def _socks(proxy: Proxy) -> tuple[Any, dict[str, Any]]:
    try:
        socks = importlib.import_module("aiohttp_socks")
    except ImportError:
        socks = None
    if socks is None:  # raised here, so that no ImportError is chained
        raise unusable_proxy("for SOCKS: pip install 'createagents-nb[socks]'")
    is_old = proxy.scheme.startswith("socks4")
    return socks.ProxyConnector, {
        "proxy_type": socks.ProxyType.SOCKS4 if is_old else socks.ProxyType.SOCKS5,
        "host": proxy.host,
        "port": proxy.port,
        "username": proxy.user or None,
        "password": proxy.password or None,
        # Whether the proxy looks up the host's name; the default is the library's.
        "rdns": True if proxy.scheme in ("socks4a", "socks5h") else None,
    }


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(64)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=min(timeout_s, CONNECT_TIMEOUT_S), sock_read=timeout_s)


class HttpClient:
    """Sends requests to one server over a connection pool; keeps no cookies.

    aiohttp holds back a sender that is two read buffers (128 kB) ahead of the reader.

    Args:
        origin: of the server, as in ``https://api.openai.com`` or ``unix:///run/model.sock``.
        proxy: the proxy to use; None for a direct connection.
        clock: returns seconds; measures how long ago a request was sent.
    """

    def __init__(
        self, origin: str, proxy: Proxy | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        is_tls = origin.startswith("https:")
        socket = socket_path(origin)
        self._is_socket = socket is not None
        self._clock = clock
        self._progress = 0
        self._bodies: set[aiohttp.StreamReader] = set()
        self._waiting = 0
        self._patient_until = 0.0
        self._headers: dict[str, str] = {}
        self._proxy: dict[str, Any] = {}
        if proxy is not None and not proxy.is_socks:
            self._proxy = {"proxy": URL(proxy.url)}
            if proxy.user or proxy.password:
                credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
                header: dict[str, str] = {"Proxy-Authorization": Secret(f"Basic {credentials}")}
                # For a tunnel it goes with CONNECT, else with each request.
                if is_tls:
                    self._proxy["proxy_headers"] = header
                else:
                    self._headers = header
        self._session = aiohttp.ClientSession(
            connector=_connector(
                proxy,
                socket=socket,
                tls=is_tls or (proxy is not None and proxy.scheme == "https"),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},  # a compressed stream comes late
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),  # the caller says which headers are sent
            response_class=_Response,
        )

    @property
    def progress(self) -> int:
        """A number that grows with each byte of a reply."""
        return self._progress + sum(body.total_bytes for body in self._bodies)

    def add_progress(self, amount: int) -> None:
        self._progress += amount

    def be_patient(self) -> None:
        """Wait for the first byte for up to ten minutes from now on: the server is loading its model."""
        self._patient_until = self._clock() + _MAX_LOAD_S

    @property
    def is_patient(self) -> bool:
        return self._clock() < self._patient_until

    @property
    def is_busy(self) -> bool:
        """Whether requests wait for their reply, or replies are being read."""
        return self._waiting > 0 or bool(self._bodies)

    def track(self, body: aiohttp.StreamReader) -> None:
        """Count the bytes of a reply as `progress` while it is read."""
        self._bodies.add(body)

    def forget(self, body: aiohttp.StreamReader) -> None:
        if body in self._bodies:
            self._bodies.remove(body)
            self.add_progress(body.total_bytes + 1)

    async def request(
        self,
        method: str,
        url: URL,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        queues: bool = False,
    ) -> HttpReply:
        """Send a request and follow its redirects; the body of the reply is yet to be read.

        Args:
            content: the body; dropped where a redirect turns the request into a GET.
            headers: not sent to other servers, except for a few that never hold a key.
            timeout_s: limit for the time without a byte, in seconds.
            queues: whether the time before the first byte counts only while the server is silent on all
                connections of this client.

        Raises:
            aiohttp.ClientError, TimeoutError, RedirectError: here, and while the body is read.
        """
        if queues:
            return await self._request_queued(method, url, content, headers, timeout_s)
        timeout = _timeout(timeout_s)
        # Each "100 Continue" and each byte of a header is a byte that arrives: without a limit for all of them and
        # for all redirects together, a server could keep a turn waiting without an end.
        async with asyncio.timeout((timeout.sock_connect or 0) + _HEAD_TIMEOUTS * timeout_s):
            response = await self._send(method, url, content, headers, timeout)
            location = _location(response)
            if location is None:
                return _reply(response, method, timeout_s)
            return await self._follow(response, location, method, content, headers, timeout_s)

    async def _request_queued(
        self, method: str, url: URL, content: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> HttpReply:
        self._waiting += 1
        try:
            timeout = _timeout(timeout_s)
            head_s = (timeout.sock_connect or 0) + _HEAD_TIMEOUTS * timeout_s
            async with asyncio.timeout(head_s) as limit:
                token = _current_wait.set(_Wait(self, limit, head_s))
                try:
                    response = await self._send(method, url, content, headers, timeout)
                finally:
                    _current_wait.reset(token)
                location = _location(response)
                if location is None:
                    self.track(response.content)
                    return _reply(response, method, timeout_s, tracked_by=self)
                return await self._follow(response, location, method, content, headers, timeout_s)
        finally:
            self._waiting -= 1

    async def _follow(
        self,
        response: aiohttp.ClientResponse,
        location: str | None,
        method: str,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> HttpReply:
        client, asked_by, url = self, method, response.url
        try:
            for _ in range(MAX_REDIRECTS):
                if location is None:
                    return _reply(response, asked_by, timeout_s, None if client is self else client)
                response.release()  # closes the connection if the body has not ended
                target = _target(url, location)
                if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                    method, content = "GET", None
                if target.origin() != url.origin():
                    if self._is_socket or not _is_upgrade(url, target):
                        headers = {
                            name: value for name, value in headers.items() if name.lower() in _PUBLIC_HEADERS
                        }
                    if client is not self:
                        await client.aclose()
                    client = await _new_client(str(target.origin()), proxy_for(str(target)))
                url = target
                response = await client._send(method, url, content, headers, _timeout(timeout_s))
                location = _location(response)
            response.release()
            raise RedirectError("too many redirects")
        except BaseException:
            if client is not self:
                await client.aclose()
            raise

    async def _send(
        self,
        method: str,
        url: URL,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        if self._headers:
            headers = {**headers, **self._headers}
        options = {"headers": headers, "timeout": timeout, "allow_redirects": False, **self._proxy}

        async def send() -> aiohttp.ClientResponse:
            data: Any = content
            if content is not None and len(content) > _MAX_BYTES_AT_ONCE:
                data = io.BytesIO(content)  # aiohttp warns of long bytes, and wants a file
            return await self._session.request(method, url, data=data, **options)

        sent_at = self._clock()
        try:
            return await send()
        except StaleConnectionError:
            # Some servers close a connection after each stream, perhaps just as the next request is sent. They
            # have not read it, so it is sent once more, over another connection.
            if self._clock() - sent_at > _STALE_WITHIN_S:
                raise
        return await send()

    @property
    def is_closed(self) -> bool:
        return self._session.closed

    async def aclose(self) -> None:
        # aiohttp waits for each connection to end; one that does not must not hold the end of its loop.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._session.close()


def _reply(
    response: aiohttp.ClientResponse,
    method: str,
    timeout_s: float,
    client: HttpClient | None = None,
    *,
    tracked_by: HttpClient | None = None,
) -> HttpReply:
    """Wrap a reply, and limit its size and time unless it is an answer.

    Args:
        client: closed with the reply.
        tracked_by: the client that counts the bytes of the reply.
    """
    blocks: Any = response.content.iter_any()
    if response.status >= 300:
        blocks = limited(blocks, MAX_ERROR_BYTES, timeout_s)
    elif method != "POST":
        blocks = limited(blocks, MAX_LIST_BYTES, timeout_s, cut=False)
    return HttpReply(response.status, response.headers, blocks, partial(_release, response, client, tracked_by))


async def _release(
    response: aiohttp.ClientResponse, client: HttpClient | None, tracked_by: HttpClient | None
) -> None:
    response.release()
    if tracked_by is not None:
        tracked_by.forget(response.content)
    if client is not None:
        await client.aclose()


def _location(response: aiohttp.ClientResponse) -> str | None:
    return response.headers.get("location") if response.status in (301, 302, 303, 307, 308) else None


def _target(url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location))
        (target.host or "").encode("idna")
    except ValueError:
        target = URL()
    if target.scheme not in ("http", "https") or not target.host or target.user or target.password:
        raise RedirectError("not an http(s) address")
    return target


def _is_upgrade(url: URL, target: URL) -> bool:
    """Whether a redirect leads to the same server over TLS."""
    return url.host == target.host and (url.scheme, url.port, target.scheme, target.port) == (
        "http",
        80,
        "https",
        443,
    )


# ── one pool per server and event loop ───────────────────────────────────────────────────────────────────

_PROCESS = os.getpid()
_Pool = dict[tuple[str, Proxy | None], tuple[HttpClient, AsyncGenerator[None, None]]]
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()


def reset() -> None:
    """Forget the TLS context: the next connection pool reads the certificates again."""
    tls_context.cache_clear()


async def shared_client(origin: str, proxy: Proxy | None) -> HttpClient:
    """Return the running loop's client for a server, made when it is first asked for.

    It is closed with the loop: `asyncio.run` shuts down async generators before it closes the loop, and one of
    them closes the client.
    """
    loop = asyncio.get_running_loop()
    forget_closed_loops(_pools)
    pool = _pools.setdefault(loop, {})
    key = (origin, proxy)
    if key not in pool:
        client = await _new_client(origin, proxy)
        if key in pool:  # another task was faster
            await client.aclose()
        else:
            closer = _close_at_end(client, pool, key)
            pool[key] = client, closer
            await anext(closer)
    return pool[key][0]


async def _new_client(origin: str, proxy: Proxy | None) -> HttpClient:
    if origin.startswith("https:") or (proxy is not None and proxy.scheme == "https"):
        await asyncio.to_thread(tls_context)
    return HttpClient(origin, proxy)


async def _close_at_end(
    client: HttpClient, pool: _Pool, key: tuple[str, Proxy | None]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        pool.pop(key, None)
        await client.aclose()


@atexit.register
def _close_left_over() -> None:
    if os.getpid() != _PROCESS:
        return  # a fork: the loops, and what they wait for, belong to the parent
    settle_all()  # a kernel stops its loop without shutting it down
    for loop, pool in list(_pools.items()):
        if not loop.is_closed() and not loop.is_running():
            for _, closer in list(pool.values()):
                loop.run_until_complete(closer.aclose())


# ── the transport of one agent ───────────────────────────────────────────────────────────────────────────


class HttpTransport(Transport):
    """Requests with one agent's key and timeout, sent again by its retry policy.

    Args:
        client: shared; not closed here.
        url: the base address, without a trailing slash.
        headers: sent with each request; a key in them is a `Secret`.
        query: appended to each address.
        secret: the key in use.
        timeout_s: limit for the time without a byte, in seconds.
        is_working: for a server that queues: whether it may still be working on a request that got no byte.
    """

    def __init__(
        self,
        client: HttpClient,
        url: str,
        headers: Mapping[str, str],
        secret: str | None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_s: float,
        policy: RetryPolicy,
        is_working: IsWorking | None = None,
    ) -> None:
        self.url, self.secret = url, secret
        self.client = client
        self._is_working = is_working
        self._headers, self._query, self._timeout_s, self._policy = headers, query, timeout_s, policy
        self._urls: dict[str, URL] = {}

    def with_key(self, headers: Mapping[str, str], secret: str) -> HttpTransport:
        """Return a copy for requests with another key."""
        other = copy.copy(self)
        other._headers, other.secret = headers, secret
        return other

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def address(self, path: str, body: Mapping[str, Any] | None) -> str:
        return with_query(self.url + path, self._query or {})

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, count: RetryCount
    ) -> HttpReply:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(http_url(self.url) + path).with_query(self._query or None)
        content = None if body is None else encoded(body)
        queues = self._is_working is not None
        send = partial(self.client.request, method, url, content, self._headers, self._timeout_s, queues=queues)
        return await send_until_answered(send, self._policy, count, self._is_working)

    async def ask(self, url: str, body: Mapping[str, Any] | None, timeout_s: float) -> Any:
        content = None if body is None else encoded(body)
        try:
            async with asyncio.timeout(timeout_s):
                method = "GET" if body is None else "POST"
                reply = await self.client.request(method, URL(http_url(url)), content, self._headers, timeout_s)
                try:
                    if not reply.is_success:
                        return None
                    return json.loads(await read_body(reply.blocks, MAX_LIST_BYTES))
                finally:
                    await reply.aclose()
        except (TimeoutError, ValueError, RecursionError, RedirectError, aiohttp.ClientError, OSError):
            return None
