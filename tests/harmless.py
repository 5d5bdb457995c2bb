"""Whether what a page shows of a hostile turn stays text: its elements, and what they do when touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from family import ScriptedServer
from hostile import Case
from playwright.sync_api import Dialog, Page

__all__ = ["CONTROL", "PageWatch"]

CONTROL = "/control"
_SCRIPT = Path(__file__).with_suffix(".js").read_text("utf-8").rstrip().removesuffix(";")


class PageWatch:
    """Sees what a page asks for, opens and says from the moment at which it is made.

    Args:
        allowed: how addresses begin that the page may ask for besides the beacons' ``/control``.
    """

    def __init__(self, page: Page, beacons: ScriptedServer, *allowed: str) -> None:
        self.page, self.beacons = page, beacons
        self._allowed = ("data:image/", "blob:", beacons.url + CONTROL, *allowed)
        self._asked: list[str] = []
        self._dialogs: list[str] = []
        self._popups: list[str] = []
        page.on("request", lambda request: self._asked.append(request.url))
        page.on("dialog", self._on_dialog)
        page.on("popup", lambda popup: self._popups.append(popup.url))
        beacons.requests.clear()

    def _on_dialog(self, dialog: Dialog) -> None:
        # Whoever made the page answers it. A notebook itself asks whether to leave.
        if dialog.type != "beforeunload":
            self._dialogs.append(dialog.message)

    @property
    def hits(self) -> set[str]:
        """What the beacons were asked for."""
        return {request.path for request in self.beacons.requests} - {CONTROL}

    def problems(self, scope: str, around: str, cases: Sequence[Case] = ()) -> list[str]:
        """What is wrong with the elements of ``scope``, and what they do when touched.

        Args:
            scope: a selector of what we show.
            around: of the part of the page in which nothing else may load, run or ask.
            cases: what is shown, with the scripts that would set it off.
        """
        page, address, cells = self.page, self.page.url, self._cells()
        found = self._run("inspect", [scope, around])
        touched, led = self._run("provoke", [scope, [case.trigger for case in cases if case.trigger]])
        assert touched > 10, f"there is nothing in {scope}"
        self._run("settle", self.beacons.url + CONTROL)
        assert CONTROL in {request.path for request in self.beacons.requests}, "the beacons do not hear the page"
        found += led
        found += self._run("inspect", [scope, around])
        found += [f"calls {path}" for path in self.hits]
        found += [f"asks for {url[:200]}" for url in self._asked if not url.startswith(self._allowed)]
        found += [f"says {words!r}" for words in self._dialogs]
        found += [f"opens {url}" for url in self._popups]
        if (ran := page.evaluate("window.__xss")) is not None:
            found.append(f"has run script: {ran}")
        if page.url != address:
            found.append(f"has gone to {page.url}")
        if self._cells() != cells:
            found.append(f"has {self._cells()} cells, and not {cells}")
        if dialogs := page.locator("dialog, .jp-Dialog").count():
            found.append(f"shows {dialogs} dialogs")
        return list(dict.fromkeys(found))

    def _run(self, name: str, argument: Any) -> Any:
        return self.page.evaluate(f"argument => ({_SCRIPT}).{name}(argument)", argument)

    def _cells(self) -> int:
        return self.page.locator(".jp-Notebook .jp-Cell").count()
