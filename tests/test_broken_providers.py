"""Provider objects that break their promises: each is one typed error that names the way out."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from createagents_nb import ChatRepository, CreateAgent, MetricsRecorder
from createagents_nb.agent import promises, turn_log
from createagents_nb.core.events import AttemptEnded, Event, Reasoning, RoundEnded, ToolCallRequested, TurnDone
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import ConfigurationError, ProtocolError, RateLimitError

END = RoundEnded("stop")
CALL = ToolCallRequested("a", "f", "{}")


class Mine(ChatRepository):
    """Yields what it was given; an exception is raised, and a function called."""

    provider = "mine"
    default_model: Any = "m"

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.closed = False

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                if callable(step) and not isinstance(step, type):
                    await step()
                else:
                    yield step
        finally:
            self.closed = True

    async def models(self) -> list[str]:
        return ["m"]


async def error_of(provider: ChatRepository) -> tuple[BaseException | None, MetricsRecorder]:
    recorder = MetricsRecorder()
    response = await CreateAgent(provider, recorder=recorder).chat("hi")
    await asyncio.wait_for(response.wait(), 20)
    return response.error, recorder


BROKEN: dict[str, tuple[list[Any], str]] = {
    "nothing at all": ([], "ended a round without RoundEnded"),
    "no end": (["Hello"], "ended a round without RoundEnded, which must be last"),
    "no end after a call": ([CALL], "ended a round without RoundEnded"),
    "text after the end": ([END, "more"], "yielded str after RoundEnded, which must be the last"),
    "a second end": ([END, END], "yielded RoundEnded after RoundEnded"),
    "a call after the end": (
        [END, ToolCallRequested("a", "f", "{}")],
        "yielded ToolCallRequested after RoundEnded",
    ),
    "reasoning after the end": (["a", END, Reasoning("b")], "yielded Reasoning after RoundEnded"),
    "None": ([None, END], "yielded NoneType, not an event"),
    "None after the end": ([END, None], "yielded NoneType after RoundEnded"),
    "a dict": (["a", {"content": "b"}, END], "yielded dict, not an event"),
    "bytes": ([b"Hello", END], "yielded bytes, not an event"),
    "a class": (["a", RoundEnded], "yielded the class RoundEnded, not an event"),
    "a number": ([3, END], "yielded int, not an event"),
    "an event of the loop": ([TurnDone("ok", None), END], "yielded TurnDone, not an event"),
    "a list of texts": ([["a", "b"], END], "yielded list, not an event"),
}


@pytest.mark.parametrize(("steps", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.asyncio
async def test_a_broken_promise_is_one_typed_error(steps: list[Any], words: str) -> None:
    provider = Mine(*steps)
    error, recorder = await error_of(provider)
    with pytest.raises(ProtocolError, match=f"The provider 'mine' {words}.*See createagents"):
        raise error or AssertionError("no error")
    with pytest.raises(ProtocolError, match=words):
        raise error
    assert provider.closed
    assert recorder.calls["status"].tolist() == recorder.requests["status"].tolist() == ["error"]
    assert recorder.requests["error_type"].tolist() == ["ProtocolError"]
    assert recorder.requests["provider"].tolist() == ["mine"]


@pytest.mark.asyncio
async def test_what_may_precede_the_end_still_may() -> None:
    steps = [Reasoning("hm"), AttemptEnded(provider="mine", model="m"), "Hi", END]
    provider = Mine(*steps)
    assert await (await CreateAgent(provider, recorder=MetricsRecorder()).chat("hi")) == "Hi"
    assert provider.closed


@pytest.mark.asyncio
async def test_errors_of_ours_stay_what_they_are() -> None:
    refused = RateLimitError("wait")
    assert (await error_of(Mine("a", refused)))[0] is refused


class NotAGenerator(Mine):
    def __init__(self, reply: Callable[[], Any]) -> None:
        self.reply = reply

    def round_trip(self, request: ChatRequest) -> Any:
        return self.reply()


async def coroutine() -> str:
    return "Hi"


@pytest.mark.parametrize(
    "reply", [lambda: "text", lambda: None, lambda: iter(["a"]), lambda: (x for x in "ab"), coroutine, list]
)
@pytest.mark.asyncio
async def test_a_round_trip_that_is_no_async_generator(reply: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error, _ = await error_of(NotAGenerator(reply))
        gc.collect()
    with pytest.raises(ProtocolError, match=r"'mine' has a round_trip\(\) without a yield"):
        raise error or AssertionError


async def never() -> None:
    await asyncio.Event().wait()


class HangsWhenClosed(Mine):
    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        try:
            for step in self.steps:
                yield step
        finally:
            await never()


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (Mine("Hi", END, never), "does not end after RoundEnded within"),
        (HangsWhenClosed("Hi", END), "does not end after RoundEnded within"),
        (HangsWhenClosed("Hi", END, "more"), "does not close its reply within"),
        (HangsWhenClosed("Hi", None), "does not close its reply within"),
    ],
)
@pytest.mark.asyncio
async def test_a_provider_that_does_not_end_is_not_waited_for(
    provider: Mine, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "_END_S", 0.05)
    error, _ = await error_of(provider)
    with pytest.raises(ProtocolError, match=words):
        raise error or AssertionError


@pytest.mark.parametrize("steps", [(never,), ("Hi", never), ("Hi", END, never)])
@pytest.mark.asyncio
async def test_a_turn_that_is_stopped_settles_although_its_provider_hangs(
    steps: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_log, "_PATIENCE_S", 0.05)
    reached = asyncio.Event()

    class HangsWhenStopped(ChatRepository):
        provider = default_model = "hangs"

        async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
            try:
                for step in steps:
                    if callable(step):
                        reached.set()
                        await step()
                    else:
                        yield step
            finally:
                await never()

        async def models(self) -> list[str]:
            return []

    response = await CreateAgent(HangsWhenStopped(), recorder=MetricsRecorder()).chat("hi")
    await reached.wait()
    response.cancel()
    await asyncio.wait_for(response.wait(), 20)
    assert response.record.status == "cancelled"


# ── attributes and models ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("provider", 3, "needs a class attribute `provider`"),
        ("provider", "", "needs a class attribute `provider`"),
        ("server", 8080, "Broken.server must be a string or None, not int"),
        ("server", b"host", "Broken.server must be a string or None, not bytes"),
        ("base_url", ["http://a"], "Broken.base_url must be a string or None, not list"),
        ("price_provider", 1, "Broken.price_provider must be a string or None"),
        ("telemetry_provider", 1, "Broken.telemetry_provider must be a string or None"),
        ("unsupported_config", ["top_k"], "Broken.unsupported_config must be a dict"),
        ("default_model", 5, "Name a model"),
        ("server", property(lambda self: 1 / 0), "Broken.server cannot be read: ZeroDivisionError"),
    ],
)
def test_an_attribute_of_a_wrong_type_is_named(name: str, value: Any, words: str) -> None:
    broken = type("Broken", (Mine,), {name: value})
    with pytest.raises(ConfigurationError, match=words):
        CreateAgent(broken(), recorder=MetricsRecorder())


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (lambda: ["m"], r"has a models\(\) that is not async"),
        (lambda: None, r"has a models\(\) that is not async"),
        (lambda: asyncio.sleep(0, None), r"has a models\(\) that returns no list of names"),
        (lambda: asyncio.sleep(0, "m"), r"returns no list of names"),
        (lambda: asyncio.sleep(0, ["m", 3]), r"returns no list of names"),
        (lambda: asyncio.sleep(0, {"m": 1}), r"returns no list of names"),
    ],
)
@pytest.mark.asyncio
async def test_models_that_are_wrong(models: Callable[[], Any], words: str) -> None:
    provider = Mine()
    provider.models = models  # type: ignore[method-assign]
    with pytest.raises(ProtocolError, match=f"The provider 'mine' .*{words}"):
        await CreateAgent(provider, recorder=MetricsRecorder()).models()


@pytest.mark.asyncio
async def test_a_tuple_of_models_is_a_list_of_them() -> None:
    provider = Mine()
    provider.models = lambda: asyncio.sleep(0, ("a", "b"))  # type: ignore[assignment, method-assign, return-value]
    assert await CreateAgent(provider, recorder=MetricsRecorder()).models() == ["a", "b"]
