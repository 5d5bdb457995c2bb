"""A real server on loopback with few slots: a request that finds none free waits without a byte."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any

from aiohttp import web

__all__ = ["SlotServer"]


class SlotServer:
    """Speaks Chat Completions; each answer takes a slot for ``work_s`` seconds, and comes in pieces.

    Args:
        slots: how many requests it works on at once.
        work_s: the time of one answer; None to wait for `release`.
        props: the answer to ``GET /props``; None for a server that does not know the question.
        loading: how many requests are refused with llama.cpp's 503, before the model is loaded.
        streams: whether the first piece comes at once; else the whole answer comes at the end.

    Attributes:
        prompts: how often each has come.
        questions: the paths of all other requests.
        most: how many requests were there at once, queued ones included.
        left: how many clients left before their answer.
    """

    def __init__(
        self,
        slots: int = 2,
        *,
        work_s: float | None = 0.2,
        props: dict[str, Any] | None = None,
        loading: int = 0,
        streams: bool = True,
    ) -> None:
        self._work_s, self._props, self._loading, self._streams = work_s, props, loading, streams
        self._slots = asyncio.Semaphore(slots)
        self._released = asyncio.Event()
        self.prompts: Counter[str] = Counter()
        self.questions: list[str] = []
        self.now = self.most = self.left = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)

    def __enter__(self) -> SlotServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._answer),
                web.post("/api/chat", self._answer),
                web.route("*", "/{path:.*}", self._question),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = self._runner.addresses[0][1]

    async def _question(self, request: web.Request) -> web.StreamResponse:
        self.questions.append(request.path)
        if request.path == "/props" and self._props is not None:
            return web.json_response(self._props)
        return web.json_response({"error": {"message": "not found"}}, status=404)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._loading > 0:
            self._loading -= 1
            error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
            return web.json_response({"error": error}, status=503)
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self.prompts[prompt] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with self._slots:
                return await self._work(request, prompt)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.now -= 1

    async def _work(self, request: web.Request, prompt: str) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        pieces = [_delta({"content": f"echo {prompt}"}), _delta({}, "stop")]
        if self._streams:
            await reply.prepare(request)
            await reply.write(_event(pieces.pop(0)))
        if self._work_s is None:
            await self._released.wait()
        else:
            await asyncio.sleep(self._work_s)
        if not self._streams:
            await reply.prepare(request)
        await reply.write(b"".join(map(_event, pieces)) + b"data: [DONE]\n\n")
        return reply


def _event(chunk: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "model": "m"}
