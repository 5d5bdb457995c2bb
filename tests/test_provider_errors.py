"""What servers answer instead of an answer: typed errors that name the way out and never the key."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, ndjson, round_trip, sse

from createagents_nb.errors import (
    AuthenticationError,
    ContextLengthError,
    EmptyReplyError,
    IncompleteReplyError,
    InvalidRequestError,
    ModelNotFoundError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from createagents_nb.notebook.commands import Commands
from createagents_nb.providers.error_mapping import error_message, redact_body
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

Adapter = OpenAIChatAdapter | OllamaChatAdapter
KEY = "zz-very-secret-0123456789"
SAYS = {"message": {"role": "assistant", "content": "so far"}, "done": False}
PROVIDERS = ["openai", "ollama"]


def adapter_of(provider: str, server: ScriptedServer, **more: Any) -> Adapter:
    more = {"max_retries": 0, "api_key": KEY, **more}
    if provider == "openai":
        return OpenAIChatAdapter(base_url=server.openai_url, **more)
    return OllamaChatAdapter(base_url=server.url, **more)


def half(provider: str) -> list[bytes]:
    """A stream that has begun."""
    return sse(delta("so far"), done=False) if provider == "openai" else ndjson(SAYS)


async def failing(provider: str, server: ScriptedServer, reply: Reply, **more: Any) -> ProviderError:
    server.enqueue(reply)
    error = (await round_trip(adapter_of(provider, server), **more)).failure
    assert isinstance(error, ProviderError)
    assert error.provider == provider
    assert KEY not in str(error)
    return error


# ── what servers answer ──────────────────────────────────────────────────────────────────────────────────

ERROR_BODIES: dict[str, tuple[Any, str]] = {
    "object, numeric code": ({"error": {"message": "it is bad", "code": 400}}, "it is bad"),
    "object, string code": ({"error": {"message": "it is bad", "code": "bad_thing"}}, "it is bad"),
    "object, null code": ({"error": {"message": "it is bad", "code": None, "param": None}}, "it is bad"),
    "object without message": ({"error": {"code": "bad_thing"}}, "bad_thing"),
    "string": ({"error": "it is bad"}, "it is bad"),
    "string that is JSON": ({"error": '{"error":{"code":400,"message":"it is bad"}}'}, "it is bad"),
    "message": ({"object": "error", "message": "it is bad", "code": 40001}, "it is bad"),
    "detail": ({"detail": "it is bad"}, "it is bad"),
    "detail list": (
        {
            "detail": [
                {"loc": ["body", "messages"], "msg": "field required"},
                {"loc": ["body"], "msg": "too short"},
            ]
        },
        "body.messages: field required; body: too short",
    ),
    "list": ([{"error": {"message": "it is bad"}}], "it is bad"),
    "plain text": (b"it is bad", "it is bad"),
    "page": (b"<html><head><title>Bad</title></head><body><h1>it is  bad</h1></body></html>", "it is bad"),
    "nothing": (b"", "no explanation"),
    "null": (b"null", "no explanation"),
    "not UTF-8": (b"it is bad \xff", "it is bad"),
    "broken JSON": (b'{"error": it is bad', "it is bad"),
    "long": ({"error": "it is bad " * 500}, "it is bad"),
}


@pytest.mark.parametrize("shape", ERROR_BODIES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_error_bodies_of_every_shape(server: ScriptedServer, provider: str, shape: str) -> None:
    body, words = ERROR_BODIES[shape]
    error = await failing(provider, server, json_reply(body, "422 Unprocessable Entity"))
    assert type(error) is InvalidRequestError
    assert error.status_code == 422
    assert words in str(error)
    assert "<" not in str(error)
    assert len(str(error)) < 500


STATUSES: list[tuple[str, type[ProviderError], str]] = [
    ("400 Bad Request", InvalidRequestError, "refused the request .400: hm"),
    ("401 Unauthorized", AuthenticationError, r"refused the key \(401: hm\).*API_KEY.*api_key="),
    ("403 Forbidden", AuthenticationError, r"refused the key \(403: hm\)"),
    ("404 Not Found", InvalidRequestError, r"Nothing is served at http://127.*404: hm.*Check base_url"),
    ("413 Content Too Large", InvalidRequestError, "413: hm"),
    ("429 Too Many Requests", RateLimitError, r"429: hm.*Wait, or check the quota"),
    ("500 Internal Server Error", ServerError, r"failed \(500: hm\). Try again"),
    ("503 Service Unavailable", ServerError, r"failed \(503: hm\). Try again"),
]


@pytest.mark.parametrize(("status", "kind", "words"), STATUSES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_statuses(
    server: ScriptedServer, provider: str, status: str, kind: type[ProviderError], words: str
) -> None:
    error = await failing(provider, server, json_reply({"error": "hm"}, status))
    assert type(error) is kind
    assert error.status_code == int(status[:3])
    with pytest.raises(kind, match=words):
        raise error


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests", "500 Internal Server Error"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_key_that_the_server_repeats_is_not_shown(
    server: ScriptedServer, provider: str, status: str
) -> None:
    for body in ({"error": {"message": f"Incorrect API key provided: {KEY}"}}, f"key {KEY}".encode()):
        assert "***" in str(await failing(provider, server, json_reply(body, status)))
    server.on("/v1/models", json_reply({"error": f"key {KEY}"}, status))
    server.on("/api/tags", json_reply({"error": f"key {KEY}"}, status))
    with pytest.raises(ProviderError) as caught:
        await adapter_of(provider, server).models()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "too many tokens", "code": "context_length_exceeded"}},
        {"error": {"message": "hm", "type": "exceed_context_size_error"}},
        {"error": {"message": "This model's maximum context length is 8192 tokens"}},
        {"error": '{"error":{"code":400,"message":"request exceeds the available context size"}}'},
        {"detail": "prompt is too long: 9 tokens > 8 maximum"},
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_prompt_that_is_too_long(server: ScriptedServer, provider: str, body: Any) -> None:
    error = await failing(provider, server, json_reply(body, "400 Bad Request"))
    assert type(error) is ContextLengthError
    assert "clear_history()" in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            "404 Not Found",
            {"error": {"message": "The model `qwen3:latst` does not exist", "code": "model_not_found"}},
        ),
        ("404 Not Found", {"error": {"message": "model 'qwen3:latst' not found", "code": None}}),
        ("404 Not Found", {"error": "model 'qwen3:latst' not found, try pulling it first"}),
        ("404 Not Found", {"error": "model 'page' not found"}),
        ("400 Bad Request", {"error": {"message": "Invalid model name passed in model=qwen3:latst"}}),
        ("400 Bad Request", {"error": {"message": "qwen3:latst is not a valid model ID", "code": 400}}),
    ],
)
@pytest.mark.asyncio
async def test_an_unknown_model_is_told_with_the_names_that_exist_closest_first(
    server: ScriptedServer, status: str, body: Any
) -> None:
    names = ["a-model", "qwen2:7b", "qwen3:latest"]
    server.on("/v1/models", json_reply({"data": [{"id": name} for name in names]}))
    server.on("/api/tags", json_reply({"models": [{"name": name} for name in names]}))
    for provider in PROVIDERS if status.startswith("404") else ["openai"]:
        error = await failing(provider, server, json_reply(body, status), model="qwen3:latst")
        assert type(error) is ModelNotFoundError
        assert error.status_code == int(status[:3])
        assert "has no model 'qwen3:latst'" in str(error)
        assert "Available: qwen3:latest, qwen2:7b, a-model." in str(error)
        assert ("ollama pull qwen3:latst" if provider == "ollama" else "model=") in str(error)
        assert error.__cause__ is not None


@pytest.mark.parametrize(
    "models",
    [
        json_reply({"error": "no"}, "500 Internal Server Error"),
        json_reply(b"<html>no</html>"),
        json_reply(b"\xff"),
        json_reply([]),
        json_reply({"data": None, "models": None}),
        json_reply({"data": [{}], "models": [{}]}),
        Reply([b'{"da'], headers={"content-type": "application/json", "content-length": "100"}),
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_an_unknown_model_where_the_server_cannot_list_them(
    server: ScriptedServer, provider: str, models: Reply
) -> None:
    server.on("/v1/models", models)
    server.on("/api/tags", models)
    error = await failing(provider, server, json_reply({"error": "model 'm' not found"}, "404 Not Found"))
    assert type(error) is ModelNotFoundError
    assert "Available" not in str(error)
    with pytest.raises(ProviderError):
        await adapter_of(provider, server).models()


@pytest.mark.parametrize("body", [b"404 page not found", b"<h1>Not Found</h1> our models are elsewhere", b"{}"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_wrong_address_is_not_taken_for_an_unknown_model(
    server: ScriptedServer, provider: str, body: bytes
) -> None:
    error = await failing(provider, server, json_reply(body, "404 Not Found"))
    assert type(error) is InvalidRequestError
    assert "Check base_url" in str(error)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_refused_ability_is_an_invalid_request(server: ScriptedServer, provider: str) -> None:
    reply = json_reply({"error": '"tiny" does not support thinking'}, "400 Bad Request")
    error = await failing(provider, server, reply, think=True)
    assert type(error) is InvalidRequestError
    assert "does not support thinking" in str(error)


JUPYTER = b"""

<!DOCTYPE HTML>
<html>
<head><title>Jupyter Server</title>
<style type="text/css">/* disable initial hide */ div#header { display: block; }</style>
<script>var a = "<b>" + 1;</script><!-- a <remark> --></head>
<body><h1>403 : Forbidden</h1><p>&#39;_xsrf&#39; argument missing from POST &amp; GET</p>
<script src="x.js"></script><script>document.write("never closed")
"""
READ = "Jupyter Server 403 : Forbidden '_xsrf' argument missing from POST & GET"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", InvalidRequestError),
        ("403 Forbidden", AuthenticationError),
        ("404 Not Found", InvalidRequestError),
        ("405 Method Not Allowed", InvalidRequestError),
        ("501 Unsupported method", InvalidRequestError),
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_the_page_of_a_web_server_is_told_from_a_refusal(
    server: ScriptedServer, provider: str, status: str, kind: type[ProviderError]
) -> None:
    error = await failing(provider, server, json_reply(JUPYTER, status, **{"content-type": "text/html"}))
    assert type(error) is kind
    assert f"({status[:3]}: {READ}). This looks like a web page and no model server. Check base_url" in str(error)
    assert "API_KEY" not in str(error)


@pytest.mark.parametrize(
    ("status", "way"),
    [("401 Unauthorized", "API_KEY"), ("429 Too Many Requests", "Wait"), ("502 Bad Gateway", "Try again")],
)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_the_page_of_a_gateway_is_read_and_the_way_out_is_that_of_the_status(
    server: ScriptedServer, provider: str, status: str, way: str
) -> None:
    error = await failing(provider, server, json_reply(JUPYTER, status, **{"content-type": "text/html"}))
    assert READ in str(error)
    assert way in str(error)
    assert "web page" not in str(error)


def test_a_body_of_nothing_but_brackets_is_read_at_once() -> None:
    """Its length must not count squared: it was some minutes for a megabyte."""
    for body in (b"<" * 2**20, b"<html>" + b"<!--" * 2**18, b"<html>" + b"<script>" * 2**17):
        redact_body(body, None)
        error_message(body)


HOSTILE = "first\x1b]52;c;cm0gLXJmIH4K\x07\x1b[2J \u202esecond\x00\x9b31m"
CONTROLS = ("\x1b", "\x07", "\x00", "\x9b", "\u202e")


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_what_a_terminal_would_act_on_is_in_no_error(
    server: ScriptedServer, provider: str, status: str
) -> None:
    error = await failing(provider, server, json_reply({"error": {"message": HOSTILE}}, status))
    assert "first second" in str(error)
    shown = "".join(traceback.format_exception(error))
    assert not [sign for sign in CONTROLS if sign in shown]


@pytest.mark.parametrize("between", ["\u200b", "\x1b[0m"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_key_between_whose_letters_nothing_is_seen_is_masked_before_a_message_is_cut(
    server: ScriptedServer, provider: str, between: str
) -> None:
    body = {"error": f"{'x' * 280} {between.join(KEY)}"}
    error = await failing(provider, server, json_reply(body, "400 Bad Request"))
    assert "xx ***" in str(error)


@pytest.mark.asyncio
async def test_the_names_of_models_are_printed_on_a_line_each(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("*", json_reply({"data": [{"id": f"{HOSTILE}\nthird"}, {"id": "m"}]}))
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    commands = Commands(None, None)  # type: ignore[arg-type]
    await asyncio.to_thread(commands.run, "models openai")
    assert capsys.readouterr().out == "first second third\nm\n"


# ── errors inside a reply ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"message": "overloaded"}, ServerError, None),
        ({"message": "overloaded", "code": None}, ServerError, None),
        ({"message": "slow down", "code": 429}, RateLimitError, 429),
        ({"message": "slow down", "code": "429"}, RateLimitError, 429),
        ({"message": "overloaded", "code": "server_error"}, ServerError, None),
        ({"message": "overloaded", "code": 502}, ServerError, 502),
        ({"message": "too long", "code": "context_length_exceeded"}, ContextLengthError, None),
        ("overloaded", ServerError, None),
    ],
)
@pytest.mark.asyncio
async def test_an_error_event_after_200(
    server: ScriptedServer, body: Any, kind: type[ProviderError], status: int | None
) -> None:
    server.enqueue([b"".join(sse(delta("so far"), {"error": body}, delta("never")))])
    trip = await round_trip(adapter_of("openai", server))
    assert trip.text == "so far"
    assert type(trip.error) is kind
    assert isinstance(trip.error, ProviderError)
    assert (trip.error.provider, trip.error.status_code) == ("openai", status)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"error": "the runner has stopped"}, ServerError),
        ({"error": '{"error":{"code":400,"message":"exceeds the available context size"}}'}, ContextLengthError),
    ],
)
@pytest.mark.asyncio
async def test_an_error_line_after_200(server: ScriptedServer, line: Any, kind: type[ProviderError]) -> None:
    server.enqueue([b"".join(ndjson(SAYS, line))])
    trip = await round_trip(adapter_of("ollama", server))
    assert trip.text == "so far"
    assert type(trip.error) is kind


@pytest.mark.parametrize("body", [{"error": "Unexpected endpoint"}, {"error": {"message": "Unexpected endpoint"}}])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_an_error_as_the_whole_reply_after_200(
    server: ScriptedServer, provider: str, stream: bool, body: Any
) -> None:
    error = await failing(provider, server, json_reply(body), stream=stream)
    assert type(error) is ServerError
    assert "Unexpected endpoint" in str(error)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [[], [b"\n"], [b"\n\n", b"\r\n"]])
@pytest.mark.asyncio
async def test_200_and_nothing_at_all(server: ScriptedServer, provider: str, body: Iterable[bytes]) -> None:
    error = await failing(provider, server, Reply(body))
    assert type(error) is EmptyReplyError
    assert "without a single word" in str(error)


@pytest.mark.parametrize("body", [[b": ping\n\n"], [b"data: [DONE]\n\n"], [b"event: end\n\n"]])
@pytest.mark.asyncio
async def test_an_event_stream_without_events_is_an_empty_reply(server: ScriptedServer, body: list[bytes]) -> None:
    assert "clear_history()" in str(await failing("openai", server, Reply(body)))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_page_instead_of_an_answer(server: ScriptedServer, provider: str, stream: bool) -> None:
    page = b"<!DOCTYPE html>\n<html>\n\n<body>Log in</body></html>\n"
    error = await failing(provider, server, json_reply(page, **{"content-type": "text/html"}), stream=stream)
    assert type(error) is ProtocolError
    assert "base_url" in str(error)


@pytest.mark.asyncio
async def test_a_json_object_that_is_no_answer(server: ScriptedServer) -> None:
    bodies: list[Any] = [{"status": "ok"}, {"choices": []}, {"choices": "none"}]
    for body in bodies:
        assert type(await failing("openai", server, json_reply(body))) is ProtocolError


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_stream_cut_without_finish_reason_keeps_the_text(server: ScriptedServer, provider: str) -> None:
    for cut in (half(provider), [*half(provider), b'data: {"cho' if provider == "openai" else b'{"mess']):
        server.enqueue([b"".join(cut)])
        trip = await round_trip(adapter_of(provider, server))
        assert trip.text == "so far"
        assert type(trip.error) is IncompleteReplyError
        assert trip.error.provider == provider
        assert "Send the message again" in str(trip.error)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.asyncio
async def test_a_buffered_reply_that_is_cut(server: ScriptedServer, provider: str) -> None:
    error = await failing(provider, server, json_reply(b'{"choices": [{"mess'), stream=False)
    assert type(error) is IncompleteReplyError
