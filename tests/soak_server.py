"""A real server that does to each turn what its prompt asks for: answers, calls tools, drips, breaks off, refuses.

A prompt carries its plan, see `prompt_of`: the server knows nothing of a turn but what a client sent, and what
it answers in a turn carries that turn's mark and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["FAULTS", "SoakServer", "planned_text", "prompt_of"]

FAULTS: Final = ("none", "drip", "late", "reset", "truncated", "500", "500 once", "429 once")
"""What may happen in a round. ``drip`` comes slowly, ``late`` after a pause; ``once``: only the first time."""

PIECES: Final = 12
"""Of text, in a round."""


def prompt_of(mark: str, rounds: Sequence[tuple[str, str]]) -> str:
    """A prompt whose turn has these rounds: each a fault, and the tool that is asked for ("" in the last)."""
    return f"{mark} " + json.dumps({"mark": mark, "rounds": rounds})


def planned_text(mark: str, rounds: Sequence[tuple[str, str]]) -> str:
    """What the turn says when nothing breaks or stops it."""
    return "".join(_piece(mark, number, at) for number in range(len(rounds)) for at in range(PIECES))


def _piece(mark: str, number: int, at: int) -> str:
    return f"{mark}.{number}.{at} "


class SoakServer:
    """Speaks Chat Completions on loopback, on a thread of its own.

    Attributes:
        busy: requests that are being answered.
        open_connections: also those that wait for another request.
    """

    def __init__(self, seed: int = 0) -> None:
        self.busy = self.open_connections = self.served = 0
        self._random = random.Random(seed)
        self._seen: Counter[tuple[str, int]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="soak server", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> SoakServer:
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
            while True:
                body = await _read(reader)
                self.busy += 1
                try:
                    if not await self._answer(json.loads(body), writer):
                        break
                finally:
                    self.busy -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may serve another request."""
        messages = body["messages"]
        last_user = max(at for at, message in enumerate(messages) if message["role"] == "user")
        plan = json.loads(messages[last_user]["content"].partition(" ")[2])
        mark = plan["mark"]
        number = sum(message["role"] == "assistant" for message in messages[last_user:])
        fault, tool = plan["rounds"][number]
        self._seen[mark, number] += 1
        self.served += 1
        is_first = self._seen[mark, number] == 1
        if fault == "500" or (fault == "500 once" and is_first):
            return await _refuse(writer, "500 Internal Server Error", mark, "retry-after-ms: 1")
        if fault == "429 once" and is_first:
            return await _refuse(writer, "429 Too Many Requests", mark, "retry-after: 0.001")
        if fault == "late":
            await asyncio.sleep(self._random.uniform(0.01, 0.1))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        breaks_at = self._random.randrange(1, PIECES) if fault in ("reset", "truncated") else -1
        for at in range(PIECES):
            if at == breaks_at:
                if fault == "reset":
                    writer.transport.abort()
                return False
            _chunk(writer, {"content": _piece(mark, number, at)})
            await writer.drain()
            if fault == "slow":
                await asyncio.sleep(0.015)
            elif fault == "drip" or at == breaks_at - 1:
                await asyncio.sleep(self._random.uniform(0.0, 0.02))
        if tool:
            arguments = json.dumps({"mark": mark})
            call = {"index": 0, "id": f"{mark}.{number}", "function": {"name": tool, "arguments": arguments}}
            _chunk(writer, {"tool_calls": [call]})
        _chunk(writer, {}, "tool_calls" if tool else "stop")
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        return True


def _chunk(writer: asyncio.StreamWriter, delta: dict[str, Any], finish: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = f"data: {json.dumps({'choices': [choice], 'model': 'm'})}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _refuse(writer: asyncio.StreamWriter, status: str, mark: str, header: str) -> bool:
    body = json.dumps({"error": {"message": f"not now, {mark}"}})
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", header]
    writer.write("\r\n".join([*lines, "", body]).encode())
    await writer.drain()
    return True


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
    return await reader.readexactly(length)
