"""The demo provider end to end: both wire formats, both SDKs, real HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import pytest
import pytest_asyncio
from family import run_script
from pydantic import Field

from createagents_nb import (
    CreateAgent,
    LoggingConfig,
    MetricsRecorder,
    OllamaChatAdapter,
    OllamaHandler,
    OllamaStreamHandler,
    OpenAIChatAdapter,
    OpenAIHandler,
    OpenAIStreamHandler,
    demo,
    tool,
)
from createagents_nb.agent.agent import Agent
from createagents_nb.core.events import Reasoning, ToolCallFinished, ToolCallRequested
from createagents_nb.errors import ModelNotFoundError

Make = Callable[..., CreateAgent]


@tool
def rows(limit: int = 5) -> str:
    """First rows of the table.

    Args:
        limit: how many rows
    """
    return "\n".join(f"row {number}" for number in range(limit))


@tool
async def weather(city: str) -> str:
    """Current weather of a city.

    Args:
        city: name of the city
    """
    return f"sunny in {city}"


@tool
def fails() -> str:
    """Launches the rocket."""
    raise RuntimeError("no fuel")


@pytest.fixture(params=["demo", "openai", "ollama"])
def make(request: pytest.FixtureRequest, recorder: MetricsRecorder) -> Make:
    """Agents on the demo server: as the demo provider, and by each wire format."""
    server = demo.start()
    options: dict[str, Any] = {
        "demo": {},
        "openai": {"base_url": server.openai_url},
        "ollama": {"base_url": server.ollama_url},
    }[request.param]

    def make(model: str = "demo-instant", **more: Any) -> CreateAgent:
        return CreateAgent(request.param, model, recorder=recorder, **options, **more)

    return make


# ── agents ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_an_answer_streams_in_pieces_and_says_that_no_model_made_it(make: Make) -> None:
    response = await make().chat("Tell me a story")
    pieces = [piece async for piece in response]
    assert len(pieces) > 20
    assert await response == "".join(pieces)
    assert "canned" in await response
    assert (response.status, response.finish_reason) == ("ok", "stop")


@pytest.mark.asyncio
async def test_buffered_and_streamed_answers_are_the_same_text(make: Make) -> None:
    streamed = await make().chat("Show me some code")
    buffered = await make(config={"stream": False}).chat("Show me some code")
    assert await buffered == await streamed
    assert len([piece async for piece in buffered]) == 1
    assert buffered.usage == streamed.usage


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_that_is_asked_for_really_runs(make: Make, stream: bool) -> None:
    agent = make(tools=[rows, weather], config={"stream": stream})
    response = await agent.chat("Show the first 3 rows of the table")
    assert "row 2" in await response
    (record,) = response.tools
    assert (record.tool, record.status, record.result) == ("rows", "ok", "row 0\nrow 1\nrow 2")
    assert response.record.rounds == 2
    assert agent.tool_calls["tool"].tolist() == ["rows"]


@pytest.mark.asyncio
async def test_several_tools_at_once(make: Make) -> None:
    response = await make(tools=[rows, weather]).chat("What is the weather in Lisbon and Porto? Show 2 rows too")
    text = await response
    assert {record.result for record in response.tools} == {"sunny in Lisbon", "sunny in Porto", "row 0\nrow 1"}
    assert {record.round for record in response.tools} == {1}
    assert "sunny in Porto" in text


@pytest.mark.asyncio
async def test_several_rounds(make: Make) -> None:
    response = await make(tools=[rows, weather]).chat("Show 2 rows, then what is the weather in Lisbon?")
    text = await response
    assert [(record.tool, record.round) for record in response.tools] == [("rows", 1), ("weather", 2)]
    assert "row 1" in text
    assert "sunny in Lisbon" in text
    assert [request.finish_reason for request in response.requests][-1] == "stop"


@pytest.mark.asyncio
async def test_a_tool_that_fails_is_told_to_the_model_which_says_so(make: Make) -> None:
    response = await make(tools=[fails]).chat("Launch the rocket")
    assert "no fuel" in await response
    assert [record.status for record in response.tools] == ["error"]
    assert response.status == "ok"


@pytest.mark.asyncio
async def test_a_built_in_tool_by_name(make: Make) -> None:
    response = await make(tools=["currentdate"]).chat("What is the date in Tokyo now?")
    assert await response
    assert [(record.tool, record.status) for record in response.tools] == [("currentdate", "ok")]


@pytest.mark.asyncio
async def test_usage_and_timings_are_recorded(make: Make) -> None:
    agent = make(tools=[rows])
    await (await agent.chat("Show 3 rows")).wait()
    (call,) = agent.metrics.to_dict("records")
    assert call["status"] == "ok"
    assert call["rounds"] == 2
    assert call["tool_calls"] == 1
    assert call["input_tokens"] > 0
    assert call["output_tokens"] > 0
    assert 0 < call["ttft_s"] < call["latency_s"]


@pytest.mark.asyncio
async def test_earlier_turns_are_sent_along(make: Make) -> None:
    agent = make()
    await (await agent.chat("My favourite bird is the heron")).wait()
    assert "heron" in await (await agent.chat("What did I ask before?"))
    agent.clear_history()
    assert "heron" not in await (await agent.chat("What did I ask before?"))


@pytest.mark.asyncio
async def test_gathered_chats_each_get_their_own_answer(make: Make) -> None:
    agent = make()
    responses = await asyncio.gather(*(agent.chat(f"question number {number}") for number in range(5)))
    for number, text in enumerate(await asyncio.gather(*responses)):
        assert f"question number {number}" in text
    assert len(agent.history) == 10


@pytest.mark.asyncio
async def test_reasoning_comes_as_events_and_not_as_text(make: Make) -> None:
    response = await make("demo-thinking").chat("Tell me a story")
    async for event in response.events():
        if isinstance(event, Reasoning):
            break
    else:
        pytest.fail("no reasoning arrived")
    assert response.text == ""
    await response.aclose()


@pytest.mark.asyncio
async def test_stopping_in_mid_stream_keeps_the_text_and_the_next_turn_works(make: Make) -> None:
    agent = make("demo")
    response = await agent.chat("Tell me a story")
    async for _ in response:
        response.cancel()
    assert response.status == "cancelled"
    assert response.text
    assert await (await agent.variant(model="demo-instant").chat("and now?"))
    assert agent.metrics["status"].tolist() == ["cancelled", "ok"]


@pytest.mark.asyncio
async def test_an_unknown_model_is_an_error_that_lists_those_that_exist(make: Make) -> None:
    response = await make("gpt-99").chat("hello")
    with pytest.raises(ModelNotFoundError) as raised:
        await response
    assert all(name in str(raised.value) for name in ("'gpt-99'", "demo", "demo-instant", "demo-thinking"))
    assert raised.value.status_code == 404


@pytest.mark.asyncio
async def test_models_are_listed(make: Make) -> None:
    names = {name.removesuffix(":latest") for name in await make().models()}
    assert names == {"demo", "demo-instant", "demo-thinking"}


@pytest.mark.asyncio
async def test_the_events_of_a_tool_carry_its_result(make: Make) -> None:
    response = await make(tools=[rows]).chat("Show 1 row")
    events = [event async for event in response.events()]
    (asked,) = [event for event in events if isinstance(event, ToolCallRequested)]
    (ran,) = [event for event in events if isinstance(event, ToolCallFinished)]
    assert asked.tool_call_id == ran.tool_call_id
    assert ran.result == "row 0"


# ── the guide's entry points, with clients of one's own ──────────────────────────────────────────────

MESSAGES = [{"role": "user", "content": "Show me a table"}]


@pytest_asyncio.fixture
async def openai_client() -> AsyncIterator[Any]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=demo.start().openai_url, api_key="any", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def ollama_client() -> AsyncIterator[Any]:
    from ollama import AsyncClient

    async with AsyncClient(host=demo.start().ollama_url) as client:
        yield client


async def check_handlers(streamed: Any, buffered: Any, client: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    pieces = [piece async for piece in streamed.handle_streaming(client, "demo-instant", messages)]
    assert len(pieces) > 5
    assert all(type(piece) is str for piece in pieces)
    text = await buffered.handle_non_streaming(client, model="demo-instant", messages=messages)
    assert text == "".join(pieces)
    assert "|" in text


async def check_handler_errors(streamed: Any, buffered: Any, client: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="demo-instant"):
        await buffered.handle_non_streaming(client, "gpt-99", MESSAGES)
    stream = streamed.handle_streaming(client, "gpt-99", MESSAGES)
    with pytest.raises(ModelNotFoundError, match="demo-instant"):
        await anext(stream)


@pytest.mark.asyncio
async def test_openais_handlers_with_the_sdks_own_client(openai_client: Any) -> None:
    await check_handlers(OpenAIStreamHandler(), OpenAIHandler(), openai_client, MESSAGES)
    await check_handler_errors(OpenAIStreamHandler(), OpenAIHandler(), openai_client)


@pytest.mark.asyncio
async def test_ollamas_handlers_with_the_sdks_own_client(ollama_client: Any) -> None:
    await check_handlers(OllamaStreamHandler(), OllamaHandler(), ollama_client, MESSAGES)
    await check_handler_errors(OllamaStreamHandler(), OllamaHandler(), ollama_client)


@pytest.mark.asyncio
async def test_handlers_pass_further_options_to_the_server(openai_client: Any, ollama_client: Any) -> None:
    whole = await OpenAIHandler().handle_non_streaming(openai_client, "demo-instant", MESSAGES)
    short = await OpenAIHandler().handle_non_streaming(openai_client, "demo-instant", MESSAGES, max_tokens=5)
    assert whole.startswith(short)
    assert len(short) < len(whole)
    options = {"num_predict": 5}
    short = await OllamaHandler().handle_non_streaming(ollama_client, "demo-instant", MESSAGES, options=options)
    assert whole.startswith(short)
    assert len(short) < len(whole)


@pytest.mark.asyncio
async def test_leaving_a_handlers_stream_early_leaves_the_client_usable(
    openai_client: Any, ollama_client: Any
) -> None:
    for handler, client in ((OpenAIStreamHandler(), openai_client), (OllamaStreamHandler(), ollama_client)):
        async with aclosing(handler.handle_streaming(client, "demo", MESSAGES)) as stream:
            assert await anext(stream)
        assert [piece async for piece in handler.handle_streaming(client, "demo-instant", MESSAGES)]


@pytest.mark.asyncio
@pytest.mark.parametrize("wire", ["openai", "ollama"])
async def test_the_chat_of_an_adapter_is_a_whole_turn_with_tools(wire: str) -> None:
    server = demo.start()
    if wire == "openai":
        adapter: Any = OpenAIChatAdapter(base_url=server.openai_url)
    else:
        adapter = OllamaChatAdapter(base_url=server.ollama_url)
    agent = Agent(name="helper", model="demo-instant", tools=(rows,))
    pieces = [piece async for piece in adapter.chat(agent, "Show 2 rows")]
    assert len(pieces) > 1
    assert "row 1" in "".join(pieces)
    assert [message.role for message in agent.history.messages] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.asyncio
async def test_a_handler_of_ones_own_records_its_metrics(openai_client: Any) -> None:
    """As the guide writes it: a logger, a recorder around a list, success and error recorded by hand."""

    class Handler:
        def __init__(self, metrics_list: list[dict[str, Any]]) -> None:
            self._logger = LoggingConfig.get_logger(__name__)
            self.metrics = MetricsRecorder(metrics_list)

        async def handle_streaming(self, client: Any, model: str) -> AsyncIterator[str]:
            start_time = time.time()
            full_response = ""
            try:
                async for token in OpenAIStreamHandler().handle_streaming(client, model, MESSAGES):
                    full_response += token
                    yield token
                self.metrics.record_success_metrics(
                    model=model, start_time=start_time, response_api=full_response, provider_type="openai"
                )
            except Exception as error:
                self._logger.info("failed: %s", error)
                self.metrics.record_error_metrics(model=model, start_time=start_time, error=error)
                raise

    metrics_list: list[dict[str, Any]] = []
    handler = Handler(metrics_list)
    text = "".join([token async for token in handler.handle_streaming(openai_client, "demo-instant")])
    with pytest.raises(ModelNotFoundError):
        await anext(handler.handle_streaming(openai_client, "gpt-99"))
    assert [entry["status"] for entry in metrics_list] == ["ok", "error"]
    assert handler.metrics.calls["response"].tolist()[0] == text
    assert handler.metrics.calls["error_type"].tolist()[1] == "ModelNotFoundError"


def test_script_of_the_readme_runs_as_it_is_pasted() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (script,) = [block for block in blocks if "asyncio.run(main())" in block]
    done = run_script(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Demo provider" in done.stdout


@pytest.mark.asyncio
async def test_the_demo_fills_in_tuples_and_keeps_to_constraints_that_other_servers_are_only_told() -> None:
    seen: list[Any] = []

    @tool
    def window(rows: tuple[int, int], share: Annotated[float, Field(gt=0, multiple_of=0.5)]) -> str:
        """Looks at a window of rows."""
        seen.append((rows, share))
        return "ok"

    await (await CreateAgent("demo", tools=[window]).chat("Look at the window of rows 3 to 9"))
    ((rows, share),) = seen
    assert rows == (3, 9)
    assert share > 0
    assert share % 0.5 == 0
