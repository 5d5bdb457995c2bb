"""Starting and stopping the server: a daemon thread with its event loop, listening on loopback."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import os
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..logging_config import LoggingConfig
from .conversation import MODELS
from .tokens import TOKENS_PER_S

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["DemoServer", "start"]

_HOST = "127.0.0.1"
_STOP_TIMEOUT_S = 5.0


class DemoServer:
    """A server that listens from its creation until `stop` or the end of the process.

    Usually created by `start`. A forked child does not inherit it; there, `start` creates another.

    Args:
        port: port number; 0 for a free one.
        host: must be the loopback address.
        tokens_per_s: pace of the models ``demo`` and ``demo-thinking``; ``demo-instant`` has no delays.

    Raises:
        ValueError: the host is not loopback, or the pace is not above 0.
        ConfigurationError: the port is in use or not permitted.

    Example:
        >>> with DemoServer() as server:
        ...     print(server.openai_url)
        http://127.0.0.1:40513/v1
    """

    def __init__(self, port: int = 0, *, host: str = _HOST, tokens_per_s: float = TOKENS_PER_S) -> None:
        if host not in (_HOST, "localhost"):
            raise ValueError(f"the demo server listens on loopback only: host must be '{_HOST}', not {host!r}")
        if not tokens_per_s > 0:
            raise ValueError(f"tokens_per_s must be above 0, not {tokens_per_s!r}")
        self._pid = os.getpid()
        self._socket = _listen(port)
        self._port: int = self._socket.getsockname()[1]
        # Not from the event loop policy, which may be another library's.
        self._loop = asyncio.SelectorEventLoop()
        self._closing = asyncio.Event()
        self._stopping = threading.Lock()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(tokens_per_s,), name=f"createagents_nb demo :{self._port}", daemon=True
        )
        _servers[self._port] = self
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    @property
    def port(self) -> int:
        return self._port

    @property
    def ollama_url(self) -> str:
        """``"http://127.0.0.1:PORT"``, for ``OLLAMA_HOST``."""
        return f"http://{_HOST}:{self._port}"

    @property
    def openai_url(self) -> str:
        """``"http://127.0.0.1:PORT/v1"``, for ``OPENAI_BASE_URL``; any key is accepted."""
        return f"{self.ollama_url}/v1"

    @property
    def models(self) -> tuple[str, ...]:
        """``demo`` answers at a human pace, ``demo-instant`` without delays, ``demo-thinking`` reasons first."""
        return MODELS

    @property
    def running(self) -> bool:
        """Whether it is running in this process."""
        return os.getpid() == self._pid and self._thread.is_alive() and not self._loop.is_closed()

    def stop(self) -> None:
        """Close all connections and the port, and wait for the thread. Further calls do nothing."""
        if os.getpid() != self._pid:
            return
        with self._stopping:
            if _servers.get(self._port) is self:
                del _servers[self._port]
            if self._thread.is_alive():
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    self._loop.call_soon_threadsafe(self._closing.set)
                if threading.current_thread() is not self._thread:
                    self._thread.join(_STOP_TIMEOUT_S)
            self._socket.close()

    def __enter__(self) -> DemoServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<DemoServer {self.ollama_url}{'' if self.running else ' (stopped)'}>"

    def _run(self, tokens_per_s: float) -> None:
        logger = LoggingConfig.get_logger(__name__)
        loop = self._loop
        loop.set_exception_handler(
            lambda _, context: logger.error("In the demo server: %s", context.get("message"))
        )
        try:
            from .app import make_app  # imports aiohttp, which is slow

            loop.run_until_complete(self._serve(make_app(tokens_per_s)))
        except Exception as error:
            self._failure = error
            logger.exception("The demo server stopped")
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self._ready.set()

    async def _serve(self, app: web.Application) -> None:
        from aiohttp import web

        runner = web.AppRunner(
            app,
            access_log=None,
            logger=LoggingConfig.get_logger(__name__),
            handler_cancellation=True,  # stop generating when a client disconnects
            shutdown_timeout=0.1,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket, backlog=512).start()
            self._ready.set()
            await self._closing.wait()
        finally:
            await runner.cleanup()


def _listen(port: int) -> socket.socket:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigurationError(f"port must be a number from 0 to 65535, not {port!r}; --port 0 takes a free one")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows, this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigurationError(f"Port {port} {why}: choose another, or --port 0 for a free one") from error
    return listener


_lock = threading.Lock()
"""Protects `_shared` and the creation of servers by `start`."""

_servers: dict[int, DemoServer] = {}
"""The servers of this process by port."""

_shared: DemoServer | None = None
"""The server that `start` returns for port 0."""

_abandoned: list[DemoServer] = []
"""Servers of the parent process, in a forked child: destroying them would affect the parent's selectors."""


def start(port: int = 0) -> DemoServer:
    """Return the demo server of this process, which the first call starts.

    Args:
        port: 0 for the server that this process shares, on a free port. Another number for a server that other
            programs use, which is also started only once.

    Raises:
        ConfigurationError: the port is in use or not permitted.

    Example:
        >>> start() is start()
        True
    """
    global _shared
    with _lock:
        if port == 0:
            if _shared is None or not _shared.running:
                _shared = DemoServer()
            return _shared
        server = _servers.get(port)
        return server if server is not None and server.running else DemoServer(port)


def reset() -> None:
    """Stop all servers of this process and forget the shared one. Runs at exit, and in tests."""
    global _shared
    for server in list(_servers.values()):
        server.stop()
    _shared = None


def _reset_after_fork() -> None:
    """Forget the parent's servers in a forked child, where their threads do not run, and close their ports."""
    global _lock, _shared
    _lock = threading.Lock()
    for server in _servers.values():
        server._socket.close()
    _abandoned.extend(_servers.values())
    _servers.clear()
    _shared = None


atexit.register(reset)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
