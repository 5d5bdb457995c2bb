"""A tool turn against a server that closes the connection after each stream, beside one that does not.

``python benchmarks/closing_server.py [turns]``: llama.cpp's server closes after each event stream, perhaps just as
the next request is sent. Prints median, 90th percentile and maximum of both, in milliseconds, their ratio, and how
often a request was sent again. The server is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

TURNS = 120


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def reply_to(body: bytes) -> bytes:
    if b'"role":"tool"' in body.replace(b" ", b""):
        return event({"content": "It is "}) + event({"content": "42."}, "stop") + b"data: [DONE]\n\n"
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return event({"tool_calls": [call]}, "tool_calls") + b"data: [DONE]\n\n"


async def serve(*, closes: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                content = reply_to(await reader.readexactly(length))
                # Neither announces the end of the connection, as llama.cpp does not.
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
                )
                await writer.drain()
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def measure(port: int, turns: int) -> tuple[list[float], int]:
    from createagents_nb import CreateAgent

    def look() -> str:
        """Looks."""
        return "42"

    agent = CreateAgent("openai", "m", base_url=f"http://127.0.0.1:{port}/v1", api_key="k", tools=[look])
    agent.get_metrics()
    times: list[float] = []
    resent = 0
    for number in range(turns + 5):
        started = time.perf_counter()
        response = await agent.chat("hello")
        assert await response == "It is 42."
        if number >= 5:  # the first ones import
            times.append((time.perf_counter() - started) * 1e3)
            resent += sum(request.retries for request in response.requests)
        agent.clear_history()
    return times, resent


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(closes=sys.argv[2] == "closes"))
        return
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    figures: dict[str, tuple[list[float], int]] = {}
    for kind in ("keeps", "closes", "keeps", "closes"):  # the first round warms up
        with subprocess.Popen(
            [sys.executable, __file__, "serve", kind], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            figures[kind] = asyncio.run(measure(int(server.stdout.readline()), turns))
            server.kill()
    for kind, (times, resent) in figures.items():
        p90 = statistics.quantiles(times, n=10)[-1]
        print(
            f"{kind:>6}: median {statistics.median(times):.2f} ms, p90 {p90:.2f} ms, most {max(times):.2f} ms; "
            f"sent again {resent} of {2 * turns}"
        )
    keeps, closes = (statistics.quantiles(figures[kind][0], n=10)[-1] for kind in ("keeps", "closes"))
    print(f"p90 of a server that closes ÷ one that does not: {closes / keeps:.2f}")


if __name__ == "__main__":
    main()
