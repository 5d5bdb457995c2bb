"""Exports: JSON, and the Prometheus text format as Prometheus' own parser reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.errors import ConfigurationError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.metrics.export import to_json, to_prometheus

STARTED = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
WHO = {"agent": "scout", "provider": "openai", "model": "m"}


def call(call_id: str, **known: Any) -> CallRecord:
    return CallRecord(call_id=call_id, **{**WHO, "started_at": STARTED, "status": "ok", **known})


def request(call_id: str, **known: Any) -> RequestRecord:
    opened = {"round": 1, "started_at": STARTED, "provider": "openai", "model": "m", "status": "ok"}
    return RequestRecord(call_id=call_id, **{**opened, **known})


def tool_run(call_id: str, **known: Any) -> ToolRecord:
    opened = {"tool_call_id": "t", "round": 1, "tool": "rows", "arguments": "{}", "started_at": STARTED}
    return ToolRecord(call_id=call_id, **{**opened, "status": "ok", **known})


def two_calls() -> MetricsRecorder:
    recorder = MetricsRecorder()
    recorder.call_settled(call("c1", latency_s=0.3, ttft_s=0.05, input_tokens=100, output_tokens=7, prompt="ação"))
    recorder.request_settled(request("c1", latency_s=0.3, input_tokens=100, output_tokens=7, retries=2))
    recorder.tool_settled(tool_run("c1", latency_s=0.02, result="5"))
    recorder.call_settled(call("c2", latency_s=200.0, status="error", error_type="ServerError", error="down"))
    recorder.request_settled(request("c2", status="error"))
    recorder.tool_settled(tool_run("c2", status="timeout", latency_s=30))
    return recorder


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value_of(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, frozenset(labels.items())))


# JSON


def test_json_has_every_frame_as_rows_with_null_for_unknown() -> None:
    recorder = two_calls()
    document = json.loads(to_json(recorder))
    assert document["version"] == 1
    assert [len(document[name]) for name in ("calls", "requests", "tools")] == [2, 2, 2]
    for name in ("calls", "requests", "tools"):
        assert list(document[name][0]) == list(getattr(recorder, name).columns)
    first = document["calls"][0]
    assert first["started_at"] == "2026-03-01T12:30:15.000000Z"
    assert (first["input_tokens"], first["cached_tokens"], first["cost_usd"]) == (100, None, None)
    assert first["prompt"] == "ação"


def test_json_times_are_utc_whatever_zone_they_came_in() -> None:
    recorder = MetricsRecorder()
    recorder.call_settled(call("c1", started_at=STARTED.astimezone(timezone(timedelta(hours=-3)))))
    assert json.loads(to_json(recorder))["calls"][0]["started_at"] == "2026-03-01T12:30:15.000000Z"


def test_json_is_valid_for_values_that_json_cannot_say(tmp_path: Path) -> None:
    recorder = MetricsRecorder()
    recorder.call_settled(
        call("c1", latency_s=float("nan"), ttft_s=float("inf"), response="half \ud800", error=b"x")
    )

    def refuse(word: str) -> None:
        pytest.fail(word)

    text = to_json(recorder, tmp_path / "calls.json")
    row = json.loads(text, parse_constant=refuse)["calls"][0]
    assert (row["latency_s"], row["ttft_s"], row["response"]) == (None, None, "half \ud800")
    assert (tmp_path / "calls.json").read_text(encoding="utf-8") == text


def test_json_of_an_empty_recorder() -> None:
    assert json.loads(to_json(MetricsRecorder())) == {"version": 1, "calls": [], "requests": [], "tools": []}


@pytest.mark.parametrize("call_ids", [["c2"], {"c2"}, iter(["c2", "unheard-of"]), "c2"])
def test_json_of_some_calls_has_their_requests_and_tools_only(call_ids: Any) -> None:
    document = json.loads(to_json(two_calls(), call_ids=call_ids))
    assert {row["call_id"] for rows in list(document.values())[1:] for row in rows} == {"c2"}


# Prometheus


def test_prometheus_counters_and_their_labels() -> None:
    text = to_prometheus(two_calls())
    assert value_of(text, "createagents_calls_total", **WHO, status="ok") == 1
    assert value_of(text, "createagents_calls_total", **WHO, status="error") == 1
    assert value_of(text, "createagents_tokens_total", **WHO, type="input") == 100
    assert value_of(text, "createagents_tokens_total", **WHO, type="cached") is None
    assert value_of(text, "createagents_requests_total", provider="openai", model="m", status="error") == 1
    assert value_of(text, "createagents_request_retries_total", provider="openai", model="m") == 2
    assert value_of(text, "createagents_tool_calls_total", tool="rows", status="timeout") == 1


def test_prometheus_histograms_are_cumulative_and_in_seconds() -> None:
    text = to_prometheus(two_calls())
    name = "createagents_call_duration_seconds"
    assert value_of(text, f"{name}_sum", **WHO) == pytest.approx(200.3)
    assert value_of(text, f"{name}_count", **WHO) == 2
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in families(text)[name].samples
        if sample.name.endswith("_bucket")
    ]
    assert buckets == sorted(buckets)
    within = dict(buckets)
    assert [within[bound] for bound in (0.16, 0.32, 81.92, float("inf"))] == [0, 1, 1, 2]
    assert value_of(text, "createagents_time_to_first_token_seconds_bucket", **WHO, le="0.06") == 1
    assert value_of(text, "createagents_time_to_first_token_seconds_count", **WHO) == 1
    assert value_of(text, "createagents_tool_duration_seconds_count", tool="rows") == 2


@pytest.mark.parametrize("make", [MetricsRecorder, two_calls])
def test_prometheus_names_types_and_help_are_well_formed(make: Any) -> None:
    text = to_prometheus(make())
    assert text.endswith("\n")
    for name, family in families(text).items():
        assert name.startswith("createagents_")
        assert family.documentation
        assert family.type in {"counter", "histogram"}
        assert family.type == "counter" or name.endswith("_seconds")
    typed = [line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE")]
    assert all(name.endswith("_total") for name, kind in typed if kind == "counter")
    assert len({name for name, _ in typed}) == len(typed) == 8


@pytest.mark.parametrize(
    "name", ['say "hi"', "back\\slash", "two\nlines", "\\n", "} 1\ncreatea 2", " fim ", "né 👋"]
)
def test_prometheus_labels_survive_whatever_a_name_holds(name: str) -> None:
    recorder = MetricsRecorder()
    recorder.tool_settled(tool_run("c1", tool=name, status="unknown_tool"))
    assert (
        value_of(to_prometheus(recorder), "createagents_tool_calls_total", tool=name, status="unknown_tool") == 1
    )


def test_prometheus_says_a_broken_name_in_valid_unicode(tmp_path: Path) -> None:
    recorder = MetricsRecorder()
    recorder.tool_settled(tool_run("c1", tool="half \ud800"))
    text = to_prometheus(recorder, tmp_path / "m.prom")
    assert value_of(text, "createagents_tool_calls_total", tool="half ?", status="ok") == 1


def test_prometheus_does_not_count_what_is_unknown_negative_or_running() -> None:
    recorder = MetricsRecorder()
    recorder.call_settled(call("c1", input_tokens=-5, output_tokens=float("nan"), latency_s=-1.0))
    recorder.call_settled(call("c2", input_tokens=3, output_tokens=10**400))
    recorder.call_opened(call("c3", status="running"))
    text = to_prometheus(recorder)
    assert value_of(text, "createagents_calls_total", **WHO, status="ok") == 2
    assert value_of(text, "createagents_calls_total", **WHO, status="running") is None
    assert value_of(text, "createagents_tokens_total", **WHO, type="input") == 3
    assert value_of(text, "createagents_tokens_total", **WHO, type="output") is None
    assert value_of(text, "createagents_call_duration_seconds_count", **WHO) is None


def test_prometheus_of_some_calls() -> None:
    text = to_prometheus(two_calls(), call_ids=["c1"])
    assert value_of(text, "createagents_calls_total", **WHO, status="ok") == 1
    assert value_of(text, "createagents_calls_total", **WHO, status="error") is None


# files


@pytest.mark.parametrize("export", [to_json, to_prometheus])
def test_a_file_gets_what_is_returned(export: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "metrics.txt", str(tmp_path / "again.txt")):
        text = export(two_calls(), path)
        assert Path(path).read_bytes() == text.encode()


@pytest.mark.parametrize("export", [to_json, to_prometheus])
def test_a_path_that_cannot_be_written_is_named(export: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent" / "m.txt", tmp_path, tmp_path / "file" / "m.txt", "nul\0l.txt", 5):
        with pytest.raises(ConfigurationError, match="cannot write the metrics to") as raised:
            export(two_calls(), path)
        assert repr(str(path)) in str(raised.value)
