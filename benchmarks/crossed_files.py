"""How many files of the package a plain answer runs, and how many of them each token crosses.

``python benchmarks/crossed_files.py``: one chat against a server on loopback that sends a token at a time, traced
with `sys.setprofile`. A file counts for a token if functions of it run at least once a token while the answer
streams; for an answer, if any function of it runs from `CreateAgent` to the text.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

import createagents_nb
from createagents_nb import CreateAgent

PACKAGE = f"{Path(createagents_nb.__file__).parent}/"
TOKENS, WATCHED = 200, range(20, 120)
IS_FUNCTION = 1  # CO_OPTIMIZED: not the body of a class or a module


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for number in range(TOKENS):
        writer.write(b'data: {"choices":[{"index":0,"delta":{"content":"word%d "}}]}\n\n' % number)
        await writer.drain()
        await asyncio.sleep(0.003)  # so that each token is a block
    writer.write(b"data: [DONE]\n\n")
    writer.close()


async def main(port: int) -> None:
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & IS_FUNCTION and code.co_filename.startswith(PACKAGE):
            calls[code.co_filename.removeprefix(PACKAGE)] += 1

    sys.setprofile(count)
    threading.setprofile(count)
    agent = CreateAgent("openai", "m", base_url=f"http://127.0.0.1:{port}/v1", api_key="k")
    before: Counter[str] = Counter()
    streaming: Counter[str] = Counter()
    number = 0
    async for _ in await agent.chat("hello"):
        if number == WATCHED.start:
            before = calls.copy()
        if number == WATCHED.stop:
            streaming = calls - before
        number += 1
    sys.setprofile(None)
    threading.setprofile(None)
    crossed = sorted(name for name, times in streaming.items() if times >= 0.9 * len(WATCHED))
    print(f"an answer runs {len(calls)} files:", ", ".join(sorted(calls)))
    print(f"a token crosses {len(crossed)} files:", ", ".join(crossed))


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop)
    asyncio.run(main(starting.result(10).sockets[0].getsockname()[1]))
