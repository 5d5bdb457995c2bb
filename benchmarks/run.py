"""Speed, side by side in one run: ``make bench``, or ``python benchmarks/run.py [--quick]``.

Against the reference server and clients in ``../shared/bench``, with a compiler (gcc) and two cores. Prints a
report, writes it to ``benchmarks/RESULTS.md`` and draws ``benchmarks/growth.png``; the quick form only prints.
Neighbours that are installed in this environment are measured too. On a shared machine the ratios can be trusted,
single figures cannot.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import growth
import start_up
import streams
from streams import OURS, RAW, SDK

HERE = Path(__file__).resolve().parent
APIS = ("OpenAI", "OpenAI Responses", "Ollama")


def bound(what: str, value: float, limit: float, unit: str, *, least: bool = False, digits: int = 2) -> str:
    held = value >= limit if least else value <= limit
    verdict = "pass" if held else f"**missed by {abs(value - limit):,.{digits}f}**"
    sign = "≥" if least else "≤"
    return f"| {what} | {value:,.{digits}f} {unit} | {sign} {limit:,g} {unit} | {verdict} |"


def api_of(client: str) -> str:
    return "Ollama" if "ollama" in client else "OpenAI Responses" if "responses" in client else "OpenAI"


def per_token(found: dict[str, streams.Figures]) -> list[str]:
    lines = [
        "| client | CPU per token, µs | × raw | first token, over raw | a tool turn, over two raw |",
        "| --- | --- | --- | --- | --- |",
    ]
    tool = found["raw"].get("roundtrip_ms", 0.0)
    for client, figures in found.items():
        raw = found[RAW[api_of(client)]]
        over = figures["ttft_ms"] - raw["ttft_ms"]
        trip = f"+{figures['roundtrip_ms'] - tool:.1f} ms" if figures.get("roundtrip_ms") else "–"
        lines.append(
            f"| {client} | {figures['us_tok']:.1f} | {figures['us_tok'] / raw['us_tok']:.1f} | "
            f"{'–' if client.startswith('raw') else f'+{over:.1f} ms'} | "
            f"{'–' if client.startswith('raw') else trip} |"
        )
    return lines


def bounds(
    found: dict[str, streams.Figures],
    held: dict[str, list[int]],
    memory_kb: float,
    starting: dict[str, float],
    shown: dict[str, dict[str, float]],
) -> list[str]:
    lines = ["| what | measured | to reach |  |", "| --- | --- | --- | --- |"]
    for api, to_sdk in zip(APIS, (0.08, 0.08, 0.4), strict=True):
        ours, raw, sdk = found[OURS[api]], found[RAW[api]], found[SDK[api]]
        lines += [
            bound(f"{api}: CPU per token ÷ raw socket", ours["us_tok"] / raw["us_tok"], 3, "×"),
            bound(f"{api}: CPU per token ÷ SDK", ours["us_tok"] / sdk["us_tok"], to_sdk, "×", digits=3),
            bound(f"{api}: first token, over raw", ours["ttft_ms"] - raw["ttft_ms"], 2.5, "ms"),
        ]
        trip = ours["roundtrip_ms"] - found["raw"]["roundtrip_ms"]
        lines.append(bound(f"{api}: turn with one tool, over two raw requests", trip, 6, "ms"))
    ours, sdk = (statistics.median(held[client]) for client in (OURS["OpenAI"], SDK["OpenAI"]))
    lines += [
        bound("streams of 50 tokens/s on one core at 95 % of ideal", ours, 150, "", least=True, digits=0),
        bound("the same ÷ openai SDK", ours / max(sdk, 1), 4, "×", least=True, digits=1),
        bound("memory of a stream of 200 tokens, with its rows", memory_kb, 60, "KB", digits=0),
        bound("building an agent", starting["build"], 0.2, "ms", digits=3),
        bound("`import createagents_nb`, CPU over `import asyncio`", starting["import"], 30, "ms", digits=1),
        bound("`%load_ext createagents_nb` in a running kernel", starting["load"], 100, "ms", digits=0),
        bound("first chat ÷ `import openai` + first call", starting["first"] / starting["first_sdk"], 0.7, "×"),
        bound("50,000 tokens in a cell: kernel CPU per token", shown["widget"]["us_tok"], 40, "µs", digits=1),
        bound("the same: bytes over iopub ÷ text", shown["widget"]["bytes"], 3, "×"),
    ]
    return lines


def several(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of each, under two minutes")
    quick = parser.parse_args().quick
    rounds, tokens = (1, 2_000) if quick else (5, 5_000)
    steps = {OURS["OpenAI"]: "150,250,350" if quick else "100,150,200,300,400,600"}
    steps[SDK["OpenAI"]] = "40,60" if quick else "16,30,50,80"
    if not quick:
        steps |= {OURS["Ollama"]: steps[OURS["OpenAI"]], RAW["OpenAI"]: "300,500,750,1000"}
    started = time.perf_counter()
    clients = [client for api in APIS for client in (RAW[api], OURS[api], SDK[api])]
    with streams.server() as port:
        found = streams.single(port, clients + streams.neighbours(), tokens=tokens, rounds=rounds)
        held = streams.sustained(port, list(steps), steps, rounds=1 if quick else 3)
        memory_kb = streams.memory_kb(port, OURS["OpenAI"], streams=150, rounds=1 if quick else 3)
        rows = {"at_once": 100, "rows": 300} if quick else {"at_once": 250, "rows": 10_000}
        batch = streams.batch(port, **rows)
        streams.say("imports, kernels, a long answer")
        starting = start_up.starting(port, 1 if quick else 5)
        shown = start_up.long_answer(port, 50_000, 1 if quick else 3)
        grown = growth.grown(port, most=0.01 if quick else 1)
    if not quick:
        growth.draw(grown, HERE / "growth.png")
    lines = [
        "# Speed, measured",
        "",
        f"`python benchmarks/run.py{' --quick' if quick else ''}` on Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}; openai {version('openai')}, ollama "
        f"{version('ollama')}. Load of the machine (1 min) at the end: {os.getloadavg()[0]:.1f}. Took "
        f"{(time.perf_counter() - started) / 60:.0f} min. Medians of {rounds} interleaved rounds, each a process "
        "of its own, server and client on a core each; quote the ratios.",
        "",
        *bounds(found, held, memory_kb, starting, shown),
        bound(
            f"a batch of {rows['rows']:,} rows ÷ turns started at once",
            batch["map"] / batch["at_once"],
            0.8,
            "×",
            least=True,
        ),
        "",
        f"## A stream of {tokens:,} tokens",
        "",
        "The recorder is on. `raw` is a socket with an HTTP parser and orjson; `raw_responses` and `raw_ollama` "
        "are the same for OpenAI's Responses API and for Ollama.",
        "",
        *per_token(found),
        "",
        "## Streams at once",
        "",
        "How many streams of 50 tokens a second one core holds at 95 % of ideal, from a standing start, round by "
        f"round (tried: {steps[OURS['OpenAI']]} and between; the openai SDK: {steps[SDK['OpenAI']]}).",
        "",
        "| client | streams |",
        "| --- | --- |",
        *(f"| {client} | {several(values)} |" for client, values in held.items()),
        "",
        f"`agent.map` of {rows['rows']:,} rows of 200 tokens, {rows['at_once']} at once: {batch['map']:.1f} rows "
        f"a second, {batch['map'] * 200:,.0f} tokens a second; as many turns started at once: "
        f"{batch['at_once']:.1f} rows a second.",
        "",
        "## Start",
        "",
        "| what | ms |",
        "| --- | --- |",
        f"| `%load_ext createagents_nb` in a running kernel, wall (CPU) | {starting['load']:.0f} "
        f"({starting['load_cpu']:.0f}) |",
        f"| first chat of a fresh kernel, imports included, to the first token | {starting['first']:.0f} |",
        "| the same with the openai SDK: `import openai`, a client, the first chunk | "
        f"{starting['first_sdk']:.0f} |",
        f"| first chat after `%load_ext` has warmed up | {starting['first_warm']:.0f} |",
        "",
        "## 50,000 tokens in a cell",
        "",
        "| view | kernel CPU per token, µs | bytes over iopub ÷ text |",
        "| --- | --- | --- |",
        *(f"| {name} | {figures['us_tok']:.1f} | {figures['bytes']:.1f} |" for name, figures in shown.items()),
        "",
        "## How costs grow",
        "",
        "| what | " + "points |",
        "| --- | --- |",
        *(
            f"| {growth.UNITS[what][1]}, by {growth.UNITS[what][0]} | "
            + "; ".join(f"{size:,}: {value:.2f}" for size, value in points.items())
            + " |"
            for what, points in grown.items()
        ),
        *([] if quick else ["", "![How costs grow](growth.png)"]),
    ]
    text = "\n".join(lines) + "\n"
    if not quick:
        (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
