"""A call that waits for approval, in Chromium on a real JupyterLab: buttons, keyboard, two pages of one turn."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from family import ScriptedServer, delta, sse
from kernel_client import IPYKERNEL, answer
from lab import JupyterServer, NotebookPage
from playwright.sync_api import BrowserContext, Locator, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.kernel,
    pytest.mark.skipif(IPYKERNEL < 7, reason="ipykernel 6 hears no page while a cell runs"),
]

SETUP = """
%load_ext createagents_nb
from createagents_nb import CreateAgent, tool

@tool(requires_approval=True)
def delete(path: str, force: bool = False) -> str:
    "Deletes a file."
    return f"deleted {path}"

def ask(server):
    agent = CreateAgent("openai", "m", name="a", base_url=f"{server}/v1", api_key="k", tools=[delete])
    return agent.chat("Tidy up")
""".strip()


class Cell:
    def __init__(self, tab: NotebookPage, server: ScriptedServer) -> None:
        self.tab, self.server = tab, server
        self.live, self.saved = tab.live(1), tab.turns(1)
        self.card = self.live.locator(".createagents-tool")
        self.state = self.card.locator("summary").first
        self.editor = self.live.get_by_role("textbox")

    def ask(self, *paths: str, then: str = "Done.") -> None:
        """Run a turn that asks for a call a path, and wait until the user is asked."""
        function = [{"name": "delete", "arguments": json.dumps({"path": path})} for path in paths]
        calls = [{"index": at, "id": f"call-{at}", "function": one} for at, one in enumerate(function)]
        self.server.enqueue(sse(delta(tool_calls=calls), delta(finish="tool_calls")))
        self.server.enqueue(answer(then))
        self.tab.cell(1).locator(".cm-content").fill(f"await ask({self.server.url!r})")
        self.tab.page.keyboard.press("Control+Enter")
        expect(self.button("Approve")).to_have_count(len(paths))

    def button(self, name: str) -> Locator:
        return self.live.get_by_role("button", name=name, exact=True)

    def end(self) -> Locator:
        """The saved card that takes the place of the live one."""
        expect(self.live).to_have_count(0)
        self.tab.wait_until_ended(1)
        return self.saved.locator(".createagents-tool")

    def told(self) -> list[str]:
        messages = self.server.requests[-1].json["messages"]
        return [message["content"] for message in messages if message["role"] == "tool"]


@pytest.fixture(scope="module")
def shared_tab(window: BrowserContext, jupyter: JupyterServer) -> Iterator[NotebookPage]:
    jupyter.write("approval.ipynb", [SETUP, ""])
    with NotebookPage(window, jupyter, "approval.ipynb") as tab:
        tab.run(0)
        tab.wait_until_ended(0)
        yield tab


@pytest.fixture
def cell(shared_tab: NotebookPage, server: ScriptedServer) -> Iterator[Cell]:
    shared_tab.errors.clear()
    yield Cell(shared_tab, server)
    shared_tab.server.interrupt_kernels()
    assert shared_tab.errors == []


def test_approve_runs_the_tool_and_the_focus_stays_at_the_card(cell: Cell) -> None:
    cell.ask("a.csv")
    expect(cell.state).to_have_text('delete(path="a.csv") — waiting for approval')
    expect(cell.card).to_contain_text('"path": "a.csv"')
    expect(cell.live.get_by_role("group", name="Approve delete?")).to_be_visible()
    expect(cell.tab.page.get_by_role("status").filter(has_text="delete waits for approval")).to_have_count(1)
    cell.button("Approve").click()
    card = cell.end()
    expect(card.locator("summary").first).to_contain_text("— done")
    expect(card.get_by_role("button")).to_have_count(0)
    expect(card.locator("summary").first).to_be_focused()
    assert cell.told() == ["deleted a.csv"]


def test_focus_is_at_the_saved_card_where_the_turn_ended_before_the_page_had_time_for_a_frame(cell: Cell) -> None:
    cell.ask("a.csv")
    page = cell.tab.page
    page.evaluate("() => { window.asked = window.requestAnimationFrame; window.requestAnimationFrame = () => 0; }")
    cell.button("Approve").click()
    card = cell.end()
    page.evaluate("() => { window.requestAnimationFrame = window.asked; }")
    expect(card.locator("summary").first).to_be_focused()


def test_reject_one_and_approve_the_other(cell: Cell) -> None:
    cell.ask("a.csv", "b.csv")
    cell.button("Reject").first.click()
    expect(cell.card.first).to_contain_text("rejected: not approved")
    expect(cell.card.first).to_contain_text("The user rejected this call.")
    expect(cell.button("Approve")).to_have_count(1)
    cell.button("Approve").click()
    expect(cell.end().locator("summary")).to_contain_text(["rejected: not approved", "done"])
    assert [text.partition(".")[0] for text in cell.told()] == ["The user rejected this call", "deleted b"]


def test_edit_says_what_is_wrong_until_it_is_right(cell: Cell) -> None:
    cell.ask("a.csv")
    cell.button("Edit").click()
    expect(cell.editor).to_have_value('{\n  "path": "a.csv"\n}')
    for wrong, words in [
        ('{"path": ', "Not JSON"),
        ("[]", "must be a JSON object"),
        ('{"path": []}', "Invalid arguments for delete: path"),
    ]:
        cell.editor.fill(wrong)
        cell.button("Save & approve").click()
        expect(cell.live.get_by_role("alert")).to_contain_text(words)
        expect(cell.editor).to_have_value(wrong)
        expect(cell.editor).to_be_focused()
    cell.editor.fill('{"path": "b.csv"}')
    expect(cell.live.get_by_role("alert")).to_have_count(0)
    cell.button("Save & approve").click()
    card = cell.end()
    expect(card.locator("summary").first).to_contain_text('delete(path="b.csv") — done · edited by the user')
    assert cell.told() == ['The user changed the arguments to {"path": "b.csv"}\n\ndeleted b.csv']


def test_by_keyboard_letters_are_text_and_no_commands(cell: Cell) -> None:
    """``a``, ``b`` and ``dd`` would insert and delete cells, and Ctrl+Enter would run this one again."""
    cell.ask("a.csv")
    keyboard = cell.tab.page.keyboard
    cells = cell.tab.page.locator(".jp-Notebook .jp-Cell").count()
    cell.state.focus()
    for name in ("Approve", "Edit"):
        keyboard.press("Tab")
        expect(cell.button(name)).to_be_focused()
    for letter in "abdd":
        keyboard.press(letter)
    keyboard.press("Enter")
    expect(cell.editor).to_be_focused()
    keyboard.press("Control+a")
    keyboard.type('{"path": "abddxyz"}')
    keyboard.press("Control+Enter")
    expect(cell.editor).to_have_value('{"path": "abddxyz"}')
    keyboard.press("Escape")
    expect(cell.editor).to_have_count(0)
    expect(cell.button("Edit")).to_be_focused()
    keyboard.press("Enter")
    expect(cell.editor).to_have_value('{\n  "path": "a.csv"\n}')
    keyboard.press("Control+a")
    keyboard.type('{"path": "abddxyz"}')
    keyboard.press("Tab")
    expect(cell.button("Save & approve")).to_be_focused()
    keyboard.press("Space")
    cell.end()
    assert "deleted abddxyz" in cell.told()[0]
    assert cell.tab.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_stop_while_a_call_waits(cell: Cell) -> None:
    cell.ask("a.csv")
    cell.button("Stop").click()
    expect(cell.end().locator("summary").first).to_contain_text("stopped")
    assert len(cell.server.requests) == 1


def test_a_page_loaded_again_is_asked_and_two_views_are_of_one_mind(
    cell: Cell, window: BrowserContext, jupyter: JupyterServer
) -> None:
    jupyter.write("reload.ipynb", [SETUP, ""])
    with NotebookPage(window, jupyter, "reload.ipynb") as tab:
        tab.run(0)
        tab.wait_until_ended(0)
        again = Cell(tab, cell.server)
        again.ask("a.csv")
        tab.save()
        tab.reload()
        expect(again.button("Approve")).to_have_count(1)
        tab.page.get_by_role("menuitem", name="File", exact=True).click()
        tab.page.get_by_role("menuitem", name="New View for Notebook", exact=True).click()
        expect(tab.page.get_by_role("button", name="Approve", exact=True)).to_have_count(2)
        tab.page.get_by_role("button", name="Approve", exact=True).first.click()
        expect(tab.page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
        expect(tab.page.locator(".createagents-live .createagents-tool > summary")).to_contain_text(
            ["done", "done"]
        )
