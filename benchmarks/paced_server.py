"""A model server that answers at a steady rate, as a fast model does; prints its port.

What it says rides in the model's name, ``tokens-5000-rate-1000-prose``: the number of tokens, how many a second,
and the kind of text, one of `KINDS`. Chat Completions only. The same name always gets the same text.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from itertools import islice

MARK = "endmark"
"""The last word of every answer, and nowhere else in it."""
FIRST_TOKEN_S, BURST_S = 0.3, 0.01
WORDS = re.findall(
    r"\w+",
    """the a of to and in is that for with as are on by this from each when which not can value model kernel
    notebook answer result cell table column number time memory function method index frame message stream page
    view text line output input state data set list small large first last simple common different important
    usually often therefore however because between before after without returns computes reads writes changes""",
)
NAMES = [f"{a}_{b}" for a in ("load", "merge", "scan", "frame") for b in ("rows", "cells", "index", "state")]
CODE = (
    "def {0}(rows, limit={1}):",
    "    # {2} the {3} before it is used",
    "    for row in rows:",
    "        if row['{3}'] > limit and row['{2}'] != '{3}':",
    "            total = {0}(row) + {1}",
    "    return sorted(total, key=lambda item: item[{1}])",
)


class Writer:
    """A model-like text without end, in pieces of any length."""

    def __init__(self, kind: str) -> None:
        self.random = random.Random(kind)
        self.pieces = getattr(self, kind)

    def words(self, low: int, high: int) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(low, high)))

    def sentence(self, low: int = 6, high: int = 18) -> str:
        words = self.words(low, high).split()
        dice = self.random.random()
        if dice < 0.15:
            words[2:4] = [f"**{' '.join(words[2:4])}**"]
        elif dice < 0.3:
            words[3] = f"`{self.random.choice(NAMES)}`"
        return " ".join(words).capitalize() + "."

    def code_line(self, number: int) -> str:
        choose = self.random.choice
        values = choose(NAMES), self.random.randint(2, 99), choose(WORDS), choose(WORDS)
        return CODE[number % len(CODE)].format(*values) + "\n"

    def row(self) -> str:
        return f"| {self.words(1, 2)} | {self.random.random():.3f} | {self.words(3, 6)} |\n"

    def prose(self) -> Iterator[str]:
        head = "| name | value | note |\n|---|---:|---|\n"
        for number in range(1_000_000):
            if number % 6 == 0:
                yield f"## {self.words(2, 5).capitalize()}\n\n"
            paragraph, length = "", self.random.randint(60, 120)
            while len(paragraph.split()) < length:
                paragraph += self.sentence() + " "
            yield paragraph.rstrip() + "\n\n"
            match number % 8:
                case 1:
                    yield "".join(f"- {self.sentence(5, 12)}\n" for _ in range(5)) + "\n"
                case 3:
                    yield "```python\n" + "".join(map(self.code_line, range(len(CODE)))) + "```\n\n"
                case 6:
                    yield head + "".join(self.row() for _ in range(4)) + "\n"

    def list(self) -> Iterator[str]:
        while True:
            yield f"- {self.sentence(5, 14)}\n"

    def table(self) -> Iterator[str]:
        yield "| name | value | note |\n|---|---:|---|\n"
        while True:
            yield self.row()

    def code(self) -> Iterator[str]:
        yield "```python\n"
        for number in range(1_000_000):
            yield self.code_line(number)

    def paragraph(self) -> Iterator[str]:
        while True:
            yield self.sentence() + " "


KINDS = ("prose", "list", "table", "code", "paragraph")
ENDINGS = {
    "list": ["- ", MARK],
    "table": ["| ", MARK, " | 0 | – |"],
    "code": ["# ", MARK],
    "paragraph": [" ", MARK],
}


def tokens_of(kind: str, count: int) -> list[str]:
    """An answer in pieces of about four characters."""
    ending = ENDINGS.get(kind, ["\n\n", MARK])
    pieces = (token for piece in Writer(kind).pieces() for token in re.findall(r" ?\w{1,6}|\n+| +|[^\w\s]", piece))
    tokens = list(islice(pieces, count - len(ending)))
    if kind in ("list", "table", "code"):
        tokens[-1] = "\n"
    return tokens + ending


def text_of(kind: str, count: int) -> str:
    return "".join(tokens_of(kind, count))


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def answer(writer: asyncio.StreamWriter, tokens: list[str], rate: int) -> None:
    async def write(data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    chunks = [chunk({"content": token}) for token in tokens]
    await asyncio.sleep(FIRST_TOKEN_S)
    await write(chunk({"role": "assistant", "content": ""}))
    loop = asyncio.get_running_loop()
    opened, sent, burst = loop.time(), 0, 0
    while sent < len(chunks):
        # What is due is counted from the start, so that a late wake-up does not make the stream slower.
        burst += 1
        await asyncio.sleep(max(0.0, opened + burst * BURST_S - loop.time()))
        due = min(len(chunks), int((loop.time() - opened) * rate))
        if due > sent:
            await write(b"".join(chunks[sent:due]))
            sent = due
    await write(chunk({}, "stop") + b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            model = json.loads(await reader.readexactly(length))["model"]
            count, rate, kind = re.fullmatch(r"tokens-(\d+)-rate-(\d+)-(\w+)", model).groups()  # type: ignore[union-attr]
            await answer(writer, tokens_of(kind, int(count)), int(rate))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
