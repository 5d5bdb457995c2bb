"""MetricsRecorder: rows, frames, dtypes, the methods of handlers written by hand."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ollama import ChatResponse
from openai.types.chat import ChatCompletion

import createagents_nb.metrics
from createagents_nb.core.records import CallRecord, CellRef, RecordSink, RequestRecord, ToolRecord, current_cell
from createagents_nb.errors import ConfigurationError, RateLimitError, TurnStopped
from createagents_nb.metrics import MetricsRecorder

STARTED = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)

TEXT, LABEL, COUNT, NUMBER, TIME = "string", "category", "Int64", "Float64", "datetime64[us, UTC]"
FIGURES = {
    "latency_s": NUMBER,
    "ttft_s": NUMBER,
    "tokens_per_s": NUMBER,
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "cached_tokens": COUNT,
    "reasoning_tokens": COUNT,
}
FRAMES: dict[str, dict[str, str]] = {
    "calls": {
        "call_id": TEXT,
        "started_at": TIME,
        "agent": LABEL,
        "provider": LABEL,
        "model": LABEL,
        "status": LABEL,
        **FIGURES,
        "cost_usd": NUMBER,
        "rounds": COUNT,
        "tool_calls": COUNT,
        "error_type": LABEL,
        "error": TEXT,
        "prompt": TEXT,
        "response": TEXT,
        "cell_id": LABEL,
        "execution_count": COUNT,
        "finish_reason": LABEL,
    },
    "requests": {
        "call_id": TEXT,
        "round": COUNT,
        "started_at": TIME,
        "provider": LABEL,
        "model": LABEL,
        "server": LABEL,
        "response_model": LABEL,
        "status": LABEL,
        "finish_reason": LABEL,
        **FIGURES,
        "cost_usd": NUMBER,
        "load_s": NUMBER,
        "prompt_eval_s": NUMBER,
        "eval_s": NUMBER,
        "retries": COUNT,
        "error_type": LABEL,
        "error": TEXT,
        "adjusted": TEXT,
        "context_window": COUNT,
    },
    "tools": {
        "call_id": TEXT,
        "tool_call_id": TEXT,
        "round": COUNT,
        "tool": LABEL,
        "arguments": TEXT,
        "status": LABEL,
        "started_at": TIME,
        "latency_s": NUMBER,
        "result": TEXT,
        "error": TEXT,
    },
}


def call(call_id: str = "c1", **known: Any) -> CallRecord:
    opened = {"started_at": STARTED, "agent": "a", "provider": "openai", "model": "m", "status": "ok"}
    return CallRecord(call_id=call_id, **{**opened, **known})


def request(call_id: str = "c1", **known: Any) -> RequestRecord:
    opened = {"round": 1, "started_at": STARTED, "provider": "openai", "model": "m", "status": "ok"}
    return RequestRecord(call_id=call_id, **{**opened, **known})


def tool_run(call_id: str = "c1", **known: Any) -> ToolRecord:
    opened = {
        "tool_call_id": "t1",
        "round": 1,
        "tool": "rows",
        "arguments": '{"limit": 5}',
        "status": "ok",
        "started_at": STARTED,
    }
    return ToolRecord(call_id=call_id, **{**opened, **known})


def filled() -> MetricsRecorder:
    recorder = MetricsRecorder()
    recorder.call_settled(
        call(prompt="p", response="r", latency_s=1.5, ttft_s=0.5, input_tokens=10, output_tokens=4)
    )
    recorder.request_settled(request(latency_s=0.7, input_tokens=6, output_tokens=3))
    recorder.request_settled(request(round=2, latency_s=0.6, input_tokens=4, output_tokens=1))
    recorder.tool_settled(tool_run(latency_s=0.1, result="five rows"))
    return recorder


def assert_fixed(frame: pd.DataFrame, name: str) -> None:
    assert list(frame.columns) == list(FRAMES[name])
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == FRAMES[name]


# frames


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("make", [MetricsRecorder, filled])
def test_columns_and_dtypes_are_fixed_also_when_empty(name: str, make: Any) -> None:
    assert_fixed(getattr(make(), name), name)


def test_values_arrive_in_their_columns() -> None:
    row = filled().calls.loc[0]
    assert row["call_id"] == "c1"
    assert row["started_at"] == pd.Timestamp(STARTED)
    assert (row["latency_s"], row["ttft_s"], row["input_tokens"], row["output_tokens"]) == (1.5, 0.5, 10, 4)
    assert (row["prompt"], row["response"]) == ("p", "r")


def test_what_is_unknown_is_na_and_never_zero() -> None:
    recorder = MetricsRecorder()
    recorder.call_settled(call())
    recorder.request_settled(request())
    recorder.tool_settled(tool_run())
    known = {"call_id", "started_at", "agent", "provider", "model", "status", "rounds", "tool_calls"}
    assert set(recorder.calls.columns[recorder.calls.notna().all()]) == known
    assert recorder.requests[[*FIGURES, "load_s", "eval_s", "finish_reason", "error"]].isna().all(axis=None)
    assert recorder.tools[["latency_s", "result", "error"]].isna().all(axis=None)


def test_frames_join_by_call_id_and_totals_hold() -> None:
    recorder = filled()
    recorder.call_settled(call("c2", agent="b", input_tokens=1))
    recorder.request_settled(request("c2", input_tokens=1))
    joined = recorder.requests.merge(recorder.calls[["call_id", "agent"]], on="call_id", validate="many_to_one")
    assert joined["agent"].tolist() == ["a", "a", "b"]
    sums = recorder.requests.groupby("call_id")["input_tokens"].sum()
    assert sums.to_dict() == recorder.calls.set_index("call_id")["input_tokens"].to_dict()
    assert recorder.tools.merge(recorder.calls, on="call_id")["model"].tolist() == ["m"]


def test_a_running_row_is_replaced_in_its_place_when_the_call_settles() -> None:
    recorder = MetricsRecorder()
    recorder.call_opened(call("c1", status="running"))
    recorder.call_opened(call("c2", status="running"))
    assert recorder.calls["status"].tolist() == ["running", "running"]
    recorder.call_settled(call("c2", latency_s=2.0))
    assert recorder.calls["status"].tolist() == ["running", "ok"]
    recorder.call_settled(call("c1", latency_s=3.0))
    assert recorder.calls["call_id"].tolist() == ["c1", "c2"]
    assert recorder.calls["latency_s"].tolist() == [3.0, 2.0]
    assert len(recorder) == 2


def test_stopped_failed_and_limited_calls_have_rows() -> None:
    recorder = MetricsRecorder()
    recorder.call_settled(call("c1", status="cancelled", response="half an ans"))
    recorder.call_settled(call("c2", status="error", error_type="RateLimitError", error="too many"))
    recorder.call_settled(call("c3", status="limit", rounds=20))
    ended = recorder.calls.query("status != 'ok'").set_index("status")
    assert ended.loc["cancelled", "response"] == "half an ans"
    assert ended.loc["error", "error_type"] == "RateLimitError"
    assert ended.loc["limit", "rounds"] == 20


def test_a_frame_is_a_snapshot_of_its_owners() -> None:
    recorder = filled()
    recorder.call_opened(call("c2", status="running"))
    before = recorder.calls
    kept = before.copy(deep=True)
    recorder.call_settled(call("c2", status="error"))
    recorder.call_settled(call("c3"))
    pd.testing.assert_frame_equal(before, kept)

    mine = recorder.calls
    mine.loc[0, "prompt"] = "changed"
    mine["model"] = mine["model"].cat.rename_categories(lambda name: name.upper())
    mine["latency_s"].array[:] = pd.NA
    del mine["error"]
    assert recorder.calls["model"].tolist() == ["m", "m", "m"]
    assert recorder.calls["status"].tolist() == ["ok", "error", "ok"]
    assert recorder.calls["latency_s"].tolist() == [*kept["latency_s"], pd.NA]
    assert_fixed(recorder.calls, "calls")


def test_a_frame_without_new_rows_is_not_converted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from createagents_nb.metrics import frames

    converted: list[int] = []
    convert = frames.FrameBuilder._converted

    def counting(self: Any, indices: Any) -> Any:
        converted.extend(indices)
        return convert(self, indices)

    monkeypatch.setattr(frames.FrameBuilder, "_converted", counting)
    recorder = filled()
    first, second = recorder.calls, recorder.calls
    pd.testing.assert_frame_equal(first, second)
    recorder.tool_settled(tool_run())
    _ = recorder.calls
    assert converted == [0]
    recorder.call_opened(call("c2", status="running"))
    recorder.call_settled(call("c3"))
    assert recorder.calls["status"].tolist() == ["ok", "running", "ok"]
    assert converted == [0, 1, 2]
    recorder.call_settled(call("c2"))
    assert recorder.calls["status"].tolist() == ["ok", "ok", "ok"]
    assert converted == [0, 1, 2, 1]


def test_odd_values_are_kept_as_reported_and_never_raise() -> None:
    recorder = MetricsRecorder()
    odd: Any = {
        "input_tokens": float("nan"),
        "output_tokens": -7,
        "cached_tokens": 1.5,
        "reasoning_tokens": 10**30,
    }
    recorder.call_settled(call("c1", latency_s=-0.5, ttft_s=float("inf"), tokens_per_s="fast", **odd))
    recorder.call_settled(call("c2", response="half \ud800", error=None, model=17, latency_s=1, input_tokens=3))
    frame = recorder.calls
    assert_fixed(frame, "calls")
    assert list(frame.loc[0, ["output_tokens", "latency_s", "ttft_s"]]) == [-7, -0.5, float("inf")]
    assert frame.loc[0, ["input_tokens", "cached_tokens", "reasoning_tokens", "tokens_per_s"]].isna().all()
    assert recorder.call_records[0].cached_tokens == 1.5
    assert list(frame.loc[1, ["response", "model"]]) == ["half \ud800", "17"]
    assert list(frame.loc[1, ["latency_s", "input_tokens"]]) == [1.0, 3]


def test_times_are_utc_whatever_zone_they_came_in() -> None:
    from zoneinfo import ZoneInfo

    recorder = MetricsRecorder()
    recorder.call_settled(call("c1", started_at=STARTED.astimezone(ZoneInfo("America/Sao_Paulo"))))
    recorder.call_settled(call("c2", started_at=STARTED.replace(tzinfo=None)))
    assert recorder.calls["started_at"].tolist() == [pd.Timestamp(STARTED)] * 2


def test_without_content_nothing_that_was_said_is_kept() -> None:
    said: list[dict[str, Any]] = []
    recorder = MetricsRecorder(said, record_content=False)
    recorder.call_opened(call(status="running", prompt="secret"))
    recorder.call_settled(call(prompt="secret", response="secret", output_tokens=3))
    recorder.tool_settled(tool_run(arguments='{"q": "secret"}', result="secret"))
    recorder.record_success_metrics(model="m", start_time=time.time(), response_api="secret", provider_type="x")
    assert recorder.calls[["prompt", "response"]].isna().all(axis=None)
    assert recorder.tools[["arguments", "result"]].isna().all(axis=None)
    assert recorder.calls.loc[0, "output_tokens"] == 3
    assert "secret" not in repr((said, recorder.call_records, recorder.request_records, recorder.tool_records))


def test_clear_forgets_and_leaves_frames_alone() -> None:
    recorder = filled()
    taken = recorder.calls
    recorder.call_opened(call("c9", status="running"))
    recorder.clear()
    assert len(recorder) == 0
    assert_fixed(recorder.calls, "calls")
    assert recorder.requests.empty
    assert recorder.tools.empty
    assert len(taken) == 1
    recorder.call_settled(call("c9"))
    assert recorder.calls["call_id"].tolist() == ["c9"]


def test_records_are_handed_out_as_copies() -> None:
    recorder = filled()
    recorder.call_records.clear()
    recorder.request_records.clear()
    recorder.tool_records.clear()
    assert (len(recorder.call_records), len(recorder.request_records), len(recorder.tool_records)) == (1, 2, 1)


# the sink


def test_the_recorder_is_a_record_sink() -> None:
    sink: RecordSink = MetricsRecorder()
    sink.call_opened(call(status="running"))


def test_a_settled_call_is_appended_to_the_metrics_list_as_a_plain_dict() -> None:
    metrics_list: list[dict[str, Any]] = []
    recorder = MetricsRecorder(metrics_list)
    recorder.call_opened(call(status="running"))
    assert metrics_list == []
    recorder.call_settled(call(input_tokens=5))
    assert [list(row) for row in metrics_list] == [list(FRAMES["calls"])]
    assert metrics_list[0]["input_tokens"] == 5
    assert metrics_list[0]["cost_usd"] is None


def test_recording_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    class FullList(list[Any]):
        def append(self, row: Any) -> None:
            raise MemoryError("no room")

    recorder = MetricsRecorder(FullList())
    recorder.call_settled(call())
    recorder.call_settled(None)  # type: ignore[arg-type]
    recorder.call_opened(object())  # type: ignore[arg-type]
    recorder.record_error_metrics(model=None, start_time="noon", error=None)  # type: ignore[arg-type]
    recorder.record_success_metrics(model="m", start_time=float("nan"), response_api=object())
    assert len(recorder) == 3
    assert "no room" in caplog.text
    assert recorder.calls["latency_s"].isna().all()


def test_threads_may_share_a_recorder() -> None:
    recorder = MetricsRecorder()
    threads, each = 8, 300
    start = threading.Barrier(threads + 1)

    def work(name: int) -> None:
        start.wait()
        for number in range(each):
            call_id = f"{name}-{number}"
            recorder.call_opened(call(call_id, status="running"))
            recorder.request_settled(request(call_id))
            recorder.tool_settled(tool_run(call_id))
            recorder.call_settled(call(call_id))

    workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    while any(worker.is_alive() for worker in workers):
        assert recorder.calls["call_id"].is_unique  # taken while others record
    for worker in workers:
        worker.join()
    expected = {f"{name}-{number}" for name in range(threads) for number in range(each)}
    assert set(recorder.calls["call_id"]) == expected
    assert set(recorder.calls["status"]) == {"ok"}
    assert sorted(recorder.requests["call_id"]) == sorted(recorder.tools["call_id"]) == sorted(expected)


@pytest.mark.parametrize("cleared", [False, True])
def test_a_call_that_runs_when_it_is_to_be_kept_is_kept_whole(cleared: bool, tmp_path: Path) -> None:
    recorder = MetricsRecorder()
    recorder.call_opened(call(status="running"))
    recorder.request_settled(request())
    recorder.tool_settled(tool_run())
    recorder.persist(tmp_path / "runs.db")
    if cleared:
        recorder.clear()
    recorder.request_settled(request(round=2))
    recorder.call_settled(call(rounds=2, tool_calls=1))
    recorder.persist(None)
    back = MetricsRecorder.open(tmp_path / "runs.db")
    assert (len(back), back.requests["round"].tolist(), len(back.tools)) == (1, [1, 2], 1)
    if not cleared:
        for name in FRAMES:
            pd.testing.assert_frame_equal(getattr(back, name), getattr(recorder, name))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("record_content", "False"), ("record_content", 0), ("redact", "secret"), ("record_contents", False)],
)
def test_a_setting_that_would_do_nothing_is_an_error(setting: str, value: Any) -> None:
    recorder = MetricsRecorder()
    with pytest.raises(ConfigurationError, match=setting):
        setattr(recorder, setting, value)
    assert recorder.record_content is True


def test_a_path_in_place_of_a_list_is_an_error_that_names_persist() -> None:
    with pytest.raises(ConfigurationError, match=r"recorder\.persist"):
        MetricsRecorder("runs.db")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="persist: give the path"):
        MetricsRecorder().persist(12)  # type: ignore[arg-type]


def test_a_call_is_named_by_its_id_its_beginning_its_row_or_a_number() -> None:
    recorder = MetricsRecorder()
    for name in ("abc1", "abc2", "xyz"):
        recorder.call_settled(call(name))
    calls = recorder.calls
    for named in ("xyz", "x", -1, 2, calls.iloc[2], calls["call_id"].iloc[2], calls.tail(1), calls["call_id"][2:]):
        assert recorder.show(named).call.call_id == "xyz"
    assert recorder.timeline(calls).axes
    assert recorder.timeline(["abc1", -1]).axes
    for wrong, said in (
        ("abc", "2 calls begin with 'abc'"),
        ("q", "no call begins with 'q'"),
        (7, "there is no call 7: 3 are recorded, the last is -1"),
        (None, "None names no call"),
        (1.0, "1.0 names no call"),
        (calls, "show takes one call, not 3"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            recorder.show(wrong)
    with pytest.raises(ConfigurationError, match="no call is recorded yet"):
        MetricsRecorder().show()


def test_what_agents_call_is_not_offered_to_users() -> None:
    offered = dir(MetricsRecorder())
    assert {"calls", "summary", "persist", "record_content"} <= set(offered)
    assert not {"call_settled", "admit", "keep", "content_policy"} & set(offered)


# handlers written by hand

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_770_000_000,
    "model": "gpt-4.1-mini-2025-04-14",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Olá!"},
            "logprobs": None,
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}
OLLAMA = {
    "model": "llama3.2:1b",
    "created_at": "2026-03-01T12:30:15Z",
    "done": True,
    "done_reason": "stop",
    "message": {"role": "assistant", "content": "Olá!"},
    "total_duration": 3_000_000_000,
    "load_duration": 1_500_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 50,
    "eval_duration": 1_250_000_000,
}


@pytest.mark.parametrize("reply", [COMPLETION, ChatCompletion.model_validate(COMPLETION)], ids=["dict", "object"])
def test_an_openai_reply_is_read(reply: object) -> None:
    recorder = MetricsRecorder()
    recorder.record_success_metrics(
        model="gpt-4.1-mini", start_time=time.time() - 2, response_api=reply, provider_type="openai"
    )
    sent, made = recorder.requests.loc[0], recorder.calls.loc[0]
    assert sent["call_id"] == made["call_id"]
    assert (sent["model"], sent["response_model"]) == ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14")
    assert (sent["round"], made["rounds"], sent["finish_reason"]) == (1, 1, "stop")
    for row in (sent, made):
        assert (row["status"], row["provider"]) == ("ok", "openai")
        assert (row["input_tokens"], row["output_tokens"]) == (20, 9)
        assert (row["cached_tokens"], row["reasoning_tokens"]) == (16, 4)
        assert row["latency_s"] >= 2
        assert row["ttft_s"] is pd.NA
    assert made["response"] == "Olá!"
    assert pd.isna(made["agent"])


@pytest.mark.parametrize(("cost", "known"), [(0.0042, 0.0042), (0, 0.0), (-1, None), ("free", None)])
def test_the_cost_that_a_server_reports_is_recorded(cost: object, known: float | None) -> None:
    recorder = MetricsRecorder()
    reply = COMPLETION | {"usage": {"prompt_tokens": 20, "cost": cost}}
    recorder.record_success_metrics(model="m", start_time=time.time(), response_api=reply)
    recorder.call_settled(call("c2", cost_usd=known))
    assert recorder.calls["cost_usd"].tolist() == [pd.NA if known is None else known] * 2
    assert recorder.request_records[0].cost_usd == known


@pytest.mark.parametrize("reply", [OLLAMA, ChatResponse.model_validate(OLLAMA)], ids=["dict", "object"])
def test_an_ollama_reply_is_read_with_its_durations_in_seconds(reply: object) -> None:
    recorder = MetricsRecorder()
    recorder.record_success_metrics(
        model="llama3.2:1b", start_time=time.time(), response_api=reply, provider_type="ollama"
    )
    sent = recorder.requests.loc[0]
    assert (sent["input_tokens"], sent["output_tokens"]) == (26, 50)
    assert sent["cached_tokens"] is pd.NA
    assert (sent["load_s"], sent["prompt_eval_s"], sent["eval_s"]) == (1.5, 0.25, 1.25)
    assert sent["tokens_per_s"] == 40.0
    assert sent["finish_reason"] == "stop"
    assert recorder.calls.loc[0, "response"] == "Olá!"


@pytest.mark.parametrize("reply", ["só texto", None, {}, {"usage": None, "choices": []}, {"usage": {}}, 42])
def test_a_reply_that_says_little_leaves_the_rest_unknown(reply: object) -> None:
    recorder = MetricsRecorder()
    recorder.record_success_metrics(model="m", start_time=time.time(), response_api=reply, provider_type="openai")
    row = recorder.calls.loc[0]
    assert row["status"] == "ok"
    assert row[["input_tokens", "output_tokens", "tokens_per_s"]].isna().all()
    assert row["response"] == "só texto" if isinstance(reply, str) else row["response"] is pd.NA


def test_an_error_is_recorded_as_the_guide_calls_it() -> None:
    metrics_list: list[dict[str, Any]] = []
    recorder = MetricsRecorder(metrics_list)
    error = RateLimitError("slow down, key sk-abcdefghijkl", provider="openai", status_code=429)
    recorder.record_error_metrics(model="gpt-4", start_time=time.time(), error=error)
    for frame in (recorder.calls, recorder.requests):
        row = frame.loc[0]
        assert (row["status"], row["error_type"], row["error"]) == (
            "error",
            "RateLimitError",
            "slow down, key ***",
        )
        assert pd.isna(row["provider"])
    assert metrics_list[0]["error_type"] == "RateLimitError"
    assert metrics_list[0]["provider"] is None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), TurnStopped("stopped"), KeyboardInterrupt()])
def test_a_stop_is_recorded_as_cancelled(error: BaseException) -> None:
    recorder = MetricsRecorder()
    recorder.record_error_metrics(model="m", start_time=time.time(), error=error, provider_type="openai")
    assert recorder.calls.loc[0, "status"] == "cancelled"


def test_a_hand_made_row_starts_when_it_says_and_knows_its_cell() -> None:
    recorder = MetricsRecorder()
    token = current_cell.set(CellRef("cell-7", 3))
    try:
        recorder.record_success_metrics(model="m", start_time=STARTED.timestamp(), response_api=None)
    finally:
        current_cell.reset(token)
    row = recorder.calls.loc[0]
    assert row["started_at"] == pd.Timestamp(STARTED)
    assert (row["cell_id"], row["execution_count"]) == ("cell-7", 3)
    assert row["latency_s"] > timedelta(days=-1).total_seconds()


# as a cell's value


def test_repr_counts_in_words() -> None:
    assert repr(MetricsRecorder()) == "MetricsRecorder: 0 calls, 0 requests, 0 tool calls"
    assert repr(filled()) == "MetricsRecorder: 1 call, 2 requests, 1 tool call"


def test_html_summary_has_a_row_for_each_model_and_escapes_names() -> None:
    recorder = MetricsRecorder()
    for number, latency_s in enumerate((1.0, 2.0, 3.0)):
        recorder.call_settled(call(f"c{number}", latency_s=latency_s, input_tokens=1000))
    recorder.call_settled(call("bad", model='<img src=x onerror="alert(1)">', status="error"))
    html = recorder._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html
    cells = re.sub(' style="[^"]*"', "", html)
    assert "<td>3,000</td>" in cells
    assert "<td>2.00 s</td><td>2.90 s</td>" in cells
    assert html.count("<tr>") == 4  # head, two models, all


def test_html_summary_of_nothing_is_a_sentence() -> None:
    assert "<p>MetricsRecorder: 0 calls, 0 requests, 0 tool calls</p>" in MetricsRecorder()._repr_html_()


def test_an_empty_recorder_is_true() -> None:
    assert MetricsRecorder()


def test_there_is_one_recorder_for_all() -> None:
    assert isinstance(createagents_nb.metrics.recorder, MetricsRecorder)
    assert createagents_nb.metrics.__all__ == ["Budget", "MetricsRecorder", "RecorderWarning", "recorder"]


def test_pandas_is_imported_by_the_first_frame_only() -> None:
    script = """
import sys
import createagents_nb.metrics as metrics, createagents_nb.metrics.export as export
heavy = {"pandas", "numpy", "pydantic", "openai", "ollama", "aiohttp", "IPython"}
metrics.recorder.record_success_metrics(model="m", start_time=0, response_api="hi", provider_type="x")
repr(metrics.recorder)
export.to_json(metrics.recorder), export.to_prometheus(metrics.recorder)
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert len(metrics.recorder.calls) == 1
assert "pandas" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
