"""Splitting replies into tokens, and the delays between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .conversation import DemoReply

__all__ = [
    "FIRST_TOKEN_S",
    "TOKENS_PER_S",
    "Generation",
    "Token",
    "count_tokens",
    "generate",
    "token_delays_s",
    "tokenize",
]

TOKENS_PER_S = 45.0
FIRST_TOKEN_S = 0.3

# Every character matches exactly one branch, so the tokens joined are always the text.
_TOKEN = re.compile(r" ?[^\W\d_]{1,6}| ?\d{1,3}| ?[^\w\s]{1,3}|_+|\n+|[^\S\n]+")


def tokenize(text: str) -> list[str]:
    """Split ``text`` into tokens of about four characters; joined, they are ``text``.

    >>> tokenize("Streaming, 2 words")
    ['Stream', 'ing', ',', ' 2', ' words']
    """
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Count the tokens that `tokenize` returns."""
    return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(frozen=True, slots=True)
class Token:
    """A token of kind ``reasoning``, ``content`` or ``call`` (of the arguments of tool call number ``call``).

    The first token of a call has no text; it represents the name of the tool.
    """

    kind: str
    text: str
    call: int = -1


@dataclass(frozen=True, slots=True)
class Generation:
    """A reply as tokens, within the limits of the request."""

    tokens: tuple[Token, ...]
    finish_reason: str

    def text(self, kind: str) -> str:
        return "".join(token.text for token in self.tokens if token.kind == kind)

    def arguments(self, call: int) -> str:
        """JSON of a call's arguments; incomplete if the token limit was reached in it."""
        return "".join(token.text for token in self.tokens if token.call == call)

    @property
    def calls(self) -> list[int]:
        """Numbers of the calls whose name was generated, in order."""
        return list(dict.fromkeys(token.call for token in self.tokens if token.kind == "call"))

    @property
    def reasoning_tokens(self) -> int:
        return sum(token.kind == "reasoning" for token in self.tokens)


def generate(
    reply: DemoReply, arguments: list[str], *, max_tokens: int | None = None, stop: tuple[str, ...] = ()
) -> Generation:
    """Split a reply into tokens.

    Args:
        reply: the reply.
        arguments: JSON of each tool call's arguments, as in the wire format.
        max_tokens: maximum number of tokens; if it is reached, the finish reason is ``length``.
        stop: the content ends before the first of these texts.
    """
    content = reply.content
    cuts = [position for text in stop if text and (position := content.find(text)) >= 0]
    content = content[: min(cuts)] if cuts else content
    tokens = [Token("reasoning", text) for text in tokenize(reply.reasoning)]
    tokens += [Token("content", text) for text in tokenize(content)]
    for index, json_text in enumerate(arguments):
        tokens.append(Token("call", "", index))
        tokens += [Token("call", text, index) for text in tokenize(json_text)]
    if max_tokens is not None and len(tokens) > max_tokens:
        return Generation(tuple(tokens[:max_tokens]), "length")
    return Generation(tuple(tokens), reply.finish_reason)


def token_delays_s(tokens_per_s: float) -> Iterator[float]:
    """Yield the seconds before each token: uneven but deterministic, with the right average.

    >>> [round(delay, 3) for delay, _ in zip(token_delays_s(45), range(3))]
    [0.3, 0.024, 0.019]
    """
    yield FIRST_TOKEN_S * min(1.0, TOKENS_PER_S / tokens_per_s)
    step = 0.0
    while True:
        step = (step + 0.618034) % 1.0
        yield (0.75 + 0.5 * step) / tokens_per_s
