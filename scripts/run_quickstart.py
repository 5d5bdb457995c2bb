"""Run the quickstart notebook without a browser and print its outputs on the terminal: ``make demo``.

Prints each cell's source, shortened, and its outputs as they arrive; an answer that is updated in place is printed
as it grows. Writes ``out/quickstart.html``, ``out/metrics.csv`` and ``out/metrics.json``. The notebook is not
changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from terminal_output import CellOutput, show_source

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
OUT = ROOT / "out"
CELL_TIMEOUT_S = 300

EXPORT_METRICS = """
from pathlib import Path as _Path
import createagents_nb as _createagents_nb

_calls = _createagents_nb.recorder.calls
_calls.to_csv(_Path({out!r}) / "metrics.csv", index=False)
_calls.to_json(_Path({out!r}) / "metrics.json", orient="records", date_format="iso", indent=2)
"""


class StreamingClient(NotebookClient):
    """An nbclient that prints each message of the running cell as it arrives."""

    cell_output: CellOutput | None = None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if self.cell_output is not None:
            self.cell_output.message(msg["msg_type"], msg["content"])
        return super().process_message(msg, cell, cell_index)


async def run(notebook: Any) -> int:
    """Execute ``notebook`` in place, export the recorder, and return the number of recorded calls."""
    client = StreamingClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT_S,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    print(f"Running {NOTEBOOK.relative_to(ROOT)} in a new kernel, on the demo provider …", flush=True)
    async with client.async_setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            show_source(cell.source)
            client.cell_output = CellOutput()
            try:
                await client.async_execute_cell(cell, index)
            finally:
                client.cell_output.finish()
        client.cell_output = None
        notebook.cells.append(nbformat.v4.new_code_cell(EXPORT_METRICS.format(out=str(OUT))))
        try:
            await client.async_execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        finally:
            notebook.cells.pop()
    calls: list[Any] = json.loads((OUT / "metrics.json").read_text(encoding="utf-8"))
    return len(calls)


def main() -> int:
    # Use the demo provider even if this machine has a key or a server: it costs nothing.
    os.environ["CREATEAGENTS_NB_MODEL"] = "demo:"
    OUT.mkdir(exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started = time.monotonic()
    failure: CellExecutionError | None = None
    calls = 0
    try:
        calls = asyncio.run(run(notebook))
    except CellExecutionError as error:
        failure = error
    from nbconvert import HTMLExporter  # takes seconds to import, so not before the first cell

    html, _ = HTMLExporter().from_notebook_node(notebook)
    (OUT / "quickstart.html").write_text(html, encoding="utf-8")
    if failure is not None:
        print(f"\nA cell failed ({failure.ename}); what there was up to it: out/quickstart.html", file=sys.stderr)
        return 1
    print(f"\n{calls} calls in {time.monotonic() - started:.1f} s. To look at:")
    print("  out/quickstart.html  the notebook with its outputs")
    print("  out/metrics.csv      recorder.calls, one row a call")
    print("  out/metrics.json     the same as JSON")
    return 0


if __name__ == "__main__":
    sys.exit(main())
