"""A server on loopback that goes wrong in a way of its own: real sockets, real HTTP, real TLS."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

import pytest
import trustme
from family import PROBES, Request, delta, ndjson, sse

from createagents_nb.providers import http_client

__all__ = ["Exchange", "FaultServer", "Serve", "authority", "certificate", "http_date", "said", "trusting"]

GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, OSError)


@cache
def authority() -> trustme.CA:
    """Who signs the certificates that a client of these tests may trust."""
    return trustme.CA()


def certificate(name: str, *, trusted: bool = True) -> ssl.SSLContext:
    """The server's side of TLS, with a certificate for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = authority() if trusted else trustme.CA()
    issuer.issue_cert(name).configure_cert(context)
    return context


@contextmanager
def trusting() -> Iterator[None]:
    """The certificates of these tests are trusted."""
    with pytest.MonkeyPatch.context() as patch, authority().cert_pem.tempfile() as file:
        patch.setenv("SSL_CERT_FILE", file)
        http_client.reset()
        try:
            yield
        finally:
            http_client.reset()


def http_date(in_s: float) -> str:
    """A date so many seconds from now, as a header has it."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=in_s), usegmt=True)


def said(provider: str, *texts: str, finished: bool = True, tool: str | None = None) -> list[bytes]:
    """A streamed reply of this provider, a block an event."""
    if provider == "openai":
        call = {"index": 0, "id": "call_1", "function": {"name": tool, "arguments": "{}"}}
        called = [delta(tool_calls=[call])] if tool else []
        end = [delta(finish="tool_calls" if tool else "stop")] if finished else []
        return sse(*map(delta, texts), *called, *end, done=finished)
    lines: list[Any] = [{"message": {"role": "assistant", "content": text}, "done": False} for text in texts]
    if tool:
        lines.append({"message": {"tool_calls": [{"function": {"name": tool, "arguments": {}}}]}, "done": False})
    if finished:
        lines.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    return ndjson(*lines)


class Exchange:
    """One request, and the means to answer it wrongly."""

    def __init__(
        self, server: FaultServer, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.request, self.provider = server, request, server.provider
        self.number = len(server.requests)
        self._reader, self._writer = reader, writer

    async def send(self, *blocks: bytes) -> None:
        for block in blocks:
            self._writer.write(block)
        await self._writer.drain()

    async def head(self, status: str = "200 OK", **headers: str) -> None:
        """Status line and headers; the body ends with the connection unless they say something else."""
        kind = "text/event-stream" if self.provider == "openai" else "application/x-ndjson"
        lines = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.send(f"HTTP/1.1 {status}\r\n{text}\r\n".encode())

    async def reply(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """A whole reply, after which the connection may be used again."""
        await self.head(status, content_length=str(len(body)), **headers)
        await self.send(body)

    async def json(self, body: Any, status: str = "200 OK", **headers: str) -> None:
        await self.reply(json.dumps(body).encode(), status, content_type="application/json", **headers)

    async def answer(self, *texts: str, **headers: str) -> None:
        """As it should be."""
        await self.reply(b"".join(said(self.provider, *texts)), **headers)

    async def begin(self, **headers: str) -> None:
        """The head and the first token of an answer, in chunks."""
        await self.head(transfer_encoding="chunked", **headers)
        await self.chunk(*said(self.provider, "so far", finished=False))

    async def chunk(self, *blocks: bytes) -> None:
        for block in blocks:
            await self.send(b"%x\r\n%s\r\n" % (len(block), block))

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """The connection is cut as when a machine goes down: RST, no FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def stall(self) -> None:
        """Nothing more, until the client has left."""
        while await self._reader.read(65536):
            pass
        raise ConnectionResetError("the client left")

    async def until_seen(self) -> None:
        """Until the client has shown what was sent: what comes with a reset may be lost with it."""
        while not self.server.seen.is_set():  # noqa: ASYNC110 - set in another thread
            await asyncio.sleep(0.002)


Serve = Callable[[Exchange], Awaitable[None]]


class FaultServer:
    """Serves as it is told until it is mended, and rightly from then on.

    Args:
        serve: what becomes of a request to chat. Others are answered with a list of models.
        tls: the server's side of TLS; default: none.
        tool: the first request is answered with a call of this tool, and the fault is in the second.

    Attributes:
        busy: requests that are being answered, or whose client has not left.
        open_connections: those, and the idle ones.
        seen: set by the client when it has got the first token.
    """

    def __init__(
        self, provider: str, serve: Serve, *, tls: ssl.SSLContext | None = None, tool: str | None = None
    ) -> None:
        self.provider, self.tls, self.tool = provider, tls, tool
        self._serve: Serve | None = serve
        self.requests: list[Request] = []
        self.seen = threading.Event()
        self.busy = self.open_connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        # Taken now, so that nobody else listens there while this server does not.
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._socket.close()

    def listen(self) -> None:
        """Until then a connection is refused."""
        self._wait(self._listen())

    def mend(self, tls: ssl.SSLContext | None = None) -> None:
        """From now on all is well."""
        self._serve = self.tool = None
        if tls is not None or self._server is None:
            self.tls = tls
            self._wait(self._relisten())

    def _wait(self, work: Any) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._socket.dup(), ssl=self.tls)

    async def _relisten(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._listen()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            with suppress(*GONE):
                while not writer.is_closing() and await self._one(reader, writer):
                    pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        start = await reader.readexactly(1)
        if start == b"\x16":  # somebody begins to speak TLS
            writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            return False
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, path, headers, body)
        self.busy += 1
        try:
            if path.endswith(("/models", "/api/tags")):
                exchange = Exchange(self, request, reader, writer)
                await exchange.json({"data": [{"id": "other"}], "models": [{"name": "other"}]})
                return True
            if path in PROBES:
                await Exchange(self, request, reader, writer).reply(b"", "404 Not Found")
                return True
            self.requests.append(request)
            exchange = Exchange(self, request, reader, writer)
            if self._serve is None:
                await exchange.answer("fine")
            elif self.tool is not None and exchange.number == 1:
                await exchange.reply(b"".join(said(self.provider, "Let me look. ", tool=self.tool)))
            else:
                await self._serve(exchange)
            return True
        finally:
            self.busy -= 1
