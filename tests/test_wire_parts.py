"""Images, files and opaque details on the wire, as each provider's API wants them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import ollama
import openai
import pytest
import pytest_asyncio
from family import ScriptedServer, png

from createagents_nb import CreateAgent, MetricsRecorder, OllamaChatAdapter, OpenAIChatAdapter
from createagents_nb.core.events import ProviderDetails, ReplySource, ToolCallRequested
from createagents_nb.core.messages import FilePart, ImagePart, Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import InvalidMessageError, UnsupportedConfigError
from createagents_nb.providers import ollama_request, openai_request
from createagents_nb.providers.servers import OPENAI

DATA = png(3, 2)
IN_BASE64 = base64.b64encode(DATA).decode()
IMAGE = ImagePart(DATA, "image/png")
LINK = ImagePart(url="https://files.example/a.png?signature=abc")
REPORT = FilePart(b"%PDF-1.7", "application/pdf", name="report.pdf")


def openai_body(*messages: Message, **more: Any) -> dict[str, Any]:
    return openai_request.build_body(ChatRequest("m", messages, **more), OPENAI)


def ollama_body(*messages: Message, **more: Any) -> dict[str, Any]:
    return ollama_request.build_body(ChatRequest("m", messages, **more))


def test_openai_gets_parts_in_their_order() -> None:
    (message,) = openai_body(Message("user", ["Compare", IMAGE, LINK, REPORT, "half \ud83d"]))["messages"]
    report = base64.b64encode(b"%PDF-1.7").decode()
    assert message["content"] == [
        {"type": "text", "text": "Compare"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IN_BASE64}"}},
        {"type": "image_url", "image_url": {"url": "https://files.example/a.png?signature=abc"}},
        {
            "type": "file",
            "file": {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{report}"},
        },
        {"type": "text", "text": "half ?"},
    ]


def test_ollama_gets_images_beside_the_text() -> None:
    (message,) = ollama_body(Message("user", ["Compare", IMAGE, "them"]))["messages"]
    assert message == {"role": "user", "content": "Compare\nthem", "images": [IN_BASE64]}


@pytest.mark.parametrize(
    ("body", "part"),
    [(openai_body, FilePart(url="https://a.example/x.pdf")), (ollama_body, LINK), (ollama_body, REPORT)],
)
def test_what_a_provider_cannot_take_is_refused_by_name(body: Callable[..., Any], part: Any) -> None:
    with pytest.raises(InvalidMessageError, match=r"takes no (address|files).*Give") as raised:
        body(Message("user", ["Look", part]))
    assert ".example" not in str(raised.value)
    older = body(Message("user", ["Look", part]), Message("assistant", "No."), Message("user", "Why?"))
    assert str(part) in str(older["messages"][0]), "an older message is described"


@pytest.mark.asyncio
async def test_a_message_that_cannot_be_sent_is_not_remembered(server: ScriptedServer) -> None:
    agent = CreateAgent("openai", "m", base_url=server.openai_url, api_key="k", recorder=MetricsRecorder())
    with pytest.raises(InvalidMessageError):
        await (await agent.chat(["Look", FilePart(url="https://a.example/x.pdf")]))
    assert (agent.history, server.requests) == ((), [])
    server.enqueue([b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'])
    assert await (await agent.chat("Hello")) == "ok"


@pytest.mark.parametrize("body", [openai_body, ollama_body])
def test_text_in_parts_is_sent_as_text(body: Callable[..., Any]) -> None:
    (message,) = body(Message("user", ["a", "b"]))["messages"]
    assert message == {"role": "user", "content": "a\nb"}


def test_schema_and_tool_choice_are_sent_as_each_api_has_them() -> None:
    schema = {"type": "object", "properties": {}}
    body = openai_body(Message("user", "hi"), output_schema=schema, tool_choice="rows")
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert body["tool_choice"] == {"type": "function", "function": {"name": "rows"}}
    assert openai_body(Message("user", "hi"), tool_choice="none")["tool_choice"] == "none"
    assert ollama_body(Message("user", "hi"), output_schema=schema)["format"] == schema
    with pytest.raises(UnsupportedConfigError, match="tool_choice"):
        ollama_body(Message("user", "hi"), tool_choice="required")


class Probe(OpenAIChatAdapter):
    """Sends the details of a message as a field of the message, as adapters for such servers will."""

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body = super()._body(request)
        for wire, message in zip(body["messages"], request.messages, strict=True):
            details = [message.provider_details, *(call.provider_details for call in message.tool_calls)]
            wire["details"] = [None if one is None else dict(one.fields) for one in details]
        return body


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.mark.asyncio
async def test_details_are_sent_to_nobody_but_the_server_model_and_key_they_came_from(
    server: ScriptedServer,
) -> None:
    adapter = Probe(api_key="sk-one-key-123456789", base_url=server.openai_url)
    here = adapter.reply_source("m")
    assert here == ReplySource(server.url, "m", hashlib.sha256(b"sk-one-key-123456789").hexdigest())

    async def sent(provider: Probe, model: str = "m") -> list[Any]:
        details = ProviderDetails(here, {"signature": "abc"})
        calls = (ToolCallRequested("a", "f", "{}", details),)
        messages = [Message("user", "hi"), Message("assistant", "", calls, provider_details=details)]
        server.enqueue([b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'])
        async for _ in provider.round_trip(ChatRequest(model, messages)):
            pass
        details_sent: list[Any] = server.requests[-1].json["messages"][1]["details"]
        return details_sent

    assert await sent(adapter) == [{"signature": "abc"}] * 2
    assert await sent(adapter, "other-model") == [None, None]
    assert await sent(Probe(api_key="sk-other-key-98765432", base_url=server.openai_url)) == [None, None]
    moved = Probe(api_key="sk-one-key-123456789", base_url=server.openai_url.replace("127.0.0.1", "localhost"))
    assert await sent(moved) == [None, None]


@pytest.mark.asyncio
async def test_a_client_that_is_handed_in_says_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.setenv(name, "from-the-environment-1234")
    monkeypatch.setenv("OLLAMA_HOST", "http://environment.example:1234")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment.example/v1")
    async with openai.AsyncOpenAI(api_key="sk-of-the-client-1", base_url="https://own.example/v1") as client:
        adapter = OpenAIChatAdapter(client=client)
        assert (adapter.server, adapter.base_url) == ("own.example", "https://own.example/v1")
        assert adapter.reply_source("m").key_fingerprint == hashlib.sha256(b"sk-of-the-client-1").hexdigest()
    local = OllamaChatAdapter(client=ollama.AsyncClient(host="http://own.example:99"))
    assert (local.server, local.base_url) == ("own.example", "http://own.example:99")


@pytest.mark.asyncio
@pytest.mark.filterwarnings("error")
async def test_a_large_image_is_sent_whole(server: ScriptedServer) -> None:
    agent = CreateAgent("openai", "m", base_url=server.openai_url, api_key="k", recorder=MetricsRecorder())
    server.enqueue([b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'])
    data = bytes(3 * 2**20)
    assert await (await agent.chat(["Look", ImagePart(data, "image/png")])) == "ok"
    sent = server.requests[0].json["messages"][0]["content"][1]["image_url"]["url"]
    assert base64.b64decode(sent.partition(",")[2]) == data
