"""What all tests share: a clean environment, scripted providers and servers, Jupyter in a browser."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from family import Reply, ScriptedProvider, ScriptedServer
from hypothesis import settings

from createagents_nb.metrics import MetricsRecorder
from createagents_nb.providers.servers import SERVERS

if TYPE_CHECKING:
    from lab import JupyterServer
    from playwright.sync_api import Browser, BrowserContext

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

STATEFUL = (
    "batch.dask_worker",
    "bridge",
    "create_agent",
    "metrics",
    "notebook.display",
    "notebook.turn_channel",
    "providers.local_server",
    "providers.refusals",
    "providers.registry",
    "providers.selection",
    "redaction",
)
"""Modules whose state no test may leave to the next. Others keep caches and servers, which tests share."""

# Background jobs of a shell ignore interrupts, and so would the kernels and programs that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_collection_finish() -> None:
    """What all tests import is looked at by no collection of garbage from here on: there are many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no Ollama, nothing chosen: what is set on a developer's machine does not reach a test."""
    for row in SERVERS.values():
        for name in (*row.key_variables, row.address_variable):
            if name is not None:
                monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    for name in ("CREATEAGENTS_NB_MODEL", "CREATEAGENTS_NB_VIEW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    yield
    for name in STATEFUL:
        module = sys.modules.get(f"createagents_nb.{name}")
        if module is not None:
            module.reset()


@pytest.fixture
def recorder() -> MetricsRecorder:
    return MetricsRecorder()


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from lab import browser, find_chromium

    path = find_chromium()
    if path is None:
        how = "no Chromium: run `python -m playwright install --with-deps chromium`, or set CHROMIUM=/path/to/it"
        if os.environ.get("CI"):
            pytest.fail(how)
        pytest.skip(how)
    with browser(path) as running:
        yield running


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    from lab import JupyterServer

    with JupyterServer(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="module")
def window(chromium: Browser, jupyter: JupyterServer) -> Iterator[BrowserContext]:
    context = jupyter.context(chromium)
    yield context
    context.close()


@pytest.fixture(scope="module")
def beacons() -> Iterator[ScriptedServer]:
    """Where a hostile answer would have the page call home."""
    with ScriptedServer() as server:
        server.on("*", Reply([b"seen"]))
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Others' work, read in place; it is not part of a user's clone."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("shared/data is missing beside the checkout: these samples are not part of the project")
    return folder
