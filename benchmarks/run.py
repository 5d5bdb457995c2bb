"""Speed, side by side in one run: ``make bench``, or ``python benchmarks/run.py [--quick]``.

Prints a table and writes it to ``benchmarks/RESULTS.md``. Times are CPU times of this process or a child, medians
of interleaved rounds; on a shared machine the ratios can be trusted, single figures cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

HERE = Path(__file__).resolve().parent
MESSAGES = [{"role": "user", "content": "hello"}]


@contextmanager
def replay_server():
    process = subprocess.Popen([sys.executable, str(HERE / "replay_server.py")], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


async def stream_rounds(url: str, tokens: int, rounds: int) -> dict[str, float]:
    """CPU per token in µs, median."""
    import ollama
    import openai

    from createagents_nb import CreateAgent

    model = f"tokens-{tokens}"
    sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    ollama_sdk = ollama.AsyncClient(host=url)
    ours = CreateAgent("openai", model, base_url=f"{url}/v1", history_max_size=0)
    ours_ollama = CreateAgent("ollama", model, base_url=url, history_max_size=0)

    async def with_ours(agent: CreateAgent) -> int:
        return len([token async for token in await agent.chat("hello")])

    async def with_openai() -> int:
        count = 0
        stream = await sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                count += 1
        return count

    async def with_ollama() -> int:
        count = 0
        async for chunk in await ollama_sdk.chat(model=model, messages=MESSAGES, stream=True):
            if chunk.message.content:
                count += 1
        return count

    clients: dict[str, Callable[[], Awaitable[int]]] = {
        "createagents-nb, OpenAI": lambda: with_ours(ours),
        "openai SDK, create(stream=True)": with_openai,
        "createagents-nb, Ollama": lambda: with_ours(ours_ollama),
        "ollama SDK, chat(stream=True)": with_ollama,
    }
    spent: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(rounds + 1):
        for name, client in clients.items():
            gc.collect()
            before = time.process_time()
            assert await client() == tokens
            if number:  # the first round warms up
                spent[name].append((time.process_time() - before) / tokens * 1e6)
    await sdk.close()
    return {name: statistics.median(values) for name, values in spent.items()}


def import_cpu_ms(statement: str, rounds: int) -> float:
    code = f"import time; t = time.process_time(); {statement}; print((time.process_time() - t) * 1e3)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(rounds)
    ]
    return statistics.median(float(run.stdout) for run in runs)


class Kernel:
    def __enter__(self) -> Kernel:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, *, widget: bool = False) -> tuple[int, str]:
        """Bytes over iopub, and what was printed."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
        }
        message = self.client.session.msg(
            "execute_request", content, metadata={"cellId": "bench"} if widget else {}
        )
        self.client.shell_channel.send(message)
        size, printed = 0, ""
        while True:
            try:
                reply: Any = self.client.get_iopub_msg(timeout=120)
            except Empty:
                raise SystemExit(f"the kernel did not answer: {code!r}") from None
            if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if reply["msg_type"] == "error":
                raise SystemExit("\n".join(reply["content"]["traceback"]))
            if reply["content"].get("execution_state") == "idle":
                return size, printed
            size += len(json.dumps(reply["content"], default=str))
            printed += reply["content"].get("text", "")


def kernel_figures(url: str, rounds: int) -> tuple[float, float, list[tuple[str, int, int, float]]]:
    """%load_ext in a running kernel (CPU and wall, ms), and iopub bytes a turn by its length."""
    code = (
        "import time; _w, _c = time.perf_counter(), time.process_time()\n"
        "get_ipython().run_line_magic('load_ext', 'createagents_nb')\n"
        "_c, _w = time.thread_time() and time.process_time() - _c, time.perf_counter() - _w\n"
        "print(_c * 1e3, _w * 1e3)"
    )
    cpu, wall = [], []
    for _ in range(rounds):
        with Kernel() as kernel:
            kernel.run("1")
            figures = kernel.run(code)[1].split()
            cpu.append(float(figures[0]))
            wall.append(float(figures[1]))
    sizes = []
    with Kernel() as kernel:
        kernel.run("%load_ext createagents_nb\nfrom createagents_nb import CreateAgent")
        for widget in (True, False):
            for tokens in (500, 5_000, 50_000):
                kernel.run(
                    f"a = CreateAgent('openai', 'tokens-{tokens}', base_url='{url}/v1', history_max_size=0)"
                )
                size, _ = kernel.run(
                    "r = await a.chat('hello'); await __import__('createagents_nb').notebook.display.watch(r)",
                    widget=widget,
                )
                text = int(kernel.run("print(len(r.text))")[1])
                sizes.append(("widget" if widget else "static", tokens, text, size / text))
    return statistics.median(cpu), statistics.median(wall), sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    rounds, tokens = (3, 2_000) if quick else (7, 5_000)
    os.environ["OPENAI_API_KEY"] = "none"
    lines = [
        "# Speed, measured",
        "",
        f"`python benchmarks/run.py{' --quick' if quick else ''}` on Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}. CPU of the client, medians of {rounds} interleaved "
        "rounds; quote the ratios.",
        "",
        f"## CPU per token, a stream of {tokens:,} tokens",
        "",
        "| client | µs per token | ratio to the SDK |",
        "|---|---|---|",
    ]
    with replay_server() as url:
        stream = asyncio.run(stream_rounds(url, tokens, rounds))
        for name, value in stream.items():
            sdk = stream[
                "openai SDK, create(stream=True)"
                if "penAI" in name or "openai" in name
                else "ollama SDK, chat(stream=True)"
            ]
            lines.append(f"| {name} | {value:.1f} | {value / sdk:.3f} |")
        base = import_cpu_ms("import asyncio", rounds)
        ours = import_cpu_ms("import asyncio, createagents_nb", rounds)
        cpu, wall, sizes = kernel_figures(url, 3 if quick else 5)
    lines += [
        "",
        "## Start",
        "",
        "| what | ms |",
        "|---|---|",
        f"| `import createagents_nb`, CPU over `import asyncio` | {ours - base:.1f} |",
        f"| `%load_ext createagents_nb` in a running kernel, wall | {wall:.0f} |",
        f"| the same, CPU (the warm-up thread's share included) | {cpu:.0f} |",
        "",
        "## Messages to the page: iopub bytes over the characters of the answer",
        "",
        "Linear in the length of the answer: the factor does not grow. The constant part is the widget's code.",
        "",
        "| view | tokens | characters | bytes per character |",
        "|---|---|---|---|",
        *(f"| {view} | {n:,} | {text:,} | {ratio:.1f} |" for view, n, text, ratio in sizes),
    ]
    table = "\n".join(lines) + "\n"
    (HERE / "RESULTS.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
