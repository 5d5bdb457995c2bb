"""Notebooks that nobody watches: nbclient, nbconvert and papermill capture answers in order, without a widget."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from family import ScriptedServer, json_reply
from kernel_client import BUNDLE_MIME, CANARY, WIDGET_MIME, answer, environment
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.kernel


def notebook(server: ScriptedServer, *more: str) -> nbformat.NotebookNode:
    made = f"CreateAgent('openai', 'm', name='a', base_url={server.openai_url!r})"
    cells = [
        "%load_ext createagents_nb",
        f"from createagents_nb import CreateAgent, recorder\na = {made}",
        "%%agent a\nfirst",
        "print('between')",
        "await a.chat('second')",
        "%%time\n%%agent a -o kept\nthird",
        "kept",
        "print([call.status for call in recorder.call_records])",
        *more,
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=metadata)


def enqueue(server: ScriptedServer) -> None:
    server.enqueue(answer("One **bold** ", "word"))
    server.enqueue(answer("Answer two"))
    server.enqueue(answer("Answer three"))


def assert_captured(found: Any) -> None:
    outputs = [cell["outputs"] for cell in found["cells"] if cell["cell_type"] == "code"]
    assert [output for cell in outputs for output in cell if output["output_type"] == "error"] == []
    texts = ["".join(shown(output) for output in cell) for cell in outputs[2:8]]
    expected = ["**bold** word", "between", "Answer two", "Answer three", "'Answer three'", "['ok', 'ok', 'ok']"]
    assert all(piece in text for piece, text in zip(expected, texts, strict=True)), texts
    for cell in (outputs[2], outputs[4], outputs[5]):
        (bundle,) = [output["data"] for output in cell if output["output_type"] == "display_data"]
        assert set(bundle) == {"text/html", "text/markdown", "text/plain", BUNDLE_MIME}
        assert bundle[BUNDLE_MIME]["call"]["status"] == "ok"
    assert outputs[0] == outputs[1] == []
    assert "widgets" not in found["metadata"]
    assert WIDGET_MIME not in json.dumps(found)
    nbformat.validate(nbformat.from_dict(found))


def shown(output: Any) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain") or "")


@dataclass
class Run:
    """A program that works on a notebook, beside the tests."""

    folder: Path
    process: subprocess.Popen[str]

    def result(self, name: str) -> str:
        """The file that it wrote."""
        output, _ = self.process.communicate(timeout=180)
        assert self.process.returncode == 0, output
        return (self.folder / name).read_text()


COMMANDS = {
    "nbconvert": ["nbconvert", "--execute", "--to", "html", "book.ipynb"],
    "papermill": ["papermill", "--no-progress-bar", "book.ipynb", "done.ipynb"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Both programs, started together: most of their time they import."""
    with ExitStack() as stack:
        found: dict[str, Run] = {}
        for name, command in COMMANDS.items():
            folder = tmp_path_factory.mktemp(name)
            server = stack.enter_context(ScriptedServer())
            enqueue(server)
            nbformat.write(notebook(server), folder / "book.ipynb")
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment(OPENAI_API_KEY=CANARY),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            found[name] = Run(folder, process)
        yield found


def test_nbclient_captures_answers_and_stops_at_an_error_of_one_line(
    runs: dict[str, Run], server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    enqueue(server)
    refusal = {"error": {"message": f"Incorrect API key provided: {CANARY}", "code": "invalid_api_key"}}
    server.enqueue(json_reply(refusal, "401 Unauthorized"))
    book = notebook(server, "%%agent a\nfourth", "print('never')")
    with pytest.raises(CellExecutionError, match="AuthenticationError") as raised:
        NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    *_, failed, never = book.cells
    (error,) = [output for output in failed.outputs if output.output_type == "error"]
    assert len(error.traceback) == 1
    assert never.outputs == []
    failed.outputs = []
    assert_captured(book)
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in nbformat.writes(book) + str(error) + str(raised.value)


def test_nbconvert_executes_to_html_that_shows_the_answers(runs: dict[str, Run]) -> None:
    page = runs["nbconvert"].result("book.html")
    page = page[page.index("<body") :]
    pieces = ("<strong>bold</strong>", "between\n", "Answer two", "Answer three")
    positions = [page.index(piece) for piece in pieces]
    assert positions == sorted(positions)
    assert "createagents-turn" in page
    assert "jupyter.widget" not in page
    assert CANARY not in page


def test_papermill_captures_answers_in_their_cells(runs: dict[str, Run]) -> None:
    saved = runs["papermill"].result("done.ipynb")
    assert_captured(json.loads(saved))
    assert CANARY not in saved
