"""``{{expr}}`` in a prompt: the value of a Python expression, in words a model can read."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from ..errors import CreateAgentsError, InterpolationError
from ..tools.result_text import format_frame, truncate

__all__ = ["describe", "interpolate"]

MAX_VALUE_CHARS = 20_000
_HEAD_ROWS = 5
_MAX_COLUMNS = 60
_MAX_SHOWN_CHARS = 120
_OPEN = re.compile(r"\\?\{\{")


def interpolate(text: str, namespace: Mapping[str, Any]) -> str:
    """``text`` with every ``{{expression}}`` replaced by its value.

    Single braces are never touched; ``\\{{`` stands for two braces. Text comes as it is, a DataFrame or Series
    as its shape, dtypes and head in Markdown, everything else as ``str``; a value of more than 20,000 characters
    is shortened, with a note.

    Args:
        namespace: where names are looked up.

    Raises:
        InterpolationError: an unknown name, or an expression that is none or fails.

    Example:
        >>> interpolate("Sum of {{ [1, 2] }}: {{ 1 + 2 }}", {})
        'Sum of [1, 2]: 3'
    """
    pieces: list[str] = []
    at = 0
    while found := _OPEN.search(text, at):
        pieces.append(text[at : found.start()])
        if found[0].startswith("\\"):
            pieces.append("{{")
            at = found.end()
            continue
        code, source, at = _expression(text, found.end())
        pieces.append(_filled_in(code, source, namespace))
    pieces.append(text[at:])
    return "".join(pieces)


def _expression(text: str, start: int) -> tuple[Any, str, int]:
    """The expression that begins here; the first ``}}`` that leaves valid Python ends it: dicts have braces."""
    end = text.find("}}", start)
    first = end
    while end >= 0:
        source = text[start:end].strip()
        # `{{ {"a": {}}}}`: the last braces of the run close the placeholder.
        try:
            return compile(ast.parse(source, mode="eval"), "{{…}}", "eval"), source, end + 2
        except (SyntaxError, ValueError):
            end = text.find("}}", end + 1)
    if first < 0:
        raise InterpolationError("A {{ has no }}: close it, or write \\{{ for two braces")
    raise InterpolationError(
        f"{_named(text[start:first])} is not a Python expression. Write \\{{{{ for two braces, or use --raw"
    )


def _filled_in(code: Any, source: str, namespace: Mapping[str, Any]) -> str:
    try:
        return describe(eval(code, dict(namespace)))  # the user's own cell, in the user's own namespace
    except NameError as error:
        raise InterpolationError(
            f"{_named(source)}: the name {error.name or source!r} is not defined. Define it in a cell above, or "
            "send the cell as it is: --raw"
        ) from None
    except CreateAgentsError:
        raise
    except Exception as error:
        raise InterpolationError(
            f"{_named(source)} failed: {type(error).__name__}: {_short(str(error))}"
        ) from error


def _named(source: str) -> str:
    return f"{{{{{_short(source)}}}}}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"


def describe(value: Any) -> str:
    """A value as it goes into a prompt.

    Example:
        >>> describe(3)
        '3'
    """
    kind = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__}
    if "pandas.DataFrame" in kind:
        text = f"DataFrame, {format_frame(value, rows=_HEAD_ROWS, max_columns=_MAX_COLUMNS)}\n"
    elif "pandas.Series" in kind:
        text = f"Series, {format_frame(value.to_frame(), rows=_HEAD_ROWS)}\n"
    else:
        text = str(value)
    return truncate(text, MAX_VALUE_CHARS)
