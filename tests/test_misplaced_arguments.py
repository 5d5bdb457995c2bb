"""Arguments that `CreateAgent` does not have: the error names the place where each belongs."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from test_secrets import printed

from createagents_nb import CreateAgent
from createagents_nb.agent.config import CONFIG_KEYS
from createagents_nb.agent.misplaced import _IN_CONFIG, _PLACES
from createagents_nb.agent.settings import SETTINGS
from createagents_nb.errors import ConfigurationError, UnknownArgumentError, UnknownConfigKeyError

SECRET = "zq7-C4nary/Of+TheCoal=Mine"

PLACES = {
    "temperature": "config={'temperature': …}",
    "max_tokens": "config={'max_tokens': …}",
    "max_completion_tokens": "config={'max_tokens': …}",
    "num_predict": "config={'max_tokens': …}",
    "top_p": "config={'top_p': …}",
    "top_k": "config={'top_k': …}",
    "stop": "config={'stop': …}",
    "seed": "config={'seed': …}",
    "stream": "config={'stream': …}",
    "think": "config={'think': …}",
    "num_ctx": "config={'num_ctx': …}",
    "tool_choice": "config={'tool_choice': …}",
    "response_format": "config={'response_format': …}",
    "parallel_tool_calls": "config={'parallel_tool_calls': …}",
    "service_tier": "config={'service_tier': …}",
    "presence_penalty": "config={'extra': {'presence_penalty': …}}",
    "extra_body": "config={'extra': {…}}",
    "extra": "config={'extra': {…}}",
    "system": "instructions='…'",
    "system_prompt": "instructions='…'",
    "messages": "await agent.chat('…')",
    "prompt": "await agent.chat('…')",
    "input": "await agent.chat('…')",
    "functions": "tools=[…]",
    "extra_headers": "headers={…}",
    "default_headers": "headers={…}",
    "extra_query": "query={…}",
    "api_version": "query={'api-version': '…'}",
    "timeout": "timeout_s=…",
    "retries": "max_retries=…",
    "key": "api_key='…'",
    "token": "api_key='…'",
    "azure_ad_token_provider": "api_key=that function",
    "url": "base_url='…'",
    "azure_endpoint": "base_url='…'",
    "http_client": "client=…",
    "memory": "history_max_size=…",
    "max_turns": "max_tool_rounds=…",
    "proxy": "the environment variable HTTPS_PROXY",
}


@pytest.mark.parametrize(("name", "place"), PLACES.items())
def test_an_argument_in_the_wrong_place_names_the_right_one(name: str, place: str) -> None:
    with pytest.raises(UnknownArgumentError) as raised:
        CreateAgent("demo", **{name: "x"})  # type: ignore[arg-type]
    assert str(raised.value) == f"CreateAgent has no argument {name!r}: use {place}"


def test_any_other_unknown_argument_is_guessed_or_lists_those_that_exist() -> None:
    for name, guess in (("instruktions", "instructions=…"), ("temprature", "config={'temperature': …}")):
        with pytest.raises(UnknownArgumentError) as raised:
            CreateAgent("demo", **{name: "x"})  # type: ignore[arg-type]
        assert str(raised.value) == f"CreateAgent has no argument {name!r}: did you mean {guess}?"
    with pytest.raises(UnknownArgumentError, match=r"'zzz'\. It has name, model, instructions, tools, config"):
        CreateAgent("demo", zzz=1)  # type: ignore[arg-type]


def test_several_are_all_named() -> None:
    with pytest.raises(UnknownArgumentError, match=r"'temperature': use .*; .*'timeout': use timeout_s"):
        CreateAgent("demo", temperature=0, timeout=3)  # type: ignore[arg-type]


def the_key() -> str:
    return os.environ["SECRET"]


def test_it_is_a_type_error_too_and_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    with pytest.raises(TypeError) as raised:
        CreateAgent("openai", "m", key=the_key())  # type: ignore[arg-type]
    assert isinstance(raised.value, ConfigurationError)
    for where, text in printed(raised.value):
        assert SECRET not in text, where


def test_the_places_exist() -> None:
    own = set(SETTINGS)
    assert own.isdisjoint(name for names in _PLACES.values() for name in names)
    assert own.isdisjoint(CONFIG_KEYS)
    assert set(_IN_CONFIG.values()) <= set(CONFIG_KEYS)
    for place in _PLACES:
        if place.startswith("config={'"):
            assert place.split("'")[1] in CONFIG_KEYS
        elif "agent.chat" not in place and "environment" not in place:
            assert place.partition("=")[0] in own


def test_help_and_completion_show_the_arguments_that_exist() -> None:
    assert set(inspect.signature(CreateAgent).parameters) == set(SETTINGS)
    assert "misplaced" not in str(inspect.signature(CreateAgent.__init__))


def test_loading_a_file_names_the_place_too(tmp_path: Path) -> None:
    file = CreateAgent("demo").save(tmp_path / "talk.json")
    with pytest.raises(UnknownArgumentError, match="use config="):
        CreateAgent.load(file, temperature=0)


# ── extra ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("messages", r"agent\.chat\(…\)"),
        ("input", r"agent\.chat\(…\)"),
        ("model", "CreateAgent"),
        ("stream", "config="),
    ],
)
@pytest.mark.parametrize("value", [[], "m", True, None])
def test_extra_does_not_replace_what_has_a_place(name: str, place: str, value: Any) -> None:
    with pytest.raises(UnknownConfigKeyError, match=rf"config\['extra'\] cannot have '{name}': .*{place}"):
        CreateAgent("demo", config={"extra": {"seed": 1, name: value}})


def test_extra_may_have_anything_else_and_null() -> None:
    extra = {"stream_options": None, "tools": [{"type": "x"}], "metadata": {"model": "m", "stream": "s"}}
    assert CreateAgent("demo", config={"extra": extra}).get_configs()["config"] == {"extra": extra}
