r"""Parser for ``{{…}}`` placeholders: Python expressions in a prompt, column names in the template of a batch.

In both, ``\{{`` stands for two literal braces, and single braces are literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TypeVar

from .errors import ConfigurationError, InterpolationError
from .text import one_line

__all__ = ["ColumnName", "Expression", "parse_columns", "parse_expressions", "quote_expression"]

_EXPRESSION_START = re.compile(r"\\?\{\{")
# A column name has no braces, so of three braces the inner two count: `{{{x}}}` is a value in single braces.
_COLUMN_START = re.compile(r"\\\{\{|\{\{(?!\{)")
_MAX_QUOTED_CHARS = 120

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Expression:
    """A Python expression in a prompt: its source, stripped, and the code to evaluate."""

    source: str
    code: CodeType


@dataclass(frozen=True, slots=True)
class ColumnName:
    """The name of a column in a template, stripped."""

    name: str


def parse_expressions(text: str) -> Iterator[str | Expression]:
    r"""Split a prompt into literal text and expressions, lazily and in order.

    An expression ends at the first ``}}`` that leaves valid Python, since dicts and sets have braces too.

    Raises:
        InterpolationError: a ``{{`` is not closed, or what it opens is not an expression.

    Example:
        >>> [getattr(part, "source", part) for part in parse_expressions(r"{{ {1: {}} }} is no \{{x}}")]
        ['', '{1: {}}', ' is no ', '{{', 'x}}']
    """
    return _parse(text, _EXPRESSION_START, _read_expression)


def parse_columns(template: str) -> list[str | ColumnName]:
    """Split a template into literal text and column names, in order.

    Raises:
        ConfigurationError: a ``{{`` is not closed.

    Example:
        >>> parse_columns("Classify {{ review }}")
        ['Classify ', ColumnName(name='review'), '']
    """
    return list(_parse(template, _COLUMN_START, _read_column))


def quote_expression(source: str) -> str:
    """Return ``{{source}}`` on one line, shortened, for an error message."""
    return f"{{{{{one_line(source, _MAX_QUOTED_CHARS)}}}}}"


def _parse(text: str, start: re.Pattern[str], read: Callable[[str, int], tuple[P, int]]) -> Iterator[str | P]:
    """Yield text and placeholders; ``read`` takes the position after ``{{`` and returns the one after ``}}``."""
    position = 0
    while match := start.search(text, position):
        yield text[position : match.start()]
        position = match.end()
        if match[0].startswith("\\"):
            yield "{{"
        else:
            placeholder, position = read(text, position)
            yield placeholder
    yield text[position:]


def _read_expression(text: str, start: int) -> tuple[Expression, int]:
    first_end = end = text.find("}}", start)
    while end >= 0:
        source = text[start:end].strip()
        try:
            return Expression(source, compile(source, "{{…}}", "eval", dont_inherit=True)), end + 2
        except (SyntaxError, ValueError):
            end = text.find("}}", end + 1)  # overlapping: `{{ {"a": {}}}}` is closed by the last two braces
    if first_end < 0:
        raise InterpolationError("A {{ has no }}: close it, or write \\{{ for two braces")
    raise InterpolationError(
        f"{quote_expression(text[start:first_end])} is not a Python expression. Write \\{{{{ for two braces, or "
        "use --raw"
    )


def _read_column(template: str, start: int) -> tuple[ColumnName, int]:
    end = template.find("}}", start)
    if end < 0:
        raise ConfigurationError("The template has a {{ without its }}: close it, or write \\{{ for two braces")
    return ColumnName(template[start:end].strip()), end + 2
