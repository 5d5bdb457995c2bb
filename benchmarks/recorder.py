"""Benchmark of the recorder with a million calls, compared with a list of dataclasses.

``make bench-recorder``, or ``python benchmarks/recorder.py [--quick]``. Prints a report and writes it to
``benchmarks/RECORDER.md``. Each measurement runs in a new process; rounds are interleaved, and medians reported.
Recording is CPU time of the recording thread, frames are wall time, and memory is the growth of the process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BATCH = 100
NEW = 100
AGENTS = [f"agent-{number}" for number in range(5)]
MODELS = [f"model-{number}" for number in range(3)]


def make_calls(count: int) -> Iterator[list[tuple[Any, Any]]]:
    """Calls as an agent records them, opened and settled, without content, in batches.

    Batches are small, so that records are still in the CPU cache when they are recorded.
    """
    from createagents_nb.core.records import CallRecord

    numbers = random.Random(7)
    started = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(0, count, BATCH):
        batch = []
        for number in range(first, min(first + BATCH, count)):
            opened = CallRecord(
                call_id=numbers.randbytes(16).hex(),
                started_at=started + timedelta(seconds=number),
                agent=AGENTS[number % len(AGENTS)],
                provider="openai",
                model=MODELS[number % len(MODELS)],
                status="running",
                cell_id=f"cell-{number // 1_000}",
                execution_count=number // 1_000,
            )
            settled = replace(
                opened,
                status="ok" if number % 50 else "error",
                latency_s=numbers.random(),
                ttft_s=numbers.random(),
                tokens_per_s=100 * numbers.random(),
                input_tokens=numbers.randrange(5_000),
                output_tokens=numbers.randrange(500),
                cached_tokens=0,
                cost_usd=numbers.random(),
                rounds=1,
            )
            batch.append((opened, settled))
        yield batch


def fill(put: Callable[[Any, Any], None], count: int) -> float:
    """CPU time per call, in µs."""
    spent = 0.0
    for batch in make_calls(count):
        gc.disable()  # garbage of making the batches does not count
        before = time.thread_time()
        for opened, settled in batch:
            put(opened, settled)
        spent += time.thread_time() - before
        gc.enable()
    return spent / count * 1e6


def grown(work: Callable[[], float]) -> tuple[float, int]:
    """Result of ``work`` and the growth of the process, in bytes."""
    import psutil

    process = psutil.Process()
    for _ in make_calls(BATCH):  # allocate what the batches themselves need
        pass
    gc.collect()
    before = process.memory_info().rss
    result = work()
    gc.collect()
    return result, process.memory_info().rss - before


def timed(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def measure_recorder(count: int, persist: str) -> dict[str, float]:
    from createagents_nb.metrics import MetricsRecorder

    recorder = MetricsRecorder(record_content=False)
    if persist:
        recorder.persist(persist)

    def put(opened: Any, settled: Any) -> None:
        recorder.call_opened(opened)
        recorder.call_settled(settled)

    cpu_us, size = grown(lambda: fill(put, count))
    if persist:
        recorder.persist(None)
        return {"cpu_us": cpu_us}
    import pandas as pd

    pd.DataFrame({"x": [1]})
    first_s = timed(lambda: recorder.calls)
    fill(put, NEW)
    next_s = timed(lambda: recorder.calls)
    (((opened, settled),),) = make_calls(1)
    recorder.call_opened(opened)
    _ = recorder.calls
    recorder.call_settled(settled)
    changed_s = timed(lambda: recorder.calls)
    return {
        "cpu_us": cpu_us,
        "bytes": size / count,
        "first_s": first_s,
        "next_s": next_s,
        "changed_s": changed_s,
        "summary_s": timed(recorder.summary),
    }


def measure_list(count: int, _: str) -> dict[str, float]:
    import pandas as pd

    from createagents_nb.metrics import MetricsRecorder

    MetricsRecorder()
    kept: list[Any] = []

    def put(opened: Any, settled: Any) -> None:
        kept.append(settled)

    cpu_us, size = grown(lambda: fill(put, count))
    pd.DataFrame({"x": [1]})
    # A list has no incremental frame: the next one takes as long as the first.
    first_s = timed(lambda: pd.DataFrame(kept))
    return {"cpu_us": cpu_us, "bytes": size / count, "first_s": first_s, "next_s": first_s}


MEASURES = {"recorder": measure_recorder, "list": measure_list, "persisted": measure_recorder}


def in_child(what: str, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "runs.db") if what == "persisted" else ""
        command = [sys.executable, __file__, "--child", what, "--calls", str(count), "--persist", path]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {str(name): float(value) for name, value in json.loads(output).items()}


def report(found: dict[str, list[dict[str, float]]], count: int, persisted: int, command: str) -> str:
    def median(what: str, figure: str) -> float:
        return statistics.median(result[figure] for result in found[what])

    def bound(what: str, value: float, limit: float, unit: str, digits: int) -> str:
        verdict = "pass" if value <= limit else f"**missed by {value - limit:,.{digits}f} {unit}**"
        return f"| {what} | {value:,.{digits}f} {unit} | ≤ {limit:,.{digits}f} {unit} | {verdict} |"

    added = median("persisted", "cpu_us") - median("recorder", "cpu_us")
    rows = [
        ("recording a call, CPU, µs", "cpu_us", 2),
        ("memory a call, bytes", "bytes", 0),
        ("the first frame, s", "first_s", 2),
        (f"the next, with {NEW} new rows, s", "next_s", 3),
    ]
    lines = [
        "# The recorder, measured",
        "",
        f"`{command}` on Python {platform.python_version()}, pandas {version('pandas')}, {os.cpu_count()} cores, "
        f"{datetime.now(UTC):%Y-%m-%d}. Load of the machine (1 min) at the end: {os.getloadavg()[0]:.1f}.",
        "",
        f"{count:,} calls without content, each opened and settled, against a list of the same dataclasses that "
        "`pd.DataFrame` is made of. Medians of interleaved rounds, each in its own process; the list is measured "
        "once. Quote the ratios: on a shared machine single figures cannot be trusted.",
        "",
        "| bound | measured | limit |  |",
        "| --- | --- | --- | --- |",
        bound("recording a call, CPU on the loop's thread", median("recorder", "cpu_us"), 5, "µs", 2),
        bound("memory of a call", median("recorder", "bytes"), 200, "B", 0),
        bound("the first frame", median("recorder", "first_s"), 3, "s", 2),
        bound(f"the next frame, with {NEW} new rows", median("recorder", "next_s"), 0.05, "s", 3),
        bound(f"what persisting adds to a call ({persisted:,} calls)", added, 20, "µs", 2),
        "",
        "| median | recorder | list | recorder ÷ list |",
        "| --- | --- | --- | --- |",
        *(
            f"| {what} | {median('recorder', figure):,.{digits}f} | {median('list', figure):,.{digits}f} | "
            f"{median('recorder', figure) / median('list', figure):.3g} |"
            for what, figure, digits in rows
        ),
        "",
        f"A frame after a call that had been running in the last one has settled: "
        f"{median('recorder', 'changed_s'):.3f} s, since the columns are copied. `recorder.summary()` after that: "
        f"{median('recorder', 'summary_s'):.2f} s.",
        "",
        "Round by round, recording a call, µs: "
        + "; ".join(f"{what} {', '.join(format(one['cpu_us'], '.2f') for one in found[what])}" for what in found)
        + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, one round")
    parser.add_argument("--child", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--persist", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(MEASURES[options.child](options.calls, options.persist)))
        return
    count, rounds = (100_000, 1) if options.quick else (1_000_000, 3)
    persisted = count // 10
    found: dict[str, list[dict[str, float]]] = {what: [] for what in MEASURES}
    for number in range(rounds):
        for what, results in found.items():
            if what == "list" and number:
                continue  # a frame takes minutes
            print(f"{time.strftime('%H:%M:%S')}  {what}, round {number + 1} of {rounds}", flush=True)
            results.append(in_child(what, persisted if what == "persisted" else count))
    command = f"python benchmarks/recorder.py{' --quick' if options.quick else ''}"
    text = report(found, count, persisted, command)
    (HERE / "RECORDER.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
