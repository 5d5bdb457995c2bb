"""A real kernel, and what a notebook page would see of it: every message, as it comes."""

from __future__ import annotations

import ast
import atexit
import json
import os
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from family import ScriptedServer, delta, sse
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

__all__ = [
    "BUNDLE_MIME",
    "CANARY",
    "IPYKERNEL",
    "PAGE",
    "WIDGET_MIME",
    "Execution",
    "Kernel",
    "Widget",
    "answer",
    "environment",
    "make_agent",
    "running_kernel",
    "shared_kernel",
    "text_of",
    "wait_until",
]

IPYKERNEL = int(version("ipykernel").partition(".")[0])
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
BUNDLE_MIME = "application/vnd.createagents-nb+json"
TIMEOUT_S = 60.0
PAGE = {"cellId": "cell-1"}
"""Metadata of a request from a notebook page: there the extension shows its widget."""


def answer(*parts: str | threading.Event) -> list[bytes | threading.Event]:
    """A streamed reply of Chat Completions; an event among the parts holds the rest back."""
    pieces: list[bytes | threading.Event] = []
    for part in parts:
        pieces += sse(delta(part), done=False) if isinstance(part, str) else [part]
    return [*pieces, *sse(delta(finish="stop"))]


def wait_until(condition: Callable[[], Any], what: str, *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for something that another thread or process brings about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.01)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without keys, without an Ollama, and without choices made for the extension."""
    names = (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OLLAMA_API_KEY",
        "CREATEAGENTS_NB_MODEL",
        "CREATEAGENTS_NB_VIEW",
    )
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, "OLLAMA_HOST": "127.0.0.1:1", "NO_PROXY": "*", **more}


@dataclass
class Execution:
    """One execute request and what it led to."""

    code: str
    msg_id: str
    kernel: Kernel
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    idle: bool = False

    def of_type(self, *kinds: str) -> list[dict[str, Any]]:
        """The contents of the messages of these types."""
        return [message["content"] for message in self.messages if message["msg_type"] in kinds]

    @property
    def stdout(self) -> str:
        return "".join(content["text"] for content in self.of_type("stream") if content["name"] == "stdout")

    @property
    def stderr(self) -> str:
        return "".join(content["text"] for content in self.of_type("stream") if content["name"] == "stderr")

    @property
    def status(self) -> str:
        return str(self.reply["content"]["status"])

    @property
    def error(self) -> dict[str, Any] | None:
        errors = self.of_type("error")
        assert len(errors) <= 1, errors
        return errors[0] if errors else None

    @property
    def error_text(self) -> str:
        """What the cell shows of its error."""
        return "\n".join(self.error["traceback"]) if self.error else ""

    @property
    def states(self) -> list[list[dict[str, Any]]]:
        """Each display in the cell, in order, as the list of its states."""
        found: dict[Any, list[dict[str, Any]]] = {}
        for number, content in enumerate(self.of_type("display_data", "update_display_data", "execute_result")):
            display_id = content.get("transient", {}).get("display_id", number)
            found.setdefault(display_id, []).append(content["data"])
        return list(found.values())

    @property
    def saved(self) -> list[dict[str, Any]]:
        """Each display in the cell as a notebook would save it."""
        return [states[-1] for states in self.states]

    @property
    def widgets(self) -> list[Widget]:
        """The live views that were opened, in order."""
        opened = [content for content in self.of_type("comm_open") if "about" in content["data"].get("state", {})]
        return [Widget(content["comm_id"], content["data"]["state"], self) for content in opened]

    @property
    def size(self) -> int:
        """Bytes on iopub: the contents, and what frames them."""
        return sum(len(json.dumps(message["content"], default=str)) + 500 for message in self.messages)

    def until(self, condition: Callable[[], Any], what: str, *, timeout_s: float = TIMEOUT_S) -> Execution:
        """Read messages until the condition holds."""
        self.kernel.pump(condition, what, timeout_s)
        return self

    def end(self, *, timeout_s: float = TIMEOUT_S) -> Execution:
        """Read messages until the cell has ended and was answered."""
        self.kernel.pump(lambda: self.idle and self.reply, f"the end of {self.code!r}", timeout_s)
        return self

    def one_line_error(self, kind: str) -> str:
        """The sentence of the error in this cell, which must be of this kind and stand on one line."""
        assert self.status == "error", self.reply["content"]
        assert self.error is not None
        assert self.error["ename"] == kind, self.error
        assert len(self.error["traceback"]) == 1, self.error["traceback"]
        (line,) = self.error["traceback"]
        assert len(line) < 500
        assert "\n" not in line.strip()
        return str(self.error["evalue"])


@dataclass
class Widget:
    """The page's end of a live view."""

    comm_id: str
    state: dict[str, Any]
    execution: Execution

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was sent to it: custom messages and updates of its state."""
        found = self.execution.kernel.contents("comm_msg")
        return [content["data"] for content in found if content["comm_id"] == self.comm_id]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return self._custom("delta")

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """Snapshots that were sent as an answer to a view's hello."""
        return self._custom("snapshot")

    @property
    def ends(self) -> list[dict[str, Any]]:
        return self._custom("end")

    @property
    def synced(self) -> set[str]:
        """The traits whose state was sent again."""
        return {name for data in self.messages for name in data.get("state", {})}

    @property
    def text(self) -> str:
        """The text that a view which was there from the start shows."""
        return "".join(text_of(delta) for delta in self.deltas)

    @property
    def closed(self) -> bool:
        return any(content["comm_id"] == self.comm_id for content in self.execution.kernel.contents("comm_close"))

    def send(self, content: dict[str, Any]) -> None:
        """A custom message from the page."""
        self.execution.kernel.send_comm(self.comm_id, content)

    def _custom(self, kind: str) -> list[dict[str, Any]]:
        contents = [data["content"] for data in self.messages if data["method"] == "custom"]
        return [content for content in contents if content["type"] == kind]


def text_of(pieces: dict[str, Any]) -> str:
    """The answer's text in a delta or a snapshot."""
    return "".join(piece[1] for piece in pieces["pieces"] if piece[0] == "text")


class Kernel:
    """A kernel and its client. Messages are kept in the order in which they came."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.messages: list[dict[str, Any]] = []
        self._executions: dict[str, Execution] = {}

    def send(self, code: str, metadata: dict[str, Any] | None = None, **options: Any) -> Execution:
        """Ask for a cell to be run, and do not wait for it."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        message = self.client.session.msg("execute_request", content | options, metadata=metadata or {})
        msg_id = message["header"]["msg_id"]
        execution = self._executions[msg_id] = Execution(code, msg_id, self)
        self.client.shell_channel.send(message)
        return execution

    def run(self, code: str, metadata: dict[str, Any] | None = None) -> Execution:
        """Run a cell to its end, whatever it is."""
        return self.send(code, metadata).end()

    def ok(self, code: str, metadata: dict[str, Any] | None = None) -> Execution:
        """Run a cell that must succeed."""
        execution = self.run(code, metadata)
        assert execution.status == "ok", execution.error
        return execution

    def value(self, expression: str) -> Any:
        """The value of an expression in the notebook, by way of JSON; it is no cell and counts as none."""
        code = f"__import__('json').dumps({expression}, default=str)"
        execution = self.send("", silent=True, store_history=False, user_expressions={"value": code}).end()
        found = execution.reply["content"]["user_expressions"]["value"]
        assert found["status"] == "ok", found
        return json.loads(ast.literal_eval(found["data"]["text/plain"]))

    def interrupt(self) -> None:
        """The ■ of the notebook."""
        self.manager.interrupt_kernel()

    def send_comm(self, comm_id: str, content: dict[str, Any]) -> None:
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self.client.shell_channel.send(message)

    def request_states(self) -> dict[str, dict[str, Any]]:
        """The states of all widgets by id, asked for as a page does that was loaded again."""
        comm_id = uuid.uuid4().hex
        opening = {"comm_id": comm_id, "target_name": "jupyter.widget.control", "data": {}}
        question = {"comm_id": comm_id, "data": {"method": "request_states"}}
        for kind, content, metadata in [
            ("comm_open", opening, {"version": "1.0.0"}),
            ("comm_msg", question, {}),
        ]:
            self.client.shell_channel.send(self.client.session.msg(kind, content, metadata=metadata))
        found: list[dict[str, Any]] = []

        def is_answered() -> bool:
            found[:] = [content["data"] for content in self.contents("comm_msg") if content["comm_id"] == comm_id]
            return bool(found)

        self.pump(is_answered, "the states of the widgets", TIMEOUT_S)
        assert found[0]["method"] == "update_states"
        return {name: widget["state"] for name, widget in found[0]["states"].items()}

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    @property
    def is_idle(self) -> bool:
        """Whether all cells that were asked for have ended."""
        return self.manager.is_alive() and all(execution.idle for execution in self._executions.values())

    @property
    def kernel_id(self) -> str:
        """What the server calls the kernel: it is in the name of the connection file."""
        return Path(self.manager.connection_file).stem.removeprefix("kernel-")

    def pump(self, condition: Callable[[], Any], what: str, timeout_s: float) -> None:
        """Read both channels until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                seen = [message["msg_type"] for message in self.messages[-20:]]
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}; the last messages were {seen}")
            with suppress(queue.Empty):
                self._take_iopub(self.client.get_iopub_msg(timeout=0.05))
            while self.client.shell_channel.msg_ready():
                self._take_reply(self.client.get_shell_msg(timeout=1))

    def _take_iopub(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        execution = self._executions.get(message["parent_header"].get("msg_id", ""))
        if execution is None:
            return
        execution.messages.append(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            execution.idle = True

    def _take_reply(self, message: dict[str, Any]) -> None:
        execution = self._executions.get(message["parent_header"].get("msg_id", ""))
        if execution is not None:
            execution.reply = message


def make_agent(kernel: Kernel, server: ScriptedServer, name: str = "a", **arguments: Any) -> None:
    """``name = CreateAgent(…)`` in the notebook, whose provider is the scripted server."""
    more = "".join(f", {key}={value!r}" for key, value in arguments.items())
    made = f"CreateAgent('openai', 'm', name={name!r}, base_url={server.openai_url!r}, api_key='none'{more})"
    kernel.ok(f"from createagents_nb import CreateAgent, recorder\n{name} = {made}")


@contextmanager
def running_kernel(folder: Path, **variables: str) -> Iterator[Kernel]:
    """A kernel of this environment, working in ``folder``, with its own empty IPython profile."""
    variables = environment(IPYTHONDIR=str(folder / "ipython"), **variables)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=variables, cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


CANARY = "sk-canary0123456789canary"
"""A key that the shared kernel finds in ``MY_KEY``."""

_shared: list[tuple[Kernel, ExitStack]] = []


def shared_kernel() -> Kernel:
    """The kernel that tests share, with the extension loaded; another one when a test has left a cell running."""
    while _shared:
        kernel, stack = _shared[-1]
        if kernel.is_idle:
            kernel.messages.clear()
            return kernel
        _shared.pop()
        stack.close()
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    kernel = stack.enter_context(running_kernel(Path(folder), MY_KEY=CANARY))
    kernel.ok("%load_ext createagents_nb")
    _shared.append((kernel, stack))
    return kernel
