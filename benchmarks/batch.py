"""A batch against turns that are started at once: the same streams, the same server, one process.

Called by `run`. Prints a JSON line: rows a second of `CreateAgent.map` and of the concurrency test.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

TOKENS, TOKEN_US = 200, 20_000


async def measure(port: int, streams: int, rows: int) -> dict[str, float]:
    from createagents_nb import CreateAgent, MetricsRecorder

    settings: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}/v1", "recorder": MetricsRecorder()}
    model = f"fake-n{TOKENS}-d{TOKEN_US}-f0-t0-b1"
    await (await CreateAgent("openai", model.replace(str(TOKENS), "5"), **settings).chat("hello"))

    async def read(agent: CreateAgent) -> None:
        async for _ in await agent.chat("hello"):
            pass

    agents = [CreateAgent("openai", model, **settings) for _ in range(streams)]
    started = time.perf_counter()
    await asyncio.gather(*map(read, agents))
    at_once_s = time.perf_counter() - started
    agent = CreateAgent("openai", model, **settings)
    prompts = [f"row {number}" for number in range(rows)]
    cpu, started = time.process_time(), time.perf_counter()
    answers = await agent.map(prompts, concurrency=streams, progress=False)
    map_s, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert (answers["status"] == "ok").all()
    return {"at_once": streams / at_once_s, "map": rows / map_s, "busy": cpu / map_s}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:])))), flush=True)
    os._exit(0)  # what a run leaves behind is not measured
