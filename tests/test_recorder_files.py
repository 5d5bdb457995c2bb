"""Frames as CSV, Parquet and JSON, and frames from what a notebook saved."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from family import ScriptedProvider

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.core.events import RoundEnded, ToolCallRequested, Usage
from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord, as_saved
from createagents_nb.errors import ConfigurationError, RecorderFileError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.metrics.columns import REQUESTS
from createagents_nb.render.bundle import render_bundle
from createagents_nb.render.mime_types import BUNDLE_MIME
from createagents_nb.render.turn_state import TurnTracker
from createagents_nb.tools.tool import resolve_tools

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
    for column in ("error", "response", "prompt"):  # of which nothing is known, or nothing was said
        assert back[column].dtype != object


def test_names_with_half_a_surrogate_pair_can_be_written(tmp_path: Path) -> None:
    recorder = filled()
    recorder.tool_settled(replace(recorder.tool_records[0], tool="\ud83d", error="\ud83d"))
    paths = [*recorder.to_csv(tmp_path / "a.csv"), *recorder.to_parquet(tmp_path / "b.parquet")]
    assert pd.read_csv(paths[2])["tool"].tolist()[-1] == "?"


def test_json_is_written_with_all_three_frames(tmp_path: Path) -> None:
    path = filled().to_json(tmp_path / "runs.json")
    document = json.loads(path.read_text("utf-8"))
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


def notebook(path: Path, *bundles: Any) -> Path:
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


def edited(**known: Any) -> dict[str, Any]:
    call = {"call_id": "c1", "started_at": STARTED.isoformat(), "status": "ok", **known}
    return {BUNDLE_MIME: {"version": 1, "call": call, "requests": [], "tools": []}, "text/plain": "the text"}


@pytest.mark.parametrize(
    "odd",
    [
        {"input_tokens": "many", "output_tokens": -3, "cached_tokens": 1.5, "latency_s": float("inf")},
        {"response_in_plain": [[0, "x"]]},
        {"response_in_plain": [[0, 100_000]] * 2000},
        {"response_in_plain": [[4, 8], [0, 3]]},
        {"prompt": 7, "agent": [], "error": {}, "model": None, "cell_id": 3},
    ],
)
def test_fields_that_make_no_sense_are_unknown(odd: dict[str, Any], tmp_path: Path) -> None:
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", edited(**odd)))
    row = back.calls.loc[0]
    assert row["call_id"] == "c1"
    assert row[[name for name in odd if name in row.index]].isna().all()
    assert pd.isna(row["response"])
    for shown in (back.show(), back):
        assert shown._repr_html_()
    assert back.to_json(tmp_path / "back.json").exists()
    assert back.timeline()


@pytest.mark.parametrize(
    "odd",
    [{"call_id": 7}, {"started_at": "noon"}, {"started_at": "9999-12-31T23:59:59-14:00"}, {"status": "fine"}],
)
def test_what_is_no_record_is_left_out(odd: dict[str, Any], tmp_path: Path) -> None:
    others: list[Any] = [
        {BUNDLE_MIME: record, "text/plain": "x"} for record in ([], {"call": 7}, {"call": {}}, None)
    ]
    bundles = [edited(**odd), *others, edited(call_id="c2"), BUNDLE_MIME, [BUNDLE_MIME]]
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", *bundles))
    assert back.calls["call_id"].tolist() == ["c2"]


def test_requests_and_tools_that_are_none_are_left_out(tmp_path: Path) -> None:
    bundle = edited()
    right = {"call_id": "c1", "round": 1, "started_at": STARTED.isoformat(), "status": "ok", "tool": "look"}
    bundle[BUNDLE_MIME] |= {"requests": True, "tools": [5, right, right | {"started_at": None}]}
    back = MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", bundle))
    assert (len(back.requests), back.tools["tool"].tolist()) == (0, ["look"])
    assert "look" in repr(back.show())


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '"text"', "{}", '{"cells": 3}', '{"cells": [[1]]}', "\ufeff"]
)
def test_a_file_that_is_no_notebook_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(RecorderFileError, match=r"n\.ipynb' is not a notebook"):
        MetricsRecorder.from_notebook(path)


def test_a_notebook_that_is_not_there_or_of_another_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecorderFileError, match=r"cannot read .*No such file"):
        MetricsRecorder.from_notebook(tmp_path / "n.ipynb")
    for version in (2, "2", 1.5):
        other = {BUNDLE_MIME: {"version": version, "call": {"call_id": "c"}}}
        with pytest.raises(RecorderFileError, match=r"another createagents-nb \(format .*; this one reads 1\)"):
            MetricsRecorder.from_notebook(notebook(tmp_path / "n.ipynb", other))


def test_what_only_this_process_needs_of_a_record_is_not_saved() -> None:
    record = RequestRecord(
        call_id="c",
        round=1,
        started_at=STARTED,
        provider="azure",
        model="m",
        status="ok",
        price_provider="azure",
        telemetry_provider="azure.ai.openai",
    )
    assert set(as_saved(record)) == set(REQUESTS)
