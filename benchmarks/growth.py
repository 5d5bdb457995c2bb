"""How costs grow: tokens, streams, history, tools and recorder rows; a picture of it in ``benchmarks/growth.png``.

Each point is a process of its own. What grows is told per token, per stream or per turn, so that a flat line is
linear growth.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from streams import core, say

HERE = Path(__file__).resolve().parent

POINTS = {
    "tokens": (1_000, 3_000, 10_000, 30_000, 100_000),
    "streams": (1, 3, 10, 30, 100, 300, 1_000),
    "history": (0, 10, 100, 1_000, 10_000),
    "tools": (0, 10, 50, 200),
    "rows": (0, 1_000, 10_000, 100_000, 1_000_000),
}
UNITS = {
    "tokens": ("tokens of an answer", "CPU per token, µs"),
    "streams": ("streams at once, of 200 tokens", "CPU per token, µs"),
    "history": ("messages in the history", "CPU of a turn, ms"),
    "tools": ("tools of the agent", "CPU of a turn, ms"),
    "rows": ("calls in the recorder", "CPU of a turn, ms"),
}


async def cpu_s(work: Callable[[], Awaitable[Any]], rounds: int) -> float:
    """Of one, the median."""
    await work()
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        await work()
        spent.append(time.process_time() - before)
    return statistics.median(spent)


async def measure(what: str, size: int, port: int) -> float:
    from createagents_nb import CreateAgent, MetricsRecorder, tool

    url, recorder = f"http://127.0.0.1:{port}/v1", MetricsRecorder()

    def agent(tokens: int, **more: Any) -> CreateAgent:
        settings: dict[str, Any] = {"history_max_size": 0, "recorder": recorder, "base_url": url} | more
        return CreateAgent("openai", f"fake-n{tokens}-d0-f0-t0-b1", **settings)

    async def turn(talker: CreateAgent) -> None:
        async for _ in await talker.chat("hello"):
            pass

    if what == "tokens":
        talker = agent(size)
        return await cpu_s(lambda: turn(talker), 3) / size * 1e6
    if what == "streams":
        talkers = [agent(200) for _ in range(size)]
        rounds = 3 if size > 10 else 15
        return await cpu_s(lambda: asyncio.gather(*map(turn, talkers)), rounds) / size / 200 * 1e6
    if what == "history":
        from createagents_nb.core.messages import Message, Turn

        talker = agent(5, history_max_size=size)
        for number in range(-size // 2, 0):
            said = Message("user", "A question?"), Message("assistant", "A sentence.")
            talker._agent.history.add(Turn(number, said))
        return await cpu_s(lambda: turn(talker), 25) * 1e3
    if what == "tools":

        def made(number: int) -> Any:
            def look_up(name: str, limit: int = 5) -> str:
                """Look something up.

                Args:
                    name: what
                    limit: how many
                """
                return name

            return tool(look_up, name=f"look_up_{number}")

        talker = agent(5, tools=[made(number) for number in range(size)])
        return await cpu_s(lambda: turn(talker), 25) * 1e3
    from recorder import make_calls

    for batch in make_calls(size):
        for opened, settled in batch:
            recorder.call_opened(opened)
            recorder.call_settled(settled)
    talker = agent(5)
    return await cpu_s(lambda: turn(talker), 50) * 1e3


def grown(port: int, *, most: float) -> dict[str, dict[int, float]]:
    """Points up to ``most`` of the largest, by what grows."""
    found: dict[str, dict[int, float]] = {}
    for what, sizes in POINTS.items():
        for size in sizes:
            if size > most * sizes[-1]:
                continue
            say(f"growth: {size:,} {what}")
            command = [sys.executable, __file__, what, str(size), str(port)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, timeout=300, preexec_fn=core(1)
            )
            found.setdefault(what, {})[size] = json.loads(done.stdout)
    return found


def draw(found: dict[str, dict[int, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(3.2 * len(found), 3), constrained_layout=True)
    for axis, (what, points) in zip(axes, found.items(), strict=True):
        sizes, values = list(points), list(points.values())
        axis.plot(sizes, values, marker="o", color="#2b6cb0")
        axis.set_xscale("symlog" if 0 in points else "log")
        axis.set_yscale("log")
        low, high = min(values), max(values)
        axis.set_ylim(low / 2, high * 2)
        axis.set_yticks([low, high] if high > 1.4 * low else [high])
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axis.yaxis.set_minor_formatter(lambda value, _: "")
        x, y = UNITS[what]
        axis.set_xlabel(x)
        axis.set_title(y, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))), flush=True)
    os._exit(0)  # what a run leaves behind is not measured
