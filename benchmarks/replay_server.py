"""A server that replays a prebuilt stream as fast as the socket takes it; prints its port.

The number of tokens rides in the model's name (``tokens-5000``). Chat Completions and Ollama's chat.
"""

from __future__ import annotations

import asyncio
import json
import re

WORDS = [" the", " model", " can", " stream", " to", "kens", " in", " a", " note", "book", " and", " rec", "ord"]


def openai_stream(tokens: int) -> bytes:
    def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"

    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5}
    parts = [chunk({"role": "assistant", "content": ""})]
    parts += [chunk({"content": WORDS[i % len(WORDS)]}) for i in range(tokens)]
    parts += [chunk({}, "stop"), b'data: {"choices":[],"usage":' + json.dumps(usage).encode() + b"}\n\n"]
    return b"".join([*parts, b"data: [DONE]\n\n"])


def ollama_stream(tokens: int) -> bytes:
    head = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    parts = [
        {**head, "message": {"role": "assistant", "content": WORDS[i % len(WORDS)]}, "done": False}
        for i in range(tokens)
    ]
    end = {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "eval_count": tokens,
    }
    return b"".join(json.dumps(part).encode() + b"\n" for part in [*parts, {**head, **end}])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            body = json.loads(await reader.readexactly(length))
            tokens = int(re.search(r"tokens-(\d+)", body["model"])[1])  # type: ignore[index]
            is_ollama = b"/api/chat" in head.split(b"\r\n", 1)[0]
            stream = ollama_stream(tokens) if is_ollama else openai_stream(tokens)
            kind = "application/x-ndjson" if is_ollama else "text/event-stream"
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            for at in range(0, len(stream), 4096):
                piece = stream[at : at + 4096]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
