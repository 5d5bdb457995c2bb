"""Figures of groups of calls and of tools, and what a recorder shows as a cell's value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from createagents_nb.core.records import CallRecord, ToolRecord
from createagents_nb.errors import ConfigurationError
from createagents_nb.metrics import MetricsRecorder

STARTED = datetime(2026, 3, 1, tzinfo=UTC)


def recorder_of(*calls: dict[str, Any]) -> MetricsRecorder:
    recorder = MetricsRecorder()
    for number, known in enumerate(calls):
        usual: dict[str, Any] = {"agent": "a", "provider": "demo", "model": "m", "status": "ok"}
        recorder.call_settled(CallRecord(call_id=f"c{number}", started_at=STARTED, **{**usual, **known}))
    return recorder


def run(recorder: MetricsRecorder, tool: str, latency_s: float | None, status: Any = "ok") -> None:
    number = len(recorder.tool_records)
    recorder.tool_settled(
        ToolRecord(
            call_id="c0",
            tool_call_id=f"t{number}",
            round=1,
            tool=tool,
            arguments="{}",
            status=status,
            started_at=STARTED,
            latency_s=latency_s,
        )
    )


def test_each_group_has_its_counts_quantiles_and_sums() -> None:
    recorder = recorder_of(
        {"model": "fast", "latency_s": 1.0, "ttft_s": 0.1, "input_tokens": 10, "cost_usd": 0.5},
        {"model": "fast", "latency_s": 3.0, "ttft_s": 0.3, "input_tokens": 20},
        {"model": "slow", "status": "error", "latency_s": 9.0},
        {"model": "slow", "status": "cancelled", "latency_s": 5.0, "output_tokens": 7},
        {"model": "slow", "status": "running"},
    )
    frame = recorder.summary(by=["model"])
    assert list(frame.index) == ["fast", "slow"]
    assert frame[["calls", "running", "errors", "stopped"]].values.tolist() == [[2, 0, 0, 0], [3, 1, 1, 1]]
    # How long it took to fail or to be stopped is no latency of the model's.
    assert frame["latency_p50_s"].fillna(-1).tolist() == [2.0, -1]
    assert frame["latency_p95_s"].fillna(-1).tolist() == pytest.approx([2.9, -1])
    assert frame["ttft_p50_s"].fillna(-1).tolist() == [0.2, -1]
    assert frame["input_tokens"].fillna(-1).tolist() == [30, -1]
    assert frame["output_tokens"].fillna(-1).tolist() == [-1, 7]
    assert frame["cost_usd"].fillna(-1).tolist() == [0.5, -1]
    assert frame["priced_calls"].tolist() == [1, 0]
    assert frame["input_tokens"].dtype == "Int64"


@pytest.mark.parametrize("by", [None, "model", ["provider", "model"], ("agent", "status")])
def test_groups_are_made_by_any_columns_also_of_nothing(by: Any) -> None:
    recorder = recorder_of({"model": "m1"}, {"model": "m2"})
    assert recorder.summary(by)["calls"].sum() == 2
    empty = MetricsRecorder().summary(by)
    assert list(empty.columns) == list(recorder.summary(by).columns)
    assert empty.dtypes.to_dict() == recorder.summary(by).dtypes.to_dict()
    assert len(empty) == 0


def test_calls_of_which_the_name_is_unknown_are_a_group_too() -> None:
    recorder = recorder_of({"provider": ""}, {"provider": "demo"})
    assert recorder.summary("provider")["calls"].tolist() == [1, 1]


@pytest.mark.parametrize("by", ["models", ["model", "speed"], []])
def test_a_column_that_is_none_is_an_error(by: Any) -> None:
    with pytest.raises(ConfigurationError, match="summary: "):
        recorder_of({}).summary(by)


def test_tools_stand_with_the_slowest_first() -> None:
    recorder = MetricsRecorder()
    for latency_s in (0.1, 0.3):
        run(recorder, "quick", latency_s)
    run(recorder, "slow", 2.0, "timeout")
    run(recorder, "slow", 1.0)
    run(recorder, "quick", None, "rejected")
    run(recorder, "unknown", None, "unknown_tool")
    frame = recorder.tool_summary()
    assert list(frame.index) == ["slow", "quick", "unknown"]
    assert frame["executions"].tolist() == [2, 2, 1]
    assert frame["errors"].tolist() == [1, 0, 1]
    assert frame["rejected"].tolist() == [0, 1, 0]
    assert frame["latency_p50_s"].fillna(-1).tolist() == pytest.approx([1.5, 0.2, -1])
    assert MetricsRecorder().tool_summary().empty


def shown(recorder: MetricsRecorder) -> str:
    class Printer:
        def text(self, text: str) -> None:
            self.said = text

    printer = Printer()
    recorder._repr_pretty_(printer, cycle=False)
    return printer.said


def test_as_a_cells_value_it_is_two_tables_in_words_too() -> None:
    recorder = recorder_of({"latency_s": 1.0, "cost_usd": 0.25}, {"model": "other", "status": "error"})
    run(recorder, "slow", 120.0)
    lines = shown(recorder).splitlines()
    assert lines[0] == "MetricsRecorder: 2 calls, 0 requests, 1 tool call"
    assert lines[1].split()[:3] == ["model", "calls", "errors"]
    assert [line.split()[0] for line in lines[2:5]] == ["demo/m", "demo/other", "all"]
    assert "$0.2500" in lines[2]
    assert "Tools, by their time in all" in lines
    assert "120 s" in lines[-1]
    html = recorder._repr_html_()
    assert html.count("<table>") == 2
    assert "<td" in html
    assert "$0.2500" in html
    assert "$0.2500 (1 of 2 calls)" in lines[4]


def test_hostile_names_become_neither_markup_nor_formulas_nor_escapes() -> None:
    recorder = recorder_of({"model": "<script>alert(1)</script>\x1b[31m$x$\u202e" + "m" * 500})
    run(recorder, "<img src=x>\n\n", 1.0)
    html = recorder._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "\n\n" not in html
    assert "mathjax_ignore" in html
    for said in (html, shown(recorder)):
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "m" * 100 not in said


def test_many_models_are_cut_to_the_most_used_and_the_rest_is_counted() -> None:
    recorder = recorder_of(*({"model": f"m{number}"} for number in range(30)), {"model": "m29"})
    lines = shown(recorder).splitlines()
    assert lines[2].startswith("demo/m29")
    assert "… 10 more" in lines
    assert lines[-1].startswith("all")


def test_a_summary_does_not_change_what_is_recorded() -> None:
    recorder = recorder_of({"latency_s": 1.0}, {"status": "error"})
    before = recorder.calls
    recorder.summary()
    recorder._repr_html_()
    pd.testing.assert_frame_equal(recorder.calls, before)
