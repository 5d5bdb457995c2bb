"""Interrupts at random moments of turns in a real kernel: the plan, and what each left behind.

Which interrupts there are follows from the seed alone; where in its turn one arrives depends on the machine, too.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kernel_client import BUNDLE_MIME, PAGE, WIDGET_MIME, Execution, Kernel, wait_until
from soak_server import SoakServer, planned_text, prompt_of

__all__ = ["KINDS", "Outcome", "Planned", "interrupt", "plan", "prepare", "resources"]

_SLOW = ("slow", "")
"""A round that comes slowly and ends the turn."""
KINDS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "awaited": ("await a.chat({prompt!r})", [_SLOW]),
    "magic": ("%%agent a\n{prompt}", [_SLOW]),
    "bridge": ("%%time\n%%agent a\n{prompt}", [_SLOW]),
    "print": ("print(await a.chat({prompt!r}))", [_SLOW]),
    "async for": ("async for token in await a.chat({prompt!r}):\n    pass", [_SLOW]),
    "sync tool": ("%%agent a\n{prompt}", [("none", "blocks"), _SLOW]),
    "async tool": ("await a.chat({prompt!r})", [("none", "waits"), _SLOW]),
    "map": ("await a.map([{prompt!r}], progress=False)", [_SLOW]),
}
"""Cells that take about `TURN_S` seconds, with the rounds of their turns."""
TURN_S = 0.2

_SETUP = """
%load_ext createagents_nb
import asyncio, gc, threading, time
from createagents_nb import CreateAgent, recorder, tool

@tool
def blocks(mark: str) -> str:
    'Takes a while in its thread.'
    time.sleep(0.06)
    return mark + ' result'

@tool
async def waits(mark: str) -> str:
    'Takes a while on the loop.'
    await asyncio.sleep(0.06)
    return mark + ' result'

a = CreateAgent('openai', 'm', base_url={url!r}, api_key='none', tools=[blocks, waits])

def found(mark):
    rows = [row for row in recorder.call_records if (row.prompt or '').startswith(mark + ' ')]
    ids = {{row.call_id for row in rows}}
    parts = [row for row in [*recorder.request_records, *recorder.tool_records] if row.call_id in ids]
    last = a.history[-1] if a.history else None
    said = [message.content for message in a.history if message.role == 'user']
    return {{
        'rows': [[row.status, row.response] for row in rows],
        'parts': [row.status for row in parts],
        'question': said[-1].partition(' ')[0] if said else None,
        'last': [last.role, last.status, last.content] if last else None,
    }}

def resources():
    gc.collect()
    names = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    threads = sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith('tool '))
    return [names, threads]
"""


@dataclass(frozen=True)
class Planned:
    kind: str
    mark: str
    delay_s: float
    """From the beginning of the cell to the interrupt."""
    twice: bool

    @property
    def code(self) -> str:
        code, rounds = KINDS[self.kind]
        return code.format(prompt=prompt_of(self.mark, rounds))

    @property
    def text(self) -> str:
        """All that the turn would say."""
        return planned_text(self.mark, KINDS[self.kind][1])


@dataclass
class Outcome:
    """How a cell ended that was interrupted; ``complaints`` is empty when all is well.

    ``status`` is ``ok``, ``error`` or ``unanswered``.
    """

    planned: Planned
    reaction_s: float
    """From the interrupt to the end of the cell."""
    status: str
    text: str | None
    """Of its turn; None where the interrupt came before there was one."""
    complaints: list[str] = field(default_factory=list)


def plan(count: int, seed: int) -> list[Planned]:
    chance = random.Random(seed)
    kinds = list(KINDS)
    return [
        Planned(
            kinds[number % len(kinds)],
            f"m0x{number}",
            chance.uniform(0.0, TURN_S) + (0.06 if "tool" in kinds[number % len(kinds)] else 0.0),
            chance.random() < 0.15,
        )
        for number in range(count)
    ]


def prepare(kernel: Kernel, server: SoakServer) -> list[Any]:
    """The notebook as it is before the first interrupt; its tasks and threads."""
    kernel.ok(_SETUP.format(url=server.url))
    for number, (code, rounds) in enumerate(KINDS.values()):  # what is loaded and kept once
        kernel.ok(code.format(prompt=prompt_of(f"m1x{number}", rounds)), PAGE)
    return resources(kernel)


def resources(kernel: Kernel) -> list[Any]:
    """Names of the tasks and threads in the kernel, but for threads of tools."""
    found: list[Any] = kernel.value("resources()")
    return found


def interrupt(kernel: Kernel, server: SoakServer, planned: Planned) -> Outcome:
    """Run a cell, interrupt it at its moment, and look at what it left."""
    cell = kernel.send(planned.code, PAGE)
    cell.until(lambda: cell.of_type("execute_input"), "the beginning of the cell")
    time.sleep(planned.delay_s)
    sent = time.perf_counter()
    kernel.interrupt()
    if planned.twice:
        time.sleep(0.005)
        kernel.interrupt()
    cell.until(lambda: cell.idle, f"the end of {planned}")
    outcome = Outcome(planned, time.perf_counter() - sent, "unanswered", None)
    with suppress(AssertionError):  # interrupted in its own code, ipykernel does not answer
        cell.until(lambda: cell.reply, f"the reply to {planned}", timeout_s=1)
        outcome.status = cell.status
    following = kernel.run("print(1 + 1)")
    while following.status == "aborted":  # ipykernel still drops what comes behind the stopped cell
        following = kernel.run("print(1 + 1)")
    if following.stdout != "2\n":
        outcome.complaints.append(f"the next cell gave {following.status} {following.stdout!r}")
    if kernel.value("1 + 1") != 2:
        outcome.complaints.append("the kernel does not answer")
    _look(kernel, server, cell, outcome)
    return outcome


def _look(kernel: Kernel, server: SoakServer, cell: Execution, outcome: Outcome) -> None:
    mark = outcome.planned.mark
    found: dict[str, Any] = {}

    def is_settled() -> bool:
        found.update(kernel.value(f"found({mark!r})"))
        return "running" not in str([found["rows"], found["parts"]])

    wait_until(is_settled, f"the rows of {outcome.planned}")
    wait_until(lambda: server.busy == 0, f"nothing is answered after {outcome.planned}")
    seen = "".join(widget.text for widget in cell.widgets)
    if not found["rows"]:
        if seen:
            outcome.complaints.append(f"no row, but {seen!r} was shown")
        return
    rows = found["rows"]
    status, outcome.text = rows[0]
    if len(rows) != 1 or status not in {"ok", "cancelled"}:
        outcome.complaints.append(f"its rows are {rows}")
    if not outcome.planned.text.startswith(outcome.text) or not outcome.text.startswith(seen):
        outcome.complaints.append(f"{seen!r} was shown, and {outcome.text!r} is kept")
    if status == "ok" and outcome.text != outcome.planned.text:
        outcome.complaints.append(f"ok with the text {outcome.text!r}")
    if set(found["parts"]) - {"ok", "cancelled"}:
        outcome.complaints.append(f"its requests and tools are {found['parts']}")
    last_round = outcome.text.rpartition(f"{mark}.0.11 ")[2] if "tool" in outcome.planned.kind else outcome.text
    role, its_status, content = found["last"]
    if outcome.planned.kind != "map" and (
        found["question"] != mark or role != "assistant" or its_status != status or last_round not in content
    ):
        outcome.complaints.append(f"the history ends with {found['question']}: {found['last']}")
    for bundle in cell.saved:
        if WIDGET_MIME in bundle:
            outcome.complaints.append("a widget is left in the cell")
        if BUNDLE_MIME in bundle and bundle[BUNDLE_MIME]["call"]["status"] != status:
            outcome.complaints.append(f"the cell shows {bundle[BUNDLE_MIME]['call']['status']}")
