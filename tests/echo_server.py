"""A real server on loopback that answers each prompt with itself, and does what a test says for some of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

from aiohttp import web

__all__ = ["EchoServer", "Refusal"]

Refusal = tuple[int, dict[str, str]]
"""A status, and headers."""


class EchoServer:
    """Speaks Chat Completions: to the prompt ``x`` it says ``echo x``, with a usage of 3 and 4 tokens.

    A prompt that begins with ``held`` is answered once `release` is called; one that begins with ``use`` asks for
    the first tool that is offered, and is answered with its result.

    Attributes:
        prompts: the last user message of each request, in the order in which they came.
        bodies: the requests; ``keys`` their keys.
        in_flight, most_in_flight: requests that are being answered.
        refuse: called with a prompt and how often it has come; a refusal, or None to answer.
    """

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self.refuse: Callable[[str, int], Refusal | None] = lambda prompt, times: None
        self._times: Counter[str] = Counter()
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)

    def __enter__(self) -> EchoServer:
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
        app.add_routes([web.post("/v1/chat/completions", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.json()
            prompt = [message["content"] for message in body["messages"] if message["role"] == "user"][-1]
            self._times[prompt] += 1
            self.prompts.append(prompt)
            self.bodies.append(body)
            self.keys.append(request.headers.get("authorization", ""))
            refusal = self.refuse(prompt, self._times[prompt])
            if refusal is not None:
                status, headers = refusal
                return web.json_response({"error": {"message": f"no {prompt}"}}, status=status, headers=headers)
            if prompt.startswith("held"):
                await self._released.wait()
            return web.Response(body=_events(body, prompt), content_type="text/event-stream")
        finally:
            self.in_flight -= 1


def _events(body: dict[str, Any], prompt: str) -> bytes:
    last = body["messages"][-1]
    if prompt.startswith("use") and body.get("tools") and last["role"] == "user":
        name = body["tools"][0]["function"]["name"]
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        chunks: list[Any] = [_delta({"tool_calls": [call]}), _delta({}, "tool_calls")]
    else:
        said = last["content"] if last["role"] == "tool" else prompt
        chunks = [_delta({"content": "echo "}), _delta({"content": said}), _delta({}, "stop")]
    chunks.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "model": "m"}
