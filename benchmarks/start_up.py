"""What starting costs: imports, an agent, ``%load_ext``, a kernel's first chat; and a long answer in a cell."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

OPENAI = "fake-n{tokens}-d0-f0-t0-b1"

IMPORT = "import time; t = time.process_time(); {}; print((time.process_time() - t) * 1e3)"

BUILD = """
import timeit
from createagents_nb import CreateAgent
CreateAgent("openai", "m", base_url="http://127.0.0.1:1/v1")
print(min(timeit.repeat(
    lambda: CreateAgent("openai", "m", base_url="http://127.0.0.1:1/v1"), number=200, repeat=5)) / 200 * 1e3)
"""

LOAD = """
import time; _w, _c = time.perf_counter(), time.process_time()
get_ipython().run_line_magic("load_ext", "createagents_nb")
_c, _w = time.process_time() - _c, time.perf_counter() - _w
print(_c * 1e3, _w * 1e3)
"""

OUR_FIRST = """
import time; _t = time.perf_counter()
from createagents_nb import CreateAgent
async for _ in await CreateAgent("openai", "{model}", base_url="{url}").chat("hello"):
    print((time.perf_counter() - _t) * 1e3)
    break
"""

SDK_FIRST = """
import time; _t = time.perf_counter()
import openai
_client = openai.AsyncOpenAI(base_url="{url}", api_key="none")
async for _chunk in await _client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "hello"}}], stream=True
):
    if _chunk.choices and _chunk.choices[0].delta.content:
        print((time.perf_counter() - _t) * 1e3)
        break
"""

WARM = """
import threading
for _thread in threading.enumerate():
    if _thread.name == "createagents-nb-warm-up":
        _thread.join()
"""

SHOWN = """
import time; _c = time.process_time()
_r = await _agent.chat("hello")
await __import__("createagents_nb").notebook.display.watch(_r)
_c = time.process_time() - _c
"""

REPAINTED = """
import time, openai
from IPython.display import Markdown, display, update_display
_client = openai.AsyncOpenAI(base_url="{url}", api_key="none")
_c, _text, _last = time.process_time(), "", 0.0
display(Markdown(""), display_id="answer")
async for _chunk in await _client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "hello"}}], stream=True
):
    if _chunk.choices and _chunk.choices[0].delta.content:
        _text += _chunk.choices[0].delta.content
        if time.perf_counter() - _last > 0.05:
            _last = time.perf_counter()
            update_display(Markdown(_text), display_id="answer")
update_display(Markdown(_text), display_id="answer")
_c = time.process_time() - _c
"""


# Where no bytecode may be written, each import would compile its source, which no user's does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def in_process(code: str, rounds: int) -> float:
    """What a fresh interpreter prints, median."""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(rounds)
    ]
    return statistics.median(float(run.stdout) for run in runs)


class Kernel:
    """A fresh kernel that a page is thought to watch, where ``widget`` says so."""

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Kernel]:
        from jupyter_client.manager import start_new_kernel

        manager, client = start_new_kernel(kernel_name="python3")
        try:
            yield cls(client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str, *, widget: bool = False) -> tuple[int, str]:
        """Bytes of content over iopub, and what was printed."""
        client = self._client
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
        }
        metadata = {"cellId": "bench"} if widget else {}
        message = client.session.msg("execute_request", content, metadata=metadata)
        client.shell_channel.send(message)
        size, printed = 0, ""
        while True:
            try:
                reply: Any = client.get_iopub_msg(timeout=120)
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


def starting(port: int, rounds: int) -> dict[str, float]:
    """Milliseconds, medians."""
    url, model = f"http://127.0.0.1:{port}/v1", OPENAI.format(tokens=20)
    found: dict[str, list[float]] = {name: [] for name in ("load_cpu", "load", "first", "first_warm", "first_sdk")}
    for _ in range(rounds):
        with Kernel.started() as kernel:
            kernel.run("1")
            cpu, wall = kernel.run(LOAD)[1].split()
            found["load_cpu"].append(float(cpu))
            found["load"].append(float(wall))
            kernel.run(WARM)
            found["first_warm"].append(float(kernel.run(OUR_FIRST.format(url=url, model=model))[1]))
        for name, code in (("first", OUR_FIRST), ("first_sdk", SDK_FIRST)):
            with Kernel.started() as kernel:
                kernel.run("1")
                found[name].append(float(kernel.run(code.format(url=url, model=model))[1]))
    import_ms = in_process(IMPORT.format("import asyncio, createagents_nb"), rounds) - in_process(
        IMPORT.format("import asyncio"), rounds
    )
    return {
        "import": import_ms,
        "build": in_process(BUILD, 1),
        **{name: statistics.median(values) for name, values in found.items()},
    }


def long_answer(port: int, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    """Kernel CPU per token in µs, and bytes of iopub over those of the text, of an answer that a cell shows."""
    url, model = f"http://127.0.0.1:{port}/v1", OPENAI.format(tokens=tokens)
    found: dict[str, dict[str, list[float]]] = {}
    with Kernel.started() as kernel:
        kernel.run("%load_ext createagents_nb\nfrom createagents_nb import CreateAgent")
        kernel.run(WARM)
        kernel.run(f"_agent = CreateAgent('openai', '{model}', base_url='{url}', history_max_size=0)")
        kernel.run(SHOWN, widget=True)  # the widget's code travels once
        ways = {
            "widget": (SHOWN, True, "_r.text"),
            "static": (SHOWN, False, "_r.text"),
            "openai SDK + update_display(Markdown) at 20 Hz": (
                REPAINTED.format(url=url, model=model),
                True,
                "_text",
            ),
        }
        for _ in range(rounds):
            for name, (code, widget, text) in ways.items():
                size, _ = kernel.run(code, widget=widget)
                cpu, chars = kernel.run(f"print(_c, len({text}))")[1].split()
                figures = found.setdefault(name, {"us_tok": [], "bytes": []})
                figures["us_tok"].append(float(cpu) / tokens * 1e6)
                figures["bytes"].append(size / int(chars))
    return {
        name: {key: statistics.median(values) for key, values in figures.items()}
        for name, figures in found.items()
    }
