"""OpenTelemetry spans and metrics of settled calls, by the GenAI semantic conventions.

A turn becomes a span ``invoke_agent {agent}``, with a child ``chat {model}`` for each request and
``execute_tool {tool}`` for each tool execution. Spans never carry content: no prompts, answers, arguments, results
or error messages.

Names follow the conventions v1.41.0 (open-telemetry/semantic-conventions, docs/gen-ai: gen-ai-spans.md,
gen-ai-agent-spans.md, gen-ai-metrics.md), the last published version and the one that backends read. The agent and
tool metrics, missing from v1.41.0, come from open-telemetry/semantic-conventions-genai (pull requests 201, 336).
Its unreleased main branch renames the three client metrics; to follow, change `_HISTOGRAMS`.

``error.type`` is the class of the error; for tools it may also be ``timeout``, ``unknown_tool``,
``invalid_arguments`` or ``rejected``; for a turn that reached a limit it is ``limit``; if unknown, ``_OTHER``.
A cancelled call is not an error, as in the HTTP conventions (semantic-conventions, pull request 3494): its spans
have an unset status, and ``createagents_nb.status`` is ``cancelled``. ``createagents_nb.call_id`` joins spans with
the recorder's rows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..core.records import CallRecord, RequestRecord, ToolRecord
from ..logging_config import LoggingConfig
from .observers import SettledCall

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

__all__ = ["Telemetry"]

_log = LoggingConfig.get_logger(__name__)

_Attributes = dict[str, Any]
_Record = CallRecord | RequestRecord | ToolRecord

_SHORT_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_LONG_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_TOKENS: Final = tuple(4**power for power in range(14))
_CALLS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

_OPERATION: Final = "gen_ai.client.operation.duration"
_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
_USAGE: Final = "gen_ai.client.token.usage"
_AGENT: Final = "gen_ai.invoke_agent.duration"
_INFERENCES: Final = "gen_ai.invoke_agent.inference_calls"
_TOOL_CALLS: Final = "gen_ai.invoke_agent.tool_calls"
_TOOL: Final = "gen_ai.execute_tool.duration"

_HISTOGRAMS: Final[dict[str, tuple[str, tuple[float, ...], str]]] = {
    _OPERATION: ("s", _SHORT_S, "From a request to the end of its reply."),
    _FIRST_CHUNK: ("s", _SHORT_S, "From a request to the first text or tool call of its reply."),
    _USAGE: ("{token}", _TOKENS, "Tokens of a request, by type."),
    _AGENT: ("s", _LONG_S, "From the user's message to the end of the turn, tools included."),
    _INFERENCES: ("{inference_call}", _CALLS, "Requests of a turn."),
    _TOOL_CALLS: ("{tool_call}", _CALLS, "Tool executions of a turn."),
    _TOOL: ("s", _SHORT_S, "Time a tool took."),
}

# Readers of record fields. Servers and hand-entered calls may report anything; an SDK takes only the right type.


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: object) -> tuple[str] | None:
    return (value,) if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < 1e9 else None  # None for NaN


# Attributes by name: the record's field and its reader. ``_AGENT_START``, ``_CHAT_START`` and ``_TOOL_START`` are
# set when a span starts, so that a sampler sees them.
_Reader = tuple[str, Callable[[object], Any]]
_TOKENS_USED: Final[dict[str, _Reader]] = {
    "gen_ai.usage.input_tokens": ("input_tokens", _count),
    "gen_ai.usage.output_tokens": ("output_tokens", _count),
}
_AGENT_START: Final[dict[str, _Reader]] = {
    "gen_ai.agent.name": ("agent", _name),
    "gen_ai.request.model": ("model", _name),
}
_CHAT_START: Final[dict[str, _Reader]] = {
    "gen_ai.request.model": ("model", _name),
    "server.address": ("server", _name),
}
_RESPONSE_MODEL: Final[dict[str, _Reader]] = {"gen_ai.response.model": ("response_model", _name)}
_FINISH: Final[dict[str, _Reader]] = {"gen_ai.response.finish_reasons": ("finish_reason", _names)}
_CHAT_END: Final[dict[str, _Reader]] = {
    **_RESPONSE_MODEL,
    **_FINISH,
    **_TOKENS_USED,
    "gen_ai.response.time_to_first_chunk": ("ttft_s", _seconds),
    "gen_ai.usage.cache_read.input_tokens": ("cached_tokens", _count),
    "gen_ai.usage.reasoning.output_tokens": ("reasoning_tokens", _count),
}
_TOOL_START: Final[dict[str, _Reader]] = {
    "gen_ai.tool.name": ("tool", _name),
    "gen_ai.tool.call.id": ("tool_call_id", _name),
}

# The exception name at the beginning of a tool's error, the only part that is not content.
_EXCEPTION = re.compile(r"([A-Za-z_]\w{0,60}(?:Error|Exception))(?::|$)", re.ASCII)


class Telemetry:
    """An `Observer` that reports each settled call as spans and metrics.

    Spans are created when the call has settled, with the times of its records, as children of the span that was
    current where the call was made. OpenTelemetry is not imported, and nothing is reported, until the notebook has
    set up an SDK, which it may do at any time.

    Args:
        tracer_provider: default the global one, looked up at each call.
        meter_provider: likewise.

    Example:
        >>> trace.set_tracer_provider(provider)  # of opentelemetry-sdk, with an exporter
        >>> with tracer.start_as_current_span("cell"):
        ...     text = await (await agent.chat("Hello"))  # below "cell": invoke_agent, chat
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._tracer_cache: tuple[TracerProvider, Tracer] | None = None
        self._histograms_cache: tuple[MeterProvider, dict[str, Histogram]] | None = None
        self._warned = False

    def call_settled(self, settled: SettledCall) -> None:
        """Report a settled call; the first exception that an SDK raises is logged."""
        for report in (self._trace, self._measure):
            try:
                report(settled)
            except Exception as error:
                if not self._warned:
                    self._warned = True
                    _log.warning("OpenTelemetry was not told of a call: %r", error)

    # Spans.

    def _trace(self, settled: SettledCall) -> None:
        tracer = self._tracer()
        if tracer is None:
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        call, context, agent = settled.call, None, None
        if call.agent:
            name = next((request.telemetry_provider for request in settled.requests), None) or call.provider
            about = {"gen_ai.operation.name": "invoke_agent", **_provider(name), **_attributes(call, _AGENT_START)}
            agent = _start(tracer, f"invoke_agent {call.agent}", SpanKind.INTERNAL, call, None, about)
            if not agent.is_recording():  # not sampled, or the SDK is disabled
                return
            context = set_span_in_context(agent)
        try:
            for request in settled.requests:
                about = _chat_attributes(request)
                span = _start(tracer, f"chat {request.model}".rstrip(), SpanKind.CLIENT, request, context, about)
                _end(span, request, _attributes(request, _CHAT_END), _error_type(request))
            for tool in settled.tools:
                about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "function"}
                about |= _attributes(tool, _TOOL_START)
                span = _start(tracer, f"execute_tool {tool.tool}", SpanKind.INTERNAL, tool, context, about)
                _end(span, tool, {}, _tool_error_type(tool))
        finally:
            if agent is not None:
                about = _attributes(call, _TOKENS_USED)
                if settled.requests:
                    about |= _attributes(settled.requests[-1], _FINISH)
                _end(agent, call, about, _error_type(call))

    def _tracer(self) -> Tracer | None:
        provider = self._tracer_provider
        if provider is None:
            if sys.modules.get("opentelemetry.trace") is None:  # setting a provider imports it
                return None
            from opentelemetry.trace import get_tracer_provider

            provider = get_tracer_provider()
        if _is_only_api(provider):
            return None
        if self._tracer_cache is None or self._tracer_cache[0] is not provider:
            self._tracer_cache = provider, provider.get_tracer(*_scope())
        return self._tracer_cache[1]

    # Metrics.

    def _measure(self, settled: SettledCall) -> None:
        histograms = self._histograms()
        if histograms is None:
            return

        def record(name: str, amount: float | None, attributes: _Attributes) -> None:
            if amount is not None:
                histograms[name].record(amount, attributes)

        call = settled.call
        for request in settled.requests:
            about = _chat_attributes(request) | _attributes(request, _RESPONSE_MODEL)
            record(_OPERATION, _seconds(request.latency_s), about | _error(_error_type(request)))
            record(_FIRST_CHUNK, _seconds(request.ttft_s), about)
            record(_USAGE, _count(request.input_tokens), about | {"gen_ai.token.type": "input"})
            record(_USAGE, _count(request.output_tokens), about | {"gen_ai.token.type": "output"})
        agent = {"gen_ai.agent.name": call.agent} if call.agent else {}
        for tool in settled.tools:
            if tool.status != "unknown_tool":  # nothing ran, and the model made up the name
                about = {"gen_ai.tool.name": tool.tool, **agent, **_error(_tool_error_type(tool))}
                record(_TOOL, _seconds(tool.latency_s), about)
        if agent:
            about = {**agent, "gen_ai.request.model": call.model, **_error(_error_type(call))}
            record(_AGENT, _seconds(call.latency_s), about)
            record(_INFERENCES, _count(call.rounds), agent)
            record(_TOOL_CALLS, _count(call.tool_calls), agent)

    def _histograms(self) -> dict[str, Histogram] | None:
        provider = self._meter_provider
        if provider is None:
            if sys.modules.get("opentelemetry.metrics") is None:
                return None
            from opentelemetry.metrics import get_meter_provider

            provider = get_meter_provider()
        if _is_only_api(provider):
            return None
        if self._histograms_cache is None or self._histograms_cache[0] is not provider:
            meter = provider.get_meter(*_scope())
            histograms = {
                name: meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)
                for name, (unit, bounds, description) in _HISTOGRAMS.items()
            }
            self._histograms_cache = provider, histograms
        return self._histograms_cache[1]


def _is_only_api(provider: object) -> bool:
    """Whether ``provider`` is a no-op of the API: no SDK is set up yet."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _scope() -> tuple[str, str]:
    from importlib.metadata import version

    return "createagents_nb", version("createagents-nb")


def _start(
    tracer: Tracer, name: str, kind: SpanKind, record: _Record, context: Context | None, attributes: _Attributes
) -> Span:
    return tracer.start_span(name, context, kind, attributes, start_time=_nanoseconds(record.started_at))


def _end(span: Span, record: _Record, attributes: _Attributes, error_type: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    try:
        span.set_attributes(attributes)
        span.set_attribute("createagents_nb.call_id", record.call_id)
        span.set_attribute("createagents_nb.status", record.status)
        if error_type is not None:
            span.set_attribute("error.type", error_type)
            span.set_status(Status(StatusCode.ERROR))
    finally:
        span.end(_nanoseconds(record.started_at) + round((_seconds(record.latency_s) or 0) * 1e9))


def _attributes(record: object, readers: Mapping[str, _Reader]) -> _Attributes:
    """Attributes read from a record; unknown ones are left out, never 0."""
    values = ((name, read(getattr(record, field))) for name, (field, read) in readers.items())
    return {name: value for name, value in values if value is not None}


def _chat_attributes(request: RequestRecord) -> _Attributes:
    provider = _provider(request.telemetry_provider or request.provider)
    return {"gen_ai.operation.name": "chat", **provider, **_attributes(request, _CHAT_START)}


def _provider(name: object) -> _Attributes:
    checked = _name(name)
    return {} if checked is None else {"gen_ai.provider.name": checked}


def _error(error_type: str | None) -> _Attributes:
    return {} if error_type is None else {"error.type": error_type}


def _error_type(record: CallRecord | RequestRecord) -> str | None:
    if record.status == "error":
        return _name(record.error_type) or "_OTHER"
    return "limit" if record.status == "limit" else None


def _tool_error_type(tool: ToolRecord) -> str | None:
    if tool.status == "error":
        match = _EXCEPTION.match(tool.error or "")
        return match[1] if match else "_OTHER"
    return None if tool.status in ("ok", "cancelled") else tool.status


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000  # a float of seconds is exact to microseconds only
