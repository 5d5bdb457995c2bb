"""Test doubles of the family: a scripted provider without I/O, and a scripted server on loopback for the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from createagents_nb.agent.events import Event, RoundEnded
from createagents_nb.agent.repository import ChatRepository, ChatRequest


class ScriptedProvider(ChatRepository):
    """Plays the rounds that were enqueued. A step is an event, an exception to raise, or an `asyncio.Event` to wait for."""

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
                else:
                    yield step
            if not any(isinstance(step, RoundEnded) for step in steps):
                yield RoundEnded(finish_reason="stop")
        finally:
            self.closed += 1


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


def sse(*payloads: Any, done: bool = True) -> list[bytes]:
    """An event stream, one piece an event; payloads are dicts or ready JSON."""
    lines = [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]
    return [f"data: {line}\n\n".encode() for line in lines] + ([b"data: [DONE]\n\n"] if done else [])


def ndjson(*payloads: Any) -> list[bytes]:
    return [(payload if isinstance(payload, str) else json.dumps(payload)).encode() + b"\n" for payload in payloads]


def delta(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of Chat Completions."""
    body: dict[str, Any] = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": body | more, "finish_reason": finish}], "model": "m"}


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

    ``on(path, reply)`` answers every request to that path. Bodies end with the connection, as many servers' do.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.open_connections = 0
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
            self.requests.append(request)
            reply = self._always.get(request.path) or self._replies.popleft()
            lines = [f"HTTP/1.1 {reply.status}", *(f"{k}: {v}" for k, v in reply.headers.items()), "connection: close"]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            for piece in reply.pieces:
                if isinstance(piece, threading.Event):
                    await writer.drain()
                    while not piece.is_set():  # noqa: ASYNC110 - set from the test's thread
                        if reader.at_eof():
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

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)
