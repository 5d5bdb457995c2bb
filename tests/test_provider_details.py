"""Opaque fields of replies: they go back unchanged to the server that sent them, and to no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, ndjson, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool

SIGNATURE = {"google": {"thought_signature": "b3BhcXVl"}}
ANSWER = sse(delta("2.4 metres."), delta(finish="stop"))


@tool
def tide(harbour: str) -> str:
    """Tide at a harbour.

    Args:
        harbour: where
    """
    return "2.4 m"


def agent_at(server: ScriptedServer, recorder: MetricsRecorder, model: str = "m", **more: Any) -> CreateAgent:
    options: dict[str, Any] = {
        "base_url": server.openai_url,
        "max_retries": 0,
        "recorder": recorder,
        "tools": [tide],
    }
    return CreateAgent("openai", model, **options | more)


def call(call_id: str = "c1", index: int = 0, **more: Any) -> dict[str, Any]:
    function = {"name": "tide", "arguments": '{"harbour": "Vik"}'}
    return {"index": index, "id": call_id, "type": "function", "function": function, **more}


def streamed(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[bytes]:
    return sse(*(delta(**each) for each in deltas), delta(finish=finish))


def buffered(finish: str = "tool_calls", **message: Any) -> Reply:
    message = {"role": "assistant", "content": None} | message
    return json_reply({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def assistants(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


FIELDS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "reasoning_content": (
        [{"reasoning_content": "They want "}, {"reasoning_content": "the tide.\n"}],
        {"reasoning_content": "They want the tide.\n"},
    ),
    "reasoning": ([{"reasoning": "The"}, {"reasoning": " tide"}], {"reasoning": "The tide"}),
    "reasoning_details": (
        [
            {"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]},
            {"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "s==", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "xyz", "id": "e1", "index": 1}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "zyx", "id": "e2", "index": 1}]},
        ],
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "ab", "signature": "s==", "index": 0},
                {"type": "reasoning.encrypted", "data": "xyz", "id": "e1", "index": 1},
                {"type": "reasoning.encrypted", "data": "zyx", "id": "e2", "index": 1},
            ]
        },
    ),
    "thinking_blocks": (
        [
            {"thinking_blocks": [{"type": "thinking", "thinking": "Let", "signature": None}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": " me", "signature": None}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "sig"}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "More", "signature": "sig2"}]},
        ],
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "Let me", "signature": "sig"},
                {"type": "thinking", "thinking": "More", "signature": "sig2"},
            ]
        },
    ),
    "extra_content of a message": ([{"extra_content": SIGNATURE}], {"extra_content": SIGNATURE}),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.asyncio
async def test_fields_of_a_streamed_message_come_back_now_and_later(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path, name: str
) -> None:
    pieces, expected = FIELDS[name]
    server.enqueue(streamed(*pieces, {"tool_calls": [call()]}))
    for _ in range(3):
        server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    assert await agent.ask("Tide at Vik?") == "2.4 metres."
    await agent.ask("Are you sure?")
    path = agent.save(tmp_path / "talk.json")
    await CreateAgent.load(path, tools=[tide], base_url=server.openai_url, recorder=recorder).ask("Really?")
    for request in server.requests[1:]:
        message = assistants(request.json)[0]
        assert {key: message.get(key) for key in expected} == expected
        assert message.keys() - expected == {"role", "content", "tool_calls"}


@pytest.mark.asyncio
async def test_fields_of_a_buffered_message_come_back(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    details = [{"type": "reasoning.summary", "summary": "s"}, {"type": "reasoning.encrypted", "data": "d"}]
    server.enqueue(buffered(reasoning="hm", reasoning_details=details, tool_calls=[call(extra_content=SIGNATURE)]))
    server.enqueue(buffered("stop", content="2.4 metres."))
    assert await agent_at(server, recorder, config={"stream": False}).ask("Tide?") == "2.4 metres."
    (message,) = assistants(server.requests[1].json)
    assert message["reasoning_details"] == details
    assert message["tool_calls"][0]["extra_content"] == SIGNATURE


@pytest.mark.parametrize("name", ["extra_content", "provider_specific_fields"])
@pytest.mark.asyncio
async def test_fields_of_calls_come_back_with_their_calls(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path, name: str
) -> None:
    first = call("c1", 0, **{name: SIGNATURE})
    server.enqueue(streamed({"tool_calls": [first]}, {"tool_calls": [call("c2", 1)]}))
    for _ in range(3):
        server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    await agent.ask("Tide at Vik?")
    await agent.ask("Are you sure?")
    path = agent.save(tmp_path / "talk.json")
    await CreateAgent.load(path, tools=[tide], base_url=server.openai_url, recorder=recorder).ask("Really?")
    for request in server.requests[1:]:
        with_it, without = assistants(request.json)[0]["tool_calls"]
        assert with_it[name] == SIGNATURE
        assert name not in without


@pytest.mark.asyncio
async def test_no_other_server_model_or_key_gets_them(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path
) -> None:
    server.enqueue(streamed({"reasoning_content": "Hm"}, {"tool_calls": [call(extra_content=SIGNATURE)]}))
    for _ in range(4):
        server.enqueue(ANSWER)
    agent = agent_at(server, recorder, api_key="sk-one-0123456789abcdef")
    await agent.ask("Tide at Vik?")
    path = agent.save(tmp_path / "talk.json")
    await agent.variant(model="other").ask("And you?")
    elsewhere: dict[str, Any] = {"tools": [tide], "recorder": recorder}
    await CreateAgent.load(path, base_url=server.openai_url, api_key="sk-two-0123456789abcdef", **elsewhere).ask(
        "?"
    )
    with ScriptedServer() as other:
        other.enqueue(ANSWER)
        await CreateAgent.load(path, base_url=other.openai_url, **elsewhere).ask("?")
        requests = [*server.requests[2:], *other.requests]
    assert len(requests) == 3
    for request in requests:
        assert "extra_content" not in request.body.decode()
        assert "reasoning_content" not in request.body.decode()


@pytest.mark.asyncio
async def test_ollama_gets_its_thinking_back(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    function = {"name": "tide", "arguments": {"harbour": "Vik"}}
    server.enqueue(
        ndjson(
            {"message": {"role": "assistant", "content": "", "thinking": "They want "}, "done": False},
            {"message": {"role": "assistant", "content": "", "thinking": "the tide"}, "done": False},
            {
                "message": {"role": "assistant", "content": "", "tool_calls": [{"function": function}]},
                "done": False,
            },
            {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
        )
    )
    end = {"message": {"role": "assistant", "content": "2.4 metres."}, "done": True, "done_reason": "stop"}
    server.enqueue(ndjson(end))
    server.enqueue(ndjson(end))
    agent = CreateAgent("ollama", "m", base_url=server.url, tools=[tide], recorder=recorder)
    assert await agent.ask("Tide?") == "2.4 metres."
    await agent.ask("Sure?")
    for request in server.requests[1:]:
        assert assistants(request.json)[0]["thinking"] == "They want the tide"


@pytest.mark.asyncio
async def test_they_are_never_shown_or_recorded(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(streamed({"tool_calls": [call(extra_content=SIGNATURE)]}))
    server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    response = await agent.chat("Tide?")
    await response
    shown = [repr(response), repr(agent.history), recorder.tools.to_csv(), recorder.calls.to_csv()]
    assert not any("b3BhcXVl" in each for each in shown)
