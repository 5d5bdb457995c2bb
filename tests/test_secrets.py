"""A key is in the request, and nowhere else: whatever becomes of a turn, it is searched in all that is left."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import os
import pickle
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from family import eventually
from fault_server import Exchange, FaultServer, Serve, said
from IPython.core.ultratb import VerboseTB
from tblib import pickling_support

from createagents_nb import CreateAgent, errors, redaction, tool
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.errors import ConfigurationError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.metrics.export import to_json, to_prometheus
from createagents_nb.redaction import Secret, mask_keys, mask_known_keys, redact
from createagents_nb.render.bundle import render_bundle
from createagents_nb.render.turn_state import TurnTracker

PROVIDERS = ["openai", "ollama"]
VARIABLES = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY"}
CANARY = "zq7-C4nary/Of+TheCoal=Mine"
"""In no shape by which a key is known."""
SPELLINGS = {
    "as it is": CANARY,
    "its beginning": CANARY[:14],
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "in an address": urllib.parse.quote(CANARY, safe=""),
    "in a form": urllib.parse.quote_plus(CANARY),
}


def assert_clean(text: str, where: str) -> None:
    for spelling, canary in SPELLINGS.items():
        at = text.find(canary)
        assert at < 0, f"the key is in {where} ({spelling}): …{text[max(0, at - 300) : at + 100]}…"


@tool
def unlock() -> str:
    """Opens what needs the key."""
    raise PermissionError(f"{os.environ['CANARY']} opens nothing")


@tool
def peep() -> dict[str, str]:
    """Shows too much."""
    return {"key": os.environ["CANARY"], "note": f"key={os.environ['CANARY']};"}


# ── what a server may do with it ─────────────────────────────────────────────────────────────────────────


def key_in(exchange: Exchange) -> str:
    return exchange.request.headers["authorization"].removeprefix("Bearer ")


async def be_fine(exchange: Exchange) -> None:
    await exchange.answer("fine")


def repeat(status: str) -> Serve:
    """The key in every place of a refusal."""

    async def serve(exchange: Exchange) -> None:
        key = key_in(exchange)
        error = {"message": f"Incorrect key: {key}", "code": key, "param": [key, {"key": key}]}
        await exchange.json({"error": error, "detail": key}, status, x_key=key, www_authenticate=key)

    return serve


def repeat_in_page(status: str) -> Serve:
    async def serve(exchange: Exchange) -> None:
        key = key_in(exchange)
        # Where a message is cut, the key must not be cut with it.
        page = f"<html><body>{'x' * 30} {key} {'y ' * 10}{key}{' z' * 20} {key} {key} {key}</body></html>"
        await exchange.reply(page.encode(), status, content_type="text/html")

    return serve


async def repeat_in_mid_stream(exchange: Exchange) -> None:
    error = b'{"error": "%s is no key"}' % key_in(exchange).encode()
    body = b"data: %s\n\n" % error if exchange.provider == "openai" else error + b"\n"
    await exchange.reply(b"".join(said(exchange.provider, "so far", finished=False)) + body)


async def repeat_in_broken_json(exchange: Exchange) -> None:
    broken = b'{"key": "%s" "%s' % (key_in(exchange).encode(), key_in(exchange).encode())
    await exchange.reply(b"data: %s\n\n" % broken if exchange.provider == "openai" else broken + b"\n")


async def repeat_in_header(exchange: Exchange) -> None:
    await exchange.send(f"HTTP/1.1 200 OK\r\nx: {key_in(exchange) * 400}\r\n\r\n".encode())
    exchange.close()


async def be_silent(exchange: Exchange) -> None:
    await exchange.stall()


async def hang_up(exchange: Exchange) -> None:
    exchange.close()


async def hang_up_in_mid_stream(exchange: Exchange) -> None:
    await exchange.begin()
    exchange.close()


def ask_for(name: str) -> Serve:
    async def serve(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.reply(b"".join(said(exchange.provider, tool=name)))
        else:
            await exchange.answer("fine")

    return serve


RUNS: dict[str, Serve] = {
    "fine": be_fine,
    "401 that repeats it": repeat("401 Unauthorized"),
    "404 that repeats it": repeat("404 Not Found"),
    "500 that repeats it": repeat("500 Internal Server Error"),
    "page that repeats it": repeat_in_page("503 Service Unavailable"),
    "page with 200 that repeats it": repeat_in_page("200 OK"),
    "error in mid-stream that repeats it": repeat_in_mid_stream,
    "broken JSON that repeats it": repeat_in_broken_json,
    "header that repeats it": repeat_in_header,
    "silence": be_silent,
    "closed": hang_up,
    "closed in mid-stream": hang_up_in_mid_stream,
    "a tool that fails with it": ask_for("unlock"),
    "a tool that shows it": ask_for("peep"),
}


@pytest.fixture
def chatter(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged by anybody concerned."""
    for name in ("createagents_nb", "openai", "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def made(provider: str, origin: str, how: str, patch: pytest.MonkeyPatch, **more: Any) -> CreateAgent:
    patch.setenv("CANARY", CANARY)
    address = f"{origin}/v1" if provider == "openai" else origin
    more = {"max_retries": 0, "tools": [unlock, peep], "timeout_s": 10.0, "base_url": address} | more
    if how == "environment":
        patch.setenv(VARIABLES[provider], CANARY)
        return CreateAgent(provider, "m", **more)
    return CreateAgent(provider, "m", api_key=CANARY, **more)


def printed(error: BaseException) -> Iterator[tuple[str, str]]:
    """An error in every way in which one is shown."""
    yield "str", f"{error} {error!r} {error.args} {getattr(error, '__notes__', '')}"
    yield "traceback", "".join(traceback.format_exception(error))
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "traceback with locals", "".join(with_locals.format())
    # Colours would cut what is searched for, and take half of the time.
    lines = VerboseTB(theme_name="nocolor").structured_traceback(type(error), error, error.__traceback__)
    yield "IPython's verbose traceback", "\n".join(lines)
    pickling_support.install(error)  # as Dask does: with all that is below an error
    yield "pickle", pickle.dumps(error).decode("latin-1")


def assert_ours(error: BaseException) -> None:
    """No foreign exception, and no frame of one, can be reached from an error."""
    below: BaseException | None = error
    while below is not None:
        assert type(below).__module__.startswith("createagents_nb."), repr(below)
        assert below is error or below.__traceback__ is None
        assert below.__context__ is None
        below = below.__cause__


def kept(response: StreamingResponseDTO, recorder: MetricsRecorder, folder: Path) -> Iterator[tuple[str, str]]:
    """All that is kept of a turn."""
    yield "response", f"{response!r} {response.text} {response.record} {response.usage}"
    yield "events", repr(response.events_so_far())
    yield "pickled record", pickle.dumps(response.record).decode("latin-1")
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    yield "static bundle", repr(render_bundle(tracker.snapshot()))
    yield "live view", repr(tracker.snapshot())
    for name in ("calls", "requests", "tools"):
        yield name, getattr(recorder, name).to_csv()
    yield "records", repr((recorder.call_records, recorder.request_records, recorder.tool_records))
    yield "details", f"{recorder.show()!r} {recorder.show()._repr_html_()} {recorder!r} {recorder._repr_html_()}"
    yield "JSON", to_json(recorder)
    yield "Prometheus", to_prometheus(recorder)
    recorder.to_csv(folder / "csv")
    recorder.to_parquet(folder / "parquet")
    recorder.persist(folder / "calls.sqlite")
    recorder.persist(None)
    for file in folder.rglob("*"):
        if file.is_file():
            yield file.name, file.read_bytes().decode("latin-1")


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("run", RUNS)
def test_the_key_is_in_nothing_that_a_turn_leaves_behind(
    run: str,
    provider: str,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chatter: pytest.LogCaptureFixture,
) -> None:
    recorder = MetricsRecorder()
    found: list[tuple[str, str]] = []

    async def turn(origin: str) -> None:
        agent = made(
            provider, origin, how, monkeypatch, recorder=recorder, timeout_s=0.3 if run == "silence" else 10
        )
        response = await agent.chat("Hello")
        try:
            await response
        except errors.ProviderError as error:
            assert_ours(error)
            found.extend(printed(error))
        found.extend(kept(response, recorder, tmp_path))
        found.append(("agent", f"{agent!r} {agent.get_configs()} {agent._repository!r} {agent.history}"))
        transport = await agent._repository._transport()  # type: ignore[attr-defined]
        found.append(("transport", f"{transport!r} {vars(transport)}"))
        found.append(("adapter", repr(vars(agent._repository))))

    with FaultServer(provider, RUNS[run]) as server:
        server.listen()
        asyncio.run(turn(server.origin))
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"  # it was there to be found
    assert len(found) > 12
    for where, text in found:
        assert_clean(text, where)
    assert_clean(chatter.text + repr([vars(record) for record in chatter.records]), "logs")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_request_that_is_tried_again_keeps_the_key_to_itself(
    provider: str, monkeypatch: pytest.MonkeyPatch, chatter: pytest.LogCaptureFixture
) -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.json({"error": "busy"}, "503 Service Unavailable", retry_after="0.001")
        else:
            await exchange.stall()

    found: list[tuple[str, str]] = []

    async def turn(origin: str) -> None:
        agent = made(
            provider, origin, "argument", monkeypatch, recorder=MetricsRecorder(), max_retries=1, timeout_s=0.3
        )
        try:
            await (await agent.chat("Hello"))
        except errors.ProviderTimeoutError as error:
            assert_ours(error)
            found.extend(printed(error))

    with FaultServer(provider, serve) as server:
        server.listen()
        asyncio.run(turn(server.origin))
    assert len(server.requests) == 2
    assert found
    for where, text in found:
        assert_clean(text, where)
    assert_clean(chatter.text, "logs")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_key_is_in_nothing_that_a_stopped_turn_leaves_behind(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.stall()

    async def turn(server: FaultServer) -> None:
        recorder = MetricsRecorder()
        agent = made(provider, server.origin, "argument", monkeypatch, recorder=recorder)
        response = await agent.chat("Hello")
        await eventually(lambda: response.text)
        response.cancel()
        await response.wait()
        for where, text in kept(response, recorder, tmp_path):
            assert_clean(text, where)
        waiting = asyncio.ensure_future(agent.chat("Hello"))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await agent.aclose()

    with FaultServer(provider, serve) as server:
        server.listen()
        asyncio.run(turn(server))


def the_key() -> str:
    return os.environ["CANARY"]


WRONG: dict[str, Callable[[], Any]] = {
    "an unknown option": lambda: CreateAgent("openai", "m", api_key=the_key(), config={"nope": 1}),
    "an address": lambda: CreateAgent("openai", "m", api_key=the_key(), base_url="nowhere"),
    "a model that is none": lambda: CreateAgent("openai", 3, api_key=the_key()),  # type: ignore[arg-type]
    "a space in it": lambda: CreateAgent("openai", "m", api_key=the_key() + "\x07"),
    "the other provider": lambda: CreateAgent("ollama", "m", api_key=the_key(), max_retries=-1),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_the_key_is_in_no_error_about_another_argument(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    found: list[tuple[str, str]] = []
    try:
        WRONG[mistake]()
    except ConfigurationError as error:
        found.extend(printed(error))
    assert found
    for where, text in found:
        assert_clean(text, where)


def test_an_agent_is_not_pickled_and_says_so() -> None:
    agent = CreateAgent("openai", "m", api_key=CANARY, recorder=MetricsRecorder())
    for pack in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError, match=r"not copied or pickled.*CreateAgent\("):
            pack(agent)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(agent._repository)


def test_a_secret_is_the_string_that_it_is_and_shows_nothing() -> None:
    secret = Secret(CANARY)
    assert (secret, f"Bearer {secret}", hash(secret)) == (CANARY, f"Bearer {CANARY}", hash(CANARY))
    assert repr([secret, {"key": secret}]) == "[***, {'key': ***}]"
    assert copy.deepcopy({"key": secret})["key"] is copy.copy(secret) is secret
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(secret)


@pytest.mark.parametrize("key", ["v3ry-odd-looking-one", "only-words-and-yet-a-key"])
def test_a_key_in_use_is_masked_whatever_it_looks_like(key: str) -> None:
    before = f"the token {key}"
    assert (mask_keys(before), redact(before)) == (before, before)
    CreateAgent("openai", "m", api_key=key, base_url="http://127.0.0.1:1/v1")
    assert mask_keys(before) == redact(before) == "the token ***"


def test_a_key_that_begins_with_another_is_masked_as_a_whole() -> None:
    short, long = Secret("a-key-with-1-digit").mask(), Secret("a-key-with-1-digit-and-more").mask()
    for mask in (mask_keys, mask_known_keys, redact):
        assert mask(f"{short} and {long}") == "*** and ***"
    assert redact(f"{long} and another-key", short, "another-key") == "*** and ***"


def test_reset_forgets_the_keys_in_use() -> None:
    key = Secret("v3ry-odd-looking-one").mask()
    assert mask_known_keys(key) == "***"
    redaction.reset()
    assert mask_known_keys(key) == key


def test_a_placeholder_in_place_of_a_key_is_left_alone() -> None:
    for placeholder in ("not-needed", "lm-studio", "none", "sk-no-key-required", "demo"):
        CreateAgent("openai", "m", api_key=placeholder, base_url="http://127.0.0.1:1/v1")
        assert mask_keys(f"the server {placeholder} answers") == f"the server {placeholder} answers"
