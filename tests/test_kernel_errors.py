"""Bad input in a cell: one line that names the way out, nothing sent, nothing lost, and no key anywhere."""

from __future__ import annotations

import json

import pytest
from family import ScriptedServer, delta, json_reply, sse
from kernel_client import CANARY, PAGE, Execution, Kernel, answer, make_agent, shared_kernel

pytestmark = pytest.mark.kernel

ENVIRONMENT_CANARY = "plainCanaryOfTheEnvironment42"


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` whose provider is the scripted server."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    return kernel


def assert_next_cell_works(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("fine"))
    assert "fine" in kernel.ok("await a.chat('hi')", PAGE).saved[0]["text/plain"]


BEFORE_ANYTHING_IS_SENT = {
    "unknown option": ("%%agent --foo a\nhi", "MagicUsageError", ["--foo", "%%agent?"]),
    "unknown short option": ("%%agent a -x\nhi", "MagicUsageError", ["-x", "%%agent?"]),
    "option without its value": ("%%agent a -m\nhi", "MagicUsageError", ["-m"]),
    "prompt on the magic's line": ("%%agent what's this\nhi", "MagicUsageError", ["%%agent"]),
    "output that is no name": ("%%agent a -o 1x\nhi", "MagicUsageError", ["1x", "not a variable name"]),
    "empty body": ("%%agent a\n", "MagicUsageError", ["empty", "below"]),
    "blank body": ("%%agent a\n   \n\n", "MagicUsageError", ["empty", "below"]),
    "undefined name": ("%%agent a\n{{nope}}", "InterpolationError", ["nope", "--raw"]),
    "failing expression": ("%%agent a\n{{1 / 0}}", "InterpolationError", ["ZeroDivisionError", "1 / 0"]),
    "open braces": ("%%agent a\n{{nope", "InterpolationError", ["}}"]),
    "not an agent": (
        "n = 3\nget_ipython().run_cell_magic('agent', 'n', 'hi')",
        "AgentNotFoundError",
        ["int", "a"],
    ),
    "no such agent": ("%%agent aa\nhi", "AgentNotFoundError", ["'aa'", "did you mean 'a'", "%agent new"]),
    "unknown tool": ("%%agent a -t nope\nhi", "UnknownToolError", ["nope", "currentdate"]),
    "unknown provider option": ("%%agent a -p nope\nhi", "UnknownProviderError", ["nope", "ollama", "demo"]),
    "in %%time": ("%%time\n%%agent a --foo\nhi", "MagicUsageError", ["--foo"]),
    "subcommand": ("%agent stauts", "MagicUsageError", ["did you mean 'status'", "metrics"]),
    "history of nobody": ("%agent history nobody", "AgentNotFoundError", ["nobody"]),
    "new without a name": ("%agent new", "MagicUsageError", ["NAME"]),
    "use of nothing": ("%agent use", "MagicUsageError", ["openai:"]),
    "empty message": ("await a.chat('')", "InvalidMessageError", ["empty"]),
    "blank message": ("await a.chat('  \\n')", "InvalidMessageError", ["empty"]),
    "message not a string": ("await a.chat(['hi'])", "InvalidMessageError", ["list", "str"]),
    "no key": ("CreateAgent('openai', 'm')", "MissingKeyError", ["OPENAI_API_KEY", "api_key", "demo"]),
    "no key for the cell's provider": ("%agent use openai:m", "MissingKeyError", ["OPENAI_API_KEY"]),
    "unknown provider": ("CreateAgent('claude', 'm')", "UnknownProviderError", ["openai", "ollama", "demo"]),
    "unknown config key": (
        "CreateAgent('demo', config={'temprature': 1})",
        "UnknownConfigKeyError",
        ["temprature", "temperature"],
    ),
    "unknown tool name": ("CreateAgent('demo', tools=['nope'])", "UnknownToolError", ["nope", "currentdate"]),
    "tool without description": (
        "def bare(x: int) -> int:\n    return x\nCreateAgent('demo', tools=[bare])",
        "InvalidToolError",
        ["bare", "docstring"],
    ),
    "two tools of one name": (
        "CreateAgent('demo', tools=['currentdate', 'currentdate'])",
        "InvalidToolError",
        ["currentdate"],
    ),
}


@pytest.mark.parametrize(
    ("code", "kind", "words"), BEFORE_ANYTHING_IS_SENT.values(), ids=list(BEFORE_ANYTHING_IS_SENT)
)
def test_mistake_is_one_line_and_nothing_is_sent(
    kernel: Kernel, server: ScriptedServer, code: str, kind: str, words: list[str]
) -> None:
    rows = kernel.value("len(recorder)")
    cell = kernel.run(code, PAGE)
    sentence = cell.one_line_error(kind)
    for word in words:
        assert word in sentence
    assert server.requests == []
    assert cell.saved == []
    assert kernel.value("[len(recorder), len(a.history)]") == [rows, 0]
    assert_next_cell_works(kernel, server)


def test_answer_that_is_not_there_cannot_be_shown(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("one"))
    kernel.ok("%%agent a\nhi")
    for number in ("-500", "500", "first"):
        assert number in kernel.run(f"%agent show {number}").one_line_error("MagicUsageError")


def test_stream_that_fails_keeps_what_arrived(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(sse(delta("Hello "), delta("there"), done=False))  # cut: no finish reason, no end mark
    cell = kernel.run("%%agent a -o kept\nhi", PAGE)
    cell.one_line_error("IncompleteReplyError")
    assert "Hello there" in cell.saved[0]["text/plain"]
    assert "failed" in cell.saved[0]["text/plain"]
    # The cell says it once, in its error; another cell says it in the bundle.
    assert "IncompleteReplyError" not in cell.saved[0]["text/plain"]
    assert "IncompleteReplyError" in kernel.ok("%agent show").saved[0]["text/plain"]
    assert kernel.value("kept") == "Hello there"
    assert kernel.value("recorder.call_records[-1].status") == "error"
    assert_next_cell_works(kernel, server)


def test_one_of_two_turns_fails_and_the_other_is_whole(kernel: Kernel, server: ScriptedServer) -> None:
    make_agent(kernel, server, "b")
    server.enqueue(json_reply({"error": {"message": "no"}}, "400 Bad Request"))
    server.enqueue(answer("whole"))
    cell = kernel.run("import asyncio\nawait asyncio.gather(a.chat('1'), b.chat('2'))", PAGE)
    cell.one_line_error("InvalidRequestError")
    texts = [bundle["text/plain"] for bundle in cell.saved]
    assert sum("whole" in text for text in texts) == 1
    assert sum("failed" in text for text in texts) == 1


def test_unknown_model_names_those_that_exist(kernel: Kernel, server: ScriptedServer) -> None:
    server.on("/v1/models", json_reply({"data": [{"id": "big-1"}, {"id": "small-1"}]}))
    error = {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}
    server.enqueue(json_reply(error, "404 Not Found"))
    sentence = kernel.run("%%agent a\nhi", PAGE).one_line_error("ModelNotFoundError")
    assert "'m'" in sentence
    assert "big-1" in sentence
    assert_next_cell_works(kernel, server)


def test_ollama_that_does_not_run_says_how_to_start_it(kernel: Kernel, server: ScriptedServer) -> None:
    kernel.ok("o = CreateAgent('ollama', 'llama3.2')")
    sentence = kernel.run("await o.chat('hi')", PAGE).one_line_error("ProviderConnectionError")
    assert "ollama serve" in sentence
    assert_next_cell_works(kernel, server)


def test_page_of_html_as_an_error_is_one_line(kernel: Kernel, server: ScriptedServer) -> None:
    page = b"<html><body>" + b"<p>Bad gateway</p>\n" * 500 + b"</body></html>"
    for _ in range(3):  # the first try and two more
        server.enqueue(json_reply(page, "502 Bad Gateway"))
    kernel.run("await a.chat('hi')", PAGE).one_line_error("ServerError")
    assert_next_cell_works(kernel, server)


# Keys


def refused(key: str) -> dict[str, object]:
    return {
        "error": {"message": f"Incorrect API key provided: {key}. See your account.", "code": "invalid_api_key"}
    }


EVERYTHING_THAT_TELLS = [
    "%%agent k\nhi",
    "await k.chat('hi')",
    "%%time\n%%agent k\nhi",
    "r = await k.chat('hi')\nprint(r.status)\nawait r",
    "print(repr(r.error), r.error, vars(r.error), repr(r.error.__cause__), r.error.__cause__)\nr",
    "import traceback\ntraceback.print_exception(r.error)",
    "LoggingConfig.get_logger().error('x', exc_info=r.error)",
    "r.error.args, r.record, r.requests",
    "%tb",
    "k",
    "print(k, repr(k), k.get_configs(), vars(k))",
    "k._repository, vars(k._agent)",
    "%agent status",
    "%agent list",
    "%agent history k",
    "%agent metrics k",
    "%agent show",
    "print(recorder.calls.to_string())\nprint(recorder.requests.to_string())",
    "print(k.export_metrics_json(), k.export_metrics_prometheus())",
]


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_keys_never_appear(kernel: Kernel, server: ScriptedServer, where: str) -> None:
    key = CANARY if where == "argument" else ENVIRONMENT_CANARY
    server.on("/v1/chat/completions", json_reply(refused(key), "401 Unauthorized"))
    first_message = len(kernel.messages)
    kernel.ok("import os\nfrom createagents_nb import LoggingConfig\nLoggingConfig.configure('DEBUG')")
    if where == "argument":
        kernel.ok(f"k = CreateAgent('openai', 'm', base_url={server.openai_url!r}, api_key=os.environ['MY_KEY'])")
    else:
        kernel.value(f"os.environ.__setitem__('OPENAI_API_KEY', {key!r})")
        kernel.ok(f"k = CreateAgent('openai', 'm', base_url={server.openai_url!r})")
    executions: list[Execution] = [kernel.run(code, PAGE) for code in EVERYTHING_THAT_TELLS]
    kernel.value("[os.environ.pop('OPENAI_API_KEY', None), LoggingConfig.reset()] and None")
    sentence = executions[0].one_line_error("AuthenticationError")
    assert "OPENAI_API_KEY" in sentence
    assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    told = json.dumps(kernel.messages[first_message:], default=str)
    told += json.dumps([execution.reply for execution in executions], default=str)
    assert "Incorrect API key" in told
    for secret in (key, key[3:], key[:12]):
        assert secret not in told, told[max(0, told.index(secret) - 300) :][:600]
    assert kernel.ok("1 + 1").saved == [{"text/plain": "2"}]


def test_a_turn_that_fails_before_its_view_opens_shows_its_error(kernel: Kernel, server: ScriptedServer) -> None:
    make_agent(kernel, server)
    kernel.ok("from createagents_nb import recorder\nrecorder.budget(calls=0)")
    try:
        for cell in ("await a.chat('hi')", "%%agent a\nhi"):
            failed = kernel.run(cell, PAGE)
            assert "0 of 0" in failed.one_line_error("BudgetExceededError")
            assert "failed" in failed.saved[0]["text/plain"]
    finally:
        kernel.ok("recorder.no_budget()")
