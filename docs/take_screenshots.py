"""Take the pictures of the documentation: ``take_screenshots.py [NAME…]`` writes ``docs/*.png``.

A real JupyterLab in Chromium shows the demo provider, and models that a scripted server plays.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from family import ScriptedServer, delta, sse  # noqa: E402
from lab import JupyterServer, NotebookPage, browser, find_chromium  # noqa: E402
from playwright.sync_api import Browser, expect  # noqa: E402

from createagents_nb import CreateAgent, MetricsRecorder, tool  # noqa: E402

SETUP = """
%load_ext createagents_nb
import time

import pandas as pd
from createagents_nb import CreateAgent, tool

names = ["ICE 577", "TGV 6173", "AVE 3142"]
df = pd.DataFrame({"train": names, "speed": [300, 320, 310], "delay_min": [12, 4.5, 0]})

@tool
def rows(limit: int = 5) -> pd.DataFrame:
    "First rows of the table of trains."
    return df.head(limit)

@tool(timeout_s=0.5)
def weather(city: str) -> str:
    "The weather."
    time.sleep(2)
    return "sun"

@tool(requires_approval=True)
def cancel_train(train: str, refund: bool = True) -> str:
    "Cancels a train."
    return f"{train} is cancelled"

@tool
def delays(train: str) -> float:
    "The delay of a train in minutes."
    return float(df.set_index("train").delay_min[train])
""".strip()

ANSWER = r"""## What the table says

The fastest train is the **TGV 6173** at `320` km/h:

| train | speed | delay |
|---|--:|--:|
| ICE 577 | 300 | 12 |
| TGV 6173 | 320 | 4.5 |
| AVE 3142 | 310 | 0 |

The mean delay is $\bar d = \frac{1}{n}\sum_i d_i = 5.5$ minutes. In pandas:

```python
mean = df["delay_min"].mean()  # minutes
print(f"{mean:.1f}")
```

- [x] speeds read
- [ ] delays *explained*
"""


def call(number: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": number, "id": f"call_{number}", "type": "function", "function": function}])


def texts(text: str) -> list[bytes]:
    return sse(*[delta(text[at : at + 20]) for at in range(0, len(text), 20)], done=False)


class Studio:
    """One picture after another, each of a notebook of its own."""

    def __init__(self, chromium: Browser, jupyter: JupyterServer, server: ScriptedServer) -> None:
        self.chromium, self.jupyter, self.server = chromium, jupyter, server

    def take(
        self,
        name: str,
        *replies: Sequence[bytes | threading.Event],
        until: Callable[[NotebookPage], None],
        prompt: str = "Describe the table of trains",
        tools: str = "",
        width: int = 900,
        theme: str = "JupyterLab Light",
        then: Callable[[NotebookPage], None] = lambda tab: None,
        **options: Any,
    ) -> None:
        for reply in replies:
            self.server.enqueue(reply)
        self.jupyter.set_lab("apputils-extension/themes", {"theme": theme})
        context = self.jupyter.context(
            self.chromium, viewport={"width": width, "height": 900}, device_scale_factor=1.5, **options
        )
        model = f"'openai', 'gpt-4.1-mini', base_url='{self.server.openai_url}', api_key='none', tools=[{tools}]"
        setup = f"{SETUP}\n\ntrains = CreateAgent({model}, name='trains')"
        self.jupyter.write(f"{name}.ipynb", [setup, f"%%agent trains\n{prompt}"])
        with NotebookPage(context, self.jupyter, f"{name}.ipynb") as tab:
            tab.page.keyboard.press("Control+b")  # no file browser
            tab.run(0)
            tab.wait_until_ended(0)
            tab.run(1)
            until(tab)
            output = tab.cell(1)
            output.scroll_into_view_if_needed()
            output.screenshot(path=str(ROOT / "docs" / f"{name}.png"))
            for piece in (piece for reply in replies for piece in reply):
                if isinstance(piece, threading.Event):
                    piece.set()
            then(tab)
            tab.wait_until_ended(1)
        context.close()
        print(f"docs/{name}.png", flush=True)


def ended(tab: NotebookPage) -> None:
    tab.wait_until_ended(1)
    expect(tab.live(1)).to_have_count(0)


def answering(text: str) -> Callable[[NotebookPage], None]:
    return lambda tab: expect(tab.live(1)).to_contain_text(text)


def asked(tab: NotebookPage) -> None:
    expect(tab.live(1).get_by_role("button", name="Approve")).to_be_visible()
    tab.page.mouse.move(0, 0)


def rejected(tab: NotebookPage) -> None:
    tab.live(1).get_by_role("button", name="Reject").click()


def unfolded(tab: NotebookPage) -> None:
    ended(tab)
    for number in range(2):
        tab.turns(1).locator("details.createagents-tool > summary").nth(number).click()


def stopped(tab: NotebookPage) -> None:
    expect(tab.live(1)).to_contain_text("The fastest train")
    tab.live(1).get_by_role("button", name="Stop").click()
    ended(tab)


def pictures(studio: Studio) -> dict[str, Callable[[], None]]:
    at = ANSWER.index("print(")
    end = sse(delta(finish="stop"))
    whole = [*texts(ANSWER), *end]
    begun = texts(ANSWER[:150])
    calls = [
        call(0, "rows", '{"limit": 3}'),
        call(1, "delays", '{"train": "ICE 1"}'),
        call(2, "weather", '{"city": "Lyon"}'),
        call(3, "plot", "{}"),
    ]
    error = sse({"error": {"message": "The server is overloaded", "code": 503}})

    def half() -> list[bytes | threading.Event]:
        return [*texts(ANSWER[:at]), threading.Event(), *texts(ANSWER[at:]), *end]

    in_mid_stream = answering("mean =")
    return {
        "streaming": lambda: studio.take("streaming", half(), until=in_mid_stream),
        "dark": lambda: studio.take("dark", half(), until=in_mid_stream, theme="JupyterLab Dark"),
        "contrast": lambda: studio.take("contrast", half(), until=in_mid_stream, forced_colors="active"),
        "narrow": lambda: studio.take("narrow", half(), until=in_mid_stream, width=560),
        "saved": lambda: studio.take("saved", whole, until=ended),
        "cards": lambda: studio.take(
            "cards",
            sse(*calls, delta(finish="tool_calls")),
            [*texts(ANSWER[: ANSWER.index("\n\n|")]), *end],
            until=unfolded,
            prompt="Which train is late, and how is the weather in Lyon?",
            tools="rows, delays, weather",
        ),
        "approval": lambda: studio.take(
            "approval",
            [
                *texts("The **ICE 577** is 12 minutes late. I would cancel it."),
                *sse(call(0, "cancel_train", '{"train": "ICE 577", "refund": true}'), delta(finish="tool_calls")),
            ],
            [*texts("It runs, then."), *end],
            until=asked,
            then=rejected,
            prompt="Do something about the late train",
            tools="rows, delays, cancel_train",
        ),
        "failed": lambda: studio.take("failed", [*begun, *error], until=ended),
        "timeline": draw_timeline,
        "stopped": lambda: studio.take("stopped", [*begun, threading.Event()], until=stopped),
    }


def draw_timeline() -> None:
    """A chart needs no browser."""
    recorder = MetricsRecorder()

    @tool
    async def weather(city: str) -> str:
        """Weather of a city."""
        await asyncio.sleep(0.6)
        return f"{city}: clear"

    @tool
    async def population(city: str) -> int:
        """How many people live in a city."""
        await asyncio.sleep(0.15)
        return 100_000 * len(city)

    async def ask(city: str) -> None:
        agent = CreateAgent("demo", name=city, tools=[weather, population], recorder=recorder)
        await (await agent.chat(f"What is the weather of {city} and the population of {city}?"))

    async def ask_all() -> None:
        await ask("Faro")  # the start of the demo's server is not what is shown
        recorder.clear()
        await asyncio.gather(*map(ask, ("Lisbon", "Porto", "Recife")))

    def draw() -> None:
        asyncio.run(ask_all())
        recorder.timeline().savefig(ROOT / "docs" / "timeline.png", dpi=100)

    drawing = threading.Thread(target=draw)  # the browser's driver has this thread's loop
    drawing.start()
    drawing.join()


def main() -> None:
    path = find_chromium()
    if path is None:
        sys.exit("No Chromium: run `python scripts/ensure_chromium.py`")
    with (
        tempfile.TemporaryDirectory() as folder,
        browser(path) as chromium,
        JupyterServer(Path(folder) / "jupyter") as jupyter,
        ScriptedServer() as server,
    ):
        made = pictures(Studio(chromium, jupyter, server))
        for name in sys.argv[1:] or made:
            made[name]()


if __name__ == "__main__":
    main()
