"""Our agents as one more client of the reference benchmark (``../shared/bench/bench_client.py``).

``python benchmarks/stream_client.py BENCH_FOLDER CLIENT MODE [args]`` is ``bench_client.py CLIENT MODE [args]``
with ``createagents_nb_openai`` and ``createagents_nb_ollama`` added: the same code measures all. With ``_uvloop``
at the end of a client's name the loop is uvloop's.
"""

from __future__ import annotations

import asyncio
import importlib.util
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


def adapter(provider: str, base_url: str) -> Callable[[], tuple[Any, Any]]:
    """As the others there: ``factory(model, k)`` gives k streams, ``tool(model)`` is one turn with one tool."""

    def build() -> tuple[Any, Any]:
        from createagents_nb import CreateAgent

        def get_value(x: int) -> str:
            """Get the value"""
            return "42"

        def factory(model: str, count: int) -> list[Callable[[], AsyncIterator[str]]]:
            agents = [CreateAgent(provider, model, base_url=base_url) for _ in range(count)]

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
                agents[model] = CreateAgent(provider, model, base_url=base_url, tools=[get_value])
            async for _ in await agents[model].chat("hello"):
                pass
            agents[model].clear_history()

        return factory, tool

    return build


def main() -> None:
    folder = Path(sys.argv.pop(1))
    bench = reference(folder)
    for ending in ("", "_uvloop"):
        bench.AD[f"createagents_nb_openai{ending}"] = adapter("openai", bench.BASE)
        bench.AD[f"createagents_nb_ollama{ending}"] = adapter("ollama", bench.OBASE)
    if "uvloop" in bench.CLIENT:
        import uvloop

        uvloop.run(bench.main())
    else:
        asyncio.run(bench.main())
    sys.stdout.flush()
    os._exit(0)  # as the reference does: what a run leaves behind is not measured


if __name__ == "__main__":
    main()
