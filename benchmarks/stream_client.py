"""Our agents as one more client of the reference benchmark (``../shared/bench/bench_client.py``).

``python benchmarks/stream_client.py BENCH_FOLDER CLIENT MODE [args]`` is ``bench_client.py CLIENT MODE [args]``
with ``createagents_nb_openai``, ``createagents_nb_responses``, ``createagents_nb_ollama`` and ``raw_responses``
added: the same code measures all. With ``_uvloop`` at the end of a client's name the loop is uvloop's.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def reference(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_client", folder / "bench_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adapter(provider: str, base_url: str, **config: Any) -> Callable[[], tuple[Any, Any]]:
    """As the others there: ``factory(model, k)`` gives k streams, ``tool(model)`` is one turn with one tool."""

    def build() -> tuple[Any, Any]:
        from createagents_nb import CreateAgent

        def get_value(x: int) -> str:
            """Get the value"""
            return "42"

        def factory(model: str, count: int) -> list[Callable[[], AsyncIterator[str]]]:
            agents = [CreateAgent(provider, model, base_url=base_url, config=config) for _ in range(count)]

            def stream_of(agent: CreateAgent) -> Callable[[], AsyncIterator[str]]:
                async def run() -> AsyncIterator[str]:
                    async for token in await agent.chat("hello"):
                        yield token
                    agent.clear_history()

                return run

            return [stream_of(agent) for agent in agents]

        agents: dict[str, CreateAgent] = {}

        async def tool(model: str) -> None:
            if model not in agents:
                agents[model] = CreateAgent(provider, model, base_url=base_url, config=config, tools=[get_value])
            async for _ in await agents[model].chat("hello"):
                pass
            agents[model].clear_history()

        return factory, tool

    return build


def raw_responses(host: str, port: int) -> Callable[[], tuple[Any, Any]]:
    """The reference's raw client, for the Responses API: a socket, an HTTP parser and orjson."""

    def build() -> tuple[Any, Any]:
        import httptools
        import orjson

        class Receiver(asyncio.Protocol):
            transport: asyncio.Transport
            waiting: asyncio.Future[None] | None = None

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.transport = transport

            def send(self, body: bytes) -> None:
                self.texts: list[str] = []
                self.rest, self.done = b"", False
                self.parser = httptools.HttpResponseParser(self)
                head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)

            def data_received(self, data: bytes) -> None:
                self.parser.feed_data(data)
                if self.waiting is not None and (self.texts or self.done):
                    waiting, self.waiting = self.waiting, None
                    waiting.set_result(None)

            def on_body(self, data: bytes) -> None:
                lines = (self.rest + data).split(b"\n")
                self.rest = lines.pop()
                for line in lines:
                    if line[:7] == b"data: {":
                        event = orjson.loads(line[6:])
                        if event["type"] == "response.output_text.delta":
                            self.texts.append(event["delta"])

            def on_message_complete(self) -> None:
                self.done = True

        idle: list[Receiver] = []

        async def stream(body: bytes) -> AsyncIterator[str]:
            loop = asyncio.get_running_loop()
            receiver = idle.pop() if idle else (await loop.create_connection(Receiver, host, port))[1]
            receiver.send(body)
            while receiver.texts or not receiver.done:
                texts, receiver.texts = receiver.texts, []
                for text in texts:
                    yield text
                if not texts:
                    receiver.waiting = loop.create_future()
                    await receiver.waiting
            idle.append(receiver)

        def body_of(model: str, *more: dict[str, Any]) -> bytes:
            items = [{"role": "user", "content": "hello"}, *more]
            return json.dumps({"model": model, "input": items, "stream": True}).encode()

        def factory(model: str, count: int) -> list[Callable[[], AsyncIterator[str]]]:
            return [lambda: stream(body_of(model))] * count

        async def tool(model: str) -> None:
            result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
            for body in (body_of(model), body_of(model, result)):
                async for _ in stream(body):
                    pass

        return factory, tool

    return build


def main() -> None:
    folder = Path(sys.argv.pop(1))
    bench = reference(folder)
    for ending in ("", "_uvloop"):
        bench.AD[f"createagents_nb_openai{ending}"] = adapter("openai", bench.BASE, api="chat")
        bench.AD[f"createagents_nb_responses{ending}"] = adapter("openai", bench.BASE, api="responses")
        bench.AD[f"createagents_nb_ollama{ending}"] = adapter("ollama", bench.OBASE)
    bench.AD["raw_responses"] = raw_responses(bench.HOST, bench.PORT)
    if "uvloop" in bench.CLIENT:
        import uvloop

        uvloop.run(bench.main())
    else:
        asyncio.run(bench.main())
    sys.stdout.flush()
    os._exit(0)  # as the reference does: what a run leaves behind is not measured


if __name__ == "__main__":
    main()
