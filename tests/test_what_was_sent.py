"""Requests as they are shown: before and after they are sent, in a page, in the log, and without their keys."""

from __future__ import annotations

import ast
import asyncio
import gc
import io
import json
import logging
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from family import Reply, ScriptedProvider, ScriptedServer, delta, json_reply, ndjson, png, sse
from html_whitelist import read_strictly
from responses_script import call, event_stream, message, reasoning, stream

from createagents_nb import ChatRequest, CreateAgent, LoggingConfig, MetricsRecorder, OpenAIChatAdapter, tool
from createagents_nb.core.messages import FilePart, ImagePart, Message
from createagents_nb.core.preview import RequestPreview, mask_json
from createagents_nb.errors import ConfigurationError, InvalidMessageError
from createagents_nb.providers.openai_adapter import OpenAIResponsesAdapter
from createagents_nb.redaction import Secret
from createagents_nb.render.request import request_html
from createagents_nb.wrappers.base import ProviderWrapper

KEY = "sk-0123456789abcdef0123"
"""The agent's key."""
OTHER_KEY = "ghp_0123456789abcdef0123456789"
"""A key that somebody wrote into a message."""
PASSWORD = "correct horse battery"
"""In no form by which a key is known."""
SECRETS = (KEY, OTHER_KEY, PASSWORD)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"


@pytest.fixture
def agent(server: ScriptedServer, recorder: MetricsRecorder) -> CreateAgent:
    return CreateAgent(
        "openai",
        "m",
        base_url=server.openai_url,
        api_key=KEY,
        instructions=f"Be brief. Never say {OTHER_KEY}",
        tools=[weather],
        config={"temperature": 0.5, "extra": {"metadata": {"password": PASSWORD}, "x": KEY}},
        recorder=recorder,
        max_retries=0,
    )


def calls_weather() -> list[bytes]:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    return sse(delta(tool_calls=[call]), delta(finish="tool_calls"))


def says(text: str) -> list[bytes]:
    return sse(delta(text), delta(finish="stop"))


def unmasked(body: Any) -> Any:
    """A body as it was received, with keys masked as a preview masks them."""
    for secret in SECRETS:
        body = json.loads(json.dumps(body).replace(secret, "***"))
    return body


def assert_clean(*texts: str) -> None:
    for text in texts:
        for secret in SECRETS:
            assert secret not in text


# ── before it is sent ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_preview_is_the_request_that_the_message_then_sends(
    server: ScriptedServer, agent: CreateAgent, recorder: MetricsRecorder
) -> None:
    server.enqueue(says("Hello."))
    await (await agent.chat("Hi")).wait()
    preview = agent.preview(f"And now? {OTHER_KEY}")
    assert (len(server.requests), len(recorder), len(agent.history)) == (1, 1, 2)
    server.enqueue(says("Fine."))
    await (await agent.chat(f"And now? {OTHER_KEY}")).wait()
    sent = server.requests[1]
    assert (preview.method, preview.url) == (sent.method, f"{server.url}{sent.path}")
    assert preview.body == unmasked(sent.json)
    assert preview.body["messages"][1] == {"role": "user", "content": "Hi"}
    shown = {name.lower(): text for name, text in preview.headers.items()}
    assert shown.pop("authorization") == "Bearer ***"
    assert shown.items() <= sent.headers.items()


@pytest.mark.asyncio
async def test_a_preview_is_in_the_form_of_the_api_that_the_request_goes_to(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = CreateAgent(
        OpenAIResponsesAdapter(base_url=server.openai_url, api_key=KEY),
        "m",
        instructions="Be brief",
        tools=[weather],
        recorder=recorder,
    )
    asked = stream(reasoning("Hm", encrypted="opaque" * 20), call("weather", '{"city": "Oslo"}'))
    server.enqueue(event_stream(asked))
    server.enqueue(event_stream(stream(message("Sunny"))))
    assert agent.preview("Hi").url == f"{server.openai_url}/responses"
    response = await agent.chat(["Look", ImagePart(png(640, 480), "image/png")])
    await response.wait()
    assert response.status == "ok"
    image = response.preview(1).body["input"][0]["content"][1]
    assert image["image_url"] == "<image/png, 640 × 480, 67 bytes>"
    last = response.preview()
    assert "opaqueopaque" in server.requests[1].body.decode()
    assert "opaqueopaque" not in str(last)
    assert '"encrypted_content": "<120 characters>"' in str(last)
    assert last.body.keys() == server.requests[1].json.keys()


@pytest.mark.asyncio
async def test_what_a_server_refused_is_in_no_later_preview(
    server: ScriptedServer, agent: CreateAgent, recorder: MetricsRecorder
) -> None:
    server.enqueue(json_reply({"error": {"message": "Unknown parameter: 'stream_options'."}}, "400 Bad Request"))
    server.enqueue(says("ok"))
    assert "stream_options" in agent.preview("Hi").body
    response = await agent.chat("Hi")
    await response.wait()
    assert response.preview().body == unmasked(server.requests[1].json)
    assert recorder.requests["adjusted"].tolist() == ["without stream_options"]
    assert "without stream_options" in str(recorder.show())
    assert "stream_options" not in agent.preview("Hi").body


@pytest.mark.asyncio
async def test_a_preview_of_ollama_is_its_request(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    agent = CreateAgent("ollama", "m", base_url=server.url, api_key=KEY, tools=[weather], recorder=recorder)
    preview = agent.preview(["Look", ImagePart(png(640, 480), "image/png")])
    assert preview.url == f"{server.url}/api/chat"
    assert preview.body["messages"][0]["images"] == ["<image/png, 640 × 480, 67 bytes>"]
    assert preview.headers["Authorization"] == "Bearer ***"
    server.enqueue(ndjson({"message": {"content": "ok"}, "done": True}))
    response = await agent.chat("Look")
    await response.wait()
    assert response.preview().body == server.requests[0].json


def test_images_and_files_are_described(agent: CreateAgent) -> None:
    image, pdf = ImagePart(png(640, 480), "image/png"), FilePart(bytes(24_000), "application/pdf", name="a.pdf")
    signed = ImagePart(url="https://img.example/a.png?signature=0123456789")
    preview = agent.preview(["Compare", image, pdf, signed])
    _, first, second, third = preview.body["messages"][-1]["content"]
    assert first["image_url"]["url"] == "<image/png, 640 × 480, 67 bytes>"
    assert second["file"]["file_data"] == "<application/pdf, 24 kB>"
    assert third["image_url"]["url"] == "https://img.example/a.png?***"
    assert "base64" not in str(preview)


def test_a_provider_without_http_shows_what_it_would_be_given(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    agent = CreateAgent(
        provider, "m", instructions="Be brief", tools=[weather], config={"seed": 7}, recorder=recorder
    )
    preview = agent.preview(["Look", ImagePart(png(640, 480), "image/png")])
    assert (preview.method, preview.url, preview.headers) == (None, None, {})
    assert preview.body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Look\n<image/png, 640 × 480, 67 bytes>"},
    ]
    assert (preview.body["model"], preview.body["config"]) == ("m", {"seed": 7})
    (shown,) = preview.body["tools"]
    assert (shown["name"], shown["parameters"]["required"]) == ("weather", ["city"])
    assert provider.calls == []


def test_a_wrapper_shows_what_the_provider_in_it_sends(server: ScriptedServer) -> None:
    adapter = OpenAIChatAdapter(base_url=server.openai_url, api_key=KEY)
    request = ChatRequest("m", [Message("user", "Hi")])
    assert ProviderWrapper(ProviderWrapper(adapter)).preview(request) == adapter.preview(request)


@pytest.mark.asyncio
async def test_with_a_client_of_the_user_its_address_and_headers_are_shown(server: ScriptedServer) -> None:
    client = openai.AsyncOpenAI(
        base_url=server.openai_url,
        api_key=KEY,
        default_headers={"X-Team": "blue", "X-Api-Key": PASSWORD},
        default_query={"api-version": "2026-01-01", "token": PASSWORD},
        max_retries=0,
    )
    agent = CreateAgent("openai", "m", client=client)
    preview = agent.preview("Hi")
    server.on("*", Reply(says("ok")))
    await (await agent.chat("Hi")).wait()
    assert preview.url == f"{server.openai_url}/chat/completions?api-version=2026-01-01&token=***"
    assert (preview.headers["X-Team"], preview.headers["X-Api-Key"]) == ("blue", "***")
    assert preview.body == server.requests[0].json
    assert_clean(str(preview), request_html(preview))


@pytest.mark.asyncio
async def test_headers_and_query_of_the_user_are_shown_in_previews_and_in_the_log(
    server: ScriptedServer, log: io.StringIO
) -> None:
    asked = []

    def fresh_key() -> str:
        asked.append(1)
        return KEY

    agent = CreateAgent(
        "openai",
        "m",
        base_url=server.openai_url,
        api_key=fresh_key,
        headers={"X-Team": "blue", "X-Api-Key": PASSWORD, "X-Note": f"for {OTHER_KEY}"},
        query={"api-version": "2026-01-01", "token": PASSWORD},
    )
    preview = agent.preview("Hi")
    assert asked == []
    server.enqueue(says("ok"))
    await (await agent.chat("Hi")).wait()
    assert preview.url == f"{server.openai_url}/chat/completions?api-version=2026-01-01&token=***"
    assert (preview.headers["X-Team"], preview.headers["X-Api-Key"]) == ("blue", "***")
    assert preview.headers["Authorization"] == "Bearer ***"
    assert f"createagents_nb.wire: > POST {preview.url}\n" in log.getvalue()
    assert "\nAuthorization: Bearer ***\n" in log.getvalue()
    assert "X-Team: blue" in log.getvalue()
    assert_clean(str(preview), log.getvalue())


def test_a_client_of_azure_shows_the_address_of_its_deployment() -> None:
    client = openai.AsyncAzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com", api_key=KEY, api_version="2026-01-01"
    )
    preview = CreateAgent("openai", "dep", client=client).preview("Hi")
    address = "https://mine.openai.azure.com/openai/deployments/dep/chat/completions?api-version=2026-01-01"
    assert preview.url == address


def test_what_chat_refuses_is_refused_by_a_preview(agent: CreateAgent) -> None:
    with pytest.raises(InvalidMessageError, match="empty"):
        agent.preview("  ")
    with pytest.raises(InvalidMessageError, match="address of a file"):
        agent.preview([FilePart(url="https://a.example/b.pdf"), "Sum it up"])


# ── after it was sent ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_each_round_of_a_turn_shows_its_request_as_it_was_sent(
    server: ScriptedServer, agent: CreateAgent
) -> None:
    server.enqueue(calls_weather())
    server.enqueue(says("Sunny."))
    response = await agent.chat("The weather in Oslo?")
    await response.wait()
    server.enqueue(says("Yes."))
    await (await agent.chat("Sure?")).wait()
    assert response.preview() == response.preview(2)
    for number, request in enumerate(server.requests[:2], 1):
        assert response.preview(number).body == unmasked(request.json)
    with pytest.raises(ConfigurationError, match="no round 3: it has sent 2"):
        response.preview(3)


@pytest.mark.asyncio
async def test_a_turn_that_runs_or_failed_shows_its_request(server: ScriptedServer, agent: CreateAgent) -> None:
    held = threading.Event()
    server.enqueue([*says("a")[:1], held, *says("b")])
    server.enqueue(json_reply({"error": {"message": "down"}}, "500 Internal Server Error"))
    response = await agent.chat("One")
    async for _ in response:
        assert response.preview().body["messages"][-1]["content"] == "One"
        held.set()
    failed = await agent.chat("Two")
    await failed.wait()
    assert failed.status == "error"
    assert failed.preview().body["messages"][-1]["content"] == "Two"


@pytest.mark.asyncio
async def test_a_turn_that_sent_nothing_says_so(agent: CreateAgent, recorder: MetricsRecorder) -> None:
    recorder.budget(calls=0)
    response = await agent.chat("Hi")
    await response.wait()
    with pytest.raises(ConfigurationError, match=r"sent nothing yet: agent\.preview\(message\)"):
        response.preview()


@pytest.mark.asyncio
async def test_what_is_kept_for_previews_goes_with_the_response(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    provider.enqueue("ok")
    agent = CreateAgent(provider, "m", recorder=recorder, history_max_size=0)
    response = await agent.chat("Hi")
    await response.wait()
    assert response.preview().body["messages"] == [{"role": "user", "content": "Hi"}]
    message = weakref.ref(provider.calls.pop().messages[0])
    assert message() is not None
    del response, agent  # an agent has its last response, to stop it
    await asyncio.sleep(0)
    gc.collect()
    assert message() is None


# ── how it is shown ──────────────────────────────────────────────────────────────────────────────────────

HOSTILE = "</code></pre><script>alert(1)</script><img src=x onerror=alert(1)>$x$ \u202e\u200b\x1b[31m\u2028&#60;"


def test_what_is_hostile_in_a_request_stays_text(agent: CreateAgent) -> None:
    preview = agent.preview(HOSTILE)
    html, text = request_html(preview), str(preview)
    read_strictly(html)
    assert "<script>" not in html
    assert "mathjax_ignore" in html
    for shown in (html, text):
        assert not set("\u202e\u200b\x1b\u2028") & set(shown)
        assert "\\u202e\\u200b\\u001b[31m\\u2028" in shown
    assert json.loads(text.split("\n\n", 1)[1]) == preview.body


def test_a_preview_prints_like_the_request() -> None:
    preview = RequestPreview("POST", "http://127.0.0.1/v1", {"Accept": "*/*\r\nX-Evil: 1"}, {"a": "ü"})
    assert str(preview) == 'POST http://127.0.0.1/v1\nAccept: */* X-Evil: 1\n\n{\n  "a": "ü"\n}'
    assert repr(preview) == str(preview)


def test_a_long_request_is_cut_in_a_page_and_whole_in_its_body(provider: ScriptedProvider) -> None:
    preview = CreateAgent(provider, "m").preview("x" * 300_000)
    html = request_html(preview)
    assert len(html) < 250_000
    assert "more characters, not shown: .body has them" in html
    assert len(preview.body["messages"][0]["content"]) == 300_000


# ── the page about it ────────────────────────────────────────────────────────────────────────────────────

PAGE = Path(__file__).parents[1] / "docs" / "what-was-sent.md"


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for example in examples:
        code = compile(example, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, shown)
        if running is not None:
            await running
    printed, logged = capsys.readouterr()
    assert len(examples) == 5
    assert '"role": "tool"' in printed
    assert "createagents_nb.wire: > POST http://127.0.0.1" in logged
    head = re.search(r"```text\n(POST .*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert head is not None
    assert str(shown["preview"]).startswith(head[1])


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    printed = io.StringIO()
    LoggingConfig.configure(level="DEBUG", handler=logging.StreamHandler(printed))
    yield printed
    LoggingConfig.reset()


@pytest.mark.asyncio
async def test_no_key_is_in_any_preview_or_line_of_the_log(
    server: ScriptedServer, agent: CreateAgent, recorder: MetricsRecorder, log: io.StringIO
) -> None:
    server.enqueue(calls_weather())
    server.enqueue(says(f"I say {KEY} and {OTHER_KEY}."))
    response = await agent.chat(f"My key is {OTHER_KEY}, yours {KEY}")
    await response.wait()
    shown = [agent.preview(KEY), response.preview(1), response.preview(2)]
    assert_clean(*map(str, shown), *map(request_html, shown), *(json.dumps(each.body) for each in shown))
    assert_clean(log.getvalue(), str(recorder.show()), recorder.show()._repr_html_())
    assert log.getvalue().count("***") > 5


def test_a_body_is_masked_wherever_a_key_may_be() -> None:
    body = {
        "api_key": "short",
        "Authorization": "Token abcdefgh",
        "nested": [{"access_token": [PASSWORD]}],
        "named": Secret("x"),
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}, {"type": "other", "data": "abc"}],
        "arguments": json.dumps({"api_key": "0123456789abcdef"}),
        "url": "https://me:hunter2@host/",
        "eos_token": "</s></s></s>",
        "tools": [{"properties": {"token": {"type": "string", "description": "of the user"}}}],
    }
    assert mask_json(body) == {
        "api_key": "short",  # a placeholder, as for servers without keys
        "Authorization": "***",
        "nested": [{"access_token": ["***"]}],
        "named": "***",
        "reasoning_details": [
            {"type": "reasoning.encrypted", "data": "<3 characters>"},
            {"type": "other", "data": "abc"},
        ],
        "arguments": '{"api_key": "***"}',
        "url": "https://me:***@host/",
        "eos_token": "</s></s></s>",
        "tools": [{"properties": {"token": {"type": "string", "description": "of the user"}}}],
    }


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_request_and_the_lines_of_its_reply_are_logged(
    server: ScriptedServer, agent: CreateAgent, log: io.StringIO
) -> None:
    server.enqueue(says("Hello"))
    await (await agent.chat(["Hi", ImagePart(png(640, 480), "image/png")])).wait()
    text = log.getvalue()
    assert f"DEBUG createagents_nb.wire: > POST {server.url}/v1/chat/completions\n" in text
    assert "\nAuthorization: Bearer ***\n" in text
    assert "<image/png, 640 × 480, 67 bytes>" in text
    assert "base64" not in text
    replies = [line.partition("createagents_nb.wire: ")[2] for line in text.splitlines() if "wire: <" in line]
    assert replies == [
        "< status 200, text/event-stream",
        *(f"< {piece.decode().strip()}" for piece in says("Hello")),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", range(1, len(KEY), 3))
async def test_a_key_that_two_blocks_share_is_not_logged(
    cut: int, server: ScriptedServer, log: io.StringIO
) -> None:
    first, second = says("first")[0], says(f"It is {KEY}")[0]
    at = second.index(KEY.encode()) + cut
    is_read = threading.Event()
    server.enqueue([first + second[:at], is_read, second[at:], *says("!")])
    response = await CreateAgent("openai", "m", base_url=server.openai_url, api_key=KEY).chat("Hi")
    async for _ in response:
        is_read.set()
    assert KEY[:12] not in log.getvalue()
    assert KEY[-12:] not in log.getvalue()
    assert "It is ***" in log.getvalue()


@pytest.mark.asyncio
async def test_an_error_page_and_hostile_lines_are_logged_as_text(
    server: ScriptedServer, agent: CreateAgent, log: io.StringIO
) -> None:
    page = b"\x1b[31mno\rINFO createagents_nb: all is well\n" + b"x" * 30_000 + b"\n" + b"y" * 2**21
    server.enqueue(Reply([page], "503 Service Unavailable", {"content-type": "text/plain"}))
    response = await agent.chat("Hi")
    await response.wait()
    assert response.status == "error"
    lines = [line for line in log.getvalue().splitlines() if "wire: <" in line]
    assert "\x1b" not in log.getvalue()
    assert lines[1].endswith("< no INFO createagents_nb: all is well")
    assert lines[2].endswith("… (10,000 more characters)")
    assert all(len(line) < 21_000 for line in lines)


@pytest.mark.asyncio
async def test_nothing_is_described_or_logged_above_debug(server: ScriptedServer, agent: CreateAgent) -> None:
    printed = io.StringIO()
    LoggingConfig.configure(level="INFO", handler=logging.StreamHandler(printed))
    server.enqueue(says("Hello"))
    await (await agent.chat("Hi")).wait()
    LoggingConfig.reset()
    assert printed.getvalue() == ""
