"""How long ■ takes: the plan of `tests/interrupt_plan.py` in a real kernel, from the interrupt to the cell's end.

``make bench-interrupts``, or ``python benchmarks/interrupts.py [--quick] [--count N] [--seed N]``. Prints a report
and writes it to ``benchmarks/INTERRUPTS.md``. Exits with 1 if an interrupt left something behind, however quick.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from interrupt_plan import KINDS, Outcome, interrupt, plan, prepare, resources  # noqa: E402
from kernel_client import running_kernel, wait_until  # noqa: E402
from soak_server import SoakServer  # noqa: E402

BOUND_S = 0.3


def measure(count: int, seed: int) -> tuple[list[Outcome], list[str]]:
    """What each interrupt did, and what all of them left behind."""
    left = []
    with (
        tempfile.TemporaryDirectory() as folder,
        SoakServer() as server,
        running_kernel(Path(folder)) as kernel,
    ):
        before = prepare(kernel, server)
        outcomes = [interrupt(kernel, server, planned) for planned in plan(count, seed)]
        try:
            wait_until(lambda: resources(kernel) == before and not server.busy, "as before", timeout_s=10)
        except AssertionError:
            left.append(f"tasks and threads were {before}, and are {resources(kernel)}; requests: {server.busy}")
    return outcomes, left


def report(outcomes: list[Outcome], problems: list[str], command: str, load: float) -> str:
    hits = [outcome for outcome in outcomes if outcome.status != "ok"]
    unanswered = sum(outcome.status == "unanswered" for outcome in outcomes)
    rows = []
    for kind in [*KINDS, "all"]:
        times = sorted(o.reaction_s for o in hits if kind in (o.planned.kind, "all"))
        if times:
            p95 = times[math.ceil(0.95 * len(times)) - 1]
            within = sum(seconds <= BOUND_S for seconds in times)
            numbers = " | ".join(f"{1000 * seconds:.0f}" for seconds in (statistics.median(times), p95, times[-1]))
            rows.append(f"| {kind} | {len(times)} | {numbers} | {within} of {len(times)} |")
    kernel = f"ipykernel {version('ipykernel')}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# How long ■ takes",
            "",
            f"`{command}`, {kernel}, {os.cpu_count()} cores, load {load:.1f} before. From the interrupt to the "
            f"cell's end, in ms; the bound is {1000 * BOUND_S:.0f} ms. {len(outcomes)} interrupts at random "
            f"moments; {len(outcomes) - len(hits)} came when the turn had ended and are left out. {unanswered} "
            "met ipykernel's own code before or behind the cell's, which ends the cell but does not answer it.",
            "",
            "| cell | interrupts | median | p95 | max | within the bound |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Every row settled, no text was lost, and no task, request or thread was left."
            if not problems
            else "\n".join(f"- {problem}" for problem in problems),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 interrupts")
    parser.add_argument("--count", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--no-file", action="store_true", help="print only")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    outcomes, problems = measure(40 if options.quick else options.count, options.seed)
    problems += [f"{outcome.planned}: {words}" for outcome in outcomes for words in outcome.complaints]
    text = report(outcomes, problems, " ".join(["python benchmarks/interrupts.py", *sys.argv[1:]]), load)
    if not options.no_file:
        (HERE / "INTERRUPTS.md").write_text(text)
    print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
