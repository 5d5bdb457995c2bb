"""What a reader has of a streaming answer: in Chromium on a real JupyterLab and Notebook 7, with real kernels."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, sse
from kernel_client import IPYKERNEL, answer
from lab import SCROLLER, VIEWPORT, WIDGET_MIME, JupyterServer, NotebookPage
from playwright.sync_api import BrowserContext, Locator, Page, expect
from responses_script import event_stream, message, server_tool, stream

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

SETUP = """
%load_ext createagents_nb
import asyncio, base64, urllib.request
import pandas as pd
from createagents_nb import CreateAgent, MetricsRecorder, tool

def ask(server, message="Begin", **more):
    return CreateAgent("openai", "m", name="a", base_url=f"{server}/v1", api_key="k", **more).chat(message)

@tool
def wait(url: str) -> str:
    "Takes as long as the test wants."
    return urllib.request.urlopen(url).read().decode()

@tool
def frame() -> pd.DataFrame:
    "A table."
    return pd.DataFrame({"city": ["Oslo", "Lima"], "degrees": [1.5, 22]})

@tool
def picture() -> bytes:
    "A PNG."
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    return base64.b64decode(png)

@tool
def lines() -> str:
    "Many."
    return "\\n".join(f"line {number}" for number in range(100))

@tool
def broken() -> str:
    "Fails."
    raise ValueError("no such city")

@tool(timeout_s=0.1)
async def late() -> str:
    "Never comes."
    await asyncio.Event().wait()

@tool(requires_approval=True)
def delete() -> str:
    "Needs approval."
    return "deleted"

tools = [wait, frame, picture, lines, broken, late]
""".strip()

MARKDOWN = """# Title

Some *slanted* and **bold** text, `code`, and [a link](https://example.com).

- one
- two
  - nested

| city | degrees |
|------|--------:|
| Oslo | 1.5 |

```python
def double(x):
    return 2 * x  # why
```

> Said.

"""
MATHS = "Inline $z^2$, and\n\n$$\\frac{a}{b} + 1$$\n\n"

PAGE_SIDE = Path(__file__).with_name("reader.js")


LINES = "turn => linesOf(turn)"


_ids = itertools.count()


def call(at: int, tool: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return delta(tool_calls=[{"index": at, "id": f"call-{next(_ids)}", "function": function}])


def calls(*deltas: dict[str, Any], text: str = "") -> list[bytes]:
    """A reply that asks for tools."""
    return sse(*([delta(text)] if text else []), *deltas, delta(finish="tool_calls"))


class Cell:
    """One cell of the notebook in a tab, for as many turns as a test wants."""

    def __init__(self, tab: NotebookPage, server: ScriptedServer, number: int) -> None:
        self.tab, self.number, self._server = tab, number, server
        self.live, self.turn = tab.live(number), tab.turns(number)
        self.answer = self.live.locator(".createagents-answer")
        self.status = self.live.locator(".createagents-status")

    def run(self, source: str) -> None:
        """Run this instead of what the cell holds; ``ask(…)`` is told where the scripted server is."""
        self.tab.cell(self.number).locator(".cm-content").fill(
            source.replace("ask(", f"ask({self._server.url!r}, ")
        )
        self.tab.page.keyboard.press("Control+Enter")

    def ask(self, *parts: str | threading.Event) -> None:
        """Run a turn that is answered with these, and wait for its view."""
        self._server.enqueue(answer(*parts))
        self.run("await ask()")
        expect(self.live).to_have_count(1)

    def release(self, hold: threading.Event) -> None:
        """Let the last part come, and wait until the saved output has taken the view's place."""
        hold.set()
        self.wait_for_swap()

    def wait_for_swap(self, copies: int = 1) -> None:
        """Until the view is gone and its successor has what the reader had."""
        expect(self.live).to_have_count(0)
        expect(self.turn.locator(".createagents-copy-answer")).to_have_count(copies)
        self.tab.wait_until_ended(self.number)

    def clear(self) -> None:
        """Without code there is no output."""
        self.run("")
        expect(self.tab.cell(self.number).locator(".jp-OutputArea-output")).to_have_count(0)


@pytest.fixture(scope="module")
def window(window: BrowserContext, jupyter: JupyterServer) -> BrowserContext:
    window.grant_permissions(["clipboard-read", "clipboard-write"], origin=jupyter.url.rstrip("/"))
    window.add_init_script(path=PAGE_SIDE)
    return window


@pytest.fixture(scope="module")
def shared_tab(window: BrowserContext, jupyter: JupyterServer) -> Iterator[NotebookPage]:
    jupyter.write("view.ipynb", [SETUP, "", "", ""])
    with NotebookPage(window, jupyter, "view.ipynb") as tab:
        tab.run(0)
        tab.wait_until_ended(0)
        yield tab


@pytest.fixture
def tab(shared_tab: NotebookPage) -> Iterator[NotebookPage]:
    shared_tab.errors.clear()
    yield shared_tab
    shared_tab.server.interrupt_kernels()
    shared_tab.page.set_viewport_size(VIEWPORT)
    shared_tab.page.emulate_media(forced_colors="none")
    assert shared_tab.errors == []


@pytest.fixture
def cell(tab: NotebookPage, server: ScriptedServer) -> Cell:
    for number in (2, 3):
        Cell(tab, server, number).clear()
    cell = Cell(tab, server, 1)
    cell.clear()
    return cell


@pytest.fixture
def other_cell(cell: Cell, server: ScriptedServer) -> Cell:
    return Cell(cell.tab, server, 2)


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What keeps the rest of an answer back."""
    event = threading.Event()
    yield event
    event.set()


# While it streams


def test_markdown_streams_as_elements(cell: Cell, server: ScriptedServer, hold: threading.Event) -> None:
    reasoning = sse(delta(reasoning_content="I *think* so."), done=False)
    server.enqueue([*reasoning, *answer(MARKDOWN + MATHS, hold)])
    cell.run("await ask()")
    expect(cell.answer.locator("h1")).to_have_text("Title")
    expect(cell.answer.locator("p > strong")).to_have_text("bold")
    expect(cell.answer.locator("a")).to_have_attribute("href", "https://example.com")
    expect(cell.answer.locator("ul ul > li")).to_have_text("nested")
    expect(cell.answer.locator("tbody td").last).to_have_css("text-align", "right")
    keyword = cell.answer.locator("code.language-python span[style*='-keyword-color']")
    expect(keyword).to_have_text(["def ", "return "])
    expect(cell.answer.locator("blockquote")).to_contain_text("Said.")
    expect(cell.answer.locator("math")).to_have_count(2)
    expect(cell.answer.locator("math[display=block] mfrac")).to_have_count(1)
    reasoning = cell.live.locator("details.createagents-reasoning")
    assert reasoning.evaluate("details => details.open") is False
    expect(reasoning.locator("summary")).to_have_text("Reasoning")
    expect(reasoning.locator("p > em")).to_have_text("think")
    expect(cell.answer).not_to_contain_text("think")


HALVES = {
    "strong": ("alpha **bo", "ld**", "alpha bo"),
    "fence": ("alpha\n\n```py\nx", " = 1\n```", "alpha\nx"),
    "table": ("alpha\n\n| a | b |", "\n|---|---|\n| 1 | 2 |", None),
    "link": ("alpha [link](http", "s://example.com)", "alpha link"),
    "maths": ("alpha $x^", "2$", None),
}


def test_half_finished_constructs_show_no_raw_syntax(cell: Cell) -> None:
    holds = [threading.Event() for _ in range(2 * len(HALVES))]
    parts: list[str | threading.Event] = []
    for (name, (half, rest, _)), middle, end in zip(HALVES.items(), holds[::2], holds[1::2], strict=True):
        parts += [f"begin-{name} {half}", middle, f"{rest}\n\nend-{name}\n\n", end]
    cell.ask(*parts)
    for (name, (_, _, shown)), middle, end in zip(HALVES.items(), holds[::2], holds[1::2], strict=True):
        expect(cell.answer).to_contain_text(f"begin-{name}")
        text = cell.answer.evaluate("textOf").partition(f"begin-{name}")[2]
        assert not set(text) & set("*`|[]($^"), name
        if shown is not None:
            assert text.split() == shown.split()
        middle.set()
        expect(cell.answer).to_contain_text(f"end-{name}")
        end.set()
    cell.wait_for_swap()


def test_half_a_page_of_answers_stays_as_it_is_when_its_end_comes(cell: Cell, hold: threading.Event) -> None:
    """What has been read is not made again: the elements stay the same ones while text comes."""
    more = threading.Event()
    cell.ask(MARKDOWN, hold, "More text", more)
    expect(cell.answer.locator("blockquote")).to_be_visible()
    expect(cell.answer.locator(".createagents-copy-code")).to_have_count(1)
    cell.answer.evaluate("answer => answer.querySelectorAll('h1, li, pre').forEach(one => one.isTheSame = true)")
    hold.set()
    expect(cell.answer).to_contain_text("More text")
    assert cell.answer.evaluate("a => [...a.querySelectorAll('h1, li, pre')].every(one => one.isTheSame)")
    cell.release(more)


# The end


def test_saved_turn_takes_the_place_of_the_view_unseen(cell: Cell, hold: threading.Event) -> None:
    cell.tab.page.evaluate("keepEnded()")
    cell.ask(MARKDOWN, "The end.", hold)
    expect(cell.answer).to_contain_text("The end.")
    live = cell.live.locator(".createagents-turn")
    streamed = live.evaluate(LINES)
    height, left = height_of(live), left_of(live.locator("table"))
    cell.release(hold)
    saved = cell.turn.evaluate(LINES)
    assert saved[:-1] == streamed[:-1]  # the last line is the status
    assert cell.tab.page.evaluate("ended.map(turn => linesOf(turn))") == [saved]
    assert abs(height_of(cell.turn) - height) <= 2
    assert left_of(cell.turn.locator("table")) == left


def test_all_kinds_of_blocks_are_saved_as_they_were_seen(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    cell.tab.page.evaluate("keepEnded()")
    asks = [call(at, name) for at, name in enumerate(["frame", "picture", "lines", "broken", "unheard_of"])]
    server.enqueue([*sse(delta(reasoning_content="Hm."), done=False), *calls(*asks, text="Let me look.")])
    server.enqueue([*calls(call(0, "frame"))])
    server.enqueue(answer(MATHS, "The end.", hold))
    cell.run("await ask(tools=tools)")
    expect(cell.answer.last).to_contain_text("The end.")
    streamed = cell.live.locator(".createagents-turn").evaluate(LINES)
    cell.release(hold)
    saved = cell.turn.evaluate(LINES)
    assert saved[:-1] == streamed[:-1]
    assert cell.tab.page.evaluate("ended.map(turn => linesOf(turn))") == [saved]


@pytest.fixture
def low_window(cell: Cell) -> Locator:
    """What scrolls, in a window that is lower than an answer; the cell that asks is in view."""
    cell.tab.page.set_viewport_size({"width": 1100, "height": 700})
    cell.tab.cell(cell.number).evaluate("cell => cell.scrollIntoView()")
    return cell.tab.page.locator(SCROLLER).first


def paragraphs(first: int, last: int) -> str:
    return "".join(f"Paragraph {number}.\n\n" for number in range(first, last))


@pytest.mark.parametrize("pixels", [30, 600])
def test_reader_who_has_scrolled_away_is_left_alone(
    cell: Cell, low_window: Locator, hold: threading.Event, pixels: int
) -> None:
    page, end = cell.tab.page, threading.Event()
    cell.ask(paragraphs(0, 60), hold, paragraphs(60, 90), end)
    expect(cell.answer).to_contain_text("Paragraph 59")
    cell.status.evaluate("status => status.scrollIntoView({ block: 'end' })")
    before = low_window.evaluate("element => element.scrollTop")
    low_window.hover()
    page.mouse.wheel(0, -pixels)
    page.wait_for_function(f"top => document.querySelector('{SCROLLER}').scrollTop === top", arg=before - pixels)
    top = top_of(cell.answer.locator("p").nth(40))
    hold.set()
    expect(cell.answer).to_contain_text("Paragraph 89")
    painted(page)
    assert low_window.evaluate("element => element.scrollTop") == before - pixels
    cell.release(end)
    assert low_window.evaluate("element => element.scrollTop") == before - pixels
    assert abs(top_of(cell.turn.locator("p").nth(40)) - top) <= 2


def test_end_stays_in_view_for_who_reads_it(cell: Cell, low_window: Locator) -> None:
    for _ in range(6):  # a page makes a view before or after it has a place for it
        hold, end = threading.Event(), threading.Event()
        cell.ask("Begin.\n\n", hold, paragraphs(0, 60), end)
        hold.set()
        expect(cell.answer).to_contain_text("Paragraph 59")
        expect(cell.status).to_be_in_viewport(ratio=1)
        cell.release(end)
        expect(cell.turn.locator(".createagents-status")).to_be_in_viewport(ratio=1)
        cell.tab.cell(cell.number).evaluate("cell => cell.scrollIntoView()")


def test_reader_who_comes_back_to_the_end_follows_it_again(
    cell: Cell, low_window: Locator, hold: threading.Event
) -> None:
    end = threading.Event()
    cell.ask(paragraphs(0, 60), hold, paragraphs(60, 90), end)
    expect(cell.answer).to_contain_text("Paragraph 59")
    cell.answer.locator("p").nth(20).evaluate("paragraph => paragraph.scrollIntoView()")
    painted(cell.tab.page)
    cell.status.evaluate("status => status.scrollIntoView({ block: 'end' })")
    painted(cell.tab.page)
    hold.set()
    expect(cell.answer).to_contain_text("Paragraph 89")
    expect(cell.status).to_be_in_viewport(ratio=1)
    cell.release(end)


FOCUS = {
    ".createagents-stop": ".createagents-copy-answer",
    ".createagents-copy-answer": ".createagents-copy-answer",
    ".createagents-tool >> nth=1 >> summary >> nth=0": ".createagents-tool >> nth=1 >> summary >> nth=0",
    ".createagents-copy-code >> nth=1": ".createagents-copy-code >> nth=1",
}


@pytest.mark.parametrize("focused", FOCUS)
def test_focus_and_what_was_opened_go_over_to_the_saved_turn(
    cell: Cell, server: ScriptedServer, hold: threading.Event, focused: str
) -> None:
    page = cell.tab.page
    server.enqueue(calls(call(0, "frame"), call(1, "lines")))
    server.enqueue(answer("```\none\n```\n\n```\ntwo\n```\n\nMore.\n\nThe end.", hold))
    cell.run("await ask(tools=tools)")
    expect(cell.answer).to_contain_text("The end.")
    card = cell.live.locator(".createagents-tool").nth(1)
    card.locator("summary").first.click()
    card.locator("summary").get_by_text("Show all").click()
    cell.live.locator(focused).focus()
    page.evaluate("watchFocus()")
    cell.release(hold)
    expect(cell.turn.locator(FOCUS[focused])).to_be_focused()
    assert page.evaluate("focusWasLost") is False
    opened = cell.turn.locator("details").evaluate_all("all => all.map(details => details.open)")
    assert opened == [False, True, True]


def test_what_was_opened_in_a_card_stays_so_when_the_card_changes(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    server.enqueue(calls(call(0, "lines")))
    server.enqueue([*sse(delta("Once more."), done=False), hold, *calls(call(0, "lines"))])
    end = threading.Event()
    server.enqueue(answer("The end.", end))
    cell.run("await ask(tools=tools)")
    expect(cell.answer).to_contain_text("Once more.")
    card = cell.live.locator(".createagents-tool").first
    card.locator("> summary").click()
    more = card.get_by_text("Show all")
    more.click()
    more.focus()
    hold.set()
    expect(card.locator("> summary")).to_contain_text("round 1")
    expect(more).to_be_focused()
    expect(card.get_by_text("line 99")).to_be_visible()
    cell.release(end)


def test_a_turn_that_ends_before_the_page_has_time_for_it_is_handed_over(cell: Cell) -> None:
    page = cell.tab.page
    page.evaluate(
        """() => {
            window.kept = [window.requestAnimationFrame, window.setInterval];
            window.requestAnimationFrame = window.setInterval = () => 0;
        }"""
    )
    try:
        cell.run("%%agent -p demo\nTell me a story")
        cell.live.get_by_role("button", name="Stop").click()
        cell.wait_for_swap()
    finally:
        page.evaluate("() => { [window.requestAnimationFrame, window.setInterval] = window.kept; }")
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· stopped ·")


def test_focus_elsewhere_is_not_taken(cell: Cell, other_cell: Cell, hold: threading.Event) -> None:
    cell.ask("Begin", hold)
    cell.live.get_by_role("button", name="Stop").focus()
    editor = cell.tab.cell(other_cell.number).locator(".cm-content")
    editor.click()
    cell.tab.page.keyboard.type("typed ")
    cell.release(hold)
    cell.tab.page.keyboard.type("on")
    expect(editor).to_have_text("typed on")


# Buttons


def test_answer_and_code_are_copied_before_and_after_the_end(cell: Cell, hold: threading.Event) -> None:
    page, source = cell.tab.page, f"{MARKDOWN}{MATHS}The end."
    cell.ask(source, hold)
    expect(cell.answer).to_contain_text("The end.")

    def assert_copies(turn: Locator) -> None:
        for name, copied in {
            ".createagents-copy-answer": source,
            ".createagents-copy-code": "def double(x):\n    return 2 * x  # why\n",
        }.items():
            page.evaluate("navigator.clipboard.writeText('')")
            turn.locator(name).click()
            expect(turn.locator(name)).to_have_text("Copied")
            assert page.evaluate("navigator.clipboard.readText()") == copied

    assert_copies(cell.live)
    cell.release(hold)
    assert_copies(cell.turn)


def test_letters_run_no_command_while_something_of_ours_has_the_focus(cell: Cell, hold: threading.Event) -> None:
    cells = cell.tab.page.locator(".jp-Notebook .jp-Cell")
    before = cells.count()
    cell.ask("```\ncode\n```\n\nMore.\n\nThe end.", hold)
    expect(cell.answer).to_contain_text("The end.")

    def assert_deaf(turn: Locator, buttons: int) -> None:
        expect(turn.get_by_role("button")).to_have_count(buttons)
        for button in turn.get_by_role("button").all():
            button.press("b")  # elsewhere in an output, this inserts a cell
            expect(button).to_be_focused()
            painted(cell.tab.page)
            assert cells.count() == before, button.inner_text()

    assert_deaf(cell.live, 3)
    cell.release(hold)
    assert_deaf(cell.turn, 2)


def test_stop_of_a_view_keeps_what_has_come(cell: Cell, hold: threading.Event) -> None:
    cell.ask("As far as here.", hold)
    expect(cell.answer).to_contain_text("As far as here.")
    cell.live.get_by_role("button", name="Stop").click()
    cell.wait_for_swap()
    expect(cell.turn).to_contain_text("As far as here.")
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· stopped ·")


# Tools and the status line


def test_cards_tell_how_each_call_goes(cell: Cell, server: ScriptedServer, hold: threading.Event) -> None:
    server.on("/slow", Reply([b"slow", hold, b"ly"], headers={}))
    names = ["frame", "picture", "lines", "broken", "late", "unheard_of"]
    server.enqueue(calls(call(0, "wait", url=f"{server.url}/slow"), *map(call, range(1, 7), names)))
    server.enqueue(calls(call(0, "frame")))
    server.enqueue(answer("The end."))
    cell.run("await ask(tools=tools)")
    cards = cell.live.locator(".createagents-tool")
    heads = [
        r"^wait\(url=.*\) — running…$",
        r"^frame\(\) — done · \d+\.\d+ s$",
        r"^picture\(\) — done · \d+\.\d+ s$",
        r"^lines\(\) — done · \d+\.\d+ s$",
        r"^broken\(\) — failed · \d+\.\d+ s$",
        r"^late\(\) — timed out · \d+\.\d+ s$",
        r"^unheard_of\(\) — rejected: unknown tool$",  # it did not run
    ]
    expect(cards.locator("> summary")).to_have_text([re.compile(head) for head in heads])
    assert_results(cards)
    hold.set()
    cell.wait_for_swap()
    cards = cell.turn.locator(".createagents-tool")
    states = [r"round 1$"] * 7 + [r"^frame\(\) — done · \d+\.\d+ s · round 2$"]
    expect(cards.locator("> summary")).to_have_text([re.compile(state) for state in states])
    expect(cards.first).to_contain_text("slowly")
    assert_results(cards)


def test_a_line_beside_the_answer_and_a_call_that_was_cut_are_saved_as_they_were_seen(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    cell.tab.page.evaluate("keepEnded()")
    server.enqueue(answer("One."))
    server.enqueue(json_reply({"error": {"message": "", "code": "context_length_exceeded"}}, "400 Bad Request"))
    server.enqueue(sse(call(0, "frame"), delta(finish="length")))
    server.enqueue(answer("Here I am.", hold))
    cell.run(
        f"agent = CreateAgent('openai', 'm', base_url={server.openai_url!r}, api_key='k', tools=tools)\n"
        "first = await (await agent.chat('First'))\n"
        "await agent.chat('Begin')"
    )
    expect(cell.live.locator(".createagents-tool > summary")).to_have_text(["frame() — not run"])
    notice = "The conversation no longer fits the model's context: the oldest turn was left out"
    expect(cell.live.locator(".createagents-notice")).to_have_text([notice])
    expect(cell.answer.last).to_contain_text("Here I am.")
    streamed = cell.live.locator(".createagents-turn").evaluate(LINES)
    cell.release(hold)
    saved = cell.turn.evaluate(LINES)
    assert saved[:-1] == streamed[:-1]
    assert cell.tab.page.evaluate("ended.map(turn => linesOf(turn))") == [saved]


def test_a_step_that_the_provider_runs_is_a_card(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    action = {
        "type": "search",
        "query": "<b>tide</b>",
        "sources": [{"type": "url", "url": "https://tides.example"}],
    }
    events = event_stream(stream(server_tool("web_search_call", action=action), message("At four.")))
    done = next(at for at, event in enumerate(events) if b"output_item.done" in event)
    server.enqueue([*events[:done], hold, *events[done:]])
    cell.run("await ask(config={'api': 'responses', 'server_tools': ['web_search']})")
    cards = cell.live.locator(".createagents-tool")
    expect(cards.locator("> summary")).to_have_text(["web_search() — running… · run by the provider"])
    cell.release(hold)
    card = cell.turn.locator(".createagents-tool")
    head = 'web_search(type="search", query="<b>tide</b>") — done · run by the provider'
    expect(card.locator("> summary")).to_have_text([head])
    card.locator("> summary").click()
    expect(card.get_by_text("https://tides.example")).to_be_visible()
    expect(cell.turn).to_contain_text("At four.")


def assert_results(cards: Locator) -> None:
    frame, picture, lines, broken, late, unheard_of = (cards.nth(at) for at in range(1, 7))
    expect(frame.locator("th")).to_have_text(["city", "degrees"])
    expect(frame.locator("td")).to_have_text(["Oslo", "1.5", "Lima", "22.0"])
    expect(frame.locator("td").last).to_have_css("text-align", "right")
    expect(picture.locator("img")).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    expect(picture.locator("img")).to_be_visible()  # an image is not folded
    assert picture.locator("img").evaluate("image => image.naturalWidth") == 1
    assert frame.evaluate("card => card.open") is False
    lines.locator("> summary").click()
    expect(lines.get_by_text("line 99")).not_to_be_visible()
    show_all = lines.get_by_text(re.compile(r"^Show all \d+ characters$"))
    show_all.click()
    expect(lines.get_by_text("line 99")).to_be_visible()
    expect(broken).to_contain_text("no such city")
    expect(late).to_contain_text("0.1 s")
    expect(unheard_of).to_contain_text("There is no tool 'unheard_of'")
    show_all.click()  # what is left open stays so in the saved turn
    lines.locator("> summary").click()


def test_status_line_runs_and_tells_the_end(cell: Cell, server: ScriptedServer, hold: threading.Event) -> None:
    usage = {"prompt_tokens": 1_234, "completion_tokens": 56, "total_tokens": 1_290}
    server.enqueue(
        [*sse(delta("Text"), done=False), hold, *sse(delta(finish="stop"), {"choices": [], "usage": usage})]
    )
    cell.run("await ask()")
    line = r"a · openai/m · streaming… · {} · first token \d+\.\d+ s"
    for time in (r"\d+ s", r"[1-9]\d* s"):  # it runs
        expect(cell.status).to_contain_text(re.compile(line.format(time)))
    cell.release(hold)
    expect(cell.turn.locator(".createagents-status")).to_contain_text(
        re.compile(r"^a · openai/m · done · \d+\.\d+ s · first token \d+\.\d+ s · 1,234 → 56 tokens")
    )


@pytest.mark.skipif(IPYKERNEL < 7, reason="ipykernel 6 hears no page while a cell runs")
def test_status_line_says_that_a_turn_waits_for_approval(cell: Cell, server: ScriptedServer) -> None:
    server.enqueue(calls(call(0, "delete")))
    server.enqueue(answer("Done."))
    cell.run("await ask(tools=[delete])")
    expect(cell.status).to_contain_text(re.compile(r"a · openai/m · waiting for approval · \d+ s"))
    cell.live.get_by_role("button", name="Approve", exact=True).click()
    cell.wait_for_swap()
    expect(cell.turn.locator(".createagents-status")).to_contain_text("a · openai/m · done · ")


def test_status_line_of_a_turn_that_failed_or_came_to_its_limit(cell: Cell, server: ScriptedServer) -> None:
    server.enqueue(sse(delta("As far as here."), {"error": {"message": "out of order"}}, done=False))
    cell.run("await ask()")
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· failed ·")
    expect(cell.turn).to_contain_text("As far as here.")
    expect(cell.tab.error(cell.number)).to_contain_text("out of order")
    server.enqueue(calls(call(0, "frame")))
    server.enqueue(calls(call(0, "frame")))
    cell.run("await ask(tools=tools, max_tool_rounds=1)")
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· tool limit reached ·")
    expect(cell.tab.error(cell.number)).to_have_count(0)


def test_demo_says_that_it_is_one(cell: Cell) -> None:
    cell.run("%%agent -p demo\nTell me a story")
    expect(cell.status).to_contain_text("· demo provider: canned text")
    cell.live.get_by_role("button", name="Stop").click()
    cell.wait_for_swap()
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· demo provider: canned text")


# More than one view


@pytest.fixture
def second_views(cell: Cell) -> Iterator[Locator]:
    """The views of outputs beside the notebook; they are closed in the end."""
    page = cell.tab.page
    yield page.locator(".jp-LinkedOutputView")
    for tab in page.locator(".lm-TabBar-tab").filter(has_text="Output View").all():
        tab.locator(".lm-TabBar-tabCloseIcon").click()


def test_second_view_of_an_output_shows_the_text_so_far_and_goes_on(
    cell: Cell, server: ScriptedServer, second_views: Locator
) -> None:
    holds = [threading.Event() for _ in range(2)]
    reasoning = sse(delta(reasoning_content="Hm."), done=False)
    server.enqueue([*reasoning, *answer("As far as here. ", holds[0], "And on. ", holds[1], "To the end.")])
    cell.run("await ask()")
    expect(cell.answer).to_contain_text("As far as here.")
    summary = cell.live.locator("summary")
    summary.click()
    cell.answer.click(button="right")
    cell.tab.page.get_by_role("menuitem", name="Create New View for Cell Output").click()
    text_so_far = re.compile(r"^\s*As far as here\.\s*$")
    expect(second_views.locator(".createagents-live .createagents-answer")).to_have_text(text_so_far)
    assert cell.live.locator("details").evaluate("details => details.open")  # the first one is as it was
    holds[0].set()
    for view in (cell.live, second_views):
        expect(view.locator(".createagents-answer")).to_contain_text("As far as here. And on.")
    holds[1].set()
    cell.wait_for_swap()
    for turn in (cell.turn, second_views.locator(".createagents-turn")):
        expect(turn).to_contain_text("As far as here. And on. To the end.")
        expect(turn.locator(".createagents-status")).to_contain_text("· done ·")
    expect(second_views.locator(".createagents-live")).to_have_count(0)


def test_turn_is_shown_again_by_the_magic_and_as_a_value(
    cell: Cell, other_cell: Cell, server: ScriptedServer
) -> None:
    server.enqueue(answer(MARKDOWN))
    cell.run("await ask()")
    cell.wait_for_swap()
    shown = cell.turn.evaluate(LINES)
    for source in ("%agent show -1", "_", f"_{other_cell.tab.prompt(cell.number).inner_text()[1:-2]}"):
        other_cell.clear()
        other_cell.run(source)
        expect(other_cell.turn).to_have_count(1)
        assert other_cell.turn.evaluate(LINES) == shown
        expect(other_cell.live).to_have_count(0)


# For everyone


def test_answer_that_is_not_kept_stays_in_the_page_and_is_not_saved(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    server.enqueue(calls(call(0, "frame"), text="canary one "))
    server.enqueue(answer("canary **two**", hold, " canary three"))
    cell.run("await ask(tools=tools, recorder=MetricsRecorder(record_content=False))")
    expect(cell.answer.last).to_contain_text("canary two")
    cell.release(hold)
    expect(cell.turn).to_contain_text("canary one")
    expect(cell.turn.locator("strong", has_text="two")).to_be_visible()
    expect(cell.turn).to_contain_text("canary three")
    expect(cell.turn).to_contain_text("Not saved with the notebook")
    expect(cell.turn.locator("summary", has_text="frame")).to_have_count(1)
    saved = json.dumps(cell.tab.save())
    assert "canary" not in saved
    assert "The answer is not kept" in saved


def test_screen_readers_are_told_of_the_start_and_the_end_only(cell: Cell) -> None:
    page, holds = cell.tab.page, [threading.Event() for _ in range(3)]
    page.evaluate("keepTold()")
    cell.ask("One. ", holds[0], "Two. ", holds[1], "Three.", holds[2])
    for hold, text in zip(holds, ["One.", "Two.", "Three."], strict=True):
        expect(cell.answer).to_contain_text(text)
        hold.set()
    cell.wait_for_swap()
    assert page.evaluate("told") == ["a is answering", "a: done"]
    expect(page.locator("[role=status].createagents-announcer")).to_have_count(1)


def test_arabic_runs_from_right_to_left_and_code_from_left_to_right(cell: Cell, hold: threading.Event) -> None:
    cell.ask("مرحبا بالعالم\n\n- واحد\n\n```python\nprint('مرحبا')\n```\n\nEnglish.", hold)
    expect(cell.answer).to_contain_text("English.")

    def assert_directions(turn: Locator) -> None:
        for element, direction in {"p >> nth=0": "rtl", "li": "rtl", "pre": "ltr", "pre code": "ltr"}.items():
            expect(turn.locator(element)).to_have_css("direction", direction)
        expect(turn.locator(".createagents-status")).to_have_css("direction", "ltr")

    assert_directions(cell.live)
    cell.release(hold)
    assert_directions(cell.turn)


def test_narrow_notebook_does_not_scroll_sideways(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    page = cell.tab.page
    text = f"{'word ' * 40}\n\n{'w' * 300}\n\n```\n{'code ' * 60}\n```\n\n`{'c' * 200}`\n\n"
    table = f"|{' a_column |' * 12}\n|{'---|' * 12}\n|{' value |' * 12}\n\n"
    formula = f"$$\n{' + '.join(f'x_{{{at}}}' for at in range(60))}\n$$\n\n"
    server.enqueue(calls(call(0, "frame"), call(1, "w" * 100, argument="a" * 300), call(2, "lines")))
    server.enqueue(answer(text + table + formula, "The end.", hold))
    page.set_viewport_size({"width": 620, "height": 1600})
    page.keyboard.press("Control+b")  # the file browser
    try:
        expect(page.locator("#jp-left-stack")).to_be_hidden()
        cell.run("await ask(tools=tools)")
        expect(cell.answer).to_contain_text("The end.")
        for summary in cell.live.locator(".createagents-tool > summary").all():
            summary.click()
        scroller = page.locator(SCROLLER).first
        # A wide table and code scroll by themselves, and a name stands on one line.
        wide = "answer => [...answer.querySelectorAll('pre, div:has(> table)')].map(overflow)"
        names = "answer => answer.querySelector('thead').offsetHeight"
        text_overflows = "answer => Math.max(...[...answer.querySelectorAll('p')].map(overflow))"
        saved = cell.turn.locator(".createagents-answer")
        for shown in (cell.answer, saved):
            if shown is saved:
                cell.release(hold)
            assert scroller.evaluate("overflow") == 0
            assert shown.evaluate(text_overflows) <= 0
            assert min(shown.evaluate(wide)) > 0
            assert shown.evaluate(names) < 40
    finally:
        page.set_viewport_size(VIEWPORT)
        page.keyboard.press("Control+b")
        expect(page.locator("#jp-left-stack")).to_be_visible()


def all_kinds(cell: Cell, server: ScriptedServer, hold: threading.Event) -> None:
    """A turn with everything in it, unfolded, before its end."""
    server.enqueue([*sse(delta(reasoning_content="Hm."), done=False), *calls(call(0, "frame"), call(1, "lines"))])
    server.enqueue(answer(MARKDOWN, "The end.", hold))
    cell.run("await ask(tools=tools)")
    expect(cell.answer).to_contain_text("The end.")
    cell.live.locator("details").evaluate_all("all => all.forEach(details => (details.open = true))")


def test_nothing_moves_by_itself(cell: Cell, server: ScriptedServer, hold: threading.Event) -> None:
    all_kinds(cell, server, hold)
    assert cell.live.evaluate("moving") == []
    cell.release(hold)
    assert cell.turn.evaluate("moving") == []


@pytest.fixture
def dark(cell: Cell) -> Iterator[None]:
    """Lab's dark theme, as a user chooses it."""
    choose_theme(cell.tab, "JupyterLab Dark")
    yield
    choose_theme(cell.tab, "JupyterLab Light")


def choose_theme(tab: NotebookPage, name: str) -> None:
    for item in ("Settings", "Theme", name):
        tab.page.locator(".lm-Menu-itemLabel, .lm-MenuBar-itemLabel").get_by_text(item, exact=True).click()
    expect(tab.page.locator(f"body[data-jp-theme-name='{name}']")).to_be_attached()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(
    cell: Cell, server: ScriptedServer, hold: threading.Event, theme: str, request: pytest.FixtureRequest
) -> None:
    if theme == "dark":
        request.getfixturevalue("dark")
    all_kinds(cell, server, hold)
    assert cell.live.evaluate("faint") == []
    cell.live.get_by_role("button", name="Stop").hover()
    assert cell.live.evaluate("faint") == []
    cell.release(hold)
    assert cell.turn.evaluate("faint") == []


def test_buttons_and_cards_keep_their_borders_with_forced_colours(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    cell.tab.page.emulate_media(forced_colors="active")
    all_kinds(cell, server, hold)
    assert cell.live.evaluate("borderless") == []
    cell.release(hold)
    assert cell.turn.evaluate("borderless") == []


# Notebook 7


@pytest.fixture(scope="module")
def classic_tab(window: BrowserContext, jupyter: JupyterServer) -> Iterator[NotebookPage]:
    jupyter.write("view-7.ipynb", [SETUP, ""])
    with NotebookPage(window, jupyter, "view-7.ipynb", app="notebook") as tab:
        tab.run(0)
        tab.wait_until_ended(0)
        yield tab


def test_notebook_7_streams_markdown_and_swaps_unseen(
    classic_tab: NotebookPage, server: ScriptedServer, hold: threading.Event
) -> None:
    cell = Cell(classic_tab, server, 1)
    server.enqueue(calls(call(0, "frame")))
    server.enqueue(answer(MARKDOWN, "The end.", hold))
    cell.run("await ask(tools=tools)")
    expect(cell.answer).to_contain_text("The end.")
    cell.live.locator(".createagents-tool > summary").click()
    cell.live.get_by_role("button", name="Stop").focus()
    live = cell.live.locator(".createagents-turn")
    streamed, height, left = live.evaluate(LINES), height_of(live), left_of(live.locator("table").last)
    cell.release(hold)
    assert cell.turn.evaluate(LINES)[:-1] == streamed[:-1]
    assert abs(height_of(cell.turn) - height) <= 2
    assert left_of(cell.turn.locator("table").last) == left
    expect(cell.turn.locator(".createagents-copy-answer")).to_be_focused()


def test_notebook_7_stops_and_keeps(
    classic_tab: NotebookPage, server: ScriptedServer, hold: threading.Event
) -> None:
    cell = Cell(classic_tab, server, 1)
    cell.ask("As far as the button. ", hold)
    expect(cell.live).to_contain_text("As far as the button.")
    cell.live.get_by_role("button", name="Stop").click()
    classic_tab.wait_until_ended(1)
    expect(cell.live).to_have_count(0)
    expect(cell.turn).to_contain_text("As far as the button.")
    expect(cell.turn.locator(".createagents-status")).to_contain_text("· stopped")
    (output,) = classic_tab.save().cells[1].outputs
    assert WIDGET_MIME not in output.data
    assert "As far as the button." in output.data["text/markdown"]


def height_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().height"))


def left_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().left"))


def top_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().top"))


def painted(page: Page) -> None:
    """What was to be done has been done: two frames have passed."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
