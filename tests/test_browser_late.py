"""A page that is late shows the answer, and no error: in Chromium on a real JupyterLab and Notebook 7."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from family import Reply, ScriptedServer, delta, sse
from kernel_client import wait_until
from lab import WIDGET_MIME, JupyterServer, NotebookPage
from playwright.sync_api import BrowserContext, expect

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

NOT_FOUND = "model not found"
OF_NOTEBOOK_7 = re.compile(r"reading 'schema'|registered\.$")
SETUP = """
%load_ext createagents_nb
from createagents_nb import CreateAgent
agent = CreateAgent("openai", "m", name="a", base_url={url!r}, api_key="k")
""".strip()


class Turn:
    """A notebook in a tab, with one cell whose turn is in its middle."""

    def __init__(self, tab: NotebookPage, hold: threading.Event) -> None:
        self.tab, self._hold = tab, hold
        self.live, self.turn = tab.live(1), tab.turns(1)
        tab.run(0)
        tab.wait_until_ended(0)
        tab.run(1)
        expect(self.live).to_contain_text("One half, ")

    def end(self) -> None:
        """Let the turn end, and wait until its kernel has nothing more to do."""
        self._hold.set()
        sessions = self.tab.server.request("GET", "sessions")
        (kernel,) = [session["kernel"]["id"] for session in sessions if session["path"] == self.tab.name]

        def is_idle() -> bool:
            return bool(self.tab.server.request("GET", f"kernels/{kernel}")["execution_state"] == "idle")

        wait_until(is_idle, "the end of the turn")

    @property
    def errors(self) -> list[str]:
        """Errors in the page's console, without those that Notebook 7 logs of itself while it loads."""
        return [error for error in self.tab.errors if not OF_NOTEBOOK_7.search(error)]

    def assert_saved_output_is_shown(self) -> None:
        expect(self.turn).to_contain_text("One half, and the other.")
        expect(self.turn.locator(".createagents-status")).to_contain_text("· done ·")
        expect(self.turn.locator(".createagents-copy-answer")).to_have_count(1)
        expect(self.live).to_have_count(0)
        expect(self.tab.page.get_by_text(NOT_FOUND)).to_have_count(0)
        assert self.errors == []
        (output,) = self.tab.save().cells[1].outputs
        assert WIDGET_MIME not in output.data
        assert "One half, and the other." in output.data["text/markdown"]


@pytest.fixture(scope="module")
def window(window: BrowserContext) -> BrowserContext:
    window.add_init_script(path=Path(__file__).with_name("late_page.js"))
    return window


@pytest.fixture
def turn(
    request: pytest.FixtureRequest, window: BrowserContext, jupyter: JupyterServer, server: ScriptedServer
) -> Iterator[Turn]:
    hold = threading.Event()
    first, second, *end = sse(delta("One half, "), delta("and the other."), delta(finish="stop"))
    server.on("/v1/chat/completions", Reply([first, hold, second, *end]))
    app = getattr(request, "param", "lab")
    name = f"late-{app}.ipynb"
    jupyter.write(name, [SETUP.format(url=server.openai_url), "%%agent agent\nBegin"])
    with NotebookPage(window, jupyter, name, app=app) as tab:
        yield Turn(tab, hold)
        hold.set()


def test_page_that_handles_a_whole_turn_when_the_kernel_has_ended_it(turn: Turn) -> None:
    turn.tab.page.evaluate("window.holdsMessages = true")
    turn.end()
    turn.tab.page.evaluate("letMessagesGo()")
    turn.assert_saved_output_is_shown()


def test_page_that_is_opened_when_the_turn_has_ended(turn: Turn) -> None:
    page = turn.tab.page
    address = page.url
    turn.tab.save()
    page.goto("about:blank")
    turn.end()
    page.goto(address)
    turn.assert_saved_output_is_shown()


# Both pages hand the output over in their own way; the other tests would take a minute more in Notebook 7.
@pytest.mark.parametrize("turn", ["lab", "notebook"], indirect=True)
def test_page_that_is_loaded_again_while_the_turn_ends(turn: Turn) -> None:
    page = turn.tab.page
    turn.tab.save()
    page.evaluate("sessionStorage.setItem('holdMessages', '1')")
    turn.tab.reload()
    page.wait_for_function("heldMessages.length > 0")
    turn.end()
    page.evaluate("letMessagesGo()")
    turn.assert_saved_output_is_shown()


def test_second_view_of_the_notebook_is_opened_when_the_turn_has_ended(turn: Turn) -> None:
    page = turn.tab.page
    turn.tab.save()
    turn.tab.reload()
    expect(turn.live).to_contain_text("One half, ")
    turn.end()
    expect(turn.live.locator(".createagents-status")).to_contain_text("· done ·")
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="New View for Notebook", exact=True).click()
    turns = page.locator(".createagents-turn:not(.createagents-live *)")
    expect(turns).to_have_count(2)
    for at in range(2):
        expect(turns.nth(at)).to_contain_text("One half, and the other.")
    expect(page.locator(".createagents-live")).to_have_count(0)
    expect(page.get_by_text(NOT_FOUND)).to_have_count(0)
    assert turn.errors == []


def reload_busily(turn: Turn) -> int:
    """Load the page again so that the widget manager's last look for each model comes late."""
    page = turn.tab.page
    page.evaluate("sessionStorage.setItem('holdLooks', '1')")
    turn.tab.reload()
    page.wait_for_function("hasFrontend()")
    return int(page.evaluate("letLooksGo()"))


def test_busy_page_that_is_loaded_again_when_the_turn_has_ended(turn: Turn) -> None:
    """ipywidgets gives up on a model after two seconds, also if it has come by then: nothing may ask for it."""
    turn.tab.save()
    turn.tab.reload()
    expect(turn.live).to_contain_text("One half, ")
    turn.end()
    turn.assert_saved_output_is_shown()
    reload_busily(turn)
    expect(turn.turn).to_contain_text("One half, and the other.")
    expect(turn.tab.page.get_by_text(NOT_FOUND)).to_have_count(0)
    assert turn.errors == []


def test_busy_page_that_is_loaded_again_in_mid_stream(turn: Turn) -> None:
    """Here the notebook still holds the widget, and ipywidgets gives up on it: the view comes all the same."""
    turn.tab.save()
    assert reload_busily(turn) > 0
    expect(turn.live).to_contain_text("One half, ")
    expect(turn.tab.page.get_by_text(NOT_FOUND)).to_have_count(0)
    assert all(NOT_FOUND in error for error in turn.errors)  # what ipywidgets has logged
    turn.tab.errors.clear()
    turn.end()
    turn.assert_saved_output_is_shown()
