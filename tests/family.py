"""Test doubles of the family: a scripted provider without I/O, and a scripted server on loopback for the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from createagents_nb.core.events import Event, Reasoning, RoundEnded, ToolCallRequested
from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRepository, ChatRequest
from createagents_nb.core.records import CallRecord, ContentPolicy, RequestRecord, ToolRecord


class ScriptedProvider(ChatRepository):
    """Plays the rounds that were enqueued. A step is an event, an exception to raise, or an `asyncio.Event`.

    A function among the steps is called when its turn comes: ``reached.set`` tells that the reply got so far.
    """

    provider = "scripted"

    def __init__(self) -> None:
        self.rounds: deque[Sequence[Any]] = deque()
        self.calls: list[ChatRequest] = []
        self.closed = 0

    def enqueue(self, *steps: Any) -> None:
        """One round; a `RoundEnded` is added when there is none."""
        self.rounds.append(steps)

    async def models(self) -> list[str]:
        return ["scripted-1", "scripted-2"]

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.calls.append(request)
        steps = self.rounds.popleft()
        try:
            for step in steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                elif callable(step):
                    step()
                else:
                    yield step
            if not any(isinstance(step, RoundEnded) for step in steps):
                yield RoundEnded(finish_reason="stop")
        finally:
            self.closed += 1


class Ledger:
    """A `RecordSink` that keeps every entry, so that a test can count them."""

    def __init__(self) -> None:
        self.opened: list[CallRecord] = []
        self.started: list[RequestRecord | ToolRecord] = []
        self.settled: list[CallRecord] = []
        self.requests: list[RequestRecord] = []
        self.tools: list[ToolRecord] = []

    def admit(self, round_number: int) -> None:
        pass

    def cost_usd(self, record: RequestRecord) -> float | None:
        return None

    def context_window(self, record: RequestRecord) -> int | None:
        return None

    def content_policy(self) -> ContentPolicy:
        return str

    def call_opened(self, record: CallRecord) -> None:
        self.opened.append(record)

    def request_opened(self, record: RequestRecord) -> None:
        self.started.append(record)

    def tool_opened(self, record: ToolRecord) -> None:
        self.started.append(record)

    def call_settled(self, record: CallRecord) -> None:
        self.settled.append(record)

    def request_settled(self, record: RequestRecord) -> None:
        self.requests.append(record)

    def tool_settled(self, record: ToolRecord) -> None:
        self.tools.append(record)


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own: for what must not touch the test's process (nest-asyncio, ``print`` at the exit…)."""
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


async def eventually(condition: Callable[[], object]) -> None:
    """Until what another thread does is seen; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it has no event of this loop's
            await asyncio.sleep(0.002)


PROBES = frozenset({"/api/ps", "/api/show", "/api/v0/models", "/api/version", "/props"})
"""What a server at home is asked about itself. Scripted servers do not know, and do not count it."""


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What the server sends: bytes as they are; a `threading.Event` among the pieces holds the rest back."""

    pieces: Iterable[bytes | threading.Event]
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    held: threading.Event | None = None
    """Holds back the headers, too."""


def sse(*payloads: Any, done: bool = True) -> list[bytes]:
    """An event stream, one piece an event; payloads are dicts or ready JSON."""
    lines = [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]
    return [f"data: {line}\n\n".encode() for line in lines] + ([b"data: [DONE]\n\n"] if done else [])


def ndjson(*payloads: Any) -> list[bytes]:
    return [
        (payload if isinstance(payload, str) else json.dumps(payload)).encode() + b"\n" for payload in payloads
    ]


def delta(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of Chat Completions."""
    body: dict[str, Any] = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": body | more, "finish_reason": finish}], "model": "m"}


def png(width: int = 1, height: int = 1) -> bytes:
    """A small PNG file that says it is this large; a picture only where it is a single pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(b"\x00\x80")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def json_reply(body: Any, status: str = "200 OK", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply([data], status, {"content-type": "application/json", **headers})


def recorded(path: Path) -> Reply:
    """A reply captured with ``curl -i``, without its framing headers."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    for name in list(headers):
        if name.lower() in ("transfer-encoding", "content-length", "connection", "keep-alive", "server", "date"):
            del headers[name]
    return Reply([body], first.split(" ", 1)[1], headers)


class ScriptedServer:
    """A real HTTP server on loopback that answers with what was enqueued, in order, and keeps the requests.

    ``on(path, reply)`` answers every request to that path, ``on("*", reply)`` any other. Bodies end with the
    connection, as many servers' do.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.open_connections = 0
        self._props_asked = False
        self._replies: deque[Reply] = deque()
        self._always: dict[str, Reply] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def enqueue(self, reply: Reply | Iterable[bytes | threading.Event]) -> None:
        self._replies.append(reply if isinstance(reply, Reply) else Reply(reply))

    def on(self, path: str, reply: Reply) -> None:
        self._always[path] = reply

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        opening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = opening.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            request = await self._read(reader)
            if self._is_probe(request):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            self.requests.append(request)
            reply = self._always.get(request.path) or self._always.get("*") or self._replies.popleft()
            while reply.held is not None and not reply.held.is_set():
                if reader.at_eof() or reader.exception() is not None:
                    raise ConnectionResetError("the client left")
                await asyncio.sleep(0.005)
            lines = [
                f"HTTP/1.1 {reply.status}",
                *(f"{k}: {v}" for k, v in reply.headers.items()),
                "connection: close",
            ]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            for piece in reply.pieces:
                if isinstance(piece, threading.Event):
                    await writer.drain()
                    while not piece.is_set():
                        # Closed; or reset, by a client that had not read all that was sent.
                        if reader.at_eof() or reader.exception() is not None:
                            raise ConnectionResetError("the client left")
                        await asyncio.sleep(0.005)
                else:
                    writer.write(piece)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _is_probe(self, request: Request) -> bool:
        """Whether a client asks what the server is, and the test says nothing about it."""
        path = request.path.partition("?")[0]
        # After /props, the list of models is asked for the context, see `LocalServer.context_window`.
        follows, self._props_asked = self._props_asked, path == "/props"
        if {path, request.path} & self._always.keys():
            return False
        return path in PROBES or (follows and request.method == "GET" and path == "/v1/models")

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)


@dataclass
class Trip:
    """What one round trip gave, up to its end or its error."""

    events: list[Event] = field(default_factory=list)
    error: Exception | None = None

    @property
    def text(self) -> str:
        return "".join(event for event in self.events if isinstance(event, str))

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Reasoning))

    @property
    def calls(self) -> list[ToolCallRequested]:
        return [event for event in self.events if isinstance(event, ToolCallRequested)]

    @property
    def end(self) -> RoundEnded:
        assert self.error is None, repr(self.error)
        assert [type(event) for event in self.events].count(RoundEnded) == 1
        last = self.events[-1]
        assert isinstance(last, RoundEnded)
        return last

    @property
    def failure(self) -> Exception:
        assert self.error is not None, f"no error, but {self.events}"
        return self.error


async def round_trip(
    adapter: ChatRepository, *messages: Message, model: str = "m", tools: Sequence[Any] = (), **config: Any
) -> Trip:
    """One request to ``adapter``; default message: a user's "Hello"."""
    trip = Trip()
    request = ChatRequest(model, messages or (Message("user", "Hello"),), tools, config)
    try:
        async for event in adapter.round_trip(request):
            trip.events.append(event)
    except Exception as error:
        trip.error = error
    return trip
