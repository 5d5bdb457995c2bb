"""What all tests share: a clean environment, a scripted provider, a scripted server, the embedded demo server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from family import ScriptedProvider, ScriptedServer

from createagents_nb.metrics import MetricsRecorder
from createagents_nb.providers import choice

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no Ollama, nothing chosen: what is set on a developer's machine does not reach a test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CREATEAGENTS_NB_MODEL", "CREATEAGENTS_NB_VIEW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    yield
    choice.set_notebook_default(None)


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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Others' work, read in place; it is not part of a user's clone."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("shared/data is missing beside the checkout: these samples are not part of the project")
    return folder
