"""Runs the reference clients and ours against the reference server, each run a process of its own.

The server is a C program of ``../shared/bench`` that is compiled here; the clients are ``bench_client.py`` there
and `stream_client` here. The server has one core, the client the other.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REFERENCE = HERE.parents[1] / "shared" / "bench"

OURS = {
    "OpenAI": "createagents_nb_openai",
    "OpenAI Responses": "createagents_nb_responses",
    "Ollama": "createagents_nb_ollama",
}
RAW = {"OpenAI": "raw", "OpenAI Responses": "raw_responses", "Ollama": "raw_ollama"}
SDK = {"OpenAI": "openai", "OpenAI Responses": "openai_responses", "Ollama": "ollama"}
NEIGHBOURS = {  # what `bench_client.py` calls them, and the module that must be there
    "createagents_openai": "createagents",
    "createagents_ollama": "createagents",
    "chatlas": "chatlas",
    "pydantic_ai": "pydantic_ai",
    "openai_agents": "agents",
    "langchain_agent": "langchain_openai",
    "litellm": "litellm",
}

Figures = dict[str, Any]


def neighbours() -> list[str]:
    """Those that are installed in this environment."""
    return [client for client, module in NEIGHBOURS.items() if importlib.util.find_spec(module) is not None]


def core(number: int) -> Any:
    """For ``preexec_fn``: stay on one core, where there are two."""

    def pin() -> None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})

    return pin if hasattr(os, "sched_setaffinity") else None


@contextmanager
def server() -> Iterator[int]:
    """The reference server, compiled and listening; gives its port."""
    source = REFERENCE / "server.c"
    if not source.exists():
        raise SystemExit(f"The reference server is not here: {source}. Put the folder `shared` beside the project")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "server"
        subprocess.run(["gcc", "-O2", "-w", "-o", str(program), str(source)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen([str(program), str(port)], preexec_fn=core(0))
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait()


def run(port: int, client: str, *arguments: str, timeout_s: float = 300) -> list[Figures]:
    """One process of a client; the lines that it prints."""
    command = [sys.executable, str(HERE / "stream_client.py"), str(REFERENCE), client, *arguments]
    done = subprocess.run(
        command,
        env=os.environ | {"FAKE_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        preexec_fn=core(1),
        check=False,
    )
    if done.returncode:
        print(f"{client} {' '.join(arguments)} failed:\n{done.stderr[-800:]}", file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


def single(port: int, clients: Sequence[str], *, tokens: int, rounds: int) -> dict[str, Figures]:
    """CPU per token, time to the first token and a turn with one tool: medians of interleaved rounds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for client in clients:
            say(f"{client}, round {number + 1} of {rounds}")
            for line in run(port, client, "all", str(tokens), "2"):
                for name in ("us_tok", "ttft_ms", "roundtrip_ms"):
                    if line.get(name) is not None:
                        found[client][name].append(line[name])
    return {
        client: {name: statistics.median(values) for name, values in figures.items()}
        for client, figures in found.items()
    }


def sustained(port: int, clients: Sequence[str], steps: dict[str, str], *, rounds: int) -> dict[str, list[int]]:
    """How many streams of 50 tokens a second one core holds at 95 % of ideal, in each round."""
    found: dict[str, list[int]] = defaultdict(list)
    for number in range(rounds):
        for client in clients:
            say(f"{client}, streams at once, round {number + 1} of {rounds}")
            lines = run(port, client, "conc", steps[client], *(["bisect"] if "," in steps[client] else []))
            found[client] += [line["max_sustained"] for line in lines if "max_sustained" in line]
    return dict(found)


def batch(port: int, *, at_once: int, rows: int) -> Figures:
    """Rows a second of a batch, and of as many turns started at once."""
    say(f"a batch of {rows:,} rows, {at_once} at once")
    command = [sys.executable, str(HERE / "batch.py"), str(port), str(at_once), str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600, preexec_fn=core(1))
    return dict(json.loads(done.stdout))


def memory_kb(port: int, client: str, *, streams: int, rounds: int) -> float:
    """What the process grows by for each of so many streams of 200 tokens, recorder rows included."""
    grown = []
    for _ in range(rounds):
        say(f"{client}, memory of {streams} streams")
        grown += [line["rss_kb_stream"] for line in run(port, client, "conc", str(streams)) if "N" in line]
    return statistics.median(grown)
