"""Frames as CSV, Parquet and JSON, and frames from what a notebook saved."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from family import ScriptedProvider

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.call_record import CallRecord, ToolRecord
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.events import RoundEnded, ToolCallRequested, Usage
from createagents_nb.agent.stream import StreamingResponseDTO
from createagents_nb.agent.tools import resolve_tools
from createagents_nb.errors import ConfigurationError, RecorderFileError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.metrics.notebook_file import BUNDLE_MIME
from createagents_nb.notebook.static_bundle import render_bundle
from createagents_nb.notebook.tracker import TurnTracker

STARTED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def look(at: str) -> str:
    """Look.

    Args:
        at: what
    """
    return f"seen {at}"


async def a_turn(recorder: MetricsRecorder, *, fails: bool = False) -> StreamingResponseDTO:
    provider = ScriptedProvider()
    end = RoundEnded("stop", usage=Usage(input_tokens=10, output_tokens=4, cached_tokens=2))
    provider.enqueue("I look.\n\n", ToolCallRequested("t1", "look", '{"at": "the sea"}'), end)
    provider.enqueue("**Blue**\n\nor grün.", ValueError("cut") if fails else end)
    agent = Agent(name="a", model="m", tools=resolve_tools([look], {}))
    response = await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, "What colour?")
    await response.wait()
    return response


def filled() -> MetricsRecorder:
    recorder = MetricsRecorder()
    recorder.call_settled(
        CallRecord(
            call_id="0" * 32,
            started_at=STARTED,
            agent="a",
            provider="demo",
            model="m",
            status="ok",
            latency_s=1.5,
            output_tokens=3,
            prompt='line one\nline "two", half \ud800',
            response="",
        )
    )
    recorder.tool_settled(
        ToolRecord(
            call_id="0" * 32,
            tool_call_id="t1",
            round=1,
            tool="look",
            arguments="{}",
            status="ok",
            started_at=STARTED,
        )
    )
    return recorder


# files


def test_csv_files_hold_all_three_frames(tmp_path: Path) -> None:
    paths = filled().to_csv(tmp_path / "runs.csv")
    assert [path.name for path in paths] == ["runs.csv", "runs.requests.csv", "runs.tools.csv"]
    calls = pd.read_csv(paths[0], parse_dates=["started_at"])
    assert calls["started_at"].tolist() == [pd.Timestamp(STARTED)]
    assert calls["prompt"].tolist() == ['line one\nline "two", half ?']
    assert calls["latency_s"].tolist() == [1.5]
    assert list(calls.columns) == list(filled().calls.columns)
    assert pd.read_csv(paths[1]).empty
    assert pd.read_csv(paths[2])["tool"].tolist() == ["look"]


def test_parquet_files_keep_the_dtypes(tmp_path: Path) -> None:
    recorder = filled()
    paths = recorder.to_parquet(tmp_path / "runs.parquet")
    back = pd.read_parquet(paths[0])
    assert back["started_at"].dt.tz is not None
    for column in ("latency_s", "output_tokens", "cost_usd"):
        assert back[column].dtype == recorder.calls[column].dtype
    assert back["output_tokens"].tolist() == [3]
    assert len(pd.read_parquet(paths[2])) == 1


def test_json_is_written_and_returned(tmp_path: Path) -> None:
    text = filled().to_json(tmp_path / "runs.json")
    document = json.loads((tmp_path / "runs.json").read_text("utf-8"))
    assert document == json.loads(text)
    assert [len(document[name]) for name in ("calls", "requests", "tools")] == [1, 0, 1]


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("old")
    filled().to_csv(str(tmp_path / "runs.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv", "runs.requests.csv", "runs.tools.csv"]
    assert (tmp_path / "runs.csv").read_text().startswith("call_id,")
    mode = (tmp_path / "runs.csv").stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    assert mode == 0o666 & ~mask


@pytest.mark.parametrize("write", ["to_csv", "to_parquet", "to_json"])
def test_a_path_that_cannot_be_written_is_an_error_that_names_it(write: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write the metrics to '.*nowhere"):
        getattr(filled(), write)(tmp_path / "nowhere" / "runs")
    assert list(tmp_path.iterdir()) == []


# notebooks


def notebook(path: Path, *bundles: dict[str, Any]) -> Path:
    outputs = [{"output_type": "display_data", "metadata": {}, "data": bundle} for bundle in bundles]
    cells = [
        {"cell_type": "markdown", "source": "# Title", "metadata": {}},
        {
            "cell_type": "code",
            "source": "x",
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "hi"}],
        },
        {"cell_type": "code", "source": "y", "outputs": outputs},
    ]
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    path.write_text(json.dumps(document), "utf-8")
    return path


def saved(response: StreamingResponseDTO) -> dict[str, Any]:
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return render_bundle(tracker.snapshot())


@pytest.mark.asyncio
@pytest.mark.parametrize("as_lines", [False, True])
async def test_frames_come_back_from_a_notebook_as_they_were(as_lines: bool, tmp_path: Path) -> None:
    recorder = MetricsRecorder()
    bundles = [saved(await a_turn(recorder)), saved(await a_turn(recorder, fails=True))]
    if as_lines:  # as Jupyter writes texts into the file
        for bundle in bundles:
            bundle["text/plain"] = bundle["text/plain"].splitlines(keepends=True)
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", *bundles, bundles[0]))
    assert back.calls["status"].tolist() == ["ok", "error"]
    # The blocks of an answer are told apart by a blank line.
    for name in ("calls", "requests", "tools"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(recorder, name))


def test_a_notebook_without_answers_has_no_calls(tmp_path: Path) -> None:
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb"))
    assert len(back) == 0
    assert back.calls.dtypes.to_dict() == MetricsRecorder().calls.dtypes.to_dict()


def test_records_that_somebody_has_edited_are_read_as_far_as_they_make_sense(tmp_path: Path) -> None:
    odd = {
        "version": 1,
        "call": {"call_id": "c1", "input_tokens": "many", "started_at": "noon", "response_in_plain": [[0, "x"]]},
        "requests": [{"round": 1.5}, 7],
        "tools": None,
        "more": {},
    }
    bundles = [{BUNDLE_MIME: record, "text/plain": "x"} for record in (odd, [], {"call": 7}, {"call": {}}, None)]
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", *bundles))
    assert back.calls["call_id"].tolist() == ["c1"]
    assert back.calls[["input_tokens", "started_at", "response"]].isna().all(axis=None)
    assert len(back.requests) == 1


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '"text"', "{}", '{"cells": 3}', '{"cells": [[1]]}', "\ufeff"]
)
def test_a_file_that_is_no_notebook_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(RecorderFileError, match=r"n\.ipynb' is not a notebook"):
        MetricsRecorder.from_notebook(path)


def test_a_notebook_that_is_not_there_or_of_a_newer_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecorderFileError, match=r"cannot read .*No such file"):
        MetricsRecorder.from_notebook(tmp_path / "n.ipynb")
    newer = {BUNDLE_MIME: {"version": 2, "call": {"call_id": "c"}}}
    with pytest.raises(RecorderFileError, match=r"newer createagents-nb \(format 2; this one reads 1\)"):
        MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", newer))
