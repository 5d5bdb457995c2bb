"""Proxies on loopback that tunnel: HTTP by CONNECT, and SOCKS5 with names looked up by the proxy."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Tunnels", "tunnel"]


class Tunnels:
    """What came to a proxy.

    Attributes:
        port: where it listens.
        targets: the servers that were asked for, as ``host:port``.
        credentials: user and password of each tunnel, as ``user:password``.
    """

    def __init__(self) -> None:
        self.port = 0
        self.targets: list[str] = []
        self.credentials: list[str] = []


@asynccontextmanager
async def tunnel(kind: str, to_port: int) -> AsyncIterator[Tunnels]:
    """A proxy of this kind, ``connect`` or ``socks5``; whatever it is asked for, it leads to ``to_port``."""
    tunnels = Tunnels()
    greet = _connect if kind == "connect" else _socks5

    tasks: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await greet(reader, writer, tunnels)
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", to_port)
            writers.append(other_writer)
            await asyncio.gather(_pipe(reader, other_writer), _pipe(other_reader, writer))
        except asyncio.CancelledError:
            for each in writers:
                each.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        for each in writers:
            each.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(accept(reader, writer)))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    tunnels.port = server.sockets[0].getsockname()[1]
    try:
        yield tunnels
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed in the next step of the loop


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(65_536):
            writer.write(block)
            await writer.drain()
    writer.close()


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnels: Tunnels) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    assert method == "CONNECT"
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    tunnels.targets.append(target)
    if word := headers.get("proxy-authorization", "").removeprefix("Basic "):
        tunnels.credentials.append(base64.b64decode(word).decode())
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")


async def _socks5(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnels: Tunnels) -> None:
    """RFC 1928 and 1929."""
    _, count = await reader.readexactly(2)
    methods = await reader.readexactly(count)
    if 2 in methods:
        writer.write(b"\x05\x02")
        await reader.readexactly(1)
        user, password = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
        tunnels.credentials.append(f"{user.decode()}:{password.decode()}")
        writer.write(b"\x01\x00")
    else:
        writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    assert (command, kind) == (1, 3)  # CONNECT, to a name
    name = await reader.readexactly((await reader.readexactly(1))[0])
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    tunnels.targets.append(f"{name.decode()}:{port}")
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
