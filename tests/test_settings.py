"""The settings of an agent are declared once: whatever shows, copies, saves, loads or sends them follows."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedProvider, ScriptedServer

from createagents_nb import (
    Agent,
    BaseTool,
    CreateAgent,
    MetricsRecorder,
    OllamaChatAdapter,
    OpenAIChatAdapter,
    tool,
)
from createagents_nb.agent.conversation_file import read_conversation
from createagents_nb.agent.settings import SETTINGS, AgentSettings, Setting, SharedSettings
from createagents_nb.batch.dask_pool import packed_plan
from createagents_nb.batch.dask_worker import AgentPlan
from createagents_nb.errors import ConfigurationError, TalkFileError
from createagents_nb.tools.approval import ApprovalRequest

KEY = "sk-secret-0123456789abcdef"


@tool
def rows() -> str:
    """First rows of the table."""
    return "5 rows"


def decide(request: ApprovalRequest) -> bool:
    return False


OTHER: dict[str, Any] = {
    "name": "clerk",
    "provider": "openai",
    "model": "m",
    "instructions": "Be brief.",
    "tools": (rows,),
    "config": {"seed": 1},
    "max_tool_rounds": 3,
    "remote_images": True,
    "approve": decide,
    "approval_timeout_s": 7.5,
    "history_max_size": 6,
    "max_tool_result_chars": 500,
    "base_url": "http://127.0.0.1:1/v1",
    "headers": {"X-Team": "blue", "User-Agent": None},
    "query": {"api-version": "2024-10-21"},
    "timeout_s": 9,
    "max_retries": 1,
    "api_key": KEY,
    "client": None,
    "recorder": MetricsRecorder(),
}
"""A value for each setting that is not its default. ``client`` excludes others; it has tests of its own."""

AS_DATA = {"tools": ["rows"]}


def agent_with(**more: Any) -> CreateAgent:
    return CreateAgent(**OTHER | more)


def used(use: str) -> list[str]:
    return [name for name, setting in SETTINGS.items() if getattr(setting, use)]


def test_each_setting_has_a_value_here() -> None:
    assert set(OTHER) == set(SETTINGS) == {each.name for each in dataclasses.fields(AgentSettings)}
    for each in dataclasses.fields(AgentSettings):
        if each.name != "client":
            assert OTHER[each.name] != each.default


def test_the_arguments_of_an_agent_are_its_settings() -> None:
    parameters = dict(inspect.signature(CreateAgent).parameters)
    assert set(parameters) == set(SETTINGS)
    for each in dataclasses.fields(AgentSettings):
        default = parameters[each.name].default
        if default is not None:  # None stands for what is resolved: a name, no tools, an empty config
            assert default == each.default, each.name
        else:
            assert each.default in (None, (), dataclasses.MISSING), each.name


def test_an_agent_of_the_loop_has_the_shared_settings_and_its_constructor() -> None:
    shared = {each.name for each in dataclasses.fields(SharedSettings)}
    parameters = inspect.signature(Agent).parameters
    assert set(parameters) == shared | {"history", "turn_numbers"}
    positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == ["name", "model", "instructions", "tools", "config", "history"]
    agent = agent_with()
    for name in shared:
        assert getattr(agent._agent, name) == OTHER[name], name


def test_secrets_and_objects_are_neither_shown_nor_saved_nor_sent() -> None:
    for name in ("api_key", "client", "approve", "recorder"):
        setting = SETTINGS[name]
        assert {setting.listed, setting.saved, setting.travels, setting.believed} == {False}, name
    for name in ("remote_images", *used("bound")):
        assert not SETTINGS[name].believed, name  # a file must not choose where keys and data are sent
    for use in ("listed", "saved", "travels"):
        with pytest.raises(TypeError, match="neither listed, saved nor sent"):
            Setting(kind="text", secret=True, **{use: True})


def test_settings_are_frozen_and_replaced() -> None:
    settings = agent_with()._settings
    for name in SETTINGS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, name, None)
    assert dataclasses.replace(settings, model="other").model == "other"
    assert KEY not in repr(settings)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(dataclasses.replace(settings, tools=(), approve=None, recorder=None))


def test_get_configs_lists_all_that_is_data() -> None:
    configs = agent_with().get_configs()
    assert set(configs) == set(used("listed"))
    assert configs == {name: AS_DATA.get(name, OTHER[name]) for name in used("listed")}
    first = ["name", "provider", "model", "instructions", "config", "tools", "history_max_size", "max_tool_rounds"]
    assert list(configs)[:8] == first
    json.dumps(configs)
    hidden = agent_with(base_url=f"http://127.0.0.1:1/{KEY}/v1").get_configs()["base_url"]
    assert hidden == "http://127.0.0.1:1/***/v1"


def test_a_variant_has_all_settings_that_were_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agent_with()
    same = agent.variant(config={"top_p": 0.5})._settings
    for name in SETTINGS:
        assert getattr(same, name) == (OTHER[name] | {"top_p": 0.5} if name == "config" else OTHER[name]), name
    other = agent.variant("demo")._settings
    changed = {"provider": "demo", "model": "demo", **dict.fromkeys(used("bound"))}
    for name in SETTINGS:
        assert getattr(other, name) == changed.get(name, OTHER[name]), name


@pytest.mark.parametrize("adapter", [OpenAIChatAdapter, OllamaChatAdapter])
def test_providers_take_what_is_meant_for_them(adapter: type) -> None:
    taken = inspect.signature(adapter).parameters.keys() - {"server"}  # set by the table of providers
    assert taken == {*used("limit"), *used("bound")}


def test_a_file_holds_what_is_saved_and_what_is_believed_is_loaded(tmp_path: Path) -> None:
    file = agent_with().save(tmp_path / "talk.json")
    content = json.loads(file.read_text("utf-8"))
    assert set(content) - {"format", "version", "own_tools", "turns"} == set(used("saved"))
    assert {name: content[name] for name in used("saved")} == {
        name: AS_DATA.get(name, OTHER[name]) for name in used("saved")
    }
    assert set(read_conversation(file).settings) == set(used("saved"))
    loaded = CreateAgent.load(file, tools=[rows], api_key=KEY)._settings
    for name in used("believed"):
        assert getattr(loaded, name) == OTHER[name], name
    assert (loaded.base_url, loaded.remote_images, loaded.approve) == (OTHER["base_url"], False, None)


def test_what_a_file_may_not_say_is_passed_over(tmp_path: Path) -> None:
    file = CreateAgent("demo").save(tmp_path / "talk.json")
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(content | {"remote_images": True, "api_key": "k", "approve": True, "recorder": 1}))
    settings = CreateAgent.load(file)._settings
    assert (settings.remote_images, settings.api_key, settings.approve, settings.recorder) == (False,) + (
        None,
    ) * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in used("saved")
        for value in {
            "choice": [3, "", None],
            "name": [3, " ", None],
            "text": [3, ["a"]],
            "address": [3],
            "config": [3, None, [], {"nope": 1}],
            "tools": [3, None, [1], ["a", "a"]],
            "count": [-1, 1.5, True, "1", None],
            "flag": [1, None],
            "seconds": [0, -1, True, "1", None, 10**400, [], {}],
        }[SETTINGS[name].kind]
    ],
)
def test_each_setting_of_a_file_is_checked(tmp_path: Path, name: str, value: Any) -> None:
    file = CreateAgent("demo", tools=[rows]).save(tmp_path / "talk.json")
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {name: value}))
    with pytest.raises(TalkFileError, match=name):
        CreateAgent.load(file, tools=[rows])


def test_a_file_without_the_settings_of_today_is_loaded_with_their_defaults(tmp_path: Path) -> None:
    file = CreateAgent("demo", name="a").save(tmp_path / "talk.json")
    content = json.loads(file.read_text("utf-8"))
    old = {name: content[name] for name in ("format", "version", "provider", "model", "name", "turns")}
    file.write_text(json.dumps(old))
    assert CreateAgent.load(file).get_configs() == CreateAgent("demo", name="a").get_configs()


@pytest.mark.parametrize("endless", [float("inf"), 1e12, 10**400])
def test_a_timeout_without_an_end_is_not_saved(tmp_path: Path, endless: float) -> None:
    agent = CreateAgent("demo", approval_timeout_s=endless)
    assert agent.get_configs()["approval_timeout_s"] == endless
    assert CreateAgent.load(agent.save(tmp_path / "talk.json")).get_configs()["approval_timeout_s"] == 300.0


def test_what_travels_reaches_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-a-worker")
    plan: AgentPlan = pickle.loads(packed_plan(agent_with(api_key=None)._row_agent()))
    assert set(plan.settings) == set(used("travels"))
    settings = AgentSettings(**plan.settings)
    for name in used("travels"):
        if name != "tools":
            assert getattr(settings, name) == OTHER[name], name
    row_agent = plan.make()
    for name in {each.name for each in dataclasses.fields(SharedSettings)} - {"approve", "tools"}:
        assert getattr(row_agent.agent, name) == OTHER[name], name
    assert [each.name for each in row_agent.agent.tools] == ["rows"]
    assert isinstance(row_agent.agent.tools[0], BaseTool)
    assert row_agent.max_retries == OTHER["max_retries"]
    assert row_agent.repository.base_url in (None, OTHER["base_url"])


def test_an_object_does_not_travel(server: ScriptedServer) -> None:
    import openai

    client = openai.AsyncOpenAI(api_key=KEY, base_url=server.openai_url)
    for agent in (CreateAgent(ScriptedProvider(), "m"), CreateAgent(client=client, model="m")):
        with pytest.raises(ConfigurationError, match=r"objects do not travel to Dask workers.*without client="):
            packed_plan(agent._row_agent())
