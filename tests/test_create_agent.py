"""CreateAgent: arguments, turns over real HTTP, what belongs to one agent, variants."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from family import Reply, ScriptedServer, delta, eventually, json_reply, sse

import createagents_nb
from createagents_nb import BaseTool, CreateAgent, MetricsRecorder, StreamingResponseDTO, tool
from createagents_nb.core.records import CallRecord
from createagents_nb.errors import (
    AuthenticationError,
    ConfigurationError,
    CreateAgentsError,
    InvalidMessageError,
    InvalidToolError,
    UnknownConfigKeyError,
    UnknownToolError,
    UnsupportedConfigError,
)

KEY = "sk-secret-0123456789abcdef"


@tool
def rows(limit: int = 5) -> str:
    """First rows of the table.

    Args:
        limit: how many rows
    """
    return f"{limit} rows"


def agent_at(server: ScriptedServer, recorder: MetricsRecorder, **more: Any) -> CreateAgent:
    options: dict[str, Any] = {
        "base_url": server.openai_url,
        "api_key": KEY,
        "recorder": recorder,
        "max_retries": 0,
    }
    return CreateAgent("openai", "m", **options | more)


def says(*texts: str) -> list[bytes]:
    return sse(*(delta(text) for text in texts), delta(finish="stop"))


def asks_for(name: str, arguments: str = "{}", call_id: str = "c1") -> list[bytes]:
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return sse(delta(tool_calls=[call]), delta(finish="tool_calls"))


def held(*texts: str) -> tuple[list[bytes | threading.Event], threading.Event]:
    """A reply that stops after its first text until the event is set."""
    hold = threading.Event()
    first, *rest = says(*texts)
    return [first, hold, *rest], hold


# ── a turn ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_chat_returns_while_the_answer_is_still_streaming(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    reply, hold = held("Hello", " there")
    server.enqueue(reply)
    response = await agent_at(server, recorder).chat("hi")
    assert isinstance(response, StreamingResponseDTO)
    tokens = aiter(response)
    assert await anext(tokens) == "Hello"
    assert (response.done, response.status) == (False, "running")
    hold.set()
    assert await anext(tokens) == " there"
    assert await response == "Hello there"


@pytest.mark.asyncio
async def test_a_tool_runs_and_its_result_is_sent_back(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(asks_for("rows", '{"limit": 3}'))
    server.enqueue(says("Three."))
    agent = agent_at(server, recorder, tools=[rows], instructions="Be brief.")
    assert await (await agent.chat("Show 3 rows")) == "Three."
    first, second = (request.json for request in server.requests)
    assert [entry["function"]["name"] for entry in first["tools"]] == ["rows"]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "tool"]
    assert second["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "3 rows"}
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.asyncio
async def test_chats_gathered_on_one_agent_are_all_sent_before_any_is_answered(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    gate = threading.Event()
    for _ in range(3):
        server.enqueue([gate, *says("fine")])
    agent = agent_at(server, recorder)
    responses = await asyncio.gather(*(agent.chat(f"question {number}") for number in range(3)))
    await eventually(lambda: len(server.requests) == 3)
    assert [response.status for response in responses] == ["running"] * 3
    gate.set()
    assert await asyncio.gather(*responses) == ["fine"] * 3
    questions = [message.content for message in agent.history if message.role == "user"]
    assert questions == ["question 0", "question 1", "question 2"]


@pytest.mark.asyncio
async def test_without_streaming_the_answer_comes_as_one_piece_through_the_same_response(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    message = {"role": "assistant", "content": "Hello there"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    server.enqueue(json_reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}))
    response = await agent_at(server, recorder, config={"stream": False}).chat("hi")
    assert isinstance(response, StreamingResponseDTO)
    assert [token async for token in response] == ["Hello there"]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (5, 2)
    assert not server.requests[0].json.get("stream")


@pytest.mark.asyncio
@pytest.mark.parametrize("message", ["", "   ", None, 3])
async def test_a_message_that_is_none_is_refused_and_the_next_one_works(
    server: ScriptedServer, recorder: MetricsRecorder, message: Any
) -> None:
    agent = agent_at(server, recorder)
    with pytest.raises(InvalidMessageError):
        await agent.chat(message)
    assert (server.requests, len(recorder), len(agent.history)) == ([], 0, 0)
    server.enqueue(says("fine"))
    assert await (await agent.chat("hi")) == "fine"


@pytest.mark.asyncio
async def test_a_key_that_was_refused_appears_nowhere(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    body = {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}
    server.enqueue(json_reply(body, "401 Unauthorized"))
    agent = agent_at(server, recorder)
    response = await agent.chat("hi")
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY") as raised:
        await response
    frames = [frame.to_csv() for frame in (recorder.calls, recorder.requests)]
    shown = [
        str(raised.value),
        repr(raised.value),
        repr(agent),
        repr(response),
        agent.export_metrics_json(),
        *frames,
    ]
    assert not any(KEY in text for text in shown)
    assert agent.metrics.loc[0, "error_type"] == "AuthenticationError"


# ── stopping and dropping ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_aclose_stops_what_runs_and_the_agent_works_again(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    for _ in range(2):
        server.enqueue(held("a", "b")[0])
    agent = agent_at(server, recorder)
    responses = [await agent.chat("one"), await agent.variant(config={"seed": 1}).chat("two")]
    for response in responses:
        assert await anext(aiter(response)) == "a"
    await agent.aclose()
    assert [response.status for response in responses] == ["cancelled", "cancelled"]
    await eventually(lambda: server.open_connections == 0)
    server.enqueue(says("again"))
    assert await (await agent.chat("three")) == "again"


@pytest.mark.asyncio
async def test_leaving_an_async_with_stops_what_runs(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(held("a", "b")[0])
    async with agent_at(server, recorder) as agent:
        response = await agent.chat("one")
        assert await anext(aiter(response)) == "a"
    assert (response.status, response.text) == ("cancelled", "a")


@pytest.mark.asyncio
async def test_cancelling_in_mid_stream_closes_the_connection(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(held("a", "b")[0])
    response = await agent_at(server, recorder).chat("one")
    assert await anext(aiter(response)) == "a"
    assert server.open_connections == 1
    response.cancel()
    assert await response == "a"
    await eventually(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_dropping_agent_and_response_leaks_no_task_and_no_connection(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    before = asyncio.all_tasks()
    reply, hold = held("a", "b")
    server.enqueue(reply)
    await agent_at(server, recorder).chat("one")
    gc.collect()
    await eventually(lambda: server.open_connections == 1)
    hold.set()
    await eventually(lambda: server.open_connections == 0)
    await eventually(lambda: asyncio.all_tasks() == before)
    assert [record.status for record in recorder.call_records] == ["ok"]


@pytest.mark.asyncio
async def test_a_chat_cancelled_before_it_returned_is_stopped_and_has_its_row(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder)
    task = asyncio.create_task(agent.chat("one"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await agent.aclose()
    assert [record.status for record in agent.get_metrics()] == ["cancelled"]


# ── what belongs to one agent ────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_metrics_of_an_agent_are_its_own(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    mine, other = (agent_at(server, recorder, name=name, tools=[rows]) for name in ("mine", "other"))
    server.enqueue(asks_for("rows"))
    server.enqueue(says("mine"))
    await (await mine.chat("one"))
    server.enqueue(asks_for("rows", '{"limit": 1}'))
    server.enqueue(says("other"))
    await (await other.chat("two"))

    assert (len(recorder.calls), len(recorder.tools)) == (2, 2)
    assert mine.metrics["response"].tolist() == ["mine"]
    assert mine.metrics["agent"].tolist() == ["mine"]
    assert other.tool_calls["arguments"].tolist() == ['{"limit": 1}']
    assert list(mine.metrics.columns) == list(recorder.calls.columns)
    (record,) = mine.get_metrics()
    assert isinstance(record, CallRecord)
    assert (record.prompt, record.rounds, record.tool_calls) == ("one", 2, 1)


def test_an_agent_that_did_nothing_has_empty_frames(recorder: MetricsRecorder) -> None:
    agent = CreateAgent("demo", recorder=recorder)
    assert isinstance(agent.metrics, pd.DataFrame)
    assert (len(agent.metrics), len(agent.tool_calls), agent.get_metrics()) == (0, 0, [])
    assert agent.metrics.dtypes.equals(recorder.calls.dtypes)


@pytest.mark.asyncio
async def test_exports_hold_this_agents_calls_only(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path
) -> None:
    mine, other = agent_at(server, recorder, name="mine"), agent_at(server, recorder, name="other")
    for agent in (mine, other):
        server.enqueue(says("fine"))
        await (await agent.chat(f"hello {agent.name}"))
    as_json, as_text = tmp_path / "metrics.json", tmp_path / "metrics.prom"
    exported = mine.export_metrics_json(as_json)
    assert as_json.read_text(encoding="utf-8") == exported
    assert "hello mine" in exported
    assert "hello other" not in exported
    json.loads(exported)
    assert mine.export_metrics_prometheus(as_text) == as_text.read_text(encoding="utf-8")
    assert "other" not in as_text.read_text(encoding="utf-8")
    with pytest.raises(ConfigurationError):
        mine.export_metrics_json(tmp_path)


def test_without_a_recorder_of_its_own_an_agent_uses_the_notebooks(server: ScriptedServer) -> None:
    known = len(createagents_nb.recorder)

    async def main() -> None:
        server.enqueue(says("fine"))
        await (await CreateAgent("openai", "m", base_url=server.openai_url).chat("hi"))

    asyncio.run(main())
    assert len(createagents_nb.recorder) == known + 1


@pytest.mark.asyncio
async def test_history_is_what_the_next_turn_sees(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    agent = agent_at(server, recorder, history_max_size=2, instructions="Be brief.")
    for number in range(3):
        server.enqueue(says(f"a{number}"))
        await (await agent.chat(f"q{number}"))
    sent = [message["content"] for message in server.requests[2].json["messages"]]
    assert sent == ["Be brief.", "q1", "a1", "q2"]
    assert [message.content for message in agent.history] == ["q2", "a2"]
    agent.clear_history()
    server.enqueue(says("a3"))
    await (await agent.chat("q3"))
    assert [message["content"] for message in server.requests[3].json["messages"]] == ["Be brief.", "q3"]


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 1])
async def test_an_agent_without_memory_sends_the_question_alone(
    server: ScriptedServer, recorder: MetricsRecorder, size: int
) -> None:
    agent = agent_at(server, recorder, history_max_size=size)
    for number in range(2):
        server.enqueue(says("fine"))
        await (await agent.chat(f"q{number}"))
    assert [message["content"] for message in server.requests[1].json["messages"]] == ["q1"]
    assert agent.history == ()


# ── what it is ───────────────────────────────────────────────────────────────────────────────────────


def test_configs_say_everything_but_the_key() -> None:
    agent = CreateAgent(
        "openai",
        "gpt-4",
        name="helper",
        instructions="Be brief.",
        config={"temperature": 0.2},
        tools=[rows, "currentdate"],
        history_max_size=6,
        max_tool_rounds=3,
        api_key=KEY,
    )
    assert agent.get_configs() == {
        "name": "helper",
        "provider": "openai",
        "model": "gpt-4",
        "instructions": "Be brief.",
        "config": {"temperature": 0.2},
        "tools": ["rows", "currentdate"],
        "history_max_size": 6,
        "max_tool_rounds": 3,
        "max_tool_result_chars": 100_000,
        "remote_images": False,
        "approval_timeout_s": 300.0,
        "base_url": None,
        "timeout_s": 120.0,
        "max_retries": 2,
    }
    assert list(agent.get_configs())[:3] == ["name", "provider", "model"]
    assert repr(agent) == "<CreateAgent helper: openai:gpt-4, tools=[rows, currentdate], 0 messages>"
    assert KEY not in repr(agent) + str(agent) + str(agent.get_configs())


def test_what_get_configs_returns_is_a_copy() -> None:
    agent = CreateAgent("demo", config={"seed": 1})
    agent.get_configs()["config"]["seed"] = 2
    assert agent.get_configs()["config"] == {"seed": 1}


def test_agents_without_a_name_get_one_each() -> None:
    first, second = CreateAgent("demo"), CreateAgent("demo")
    assert first.name != second.name
    assert first.name.startswith("agent-")


def test_tools_are_listed_with_their_descriptions() -> None:
    agent = CreateAgent("demo", tools=[rows])
    system = agent.get_system_available_tools()
    assert set(system) == {"currentdate", "readlocalfile"}
    assert all(system.values())
    assert agent.get_all_available_tools() == system | {"rows": "First rows of the table."}


def test_functions_classes_and_names_are_all_tools() -> None:
    class Dice(BaseTool):
        name = "dice"
        description = "Rolls a die."

        def execute(self) -> int:
            return 4

    def plain(city: str) -> str:
        """The weather of a city."""
        return city

    agent = CreateAgent("demo", tools=[Dice, plain, rows, "currentdate"])
    assert agent.get_configs()["tools"] == ["dice", "plain", "rows", "currentdate"]


@pytest.mark.asyncio
async def test_models_are_those_that_the_server_lists(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.on("/v1/models", json_reply({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}))
    assert await agent_at(server, recorder).models() == ["a", "b"]


# ── variants ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"provider": 5}, "provider must be a name, not 5"),
        ({"provider": dict}, "provider must be a name, not <class 'dict'>"),
        ({"model": 5}, "model must be a name, not 5"),
        ({"config": [1]}, "config must be a dict, not list"),
        ({"config": "x"}, "config must be a dict, not str"),
    ],
)
def test_a_variant_of_the_wrong_kind_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CreateAgent("demo").variant(**arguments)


def test_a_variant_with_its_own_provider_keeps_the_model() -> None:
    agent = CreateAgent("openai", "gpt-4o", api_key="key-of-a-test")
    assert agent.variant("openai").model == "gpt-4o"
    assert agent.variant(model="openai:gpt-4.1").model == "gpt-4.1"
    other = agent.variant(model="demo:demo-instant")
    assert (other.provider, other.model) == ("demo", "demo-instant")


def test_a_name_may_hold_provider_and_model() -> None:
    assert CreateAgent("demo", "demo:demo-instant").model == "demo-instant"
    both = CreateAgent("demo:demo-instant")
    assert (both.provider, both.model) == ("demo", "demo-instant")
    assert CreateAgent("ollama", "demo:latest").model == "demo:latest"  # a model's own colon


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_a_password_in_the_address_is_refused_and_not_shown(provider: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        CreateAgent(provider, "m", base_url="http://me:s3cret-pass@127.0.0.1:1/v1")
    assert "s3cret" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_variant_shares_history_and_metrics_and_leaves_the_agent_as_it_is(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder, name="base", config={"seed": 1})
    variant = agent.variant(model="other", tools=[rows], config={"temperature": 0.5})
    assert (variant.name, variant.model, variant.provider) == ("base", "other", "openai")
    assert variant.get_configs()["config"] == {"seed": 1, "temperature": 0.5}
    assert (agent.get_configs()["tools"], variant.get_configs()["tools"]) == ([], ["rows"])
    server.enqueue(says("one"))
    await (await agent.chat("q0"))
    server.enqueue(says("two"))
    await (await variant.chat("q1"))
    sent = server.requests[1].json
    assert [message["content"] for message in sent["messages"]] == ["q0", "one", "q1"]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("other", 0.5, 1)
    assert agent.history == variant.history
    assert agent.metrics["model"].tolist() == variant.metrics["model"].tolist() == ["m", "other"]


@pytest.mark.asyncio
async def test_a_variant_without_history_neither_sees_nor_leaves_any(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder)
    for question, asked in (("q0", agent), ("q1", agent.variant(keep_history=False)), ("q2", agent)):
        server.enqueue(says("fine"))
        await (await asked.chat(question))
    sent = [[message["content"] for message in request.json["messages"]] for request in server.requests]
    assert sent == [["q0"], ["q1"], ["q0", "fine", "q2"]]


@pytest.mark.asyncio
async def test_remote_images_are_off_unless_asked_for_and_reach_the_response(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    plain, with_images = agent_at(server, recorder), agent_at(server, recorder, remote_images=True)
    agents = (plain, with_images, with_images.variant(model="other"), with_images.variant("demo"))
    assert [agent.remote_images for agent in agents] == [False, True, True, True]
    for agent in agents[:3]:
        server.enqueue(says("![x](https://x.example/p.png)"))
        response = await agent.chat("hi")
        await response
        assert response.remote_images is agent.remote_images
        with pytest.raises(AttributeError):
            response.remote_images = True  # type: ignore[misc]


def test_a_variant_may_change_the_provider_and_replace_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool(name="rows")
    def other_rows() -> str:
        """Other rows."""
        return "none"

    agent = CreateAgent("openai", "gpt-4", api_key=KEY, tools=[rows, "currentdate"])
    assert (agent.variant(model="demo:demo-instant").provider, agent.variant("demo").model) == ("demo", "demo")
    replaced = agent.variant(tools=[other_rows])
    assert replaced.get_configs()["tools"] == ["currentdate", "rows"]
    assert replaced.get_all_available_tools()["rows"] == "Other rows."
    with pytest.raises(UnknownConfigKeyError):
        agent.variant(config={"nope": 1})
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(UnsupportedConfigError, match="num_ctx"):
        CreateAgent("ollama", "m", config={"num_ctx": 10}).variant("openai", "gpt-4")


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────


def _without_description(x: int) -> int:
    return x


def _two_of_one_name() -> list[Any]:
    return [rows, rows]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"name": 3}, ConfigurationError, "name must be a string, not int"),
        ({"instructions": ["Be brief"]}, ConfigurationError, "instructions must be a string, not list"),
        ({"base_url": 8080}, ConfigurationError, "base_url must be a string, not int"),
        ({"api_key": [KEY]}, ConfigurationError, "api_key must be a string, not list"),
        ({"timeout_s": 0}, ConfigurationError, "timeout_s must be a number of seconds above 0, not 0"),
        ({"timeout_s": float("nan")}, ConfigurationError, "timeout_s must be a number"),
        ({"timeout_s": "10"}, ConfigurationError, "timeout_s must be a number"),
        ({"timeout_s": True}, ConfigurationError, "timeout_s must be a number"),
        ({"remote_images": "no"}, ConfigurationError, "remote_images must be True or False, not 'no'"),
        ({"max_retries": -1}, ConfigurationError, "max_retries must be a whole number, 0 or more, not -1"),
        ({"max_retries": 1.5}, ConfigurationError, "max_retries must be a whole number"),
        ({"max_tool_rounds": -1}, ConfigurationError, "max_tool_rounds must be a whole number"),
        ({"history_max_size": -1}, ConfigurationError, "history_max_size must be a whole number, 0 or more"),
        ({"config": {"temprature": 1}}, UnknownConfigKeyError, "did you mean 'temperature'"),
        ({"tools": "currentdate"}, InvalidToolError, "tools must be a list"),
        ({"tools": ""}, InvalidToolError, "tools must be a list"),
        ({"tools": 3}, InvalidToolError, "tools must be a list"),
        ({"tools": rows}, InvalidToolError, "tools must be a list"),
        ({"tools": ["currentdat"]}, UnknownToolError, "available: currentdate, readlocalfile"),
        ({"tools": [_without_description]}, InvalidToolError, "has no description"),
        ({"tools": _two_of_one_name()}, InvalidToolError, "Two tools are called 'rows'"),
        ({"tools": [42]}, InvalidToolError, "not of 42"),
    ],
)
def test_a_wrong_argument_is_a_short_typed_error_and_nothing_is_sent(
    server: ScriptedServer, arguments: dict[str, Any], kind: type[CreateAgentsError], words: str
) -> None:
    with pytest.raises(kind) as raised:
        CreateAgent("openai", "m", **{"api_key": KEY, "base_url": server.openai_url} | arguments)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert len(str(raised.value)) < 400
    assert KEY not in str(raised.value)
    assert server.requests == []


@pytest.mark.asyncio
@pytest.mark.parametrize("make", [lambda url: {"base_url": url}, lambda url: {"base_url": url, "api_key": KEY}])
async def test_a_server_that_is_not_there_is_one_error_in_the_response(
    recorder: MetricsRecorder, make: Callable[[str], dict[str, Any]]
) -> None:
    agent = CreateAgent("openai", "m", recorder=recorder, max_retries=0, **make("http://127.0.0.1:1/v1"))
    response = await agent.chat("hi")
    with pytest.raises(CreateAgentsError, match="cannot be reached"):
        await response
    assert agent.metrics["status"].tolist() == ["error"]


@pytest.mark.asyncio
async def test_an_ollama_that_does_not_run_says_how_to_start_it(recorder: MetricsRecorder) -> None:
    agent = CreateAgent("ollama", "llama3.2", recorder=recorder, max_retries=0)
    response = await agent.chat("hi")
    with pytest.raises(CreateAgentsError, match="`ollama serve`"):
        await response
    assert [message.role for message in agent.history] == ["user", "assistant"]


@pytest.mark.asyncio
async def test_a_page_in_place_of_an_api_is_an_error_that_says_where_to_look(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(Reply([b"<html>hello</html>"], headers={"content-type": "text/html"}))
    response = await agent_at(server, recorder).chat("hi")
    with pytest.raises(CreateAgentsError, match="base_url"):
        await response


def test_an_agent_that_was_not_made_has_a_repr() -> None:
    with pytest.raises(ConfigurationError) as refused:
        CreateAgent("demo", timeout_s=-1)
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert "<CreateAgent, not made>" in "".join(frames.format())
    assert repr(object.__new__(CreateAgent)) == "<CreateAgent, not made>"
