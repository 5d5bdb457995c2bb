"""`%agent key` asks for the key; no message of the kernel and no cell has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, sse
from kernel_client import PAGE, Execution, Kernel, answer, shared_kernel

pytestmark = pytest.mark.kernel
KEY = "zq7-C4nary-Of-TheCoal-Mine"


@pytest.fixture
def kernel() -> Kernel:
    return shared_kernel()


def asked(kernel: Kernel, code: str, typed: str) -> tuple[Execution, dict[str, Any]]:
    """A cell that asks for something, and what it asked."""
    execution = kernel.send(code, allow_stdin=True)
    question: dict[str, Any] = kernel.client.get_stdin_msg(timeout=60)["content"]
    kernel.client.input(typed)
    return execution.end(), question


def everything(kernel: Kernel) -> str:
    return json.dumps(kernel.messages, default=str)


def test_the_key_is_asked_for_and_stays_in_the_kernel(kernel: Kernel, server: ScriptedServer) -> None:
    try:
        cell, question = asked(kernel, "%agent key", f" {KEY}\n")
        assert question == {"prompt": "OPENAI_API_KEY: ", "password": True}
        assert cell.stdout == "OPENAI_API_KEY is set for new agents and %%agent, in this kernel until it ends\n"
        assert cell.status == "ok"
        kernel.ok(f"import os; os.environ['OPENAI_BASE_URL'] = {server.openai_url!r}")
        server.enqueue(answer("fine"))
        made = "from createagents_nb import CreateAgent, recorder\nk = CreateAgent('openai', 'm', max_retries=0)"
        kernel.ok(made)
        kernel.ok("await k.chat('Hello')", PAGE)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        # From here on the server, and a tool, do what they can to show it.
        server.enqueue(json_reply({"error": {"message": f"no such key: {KEY}"}}, "401 Unauthorized", x=KEY))
        kernel.run("await k.chat('Hello')", PAGE)
        call = {"index": 0, "id": "c", "function": {"name": "peep", "arguments": "{}"}}
        server.enqueue(sse(delta(tool_calls=[call]), delta(finish="tool_calls")))
        server.enqueue(answer("It is not for me to say."))
        server.enqueue(Reply([f"<html>{KEY}</html>".encode()]))
        kernel.ok(
            "from createagents_nb import tool\n"
            "@tool\ndef peep() -> str:\n    'Shows it.'\n    return os.environ['OPENAI_API_KEY']\n"
            "t = CreateAgent('openai', 'm', max_retries=0, tools=[peep])"
        )
        kernel.ok("await t.chat('Hello')", PAGE)
        kernel.run("%xmode Verbose\nawait (await t.chat('Hello'))", PAGE)
        kernel.run("%tb")
        kernel.ok("print(recorder.calls.to_string(), recorder.tools.to_string())\nrecorder.show()")
        kernel.run("k\nt\nk.history")
        assert len(server.requests) == 5
        assert "comm_open" in everything(kernel)
        assert KEY not in everything(kernel)
        assert KEY not in kernel.value("repr(In)")
    finally:
        kernel.run(
            "%xmode Context\nos.environ.pop('OPENAI_API_KEY'); os.environ.pop('OPENAI_BASE_URL')\n%agent use auto"
        )


def test_nothing_entered_changes_nothing(kernel: Kernel) -> None:
    cell, question = asked(kernel, "%agent key ollama", "  ")
    assert question["prompt"] == "OLLAMA_API_KEY: "
    assert cell.stdout == "Nothing was entered; nothing has changed\n"
    assert kernel.value("__import__('os').environ.get('OLLAMA_API_KEY')") is None


def test_a_key_that_cannot_be_one_is_refused_and_not_shown(kernel: Kernel) -> None:
    cell, _ = asked(kernel, "%agent key", f"{KEY}\x07")
    assert "characters that no key has" in cell.one_line_error("ConfigurationError")
    assert KEY not in everything(kernel)


def test_a_key_written_behind_the_command_is_not_taken_and_not_repeated(kernel: Kernel) -> None:
    for line in (f"%agent key {KEY}", f"%agent key openai {KEY}"):
        message = kernel.run(line).one_line_error("MagicUsageError")
        assert "the key is asked for" in message
        assert KEY not in message


def test_where_nobody_can_be_asked_the_variable_is_named(kernel: Kernel) -> None:
    message = kernel.run("%agent key").one_line_error("MagicUsageError")
    assert "Set OPENAI_API_KEY in the environment" in message


def test_without_a_key_the_error_names_the_command(kernel: Kernel) -> None:
    message = kernel.run("CreateAgent('openai', 'm')").one_line_error("MissingKeyError")
    assert "`%agent key`" in message
