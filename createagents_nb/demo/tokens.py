"""Pieces of text such as a tokeniser makes, and the pace at which they come."""

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

# Every character is in exactly one branch, so the tokens always join to the text.
_TOKEN = re.compile(r" ?[^\W\d_]{1,6}| ?\d{1,3}| ?[^\w\s]{1,3}|_+|\n+|[^\S\n]+")


def tokenize(text: str) -> list[str]:
    """``text`` in tokens of about four characters; joined they are ``text`` again.

    >>> tokenize("Streaming, 2 words")
    ['Stream', 'ing', ',', ' 2', ' words']
    """
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens `tokenize` would make."""
    return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(frozen=True, slots=True)
class Token:
    """One token: a bit of ``reasoning`` or ``content``, or of the arguments of a tool ``call``.

    The first token of a call has no text: it stands for the call's name.
    """

    kind: str
    text: str
    call: int = -1


@dataclass(frozen=True, slots=True)
class Generation:
    """A reply cut into tokens, within the limits that the request set."""

    tokens: tuple[Token, ...]
    finish_reason: str

    def text(self, kind: str) -> str:
        return "".join(token.text for token in self.tokens if token.kind == kind)

    def arguments(self, call: int) -> str:
        """The JSON of a call; broken when the token limit fell into it."""
        return "".join(token.text for token in self.tokens if token.call == call)

    @property
    def calls(self) -> list[int]:
        """The calls of which at least the name was generated, in order."""
        return list(dict.fromkeys(token.call for token in self.tokens if token.kind == "call"))

    @property
    def reasoning_tokens(self) -> int:
        return sum(token.kind == "reasoning" for token in self.tokens)


def generate(
    reply: DemoReply, arguments: list[str], *, max_tokens: int | None = None, stop: tuple[str, ...] = ()
) -> Generation:
    """Cut a reply into tokens.

    Args:
        arguments: the JSON text of each tool call's arguments, as the wire format writes it.
        max_tokens: the number of tokens at most; then the finish reason is ``length``.
        stop: the content ends before the first of these.
    """
    content = reply.content
    cuts = [found for text in stop if text and (found := content.find(text)) >= 0]
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
    """Seconds before each token: the same uneven rhythm every time, right on average.

    >>> [round(delay, 3) for delay, _ in zip(token_delays_s(45), range(3))]
    [0.3, 0.024, 0.019]
    """
    yield FIRST_TOKEN_S * min(1.0, TOKENS_PER_S / tokens_per_s)
    step = 0.0
    while True:
        step = (step + 0.618034) % 1.0
        yield (0.75 + 0.5 * step) / tokens_per_s
