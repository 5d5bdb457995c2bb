"""Runs answers in a real JupyterLab, and measures what they cost the page, the wire and the kernel."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from lab import JupyterServer, NotebookPage, browser, find_chromium  # noqa: E402
from paced_server import MARK, text_of  # noqa: E402
from playwright.sync_api import BrowserContext, WebSocket  # noqa: E402
from playwright.sync_api import TimeoutError as PageTimeoutError  # noqa: E402

# What Lab asks of its server when a page opens, seconds of work that have nothing to do with an answer.
LAB = {
    "buildCheck": "false",
    "disabledExtensions": {
        f"@jupyterlab/notebook-extension:{name}": True for name in ("export", "update-raw-mimetype")
    },
}
VIEWPORT = {"width": 1280, "height": 900}
LATE_S = 60.0
"""How long after its kernel a page may still be busy; then it is given up."""

SETUP = """\
%load_ext createagents_nb
import asyncio, json, time
from IPython.display import Markdown, display
from createagents_nb import CreateAgent

def agent(model):
    return CreateAgent("openai", model, base_url={url!r}, api_key="none", history_max_size=0)

bench = agent({model!r})
async for _ in await agent("tokens-20-rate-1000-prose").chat("Begin"):
    pass  # the SDK's import is not what is measured

_started = [0.0, 0.0]
def _start(info):
    _started[:] = time.time(), time.process_time()
def _end(result):
    line = json.dumps([*_started, time.time(), time.process_time(), bool(result.success)])
    with open({stamps!r}, "a") as file:
        file.write(line + "\\n")
get_ipython().events.register("pre_run_cell", _start)
get_ipython().events.register("post_run_cell", _end)
"""
MAGIC = "%%agent bench\nBegin"
AWAITED = "await bench.chat('Begin')"
UNSEEN = "async for _ in await bench.chat('Begin'): pass"
BASELINE = """\
shown, text, due = display(Markdown(""), display_id=True), "", time.perf_counter() + 0.05
async for token in await bench.chat("Begin"):
    text += token
    if time.perf_counter() >= due:
        shown.update(Markdown(text))
        due = time.perf_counter() + 0.05
shown.update(Markdown(text))
"""
# Enough above the answer that there is somewhere to scroll to.
FILLER = "\n".join(f"# line {number}" for number in range(60))


@dataclass
class Answer:
    """What one answer in a cell cost. Times in seconds."""

    tokens: int
    text: int
    """The answer's length in bytes."""
    kernel_s: float
    kernel_cpu_s: float
    late_s: float = 0.0
    """From the kernel's end to the painted end of the text; infinite: given up."""
    tasks_s: list[float] = field(default_factory=list)
    """Long tasks in the page (> 50 ms)."""
    messages: Counter[str] = field(default_factory=Counter)
    """By type."""
    sizes: Counter[str] = field(default_factory=Counter)
    """Their bytes, all of them, by type."""
    headers: int = 0
    """Of these bytes, what the protocol says of each message before its content."""
    page_cpu_s: float = 0.0
    """Of the page's main thread."""
    scroll: Scroll | None = None


@dataclass(frozen=True)
class Scroll:
    """What a reader saw, frame by frame. Lengths in CSS pixels."""

    frames: int
    cut_off_frames: int
    """In which the end of the answer was below the window."""
    cut_off: float
    """How far, at most."""
    moved: float
    """The greatest change of scrollTop from where the reader had left it."""
    height_change: float
    """The greatest jump in the height of the output from the last live frame on."""
    blank_frames: int
    """Between the live view and the static one."""


class Bench:
    """A model server, a Jupyter server and a browser."""

    def __enter__(self) -> Bench:
        chromium = find_chromium()
        if chromium is None:
            raise SystemExit("no Chromium: set CHROMIUM=/path/to/it, or `python -m playwright install chromium`")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            lab = folder / "config" / "labconfig" / "page_config.json"
            lab.parent.mkdir(parents=True)
            lab.write_text(json.dumps(LAB))
            self.model_url = stack.enter_context(_paced_server())
            self.jupyter: JupyterServer = stack.enter_context(JupyterServer(folder))
            chrome = stack.enter_context(browser(chromium))
            self._context: BrowserContext = self.jupyter.context(chrome, viewport=VIEWPORT)
            self._context.add_init_script(path=HERE / "view_probe.js")
            self._stack, self._folder, self._tabs = stack.pop_all(), folder, 0
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def tab(self, model: str, cells: list[str]) -> Iterator[Tab]:
        """A notebook of its own in a tab of its own, set up, and closed at the end."""
        self._tabs += 1
        name, stamps = f"view{self._tabs}.ipynb", self._folder / f"stamps{self._tabs}"
        setup = SETUP.format(url=f"{self.model_url}/v1", model=model, stamps=str(stamps))
        self.jupyter.write(name, [setup, FILLER, *cells])
        try:
            yield Tab(self.jupyter, self._context, name, stamps, model)
        finally:
            for page in self._context.pages:
                page.close()
            self.jupyter.shut_down_kernels(name)


class Tab:
    FIRST = 2
    """The first cell after the set-up."""

    def __init__(
        self, jupyter: JupyterServer, context: BrowserContext, name: str, stamps: Path, model: str
    ) -> None:
        _, tokens, _, rate, self._kind = model.split("-")
        self._tokens, self._seconds, self._stamps = int(tokens), int(tokens) / int(rate), stamps
        self._messages, self._sizes, self._headers, self._ran = Counter[str](), Counter[str](), 0, 0
        context.once("page", lambda page: page.on("websocket", self._listen))
        self.notebook = NotebookPage(context, jupyter, name)
        self.page = self.notebook.page
        self._devtools = context.new_cdp_session(self.page)
        self._devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.notebook.run(0)
        self.notebook.wait_until_ended(0)
        self._stamps.write_text("")

    def run(self, cell: int, *, baseline: bool = False, reader: str | None = None) -> Answer:
        """Run a cell that shows an answer.

        Args:
            reader: ``"bottom"`` for one who follows the end, ``"middle"`` for one who reads in the middle.
        """
        limit_ms = (self._seconds + LATE_S) * 1000
        options = {"cell": cell, "mark": MARK, "baseline": baseline, "frames": bool(reader), "limitMs": limit_ms}
        self.page.evaluate("options => viewProbe.watch(options)", options)
        self._messages, self._sizes, self._headers = Counter(), Counter(), 0
        cpu_before = self._page_cpu_s()
        if reader == "bottom":
            self._scroll(cell, reader)
        self.notebook.run(cell)
        since = self._scroll(cell, reader) if reader == "middle" else 0.0
        try:
            self.page.wait_for_function("viewProbe.now.result", polling=250, timeout=limit_ms + LATE_S * 1000)
            found = self.page.evaluate("viewProbe.now.result")
        except PageTimeoutError:
            found = None
        answer, started, ended = self._answer()
        answer.messages, answer.sizes, answer.headers = self._messages, self._sizes, self._headers
        if found is None:  # the page hangs
            answer.late_s, answer.tasks_s, answer.page_cpu_s = math.inf, [math.inf], math.inf
            return answer
        answer.page_cpu_s = self._page_cpu_s() - cpu_before
        done = found["at"] / 1000
        answer.late_s = done - ended if found["done"] else math.inf
        answer.tasks_s = [
            length / 1000
            for at, length in found["tasks"]
            if length > 50 and at / 1000 < done and (at + length) / 1000 > started
        ]
        if reader:
            answer.scroll = _scroll_of([frame for frame in found["frames"] if frame[0] >= since])
        return answer

    def run_unwatched(self, cell: int) -> Answer:
        """Run a cell and measure nothing but its kernel."""
        self.notebook.run(cell)
        self.notebook.wait_until_ended(cell)
        return self._answer()[0]

    def _scroll(self, cell: int, reader: str) -> float:
        """As a user does, with the wheel; when that was done, in Date.now()'s ms."""
        if reader == "middle":
            higher = "cell => viewProbe.cell(cell).offsetHeight > 1.5 * innerHeight"
            self.page.wait_for_function(higher, arg=cell, polling=100)
        self.page.mouse.move(VIEWPORT["width"] / 2, VIEWPORT["height"] / 2)
        distance = self.page.evaluate("to => viewProbe.wheelTo(to)", {"cell": cell, "where": reader})
        self.page.mouse.wheel(0, distance)
        self.page.wait_for_timeout(200)
        return float(self.page.evaluate("Date.now()"))

    def _answer(self) -> tuple[Answer, float, float]:
        """What the kernel says of the cell that ran, and when it started and ended."""
        self._ran += 1
        lines = self._stamps.read_text().splitlines()
        if len(lines) != self._ran:
            raise SystemExit(f"the kernel did not finish a cell of {self._kind}")
        started, cpu_started, ended, cpu_ended, success = json.loads(lines[-1])
        if not success:
            output = "".join(self.page.locator(".jp-OutputArea").all_inner_texts())
            raise SystemExit(f"a cell failed: … {output.strip()[-1000:]}")
        text = len(text_of(self._kind, self._tokens).encode())
        return Answer(self._tokens, text, ended - started, cpu_ended - cpu_started), started, ended

    def _page_cpu_s(self) -> float:
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    def _listen(self, websocket: WebSocket) -> None:
        if "/channels" in websocket.url:
            websocket.on("framereceived", self._count)

    def _count(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            header = json.loads(payload)["header"]
        else:  # v1.kernel.websocket.jupyter.org: how many offsets, the offsets, channel, header, parent, metadata…
            header_at, parent_at, _, content_at = struct.unpack_from("<4Q", payload, 16)
            header = json.loads(payload[header_at:parent_at])
            self._headers += content_at
        self._messages[header["msg_type"]] += 1
        self._sizes[header["msg_type"]] += len(payload)


@contextmanager
def _paced_server() -> Iterator[str]:
    command = [sys.executable, str(HERE / "paced_server.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


def _scroll_of(frames: list[list[Any]]) -> Scroll:
    """From lines of ``[time, scrollTop, height of the output, state, what is cut off]``."""
    below = [cut_off for _, _, _, state, cut_off in frames if state and cut_off > 2]
    live = [at for at, frame in enumerate(frames) if frame[3] == "live"]
    after = frames[live[-1] :] if live else []
    heights = [frame[2] for frame in after]
    return Scroll(
        frames=len(frames),
        cut_off_frames=len(below),
        cut_off=max(below, default=0.0),
        moved=max(abs(frame[1] - frames[0][1]) for frame in frames),
        height_change=max((abs(b - a) for a, b in pairwise(heights)), default=0.0),
        blank_frames=sum(not frame[3] for frame in after),
    )
