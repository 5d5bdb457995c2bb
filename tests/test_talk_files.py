"""A conversation in a file: what is written, what is read back, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedServer, delta, png, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.agent.conversation import Conversation
from createagents_nb.agent.conversation_file import MAX_BYTES, write_conversation
from createagents_nb.builtin_tools import ReadLocalFileTool
from createagents_nb.core.events import ProviderDetails, ReplySource, ToolCallRequested
from createagents_nb.core.messages import FilePart, ImagePart, Message, TextPart, Turn
from createagents_nb.errors import (
    ConfigurationError,
    InvalidToolError,
    MissingKeyError,
    TalkFileError,
    UnknownConfigKeyError,
)

KEY = "sk-secret-0123456789abcdef"
PLAIN_KEY = "a key that looks like none"


@tool
def rows(limit: int = 5) -> str:
    """First rows of the table.

    Args:
        limit: how many rows
    """
    return f"{limit} rows"


@tool
def fails() -> None:
    """Fails."""
    raise LookupError("no")


def says(*texts: str) -> list[bytes]:
    return sse(*(delta(text) for text in texts), delta(finish="stop"))


def asks_for(name: str, arguments: str = "{}", call_id: str = "c1") -> list[bytes]:
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return sse(delta(tool_calls=[call]), delta(finish="tool_calls"))


def agent_at(server: ScriptedServer, **more: Any) -> CreateAgent:
    options: dict[str, Any] = {
        "base_url": server.openai_url,
        "api_key": KEY,
        "recorder": MetricsRecorder(),
        "max_retries": 0,
    }
    return CreateAgent("openai", "m", **options | more)


def demo(**more: Any) -> CreateAgent:
    return CreateAgent("demo", recorder=MetricsRecorder(), **more)


TALK: dict[str, Any] = {
    "format": "createagents-nb talk",
    "version": 1,
    "provider": "demo",
    "model": "demo-1",
    "name": "worker",
    "turns": [
        {
            "messages": [
                {"role": "user", "content": "q0"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": "c1", "name": "rows", "arguments": "{}"}],
                },
                {"role": "tool", "content": "5 rows", "tool_call_id": "c1", "name": "rows"},
                {"role": "assistant", "content": "a0"},
            ]
        },
        {"messages": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}]},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.json"


def saved(agent: CreateAgent, file: Path) -> str:
    """What stands in the file."""
    return agent.save(file).read_text("utf-8")


def written(file: Path, **changes: Any) -> Path:
    file.write_text(json.dumps(TALK | changes), "utf-8")
    return file


# ── there and back ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_talk_goes_on_where_it_was(server: ScriptedServer, file: Path) -> None:
    server.enqueue(asks_for("rows", '{"limit": 3}'))
    server.enqueue(says("Three: são ", "\u2028três 🎉."))
    agent = agent_at(
        server, name="worker", instructions="Be brief.", tools=[rows, "currentdate"], config={"seed": 1}
    )
    await (await agent.chat("Show 3 rows"))
    assert agent.save(file) == file

    recorder = MetricsRecorder()
    again = CreateAgent.load(file, tools=[rows], api_key=KEY, recorder=recorder, history_max_size=9)
    assert again.history == agent.history
    assert again.get_configs() == agent.get_configs() | {"history_max_size": 9}
    server.enqueue(says("Fine."))
    assert await (await again.chat("And now?")) == "Fine."
    request = server.requests[-1].json
    assert [message["role"] for message in request["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert [entry["function"]["name"] for entry in request["tools"]] == ["rows", "currentdate"]
    assert request["seed"] == 1
    assert len(recorder.calls) == 1
    assert [message.content for message in again.history][-2:] == ["And now?", "Fine."]


@pytest.mark.asyncio
async def test_what_is_saved_is_read_again_whatever_was_said(server: ScriptedServer, file: Path) -> None:
    odd = 'half \ud83d of it, \x00\x07\x1b[31m\x7f\x85\u202e\ufffe, {"}\\ \r\n'
    server.enqueue(sse(delta(odd), delta(finish="stop")))
    agent = agent_at(server)
    await (await agent.chat(odd))
    json.loads(saved(agent, file))
    again = CreateAgent.load(file, api_key=KEY)
    assert again.history == agent.history
    assert again.history[0].content == odd
    server.enqueue(says("fine"))
    assert await (await again.chat("next")) == "fine"


@pytest.mark.asyncio
async def test_how_a_turn_ended_is_kept(server: ScriptedServer, file: Path) -> None:
    hold = threading.Event()
    first, *rest = says("half an ans", "wer")
    server.enqueue([first, hold, *rest])
    agent = agent_at(server)
    response = await agent.chat("first")
    async for _ in response:
        break
    agent.save(file)  # of a turn that is running, nothing
    assert CreateAgent.load(file, api_key=KEY).history == ()
    await response.aclose()
    agent.save(file)
    again = CreateAgent.load(file, api_key=KEY)
    assert again.history == agent.history
    assert again.history[-1].status == "cancelled"
    hold.set()


@pytest.mark.asyncio
async def test_saving_changes_nothing_and_may_be_done_at_any_time(server: ScriptedServer, file: Path) -> None:
    before = asyncio.all_tasks()
    agent = agent_at(server, history_max_size=4)
    for number in range(5):
        server.enqueue(says(f"a{number}"))
        await (await agent.chat(f"q{number}"))
        known = agent.history
        agent.save(file)
        assert agent.history == known
        assert CreateAgent.load(file, api_key=KEY).history == known
    assert asyncio.all_tasks() == before


def test_a_loaded_talk_keeps_to_a_smaller_history(file: Path) -> None:
    agent = CreateAgent.load(written(file), tools=[rows], history_max_size=3)
    assert [message.content for message in agent.history] == ["q1", "a1"]
    assert CreateAgent.load(file, tools=[rows], history_max_size=0).history == ()


def test_what_an_argument_says_comes_before_the_file(file: Path) -> None:
    demo(name="a", instructions="x", config={"seed": 1}).save(file)
    agent = CreateAgent.load(file, name="b", config={"seed": 2}, instructions=None, max_tool_rounds=3)
    configs = agent.get_configs()
    assert (configs["name"], configs["config"], configs["instructions"]) == ("b", {"seed": 2}, None)
    assert configs["max_tool_rounds"] == 3
    assert CreateAgent.load(file).get_configs()["config"] == {"seed": 1}


def test_settings_without_a_key_are_loaded_as_they_were(file: Path) -> None:
    agent = demo(config={"stop": ("a", "b"), "extra": {"list": (1, (2, "x")), "user": "me"}})
    assert "masked" not in json.loads(saved(agent, file))
    assert CreateAgent.load(file).get_configs() == agent.get_configs()


def test_settings_as_deep_as_an_agent_takes_them_are_loaded_again(file: Path) -> None:
    value: Any = "x"
    with suppress(UnknownConfigKeyError):
        for _ in range(100):
            agent = demo(config={"extra": {"a": value}})
            value = [value]
    with pytest.raises(UnknownConfigKeyError, match="nested"):
        demo(config={"extra": {"a": value}})
    agent.save(file)
    assert CreateAgent.load(file).get_configs() == agent.get_configs()


def test_a_talk_of_an_agent_with_a_blank_name_is_loaded_again(file: Path) -> None:
    demo(name="  ").save(file)
    assert CreateAgent.load(file).name == "agent"


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_is_for_its_owner_and_stays_whole_until_the_new_one_is(file: Path) -> None:
    agent = demo()
    agent.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    link = file.with_name("link.json")
    link.symlink_to(file)
    demo(name="newer").save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert CreateAgent.load(file).name == "newer"
    assert sorted(path.name for path in file.parent.iterdir()) == ["link.json", "talk.json"]


def test_a_talk_that_cannot_be_written_leaves_what_was_there(file: Path) -> None:
    demo(name="first").save(file)
    known = file.read_bytes()
    for extra in ({"a": object()}, {"a": float("nan")}, {"a": {1, 2}}):  # no agent takes these
        talk = Conversation({"provider": "openai", "model": "m", "name": "second", "config": {"extra": extra}})
        with pytest.raises(TalkFileError, match="cannot be saved"):
            write_conversation(file, talk.without_keys(KEY))
    assert file.read_bytes() == known
    assert [path.name for path in file.parent.iterdir()] == ["talk.json"]


def test_where_no_file_can_be_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none" / "talk.json", "a\0b", "\ud800", "/dev/null", ""):
        with pytest.raises(TalkFileError, match="cannot be saved"):
            demo().save(path)
    with pytest.raises(TalkFileError):
        demo().save(7)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.once
def test_a_talk_that_would_be_too_large_to_read_is_not_written(file: Path) -> None:
    with pytest.raises(TalkFileError, match=r"bytes, and no more than 67,108,864 are read"):
        demo(instructions="x" * MAX_BYTES).save(file)
    assert not file.exists()


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_no_key_is_in_the_file_and_what_was_said_is(
    server: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "another that looks like none")
    secrets = [KEY, PLAIN_KEY, "another that looks like none", "hunter22", "0e1d2c3b4a59"]
    agent = agent_at(
        server,
        api_key=PLAIN_KEY,
        base_url=f"{server.url}/{KEY}/v1",
        instructions=f"Use {KEY} and {PLAIN_KEY}; token = tokenizer.decode(ids)",
        config={
            "extra": {
                "headers": {"Authorization": f"Bearer {KEY}", "x-api-key": "hunter22"},
                "note": [f"{PLAIN_KEY}!", "another that looks like none"],
                "accessToken": ["0e1d2c3b4a59"],
                "top_k": 5,
            }
        },
    )
    text = saved(agent, file)
    assert [secret for secret in secrets if secret in text] == []
    settings = json.loads(text)
    assert settings["instructions"] == "Use *** and ***; token = tokenizer.decode(ids)"
    assert settings["config"]["extra"]["top_k"] == 5
    assert settings["masked"] == ["config", "base_url"]
    with pytest.raises(ConfigurationError, match=r"A key stood in config, and keys are not saved: .*config=…"):
        CreateAgent.load(file, api_key=KEY)
    with pytest.raises(ConfigurationError, match=r"A key stood in base_url"):
        CreateAgent.load(file, api_key=KEY, config={})
    assert CreateAgent.load(file, api_key=KEY, config={}, base_url=server.openai_url).get_configs()["config"] == {}
    assert PLAIN_KEY in str(agent.get_configs())  # what runs is as it was


@pytest.mark.asyncio
async def test_the_conversation_is_kept_word_for_word(server: ScriptedServer, file: Path) -> None:
    server.enqueue(says(f"You said {KEY}"))
    agent = agent_at(server)
    await (await agent.chat(f"My key is {KEY}"))
    agent.save(file)
    assert CreateAgent.load(file, api_key=KEY).history == agent.history


def test_a_key_is_not_sent_where_only_a_file_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for foreign in (
        "https://evil.example/v1",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "[",
    ):
        written(file, provider="openai", base_url=foreign, turns=[])
        with pytest.raises(ConfigurationError, match=r"if you trust that server, CreateAgent.load\(…, base_url="):
            CreateAgent.load(file)
    written(file, provider="openai", base_url="https://mine.example/v1", turns=[])
    assert CreateAgent.load(file, base_url="https://mine.example/v1").provider == "openai"
    assert CreateAgent.load(file, provider="demo").provider == "demo"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.example/v1")
    assert CreateAgent.load(file).provider == "openai"
    for here in ("http://localhost:8000/v1", "http://127.0.0.1:1/v1", "http://[::1]:8000/v1"):
        assert CreateAgent.load(written(file, provider="openai", base_url=here, turns=[])).provider == "openai"


def test_without_a_key_a_talk_that_needs_one_says_so(file: Path) -> None:
    with pytest.raises(MissingKeyError):
        CreateAgent.load(written(file, provider="openai", turns=[]))


# ── images, files and what servers want back ─────────────────────────────────────────────────────────

SOURCE = ReplySource("https://api.example", "m", "ab12")
OPAQUE = {"signature": "EqQB/+=", "n": [1, 0.1, True, None, {"deep": ["token: abcdefgh12345678"]}]}
DETAILS = ProviderDetails(SOURCE, OPAQUE)


def with_turn(*messages: Message, **more: Any) -> CreateAgent:
    agent = demo(**more)
    agent._agent.history.add(Turn(0, messages))
    return agent


def looked_at(*parts: Any) -> tuple[Message, Message]:
    return Message("user", parts=parts), Message("assistant", "I see.")


IMAGE = ImagePart(png(), "image/png", name="a b.png")


def test_images_and_files_are_saved_and_loaded_as_they_were(file: Path) -> None:
    pdf = FilePart(bytes(range(256)), "application/pdf", name="x.pdf")
    parts = (TextPart("Look:"), IMAGE, TextPart("and"), pdf, ImagePart(url="https://x.example/a?b=1"))
    shown = Message("tool", [IMAGE], tool_call_id="c1", name="plot")
    agent = with_turn(
        Message("user", parts=parts),
        Message("assistant", "", tool_calls=(ToolCallRequested("c1", "plot", "{}"),)),
        shown,
        Message("assistant", [TextPart("one"), TextPart("two")]),
    )
    content = json.loads(saved(agent, file))
    assert content["version"] == 1
    first, second, _, last = content["turns"][0]["messages"]
    assert "content" not in first
    assert first["parts"][1] == {
        "type": "image",
        "media_type": "image/png",
        "name": "a b.png",
        "data": base64.b64encode(png()).decode(),
    }
    assert first["parts"][4] == {"type": "image", "url": "https://x.example/a?b=1"}
    assert second["content"] == ""
    assert [part["text"] for part in last["parts"]] == ["one", "two"]
    again = CreateAgent.load(file)
    assert again.history == agent.history
    assert [type(part) for part in again.history[0].parts] == [type(part) for part in parts]


def test_text_is_saved_as_before(file: Path) -> None:
    content = json.loads(saved(with_turn(Message("user", "q"), Message("assistant", "a")), file))
    assert content["turns"] == [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    ]


def test_provider_details_come_back_unchanged(file: Path) -> None:
    call = ToolCallRequested("c1", "rows", "{}", ProviderDetails(SOURCE, {"thought": "sk-abcdefgh12345678"}))
    agent = with_turn(
        Message("user", "q"),
        Message("assistant", "", tool_calls=(call,), provider_details=DETAILS),
        Message("tool", "5 rows", tool_call_id="c1", name="rows"),
        Message("assistant", "a", provider_details=ProviderDetails(ReplySource("s", "m"), {})),
    )
    content = json.loads(saved(agent, file))
    assert content["turns"][0]["messages"][1]["provider_details"] == {
        "source": {"server": "https://api.example", "model": "m", "key_fingerprint": "ab12"},
        "fields": OPAQUE,
    }
    again = CreateAgent.load(file)
    assert again.history == agent.history
    assert again.history[1].tool_calls[0].provider_details == call.provider_details


@pytest.mark.parametrize("fields", [{"x": [{"y": f"a {PLAIN_KEY}"}]}, {PLAIN_KEY: 1}])
def test_provider_details_with_a_key_in_use_are_left_out(
    server: ScriptedServer, file: Path, fields: dict[str, Any]
) -> None:
    agent = agent_at(server, api_key=PLAIN_KEY)
    leaky = ProviderDetails(SOURCE, fields)
    call = ToolCallRequested("c1", "rows", "{}", leaky)
    messages = (
        Message("user", "q"),
        Message("assistant", "", tool_calls=(call,), provider_details=DETAILS),
        Message("tool", "5 rows", tool_call_id="c1", name="rows"),
        Message("assistant", "a", provider_details=leaky),
    )
    agent._agent.history.add(Turn(0, messages))
    assert PLAIN_KEY not in saved(agent, file)
    again = CreateAgent.load(file, api_key=PLAIN_KEY).history
    assert [message.content for message in again] == ["q", "", "5 rows", "a"]
    assert again[1].provider_details == DETAILS
    assert (again[1].tool_calls[0].provider_details, again[3].provider_details) == (None, None)
    assert agent.history == messages  # what runs is as it was


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(400), float("nan"), object()], ids=["deep", "nan", "object"])
def test_provider_details_that_no_file_can_hold_are_left_out(file: Path, value: Any) -> None:
    details = ProviderDetails(SOURCE, {"x": value})
    with_turn(Message("user", "q"), Message("assistant", "a", provider_details=details)).save(file)
    assert CreateAgent.load(file).history[1] == Message("assistant", "a")


@pytest.mark.once
def test_images_that_would_be_too_large_to_read_are_not_written(file: Path) -> None:
    with pytest.raises(TalkFileError, match=r"bytes, and no more than 67,108,864 are read"):
        with_turn(*looked_at(FilePart(bytes(MAX_BYTES * 3 // 4 + 3), "a/b"))).save(file)
    assert not file.exists()


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────


def test_built_ins_come_by_themselves_and_others_must_be_given(file: Path) -> None:
    demo(tools=[rows, "currentdate", fails]).save(file)
    with pytest.raises(ConfigurationError, match=r"had the tools rows, fails, .* tools=\[rows, fails\]"):
        CreateAgent.load(file)
    with pytest.raises(ConfigurationError, match=r"had the tools fails, "):
        CreateAgent.load(file, tools=[rows])
    agent = CreateAgent.load(file, tools=[fails, "readlocalfile", rows])
    assert agent.get_configs()["tools"] == ["rows", "currentdate", "fails", "readlocalfile"]
    with pytest.raises(InvalidToolError):
        CreateAgent.load(file, tools="rows")


def test_a_built_in_with_a_folder_of_its_own_must_be_given_again(file: Path) -> None:
    reader = ReadLocalFileTool(root=file.parent)
    demo(tools=[reader]).save(file)
    with pytest.raises(ConfigurationError, match=r"had the tools readlocalfile"):
        CreateAgent.load(file)
    assert CreateAgent.load(file, tools=[reader]).get_configs()["tools"] == ["readlocalfile"]
    demo(tools=["readlocalfile"]).save(file)
    assert CreateAgent.load(file).get_configs()["tools"] == ["readlocalfile"]


# ── broken files ─────────────────────────────────────────────────────────────────────────────────────


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The talk with one part of it replaced, or left out."""
    talk: Any = copy.deepcopy(TALK)
    *way, last = path
    part = talk
    for step in way:
        part = part[step]
    if to is ...:
        del part[last]
    else:
        part[last] = to
    return talk


ANSWER = {"role": "assistant", "content": "a"}
ASKED = ("turns", 0, "messages", 1)

PICTURE = {"type": "image", "media_type": "image/png", "data": "AAAA"}


def with_parts(parts: Any) -> dict[str, Any]:
    return changed("turns", 1, "messages", 0, to={"role": "user", "parts": parts})


def with_details(details: Any) -> dict[str, Any]:
    return changed("turns", 1, "messages", 1, "provider_details", to=details)


WRONG = [
    (changed("format", to="other"), r'no "format"'),
    (changed("version", to=2), r"has version 2, and this package reads 1: pip install -U"),
    (changed("version", to=True), r"version must be 1, not True"),
    (changed("version", to="1"), r"version must be 1"),
    (changed("version", to=...), r"version must be 1, not nothing"),
    (changed("provider", to=None), r"provider must be a string that is not empty, not nothing"),
    (changed("provider", to="nobody"), r"nobody"),
    (changed("model", to=" "), r"model must be"),
    (changed("name", to=["a"]), r"name must be .* not a list"),
    (changed("instructions", to=3), r"instructions must be a string, not 3"),
    (changed("config", to=[]), r"config must be an object"),
    (changed("config", to={"nonsense": 1}), r"Unknown config key 'nonsense'"),
    (changed("config", to={"num_ctx": 10}), r"num_ctx"),
    (changed("history_max_size", to=True), r"history_max_size must be a whole number"),
    (changed("history_max_size", to=-1), r"history_max_size must be 0 or more"),
    (changed("base_url", to=1), r"base_url must be a string"),
    (changed("tools", to="rows"), r"tools must be a list"),
    (changed("tools", to=["a", "a"]), r"tools has a name twice"),
    (changed("turns", to=...), r"turns must be a list, not nothing"),
    (changed("turns", 0, to="q"), r"turns\[0\] must be an object"),
    (changed("turns", 1, "messages", to={}), r"turns\[1\].messages must be a list, not an object"),
    (changed("turns", 1, "messages", to=[]), r"turns\[1\]: it ends after 0 messages without an answer"),
    (changed("turns", 1, "messages", 0, "role", to="system"), r"turns\[1\].messages\[0\].role must be one of"),
    (changed("turns", 1, "messages", 0, "role", to="assistant"), r"turns\[1\]: messages\[0\] is of 'assistant'"),
    (changed("turns", 1, "messages", 1, "role", to="user"), r"turns\[1\]: messages\[1\] is of 'user'"),
    (changed("turns", 1, "messages", 1, "content", to=None), r"messages\[1\].content must be a string"),
    (changed("turns", 1, "messages", 1, "content", to=" \n"), r"turns\[1\]: messages\[1\] is empty"),
    (changed("turns", 1, "messages", 1, "status", to="running"), r"messages\[1\].status must be one of"),
    (changed("turns", 1, "messages", 1, to=...), r"turns\[1\]: it ends after 1 messages without an answer"),
    (changed("turns", 1, "messages", 1, to=[ANSWER]), r"messages\[1\] must be an object"),
    (changed(*ASKED, to=ANSWER), r"turns\[0\]: messages\[2\] comes after the answer"),
    (changed(*ASKED, "tool_calls", 0, "id", to="c2"), r"turns\[0\]: messages\[2\] answers 'c1', which was not"),
    (changed(*ASKED, "tool_calls", 0, "id", to=""), r"tool_calls\[0\].id must be"),
    (changed(*ASKED, "tool_calls", 0, "arguments", to={}), r"tool_calls\[0\].arguments must be a string"),
    (changed(*ASKED, "tool_calls", to=2 * [{"id": "c1", "name": "f", "arguments": "{}"}]), r"two calls of one id"),
    (changed("turns", 0, "messages", 2, to=...), r"turns\[0\]: messages\[2\] comes before the answer to 'c1'"),
    (changed("turns", 0, "messages", 2, "content", to=""), r"turns\[0\]: messages\[2\] is empty"),
    (changed("turns", 0, "messages", 2, "tool_calls", to=[{"id": "x", "name": "f", "arguments": ""}]), "asks for"),
    (changed("turns", 1, "messages", 0, "parts", to=[]), r"messages\[0\] has both content and parts"),
    (with_parts(3), r"turns\[1\].messages\[0\].parts must be a list, not 3"),
    (with_parts([]), r"turns\[1\]: messages\[0\] is empty"),
    (with_parts(["q"]), r"parts\[0\] must be an object"),
    (with_parts([{"type": "sound"}]), r"parts\[0\].type must be one of text, image, file, not 'sound'"),
    (with_parts([{"type": []}]), r"parts\[0\].type must be one of"),
    (with_parts([{"type": "text"}]), r"parts\[0\].text must be a string"),
    (with_parts([{"type": "image"}]), r"parts\[0\]: ImagePart takes either data or url"),
    (with_parts([{**PICTURE, "url": "https://x"}]), r"parts\[0\]: ImagePart takes either data or url"),
    (with_parts([{"type": "image", "data": "AAAA"}]), r"parts\[0\]: ImagePart needs a media type"),
    (with_parts([{**PICTURE, "data": "not base64!"}]), r"parts\[0\].data is not valid base64"),
    (with_parts([{**PICTURE, "data": "AAA"}]), r"parts\[0\].data is not valid base64"),
    (with_parts([{**PICTURE, "data": "é"}]), r"parts\[0\]"),
    (with_parts([{**PICTURE, "data": [1]}]), r"parts\[0\].data must be a string"),
    (with_parts([{**PICTURE, "media_type": "image/png\r\nx: y"}]), r"needs a media type such as image/png"),
    (with_parts([{**PICTURE, "media_type": 3}]), r"media_type must be a string"),
    (with_parts([{**PICTURE, "name": 3}]), r"parts\[0\].name must be a string"),
    (with_details([]), r"messages\[1\].provider_details must be an object"),
    (with_details({}), r"provider_details.source must be an object"),
    (with_details({"source": {"server": "s"}, "fields": {}}), r"source.model must be a string"),
    (with_details({"source": {"server": 1, "model": "m"}, "fields": {}}), r"source.server must be a string"),
    (with_details({"source": {"server": "s", "model": "m"}}), r"fields must be an object"),
    (
        with_details({"source": {"server": "s", "model": "m", "key_fingerprint": 1}, "fields": {}}),
        r"key_fingerprint must be a string",
    ),
    (
        with_details({"source": {"server": "s", "model": "m"}, "fields": {"a": 100 * [[]] + [nested(60)]}}),
        r"provider_details.fields is nested too deeply",
    ),
    (
        changed(*ASKED, "tool_calls", 0, "provider_details", to=1),
        r"tool_calls\[0\].provider_details must be an obj",
    ),
    ([TALK], r'no "format"'),
    ("text", r'no "format"'),
    (None, r'no "format"'),
]


@pytest.mark.parametrize(("content", "says"), WRONG)
def test_a_file_that_is_wrong_says_where(file: Path, content: Any, says: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if isinstance(content, dict) and "num_ctx" in content.get("config", ()):
        content["provider"] = "openai"
    file.write_text(json.dumps(content))
    known = file.read_bytes()
    with pytest.raises(TalkFileError, match=says) as caught:
        CreateAgent.load(file, tools=[rows])
    assert str(file) in str(caught.value)
    assert file.read_bytes() == known


WHOLE = json.dumps(TALK)

BYTES = [
    (b"", "not valid JSON"),
    (WHOLE.encode()[:-40], "not valid JSON"),
    (WHOLE.encode()[:10], "not valid JSON"),
    (WHOLE.encode("utf-16"), "not valid JSON"),
    (b"\xff" + WHOLE.encode(), "not valid JSON"),
    (WHOLE.encode() + b"{}", "not valid JSON"),
    (b"\x80\x05\x95\x0f\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n", "not valid JSON"),
    (WHOLE.replace('"version": 1', '"version": NaN').encode(), "NaN is no number"),
    (WHOLE.replace('"version": 1', '"version": -Infinity').encode(), "-Infinity is no number"),
    (WHOLE.replace('"version": 1', '"version": 1e999').encode(), "too large"),
    (WHOLE.replace('"version": 1', f'"version": {"9" * 5000}').encode(), "not valid JSON"),
    (WHOLE.replace('"version": 1', '"version": 1, "version": 1').encode(), "the key 'version' stands there twice"),
    (
        WHOLE.replace('"content": "q1"', '"content": "q1", "content": "q2"').encode(),
        "'content' stands there twice",
    ),
    (b"[" * 500_000, "nested too deeply"),
    (b'{"a":' * 500_000, "nested too deeply"),
    ((b'{"config": ' + b"[" * 400 + b"]" * 400 + b"," + WHOLE.encode()[1:]), "config must be an object"),
    (
        (b'{"config": {"extra": {"a": ' + b"[" * 400 + b"]" * 400 + b"}}," + WHOLE.encode()[1:]),
        "nested too deeply",
    ),
]


@pytest.mark.parametrize(("data", "says"), BYTES)
def test_a_file_that_is_broken_is_an_error_and_nothing_else(file: Path, data: bytes, says: str) -> None:
    file.write_bytes(data)
    with pytest.raises(TalkFileError, match=says):
        CreateAgent.load(file, tools=[rows])


@pytest.mark.parametrize("cut", range(0, len(WHOLE) - 1, 97))
def test_a_file_cut_anywhere_is_refused(file: Path, cut: int) -> None:
    file.write_text(WHOLE[:cut])
    with pytest.raises(TalkFileError):
        CreateAgent.load(file, tools=[rows])


def test_a_file_with_a_byte_order_mark_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert len(CreateAgent.load(file, tools=[rows]).history) == 6


def test_a_huge_file_is_not_read(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(TalkFileError, match=r"more than 67,108,864 bytes"):
        CreateAgent.load(file)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "loop", tmp_path / "none", "/dev/zero", "a\0b", "\ud800"):
        with pytest.raises(TalkFileError, match="cannot be loaded as a talk"):
            CreateAgent.load(path)
    with pytest.raises(TalkFileError):
        CreateAgent.load(7)  # type: ignore[arg-type]


def test_a_file_that_may_not_be_read_says_so(file: Path) -> None:
    written(file)
    file.parent.chmod(0o755)
    file.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(TalkFileError, match="Permission denied"):
            CreateAgent.load(file)
    finally:
        os.seteuid(user)


def test_what_a_file_holds_is_not_run(file: Path) -> None:
    hostile = {"__reduce__": ["os.system", "x"], "__class__": "os", "py/object": "os.system"}
    talk = copy.deepcopy(TALK) | hostile
    talk["turns"][0]["messages"][0] |= {"content": "__import__('os').abort()", **hostile}
    file.write_text(json.dumps(talk))
    assert CreateAgent.load(file, tools=[rows]).history[0].content == "__import__('os').abort()"
