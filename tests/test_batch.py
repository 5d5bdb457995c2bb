"""`CreateAgent.map` over real HTTP: alignment, limits, failures, stopping, resuming."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from echo_server import EchoServer, Refusal
from family import eventually

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import (
    BudgetExceededError,
    ConfigurationError,
    InvalidMessageError,
    RateLimitError,
    ServerError,
)

COLUMNS = [
    "answer",
    "status",
    "error",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_s",
    "call_id",
    "finish_reason",
]
BROKEN = (500, {"retry-after-ms": "1"})
REFUSED = (429, {"retry-after": "0"})


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as running:
        yield running


def agent_at(server: EchoServer, recorder: MetricsRecorder | None = None, **more: Any) -> CreateAgent:
    options: dict[str, Any] = {"base_url": server.url, "max_retries": 0, "recorder": recorder or MetricsRecorder()}
    return CreateAgent("openai", "m", **options | more)


async def mapped(agent: CreateAgent, data: Any, template: str | None = None, **options: Any) -> pd.DataFrame:
    return await agent.map(data, template, **{"progress": False, **options})


def fails_at(*prompts: str, with_: Refusal = BROKEN) -> Any:
    return lambda prompt, times: with_ if prompt in prompts else None


def nothing_runs() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_answers_come_back_with_the_index_of_the_data(server: EchoServer, recorder: MetricsRecorder) -> None:
    recorder.set_price("m", input_usd=1e6, output_usd=2e6)
    questions = pd.Series(["one", "two", "three"], index=[7, 7, 2], name="question")
    frame = await mapped(agent_at(server, recorder), questions)
    assert frame.columns.tolist() == COLUMNS
    assert frame.index.equals(questions.index)
    assert frame["answer"].tolist() == ["echo one", "echo two", "echo three"]
    assert frame["status"].tolist() == ["ok"] * 3
    assert frame["error"].isna().all()
    assert (frame["input_tokens"].tolist(), frame["output_tokens"].tolist()) == ([3] * 3, [4] * 3)
    assert frame["cost_usd"].tolist() == [11.0] * 3
    assert (frame["latency_s"] > 0).all()
    calls = recorder.calls.set_index("call_id").loc[frame["call_id"]]
    assert calls["prompt"].tolist() == ["one", "two", "three"]
    assert calls["latency_s"].tolist() == frame["latency_s"].tolist()


@pytest.mark.asyncio
async def test_a_template_asks_about_each_row(server: EchoServer) -> None:
    df = pd.DataFrame({"review": ["good", "bad"], "stars": [5, 1]}, index=pd.Index(["a", "b"], name="id"))
    frame = await mapped(agent_at(server), df, 'Is {{review}} {"stars": {{stars}}}?')
    assert frame["answer"].tolist() == ['echo Is good {"stars": 5}?', 'echo Is bad {"stars": 1}?']
    assert df.join(frame)["answer"].notna().all()
    with pytest.raises(ConfigurationError, match="Known: review, stars"):
        await mapped(agent_at(server), df, "{{text}}")
    assert len(server.prompts) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [[], pd.Series([], dtype="string"), np.array([])])
async def test_no_rows_make_an_empty_frame_of_the_same_dtypes(server: EchoServer, data: Any) -> None:
    agent = agent_at(server)
    empty, one = await mapped(agent, data), await mapped(agent, ["one"])
    assert (len(empty), empty.dtypes.to_dict()) == (0, one.dtypes.to_dict())
    assert server.prompts == ["one"]


@pytest.mark.asyncio
async def test_rows_know_the_instructions_and_nothing_else(server: EchoServer) -> None:
    agent = agent_at(server, instructions="Be brief.")
    await (await agent.chat("before"))
    past = agent.history
    await mapped(agent, ["one", "two"], concurrency=1)
    assert agent.history == past
    for body, prompt in zip(server.bodies[1:], ["one", "two"], strict=True):
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": prompt},
        ]
    assert len(agent.metrics) == 3


@pytest.mark.asyncio
async def test_rows_use_tools(server: EchoServer, recorder: MetricsRecorder) -> None:
    seen = []

    @tool
    def look() -> str:
        """Looks."""
        seen.append(1)
        return f"look {len(seen)}"

    agent = agent_at(server, recorder, tools=[look])
    frame = await mapped(agent, ["use it", "do not"], concurrency=1)
    assert frame["answer"].tolist() == ["echo look 1", "echo do not"]
    assert frame["input_tokens"].tolist() == [6, 3]
    assert recorder.tools["call_id"].tolist() == [frame["call_id"].iloc[0]]
    assert len(agent.tool_calls) == 1


@pytest.mark.asyncio
async def test_a_row_that_reaches_a_limit_has_no_answer(server: EchoServer) -> None:
    def look() -> str:
        """Looks."""
        return "seen"

    agent = agent_at(server, tools=[look], max_tool_rounds=0)
    frame = await mapped(agent, ["use it", "one"], on_error="stop")
    assert frame["status"].tolist() == ["limit", "ok"]
    assert frame["answer"].isna().tolist() == [True, False]


@pytest.mark.asyncio
async def test_what_is_done_to_the_frame_is_not_done_to_the_last_map(server: EchoServer) -> None:
    agent = agent_at(server)
    frame = await mapped(agent, ["one"])
    frame["more"] = 1
    assert agent.last_map is not None
    assert agent.last_map.columns.tolist() == COLUMNS
    variant = agent.variant(config={"temperature": 0})
    assert variant.last_map is None
    assert (await mapped(variant, ["two"]))["answer"].tolist() == ["echo two"]
    assert server.bodies[-1]["temperature"] == 0


@pytest.mark.asyncio
async def test_as_many_rows_run_as_were_asked_for_and_no_more(server: EchoServer) -> None:
    running = asyncio.create_task(mapped(agent_at(server), [f"held {n}" for n in range(10)], concurrency=3))
    await eventually(lambda: server.in_flight == 3)
    server.release()
    assert (await running)["status"].eq("ok").all()
    assert server.most_in_flight == 3
    assert sorted(server.prompts) == [f"held {n}" for n in range(10)]


@pytest.mark.asyncio
async def test_two_thousand_rows_take_no_task_each(server: EchoServer) -> None:
    prompts = [f"row {n}" for n in range(2_000)]
    running = asyncio.create_task(mapped(agent_at(server), prompts, concurrency=8))
    most = 0
    while not running.done():
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0.01)
    assert running.result()["answer"].tolist() == [f"echo {prompt}" for prompt in prompts]
    assert server.most_in_flight <= 8
    assert most < 60
    assert nothing_runs()


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_row_that_fails_does_not_stop_the_others(server: EchoServer, recorder: MetricsRecorder) -> None:
    server.refuse = fails_at("two")
    frame = await mapped(agent_at(server, recorder), ["one", None, "two", " ", "three"], concurrency=2)
    assert frame["status"].tolist() == ["ok", "error", "error", "error", "ok"]
    assert frame["answer"].isna().tolist() == [False, True, True, True, False]
    assert frame["error"].iloc[1] == "InvalidMessageError: There is no prompt in this row (NA)"
    assert re.match(r"ServerError: .*500: no two", frame["error"].iloc[2])
    assert frame["call_id"].isna().tolist() == [False, True, False, True, False]
    assert sorted(server.prompts) == ["one", "three", "two"]
    assert recorder.calls["status"].value_counts()["error"] == 1


@pytest.mark.asyncio
async def test_the_first_failure_stops_the_rest_if_asked_to(server: EchoServer) -> None:
    server.refuse = fails_at("two")
    agent = agent_at(server)
    assert agent.last_map is None
    data = pd.Series(["one", "held", "two", "three"], index=list("abcd"))
    with pytest.raises(ServerError, match="no two") as raised:
        await mapped(agent, data, concurrency=2, on_error="stop")
    (note,) = raised.value.__notes__
    assert "'c'" in note
    assert note in raised.value._render_traceback_()
    last = agent.last_map
    assert last is not None
    assert last["status"].tolist() == ["ok", "cancelled", "error", "not run"]
    assert last["answer"].iloc[0] == "echo one"
    assert nothing_runs()
    await eventually(lambda: server.in_flight == 0)


@pytest.mark.asyncio
async def test_a_row_without_a_prompt_stops_the_batch_before_anything_is_sent(server: EchoServer) -> None:
    agent = agent_at(server)
    with pytest.raises(InvalidMessageError, match="NA"):
        await mapped(agent, ["one", None], on_error="stop")
    assert server.prompts == []
    assert agent.last_map is not None
    assert agent.last_map["status"].tolist() == ["not run", "error"]


@pytest.mark.asyncio
async def test_what_may_pass_is_sent_again_as_often_as_a_chat_would(
    server: EchoServer, recorder: MetricsRecorder
) -> None:
    server.refuse = lambda prompt, times: BROKEN if times < 3 else None
    agent = agent_at(server, recorder, max_retries=2)
    assert (await mapped(agent, ["one"]))["status"].tolist() == ["ok"]
    assert recorder.requests["retries"].tolist() == [2]
    server.refuse = lambda prompt, times: BROKEN
    assert (await mapped(agent, ["two"]))["status"].tolist() == ["error"]
    assert server.prompts == ["one"] * 3 + ["two"] * 3
    server.refuse = lambda prompt, times: (400, {})
    assert (await mapped(agent, ["three"]))["status"].tolist() == ["error"]
    assert server.prompts[6:] == ["three"]


@pytest.mark.asyncio
async def test_a_batch_ends_when_the_budget_is_spent(server: EchoServer, recorder: MetricsRecorder) -> None:
    recorder.budget(calls=3)
    frame = await mapped(agent_at(server, recorder), ["one"] * 6, concurrency=1)
    assert frame["status"].tolist() == ["ok"] * 3 + ["error"] + ["not run"] * 2
    assert frame["error"].iloc[3:].str.contains("BudgetExceededError: The budget is spent").all()
    assert len(server.prompts) == 3
    with pytest.raises(BudgetExceededError):
        await mapped(agent_at(server, recorder), ["one"], on_error="stop")


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_row_that_is_refused_is_sent_again(server: EchoServer, recorder: MetricsRecorder) -> None:
    server.refuse = lambda prompt, times: REFUSED if times <= 3 else None
    frame = await mapped(agent_at(server, recorder), ["one", "two"], concurrency=1)
    assert frame["answer"].tolist() == ["echo one", "echo two"]
    assert server.prompts == ["one"] * 4 + ["two"] * 4
    assert recorder.calls["status"].tolist() == ["ok", "ok"]
    assert recorder.requests["retries"].tolist() == [3, 3]


@pytest.mark.asyncio
async def test_a_refusal_in_the_middle_of_a_turn_runs_no_tool_twice(server: EchoServer) -> None:
    seen = []

    @tool
    def look() -> str:
        """Looks."""
        seen.append(1)
        return "seen"

    server.refuse = lambda prompt, times: REFUSED if times == 2 else None
    frame = await mapped(agent_at(server, tools=[look]), ["use it"])
    assert frame["answer"].tolist() == ["echo seen"]
    assert (len(seen), len(server.prompts)) == (1, 3)


@pytest.mark.asyncio
async def test_a_quota_that_is_used_up_ends_the_batch(server: EchoServer, recorder: MetricsRecorder) -> None:
    server.refuse = lambda prompt, times: REFUSED
    agent = agent_at(server, recorder)
    frame = await mapped(agent, ["one", "two", "three"], concurrency=1)
    assert frame["status"].tolist() == ["error", "not run", "not run"]
    assert frame["error"].str.contains("RateLimitError").all()
    assert server.prompts == ["one"] * 8
    with pytest.raises(RateLimitError):
        await mapped(agent, ["four"], on_error="stop")


@pytest.mark.asyncio
async def test_rates_hold_for_requests_and_tokens(server: EchoServer) -> None:
    frame = await mapped(agent_at(server), [f"row {n}" for n in range(20)], rpm=60_000, tpm=10_000_000)
    assert frame["status"].eq("ok").all()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number, 1 or more"),
        ({"concurrency": True}, "concurrency must be"),
        ({"concurrency": 2.5}, "concurrency must be"),
        ({"rpm": 0}, "rpm must be requests a minute, a number above 0"),
        ({"rpm": float("nan")}, "rpm must be"),
        ({"tpm": "many"}, "tpm must be tokens a minute"),
        ({"on_error": "raise"}, "on_error must be 'keep'"),
        ({"resume": 1}, "resume must be True or False"),
        ({"progress": None}, "progress must be True or False"),
        ({"client": "localhost"}, "client must be a connected dask"),
    ],
)
async def test_an_option_that_cannot_be_is_said_before_anything_is_sent(
    server: EchoServer, option: dict[str, Any], words: str
) -> None:
    agent = agent_at(server)
    with pytest.raises(ConfigurationError, match=words):
        await mapped(agent, ["one"], **option)
    assert server.prompts == []
    assert agent.last_map is None


@pytest.mark.asyncio
async def test_numbers_of_numpy_are_numbers(server: EchoServer) -> None:
    frame = await mapped(agent_at(server), ["one"], concurrency=np.int64(2), rpm=np.float32(1e6))
    assert frame["status"].tolist() == ["ok"]


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────


async def in_the_middle(server: EchoServer, agent: CreateAgent) -> asyncio.Task[pd.DataFrame]:
    """A batch that has answered one row, waits for two, and has not begun the last."""
    prompts = ["one", "held 1", "held 2", "later"]
    running = asyncio.create_task(mapped(agent, prompts, concurrency=2))
    await eventually(lambda: len(server.prompts) == 3 and server.in_flight == 2)
    return running


@pytest.mark.asyncio
async def test_a_batch_that_is_stopped_keeps_what_is_done(server: EchoServer, recorder: MetricsRecorder) -> None:
    agent = agent_at(server, recorder)
    running = await in_the_middle(server, agent)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await running
    assert "stopped by the user" in raised.value._render_traceback_()[0]  # type: ignore[attr-defined]
    assert agent.last_map is not None
    assert agent.last_map["status"].tolist() == ["ok", "cancelled", "cancelled", "not run"]
    assert agent.last_map["answer"].notna().tolist() == [True, False, False, False]
    assert recorder.calls["status"].tolist() == ["ok", "cancelled", "cancelled"]
    assert nothing_runs()
    await eventually(lambda: server.in_flight == 0)
    server.release()
    assert (await mapped(agent, ["again"]))["status"].tolist() == ["ok"]


@pytest.mark.asyncio
async def test_a_batch_that_is_stopped_twice_waits_for_its_rows_all_the_same(server: EchoServer) -> None:
    agent = agent_at(server)
    running = await in_the_middle(server, agent)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert agent.last_map is not None
    assert agent.last_map["status"].tolist() == ["ok", "cancelled", "cancelled", "not run"]
    assert agent.last_map["call_id"].notna().tolist() == [True, True, True, False]
    assert nothing_runs()


@pytest.mark.asyncio
async def test_closing_the_agent_ends_its_batches(server: EchoServer) -> None:
    agent = agent_at(server)
    running = await in_the_middle(server, agent)
    await agent.aclose()
    frame = await running
    assert frame["status"].tolist() == ["ok", "cancelled", "cancelled", "not run"]
    assert nothing_runs()


@pytest.mark.asyncio
async def test_two_batches_of_one_agent_run_side_by_side(server: EchoServer) -> None:
    agent = agent_at(server)
    first, second = await asyncio.gather(mapped(agent, ["a", "b"]), mapped(agent, ["c"]))
    assert first["answer"].tolist() == ["echo a", "echo b"]
    assert second["answer"].tolist() == ["echo c"]


# ── resuming ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_rows_that_were_answered_are_not_sent_again(server: EchoServer, recorder: MetricsRecorder) -> None:
    recorder.set_price("m", input_usd=1e6, output_usd=2e6)
    server.refuse = lambda prompt, times: BROKEN if prompt == "two" and times == 1 else None
    agent = agent_at(server, recorder)
    first = await mapped(agent, ["one", "two", "three"])
    second = await mapped(agent, pd.Series(["three", "two", "one"], index=list("cba")), resume=True)
    assert server.prompts.count("two") == 2
    assert len(server.prompts) == 4
    assert second["answer"].tolist() == ["echo three", "echo two", "echo one"]
    assert second["status"].tolist() == ["ok"] * 3
    pd.testing.assert_series_equal(second.loc["a"], first.iloc[0], check_names=False)
    assert len(recorder.calls) == 4


@pytest.mark.asyncio
async def test_rows_are_resumed_from_a_file(server: EchoServer, recorder: MetricsRecorder, tmp_path: Path) -> None:
    recorder.persist(tmp_path / "runs.db")
    before = await mapped(agent_at(server, recorder), ["one", "two"])
    recorder.persist(None)
    again = agent_at(server, MetricsRecorder.open(tmp_path / "runs.db"))
    after = await mapped(again, ["one", "two", "three"], resume=True)
    assert sorted(server.prompts) == ["one", "three", "two"]
    assert after["call_id"].tolist()[:2] == before["call_id"].tolist()


@pytest.mark.asyncio
async def test_a_prompt_that_is_asked_several_times_is_answered_as_often(
    server: EchoServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder)
    first = await mapped(agent, ["same"] * 3)
    second = await mapped(agent, ["same"] * 5, resume=True)
    assert len(server.prompts) == 5
    assert second["call_id"].is_unique
    assert set(first["call_id"]) < set(second["call_id"])


@pytest.mark.asyncio
async def test_only_the_same_model_and_a_given_name_count(server: EchoServer, recorder: MetricsRecorder) -> None:
    await mapped(agent_at(server, recorder), ["one"])
    other = CreateAgent("openai", "other", base_url=server.url, recorder=recorder)
    await mapped(other, ["one"], resume=True)
    assert len(server.prompts) == 2
    await mapped(agent_at(server, recorder), ["one"], resume=True)
    assert len(server.prompts) == 2
    await mapped(agent_at(server, recorder, name="reviewer"), ["one"], resume=True)
    assert len(server.prompts) == 3


@pytest.mark.asyncio
async def test_what_was_changed_when_it_was_kept_is_asked_again(server: EchoServer) -> None:
    recorder = MetricsRecorder(redact=lambda text: text.replace("Ada", "***"))
    agent = agent_at(server, recorder)
    for resume in (False, True):
        await mapped(agent, ["who is Ada", "who is ***"], resume=resume, concurrency=1)
    assert server.prompts == ["who is Ada", "who is ***", "who is Ada"]


@pytest.mark.asyncio
async def test_without_prompts_there_is_nothing_to_resume_from(server: EchoServer) -> None:
    agent = agent_at(server, MetricsRecorder(record_content=False))
    with pytest.raises(ConfigurationError, match="record_content=False"):
        await mapped(agent, ["one"], resume=True)
    recorder = MetricsRecorder(redact=lambda text: None)  # type: ignore[arg-type, return-value]
    agent = agent_at(server, recorder)
    await mapped(agent, ["one"])
    with pytest.raises(ConfigurationError, match="has kept none"):
        await mapped(agent, ["one"], resume=True)
    assert server.prompts == ["one"]


# ── the bar ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_bar_counts_rows_and_failures(server: EchoServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.refuse = fails_at("two")
    agent = agent_at(server)
    await agent.map(["one", "two", None])
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "2 failed" in shown
    await agent.map(["one"], progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.asyncio
async def test_the_bar_says_what_everybody_waits_for(
    server: EchoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refuse = lambda prompt, times: (429, {"retry-after": "1"}) if times == 1 else None
    await agent_at(server).map(["one"])
    assert "refused (429), again in 1 s" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_a_server_that_failed_and_asks_for_an_hour_is_not_waited_for(server: EchoServer) -> None:
    server.refuse = fails_at("one", with_=(503, {"retry-after": "3600"}))
    frame = await mapped(agent_at(server, max_retries=2), ["one", "two"])
    assert frame["status"].tolist() == ["error", "ok"]


class _BrokenPipe:
    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads this")

    def flush(self) -> None:
        raise BrokenPipeError("nobody reads this")


@pytest.mark.asyncio
async def test_a_progress_bar_that_fails_loses_no_row(server: EchoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", _BrokenPipe())
    frame = await mapped(agent_at(server), ["one", "two", "three"], progress=True)
    assert frame["status"].tolist() == ["ok"] * 3
