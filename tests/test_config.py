"""Options of a request: known, checked, and never silently dropped."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import pytest

from createagents_nb import CreateAgent
from createagents_nb.agent.config import CONFIG_KEYS, validate_config
from createagents_nb.errors import UnknownConfigKeyError, UnsupportedConfigError

FINE: dict[str, Any] = {
    "temperature": 0,
    "max_tokens": 100,
    "top_p": 0.9,
    "top_k": 40,
    "seed": -1,
    "stop": ["\n\n"],
    "think": "low",
    "num_ctx": 8192,
    "stream": False,
    "extra": {"user": "me"},
    "api": "responses",
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "service_tier": "flex",
    "response_format": {"type": "json_object"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "server_tools": ["web_search", {"type": "file_search", "vector_store_ids": ["vs_1"]}],
}


def checked(config: Any, unsupported: dict[str, str] | None = None) -> dict[str, Any]:
    return validate_config(config, provider="openai", unsupported=unsupported or {})


def test_every_documented_key_is_known_and_taken_as_it_is() -> None:
    assert set(FINE) == set(CONFIG_KEYS)
    assert checked(FINE) == FINE


def test_none_means_not_given() -> None:
    assert checked(None) == {}
    assert checked({"temperature": None, "seed": 3}) == {"seed": 3}


def test_what_comes_out_is_a_copy() -> None:
    given = {"seed": 1}
    taken = checked(given)
    given["seed"] = 2
    assert taken == {"seed": 1}


def test_an_unknown_key_lists_the_known_ones_and_guesses() -> None:
    with pytest.raises(UnknownConfigKeyError) as raised:
        checked({"temprature": 1})
    message = str(raised.value)
    assert "'temprature'" in message
    assert "did you mean 'temperature'?" in message
    assert all(key in message for key in CONFIG_KEYS)
    assert "extra=" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("max_tokens", 0),
        ("max_tokens", 10.5),
        ("max_tokens", True),
        ("top_p", 1.01),
        ("top_k", 0),
        ("seed", 1.5),
        ("stop", 3),
        ("stop", ["a", 3]),
        ("think", 1),
        ("num_ctx", "8k"),
        ("stream", "yes"),
        ("stream", 1),
        ("extra", ["user"]),
    ],
)
def test_a_value_that_cannot_be_names_the_key_and_what_it_takes(key: str, value: Any) -> None:
    with pytest.raises(UnknownConfigKeyError) as raised:
        checked({key: value})
    assert str(raised.value).startswith(f"config[{key!r}] must be {CONFIG_KEYS[key][0]}, not ")


class Level(str, enum.Enum):  # noqa: UP042 - its `str()` is not its value
    LOW = "low"


class Priority(enum.IntEnum):
    HIGH = 3


def cyclic() -> dict[str, Any]:
    one: dict[str, Any] = {}
    one["a"] = [one, one]
    return one


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"a": np.int64(3)}, "a value of type int64"),
        ({"a": [{"b": object()}]}, "a value of type object"),
        ({"a": {1, 2}}, "a value of type set"),
        ({"a": b"x"}, "a value of type bytes"),
        ({"a": math.nan}, "it has nan"),
        ({"a": [-math.inf]}, "it has -inf"),
        ({1.5: "a"}, "each key of a dict in it must be a string"),
        ({"a": {None: 1}}, "each key of a dict in it must be a string"),
        (cyclic(), "or holds itself"),
        ({"a": "half of \ud83d"}, "surrogates"),
    ],
)
def test_extra_that_cannot_be_sent_is_refused_before_a_turn_fails_with_it(extra: Any, words: str) -> None:
    with pytest.raises(UnknownConfigKeyError) as raised:
        checked({"extra": extra})
    assert str(raised.value).startswith("config['extra'] cannot be sent as JSON: ")
    assert words in str(raised.value)


def test_what_comes_out_is_of_the_types_that_json_has() -> None:
    given = {
        "stop": (np.str_("a"), Level.LOW),
        "think": Level.LOW,
        "seed": Priority.HIGH,
        "stream": True,
        "extra": {np.str_("a"): [np.float64(0.5), Level.LOW, None, (True, Priority.HIGH)], "bias": {7: -100}},
    }
    taken = checked(given)
    assert taken == {
        "stop": ["a", "low"],
        "think": "low",
        "seed": 3,
        "stream": True,
        "extra": {"a": [0.5, "low", None, [True, 3]], "bias": {"7": -100}},
    }

    def types(value: Any) -> set[type]:
        parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        return {type(value)}.union(*map(types, parts))

    assert types(taken) == {dict, list, str, int, float, bool, type(None)}


@pytest.mark.parametrize("config", [["temperature"], "temperature=1", 3])
def test_a_config_that_is_no_dict_is_an_error(config: Any) -> None:
    with pytest.raises(UnknownConfigKeyError, match="config must be a dict"):
        checked(config)


def test_what_a_provider_cannot_take_is_an_error_with_the_way_out() -> None:
    with pytest.raises(UnsupportedConfigError, match=r"openai cannot take config\['top_k'\]: use extra"):
        checked({"top_k": 4}, {"top_k": "use extra"})
    with pytest.raises(UnsupportedConfigError, match="num_ctx is Ollama's"):
        CreateAgent("openai", "m", api_key="k", config={"num_ctx": 4096})
    assert CreateAgent("ollama", "m", config={"num_ctx": 4096, "top_k": 4}).get_configs()["config"]["top_k"] == 4


@pytest.mark.parametrize("config", [{"nope": 1}, {"temperature": "hot"}])
def test_an_agent_refuses_what_is_wrong_when_it_is_made(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownConfigKeyError):
        CreateAgent("demo", config=config)
