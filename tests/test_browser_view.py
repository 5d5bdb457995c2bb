"""What a reader has of a streaming answer: in Chromium on a real JupyterLab and Notebook 7, with real kernels."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, sse
from kernel_client import answer
from lab import SCROLLER, VIEWPORT, JupyterServer, NotebookPage
from playwright.sync_api import BrowserContext, Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

SETUP = """
%load_ext createagents_nb
import asyncio, base64, urllib.request
import pandas as pd
from createagents_nb import CreateAgent, tool

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

PAGE_SIDE = """
// One line a node. Aside: buttons, colours inside code, typeset maths, and what Lab adds to headings and links.
window.linesOf = (node, depth = "") => {
    if (node instanceof Text) return [depth + JSON.stringify(node.data)];
    if (node.matches("button, .numbering-entry")) return [];
    const attributes = [...node.attributes].filter(({ name }) => !(name === "rel" && node.matches("a")));
    const head = depth + [node.localName, ...attributes.map(({ name, value }) => `${name}=${value}`).sort()].join(" ");
    if (node.matches(".createagents-maths")) return [head];
    if (node.matches("code, .createagents-status")) return [head, depth + " " + JSON.stringify(textOf(node))];
    return [head, ...[...node.childNodes].flatMap(child => linesOf(child, depth + " "))];
};
window.textOf = node => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll("button").forEach(button => button.remove());
    return copy.textContent;
};
// The live views that are taken away from now on, as they were at the end.
window.keepEnded = () => {
    window.ended = [];
    new MutationObserver(records => {
        for (const { removedNodes } of records) for (const node of removedNodes) {
            const turn = node.querySelector?.(".createagents-live > .createagents-turn");
            if (turn) window.ended.push(turn);
        }
    }).observe(document.body, { childList: true, subtree: true });
};
// What screen readers are told from now on.
window.keepTold = () => {
    window.told = [];
    const region = node => (node instanceof Element ? node : node.parentElement)?.closest(
        "[role=status], [role=alert], [role=log], [aria-live]:not([aria-live=off])");
    new MutationObserver(records => {
        for (const { target, type } of records) if (region(target)) window.told.push(region(target).textContent);
        for (const { addedNodes } of records) for (const node of addedNodes) {
            if (node instanceof Element && node === region(node) && node.textContent) window.told.push(node.textContent);
        }
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
};
// Whether the focus falls back to the body, in any frame from now on.
window.watchFocus = () => {
    window.focusWasLost = false;
    const look = () => {
        window.focusWasLost ||= document.activeElement === document.body;
        requestAnimationFrame(look);
    };
    look();
};
// Texts whose contrast with what is behind them is below 4.5; colours in code are the theme's.
window.faint = root => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], behind) => [r, g, b].map((value, at) => a * value + (1 - a) * behind[at]);
    const behind = element => element
        ? over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [255, 255, 255];
    const light = color => color.map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const found = [];
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        const element = text.parentElement;
        if (!text.data.trim() || element.matches("code span")) continue;
        const background = behind(element);
        const [one, other] = [light(background), light(over(rgba(getComputedStyle(element).color), background))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) found.push(`${text.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return found;
};
"""


def call(at: int, tool: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return delta(tool_calls=[{"index": at, "id": f"call-{at}-{tool}", "function": function}])


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
    window.add_init_script(PAGE_SIDE)
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
    streamed = live.evaluate("linesOf")
    height, left = height_of(live), left_of(live.locator("table"))
    cell.release(hold)
    saved = cell.turn.evaluate("linesOf")
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
    streamed = cell.live.locator(".createagents-turn").evaluate("linesOf")
    cell.release(hold)
    saved = cell.turn.evaluate("linesOf")
    assert saved[:-1] == streamed[:-1]
    assert cell.tab.page.evaluate("ended.map(turn => linesOf(turn))") == [saved]


def test_reader_who_has_scrolled_away_is_left_alone(cell: Cell, hold: threading.Event) -> None:
    page, scroller, end = cell.tab.page, cell.tab.page.locator(SCROLLER).first, threading.Event()
    page.set_viewport_size({"width": 1100, "height": 700})
    cell.ask(paragraphs(0, 60), hold, paragraphs(60, 90), end)
    expect(cell.answer).to_contain_text("Paragraph 59")
    cell.answer.locator("p").nth(20).evaluate("paragraph => paragraph.scrollIntoView()")
    before, top = scroller.evaluate("element => element.scrollTop"), top_of(cell.answer.locator("p").nth(20))
    assert before > 0
    hold.set()
    expect(cell.answer).to_contain_text("Paragraph 89")
    assert scroller.evaluate("element => element.scrollTop") == before
    cell.release(end)
    assert scroller.evaluate("element => element.scrollTop") == before
    assert abs(top_of(cell.turn.locator("p").nth(20)) - top) <= 2


def test_end_stays_in_view_for_who_reads_it(cell: Cell, hold: threading.Event) -> None:
    cell.tab.page.set_viewport_size({"width": 1100, "height": 700})
    end = threading.Event()
    cell.ask(paragraphs(0, 60), hold, paragraphs(60, 90), end)
    expect(cell.answer).to_contain_text("Paragraph 59")
    expect(cell.status).to_be_in_viewport(ratio=1)  # the cell was in view when it was run
    cell.answer.locator("p").nth(20).evaluate("paragraph => paragraph.scrollIntoView()")
    cell.status.evaluate("status => status.scrollIntoView({ block: 'end' })")
    hold.set()
    expect(cell.answer).to_contain_text("Paragraph 89")
    expect(cell.status).to_be_in_viewport(ratio=1)
    cell.release(end)
    expect(cell.turn.locator(".createagents-status")).to_be_in_viewport(ratio=1)


FOCUS = {
    ".createagents-stop": ".createagents-copy-answer",
    ".createagents-copy-answer": ".createagents-copy-answer",
    ".createagents-tool >> nth=1 >> summary": ".createagents-tool >> nth=1 >> summary",
    ".createagents-copy-code >> nth=1": ".createagents-copy-code >> nth=1",
}


@pytest.mark.parametrize("focused", FOCUS)
def test_focus_and_what_was_opened_go_over_to_the_saved_turn(
    cell: Cell, server: ScriptedServer, hold: threading.Event, focused: str
) -> None:
    page = cell.tab.page
    server.enqueue(calls(call(0, "frame"), call(1, "lines")))
    server.enqueue(answer("```\none\n```\n\n```\ntwo\n```\n\nThe end.", hold))
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
    cell.ask("```\ncode\n```\n\nThe end.", hold)
    expect(cell.answer).to_contain_text("The end.")

    def assert_deaf(turn: Locator) -> None:
        for button in turn.get_by_role("button").all():
            for key in ("a", "b", "x", "m", "d", "d"):
                button.press(key)
            expect(button).to_be_focused()
            expect(cells).to_have_count(before)
        expect(cell.tab.cell(cell.number)).to_have_class(re.compile("jp-CodeCell"))

    assert_deaf(cell.live)
    cell.release(hold)
    assert_deaf(cell.turn)


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
        r"^unheard_of\(\) — rejected: unknown tool · \d+\.\d+ s$",
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
    lines.get_by_text(re.compile(r"^Show all \d+ characters$")).click()
    expect(lines.get_by_text("line 99")).to_be_visible()
    expect(broken).to_contain_text("no such city")
    expect(late).to_contain_text("0.1 s")
    expect(unheard_of).to_contain_text("There is no tool 'unheard_of'")
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


def test_second_view_of_an_output_shows_the_text_so_far_and_goes_on(cell: Cell, server: ScriptedServer) -> None:
    page, holds = cell.tab.page, [threading.Event() for _ in range(2)]
    reasoning = sse(delta(reasoning_content="Hm."), done=False)
    server.enqueue([*reasoning, *answer("As far as here. ", holds[0], "And on. ", holds[1], "To the end.")])
    cell.run("await ask()")
    expect(cell.answer).to_contain_text("As far as here.")
    cell.live.locator("summary").click()
    cell.live.locator("summary").focus()
    cell.answer.click(button="right")
    page.get_by_role("menuitem", name="Create New View for Cell Output").click()
    second = page.locator(".jp-LinkedOutputView")
    expect(second.locator(".createagents-live .createagents-answer")).to_have_text(
        re.compile("^As far as here. *$")
    )
    assert cell.live.locator("details").evaluate("details => details.open")  # the first one is as it was
    holds[0].set()
    for view in (cell.live, second):
        expect(view.locator(".createagents-answer")).to_contain_text("As far as here. And on.")
    holds[1].set()
    cell.wait_for_swap()
    for turn in (cell.turn, second.locator(".createagents-turn")):
        expect(turn).to_contain_text("As far as here. And on. To the end.")
        expect(turn.locator(".createagents-status")).to_contain_text("· done ·")
    expect(second.locator(".createagents-live")).to_have_count(0)
    page.locator(".lm-TabBar-tab.lm-mod-current").filter(has_text="Output View").locator(
        ".lm-TabBar-tabCloseIcon"
    ).click()
    expect(second).to_have_count(0)


def test_turn_is_shown_again_by_the_magic_and_as_a_value(cell: Cell, other_cell: Cell) -> None:
    cell.ask(MARKDOWN, "The end.")
    cell.wait_for_swap()
    shown = cell.turn.evaluate("linesOf")
    for source in ("%agent show -1", "_", f"_{other_cell.tab.prompt(cell.number).inner_text()[1:-2]}"):
        other_cell.clear()
        other_cell.run(source)
        expect(other_cell.turn).to_have_count(1)
        assert other_cell.turn.evaluate("linesOf") == shown
        expect(other_cell.live).to_have_count(0)


# For everyone


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
        paragraph = turn.locator("p").first
        assert (
            paragraph.evaluate(
                "p => { const range = document.createRange(); range.selectNodeContents(p);"
                " return p.getBoundingClientRect().right - range.getBoundingClientRect().right; }"
            )
            < 2
        )  # it stands at the right edge
        expect(turn.locator(".createagents-status")).to_have_css("direction", "ltr")

    assert_directions(cell.live)
    cell.release(hold)
    assert_directions(cell.turn)


def test_narrow_notebook_does_not_scroll_sideways(
    cell: Cell, server: ScriptedServer, hold: threading.Event
) -> None:
    page = cell.tab.page
    wide = f"{'word ' * 40}\n\n{'w' * 300}\n\n```\n{'code ' * 60}\n```\n\n`{'c' * 200}`\n\n"
    table = f"|{' column |' * 12}\n|{'---|' * 12}\n|{' value |' * 12}\n\n$$\n{' + '.join(f'x_{{{at}}}' for at in range(60))}\n$$\n\n"
    server.enqueue(calls(call(0, "frame"), call(1, "w" * 100, argument="a" * 300), call(2, "lines")))
    server.enqueue(answer(wide + table, "The end.", hold))
    page.set_viewport_size({"width": 620, "height": 1600})
    page.keyboard.press("Control+b")  # the file browser
    try:
        expect(page.locator("#jp-left-stack")).to_be_hidden()
        cell.run("await ask(tools=tools)")
        expect(cell.answer).to_contain_text("The end.")
        for summary in cell.live.locator(".createagents-tool > summary").all():
            summary.click()
        sideways = "scroller => scroller.scrollWidth - scroller.clientWidth"
        assert page.locator(SCROLLER).first.evaluate(sideways) == 0
        prose = "answer => Math.max(...[...answer.querySelectorAll('p, pre')].map(one => one.scrollWidth - one.clientWidth))"
        assert cell.answer.evaluate(prose) <= 0
        cell.release(hold)
        assert page.locator(SCROLLER).first.evaluate(sideways) == 0
        assert cell.turn.locator(".createagents-answer").evaluate(prose) <= 0
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
    moving = """root => [root, ...root.querySelectorAll("*")].filter(element => {
        const { animationName, transitionDuration } = getComputedStyle(element);
        return animationName !== "none" || !/^0s(, 0s)*$/.test(transitionDuration) || element.getAnimations().length;
    }).map(element => element.outerHTML.slice(0, 80))"""
    assert cell.live.evaluate(moving) == []
    cell.release(hold)
    assert cell.turn.evaluate(moving) == []


@pytest.fixture
def dark(cell: Cell) -> Iterator[None]:
    """Lab's dark theme, as a user chooses it."""
    choose_theme(cell.tab, "JupyterLab Dark")
    yield
    choose_theme(cell.tab, "JupyterLab Light")


def choose_theme(tab: NotebookPage, name: str) -> None:
    for item in ("Settings", "Theme", name):
        tab.page.get_by_role("menuitem", name=item, exact=True).click()
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
    borderless = """root => [...root.querySelectorAll("button, .createagents-tool, .createagents-reasoning")]
        .filter(element => {
            const style = getComputedStyle(element);
            return style.borderTopStyle !== "solid" || parseFloat(style.borderTopWidth) < 1 || style.opacity !== "1"
                || style.borderTopColor === getComputedStyle(document.body).backgroundColor;
        }).map(element => element.outerHTML.slice(0, 80))"""
    assert cell.live.evaluate(borderless) == []
    cell.release(hold)
    assert cell.turn.evaluate(borderless) == []


# Notebook 7


def test_notebook_7_streams_markdown_and_swaps_unseen(
    window: BrowserContext, jupyter: JupyterServer, server: ScriptedServer, hold: threading.Event
) -> None:
    jupyter.write("view-7.ipynb", [SETUP, ""])
    with NotebookPage(window, jupyter, "view-7.ipynb", app="notebook") as tab:
        tab.run(0)
        tab.wait_until_ended(0)
        cell = Cell(tab, server, 1)
        server.enqueue(calls(call(0, "frame")))
        server.enqueue(answer(MARKDOWN, "The end.", hold))
        cell.run("await ask(tools=tools)")
        expect(cell.answer).to_contain_text("The end.")
        cell.live.locator(".createagents-tool > summary").click()
        cell.live.get_by_role("button", name="Stop").focus()
        live = cell.live.locator(".createagents-turn")
        streamed, height, left = live.evaluate("linesOf"), height_of(live), left_of(live.locator("table").last)
        cell.release(hold)
        assert cell.turn.evaluate("linesOf")[:-1] == streamed[:-1]
        assert abs(height_of(cell.turn) - height) <= 2
        assert left_of(cell.turn.locator("table").last) == left
        expect(cell.turn.locator(".createagents-copy-answer")).to_be_focused()
        assert tab.errors == []


def paragraphs(first: int, last: int) -> str:
    return "".join(f"Paragraph {number}.\n\n" for number in range(first, last))


def height_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().height"))


def left_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().left"))


def top_of(element: Locator) -> float:
    return float(element.evaluate("element => element.getBoundingClientRect().top"))
