"""What is kept of what was said: nothing, or without keys, or as the user's own function leaves it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from family import ScriptedProvider

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.core.events import Reasoning, RoundEnded, ToolCallRequested
from createagents_nb.errors import ProviderError
from createagents_nb.metrics import MetricsRecorder, RecorderWarning
from createagents_nb.metrics.export import to_json, to_prometheus
from createagents_nb.redaction import mask_keys
from createagents_nb.render.bundle import NOT_KEPT, render_bundle
from createagents_nb.render.turn_state import TurnTracker
from createagents_nb.tools.tool import resolve_tools

CANARY = "canary"
KEY = "sk-abcdefgh12345678"


def table(name: str) -> Any:
    """A table.

    Args:
        name: its name
    """
    import pandas as pd

    return pd.DataFrame({CANARY: [name]})


def fail(name: str) -> str:
    """Fails.

    Args:
        name: its name
    """
    raise LookupError(f"{CANARY} {name}")


async def turn(recorder: MetricsRecorder, said: str = CANARY) -> StreamingResponseDTO:
    provider = ScriptedProvider()
    arguments = json.dumps({"name": said})
    provider.enqueue(
        Reasoning(f"{said} I think"),
        f"{said} **first** ",
        ToolCallRequested("t1", "table", arguments),
        ToolCallRequested("t2", "fail", arguments),
        ToolCallRequested("t3", "table", json.dumps({said: 1})),
        ToolCallRequested("t4", f"no-such-tool-{said}", arguments),
    )
    provider.enqueue(f"`{said}` last", RoundEnded("stop"))
    agent = Agent(name="a", model="m", tools=resolve_tools([table, fail], {}))
    response = await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, f"{said}?")
    assert said in await response
    return response


def bundle_of(response: StreamingResponseDTO) -> dict[str, Any]:
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return render_bundle(tracker.snapshot())


def everything(recorder: MetricsRecorder, response: StreamingResponseDTO, rows: list[Any]) -> str:
    """All that a recorder and a notebook keep of a turn."""
    frames = [frame.to_csv() for frame in (recorder.calls, recorder.requests, recorder.tools)]
    records = [recorder.call_records, recorder.request_records, recorder.tool_records]
    shown = [repr(recorder.show()), recorder.show()._repr_html_(), recorder._repr_html_()]
    return repr((frames, records, shown, rows, to_json(recorder), to_prometheus(recorder), bundle_of(response)))


@pytest.mark.asyncio
async def test_without_content_nothing_that_was_said_is_kept_anywhere() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows, record_content=False)
    response = await turn(recorder)
    kept = everything(recorder, response, rows)
    # A tool's name is no content: it is what the tools' figures are counted by.
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")
    assert recorder.tools["status"].tolist() == ["ok", "error", "invalid_arguments", "unknown_tool"]
    assert recorder.tools["error"].tolist()[1] == "LookupError"
    assert recorder.calls["tool_calls"].tolist() == [4]
    bundle = bundle_of(response)
    for kind in ("text/html", "text/plain"):
        assert NOT_KEPT in bundle[kind]
        assert "table" in bundle[kind]
    assert CANARY in response.text  # who holds the response has the answer


@pytest.mark.asyncio
async def test_content_may_be_turned_off_between_calls() -> None:
    recorder = MetricsRecorder()
    await turn(recorder, "one")
    recorder.record_content = False
    await turn(recorder, "two")
    assert recorder.calls["prompt"].tolist()[0] == "one?"
    assert recorder.calls["prompt"].isna().tolist() == [False, True]


@pytest.mark.asyncio
async def test_keys_and_bearer_tokens_are_masked_in_all_that_is_kept() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows)
    kept = everything(recorder, response := await turn(recorder, KEY), rows)
    assert KEY not in kept.replace(f"no-such-tool-{KEY}", "")
    assert recorder.calls["prompt"].tolist() == ["***?"]
    assert recorder.tools["arguments"].tolist()[0] == '{"name": "***"}'
    assert "<strong>first</strong>" in bundle_of(response)["text/html"]
    other = MetricsRecorder()
    await turn(other, token := "Authorization: Bearer abcdef.123456")
    assert token not in repr((other.call_records, other.tool_records)).replace(f"no-such-tool-{token}", "")


@pytest.mark.asyncio
async def test_ones_own_function_masks_what_is_kept() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows, redact=lambda text: text.replace(CANARY, "[bird]"))
    response = await turn(recorder)
    kept = everything(recorder, response, rows)
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")
    assert recorder.calls["response"].tolist()[0].startswith("[bird] **first**")
    assert "[bird]" in bundle_of(response)["text/html"]


@pytest.mark.asyncio
async def test_a_function_that_fails_keeps_nothing_and_is_told_of_once() -> None:
    def broken(text: str) -> str:
        raise ValueError("no idea")

    recorder = MetricsRecorder(redact=broken)
    said = r"redact= failed, so a text was not kept: ValueError: no idea"
    with pytest.warns(RecorderWarning, match=said) as told:
        response = await turn(recorder)
    kept = everything(recorder, response, [])
    assert len(told) == 1
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")


@pytest.mark.asyncio
async def test_a_function_that_fails_with_what_it_was_given_does_not_have_it_told() -> None:
    recorder = MetricsRecorder(redact={}.__getitem__)
    with pytest.warns(RecorderWarning, match="redact= failed, so a text was not kept: KeyError") as told:
        await turn(recorder, f"{CANARY} {KEY}")
    assert CANARY not in str(told[0].message)
    assert KEY not in str(told[0].message)


@pytest.mark.asyncio
async def test_a_turn_that_began_without_content_stays_so_whatever_is_set_later() -> None:
    recorder = MetricsRecorder(record_content=False)
    gate = asyncio.Event()
    provider = ScriptedProvider()
    provider.enqueue(f"{CANARY} one", gate, f"{CANARY} two")
    use_case = ChatWithAgentUseCase(provider, sink=recorder)
    response = await use_case.execute(Agent(name="a", model="m"), CANARY)
    recorder.record_content = True
    gate.set()
    await response
    assert CANARY not in repr((recorder.call_records, bundle_of(response), response, [response]))
    assert "not kept" in repr(response)


@pytest.mark.asyncio
async def test_ones_own_function_sees_letters_and_not_their_escapes() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder(redact=lambda text: text.replace("José", "[name]"))
    provider.enqueue(ToolCallRequested("t1", "table", json.dumps({"name": "José"})))
    provider.enqueue("done")
    agent = Agent(name="a", model="m", tools=resolve_tools([table], {}))
    response = await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, "Hello")
    await response
    assert recorder.tools["arguments"].tolist() == ['{"name": "[name]"}']
    assert "José" not in repr(bundle_of(response))


@pytest.mark.asyncio
async def test_half_a_surrogate_pair_in_arguments_can_be_shown_and_hides_nothing() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder(redact=lambda text: text.replace("José", "[name]"))
    provider.enqueue(ToolCallRequested("t1", "table", '{"name": "Jos\\u00e9\\ud83d"}'))
    provider.enqueue("done")
    agent = Agent(name="a", model="m", tools=resolve_tools([table], {}))
    await (await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, "Hello"))
    assert recorder.tools["arguments"].tolist() == ['{"name": "[name]\ufffd"}']
    assert recorder.tools.to_html().encode()


@pytest.mark.asyncio
async def test_a_table_that_holds_what_is_masked_is_not_shown_as_one() -> None:
    def people() -> Any:
        """People."""
        import pandas as pd

        return pd.DataFrame({"who": ["Anna|Maria"]})

    provider, recorder = ScriptedProvider(), MetricsRecorder(redact=lambda text: text.replace("Anna|Maria", "***"))
    provider.enqueue(ToolCallRequested("t1", "people", "{}"))
    provider.enqueue("done")
    agent = Agent(name="a", model="m", tools=resolve_tools([people], {}))
    response = await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, "Hello")
    await response
    assert "Anna|Maria" not in bundle_of(response)["text/html"]


@pytest.mark.asyncio
async def test_an_error_that_quotes_the_prompt_is_masked_too() -> None:
    provider, recorder = ScriptedProvider(), MetricsRecorder(redact=lambda text: text.replace(CANARY, "[bird]"))
    provider.enqueue("x", ProviderError(f"no {CANARY} here"))
    use_case = ChatWithAgentUseCase(provider, sink=recorder)
    response = await use_case.execute(Agent(name="a", model="m"), CANARY)
    await response.wait()
    assert CANARY not in repr((recorder.call_records, recorder.request_records, bundle_of(response)))
    assert recorder.calls["error"].tolist() == ["no [bird] here"]


def test_a_function_that_returns_nothing_keeps_nothing() -> None:
    assert MetricsRecorder(redact=lambda text: None).redact_text("x") is None  # type: ignore[arg-type, return-value]


KEYS = [
    "sk-proj-Abcdefgh12345678ijkl",
    "sk-abcdefgh12345678",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-17653672481-19874698323",
    "hf_AbCdEfGh1234567890abcdefgh",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSM",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_all_makers_are_masked(key: str) -> None:
    assert mask_keys(f"use {key}, please") == "use ***, please"
    assert mask_keys(f'{{"x": "{key}"}}') == '{"x": "***"}'


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Authorization: Bearer abcdef.123456", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==", "Authorization: Basic ***"),
        ("https://user:pass1word@example.org/x", "https://user:***@example.org/x"),
        ('api_key="4f9a8b7c6d5e4f3a"', 'api_key="***"'),
        ('{"token": "4f9a8b7c6d5e4f3a"}', '{"token": "***"}'),
    ],
)
def test_what_is_said_to_be_a_secret_is_masked(said: str, kept: str) -> None:
    assert mask_keys(said) == kept


@pytest.mark.parametrize(
    "code",
    [
        "token = tokenizer.decode(ids)",
        'client = OpenAI(api_key=os.environ["OPENAI_API_KEY"])',
        "from huggingface_hub import hf_hub_download",
        "next_token: torch.LongTensor",
        "pip install sk-learn-contrib scikit-learn==1.5.0",
        "The bearer of this letter, Basic English, a password: your usual one",
        'password = getpass("Password: ")',
        "https://example.org:8080/a@b",
        "risk-adjusted-return-2024 and task-force-2023-report",
    ],
)
def test_code_and_prose_stay_as_they_are(code: str) -> None:
    assert mask_keys(code) == code
