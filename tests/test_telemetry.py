"""OpenTelemetry: the spans and metrics of a settled call, by the GenAI conventions, and nothing that was said."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, run_script, sse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

import createagents_nb
from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.metrics import telemetry as module
from createagents_nb.metrics.observers import SettledCall
from createagents_nb.metrics.telemetry import Telemetry

START = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
START_NS = int(START.timestamp()) * 10**9 + 123_456_000
CANARY = "canary-4711"

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
BOUNDS = {
    "gen_ai.client.operation.duration": ("s", SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", SECONDS),
    "gen_ai.client.token.usage": (
        "{token}",
        (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    ),
    "gen_ai.invoke_agent.duration": (
        "s",
        (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
    ),
    "gen_ai.invoke_agent.inference_calls": ("{inference_call}", (1, 2, 4, 8, 16, 32, 64, 128)),
    "gen_ai.invoke_agent.tool_calls": ("{tool_call}", (1, 2, 4, 8, 16, 32, 64, 128)),
    "gen_ai.execute_tool.duration": ("s", SECONDS),
}


class Observed:
    """A `Telemetry` with an SDK of its own, and what came out of it."""

    def __init__(self, *processors: SpanProcessor, **options: Any) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(**options)
        for processor in (*processors, SimpleSpanProcessor(self._exporter)):
            self.tracers.add_span_processor(processor)
        self.telemetry = Telemetry(
            tracer_provider=self.tracers, meter_provider=MeterProvider(metric_readers=[self._reader])
        )

    def settle(self, call: CallRecord, *parts: RequestRecord | ToolRecord) -> None:
        requests = tuple(part for part in parts if isinstance(part, RequestRecord))
        tools = tuple(part for part in parts if isinstance(part, ToolRecord))
        self.telemetry.call_settled(SettledCall(call, requests, tools))

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def span(self) -> ReadableSpan:
        (span,) = self._exporter.get_finished_spans()
        return span

    @property
    def exported(self) -> str:
        """All that left the process, as text."""
        spans = "".join(span.to_json() for span in self._exporter.get_finished_spans())
        data = self._reader.get_metrics_data()
        return spans + ("" if data is None else data.to_json())

    def metrics(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert (scope.scope.name, scope.scope.version) == ("createagents_nb", createagents_nb.__version__)
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """Sum and attributes of each series."""
        metric = self.metrics().get(name)
        return [] if metric is None else [(point.sum, dict(point.attributes)) for point in metric.data.data_points]


def call(**known: Any) -> CallRecord:
    defaults: dict[str, Any] = {
        "call_id": "c1",
        "started_at": START,
        "agent": "analyst",
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "status": "ok",
    }
    return CallRecord(**defaults | known)


def request(**known: Any) -> RequestRecord:
    defaults: dict[str, Any] = {
        "call_id": "c1",
        "round": 1,
        "started_at": START,
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "status": "ok",
    }
    return RequestRecord(**defaults | known)


def tool_run(**known: Any) -> ToolRecord:
    defaults: dict[str, Any] = {
        "call_id": "c1",
        "tool_call_id": "t1",
        "round": 1,
        "tool": "rows",
        "arguments": "{}",
        "status": "ok",
        "started_at": START,
    }
    return ToolRecord(**defaults | known)


def a_turn() -> tuple[CallRecord, RequestRecord, ToolRecord]:
    """Everything that can be known is known."""
    tokens: dict[str, Any] = {
        "input_tokens": 120,
        "output_tokens": 0,
        "cached_tokens": 100,
        "reasoning_tokens": 7,
    }
    return (
        call(**tokens, latency_s=2.5, ttft_s=0.5, rounds=1, tool_calls=1, prompt=CANARY, response=CANARY),
        request(
            **tokens,
            server="api.openai.com",
            response_model="gpt-4.1-mini-2025-04-14",
            finish_reason="tool_calls",
            latency_s=1.25,
            ttft_s=0.5,
        ),
        tool_run(arguments=CANARY, result=CANARY, started_at=START + timedelta(seconds=1.25), latency_s=1),
    )


@pytest.fixture
def observed() -> Observed:
    return Observed()


# ── spans ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_is_an_agent_span_with_its_requests_and_tools_below(observed: Observed) -> None:
    with observed.tracers.get_tracer("mine").start_as_current_span("cell") as cell:
        observed.settle(*a_turn())
    spans = observed.spans
    agent = spans["invoke_agent analyst"]
    assert list(spans) == ["chat gpt-4.1-mini", "execute_tool rows", "invoke_agent analyst", "cell"]
    assert agent.parent == cell.get_span_context()
    for name in ("chat gpt-4.1-mini", "execute_tool rows"):
        assert spans[name].parent == agent.context
    assert {name: span.kind for name, span in spans.items() if name != "cell"} == {
        "invoke_agent analyst": SpanKind.INTERNAL,
        "chat gpt-4.1-mini": SpanKind.CLIENT,
        "execute_tool rows": SpanKind.INTERNAL,
    }
    scope = agent.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("createagents_nb", createagents_nb.__version__)


def test_without_a_span_of_the_users_the_agent_is_the_root(observed: Observed) -> None:
    observed.settle(*a_turn())
    assert observed.spans["invoke_agent analyst"].parent is None


def test_spans_have_the_times_of_their_records(observed: Observed) -> None:
    observed.settle(*a_turn())
    assert {name: (span.start_time, span.end_time) for name, span in observed.spans.items()} == {
        "invoke_agent analyst": (START_NS, START_NS + 2_500_000_000),
        "chat gpt-4.1-mini": (START_NS, START_NS + 1_250_000_000),
        "execute_tool rows": (START_NS + 1_250_000_000, START_NS + 2_250_000_000),
    }


def test_attributes_are_those_of_the_conventions(observed: Observed) -> None:
    observed.settle(*a_turn())
    ours = {"createagents_nb.call_id": "c1", "createagents_nb.status": "ok"}
    expected: dict[str, dict[str, Any]] = {
        "invoke_agent analyst": {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "openai",
            "gen_ai.agent.name": "analyst",
            "gen_ai.request.model": "gpt-4.1-mini",
            "gen_ai.response.finish_reasons": ("tool_calls",),
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 0,
        },
        "chat gpt-4.1-mini": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4.1-mini",
            "server.address": "api.openai.com",
            "gen_ai.response.model": "gpt-4.1-mini-2025-04-14",
            "gen_ai.response.finish_reasons": ("tool_calls",),
            "gen_ai.response.time_to_first_chunk": 0.5,
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 0,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.reasoning.output_tokens": 7,
        },
        "execute_tool rows": {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "rows",
            "gen_ai.tool.call.id": "t1",
            "gen_ai.tool.type": "function",
        },
    }
    for name, attributes in expected.items():
        known = dict(observed.spans[name].attributes or {})
        assert known == attributes | ours
        assert {key: type(value) for key, value in known.items()} == {
            key: type(value) for key, value in (attributes | ours).items()
        }
        assert observed.spans[name].status.status_code is StatusCode.UNSET


def test_a_provider_may_have_another_name_in_the_conventions(observed: Observed) -> None:
    observed.settle(call(provider="azure"), request(provider="azure", telemetry_provider="azure.ai.openai"))
    names = {name: (span.attributes or {})["gen_ai.provider.name"] for name, span in observed.spans.items()}
    assert names == dict.fromkeys(("invoke_agent analyst", "chat gpt-4.1-mini"), "azure.ai.openai")


def test_names_are_those_of_the_sdks_own_list(observed: Observed) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    observed.settle(*a_turn())
    listed = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    used = {name for span in observed.spans.values() for name in span.attributes or {}}
    assert {name for name in used if name.startswith("gen_ai.")} <= listed


def test_what_is_unknown_is_absent_and_never_zero(observed: Observed) -> None:
    observed.settle(call(), request(model="", provider=""), tool_run(tool_call_id=""))
    spans = observed.spans
    assert set(spans["invoke_agent analyst"].attributes or {}) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.agent.name",
        "gen_ai.request.model",
        "createagents_nb.call_id",
        "createagents_nb.status",
    }
    assert set(spans["chat"].attributes or {}) == {
        "gen_ai.operation.name",
        "createagents_nb.call_id",
        "createagents_nb.status",
    }
    assert "gen_ai.tool.call.id" not in (spans["execute_tool rows"].attributes or {})
    assert spans["chat"].end_time == spans["chat"].start_time == START_NS
    # Of a turn the number of its requests is always known; these two are really none.
    assert set(observed.metrics()) == {"gen_ai.invoke_agent.inference_calls", "gen_ai.invoke_agent.tool_calls"}


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1, True, "12", 2**64, [3]])
def test_odd_figures_are_unknown(observed: Observed, odd: object, caplog: pytest.LogCaptureFixture) -> None:
    figures: dict[str, Any] = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), odd)
    observed.settle(call(agent=""), request(latency_s=odd, ttft_s=odd, **figures))
    span = observed.span()
    assert not [name for name in span.attributes or {} if "usage" in name or "time_to" in name]
    assert span.end_time == START_NS
    assert not observed.metrics()
    assert not caplog.records


def test_a_call_entered_by_hand_is_a_chat_span_alone() -> None:
    observed, recorder = Observed(), MetricsRecorder()
    recorder._observers = [observed.telemetry]
    recorder._is_traced = True
    with observed.tracers.get_tracer("mine").start_as_current_span("cell") as cell:
        recorder.record_success_metrics("gpt-4.1", START.timestamp(), {"model": "gpt-4.1-x"}, "openai")
    assert list(observed.spans) == ["chat gpt-4.1", "cell"]
    assert observed.spans["chat gpt-4.1"].parent == cell.get_span_context()
    assert set(observed.metrics()) == {"gen_ai.client.operation.duration"}


# ── how a call ends ──────────────────────────────────────────────────────────────────────────────────


def test_a_failure_is_an_error_with_the_class_of_the_error(observed: Observed) -> None:
    failed: dict[str, Any] = {"status": "error", "error_type": "RateLimitError", "error": f"429: {CANARY}"}
    observed.settle(call(**failed, latency_s=1.0), request(**failed, latency_s=1.0))
    for span in observed.spans.values():
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert not span.events
        assert (span.attributes or {})["error.type"] == "RateLimitError"
    assert len(observed.spans) == 2
    for name in ("gen_ai.client.operation.duration", "gen_ai.invoke_agent.duration"):
        assert observed.points(name)[0][1]["error.type"] == "RateLimitError"
    assert CANARY not in observed.exported


def test_an_error_without_a_class_is_other(observed: Observed) -> None:
    observed.settle(call(agent="", status="error"), request(status="error", error=CANARY))
    assert (observed.span().attributes or {})["error.type"] == "_OTHER"


def test_who_stops_a_turn_meets_no_error(observed: Observed) -> None:
    observed.settle(
        call(status="cancelled", latency_s=1.0),
        request(status="cancelled", latency_s=1.0),
        tool_run(status="cancelled", latency_s=1.0, error="stopped"),
    )
    assert len(observed.spans) == 3
    for span in observed.spans.values():
        assert span.status.status_code is StatusCode.UNSET
        assert (span.attributes or {})["createagents_nb.status"] == "cancelled"
        assert "error.type" not in (span.attributes or {})
    assert "error.type" not in observed.exported


def test_a_turn_with_too_many_rounds_failed_and_its_requests_did_not(observed: Observed) -> None:
    observed.settle(call(status="limit", latency_s=1.0), request())
    agent, chat = observed.spans["invoke_agent analyst"], observed.spans["chat gpt-4.1-mini"]
    assert agent.status.status_code is StatusCode.ERROR
    assert (agent.attributes or {})["error.type"] == "limit"
    assert chat.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("status", "error", "error_type"),
    [
        ("error", f"ValueError: {CANARY}", "ValueError"),
        ("error", "ValueError", "ValueError"),
        ("error", f"{CANARY}: no such row", "_OTHER"),
        ("error", f"{CANARY} ValueError", "_OTHER"),
        ("error", CANARY, "_OTHER"),
        ("error", None, "_OTHER"),
        ("timeout", CANARY, "timeout"),
        ("invalid_arguments", CANARY, "invalid_arguments"),
        ("unknown_tool", CANARY, "unknown_tool"),
    ],
)
def test_a_tools_failure_has_a_type_and_no_message(
    observed: Observed, status: str, error: str | None, error_type: str
) -> None:
    observed.settle(call(), tool_run(status=status, error=error, latency_s=0.5))
    span = observed.spans["execute_tool rows"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == error_type
    assert CANARY not in observed.exported


def test_nothing_that_was_said_is_exported(observed: Observed) -> None:
    observed.settle(*a_turn())
    assert "gpt-4.1-mini" in observed.exported
    assert CANARY not in observed.exported


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_are_histograms_in_the_units_and_buckets_of_the_conventions(observed: Observed) -> None:
    observed.settle(*a_turn())
    metrics = observed.metrics()
    assert {
        name: (metric.unit, metric.data.data_points[0].explicit_bounds) for name, metric in metrics.items()
    } == BOUNDS


def test_metrics_count_what_was_measured(observed: Observed) -> None:
    observed.settle(*a_turn())
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4.1-mini",
        "gen_ai.response.model": "gpt-4.1-mini-2025-04-14",
        "server.address": "api.openai.com",
    }
    agent = {"gen_ai.agent.name": "analyst"}
    assert {name: observed.points(name) for name in BOUNDS} == {
        "gen_ai.client.operation.duration": [(1.25, chat)],
        "gen_ai.client.operation.time_to_first_chunk": [(0.5, chat)],
        "gen_ai.client.token.usage": [
            (120, chat | {"gen_ai.token.type": "input"}),
            (0, chat | {"gen_ai.token.type": "output"}),
        ],
        "gen_ai.invoke_agent.duration": [(2.5, agent | {"gen_ai.request.model": "gpt-4.1-mini"})],
        "gen_ai.invoke_agent.inference_calls": [(1, agent)],
        "gen_ai.invoke_agent.tool_calls": [(1, agent)],
        "gen_ai.execute_tool.duration": [(1, agent | {"gen_ai.tool.name": "rows"})],
    }


def test_names_that_a_model_made_up_do_not_multiply_series(observed: Observed) -> None:
    observed.settle(call(), tool_run(tool="no_such_tool", status="unknown_tool", latency_s=0.1))
    assert not observed.points("gen_ai.execute_tool.duration")


# ── no SDK, a broken one, a late one ─────────────────────────────────────────────────────────────────


def test_what_is_not_sampled_has_no_spans_and_is_measured() -> None:
    observed = Observed(sampler=ALWAYS_OFF)
    observed.settle(*a_turn())
    assert not observed.spans
    assert set(observed.metrics()) == set(BOUNDS)


def test_the_api_alone_is_not_bothered(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read although nobody listens")

    monkeypatch.setattr(module, "_attributes", never)
    provider = NoOpTracerProvider()
    quiet = Telemetry(tracer_provider=provider)  # the global meter provider is the API's own
    quiet.call_settled(SettledCall(call(), (request(),), (tool_run(),)))
    assert not quiet._warned


class BrokenExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise RuntimeError("exporter")


class BrokenProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("processor")


@pytest.mark.parametrize("broken", [SimpleSpanProcessor(BrokenExporter()), BrokenProcessor()])
def test_what_is_broken_in_an_sdk_does_no_harm(broken: SpanProcessor, caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed(broken)
    for _ in range(3):
        observed.settle(*a_turn())
    assert set(observed.metrics()) == set(BOUNDS)
    ours = [record for record in caplog.records if record.name.startswith("createagents_nb")]
    assert len(ours) <= 1
    assert all(record.levelno == logging.WARNING for record in ours)


def test_a_provider_that_is_set_later_is_told_of_later_calls() -> None:
    ran = run_script(SCRIPT)
    assert ran.returncode == 0, ran.stderr
    names, counted = json.loads(ran.stdout)
    assert names == ["chat m", "invoke_agent second", "chat m", "invoke_agent third"]
    assert counted == 2


SCRIPT = """
import json, sys
from datetime import UTC, datetime
from createagents_nb.core.records import CallRecord, RequestRecord
from createagents_nb import MetricsRecorder

both = dict(started_at=datetime.now(UTC), provider="p", model="m", status="ok", latency_s=1.0)
recorder = MetricsRecorder()

def settle(agent):
    recorder.request_settled(RequestRecord(call_id=agent, round=1, **both))
    recorder.call_settled(CallRecord(call_id=agent, agent=agent, **both))

settle("before the API is imported")
assert "opentelemetry" not in sys.modules
from opentelemetry import metrics, trace
settle("first")
assert "opentelemetry.sdk" not in sys.modules
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
settle("second")
settle("third")
scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
durations = next(it for it in scope.metrics if it.name == "gen_ai.client.operation.duration")
names = [span.name for span in exporter.get_finished_spans()]
print(json.dumps([names, durations.data.data_points[0].count]))
"""


@pytest.mark.parametrize("missing", ["", "sys.modules['opentelemetry'] = None"])
def test_recording_loads_no_opentelemetry_and_needs_none(missing: str) -> None:
    ran = run_script(
        f"""
        import logging, sys
        {missing}
        before = set(sys.modules)
        from datetime import UTC, datetime
        from createagents_nb import CreateAgent, MetricsRecorder
        from createagents_nb.core.records import CallRecord
        logging.getLogger("createagents_nb").addHandler(logging.StreamHandler())
        recorder = MetricsRecorder()
        recorder.call_settled(
            CallRecord(call_id="c", started_at=datetime.now(UTC), agent="a", provider="p", model="m", status="ok")
        )
        assert len(recorder.call_records) == 1
        assert not [name for name in set(sys.modules) - before if name.startswith("opentelemetry")]
        """
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# ── a turn over the wire ─────────────────────────────────────────────────────────────────────────────


@tool
def shout(text: str) -> str:
    """Say it louder.

    Args:
        text: what to say
    """
    return text.upper() + CANARY


@pytest.mark.asyncio
async def test_a_real_turn_is_below_the_span_in_which_it_was_asked(server: ScriptedServer) -> None:
    wanted = {"name": "shout", "arguments": json.dumps({"text": CANARY})}
    asked = {"index": 0, "id": "c1", "type": "function", "function": wanted}
    server.enqueue(Reply(sse(delta(tool_calls=[asked]), delta(finish="tool_calls"))))
    server.enqueue(Reply(sse(delta(CANARY), delta(finish="stop"))))
    observed, recorder = Observed(), MetricsRecorder()
    recorder._observers = [observed.telemetry]
    recorder._is_traced = True
    agent = CreateAgent(
        "openai", "m", name="loud", base_url=server.openai_url, api_key="k", recorder=recorder, tools=[shout]
    )
    with observed.tracers.get_tracer("mine").start_as_current_span("cell") as cell:
        response = await agent.chat(CANARY)
    assert await response == CANARY  # the span has ended before the turn does
    agents = observed.spans["invoke_agent loud"]
    assert agents.parent == cell.get_span_context()
    assert observed.spans["execute_tool shout"].parent == agents.context
    assert (agents.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
    assert (observed.spans["chat m"].attributes or {})["server.address"] == "127.0.0.1"
    assert observed.points("gen_ai.invoke_agent.inference_calls")[0][0] == 2
    assert CANARY not in observed.exported
