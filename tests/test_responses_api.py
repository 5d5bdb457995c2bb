"""OpenAI's Responses API through `CreateAgent`: who is asked by it, and what goes back with the next request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import responses_script as script
from family import Reply, ScriptedServer, delta, json_reply, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.core.messages import ImagePart
from createagents_nb.errors import InvalidRequestError, RateLimitError, UnsupportedConfigError

KEY = "sk-secret-0123456789abcdef"
CHAT = sse(delta("Clear sky."), delta(finish="stop"))
RESPONSES = script.event_stream(script.stream(script.message("Clear sky.")))


@tool
def tide(harbour: str) -> str:
    """Tide at a harbour.

    Args:
        harbour: where
    """
    return f"2.4 m at {harbour}"


def agent_at(url: str, recorder: MetricsRecorder, model: str = "gpt-6-luna", **more: Any) -> CreateAgent:
    return CreateAgent(
        "openai", model, **{"base_url": url, "api_key": KEY, "max_retries": 0, "recorder": recorder} | more
    )


def by_responses(server: ScriptedServer, recorder: MetricsRecorder, **more: Any) -> CreateAgent:
    config = {"api": "responses"} | more.pop("config", {})
    return agent_at(server.openai_url, recorder, tools=[tide], config=config, **more)


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests]


def says(*output: dict[str, Any], **more: Any) -> list[bytes]:
    return script.event_stream(script.stream(*output, **more))


def refuses(message: str, status: str = "400 Bad Request", **more: Any) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more
    return json_reply({"error": error}, status)


# ── which API ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://api.openai.com/v1", "/responses"),
        ("http://eu.api.openai.com/v1", "/responses"),
        ("http://mine.openai.azure.com/openai/v1", "/responses"),
        ("http://mine.openai.azure.com/openai/deployments/d", "/chat/completions"),
        ("http://gateway.example/openai/v1", "/responses"),
        ("http://api.openai.com.example.org/v1", "/chat/completions"),
        ("http://gateway.example/v1", "/chat/completions"),
    ],
)
@pytest.mark.asyncio
async def test_the_host_decides_unless_the_user_does(
    server: ScriptedServer, recorder: MetricsRecorder, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    other = "/chat/completions" if path == "/responses" else "/responses"
    for expected, config in ((path, {}), (other, {"api": "chat" if path == "/responses" else "responses"})):
        server.enqueue(RESPONSES if expected == "/responses" else CHAT)
        assert await agent_at(url, recorder, config=config).ask("Weather?") == "Clear sky."
        assert server.requests[-1].path == url + expected


@pytest.mark.parametrize("option", [{"seed": 1}, {"stop": "END"}, {"extra": {"logprobs": True}}])
@pytest.mark.asyncio
async def test_what_only_chat_completions_takes_goes_there(
    server: ScriptedServer, recorder: MetricsRecorder, option: dict[str, Any]
) -> None:
    server.enqueue(CHAT)
    await agent_at(f"{server.url}/openai/v1", recorder, config=option).ask("Weather?")
    assert paths(server) == ["/openai/v1/chat/completions"]
    with pytest.raises(UnsupportedConfigError, match="'api': 'chat'"):
        agent_at(server.url, recorder, config={"api": "responses", **option})


@pytest.mark.asyncio
async def test_a_gateway_without_responses_is_asked_by_chat_completions_from_then_on(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.on(
        "/openai/v1/responses", json_reply({"error": {"code": "404", "message": "Resource not found"}}, "404 N")
    )
    for _ in range(3):
        server.enqueue(CHAT)
    agent = agent_at(f"{server.url}/openai/v1", recorder)
    assert await agent.ask("Weather?") == "Clear sky."
    assert await agent.ask("Again?") == "Clear sky."
    assert await agent_at(f"{server.url}/openai/v1", recorder).ask("And now?") == "Clear sky."
    assert [path.rpartition("/v1")[2] for path in paths(server)] == ["/responses", *["/chat/completions"] * 3]
    assert recorder.requests["adjusted"].tolist()[0] == "by the chat API"


@pytest.mark.asyncio
async def test_a_gateway_that_refers_to_responses_is_asked_so_from_then_on(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    message = (
        "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. "
        "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
    )
    server.on("/v1/chat/completions", refuses(message))
    for _ in range(2):
        server.enqueue(RESPONSES)
    agent = agent_at(server.openai_url, recorder, tools=[tide])
    assert await agent.ask("Weather?") == "Clear sky."
    assert await agent.ask("Again?") == "Clear sky."
    assert [path.rpartition("/v1")[2] for path in paths(server)] == [
        "/chat/completions",
        "/responses",
        "/responses",
    ]
    with pytest.raises(InvalidRequestError, match="/v1/responses"):
        await agent_at(server.openai_url, recorder, tools=[tide], config={"api": "chat"}).ask("Weather?")


@pytest.mark.asyncio
async def test_with_a_client_its_address_decides(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    for path, reply in (("/openai/v1", RESPONSES), ("/v1", CHAT)):
        server.enqueue(reply)
        async with openai.AsyncOpenAI(base_url=server.url + path, api_key=KEY, max_retries=0) as client:
            agent = CreateAgent("openai", "gpt-6-luna", client=client, recorder=recorder)
            assert await agent.ask("Weather?") == "Clear sky."
    assert paths(server) == ["/openai/v1/responses", "/v1/chat/completions"]


def test_the_demo_has_one_api() -> None:
    with pytest.raises(UnsupportedConfigError, match="api"):
        CreateAgent("demo", config={"api": "responses"})


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────


def problem_in(items: list[dict[str, Any]]) -> str | None:
    """What OpenAI would refuse in the input of a request with ``store: false``."""
    asked = [item["call_id"] for item in items if item.get("type") == "function_call"]
    answered = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    if asked != answered:
        return f"No tool output found for function call {asked}"
    for before, item in zip([{}, *items], items, strict=False):
        if item.get("type") == "function_call" and before.get("type") not in ("reasoning", "function_call"):
            return "Item of type 'function_call' was provided without its required 'reasoning' item"
        if item.get("type") == "reasoning" and not item.get("encrypted_content"):
            return f"Item with id '{item['id']}' not found"
        if item.get("id", "").startswith(("msg_", "fc_")):
            return f"Item with id '{item['id']}' not found"
    return None


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.asyncio
async def test_an_agent_with_tools_gives_reasoning_back_now_later_and_from_a_file(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path, stream: bool
) -> None:
    thought, second = script.reasoning(id_="rs_1"), script.reasoning(encrypted="second", id_="rs_2")
    replies = [
        [
            thought,
            script.call("tide", '{"harbour": "Vik"}', "call_a"),
            script.call("tide", '{"harbour": "Ness"}', "call_b"),
        ],
        [second, script.message("2.4 metres.")],
        [script.message("Yes.")],
        [script.message("Really.")],
    ]
    for output in replies:
        server.enqueue(says(*output) if stream else json_reply(script.response(*output)))
    agent = by_responses(server, recorder, instructions="Be brief.", config={"stream": stream})
    assert await agent.ask("Tide?") == "2.4 metres."
    await agent.ask("Sure?")
    path = agent.save(tmp_path / "talk.json")
    loaded = CreateAgent.load(path, tools=[tide], base_url=server.openai_url, api_key=KEY, recorder=recorder)
    assert await loaded.ask("Really?") == "Really."

    first, *later = (request.json for request in server.requests)
    assert first["instructions"] == "Be brief."
    assert first["store"] is False
    assert first["include"] == ["reasoning.encrypted_content"]
    assert "reasoning" not in first  # summaries only when asked for
    for body in later:
        assert problem_in(body["input"]) is None
        assert body["input"][1] == thought
    for body in later[1:]:
        assert second in body["input"]
    assert recorder.requests["input_tokens"].tolist()[0] == 25
    assert recorder.requests["cached_tokens"].tolist()[0] == 5
    assert recorder.requests["reasoning_tokens"].tolist()[0] == 3


@pytest.mark.asyncio
async def test_trimming_cuts_reasoning_with_what_it_belongs_to(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = by_responses(server, recorder, history_max_size=4)
    for number in range(6):
        thought = script.reasoning(encrypted=f"e{number}", id_=f"rs_{number}")
        server.enqueue(says(thought, script.call("tide", '{"harbour": "Vik"}', f"call_{number}")))
        server.enqueue(says(script.reasoning(encrypted=f"f{number}"), script.message("2.4 metres.")))
        await agent.ask(f"Tide {number}?")
        for request in server.requests[-2:]:
            assert problem_in(request.json["input"]) is None


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_encrypted_content", "message": "The encrypted content rs_1 could not be verified."},
        {"message": "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'."},
        {"message": "Encrypted content item_id did not match the target item id."},
    ],
)
@pytest.mark.asyncio
async def test_reasoning_that_is_not_taken_back_is_left_out(
    server: ScriptedServer, recorder: MetricsRecorder, error: dict[str, Any]
) -> None:
    server.enqueue(says(script.reasoning(), script.message("Hello")))
    agent = by_responses(server, recorder)
    await agent.ask("Hi")
    server.enqueue(refuses(**error))
    for _ in range(2):
        server.enqueue(RESPONSES)
    assert await agent.ask("Weather?") == "Clear sky."
    assert await agent.ask("Again?") == "Clear sky."
    refused, again, later = (request.json["input"] for request in server.requests[1:])
    assert any(item.get("type") == "reasoning" for item in refused)
    for items in (again, later):
        assert not any(item.get("type") == "reasoning" for item in items)
        assert {"role": "assistant", "content": "Hello"} in items
    assert recorder.requests["adjusted"].dropna().tolist() == ["without provider details"]


@pytest.mark.asyncio
async def test_a_model_without_reasoning_refuses_to_include_it_once(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(refuses("Encrypted content is not supported with this model.", param="include"))
    for _ in range(2):
        server.enqueue(RESPONSES)
    agent = by_responses(server, recorder, model="my-deployment")
    await agent.ask("Weather?")
    await agent.ask("Again?")
    assert ["include" in request.json for request in server.requests] == [True, False, False]


@pytest.mark.asyncio
async def test_a_model_that_takes_tools_by_responses_alone_says_what_is_in_the_way(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(refuses("To use function tools, use /v1/responses."))
    agent = agent_at(f"{server.url}/openai/v1", recorder, tools=[tide], config={"seed": 1})
    with pytest.raises(InvalidRequestError, match="takes no seed: leave that out"):
        await agent.ask("Tide?")


@pytest.mark.asyncio
async def test_reasoning_of_open_models_goes_back_without_being_encrypted(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    thought = script.reasoning(encrypted=None, content=[{"type": "reasoning_text", "text": "Hm."}])
    server.enqueue(says(thought, script.call("tide", '{"harbour": "Vik"}')))
    server.enqueue(RESPONSES)
    await by_responses(server, recorder).ask("Tide?")
    assert thought in server.requests[1].json["input"]


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-4o", "gpt-5-chat-latest", "ft:gpt-4.1:me::x"])
@pytest.mark.asyncio
async def test_models_that_are_known_not_to_reason_are_not_asked_to(
    server: ScriptedServer, recorder: MetricsRecorder, model: str
) -> None:
    server.enqueue(RESPONSES)
    await by_responses(server, recorder, model=model).ask("Weather?")
    assert "include" not in server.requests[0].json


@pytest.mark.asyncio
async def test_options_images_and_tools_are_sent_as_this_api_has_them(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(RESPONSES)
    config: dict[str, Any] = {
        "max_tokens": 90,
        "temperature": 0.5,
        "think": "low",
        "reasoning": {"summary": "auto"},
        "tool_choice": "tide",
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "server_tools": ["web_search"],
        "response_format": {"type": "json_object"},
        "extra": {"store": None, "verbosity": "low", "tools": [{"type": "mine"}]},
    }
    agent = by_responses(server, recorder, config=config)
    await (await agent.chat(["What is it?", ImagePart(b"\x89PNG", "image/png")]))
    sent = server.requests[0].json
    function, *others = sent.pop("tools")
    assert (function["type"], function["name"], function["strict"]) == ("function", "tide", False)
    assert others == [{"type": "web_search"}, {"type": "mine"}]
    (asked,) = sent.pop("input")
    assert [part["type"] for part in asked["content"]] == ["input_text", "input_image"]
    assert sent == {
        "model": "gpt-6-luna",
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 90,
        "temperature": 0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "tool_choice": {"type": "function", "name": "tide"},
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    }


@pytest.mark.asyncio
async def test_a_cut_answer_says_so_and_a_failed_one_is_a_typed_error(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    cut = {"incomplete_details": {"reason": "max_output_tokens"}}
    server.enqueue(says(script.message("Clear"), status="incomplete", **cut))
    agent = by_responses(server, recorder)
    await agent.ask("Weather?")
    assert recorder.requests["finish_reason"].tolist() == ["max_output_tokens"]
    error = {"code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 2.6s."}
    server.enqueue(says(script.message("Half"), status="failed", error=error))
    response = await agent.chat("Weather?")
    with pytest.raises(RateLimitError, match="Rate limit reached"):
        await response
    assert response.text == "Half"


@pytest.mark.asyncio
async def test_ids_of_calls_are_unique_on_this_api_too(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    agent = by_responses(server, recorder)
    for _ in range(2):
        server.enqueue(says(script.reasoning(), script.call("tide", '{"harbour": "Vik"}', "call:0")))
        server.enqueue(says(script.reasoning(), script.message("2.4 metres.")))
        await agent.ask("Tide?")
    items = server.requests[-1].json["input"]
    assert problem_in(items) is None
    asked = [item["call_id"] for item in items if item.get("type") == "function_call"]
    assert len(set(asked)) == 2
    assert recorder.tools["tool_call_id"].tolist() == ["call:0"] * 2
    assert json.dumps(items).count("b3BhcXVl") == 3
