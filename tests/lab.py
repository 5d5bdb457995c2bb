"""A real Jupyter server, a real Chromium, and a notebook in it as a user finds it: by what is on the page."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from kernel_client import WIDGET_MIME, environment
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

__all__ = ["CHROMIUM_FLAGS", "RUNNING", "WIDGET_MIME", "JupyterServer", "NotebookPage", "browser", "find_chromium"]

NOT_RUN, RUNNING, ENDED = "[ ]:", "[*]:", re.compile(r"^\[\d+\]:$")
SCROLLER = ".jp-WindowedPanel-outer"
TIMEOUT_S = 90.0
# Lab keeps only the cells in view in the page: in this one the tests' own notebooks are in view as a whole.
VIEWPORT = {"width": 1100, "height": 2400}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_FLAGS = (
    "--no-sandbox",  # it does not start as root without
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
}
# Chromium logs what a server answers with 4xx or 5xx, and Jupyter asks for files that need not exist.
NOT_OURS = re.compile("Failed to load resource")

expect.set_options(timeout=TIMEOUT_S * 1000)


@cache  # where Playwright runs it cannot be asked again
def find_chromium() -> str | None:
    """What ``scripts/ensure_chromium.py`` found, else a Chromium on PATH, else the one Playwright installed."""
    for name in filter(None, (os.environ.get("CHROMIUM"), *CHROMIUM_NAMES)):
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@contextmanager
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        try:
            yield running
        finally:
            running.close()


class JupyterServer:
    """``jupyter notebook``, which serves JupyterLab too; with a token, and with configuration of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True)
        self._home, self._variables = folder, variables
        self._token = secrets.token_hex(16)
        for name, settings in LAB_SETTINGS.items():
            self.set_lab(name, settings)

    def set_lab(self, name: str, settings: dict[str, Any]) -> None:
        """Settings of one of Lab's plugins; ``name`` is without ``@jupyterlab/``."""
        file = self._home / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))

    def __enter__(self) -> JupyterServer:
        variables = {
            "JUPYTER_CONFIG_DIR": self._home / "config",
            "JUPYTER_DATA_DIR": self._home / "data",
            "JUPYTER_RUNTIME_DIR": self._home / "runtime",
            "IPYTHONDIR": self._home / "ipython",
        }
        options = {
            "IdentityProvider.token": self._token,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "LabApp.extension_manager": "readonly",
            "LabApp.news_url": "",
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": "0",
            "ServerApp.root_dir": str(self.root),
        }
        command = [sys.executable, "-m", "notebook", "--no-browser", "--allow-root"]
        self._log = (self._home / "server.log").open("wb")
        self._process = subprocess.Popen(
            command + [f"--{name}={value}" for name, value in options.items()],
            env=environment(**{name: str(path) for name, path in variables.items()}, **self._variables),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait_for_url()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait_for_url(self) -> None:
        line = re.compile(r"(http://127\.0\.0\.1:\d+/)tree\?token=")
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := line.search(self.log)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"the Jupyter server did not start:\n{self.log}")
            time.sleep(0.05)
        self.url = found[1]

    @property
    def log(self) -> str:
        return (self._home / "server.log").read_text(errors="replace")

    def request(self, method: str, path: str) -> Any:
        """One request to the server's REST API; its answer as JSON."""
        headers = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(f"{self.url}api/{path}", method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            body = reply.read()
        return json.loads(body) if body else None

    def shut_down_kernels(self, notebook: str) -> None:
        """The kernels of one notebook."""
        for session in self.request("GET", "sessions"):
            if session["path"] == notebook:
                self.request("DELETE", f"sessions/{session['id']}")

    def interrupt_kernels(self) -> None:
        """Those that still run something."""
        for kernel in self.request("GET", "kernels"):
            if kernel["execution_state"] == "busy":
                self.request("POST", f"kernels/{kernel['id']}/interrupt")

    def context(self, browser: Browser, **options: Any) -> BrowserContext:
        """A browser window of a user who has logged in."""
        context = browser.new_context(**{"viewport": VIEWPORT, **options})
        context.set_default_timeout(TIMEOUT_S * 1000)
        page = context.new_page()
        page.goto(f"{self.url}api?token={self._token}")
        page.close()
        return context

    def write(self, name: str, cells: Sequence[str]) -> None:
        """A notebook whose code cells have not been run."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, self.root / name)

    def saved(self, name: str) -> Any:
        """The notebook as it is on disk."""
        return nbformat.read(self.root / name, as_version=4)


class NotebookPage:
    """A notebook in a tab of the browser. Cells are named by their place in it, from 0."""

    def __init__(
        self, context: BrowserContext, server: JupyterServer, name: str, *, app: str = "lab", to_run: bool = True
    ) -> None:
        """Open a notebook in JupyterLab (``app="lab"``) or in Notebook 7 (``app="notebook"``).

        Args:
            to_run: whether to wait for its kernel; what has been saved can be seen before.
        """
        self.server, self.name = server, name
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self._note("error", str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        # A workspace of its own: Lab would open the tabs of the test before again.
        path = f"lab/workspaces/{Path(name).stem}/tree/{name}" if app == "lab" else f"notebooks/{name}"
        self.page.goto(server.url + path)
        self.wait_until_shown()
        if to_run:
            self.wait_until_ready()

    def __enter__(self) -> NotebookPage:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the tab and shut the kernel down."""
        self.page.close()
        self.server.shut_down_kernels(self.name)

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not NOT_OURS.search(text):
            self.errors.append(text)

    def wait_until_shown(self) -> None:
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible()

    def wait_until_ready(self) -> None:
        """Until the notebook is shown and its kernel answers and is idle: Lab drops what is run before."""
        self.wait_until_shown()
        expect(self.page.locator(".jp-Toolbar-kernelName").first).to_contain_text("Python")
        expect(self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first).to_be_attached()

    def reload(self) -> None:
        """Until the notebook is shown; what its kernel does is not known while a cell runs."""
        self.page.reload()
        self.wait_until_shown()

    def cell(self, number: int) -> Locator:
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{number}"]')

    def prompt(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-InputPrompt")

    def live(self, number: int) -> Locator:
        """The live views in a cell."""
        return self.cell(number).locator(".createagents-live")

    def turns(self, number: int) -> Locator:
        """The static bundles in a cell's output: a live view holds a turn, too."""
        return self.cell(number).locator(".jp-OutputArea-output .createagents-turn:not(.createagents-live *)")

    def error(self, number: int) -> Locator:
        """Errors in a cell, and what it wrote to stderr: Lab shows both alike."""
        return self.cell(number).locator('[data-mime-type="application/vnd.jupyter.stderr"]')

    def run(self, number: int) -> None:
        """Run one cell, not waiting for it."""
        self.prompt(number).click()
        self.page.keyboard.press("Control+Enter")
        expect(self.prompt(number)).not_to_have_text(NOT_RUN)

    def wait_until_ended(self, number: int) -> None:
        """Until the cell's prompt has a number; it gets one also when it raised an error."""
        expect(self.prompt(number)).to_have_text(ENDED)

    def run_all(self) -> None:
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def interrupt(self) -> None:
        """The ■ in the toolbar."""
        self.page.get_by_role("button", name=re.compile("^Interrupt the kernel")).click()

    def scroll(self, to: str) -> None:
        """To the ``"top"`` or the ``"bottom"`` of the notebook."""
        where = "0" if to == "top" else "element.scrollHeight"
        self.page.locator(SCROLLER).first.evaluate(f"element => element.scrollTop = {where}")

    def show(self, number: int) -> Locator:
        """A cell of a long notebook, scrolled into view."""
        cell = self.cell(number)
        self.scroll("top")
        while not cell.count():
            self.page.locator(SCROLLER).first.evaluate("element => element.scrollTop += element.clientHeight / 2")
        cell.scroll_into_view_if_needed()
        return cell

    def wait_for_more_text(self, number: int, than: int = 0) -> int:
        """Wait until the live text is longer than ``than`` characters while the cell runs; its length."""
        found = self.page.wait_for_function(
            """([number, than, running]) => {
                const cell = document.querySelector(`.jp-Notebook .jp-Cell[data-windowed-list-index="${number}"]`);
                if (cell?.querySelector(".jp-InputPrompt")?.textContent !== running) return false;
                const texts = [...cell.querySelectorAll(".createagents-live .createagents-answer")];
                const length = texts.reduce((sum, text) => sum + text.textContent.length, 0);
                return length > than ? length : false;
            }""",
            arg=[number, than, RUNNING],
        )
        return int(found.json_value())

    def save(self) -> Any:
        """Save as a user does; the notebook as it is then on disk."""

        def is_save(response: Any) -> bool:
            return response.request.method == "PUT" and f"/api/contents/{self.name}" in response.url

        with self.page.expect_response(is_save) as response:
            self.page.keyboard.press("Control+s")
        assert response.value.ok
        return self.server.saved(self.name)
