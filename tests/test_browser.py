"""What a user sees: Chromium on a real JupyterLab and Notebook 7, with real kernels."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from family import Reply, ScriptedServer, delta, sse
from lab import RUNNING, WIDGET_MIME, JupyterServer, NotebookPage
from playwright.sync_api import BrowserContext, expect

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
BUNDLE_MIME = "application/vnd.createagents-nb+json"

CELLS = {
    "setup": "%load_ext createagents_nb\nimport asyncio\nfrom createagents_nb import CreateAgent",
    "agents": "reloaded = {reloaded}\nhostile = {hostile}",
    "stopped": "%%agent -p demo\nTell me a story",
    "after_stopped": "'healthy'",
    "interrupted": "%%agent -p demo\nTell me a story",
    "after_interrupted": "'healthy'",
    "two": "await asyncio.gather({left}.chat('Begin'), {right}.chat('Begin'))",
    "reloaded": "%%agent reloaded\nBegin",
    "shown": "%agent show",
    "hostile": "%%agent hostile\nBegin",
}
AT = {name: number for number, name in enumerate(CELLS)}


class Halves:
    """A model on the scripted server that says one half of its answer, and the other half when it is released."""

    def __init__(self, server: ScriptedServer, name: str, one: str, other: str) -> None:
        self.one, self.other = one, other
        self.released = threading.Event()
        first, second, *end = sse(delta(one), delta(other), delta(finish="stop"))
        server.on(f"/{name}/v1/chat/completions", Reply([first, self.released, second, *end]))
        self.agent = f"CreateAgent('openai', 'm', name='{name}', base_url='{server.url}/{name}/v1', api_key='k')"


@dataclass(frozen=True)
class QuickstartRun:
    """What was seen of "Run All"."""

    lengths: list[int]
    last_table: str
    saved: Any
    errors: list[str]


@pytest.fixture(scope="module")
def models(beacons: ScriptedServer) -> Iterator[dict[str, Halves]]:
    with ScriptedServer() as server:
        yield {
            "left": Halves(server, "left", "The left begins. ", "The left is complete."),
            "right": Halves(server, "right", "The right begins. ", "The right is complete."),
            "reloaded": Halves(server, "reloaded", "As far as the reload. ", "And on to the end."),
            "hostile": Halves(server, "hostile", hostile_markdown(beacons.url), "The end."),
        }


@pytest.fixture(scope="module")
def shared_tab(
    window: BrowserContext, jupyter: JupyterServer, models: dict[str, Halves]
) -> Iterator[NotebookPage]:
    agents = {name: model.agent for name, model in models.items()}
    jupyter.write("cells.ipynb", [source.format(**agents) for source in CELLS.values()])
    with NotebookPage(window, jupyter, "cells.ipynb") as tab:
        for name in ("setup", "agents"):
            tab.run(AT[name])
            tab.wait_until_ended(AT[name])
        yield tab


@pytest.fixture
def tab(shared_tab: NotebookPage) -> Iterator[NotebookPage]:
    """One notebook for most tests, each of which runs cells of its own: opening one takes seconds."""
    shared_tab.errors.clear()
    yield shared_tab
    shared_tab.server.interrupt_kernels()
    assert shared_tab.errors == []


@pytest.fixture(scope="module")
def quickstart(window: BrowserContext, jupyter: JupyterServer) -> QuickstartRun:
    """A fresh copy of the quickstart, run by "Run All" and saved; then its kernel is shut down."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, jupyter.root / QUICKSTART.name)
    first_prompt = next(at for at, cell in enumerate(notebook.cells) if cell.source.startswith("%%agent"))
    last_code = max(at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    with NotebookPage(window, jupyter, QUICKSTART.name) as tab:
        tab.run_all()
        tab.scroll("top")
        lengths = [0]
        for _ in range(3):
            lengths.append(tab.wait_for_more_text(first_prompt, than=lengths[-1]))
        tab.scroll("bottom")
        tab.wait_until_ended(last_code)
        table = tab.cell(last_code).locator(".jp-OutputArea-output table").inner_text()
        return QuickstartRun(lengths, table, tab.save(), tab.errors)


def test_run_all_streams_the_quickstart_and_its_cells_end_in_order(quickstart: QuickstartRun) -> None:
    assert sorted(set(quickstart.lengths)) == quickstart.lengths  # longer each time we looked, under [*]
    code = [cell for cell in quickstart.saved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert "median_ttft_s" in quickstart.last_table
    assert "trains" in quickstart.last_table
    assert quickstart.errors == []


def test_saved_quickstart_shows_its_answers_under_a_kernel_that_knows_nothing_of_them(
    quickstart: QuickstartRun, window: BrowserContext, jupyter: JupyterServer
) -> None:
    outputs = {at: cell.outputs for at, cell in enumerate(quickstart.saved.cells) if cell.cell_type == "code"}
    bundles = [
        output.data for cell in outputs.values() for output in cell if BUNDLE_MIME in output.get("data", {})
    ]
    assert bundles
    for data in bundles:
        assert set(data) == {"text/html", "text/markdown", "text/plain", BUNDLE_MIME}
        assert data[BUNDLE_MIME]["call"]["status"] == "ok"
    assert WIDGET_MIME not in nbformat.writes(quickstart.saved)

    at = next(at for at, cell in outputs.items() if "[tool] rows(" in str(cell))
    with NotebookPage(window, jupyter, QUICKSTART.name) as tab:
        turn = tab.show(at).locator(".createagents-turn")
        expect(turn.get_by_text("Your tools really ran")).to_be_visible()
        expect(turn.locator("summary").filter(has_text="rows(limit=3) — done")).to_be_visible()
        expect(turn.locator(".createagents-status")).to_contain_text("trains · demo/demo · done")
        expect(tab.page.get_by_text("Error displaying widget")).to_have_count(0)
        expect(tab.page.locator(".createagents-live")).to_have_count(0)
        assert tab.errors == []


def test_stop_in_the_view_ends_the_cell_and_keeps_the_text(tab: NotebookPage) -> None:
    stopped, after = AT["stopped"], AT["after_stopped"]
    tab.run(stopped)
    tab.run(after)
    tab.wait_for_more_text(stopped, than=20)
    cells = tab.page.locator(".jp-Notebook .jp-Cell").count()
    stop = tab.live(stopped).get_by_role("button", name="Stop")
    stop.press("b")  # elsewhere in a cell's output, this inserts a cell
    stop.press("Enter")
    tab.wait_until_ended(stopped)
    expect(tab.page.locator(".jp-Notebook .jp-Cell")).to_have_count(cells)
    expect(tab.live(stopped)).to_have_count(0)
    expect(tab.turns(stopped)).to_contain_text("Demo provider")
    expect(tab.turns(stopped).locator(".createagents-status")).to_contain_text("· stopped ·")
    expect(tab.error(stopped)).to_have_count(0)
    tab.wait_until_ended(after)
    expect(tab.cell(after).locator(".jp-OutputArea-output")).to_have_text("'healthy'")


def test_the_notebooks_own_stop_ends_the_turn_with_one_line(tab: NotebookPage) -> None:
    interrupted, after = AT["interrupted"], AT["after_interrupted"]
    tab.run(interrupted)
    tab.wait_for_more_text(interrupted, than=20)
    tab.interrupt()
    tab.wait_until_ended(interrupted)
    expect(tab.error(interrupted)).to_have_text(re.compile(r"^TurnStopped: [^\n]+\n?$"))
    expect(tab.live(interrupted)).to_have_count(0)
    expect(tab.turns(interrupted).locator(".createagents-status")).to_contain_text("· stopped ·")
    tab.run(after)
    tab.wait_until_ended(after)
    expect(tab.cell(after).locator(".jp-OutputArea-output")).to_have_text("'healthy'")


def test_stop_of_one_of_two_views_in_a_cell_leaves_the_other_running(
    tab: NotebookPage, models: dict[str, Halves]
) -> None:
    two, left, right = AT["two"], models["left"], models["right"]
    tab.run(two)
    expect(tab.live(two)).to_have_count(2)
    left_view = tab.live(two).filter(has_text=left.one)
    right_view = tab.live(two).filter(has_text=right.one)
    left_view.get_by_role("button", name="Stop").click()
    expect(tab.turns(two).filter(has_text="· stopped ·")).to_contain_text(left.one.strip())
    expect(right_view).to_be_visible()
    expect(tab.prompt(two)).to_have_text(RUNNING)
    right.released.set()
    tab.wait_until_ended(two)
    expect(tab.turns(two)).to_have_count(2)
    expect(tab.turns(two).filter(has_text=right.one + right.other)).to_contain_text("· done ·")


def test_page_loaded_again_in_mid_stream_has_the_text_so_far_goes_on_and_the_answer_can_be_kept(
    tab: NotebookPage, models: dict[str, Halves]
) -> None:
    model, cell, shown = models["reloaded"], AT["reloaded"], AT["shown"]
    tab.run(cell)
    expect(tab.live(cell)).to_contain_text(model.one)
    tab.save()
    tab.reload()
    expect(tab.live(cell)).to_contain_text(model.one)
    model.released.set()
    expect(tab.turns(cell)).to_contain_text(model.one + model.other)
    expect(tab.turns(cell).locator(".createagents-status")).to_contain_text("· done ·")
    expect(tab.live(cell)).to_have_count(0)
    tab.wait_until_ready()
    tab.run(shown)
    tab.wait_until_ended(shown)
    expect(tab.turns(shown)).to_contain_text(model.one + model.other)
    expect(tab.turns(shown).locator(".createagents-status")).to_contain_text("· done ·")


def test_hostile_answer_does_nothing_live_or_ended_or_reopened(
    tab: NotebookPage, models: dict[str, Halves], beacons: ScriptedServer
) -> None:
    hostile, model = AT["hostile"], models["hostile"]
    beacons.requests.clear()
    tab.run(hostile)
    expect(tab.live(hostile)).to_contain_text("<script>")
    assert_harmless(tab, hostile, ".createagents-live .createagents-answer", beacons)
    model.released.set()
    tab.wait_until_ended(hostile)
    expect(tab.turns(hostile)).to_contain_text(model.other)
    expect(tab.turns(hostile).locator("mjx-container").first).to_be_visible()  # Lab typesets, so it has come by
    assert_harmless(tab, hostile, ".createagents-turn", beacons)
    tab.save()
    tab.reload()
    tab.wait_until_ready()
    expect(tab.turns(hostile).locator("mjx-container").first).to_be_visible()
    assert_harmless(tab, hostile, ".createagents-turn", beacons)


def hostile_markdown(home: str) -> str:
    """Ways in which an answer may try to run script, or to have the page fetch something from ``home``."""
    return rf"""
<script>window.__xss = 1</script>
<img src="{home}/img" onerror="window.__xss = 1"> <svg onload="window.__xss = 1"></svg>

[click](javascript:window.__xss=1) <a href="javascript:window.__xss=1">click</a> ![picture]({home}/markdown.png)

<button data-commandlinker-command="notebook:insert-cell-below" data-commandlinker-args="{{}}">click</button>
<iframe srcdoc="<script>parent.__xss = 1</script>"></iframe><iframe src="{home}/frame"></iframe>
<details open ontoggle="window.__xss = 1"><summary>more</summary></details>

<style>@import url("{home}/import.css");</style><link rel="stylesheet" href="{home}/link.css">
<div style="background: url({home}/background)">div</div><object data="{home}/object"></object>
<video src="{home}/video" poster="{home}/poster"></video><meta http-equiv="refresh" content="0; url={home}/meta">

```mermaid
graph TD; A["<img src={home}/mermaid onerror='window.__xss=1'>"]
```

Formulas: $x^2$, $\href{{javascript:window.__xss=1}}{{click}}$ and
$$\style{{background: url({home}/style)}}{{\require{{html}}\unicode{{x41}}}}$$

"""


def assert_harmless(tab: NotebookPage, number: int, where: str, beacons: ScriptedServer) -> None:
    """Click all but plain links: no script has run, nothing was fetched, no element is of a kind that could."""
    shown = tab.cell(number).locator(where)
    cells = tab.page.locator(".jp-Notebook .jp-Cell").count()
    elements = "[root, ...root.querySelectorAll('*')].filter(element => !element.closest('a[href^=http]'))"
    shown.evaluate(f"root => {elements}.forEach(element => element.click?.())")
    # The page can reach the beacons; what it had to fetch before comes before.
    tab.page.evaluate("url => fetch(url, { mode: 'no-cors' }).then(() => true)", f"{beacons.url}/control")
    assert {request.path for request in beacons.requests} == {"/control"}
    assert tab.page.evaluate("window.__xss") is None
    assert tab.page.locator(".jp-Notebook .jp-Cell").count() == cells
    dangerous = "script, img, iframe, object, video, link, meta, style, form, [onerror], [onload], [ontoggle]"
    expect(shown.locator(f"{dangerous}, [data-commandlinker-command]")).to_have_count(0)
    hrefs = shown.locator("[href]").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert [href for href in hrefs if not re.match(r"https?:|mailto:|#", href)] == []
