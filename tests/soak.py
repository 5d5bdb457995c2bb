"""Many turns at once, with faults and cancellations at random moments: nothing leaks and nothing is mixed up.

``python tests/soak.py [--turns N] [--seconds S] [--agents N] [--seed N]`` prints a report, and exits with 1 if
there is anything to complain about. Which turns there are follows from the seed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from soak_checks import Planned, complaints, complaints_about_history, complaints_about_rows
from soak_server import FAULTS, SoakServer, prompt_of

from createagents_nb import CreateAgent, MetricsRecorder, StreamingResponseDTO, tool
from createagents_nb.errors import CreateAgentsError

__all__ = ["Report", "Sample", "closed", "grown", "soak"]

WAYS = ("await", "await", "await", "iterate", "drop", "cancel", "task", "timeout", "leave", "thread", "twice")
"""How a turn is consumed, and for all after ``drop``, how it is stopped at a random moment."""
_LONGEST_S = 0.4
"""About as long as a turn takes: stops come somewhere in it."""
MEMORY_BOUND = 1.10


@dataclass(frozen=True)
class Sample:
    at_s: float
    rss: int
    tasks: int
    connections: int
    threads: int


@dataclass
class Report:
    """What a soak found; ``problems`` is empty when all is well."""

    statuses: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    turns: int = 0
    took_s: float = 0.0


def _plan(turns: int, agents: int, seed: int) -> list[Planned]:
    chance = random.Random(seed)
    tools = ("quick", "quick_async", "fails", "hangs", "hangs_async", "long")
    planned = []
    for number in range(turns):
        agent = number % agents
        rounds = [(chance.choice(FAULTS), chance.choice(tools)) for _ in range(chance.choice((0, 0, 1, 1, 2)))]
        rounds = [(fault if chance.random() < 0.3 else "none", name) for fault, name in rounds]
        rounds.append((chance.choice(FAULTS) if chance.random() < 0.6 else "none", ""))
        way = chance.choice(WAYS)
        planned.append(Planned(agent, f"m{agent}x{number}", tuple(rounds), way, chance.uniform(0, _LONGEST_S)))
    return planned


def _tools(agent: int, strangers: list[str], over: threading.Event) -> list[Any]:
    """Tools of one agent: each says whose it is, and notes a mark that is not its agent's."""

    def answer(mark: str) -> str:
        if not mark.startswith(f"m{agent}x"):
            strangers.append(f"a tool of agent {agent} was given {mark}")
        return f"{mark} result"

    @tool
    def quick(mark: str) -> str:
        """Answers."""
        return answer(mark)

    @tool
    async def quick_async(mark: str) -> str:
        """Answers."""
        await asyncio.sleep(0)
        return answer(mark)

    @tool
    def fails(mark: str) -> str:
        """Fails."""
        raise LookupError(answer(mark))

    @tool(timeout_s=0.05)
    def hangs(mark: str) -> str:
        """Takes longer than it may."""
        over.wait(0.3)
        return answer(mark)

    @tool(timeout_s=0.05)
    async def hangs_async(mark: str) -> str:
        """Never ends."""
        await asyncio.Event().wait()
        return answer(mark)

    @tool
    async def long(mark: str) -> str:
        """Takes a while."""
        await asyncio.sleep(0.1)
        return answer(mark)

    return [quick, quick_async, fails, hangs, hangs_async, long]


async def _consume(agent: CreateAgent, planned: Planned) -> StreamingResponseDTO | None:
    """One turn, consumed and perhaps stopped as planned; None where the response was dropped."""
    response = await agent.chat(prompt_of(planned.mark, planned.rounds))
    loop = asyncio.get_running_loop()
    try:
        match planned.way:
            case "await":
                await response
            case "iterate":
                said = "".join([token async for token in response])
                assert said == response.text
            case "drop":
                return None
            case "cancel":
                loop.call_later(planned.stop_s, response.cancel)
                await response
            case "twice":
                loop.call_later(planned.stop_s, response.cancel)
                loop.call_later(planned.stop_s + 0.002, response.cancel)
                await response
            case "task":
                waiting = asyncio.ensure_future(_text(response))
                loop.call_later(planned.stop_s, waiting.cancel)
                with suppress(asyncio.CancelledError):
                    await waiting
            case "timeout":
                with suppress(TimeoutError):
                    async with asyncio.timeout(planned.stop_s):
                        await response
            case "leave":
                async with aclosing(aiter(response)) as tokens:
                    async for _ in tokens:
                        break
                await response.aclose()
            case "thread":
                await asyncio.sleep(planned.stop_s)
                await asyncio.to_thread(response.cancel)
                await response
    except CreateAgentsError:
        pass  # a fault that was planned
    await response.wait()
    return response


async def _text(response: StreamingResponseDTO) -> str:
    return await response


async def soak(
    server: SoakServer,
    *,
    turns: int,
    agents: int,
    seed: int,
    spread_s: float = 0.0,
    at_once: int = 40,
    sample_s: float = 10.0,
    say: Callable[[Sample], None] = lambda sample: None,
) -> Report:
    """Run the plan of ``seed``: so many turns, ``at_once`` together, begun evenly over ``spread_s`` seconds."""
    report, over = Report(turns=turns), threading.Event()
    recorder = MetricsRecorder()
    members = [
        CreateAgent(
            "openai",
            "m",
            name=f"agent {number}",
            base_url=server.url,
            api_key="none",
            recorder=recorder,
            tools=_tools(number, report.problems, over),
            max_retries=1,
            history_max_size=6,
            timeout_s=20,
        )
        for number in range(agents)
    ]
    await members[0].chat("m0x0 " + '{"mark": "m0x0", "rounds": [["500 once", ""]]}')  # loads what is needed
    await members[0].aclose()
    recorder.clear()
    members[0].clear_history()
    tasks, started = asyncio.all_tasks(), time.monotonic()
    process, places = psutil.Process(), asyncio.Semaphore(at_once)

    def sample() -> None:
        gc.collect()
        numbers = len(asyncio.all_tasks()), server.open_connections, threading.active_count()
        report.samples.append(Sample(time.monotonic() - started, process.memory_info().rss, *numbers))
        say(report.samples[-1])

    async def sampling() -> None:
        while True:
            sample()
            await asyncio.sleep(sample_s)

    async def one(planned: Planned) -> None:
        async with places:
            response = await _consume(members[planned.agent], planned)
        if response is not None:
            report.problems += complaints(planned, response)

    watching = asyncio.create_task(sampling())
    async with asyncio.TaskGroup() as group:
        for number, planned in enumerate(_plan(turns, agents, seed)):
            begins = started + spread_s * (number - number % at_once) / turns
            await asyncio.sleep(max(0.0, begins - time.monotonic()))
            await places.acquire()
            places.release()
            group.create_task(one(planned))
    await _until(lambda: all(record.status != "running" for record in recorder.call_records), 30)
    over.set()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await _until(lambda: asyncio.all_tasks() == tasks and server.busy == 0 and not _tool_threads(), 10)
    sample()
    report.took_s = time.monotonic() - started
    for task in asyncio.all_tasks() - tasks:
        report.problems.append(f"a task is left: {task!r}")
    if server.busy:
        report.problems.append(f"{server.busy} requests are still being answered")
    report.problems += [f"the thread of a tool is left: {name}" for name in _tool_threads()]
    report.problems += complaints_about_rows(recorder, turns)
    for number, agent in enumerate(members):
        report.problems += complaints_about_history(number, agent.history)
    report.statuses = Counter(record.status for record in recorder.call_records)
    report.tools = Counter(record.status for record in recorder.tool_records)
    return report


def _tool_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tool ")]


async def _until(condition: Callable[[], bool], at_most_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            while not condition():  # noqa: ASYNC110 - of many turns, in another thread too
                await asyncio.sleep(0.01)


def grown(samples: Sequence[Sample]) -> float:
    """The median memory of the last fifth of the samples over that of the second."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    return statistics.median(s.rss for s in late) / statistics.median(s.rss for s in early)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"turns": 3000, "agents": 20, "seconds": 300, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    options = parser.parse_args()

    def say(sample: Sample) -> None:
        print(
            f"{sample.at_s:6.0f} s  {sample.rss / 1e6:6.1f} MB  tasks {sample.tasks:3}  "
            f"connections {sample.connections:3}  threads {sample.threads:3}",
            flush=True,
        )

    with SoakServer(options.seed) as server:
        arguments = {"turns": options.turns, "agents": options.agents, "seed": options.seed}
        report = asyncio.run(soak(server, **arguments, spread_s=options.seconds, say=say))
        if not closed(server):
            report.problems.append(f"{server.open_connections} connections are left")
    growth = grown(report.samples)
    if len(report.samples) >= 10 and growth > MEMORY_BOUND:
        report.problems.append(f"memory grew by {growth - 1:.0%}, {MEMORY_BOUND - 1:.0%} is the bound")
    print(f"{report.turns} turns on {options.agents} agents in {report.took_s:.0f} s: {dict(report.statuses)}")
    print(f"tools: {dict(report.tools)}; memory: the last fifth over the second {growth:.3f}")
    for problem in report.problems[:50]:
        print("PROBLEM", problem)
    print(f"{len(report.problems)} problems" if report.problems else "nothing leaked, nothing was mixed up")
    return 1 if report.problems else 0


def closed(server: SoakServer, at_most_s: float = 10.0) -> bool:
    deadline = time.monotonic() + at_most_s
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    return not server.open_connections


if __name__ == "__main__":
    sys.exit(main())
