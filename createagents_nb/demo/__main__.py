"""``python -m createagents_nb.demo``: the demo server for other programs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from ..errors import ConfigurationError
from .server import DemoServer
from .tokens import TOKENS_PER_S

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        arguments: command line without the program's name; default that of this process.

    Returns:
        Exit status: 0 if it was stopped, 1 if the server failed, 2 if it could not start.
    """
    parser = argparse.ArgumentParser(
        prog="python -m createagents_nb.demo",
        description="A server on loopback that speaks the wire formats of OpenAI and Ollama. "
        "Its text is canned: there is no model.",
    )
    parser.add_argument("--port", type=int, default=0, help="the port (default: 0, a free one)")
    parser.add_argument(
        "--pace", type=float, default=TOKENS_PER_S, metavar="TOKENS_PER_S", help="default: %(default)g"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but the two addresses")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    try:
        server = DemoServer(options.port, tokens_per_s=options.pace)
    except (ConfigurationError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    with server:
        print(_quiet(server) if options.quiet else _manual(server), flush=True)
        while not stopped.wait(0.5):  # without a timeout, Windows does not deliver Ctrl-C
            if not server.running:
                return 1
    return 0


def _quiet(server: DemoServer) -> str:
    return f"{server.openai_url}\n{server.ollama_url}"


def _manual(server: DemoServer) -> str:
    return f"""\
createagents-nb demo server: canned text, no model.

  OpenAI  {server.openai_url}
  Ollama  {server.ollama_url}
  models  {", ".join(server.models)}

Point other programs at it:

  export OPENAI_BASE_URL={server.openai_url} OPENAI_API_KEY=demo
  export OLLAMA_HOST={server.ollama_url}

Ctrl-C stops it."""


if __name__ == "__main__":
    sys.exit(main())
