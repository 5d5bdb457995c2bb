"""Whatever goes wrong on the way to a server: one typed error, what arrived is kept, and the next turn works.

What comes out of each scenario is also what docs/reliability.md says. After a change:
``RENEW_DOCS=1 python -m pytest tests/test_faults.py`` writes it anew.
"""

from __future__ import annotations

import asyncio
import functools
import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from family import eventually
from fault_server import FaultServer, certificate, trusting
from faults import FAULTS, STATUSES, TOOL, Fault
from kernel_client import wait_until
from reliability_page import Outcome, neutral, render

import createagents_nb.errors
from createagents_nb import CreateAgent, tool
from createagents_nb.errors import ProviderError
from createagents_nb.metrics import MetricsRecorder

PROVIDERS = ["openai", "ollama"]
CASES = [(name, provider) for name in FAULTS for provider in PROVIDERS]
TLS = ("untrusted", "other name", "no tls")
KEY = "zz-very-secret-0123456789"
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
WAYS_OUT = (
    "Try again",
    "timeout_s",
    "Check ",
    "Start it",
    "Set ",
    "Wait",
    "horten",
    "Send the message again",
    "Give its final address",
    "Look at ",
    "Leave tools out",
    "Choose another",
    "Change its wording",
)


@tool(name=TOOL)
def clock() -> str:
    """What time it is."""
    return "noon"


@functools.cache
def outcome(name: str, provider: str) -> Outcome:
    """What comes of a scenario; it is played once."""
    fault = FAULTS[name]
    tls = None
    if fault.way == "untrusted":
        tls = certificate("localhost", trusted=False)
    elif fault.way == "other name":
        tls = certificate("elsewhere.example")
    tool_name = TOOL if fault.has_tool else None
    with (
        trusting() if fault.way in TLS else nullcontext(),
        FaultServer(provider, fault.serve, tls=tls, tool=tool_name) as server,
    ):
        if fault.way != "deaf":
            server.listen()
        result = asyncio.run(turns(fault, provider, server))
        wait_until(lambda: server.open_connections == 0, "all connections are closed with the loop")
        return result


async def turns(fault: Fault, provider: str, server: FaultServer) -> Outcome:
    """One turn that meets the fault, and one after it."""
    recorder = MetricsRecorder()
    agent = CreateAgent(
        provider,
        "m",
        base_url=address(fault, provider, server),
        api_key=KEY,
        tools=[clock] if fault.has_tool else None,
        timeout_s=fault.timeout_s,
        max_retries=fault.max_retries,
        recorder=recorder,
    )
    response = await agent.chat("Hello")
    with suppress(ProviderError):
        async for token in response:
            if "so far" in token:
                server.seen.set()
    await response.wait()
    await eventually(lambda: server.busy == 0)
    requests = len(server.requests)
    check_records(recorder, response, fault, provider)
    if fault.way != "nowhere":
        server.mend(certificate("localhost") if fault.way in TLS else None)
        assert await (await agent.chat("And now?")) == "fine"
        assert recorder.calls["status"].tolist() == [response.status, "ok"]
        (last,) = server.requests[-1:]
        said = [message["content"] for message in last.json["messages"]]
        # What was refused as such is not sent again.
        assert said[0] == "Hello" or (response.error is not None and response.error.refuses_message)
        assert said[-1] == "And now?"
        await eventually(lambda: server.busy == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    error = response.error
    return Outcome(
        error=None if error is None else type(error).__name__,
        message="" if error is None else neutral(str(error), server.port),
        caused=error is not None and error.__cause__ is not None,
        text=response.text,
        retries=int(recorder.requests["retries"].iloc[1 if fault.has_tool else 0]),
        requests=requests,
    )


def address(fault: Fault, provider: str, server: FaultServer) -> str:
    origin = server.origin
    if fault.way == "nowhere":
        origin = "http://no-such-host.invalid"
    elif fault.way == "no tls":
        origin = f"https://localhost:{server.port}"
    return f"{origin}/v1" if provider == "openai" else origin


def check_records(recorder: MetricsRecorder, response: Any, fault: Fault, provider: str) -> None:
    """The turn has its rows, and they say how it ended."""
    error = response.error
    status = "ok" if error is None else "error"
    kind = None if error is None else type(error).__name__
    assert response.status == status
    (call,) = recorder.calls.astype(object).where(recorder.calls.notna(), None).to_dict("records")
    assert (call["status"], call["error_type"], call["response"]) == (status, kind, response.text)
    assert call["error"] == (None if error is None else str(error))
    rows = recorder.requests.astype(object).where(recorder.requests.notna(), None).to_dict("records")
    assert [row["status"] for row in rows] == (["ok", status] if fault.has_tool else [status])
    assert rows[-1]["error_type"] == kind
    assert rows[-1]["retries"] == fault.of(provider, "retries")
    assert recorder.tools["status"].tolist() == (["ok"] if fault.has_tool else [])
    if error is not None:
        assert error.retries == rows[-1]["retries"]
        assert error.provider == provider


@pytest.mark.parametrize(("name", "provider"), CASES)
def test_a_fault_ends_in_one_typed_error_and_the_next_turn_works(name: str, provider: str) -> None:
    fault, found = FAULTS[name], outcome(name, provider)
    assert (found.error, found.text) == (fault.of(provider, "error"), fault.of(provider, "kept")), found.message
    assert found.retries == fault.of(provider, "retries")
    if found.error is None:
        return
    assert issubclass(getattr(createagents_nb.errors, found.error), ProviderError)
    assert found.caused == fault.of(provider, "caused")
    assert any(way in found.message for way in WAYS_OUT), found.message
    assert len(found.message) < 500
    assert KEY not in found.message
    if fault.way == "http":
        first = 1 if fault.has_tool else 0
        redirects = "redirect" in name
        assert redirects or found.requests == first + found.retries + 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", STATUSES)
def test_how_a_status_is_explained_does_not_change_what_it_is(status: str, provider: str) -> None:
    json, empty, html = (
        outcome(f"{status[:3]} with {body}", provider) for body in ("JSON", "an empty body", "HTML")
    )
    assert json.error == empty.error == html.error
    assert "here is why" in json.message
    assert "no explanation" in empty.message
    assert "Log in first" in html.message
    assert "<" not in html.message.replace("<server>", "")


@pytest.mark.checkout
def test_the_page_says_what_comes_out() -> None:
    page = render({case: outcome(*case) for case in CASES})
    if os.environ.get("RENEW_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    how = "docs/reliability.md is out of date: RENEW_DOCS=1 python -m pytest tests/test_faults.py writes it anew"
    assert PAGE.is_file(), how
    assert PAGE.read_text(encoding="utf-8") == page, how
